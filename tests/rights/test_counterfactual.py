"""What would have changed the result: exact on scorecards against brute force, confirmed on every family."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from families import FAMILIES
from fiduciary.decision import Decider, outcomes
from fiduciary.errors import ContractError
from fiduciary.models import (
    Baseline,
    Contract,
    Feature,
    ReasonPlan,
    Relation,
    Scorecard,
    load_scorer,
    probability,
)
from fiduciary.models._scorecard import Bins, ScorecardFile
from fiduciary.registry import UseCase
from fiduciary.rights import counterfactual

USE = UseCase(name="credit", purpose="loans", approve_below=0.2, decline_from=0.5)


def decider(contract: Contract, scorer: Any, use: UseCase = USE) -> Decider:
    n = len(contract.features)
    baseline = Baseline(margin=0.0, contributions=[0.0] * n, rows=1)
    release = SimpleNamespace(
        contract=contract,
        compiled=contract.compile(),
        scorer=scorer,
        baseline=baseline,
        plan=ReasonPlan(contract, baseline),
        digest="sha256:" + "0" * 64,
    )
    return Decider(release, use)  # type: ignore[arg-type]


def made(seed: int) -> tuple[Decider, Contract, dict[str, Any]]:
    """A random scorecard over small whole numbers, so that every row can be tried."""
    rng = np.random.default_rng(seed)
    features, bins = [], []
    for j in range(4):
        top = int(rng.integers(4, 8))
        edges = sorted(rng.choice(np.arange(1, top), size=2, replace=False).astype(float).tolist())
        features.append(
            Feature(
                name=f"f{j}",
                type="integer",
                minimum=0,
                maximum=top,
                mutable=bool(rng.random() < 0.75),
                protected=bool(rng.random() < 0.1),
            )
        )
        bins.append(
            Bins(
                name=f"f{j}", kind="number", edges=edges, weights=np.round(rng.normal(0, 1.2, 3), 2).tolist()
            )
        )
    relations = (
        (Relation(left="f0", op="<=", right="f1", message="f0 is at most f1"),) if seed % 3 == 0 else ()
    )
    contract = Contract(features=tuple(features), relations=relations)
    card = Scorecard(ScorecardFile(intercept=0.4, features=bins), contract)
    row = {f.name: int(rng.integers(0, int(f.maximum or 0) + 1)) for f in features}
    if relations and row["f0"] > row["f1"]:
        row["f0"], row["f1"] = min(row["f0"], row["f1"]), max(min(row["f0"], row["f1"]), row["f1"])
    return decider(contract, card), contract, row


def brute_force(found: Decider, contract: Contract, row: dict[str, Any]) -> float:
    """The least cost over every row there is."""
    spaces = [
        range(int(f.maximum or 0) + 1) if f.mutable and not f.protected else [row[f.name]]
        for f in contract.features
    ]
    best = math.inf
    compiled = contract.compile()
    for values in itertools.product(*spaces):
        named = dict(zip(contract.names, values, strict=True))
        try:
            encoded = compiled.encode(named)
        except ContractError:
            continue
        score = probability(found.release.scorer.score(np.array([encoded])), "logit").tolist()
        if outcomes(found.use_case, score) != ["approve"]:
            continue
        cost = sum(
            1 + abs(named[f.name] - row[f.name]) / float(f.maximum or 1)
            for f in contract.features
            if named[f.name] != row[f.name]
        )
        best = min(best, cost)
    return best


@pytest.mark.parametrize("seed", range(40))
def test_a_scorecard_s_answer_is_what_brute_force_says(seed: int) -> None:
    found, contract, row = made(seed)
    answer = counterfactual(found, json.dumps(row).encode())
    least = brute_force(found, contract, row)
    assert answer.exact
    if math.isinf(least):
        assert answer.answer == "none"
    else:
        assert answer.answer == "found"
        assert answer.cost == pytest.approx(least, abs=1e-12)
    for change in answer.changes:
        feature = next(f for f in contract.features if f.name == change.feature)
        assert feature.mutable
        assert not feature.protected


def simple(**more: Any) -> tuple[Contract, Scorecard]:
    features = (
        Feature(name="debt", type="number", minimum=0, maximum=100_000, unit="EUR", **more),
        Feature(name="age", type="integer", minimum=18, maximum=120),
        Feature(name="sex", type="category", categories=["f", "m"], protected=True, mutable=True),
    )
    contract = Contract(features=features)
    card = ScorecardFile(
        intercept=0.0,
        features=[
            Bins(name="debt", kind="number", edges=[5_000.0, 20_000.0], weights=[-3.0, 0.0, 2.0]),
            Bins(name="age", kind="number", edges=[30.0], weights=[1.0, -9.0]),
            Bins(name="sex", kind="category", categories=["f", "m"], weights=[-9.0, 0.0]),
        ],
    )
    return contract, Scorecard(card, contract)


ROW = b'{"debt": 25000, "age": 22, "sex": "m"}'


def test_it_suggests_what_can_be_changed_in_words_people_can_read() -> None:
    contract, card = simple(mutable=True)
    answer = counterfactual(decider(contract, card), ROW)
    assert [(c.feature, c.before, c.after) for c in answer.changes] == [("debt", 25000.0, 4999.9)]
    assert answer.score is not None
    assert answer.score < 0.2


def test_it_says_so_when_nothing_can_be_changed_or_nothing_helps() -> None:
    contract, card = simple()
    answer = counterfactual(decider(contract, card), ROW)
    assert answer.answer == "none"
    assert answer.exact
    assert "nothing that the person can change" in answer.note
    contract, card = simple(
        mutable=True, monotone=-1
    )  # declared: more debt can only help; so less is no advice
    answer = counterfactual(decider(contract, card), ROW)
    assert answer.answer == "none"


@pytest.mark.parametrize("family", ["additive", "lightgbm", "xgboost", "linear"])
def test_other_families_are_searched_and_confirmed_on_the_serving_engine(family: str, tmp_path: Path) -> None:
    make, plain, rows = FAMILIES[family]
    make(tmp_path)
    first = plain.features[0]
    contract = msgspec.structs.replace(
        plain,
        features=tuple(
            msgspec.structs.replace(f, mutable=f.name != first.name, protected=False) for f in plain.features
        ),
    )
    scorer = load_scorer(tmp_path, contract)
    table = rows(300, 3)
    scores = probability(scorer.score(table), scorer.link)
    cut = float(np.quantile(scores, 0.4))
    use = msgspec.structs.replace(USE, approve_below=cut, decline_from=float(np.quantile(scores, 0.9)))
    found = decider(contract, scorer, use)
    compiled = contract.compile()
    answered = 0
    for row in table[scores >= cut][:12].tolist():
        named = {k: v for k, v in compiled.decode_row(row).items() if v is not None}
        answer = counterfactual(found, json.dumps(named).encode())
        assert answer.answer in ("found", "not_found")
        if answer.answer == "not_found":
            assert "not proof" in answer.note
            continue
        answered += 1
        assert first.name not in {c.feature for c in answer.changes}
        changed = compiled.encode({**named, **{c.feature: c.after for c in answer.changes}})
        again = probability(scorer.score(np.array([changed])), scorer.link).tolist()
        assert again == [answer.score]
        assert outcomes(use, again) == ["approve"]
    assert answered >= 6
