"""The robustness checks as a rule pack runs them, and the attack behind them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks_robust.robust_models import contract, holds, lightgbm_trees, rows_of, scorecard, xgboost_trees
from fiduciary.checks import Sample, Subject, run_check
from fiduciary.checks._attack import attack
from fiduciary.checks._certificates import Certifier, counts
from fiduciary.checks._goal import Goal, goal_of, reverse
from fiduciary.checks._inputs import run_suite
from fiduciary.checks._moves import moves_of
from fiduciary.errors import UsageError
from fiduciary.models import CompiledContract, Contract, Feature, Relation, probability

USE_CASE = {"approve_below": 0.45, "decline_from": 0.6, "adverse": "high"}


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return lightgbm_trees(Path(tmp_path_factory.mktemp("m")) / "model.txt", 30, 12, 2)[1]


def subject(scorer: Any, rows: np.ndarray, **more: Any) -> Subject:
    scores = probability(scorer.score(rows), scorer.link)
    sample = Sample(rows=rows, names=contract().names, scores=scores)
    return Subject(sample=sample, scorer=scorer, contract=contract(), use_case=USE_CASE, **more)


def test_certified_attackable_and_open_are_shares_of_the_attacked_rows(scorer: Any) -> None:
    rows = rows_of(400, 31)
    found = run_check("robustness.certified_rate", subject(scorer, rows), {"step": 0.2, "minimum": 0.05})
    numbers = found.numbers
    assert numbers["certified"] + numbers["attackable"] + numbers["open"] == numbers["rows"] > 50
    assert numbers["certified"] > 0 and numbers["attackable"] > 0
    assert found.value == numbers["certified"] / numbers["rows"] and found.ok is True
    assert found.interval is not None and found.interval[0] < found.value < found.interval[1]
    assert set(numbers["moved"]) <= {"amount", "months", "housing", "near"}
    tried = run_check("robustness.attack", subject(scorer, rows), {"step": 0.2, "maximum": 0.0})
    assert tried.ok is False and tried.numbers["turned"] <= numbers["attackable"]
    assert tried.numbers["turned"] >= 0.8 * numbers["attackable"]


def test_open_rows_never_count_as_certified(scorer: Any) -> None:
    rows = rows_of(300, 31)
    full = run_check("robustness.certified_rate", subject(scorer, rows), {"step": 0.6})
    cut = run_check("robustness.certified_rate", subject(scorer, rows), {"step": 0.6, "steps": 1})
    assert cut.numbers["open"] > 0 and cut.numbers["open_reasons"] == ["the search ran out of steps"]
    assert cut.value is not None and full.value is not None and cut.value <= full.value


def test_a_larger_box_or_budget_never_certifies_more(scorer: Any) -> None:
    rows = rows_of(300, 32)
    rates = []
    for params in (
        {"step": 0.4, "budget": 0.0},
        {"step": 0.4, "budget": 1.0},
        {"step": 0.4, "budget": 2.0},
        {"step": 0.4},
        {"step": 0.8},
    ):
        rates.append(run_check("robustness.certified_rate", subject(scorer, rows), params).value)
    assert rates[0] == 1.0 and rates == sorted(rates, reverse=True) and rates[-1] < 1.0


def test_approved_rows_can_be_attacked_too(scorer: Any) -> None:
    rows = rows_of(300, 33)
    found = run_check("robustness.certified_rate", subject(scorer, rows), {"direction": "from-approval"})
    scores = probability(scorer.score(rows), scorer.link)
    assert found.numbers["eligible"] == int((scores < 0.45).sum())


def test_what_is_lacking_is_said(scorer: Any) -> None:
    rows = rows_of(50, 1)
    mine = subject(scorer, rows)
    import msgspec

    still = Contract(features=tuple(msgspec.structs.replace(f, mutable=False) for f in contract().features))
    for changed, words in (
        (msgspec.structs.replace(mine, use_case=None), "cut-offs"),
        (msgspec.structs.replace(mine, contract=still), "mutable"),
        (msgspec.structs.replace(mine, scorer=None), "the model"),
        (msgspec.structs.replace(mine, use_case={"approve_below": 2.0, "decline_from": 2.0}), "not approved"),
    ):
        for name in ("robustness.certified_rate", "robustness.attack"):
            found = run_check(name, changed)
            assert found.ok is None and words in found.lacking
    with pytest.raises(UsageError, match="not mutable"):
        run_check("robustness.certified_rate", mine, {"box": {"score": 1.0}})


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    step=st.sampled_from([0.05, 0.5, 3.0]),
    budget=st.sampled_from([math.inf, 0.5, 1.0, 2.5]),
    below=st.booleans(),
    kind=st.sampled_from(["trees", "card"]),
)
def test_the_attack_keeps_to_contract_box_and_budget(
    seed: int, step: float, budget: float, below: bool, kind: str
) -> None:
    spec = contract(Relation(left="amount", op="<=", right="months", message="amount is at most months"))
    rows = rows_of(120, seed)
    rows = rows[[holds(spec, row) for row in rows]]
    model = scorecard(seed % 3) if kind == "card" else _xgboost()
    moves = moves_of(
        spec,
        population=rows,
        step=step,
        costs={"housing": 0.7},
        budget=None if budget == math.inf else budget,
    )
    scores = probability(model.score(rows), model.link)
    goal = Goal(float(np.median(scores)), below=below)
    found = attack(model, rows, moves, goal)
    compiled = spec.compile()
    assert (found.turned >= goal.turned(scores)).all()
    for before, after, turned in zip(rows, found.rows, found.turned, strict=True):
        assert moves.allowed(before, after) and holds(spec, after)
        assert np.array_equal(compiled.encode(compiled.decode_row(after.tolist())), after, equal_nan=True)
        assert before[3] == after[3] or math.isnan(before[3])
        if turned:
            assert goal.turned(probability(model.score(after[None, :]), model.link))[0]
    judge = Certifier(model, moves, goal)
    for i in np.flatnonzero(found.turned & goal.applies(scores))[:10]:
        assert judge.certify(rows[i]).status != "certified"


_MODELS: dict[str, Any] = {}


def _xgboost() -> Any:
    return _MODELS.setdefault("xgboost", xgboost_trees(10, 3, 1)[1])


def test_a_scorecard_without_a_budget_has_a_closed_form() -> None:
    """The lowest margin is the sum of each feature's lowest reachable bin: written down again, plainly."""
    card = scorecard(1)
    rows = rows_of(300, 3, 0.0)
    moves = moves_of(contract(), population=rows, step=0.5, box={"housing": 0})
    lowest = []
    for row in rows:
        margin = card.card.intercept
        for i, bins in enumerate(card.card.features):
            weights = []
            for k, weight in enumerate(bins.weights):
                low = (
                    -math.inf
                    if k == 0
                    else ([*bins.edges, *range(1, 9)] if bins.kind == "category" else bins.edges)[k - 1]
                )
                if bins.kind == "category":
                    reached = k == row[i]
                elif i in moves.moves:
                    a, b = moves.moves[i].range(contract().features[i], float(row[i]))
                    high = bins.edges[k] if k < len(bins.edges) else math.inf
                    whole = contract().features[i].type == "integer"
                    reached = (
                        a < high
                        and b >= low
                        and (not whole or any(low <= v < high for v in range(int(a), int(b) + 1)))
                    )
                else:
                    reached = bins.edges[k - 1] <= row[i] if k else True
                    reached = reached and (k == len(bins.edges) or row[i] < bins.edges[k])
                if reached:
                    weights.append(weight)
            margin += min(weights)
        lowest.append(margin)
    cut = float(np.median(lowest))
    goal = Goal(float(probability(cut, "logit")))
    judge = Certifier(card, moves, goal)
    wanted = ["attackable" if probability(m, "logit") < goal.cut else "certified" for m in lowest]
    assert [judge.certify(row).status for row in rows] == wanted
    assert 0.3 < counts(judge.certify_all(rows))["attackable"] / len(rows) < 0.7


@settings(max_examples=200, deadline=None)
@given(cut=st.floats(1e-6, 1 - 1e-6), below=st.booleans(), strict=st.booleans(), ulps=st.integers(-200, 200))
def test_the_margin_of_a_goal_leaves_nothing_wanted_outside(
    cut: float, below: bool, strict: bool, ulps: int
) -> None:
    goal = Goal(cut, below=below, strict=strict)
    margin = goal.margin(scorecard(0))
    near = margin
    for _ in range(abs(ulps)):
        near = math.nextafter(near, math.inf if ulps > 0 else -math.inf)
    if goal.turned(np.array([probability(near, "logit")]))[0]:
        assert near < margin if below else near > margin


def test_goals_follow_the_use_case() -> None:
    scores = np.array([0.1, 0.4, 0.5, math.nan])
    high = goal_of({"approve_below": 0.4, "decline_from": 0.6})
    assert high.turned(scores).tolist() == [True, False, False, False]
    low = goal_of({"approve_below": 0.4, "decline_from": 0.2, "adverse": "low"})
    assert low.turned(scores).tolist() == [False, False, True, False]
    assert reverse(low).turned(scores).tolist() == [True, True, False, False]
    with pytest.raises(UsageError):
        goal_of(None)


def test_every_hostile_row_is_refused_and_every_valid_one_accepted() -> None:
    spec = Contract(
        features=(*contract().features, Feature(name="own", type="boolean"), Feature(name="n", type="number")),
        relations=(Relation(left="amount", op="<=", right=3, message="amount is at most 3"),
                   Relation(left="n", op="<", right="months", message="n is below months")),
    )  # fmt: skip
    rows = np.column_stack([rows_of(40, 1, 0.1), np.ones(40), np.full(40, -1.0)])
    found = run_check("robustness.input_validation", Subject(contract=spec, sample=_sample(spec, rows)))
    assert found.ok is True and found.value == 1.0 and found.numbers["hostile"] > 500
    assert {
        "a field twice (bytes)",
        "NaN (bytes)",
        "infinity (columns)",
        "a broken relation (values)",
    } <= set(found.numbers["cases"])
    drawn = run_check("robustness.input_validation", Subject(contract=contract()))
    assert drawn.ok is True and drawn.numbers["valid"] == 5


def _sample(spec: Contract, rows: np.ndarray) -> Sample:
    return Sample(rows=rows, names=spec.names, scores=np.zeros(len(rows)))


@pytest.mark.parametrize(
    ("change", "case"),
    [
        ({"minimum": -10}, "below the minimum (bytes)"),
        ({"maximum": None}, "above the maximum (columns)"),
        ({"missing": "allowed"}, "a missing field (values)"),
    ],
)
def test_a_laxer_checker_is_found_out(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], case: str
) -> None:
    import msgspec

    spec = Contract(features=(Feature(name="income", type="number", minimum=0, maximum=9),))
    lax = Contract(features=tuple(msgspec.structs.replace(f, **change) for f in spec.features))
    monkeypatch.setattr(Contract, "compile", lambda self: CompiledContract(lax))
    suite = run_suite(spec, None)
    assert suite is not None and case in suite.accepted
    assert run_check("robustness.input_validation", Subject(contract=spec)).ok is False


def test_a_checker_that_crashes_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Contract(features=(Feature(name="income", type="number", minimum=0, maximum=9),))
    sound = CompiledContract.decode

    def broken(self: CompiledContract, raw: bytes, where: str = "") -> list[float]:
        if raw == b"null":
            raise KeyError
        return sound(self, raw, where)

    monkeypatch.setattr(CompiledContract, "decode", broken)
    found = run_check("robustness.input_validation", Subject(contract=spec))
    assert found.ok is False and found.numbers["crashed"] == ["null (bytes)"]
