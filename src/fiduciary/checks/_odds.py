"""Errors, calibration and outcomes by group: whether a score serves every group equally well."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._groups import (
    NO_DECISIONS,
    at_most,
    decisions,
    favourable_rows,
    groupings,
    nothing,
    reference_place,
    share_of,
    small_groups,
    too_few,
)
from fiduciary.checks._proportions import difference_interval, wilson
from fiduciary.checks._result import CheckResult, number
from fiduciary.checks._sample import Subject

F64 = NDArray[np.float64]


def equal_opportunity(subject: Subject, **params: Any) -> CheckResult:
    """The largest difference between groups in the share of good risks who get the favourable outcome."""
    return _odds("fairness.equal_opportunity", subject, ("good",), **params)


def equalised_odds(subject: Subject, **params: Any) -> CheckResult:
    """The larger of the differences between groups among good and among bad risks."""
    return _odds("fairness.equalised_odds", subject, ("good", "bad"), **params)


def _odds(
    name: str,
    subject: Subject,
    sides: tuple[str, ...],
    *,
    attributes: list[str],
    reference: dict[str, Any],
    minimum_rows: int,
    level: float,
    favourable: list[str],
    maximum: float | None,
) -> CheckResult:
    sample = subject.sample
    assert sample is not None and sample.outcomes is not None
    marked = favourable_rows(subject, favourable)
    if marked is None:
        return nothing(name, "share", NO_DECISIONS)
    good, decided = marked
    events = sample.outcomes
    tables: dict[str, Any] = {}
    small: list[str] = []
    worst: tuple[float, str, str, str, str, tuple[float, float]] | None = None
    for grouping in groupings(sample, attributes):
        entry: dict[str, Any] = {"unknown": grouping.unknown}
        for side in sides:
            members = decided & (~events if side == "good" else events)
            rows, count = grouping.count(members), grouping.count(good & members)
            rates = share_of(count, rows)
            low, high = wilson(count, rows, level)
            enough = rows >= minimum_rows
            small += [f"{text} ({side} risks)" for text in small_groups(grouping, rows, minimum_rows)]
            ref = reference_place(grouping, rates, rows, sample, reference, minimum_rows)
            ends = None if ref is None else difference_interval(count, rows, count[ref], rows[ref], level)
            entry[side] = {
                "reference": None if ref is None else grouping.labels[ref],
                "groups": [
                    {
                        "group": label,
                        "rows": int(rows[g]),
                        "rate": number(rates[g]),
                        "rate_interval": [float(low[g]), float(high[g])],
                        "judged": bool(enough[g]),
                    }
                    | (
                        {}
                        if ref is None or ends is None or g == ref
                        else {
                            "difference": number(rates[g] - rates[ref]),
                            "difference_interval": [float(ends[0][g]), float(ends[1][g])],
                        }
                    )
                    for g, label in enumerate(grouping.labels)
                ],
            }
            if enough.sum() < 2:
                continue
            top = int(np.argmax(np.where(enough, rates, -1.0)))
            bottom = int(np.argmin(np.where(enough, rates, 2.0)))
            gap = float(rates[top] - rates[bottom])
            entry[side]["gap"] = gap
            if worst is None or gap > worst[0]:
                between = difference_interval(count[top], rows[top], count[bottom], rows[bottom], level)
                worst = (
                    gap, grouping.attribute, side, grouping.labels[bottom], grouping.labels[top],
                    (float(between[0]), float(between[1])),
                )  # fmt: skip
        tables[grouping.attribute] = entry
    lacking = too_few(small, minimum_rows)
    numbers: dict[str, Any] = {"attributes": tables, "level": level}
    if worst is None:
        return CheckResult(
            name=name, ok=None, unit="share", threshold=maximum, numbers=numbers,
            lacking=lacking or "two groups", detail="no two groups could be compared",
        )  # fmt: skip
    gap, attribute, side, lowest, highest, ends_of = worst
    return CheckResult(
        name=name,
        ok=at_most(gap, maximum, small),
        value=gap,
        unit="share",
        interval=ends_of,
        threshold=maximum,
        detail=f"{attribute}: among {side} risks {gap:.1%} fewer favourable outcomes for {lowest} than for {highest}",
        lacking=lacking,
        numbers=numbers,
    )


def calibration_within_groups(
    subject: Subject,
    *,
    attributes: list[str],
    minimum_rows: int,
    maximum: float | None,
    bins: int,
) -> CheckResult:
    """Whether a score means the same in every group: events observed less events expected, as a share of rows.

    The value is the largest gap of any group in size; by group also z and p of the gap, and the mean gap over score
    bands that hold equal shares of the whole sample.
    """
    name, sample = "fairness.calibration_within_groups", subject.sample
    assert sample is not None and sample.outcomes is not None
    finite = sample.finite
    if finite.any() and not (sample.sorted_scores[0] >= 0.0 and sample.sorted_scores[-1] <= 1.0):
        return nothing(name, "share", "scores that are probabilities")
    scores = np.where(finite, sample.scores, 0.0)
    events = sample.outcomes.astype(np.float64) * finite
    ordered = sample.sorted_scores
    cuts = (
        np.unique(ordered[(np.arange(1, bins) * len(ordered)) // bins])
        if len(ordered) >= bins
        else ordered[:0]
    )
    band = np.searchsorted(cuts, scores, side="right")
    width = len(cuts) + 1
    tables: dict[str, Any] = {}
    small: list[str] = []
    worst: tuple[float, str, str] | None = None
    for grouping in groupings(sample, attributes):
        rows = grouping.count(finite)
        small += small_groups(grouping, rows, minimum_rows)
        k = len(grouping.labels)
        cell = np.where(finite & (grouping.codes >= 0), grouping.codes * width + band, k * width)
        n = np.bincount(cell, minlength=k * width + 1)[:-1].reshape(k, width)
        seen = np.bincount(cell, weights=events, minlength=k * width + 1)[:-1].reshape(k, width)
        hoped = np.bincount(cell, weights=scores, minlength=k * width + 1)[:-1].reshape(k, width)
        spread = np.bincount(cell, weights=scores * (1.0 - scores), minlength=k * width + 1)[:-1]
        variance = spread.reshape(k, width).sum(axis=1)
        found = []
        for g, label in enumerate(grouping.labels):
            if not rows[g]:
                continue
            gap = float(seen[g].sum() - hoped[g].sum()) / float(rows[g])
            z = (
                float(seen[g].sum() - hoped[g].sum()) / math.sqrt(variance[g])
                if variance[g] > 0
                else math.nan
            )
            found.append(
                {
                    "group": label,
                    "rows": int(rows[g]),
                    "observed": float(seen[g].sum() / rows[g]),
                    "expected": float(hoped[g].sum() / rows[g]),
                    "gap": gap,
                    "z": number(z),
                    "p": None if math.isnan(z) else math.erfc(abs(z) / math.sqrt(2.0)),
                    "mean_band_gap": float(np.abs(seen[g] - hoped[g]).sum() / rows[g]),
                    "judged": bool(rows[g] >= minimum_rows),
                    "bands": [
                        {"rows": int(a), "observed": number(b / a), "expected": number(c / a)}
                        for a, b, c in zip(n[g].tolist(), seen[g].tolist(), hoped[g].tolist(), strict=True)
                        if a
                    ],
                }
            )
            if rows[g] >= minimum_rows and (worst is None or abs(gap) > abs(worst[0])):
                worst = gap, grouping.attribute, label
        tables[grouping.attribute] = {"unknown": grouping.unknown, "groups": found}
    lacking = too_few(small, minimum_rows)
    numbers: dict[str, Any] = {"attributes": tables, "cuts": cuts.tolist()}
    if worst is None:
        return nothing(name, "share", lacking or "a group")
    side = "more" if worst[0] > 0 else "fewer"
    return CheckResult(
        name=name,
        ok=at_most(abs(worst[0]), maximum, small),
        value=abs(worst[0]),
        unit="share",
        threshold=maximum,
        detail=f"{worst[1]} {worst[2]}: {abs(worst[0]):.2%} of its rows {side} events than the scores say",
        lacking=lacking,
        numbers=numbers,
    )


def outcomes(
    subject: Subject,
    *,
    attributes: list[str],
    minimum_rows: int,
    level: float,
    favourable: list[str],
    maximum: float | None,
) -> CheckResult:
    """What became of each customer group: approve, refer, decline, mean score, events, exposure.

    The value is the largest distance of a group's favourable share from that of the whole sample.
    """
    name, sample = "fairness.outcomes", subject.sample
    assert sample is not None
    given = decisions(subject)
    marked = favourable_rows(subject, favourable)
    if given is None or marked is None:
        return nothing(name, "share", NO_DECISIONS)
    good, decided = marked
    overall = float(good.sum() / max(int(decided.sum()), 1))
    kinds = {kind: np.asarray(given == kind, dtype=np.bool_) for kind in ("approve", "refer", "decline")}
    approved = kinds["approve"]
    scores = np.where(sample.finite, sample.scores, 0.0)
    tables: dict[str, Any] = {}
    small: list[str] = []
    worst: tuple[float, str, str] | None = None
    for grouping in groupings(sample, attributes):
        rows = grouping.count(decided)
        small += small_groups(grouping, rows, minimum_rows)
        shares = {kind: (grouping.count(flags), *wilson(grouping.count(flags), rows, level))
                  for kind, flags in kinds.items()}  # fmt: skip
        scored = grouping.count(sample.finite)
        score_sum = grouping.total(scores)
        favoured = grouping.count(good)
        bad_approved = grouping.count(approved & sample.outcomes) if sample.outcomes is not None else None
        bad = grouping.count(sample.outcomes) if sample.outcomes is not None else None
        exposure = grouping.total(np.nan_to_num(sample.exposure)) if sample.exposure is not None else None
        found = []
        for g, label in enumerate(grouping.labels):
            if not rows[g]:
                continue
            line: dict[str, Any] = {
                "group": label,
                "rows": int(rows[g]),
                "favourable": float(favoured[g] / rows[g]),
                "mean_score": number(score_sum[g] / scored[g]) if scored[g] else None,
                "judged": bool(rows[g] >= minimum_rows),
            }
            for kind, (counts, low, high) in shares.items():
                line[kind] = float(counts[g] / rows[g])
                line[f"{kind}_interval"] = [float(low[g]), float(high[g])]
            if bad is not None and bad_approved is not None:
                n = int(shares["approve"][0][g])
                low, high = wilson(bad_approved[g], n, level)
                line["event_rate"] = float(bad[g] / grouping.rows[g])
                line["event_rate_approved"] = float(bad_approved[g] / n) if n else None
                line["event_rate_approved_interval"] = [float(low), float(high)]
            if exposure is not None:
                line["mean_exposure"] = float(exposure[g] / grouping.rows[g])
            found.append(line)
            gap = line["favourable"] - overall
            if line["judged"] and (worst is None or abs(gap) > abs(worst[0])):
                worst = gap, grouping.attribute, label
        tables[grouping.attribute] = {"unknown": grouping.unknown, "groups": found}
    lacking = too_few(small, minimum_rows)
    if worst is None:
        return nothing(name, "share", lacking or "a group")
    return CheckResult(
        name=name,
        ok=at_most(abs(worst[0]), maximum, small),
        value=abs(worst[0]),
        unit="share",
        threshold=maximum,
        detail=f"{worst[1]} {worst[2]}: {worst[0]:+.1%} favourable outcomes against the whole sample",
        lacking=lacking,
        numbers={"attributes": tables, "favourable": overall, "level": level},
    )
