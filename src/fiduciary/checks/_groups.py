"""Customer groups of a sample: who is in which, who is favoured, and what fairness checks have in common.

A label that is None, empty or NaN is unknown: such rows are left out and counted. The favourable outcome is
`approve` (of the recorded decisions, or by the use case's cut-offs). Group labels are read here and by nothing
that scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._check import Param
from fiduciary.checks._result import CheckResult
from fiduciary.checks._sample import Sample, Subject
from fiduciary.errors import UsageError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]

MAX_GROUPS = 200
MAX_ATTRIBUTES = 32
UNKNOWN = -1

COMMON: dict[str, Param] = {
    "attributes": Param(list, [], "protected attributes to look at; empty: all of the sample"),
    "reference": Param(
        dict, {}, "attribute -> label of its reference group; else the sample's, else the most favoured"
    ),
    "minimum_rows": Param(int, 30, "fewest rows a group needs to be judged", low=1),
    "level": Param(float, 0.95, "confidence level of intervals", low=0.5, high=0.9999),
}
FAVOURABLE: dict[str, Param] = {
    "favourable": Param(
        list,
        ["approve"],
        "decisions that are the favourable outcome",
        low=1,
        choices=("approve", "refer", "decline"),
    ),
}
NO_DECISIONS = "decisions for the sample, or a use case with cut-offs"


class Grouping(msgspec.Struct, frozen=True):
    """One attribute: its labels in order of their text, and for each row its place in them or -1."""

    attribute: str
    labels: tuple[str, ...]
    codes: I64
    """(n,), -1: unknown."""
    rows: I64
    """Rows per label."""

    @property
    def unknown(self) -> int:
        """Rows without a label."""
        return int(len(self.codes) - self.rows.sum())

    def count(self, flags: Flags) -> I64:
        """How many of the flagged rows are in each group."""
        found: I64 = np.bincount(self.codes[flags] + 1, minlength=len(self.labels) + 1)[1:]
        return found

    def total(self, values: F64) -> F64:
        """Sums of values (n,) by group."""
        sums = np.bincount(self.codes + 1, weights=values, minlength=len(self.labels) + 1)[1:]
        return np.asarray(sums, dtype=np.float64)


def make_grouping(attribute: str, labels: NDArray[Any], most: int = MAX_GROUPS) -> Grouping:
    """Groups from labels (n,). Raises `UsageError` when there are more than `most`."""
    places: dict[str, int] = {}
    listed = labels.tolist()
    known: dict[Any, int] = dict.fromkeys(listed, UNKNOWN)
    for label in known:
        if label is None or label != label or label == "":
            continue
        known[label] = places.setdefault(str(label), len(places))
        if len(places) > most:
            raise UsageError(f"attribute {attribute!r} has more than {most} groups; band its values first")
    codes = np.fromiter(map(known.__getitem__, listed), dtype=np.int64, count=len(listed))
    return ordered(attribute, tuple(places), codes)


def ordered(attribute: str, labels: tuple[str, ...], codes: I64) -> Grouping:
    """A grouping with its labels in order of their text."""
    order = sorted(range(len(labels)), key=labels.__getitem__)
    place = np.empty(len(labels) + 1, dtype=np.int64)
    place[order] = np.arange(len(labels))
    place[-1] = UNKNOWN
    codes = place[codes]
    rows = np.bincount(codes + 1, minlength=len(labels) + 1)[1:]
    return Grouping(attribute, tuple(labels[i] for i in order), codes, rows)


def groupings(sample: Sample, attributes: Sequence[str] = ()) -> list[Grouping]:
    """The groupings of the attributes asked for (none: all), each made once a sample."""
    names = list(attributes) or list(sample.groups)
    if len(names) > MAX_ATTRIBUTES:
        raise UsageError(f"at most {MAX_ATTRIBUTES} protected attributes can be looked at in one check")
    made: dict[str, Grouping] = sample.__dict__.setdefault("_groupings", {})
    for name in names:
        if name not in sample.groups:
            known = ", ".join(sample.groups) or "none"
            raise UsageError(f"the sample has no protected attribute {name!r}; it has {known}")
        if name not in made:
            made[name] = make_grouping(name, sample.groups[name])
    return [made[name] for name in dict.fromkeys(names)]


def favourable_rows(subject: Subject, favourable: Sequence[str] = ("approve",)) -> tuple[Flags, Flags] | None:
    """Which rows got a favourable outcome and which have a decision at all; None when nothing says so."""
    sample = subject.sample
    assert sample is not None
    outcomes = decisions(subject)
    if outcomes is None:
        return None
    key = tuple(favourable), None if sample.decisions is not None else cut_offs(subject.use_case)
    made: dict[Any, tuple[Flags, Flags]] = sample.__dict__.setdefault("_favours", {})
    if key not in made:
        kinds = ("approve", "refer", "decline")
        is_kind = {kind: np.asarray(outcomes == kind, dtype=np.bool_) for kind in kinds}
        good = np.zeros(len(sample), dtype=np.bool_)
        for kind in favourable:
            good |= is_kind[kind]
        made[key] = good, is_kind["approve"] | is_kind["refer"] | is_kind["decline"]
    return made[key]


def decisions(subject: Subject) -> NDArray[Any] | None:
    """The sample's decisions, else those that the use case's cut-offs give its scores; else None.

    A score that is not a number goes to a person (refer).
    """
    sample, case = subject.sample, subject.use_case
    assert sample is not None
    if sample.decisions is not None:
        return sample.decisions
    cuts = cut_offs(case)
    if cuts is None:
        return None
    return decide(sample.scores, *cuts)


def cut_offs(case: Mapping[str, Any] | None) -> tuple[float, float, str] | None:
    """approve_below, decline_from and adverse of a use case document, when it has them."""
    if not case or "approve_below" not in case or "decline_from" not in case:
        return None
    return float(case["approve_below"]), float(case["decline_from"]), str(case.get("adverse", "high"))


def decide(scores: F64, approve: float, decline: float, adverse: str = "high") -> NDArray[Any]:
    """approve, refer or decline for each score, as a use case's cut-offs say."""
    if adverse == "high":
        picks = [scores < approve, scores >= decline]
    else:
        picks = [scores > approve, scores <= decline]
    found: NDArray[Any] = np.select(picks, ["approve", "decline"], "refer")
    return found


def adverse_sign(subject: Subject) -> float:
    """1.0 when a high score is bad for the person, else -1.0."""
    return -1.0 if (subject.use_case or {}).get("adverse") == "low" else 1.0


def reference_place(
    grouping: Grouping, rates: F64, rows: I64, sample: Sample, given: Mapping[str, Any], minimum_rows: int
) -> int | None:
    """The place of the reference group: as given, else the sample's, else the most favoured with enough rows.

    None when it, or every group, has too few rows. Raises `UsageError` when the one given is not in the sample.
    """
    name = given.get(grouping.attribute, sample.reference.get(grouping.attribute))
    if name is not None:
        if name not in grouping.labels:
            raise UsageError(
                f"the reference group {str(name)[:80]!r} of {grouping.attribute!r} has no rows in the sample"
            )
        place = grouping.labels.index(name)
        return place if rows[place] >= minimum_rows else None
    enough = rows >= minimum_rows
    if not enough.any():
        return None
    return int(np.argmax(np.where(enough, np.nan_to_num(rates, nan=-1.0), -2.0)))


def nothing(name: str, unit: str, lacking: str) -> CheckResult:
    """A result that judges nothing and says what to add."""
    return CheckResult(name=name, ok=None, unit=unit, lacking=lacking, detail=f"not judged: {lacking} needed")


def too_few(small: Sequence[str], minimum_rows: int) -> str:
    """What to add for groups that are too small to be judged, in words."""
    if not small:
        return ""
    shown = ", ".join(small[:6]) + (f" and {len(small) - 6} more" if len(small) > 6 else "")
    return f"at least {minimum_rows} rows in each group: {shown}"


def small_groups(grouping: Grouping, rows: I64, minimum_rows: int) -> list[str]:
    return [
        f"{grouping.attribute} {label}"
        for label, n in zip(grouping.labels, rows.tolist(), strict=True)
        if n < minimum_rows
    ]


def at_most(value: float, maximum: float | None, small: list[str]) -> bool | None:
    """Not ok above the maximum; ok below it only when no group was too small to be judged."""
    if maximum is None:
        return None
    return False if value > maximum else None if small else True


def share_of(count: I64, rows: I64) -> F64:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(count / rows, dtype=np.float64)
