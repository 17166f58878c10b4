"""Another exact search, veritas (Devos et al., ICML 2021), gives the same answers on the same float64 trees."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import pytest

from fiduciary.checks import Certifier, Goal, Move, Moves
from fiduciary.models import Contract, Feature, probability
from fiduciary.models._lightgbm import parse
from fiduciary.models._trees import Trees, TreeScorer

veritas = pytest.importorskip("veritas", reason="veritas is not installed")
MOVABLE = {0: 0.4, 1: 0.2, 2: 0.3, 3: 0.5}


def converted(trees: Trees) -> Any:
    ensemble = veritas.AddTree(1, veritas.AddTreeType.CLF_SOFTMAX)
    for start in trees.starts[:-1]:
        tree = ensemble.add_tree()
        stack = [(start, tree.root())]
        while stack:
            node, place = stack.pop()
            if trees.feature[node] < 0:
                tree.set_leaf_value(place, 0, trees.value[node])
                continue
            tree.split(place, trees.feature[node], float(np.nextafter(trees.threshold[node], np.inf)))
            stack += [
                (start + trees.left[node], tree.left(place)),
                (start + trees.right[node], tree.right(place)),
            ]
    return ensemble


def test_veritas_agrees_row_by_row() -> None:
    random = np.random.default_rng(4)
    x = random.normal(size=(4_000, 8)).round(2)
    signal = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.7 * x[:, 3] - x[:, 4]
    y = (signal + random.normal(size=4_000) > 0.5).astype(float)
    settings = {"objective": "binary", "num_leaves": 21, "num_threads": 1, "verbosity": -1, "seed": 0}
    text = lightgbm.train(settings, lightgbm.Dataset(x, y, params=settings), 60).model_to_string()
    trees, link = parse(text)
    scorer = TreeScorer("lightgbm", link, trees)
    spec = Contract(
        features=tuple(Feature(name=f"f{i}", type="number", mutable=i in MOVABLE) for i in range(8))
    )
    goal = Goal(float(np.quantile(probability(scorer.score(x), link), 0.6)))
    rows = x[goal.applies(probability(scorer.score(x), link))][:120]
    judge = Certifier(scorer, Moves(spec, {i: Move(d, d) for i, d in MOVABLE.items()}), goal)
    ensemble = converted(trees)
    answers = []
    for row in rows:
        box = {
            i: veritas.Interval(v - MOVABLE.get(i, 0.0), np.nextafter(v + MOVABLE.get(i, 0.0), np.inf))
            for i, v in enumerate(row.tolist())
        }
        config = veritas.Config(veritas.HeuristicType.MIN_OUTPUT)
        config.ignore_state_when_worse_than = goal.margin(scorer)
        config.stop_when_num_solutions_exceeds = 1
        search = config.get_search(ensemble, box)
        reason = search.step_for(10.0, 100)
        assert search.num_solutions() or "NO_MORE" in str(reason)
        answers.append("attackable" if search.num_solutions() else "certified")
    assert [judge.certify(row).status for row in rows] == answers
    assert 20 < answers.count("certified") < 100
