"""The adverse decisions of a sample, explained once for every check of reasons."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._groups import adverse_sign, decisions
from fiduciary.checks._proportions import wilson
from fiduciary.checks._result import CheckResult
from fiduciary.checks._sample import Subject
from fiduciary.models import Contract, ReasonPlan

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Adverse(msgspec.Struct, frozen=True):
    """The adverse decisions that are looked at, explained."""

    rows: F64
    margins: F64
    contributions: F64
    places: I64
    """Which rows of the sample."""
    total: int
    """How many adverse decisions the sample has."""
    plan: ReasonPlan
    count: int
    side: Literal["high", "low"]

    def sums(self, contributions: F64 | None = None) -> F64:
        """Differences per reason, positive where they count against the person: (m, reasons)."""
        found = self.plan.breakdown(self.contributions if contributions is None else contributions)
        return found if self.side == "high" else -found


def adverse_decisions(subject: Subject, adverse: list[str], rows: int, count: int | None) -> Adverse | str:
    """The adverse decisions of the sample, explained, made once; or what is lacking, in words."""
    sample, scorer, contract, pinned = subject.sample, subject.scorer, subject.contract, subject.baseline
    assert sample is not None and scorer is not None and contract is not None and pinned is not None
    given = decisions(subject)
    if given is None:
        return "decisions for the sample, or a use case with cut-offs"
    if tuple(contract.names) != sample.names:
        return "a sample whose columns are the contract's"
    asked = int((subject.use_case or {}).get("reason_count", 4)) if count is None else count
    key = tuple(adverse), rows
    made: dict[Any, Adverse] = subject.__dict__.setdefault("_adverse", {})
    if key not in made:
        every = np.flatnonzero(np.isin(given, adverse) & sample.finite)
        places = draw(every, rows, subject.seed)
        x = np.ascontiguousarray(sample.rows[places])
        margins, contributions = scorer.explain(x)
        side: Literal["high", "low"] = "high" if adverse_sign(subject) > 0 else "low"
        plan = ReasonPlan(contract, pinned)
        made[key] = Adverse(x, margins, contributions, places, len(every), plan, asked, side)
    found = made[key]
    if not len(found.places):
        return "adverse decisions in the sample"
    return msgspec.structs.replace(found, count=min(asked, len(found.plan.codes)))


def draw(places: I64, most: int, seed: int) -> I64:
    """At most so many of the places, drawn with the seed, in order."""
    if len(places) <= most:
        return places
    picked: I64 = np.sort(np.random.default_rng([seed, 5]).choice(places, most, replace=False))
    return picked


def named_reasons(sums: F64, count: int) -> NDArray[np.bool_]:
    """Which reasons are given: the `count` largest that count against the person, ties in contract order."""
    order = np.argsort(-sums, axis=1, kind="stable")[:, :count]
    named = np.zeros(sums.shape, dtype=np.bool_)
    np.put_along_axis(named, order, True, axis=1)
    return named & (sums > 0)


def members_of(contract: Contract, plan: ReasonPlan) -> NDArray[np.int64]:
    """(reasons, features): 1 where the feature belongs to the reason."""
    place = {code: g for g, code in enumerate(plan.codes)}
    members = np.zeros((len(plan.codes), len(contract.features)), dtype=np.int64)
    for i, feature in enumerate(contract.features):
        members[place[feature.group or feature.name], i] = 1
    return members


def spread_of(contract: Contract, rows: F64) -> F64:
    """Standard deviation of each number or whole number, 0 for what does not move."""
    spread = np.zeros(len(contract.features))
    for i, feature in enumerate(contract.features):
        values = rows[:, i][~np.isnan(rows[:, i])]
        if feature.type in ("number", "integer") and len(values) > 1:
            spread[i] = values.std()
    return spread


def within_contract(contract: Contract, moved: F64, rows: F64) -> F64:
    for i, feature in enumerate(contract.features):
        if feature.type == "integer":
            moved[:, i] = np.round(moved[:, i])
        if feature.type in ("number", "integer"):
            low = -np.inf if feature.minimum is None else float(feature.minimum)
            high = np.inf if feature.maximum is None else float(feature.maximum)
            moved[:, i] = np.clip(moved[:, i], np.minimum(low, rows[:, i]), np.maximum(high, rows[:, i]))
        else:
            moved[:, i] = rows[:, i]
    return moved


def share_interval(flags: NDArray[np.bool_]) -> tuple[float, float]:
    """95 % interval of the share of flags."""
    low, high = wilson(int(flags.sum()), len(flags))
    return float(low), float(high)


def without(name: str, unit: str, lacking: str) -> CheckResult:
    return CheckResult(name=name, ok=None, unit=unit, lacking=lacking, detail=f"not judged: {lacking} needed")
