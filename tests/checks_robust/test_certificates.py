"""Certificates against brute force: every answer is what trying all reachable combinations says."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checks_robust.robust_models import (
    brute_force,
    contract,
    holds,
    lightgbm_trees,
    narrow_trees,
    rows_of,
    scorecard,
    xgboost_trees,
)
from fiduciary.checks._certificates import Certifier
from fiduciary.checks._goal import Goal
from fiduciary.checks._moves import Move, Moves, moves_of
from fiduciary.errors import UsageError
from fiduciary.models import Relation, probability
from fiduciary.models._trees import FLUSH, Trees, TreeScorer

KINDS = ("lightgbm", "zero is missing", "narrow", "xgboost", "scorecard")
EXAMPLES = int(os.environ.get("FIDUCIARY_ROBUST_EXAMPLES", "60"))


@functools.cache
def model(kind: str, seed: int) -> Any:
    if kind == "scorecard":
        card = scorecard(seed)
        return card, card
    if kind == "xgboost":
        return xgboost_trees(6, 3, seed)
    with tempfile.TemporaryDirectory() as folder:
        if kind == "narrow":
            return narrow_trees(Path(folder) / "model.txt", 7, 6, seed)
        more = {"zero_as_missing": True} if kind == "zero is missing" else {}
        return lightgbm_trees(Path(folder) / "model.txt", 7, 6, seed, **more)


def certifier(kind: str, seed: int, moves: Moves, goal: Goal) -> Certifier:
    return Certifier(model(kind, seed)[1], moves, goal)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2),
    number=st.integers(0, 10_000),
    distance=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    whole=st.integers(0, 4),
    near=st.sampled_from([0.0, 0.02, 0.4]),
    relative=st.sampled_from([0.0, 0.1]),
    housing=st.booleans(),
    budget=st.sampled_from([np.inf, 1.0, 0.6, 1.5, 2.0]),
    below=st.booleans(),
    relation=st.booleans(),
)
def test_every_answer_is_what_brute_force_says(
    kind: str, seed: int, number: int, distance: float, whole: int, near: float, relative: float, housing: bool,
    budget: float, below: bool, relation: bool,
) -> None:  # fmt: skip
    related = (
        (Relation(left="amount", op="<=", right="near", message="amount is at most near"),)
        if relation
        else ()
    )
    spec = contract(*related)
    moves = {0: Move(distance, distance / 2, relative), 4: Move(near, near), 1: Move(whole, whole, 0.0, 0.4)}
    if housing:
        moves[2] = Move(1.0, 1.0)
    row = next(r for r in rows_of(200, number, 0.05) if holds(spec, r))
    parsed, scorer = model(kind, seed)
    score = float(probability(scorer.score(row[None, :]), scorer.link)[0])
    shift = np.random.default_rng(number).uniform(0.0, 0.25)
    goal = Goal(score * (1 - shift), below=True) if below else Goal(score + (1 - score) * shift, below=False)
    if goal.turned(np.array([score]))[0]:
        return
    allowed = Moves(spec, moves, budget)
    found = Certifier(scorer, allowed, goal).certify(row)
    truth = brute_force(parsed, scorer, allowed, goal, row)
    if found.status == "attackable":
        after = np.array(found.example)
        assert truth and allowed.allowed(row, after) and holds(spec, after)
        assert goal.turned(probability(scorer.score(after[None, :]), scorer.link))[0]
    elif found.status == "certified":
        assert not truth
    else:
        assert relation and found.why  # only a relation between fields may leave it open here


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("budget", "box"),
    [
        (None, {"housing": 0, "months": 2}),
        (0.7, {"housing": 0, "months": 3, "amount": 0.7, "near": 0.4}),
        (1.0, {"months": 2, "amount": 0.4, "near": 0.2}),
        (0.6, {"months": 2, "amount": 0.4, "near": 0}),
        (1.3, {"months": 2, "amount": {"relative": 0.3}, "near": 0.3}),
    ],
)
def test_without_relations_nothing_stays_open_and_both_answers_occur(
    kind: str, budget: Any, box: Any
) -> None:
    rows = rows_of(36 if budget else 150, 77, 0.0)
    moves = moves_of(contract(), population=rows, box=box, budget=budget, costs={"housing": 0.6})
    parsed, scorer = model(kind, 1)
    scores = probability(scorer.score(rows), scorer.link)
    goal = Goal(float(np.quantile(scores, 0.5)))
    judge = Certifier(scorer, moves, goal)
    seen = [judge.certify(row).status for row in rows[goal.applies(scores)]]
    assert set(seen) == {"certified", "attackable"}
    truths = [brute_force(parsed, scorer, moves, goal, row) for row in rows[goal.applies(scores)]]
    assert [status == "attackable" for status in seen] == truths


@pytest.mark.parametrize("kind", ["lightgbm", "xgboost"])
def test_a_search_that_runs_out_of_steps_is_open_never_certified(kind: str) -> None:
    rows = rows_of(150, 5, 0.0)
    moves = moves_of(contract(), population=rows, step=1.0)
    _, scorer = model(kind, 1)
    scores = probability(scorer.score(rows), scorer.link)
    goal = Goal(float(np.quantile(scores, 0.3)))
    start = rows[goal.applies(scores)]
    full = [Certifier(scorer, moves, goal).certify(row) for row in start]
    cut = [Certifier(scorer, moves, goal, steps=1).certify(row) for row in start]
    assert any(c.status == "open" for c in cut)
    for a, b in zip(full, cut, strict=True):
        assert b.status == a.status or (b.status == "open" and "steps" in b.why)
        assert b.steps <= 2


def test_a_row_without_movable_features_is_certified() -> None:
    judge = certifier("lightgbm", 0, Moves(contract(), {}), Goal(0.0))
    assert judge.certify(rows_of(1, 3)[0]).status == "certified"


def test_a_missing_value_is_not_moved() -> None:
    row = np.full(5, np.nan)
    moves = moves_of(contract(), population=rows_of(100, 1), step=10.0)
    judge = certifier("xgboost", 0, moves, Goal(0.5))
    found = judge.certify(row)
    assert found.status in ("certified", "attackable") and found.steps <= 1


def test_moves_are_refused_in_words() -> None:
    rows = rows_of(10, 1)
    for box, words in (
        ({"score": 1}, "not mutable"),
        ({"other": 1}, "not in the contract"),
        ({"amount": -1}, "at least 0"),
        ({"amount": {"far": 1}}, "knows"),
        ({"amount": True}, "number"),
    ):
        with pytest.raises(UsageError, match=words):
            moves_of(contract(), population=rows, box=box)
    with pytest.raises(UsageError, match="population"):
        moves_of(contract())


def test_values_that_stand_for_nothing_end_in_no_traceback() -> None:
    """Rows that no contract would let through: an unknown code, infinities. Nothing false is said of them."""
    moves = moves_of(contract(), population=rows_of(50, 1), step=1.0)
    for kind in ("lightgbm", "scorecard"):
        judge = certifier(kind, 0, moves, Goal(0.5))
        for column, value in ((2, 17.0), (2, -1.0), (2, 0.5), (0, np.inf), (4, -np.inf)):
            row = rows_of(1, 4, 0.0)[0]
            row[column] = value
            assert judge.certify(row).status in ("certified", "open")


def test_a_move_without_bounds_stays_within_the_contract() -> None:
    moves = Moves(contract(), {0: Move(np.inf, np.inf), 1: Move(np.inf, np.inf), 4: Move(np.inf, np.inf)})
    for kind in KINDS:
        scorer = model(kind, 0)[1]
        rows = rows_of(60, 9, 0.0)
        scores = probability(scorer.score(rows), scorer.link)
        goal = Goal(float(np.quantile(scores, 0.3)))
        found = [Certifier(scorer, moves, goal).certify(row) for row in rows[goal.applies(scores)]]
        assert "attackable" in {c.status for c in found} and "open" not in {c.status for c in found}
        for certificate in found:
            if certificate.example is not None:
                assert np.isfinite(certificate.example).all() and abs(certificate.example[0]) <= 3


def test_a_counterexample_that_a_relation_forbids_leaves_the_row_open() -> None:
    """0.5 itself is forbidden, 0.49 would do: the search knows only the cheapest value of a cell, and says so."""
    trees = Trees(5, reading=FLUSH)
    trees.split(0, 0.5, 1, 2, 2.0)
    trees.leaf(-1.0, 1.0)
    trees.leaf(1.0, 1.0)
    trees.end_tree()
    spec = contract(Relation(left="amount", op="!=", right=0.5, message="amount is not 0.5"))
    row = np.array([1.0, 5.0, 0.0, 0.0, 0.0])
    found = Certifier(
        TreeScorer("lightgbm", "logit", trees), Moves(spec, {0: Move(2.0, 2.0)}), Goal(0.5)
    ).certify(row)
    assert found.status == "open" and "relation" in found.why
    free = Certifier(
        TreeScorer("lightgbm", "logit", trees), Moves(contract(), {0: Move(2.0, 2.0)}), Goal(0.5)
    )
    assert free.certify(row).example == [0.5, 5.0, 0.0, 0.0, 0.0]
