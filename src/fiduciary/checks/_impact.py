"""Disparate impact: rates and scores of groups against a reference group, with intervals and tests.

A small group is never cleared by silence: it is listed in `lacking`, and then no result is ok. The adverse
impact ratio's four fifths (29 CFR 1607.4(D)) come from employment law; no lending rule holds them, so they are a
screen.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._groups import (
    NO_DECISIONS,
    adverse_sign,
    at_most,
    favourable_rows,
    groupings,
    nothing,
    reference_place,
    share_of,
    small_groups,
    too_few,
)
from fiduciary.checks._proportions import (
    SMALL_CELL,
    difference_interval,
    exact_test,
    normal_quantile,
    ratio_interval,
    smallest_expected,
    wilson,
    z_test,
)
from fiduciary.checks._result import CheckResult, number
from fiduciary.checks._sample import Subject

F64 = NDArray[np.float64]

SCREEN = (
    "a ratio above the screen clears nobody: read it with fairness.significance and "
    "fairness.standardised_mean_difference, or judge by the bound"
)


def adverse_impact_ratio(
    subject: Subject,
    *,
    attributes: list[str],
    reference: dict[str, Any],
    minimum_rows: int,
    level: float,
    favourable: list[str],
    minimum: float,
    judge: str,
) -> CheckResult:
    """Each group's rate of favourable outcomes over the reference group's; the lowest is the value.

    `screen`: below the minimum fails, above it says nothing. `bound`: ok when the whole interval of every
    group is at or above the minimum, not ok when a ratio is below it, undecided between.
    """
    name, sample = "fairness.adverse_impact_ratio", subject.sample
    assert sample is not None
    marked = favourable_rows(subject, favourable)
    if marked is None:
        return nothing(name, "ratio", NO_DECISIONS)
    good, decided = marked
    lines: list[dict[str, Any]] = []
    tables: dict[str, Any] = {}
    small: list[str] = []
    for grouping in groupings(sample, attributes):
        rows, count = grouping.count(decided), grouping.count(good)
        low, high = wilson(count, rows, level)
        rates = share_of(count, rows)
        ref = reference_place(grouping, rates, rows, sample, reference, minimum_rows)
        small += small_groups(grouping, rows, minimum_rows)
        if ref is None:
            continue
        ends = ratio_interval(count, rows, count[ref], rows[ref], level)
        found = []
        for g, label in enumerate(grouping.labels):
            ratio = rates[g] / rates[ref] if rates[ref] > 0 else math.nan
            line: dict[str, Any] = {
                "group": label,
                "rows": int(rows[g]),
                "favourable": int(count[g]),
                "rate": number(rates[g]),
                "rate_interval": [float(low[g]), float(high[g])],
                "judged": bool(rows[g] >= minimum_rows),
            }
            if g != ref:
                line |= {"ratio": number(ratio), "ratio_interval": [number(ends[0][g]), number(ends[1][g])]}
                if line["judged"] and math.isfinite(ratio):
                    lines.append(line | {"attribute": grouping.attribute})
            found.append(line)
        tables[grouping.attribute] = {
            "reference": grouping.labels[ref],
            "unknown": int(np.count_nonzero(decided & (grouping.codes < 0))),
            "groups": found,
        }
    numbers: dict[str, Any] = {"attributes": tables, "judge": judge, "level": level}
    lacking = too_few(small, minimum_rows)
    if not lines:
        return CheckResult(
            name=name, ok=None, unit="ratio", threshold=minimum, numbers=numbers,
            lacking=lacking or "two groups with a favourable outcome in the reference group",
            detail="no two groups could be compared",
        )  # fmt: skip
    worst = min(lines, key=lambda line: line["ratio"])
    below = any(line["ratio"] < minimum for line in lines)
    ok: bool | None = False if below else None
    if judge == "screen":
        lacking = "; ".join(filter(None, (lacking, "" if below else SCREEN)))
    elif not below:
        sure = all((line["ratio_interval"][0] or 0.0) >= minimum for line in lines)
        if sure and not small:
            ok = True
        elif not sure:
            lacking = "; ".join(filter(None, (lacking, "more rows: an interval reaches below the minimum")))
    ends_of = worst["ratio_interval"]
    return CheckResult(
        name=name,
        ok=ok,
        value=worst["ratio"],
        unit="ratio",
        interval=None if None in ends_of else (ends_of[0], ends_of[1]),
        threshold=minimum,
        detail=(
            f"{worst['attribute']} {worst['group']}: {worst['rate']:.1%} favourable, {worst['ratio']:.3f} times "
            f"the rate of {tables[worst['attribute']]['reference']}"
        ),
        lacking=lacking,
        numbers=numbers,
    )


def standardised_mean_difference(
    subject: Subject,
    *,
    attributes: list[str],
    reference: dict[str, Any],
    minimum_rows: int,
    level: float,
    spread: str,
    scale: str,
    maximum: float | None,
) -> CheckResult:
    """How much worse each group scores than its reference group, in standard deviations of the score.

    Positive: worse for the group. The reference, if not given, is the group with the most favourable mean.
    """
    name, sample = "fairness.standardised_mean_difference", subject.sample
    assert sample is not None
    if scale == "margin" and sample.margins is None:
        return nothing(name, "standard deviations", "margins for the sample")
    scores = sample.margins if scale == "margin" and sample.margins is not None else sample.scores
    sign = adverse_sign(subject)
    finite = np.isfinite(scores)
    kept = np.where(finite, scores, 0.0)
    overall = float(scores[finite].std(ddof=1)) if finite.sum() > 1 else 0.0
    tables: dict[str, Any] = {}
    small: list[str] = []
    worst: tuple[float, str, str, tuple[float, float]] | None = None
    for grouping in groupings(sample, attributes):
        rows = grouping.count(finite)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = grouping.total(kept) / rows
            centred = np.where(
                finite & (grouping.codes >= 0), scores - np.append(means, 0.0)[grouping.codes], 0.0
            )
            variances = grouping.total(centred * centred) / (rows - 1)
        ref = reference_place(grouping, 1.0 - _unit(sign * means), rows, sample, reference, minimum_rows)
        small += small_groups(grouping, rows, minimum_rows)
        if ref is None:
            continue
        found = []
        for g, label in enumerate(grouping.labels):
            line: dict[str, Any] = {
                "group": label,
                "rows": int(rows[g]),
                "mean": number(means[g]),
                "standard_deviation": number(math.sqrt(variances[g])) if rows[g] > 1 else None,
                "judged": bool(rows[g] >= minimum_rows),
            }
            if g != ref and rows[g] > 1 and rows[ref] > 1:
                n1, n0 = float(rows[g]), float(rows[ref])
                pooled = math.sqrt(((n1 - 1) * variances[g] + (n0 - 1) * variances[ref]) / (n1 + n0 - 2))
                by = overall if spread == "overall" else pooled
                d = sign * float(means[g] - means[ref]) / by if by > 0 else math.nan
                ends = _smd_interval(d, n1, n0, level)
                line |= {"difference": number(d), "difference_interval": [number(ends[0]), number(ends[1])]}
                if line["judged"] and math.isfinite(d) and (worst is None or d > worst[0]):
                    worst = d, grouping.attribute, label, ends
            found.append(line)
        tables[grouping.attribute] = {
            "reference": grouping.labels[ref], "unknown": grouping.unknown, "groups": found
        }  # fmt: skip
    numbers: dict[str, Any] = {"attributes": tables, "spread": spread, "scale": scale}
    lacking = too_few(small, minimum_rows)
    if worst is None:
        return CheckResult(
            name=name, ok=None, unit="standard deviations", threshold=maximum, numbers=numbers,
            lacking=lacking or "two groups of different people", detail="no two groups could be compared",
        )  # fmt: skip
    return CheckResult(
        name=name,
        ok=at_most(worst[0], maximum, small),
        value=worst[0],
        unit="standard deviations",
        interval=worst[3],
        threshold=maximum,
        detail=f"{worst[1]} {worst[2]} scores {worst[0]:.3f} standard deviations worse than its reference group",
        lacking=lacking,
        numbers=numbers,
    )


def significance(
    subject: Subject,
    *,
    attributes: list[str],
    reference: dict[str, Any],
    minimum_rows: int,
    level: float,
    favourable: list[str],
    alpha: float | None,
) -> CheckResult:
    """Could chance alone explain each group's rate against its reference group's?

    Both tests are reported: the pooled z and Fisher's exact with its mid-p. Where a cell of the table expects
    fewer than 5 rows the mid-p is the one that counts. The value is the smallest p; with `alpha` the check is not
    ok when a group is disfavoured and its p is below.
    """
    name, sample = "fairness.significance", subject.sample
    assert sample is not None
    marked = favourable_rows(subject, favourable)
    if marked is None:
        return nothing(name, "p", NO_DECISIONS)
    good, decided = marked
    tables: dict[str, Any] = {}
    small: list[str] = []
    lines: list[dict[str, Any]] = []
    for grouping in groupings(sample, attributes):
        rows, count = grouping.count(decided), grouping.count(good)
        rates = share_of(count, rows)
        ref = reference_place(grouping, rates, rows, sample, reference, minimum_rows)
        small += small_groups(grouping, rows, minimum_rows)
        if ref is None:
            continue
        z, p = z_test(count, rows, count[ref], rows[ref])
        ends = difference_interval(count, rows, count[ref], rows[ref], level)
        expected = smallest_expected(count, rows, count[ref], rows[ref])
        found = []
        for g, label in enumerate(grouping.labels):
            if g == ref or not rows[g]:
                continue
            fisher, mid = exact_test(int(count[g]), int(rows[g]), int(count[ref]), int(rows[ref]))
            exact = bool(expected[g] < SMALL_CELL)
            line = {
                "group": label,
                "rows": int(rows[g]),
                "difference": float(rates[g] - rates[ref]),
                "difference_interval": [float(ends[0][g]), float(ends[1][g])],
                "z": number(z[g]),
                "p_z": number(p[g]),
                "p_fisher": number(fisher),
                "p_mid": number(mid),
                "smallest_expected": float(expected[g]),
                "test": "mid-p" if exact else "z",
                "p": mid if exact else float(p[g]),
                "judged": bool(rows[g] >= minimum_rows),
            }
            found.append(line)
            lines.append(line | {"attribute": grouping.attribute})
        tables[grouping.attribute] = {
            "reference": grouping.labels[ref], "unknown": grouping.unknown, "groups": found
        }  # fmt: skip
    lacking = too_few(small, minimum_rows)
    numbers: dict[str, Any] = {"attributes": tables, "level": level}
    if not lines:
        return CheckResult(
            name=name, ok=None, unit="p", threshold=alpha, numbers=numbers,
            lacking=lacking or "two groups", detail="no two groups could be compared",
        )  # fmt: skip
    worst = min(lines, key=lambda line: line["p"])
    found_any = alpha is not None and any(x["p"] < alpha and x["difference"] < 0 for x in lines)
    return CheckResult(
        name=name,
        ok=False if found_any else None if alpha is None or small else True,
        value=worst["p"],
        unit="p",
        threshold=alpha,
        detail=f"{worst['attribute']} {worst['group']}: {worst['difference']:+.1%} against its reference group, "
        f"p {worst['p']:.2g} by {worst['test']}",
        lacking=lacking,
        numbers=numbers,
    )


def _smd_interval(d: float, n1: float, n0: float, level: float) -> tuple[float, float]:
    """Large-sample interval of a standardised difference (Hedges and Olkin 1985, chapter 5)."""
    half = normal_quantile(level) * math.sqrt((n1 + n0) / (n1 * n0) + d * d / (2.0 * (n1 + n0)))
    return d - half, d + half


def _unit(values: F64) -> F64:
    """Values brought into 0 to 1, order kept; NaN stays."""
    known = values[np.isfinite(values)]
    if not len(known) or known.max() == known.min():
        return np.where(np.isfinite(values), 0.5, np.nan)
    found: F64 = (values - known.min()) / (known.max() - known.min())
    return found
