"""Reasons are true: differences to the pinned baseline, summed per group, adverse ones first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.errors import ContractError, ModelError
from fiduciary.models import Baseline, Contract, Feature, ReasonPlan, Scorecard, baseline_of, vague
from fiduciary.models._scorecard import Bins, ScorecardFile


def contract(*groups: str, reasons: tuple[str, ...] = ()) -> Contract:
    texts = [*reasons, *[""] * (len(groups) - len(reasons))]
    return Contract(
        features=tuple(
            Feature(name=f"f{i}", type="number", group=group, reason=text)
            for i, (group, text) in enumerate(zip(groups, texts, strict=True))
        )
    )


def plan(contract: Contract, *means: float) -> ReasonPlan:
    return ReasonPlan(contract, Baseline(margin=sum(means), contributions=list(means), rows=10))


numbers = st.floats(-100, 100)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 12), st.sampled_from(["high", "low"]))
def test_reasons_are_the_largest_adverse_differences(data: st.DataObject, n: int, adverse: Any) -> None:
    groups = data.draw(st.lists(st.sampled_from(["", "g", "h"]), min_size=n, max_size=n))
    means = data.draw(st.lists(numbers, min_size=n, max_size=n))
    table = data.draw(st.lists(st.lists(numbers, min_size=n, max_size=n), min_size=1, max_size=4))
    count = data.draw(st.integers(0, n + 1))
    reasons_of = plan(contract(*groups), *means)
    contributions = np.array(table)
    breakdown = reasons_of.breakdown(contributions)
    ranked = reasons_of.rank(contributions, count, adverse)
    for row, sums, reasons in zip(table, breakdown, ranked, strict=True):
        # all groups add up to the margin's difference to the baseline
        assert sums.sum() == pytest.approx(sum(row) - sum(means), abs=1e-9)
        expected: dict[str, float] = {}
        for i, (group, value, mean) in enumerate(zip(groups, row, means, strict=True)):
            code = group or f"f{i}"
            expected[code] = expected[code] + (value - mean) if code in expected else value - mean
        sign = 1 if adverse == "high" else -1
        order = sorted((-sign * v, k, code) for k, (code, v) in enumerate(expected.items()) if sign * v > 0)
        assert [r.code for r in reasons] == [code for _, _, code in order[:count]]
        assert [r.contribution for r in reasons] == [expected[r.code] for r in reasons]
    for i in range(len(table)):
        assert reasons_of.rank(contributions[i : i + 1], count, adverse)[0] == ranked[i]


def test_a_favourable_group_is_never_a_reason() -> None:
    reasons = plan(contract("", "", ""), 0.0, 0.0, 0.0).rank(np.array([[-1.0, 0.0, 2.0]]), 3, "high")
    assert [r.code for r in reasons[0]] == ["f2"]
    assert [r.code for r in plan(contract(""), 0.5).rank(np.array([[0.2]]), 1, "low")[0]] == ["f0"]


def test_ties_stand_in_contract_order() -> None:
    made = plan(contract(*[""] * 60), *[0.0] * 60)
    contributions = np.array([[float(i % 3) for i in range(60)]])
    codes = [r.code for r in made.rank(contributions, 60, "high")[0]]
    assert codes == [f"f{i}" for i in range(60) if i % 3 == 2] + [f"f{i}" for i in range(60) if i % 3 == 1]


def test_texts_come_from_the_contract_or_the_name() -> None:
    made = plan(contract("late", "late", "", reasons=("Payments were late", "", "")), 0.0, 0.0, 0.0)
    assert made.texts == ("Payments were late", "F2") and made.missing_texts == ("f2",)
    assert made.codes == ("late", "f2")


VAGUE_TEXTS = [
    "", "  ", "?", "Insufficient score", "Low credit score", "Score too low", "credit score below cut-off",
    "Internal policy", "Our internal standards", "Bank policy reasons", "Did not meet our credit standards",
    "Failed to achieve a qualifying score on the credit scoring system", "Model decision", "The algorithm",
    "Other", "Various factors", "Unspecified reasons", "Reason", "n/a", "TBD", "High risk.", "Creditworthiness",
    "Purchasing history", "Automated decision", "Credit criteria not met",
]  # fmt: skip
SPECIFIC_TEXTS = [
    "Income is low for the amount requested", "Payments were late in the last three months",
    "Too many recent inquiries", "Length of employment", "Bill amt1", "Pay 0", "Age of the oldest account",
    "Utilisation of revolving credit is high", "Limit bal", "No savings account", "Duration", "Credit amount",
    "Other debts are high relative to income", "Risk elected insurance class",
]  # fmt: skip


@pytest.mark.parametrize("text", VAGUE_TEXTS)
def test_a_vague_text_is_refused(text: str) -> None:
    assert vague(text)
    if text.strip():
        with pytest.raises(ContractError, match="names no specific factor") as caught:
            plan(contract("", reasons=(text,)), 0.0)
        assert caught.value.where == "/features/0/reason"


@pytest.mark.parametrize("text", SPECIFIC_TEXTS)
def test_a_specific_text_is_kept(text: str) -> None:
    assert not vague(text)
    assert plan(contract("", reasons=(text,)), 0.0).texts == (text,)


def test_a_group_has_one_text_and_a_baseline_fits() -> None:
    with pytest.raises(ContractError, match="two reason texts"):
        plan(contract("g", "g", reasons=("Late payments", "Income is low")), 0.0, 0.0)
    with pytest.raises(ContractError, match="1 contributions"):
        plan(contract("", ""), 0.0)


def test_the_baseline_is_the_mean_of_the_population() -> None:
    made = contract("", "")
    card = Scorecard(
        ScorecardFile(
            intercept=0.5,
            features=[
                Bins(name="f0", kind="number", edges=[0.0], weights=[-0.1, 0.7]),
                Bins(name="f1", kind="number", edges=[1.0], weights=[0.2, 0.3]),
            ],
        ),
        made,
    )
    rows = np.random.default_rng(0).normal(size=(10_000, 2))
    baseline = baseline_of(card, rows, "all of them", chunk=999)
    margins, contributions = card.explain(rows)
    assert baseline.rows == 10_000 and baseline.margin == pytest.approx(margins.mean(), abs=1e-12)
    assert baseline.contributions == pytest.approx(contributions.mean(axis=0).tolist(), abs=1e-12)
    assert baseline_of(card, rows[::-1].copy(), "all of them") == baseline  # order does not matter
    differences = ReasonPlan(made, baseline).breakdown(contributions).sum(axis=1)
    assert np.abs(differences - (margins - baseline.margin)).max() <= 1e-9
    with pytest.raises(ModelError, match="at least one row"):
        baseline_of(card, rows[:0])
