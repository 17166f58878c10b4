"""Is it still the population the model was made for? PSI, CSI, grade migrations, concentration.

Bins come from the development sample: about equally full quantile bins of a number, the values themselves
of a category or of a number with few values, and one bin for missing. A bin that is empty on one side
counts as half a row there, so that the index stays finite; where no bin is empty it is the textbook sum
exactly.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._check import WATCHED, Check, Param, table
from fiduciary.checks._common import (
    MAX_GRADES,
    band_edges,
    group_sums,
    labels_of,
    listed,
    natural,
    unjudged,
    upper_tail,
)
from fiduciary.checks._result import CheckResult, number, numbers, verdict
from fiduciary.checks._sample import F64, Sample, Subject, Text

FEW_VALUES = 20
"""A number with at most this many values in the development sample is binned by value."""


def stability_index(development: F64, current: F64) -> tuple[float, float]:
    """Population stability index of two rows of counts over the same bins, and what chance alone would give.

    Sum of (q - p) ln(q / p) over shares p, q; a bin empty on one side counts as half a row there, one empty
    on both is left out. Under no change its mean is about (bins - 1)(1/n + 1/m) (Yurdakul and Naranjo, J.
    Risk Model Validation 14, 2020). NaN when a side is empty.
    """
    n, m = float(development.sum()), float(current.sum())
    if not n or not m:
        return math.nan, math.nan
    used = (development > 0) | (current > 0)
    p = np.where(development[used] > 0, development[used], 0.5) / n
    q = np.where(current[used] > 0, current[used], 0.5) / m
    return float(np.sum((q - p) * np.log(q / p))), (int(used.sum()) - 1) * (1 / n + 1 / m)


def _pair(subject: Subject) -> tuple[Sample, Sample]:
    assert subject.sample is not None and subject.development is not None
    return subject.sample, subject.development


def psi(subject: Subject, *, maximum: float | None, bins: int, by: str) -> CheckResult:
    """Stability index of scores (or rating grades) against development; missing scores have a bin of their
    own.

    Below 0.10 is commonly read as stable, above 0.25 as a shift (Siddiqi, Credit Risk Scorecards, 2006): a
    convention.
    """
    name = "stability.psi"
    sample, development = _pair(subject)
    if not len(sample) or not len(development):
        return unjudged(name, "rows in both samples")
    if by == "grades":
        if sample.grades is None or development.grades is None:
            return unjudged(name, "rating grades for both samples")
        labels, before, now = _matched(development.grades, sample.grades)
    else:
        edges = band_edges(development.sorted_scores, bins)
        before, now = _binned(development.scores, edges), _binned(sample.scores, edges)
        labels = [*_ranges(edges), "missing"]
    value, chance = stability_index(before, now)
    return CheckResult(
        name=name,
        ok=verdict(value, maximum=maximum),
        value=value,
        threshold=maximum,
        detail=f"{value:.4f} over {len(labels)} bins; chance alone gives about {chance:.4f}",
        numbers={
            "chance": chance,
            "bins": labels,
            "development": numbers(before / before.sum()),
            "current": numbers(now / now.sum()),
            "empty": int(np.count_nonzero((before > 0) != (now > 0))),
        },
    )


def _binned(values: F64, edges: F64) -> F64:
    """Counts per bin, the last one for values that are not finite."""
    k = len(edges) + 1
    place = np.searchsorted(edges, values, side="right")
    place[~np.isfinite(values)] = k
    return group_sums(place, k + 1)


def _ranges(edges: F64) -> list[str]:
    if not len(edges):
        return ["all"]
    inner = [f"{a:.6g} to {b:.6g}" for a, b in pairwise(edges)]
    return [f"below {edges[0]:.6g}", *inner, f"from {edges[-1]:.6g}"]


def _matched(before: Text, now: Text) -> tuple[list[str], F64, F64]:
    """Counts of two label arrays over the union of their labels."""
    a, a_place = labels_of(before)
    b, b_place = labels_of(now)
    labels = sorted(set(a) | set(b), key=natural)
    at = {label: i for i, label in enumerate(labels)}
    counts = [np.zeros(len(labels)) for _ in range(2)]
    for total, names, place in ((counts[0], a, a_place), (counts[1], b, b_place)):
        for name, count in zip(names, group_sums(place, len(names)), strict=True):
            total[at[name]] = count
    return labels, counts[0], counts[1]


def csi(subject: Subject, *, maximum: float | None, bins: int, features: list[str]) -> CheckResult:
    """Stability index of every feature against development; the value is the largest.

    Values of a category that development never had fall in one further bin, which was empty there.
    """
    name = "stability.csi"
    sample, development = _pair(subject)
    if sample.names != development.names:
        return unjudged(name, "the same features in both samples")
    if not len(sample) or not len(development):
        return unjudged(name, "rows in both samples")
    chosen = list(range(len(sample.names)))
    if features:
        unknown = [f for f in features if f not in sample.names]
        if unknown:
            return unjudged(name, f"features {listed(unknown)}, which the samples do not have")
        chosen = [sample.names.index(f) for f in features]
    categories = _categories(subject)
    found: dict[str, Any] = {}
    worst, at = -1.0, ""
    for j in chosen:
        before, now, empty = _feature(development, sample, j, bins, sample.names[j] in categories)
        value, chance = stability_index(before, now)
        found[sample.names[j]] = {"value": value, "chance": chance, "bins": len(before), "empty": empty}
        if value > worst:
            worst, at = value, sample.names[j]
    if not chosen:
        return unjudged(name, "at least one feature")
    moved = [] if maximum is None else [f for f, v in found.items() if v["value"] > maximum]
    said = f"largest {worst:.4f} ({at})"
    if moved:
        said += f"; above {maximum:g}: {listed(moved)}"
    return CheckResult(
        name=name,
        ok=verdict(worst, maximum=maximum),
        value=worst,
        threshold=maximum,
        detail=said,
        numbers={"features": found},
    )


def _categories(subject: Subject) -> set[str]:
    if subject.contract is None:
        return set()
    return {f.name for f in subject.contract.features if f.type in ("category", "boolean")}


def _feature(development: Sample, sample: Sample, j: int, bins: int, category: bool) -> tuple[F64, F64, int]:
    """Counts of one feature in both samples, and how many bins are empty on one side."""
    ordered = development.sorted_columns[j]
    present = ordered[: len(ordered) - int(development.missing[j])]
    column = sample.rows[:, j]
    new = np.ones(len(present), dtype=np.bool_)
    new[1:] = present[1:] != present[:-1]
    distinct = int(np.count_nonzero(new))
    if category or distinct <= FEW_VALUES:
        before, now = _by_value(present, new, column)
    else:
        edges = band_edges(present, bins)
        cuts = np.searchsorted(present, edges, side="left")
        before = np.diff(np.concatenate([[0], cuts, [len(present)]])).astype(np.float64)
        now = _binned(column, edges)[:-1]
    missing = np.count_nonzero(np.isnan(column))
    infinite = len(column) - int(now.sum()) - missing
    before = np.append(before, [development.missing[j], 0.0])
    now = np.append(now, [missing, infinite])
    return before, now, int(np.count_nonzero((before > 0) != (now > 0)))


def _by_value(present: F64, new: NDArray[np.bool_], column: F64) -> tuple[F64, F64]:
    """Counts by value; the last bin holds values that development never had."""
    values = present[new]
    starts = np.flatnonzero(new)
    before = np.diff(np.append(starts, len(present))).astype(np.float64)
    k = len(values)
    place = np.searchsorted(values, column)
    known = place < k
    known[known] = values[place[known]] == column[known]
    now = group_sums(place[known], k)
    strange = np.count_nonzero(np.isfinite(column) & ~known)
    return np.append(before, 0.0), np.append(now, strange)


def migration_matrix(before: Text, now: Text, order: list[str]) -> tuple[list[str], F64]:
    """Grades in order, and how many rows went from each (row) to each (column).

    Grades that `order` does not name follow it in natural order.
    """
    a, a_place = labels_of(before)
    b, b_place = labels_of(now)
    known = set(order)
    labels = [*order, *sorted((set(a) | set(b)) - known, key=natural)]
    at = {label: i for i, label in enumerate(labels)}
    rows = np.array([at[x] for x in a], dtype=np.intp)[a_place]
    columns = np.array([at[x] for x in b], dtype=np.intp)[b_place]
    k = len(labels)
    return labels, group_sums(rows * k + columns, k * k).reshape(k, k)


def mobility(counts: F64) -> dict[str, float]:
    """How far rows moved: matrix-weighted bandwidths upper (to riskier) and lower, and Shorrocks' index;
    NaN if none moved.

    Bandwidths: distance moved over the largest distance that those rows could have moved (ECB validation
    reporting 2019, sec. 2.5.5.1). Shorrocks, Econometrica 46, 1978: (K - trace) / (K - 1) over grades that
    had rows.
    """
    k = len(counts)
    i, j = np.indices((k, k))
    steps = np.abs(i - j)
    reach = np.maximum(np.abs(i - (k - 1)), i)
    found = {}
    for side, part in (("upper", j > i), ("lower", j < i)):
        most = float((counts * reach)[part].sum())
        found[side] = float((counts * steps)[part].sum()) / most if most else math.nan
    totals = counts.sum(axis=1)
    used = totals > 0
    stayed = np.diag(counts)[used] / totals[used]
    n = int(used.sum())
    found["shorrocks"] = (n - float(stayed.sum())) / (n - 1) if n > 1 else math.nan
    found["unchanged"] = float(np.trace(counts) / counts.sum()) if counts.sum() else math.nan
    return found


def migration_steps(counts: F64) -> list[dict[str, Any]]:
    """Places where a migration is more frequent than the one next to it towards the diagonal, with
    one-sided p-values.

    z of two shares of one multinomial row (ECB validation reporting 2019, sec. 2.5.5.2). `step` compares
    cell (i, j) with its neighbour nearer the diagonal; a small p-value says that frequencies do not fall
    with distance.
    """
    found: list[dict[str, Any]] = []
    k = len(counts)
    totals = counts.sum(axis=1)
    for i in range(k):
        if not totals[i]:
            continue
        p = counts[i] / totals[i]
        for j in range(k):
            if i == j:
                continue
            near = j - 1 if j > i else j + 1
            gap = p[j] - p[near]
            spread = (p[j] * (1 - p[j]) + p[near] * (1 - p[near]) + 2 * p[j] * p[near]) / totals[i]
            if spread > 0:
                z = float(gap / math.sqrt(spread))
                found.append({"from": i, "to": j, "z": z, "p_value": upper_tail(z)})
    return found


def migration(
    subject: Subject,
    *,
    order: list[str],
    maximum_upper: float | None,
    maximum_lower: float | None,
    alpha: float | None,
) -> CheckResult:
    """Grade migrations over a period: the matrix, how far rows moved, and whether frequency falls with
    distance.
    """
    name = "stability.migration"
    sample = subject.sample
    assert sample is not None and sample.grades is not None and sample.previous_grades is not None
    if not len(sample):
        return unjudged(name, "rows: the sample is empty", unit="share")
    if not all(isinstance(label, str) for label in order) or len(set(order)) != len(order):
        return unjudged(name, "an order that names each grade once, as text", unit="share")
    grades = [str(label) for label in order]
    labels, counts = migration_matrix(sample.previous_grades, sample.grades, grades)
    if len(labels) > MAX_GRADES // 10:
        return unjudged(name, f"at most {MAX_GRADES // 10} grades; there are {len(labels)}", unit="share")
    moved = mobility(counts)
    steps = migration_steps(counts)
    against = [] if alpha is None else [s for s in steps if s["p_value"] < alpha]
    verdicts = [
        verdict(moved["upper"], maximum=maximum_upper),
        verdict(moved["lower"], maximum=maximum_lower),
        None if alpha is None else not against,
    ]
    given = [v for v in verdicts if v is not None]
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.where(totals > 0, totals, 1.0)
    said = f"{moved['unchanged']:.1%} unchanged; " + ", ".join(
        f"{side} bandwidth {moved[side]:.4f}" if math.isfinite(moved[side]) else f"none moved {words}"
        for side, words in (("upper", "to a riskier grade"), ("lower", "to a safer grade"))
    )
    if against:
        said += f"; frequency does not fall with distance in {len(against)} places"
    return CheckResult(
        name=name,
        ok=all(given) if given else None,
        value=1.0 - moved["unchanged"],
        unit="share",
        detail=said,
        numbers={
            "grades": labels,
            "counts": [[int(c) for c in row] for row in counts],
            "shares": [numbers(row) for row in shares],
            "upper": number(moved["upper"]),
            "lower": number(moved["lower"]),
            "shorrocks": number(moved["shorrocks"]),
            "smallest_p_value": min((s["p_value"] for s in steps), default=None),
            "steps_against": [
                {"from": labels[s["from"]], "to": labels[s["to"]], "p_value": s["p_value"]} for s in against
            ],
        },
    )


def herfindahl(weights: F64) -> tuple[float, float]:
    """Coefficient of variation of grade shares, and the ECB's Herfindahl index 1 + ln((CV^2 + 1)/K) / ln K.

    ECB validation reporting 2019, sec. 2.5.5.3: 0 for equal shares over K grades, 1 when all lie in one.
    NaN for no weight or a single grade.
    """
    k, total = len(weights), float(weights.sum())
    if k < 2 or not total > 0:
        return math.nan, math.nan
    shares = weights / total
    cv = math.sqrt(k * float(np.sum((shares - 1 / k) ** 2)))
    return cv, 1 + math.log((cv * cv + 1) / k) / math.log(k)


def concentration(
    subject: Subject, *, maximum: float | None, alpha: float | None, grades: list[str]
) -> CheckResult:
    """Concentration of rows (and of exposure) in rating grades, and whether it grew since development.

    One-sided p-value of the change in the coefficient of variation (ECB validation reporting 2019, sec.
    2.5.5.3).
    """
    name = "stability.concentration"
    sample, development = subject.sample, subject.development
    assert sample is not None and sample.grades is not None
    labels, place = labels_of(sample.grades)
    before: F64 | None = None
    if development is not None and development.grades is not None:
        labels, before, counts = _matched(development.grades, sample.grades)
        at = {label: i for i, label in enumerate(labels)}
        own, own_place = labels_of(sample.grades)
        place = np.array([at[x] for x in own], dtype=np.intp)[own_place]
    else:
        counts = group_sums(place, len(labels))
    extra = [g for g in grades if isinstance(g, str) and g not in labels]
    counts = np.append(counts, np.zeros(len(extra)))
    k = len(counts)
    cv, value = herfindahl(counts)
    if math.isnan(value):
        return unjudged(name, "rows in at least two rating grades, or the list of all grades")
    figures: dict[str, Any] = {
        "grades": [*labels, *extra],
        "shares": numbers(counts / counts.sum()),
        "herfindahl": float(np.sum((counts / counts.sum()) ** 2)),
        "coefficient_of_variation": cv,
    }
    verdicts = [verdict(value, maximum=maximum)]
    said = f"{value:.4f} over {k} grades"
    if before is not None and before.sum() > 0:
        before = np.append(before, np.zeros(len(extra)))
        cv_before, then = herfindahl(before)
        p_value = math.nan
        if cv > 0:
            p_value = upper_tail(math.sqrt(k - 1) * (cv - cv_before) / math.sqrt(cv**2 * (0.5 + cv**2)))
        figures["development"] = {"value": number(then), "p_value": number(p_value)}
        said += f"; {then:.4f} at development, p-value of growth {p_value:.4g}"
        if alpha is not None:
            verdicts.append(verdict(p_value, minimum=alpha))
    if sample.exposure is not None:
        held = np.where(np.isfinite(sample.exposure), sample.exposure, 0.0)
        by_exposure = np.append(group_sums(place, len(labels), held), np.zeros(len(extra)))
        figures["by_exposure"] = number(herfindahl(by_exposure)[1])
    given = [v for v in verdicts if v is not None]
    return CheckResult(
        name=name,
        ok=all(given) if given else None,
        value=value,
        threshold=maximum,
        detail=said,
        numbers=figures,
    )


_BINS = Param(int, 10, "quantile bins of the development sample", 2, 1_000)
_BOTH = ("sample", "development")

CHECKS = table(
    [
        Check(
            "stability.psi",
            "metric",
            psi,
            {
                "maximum": Param(float, 0.25, "largest index that passes", 0),
                "bins": _BINS,
                "by": Param(str, "score", "what is binned", choices=("score", "grades")),
            },
            WATCHED,
            "",
            "Siddiqi 2006; Yurdakul and Naranjo 2020",
            _BOTH,
            "population stability index of scores or grades",
        ),
        Check(
            "stability.csi",
            "metric",
            csi,
            {
                "maximum": Param(float, 0.25, "largest index of a feature that passes", 0),
                "bins": _BINS,
                "features": Param(list, [], "which features; empty: all"),
            },
            WATCHED,
            "",
            "Siddiqi 2006; Yurdakul and Naranjo 2020",
            _BOTH,
            "stability index of every feature, missing and new categories included",
        ),
        Check(
            "stability.migration",
            "metric",
            migration,
            {
                "order": Param(list, [], "grades from safest to riskiest; empty: natural order"),
                "maximum_upper": Param(float, None, "largest upper bandwidth that passes", 0, 1),
                "maximum_lower": Param(float, None, "largest lower bandwidth that passes", 0, 1),
                "alpha": Param(
                    float, None, "fails when a step away from the diagonal has a p-value below", 0, 1
                ),
            },
            WATCHED,
            "share",
            "ECB validation reporting 2019 sec. 2.5.5; Shorrocks 1978",
            ("sample", "sample.grades", "sample.previous_grades"),
            "migration matrix of rating grades and mobility",
        ),
        Check(
            "stability.concentration",
            "metric",
            concentration,
            {
                "maximum": Param(float, None, "largest index that passes", 0, 1),
                "alpha": Param(float, None, "fails when growth since development has a p-value below", 0, 1),
                "grades": Param(list, [], "all grades of the scale, so that unused ones count"),
            },
            WATCHED,
            "",
            "ECB validation reporting 2019 sec. 2.5.5.3",
            ("sample", "sample.grades"),
            "Herfindahl index of rating grades and its growth",
        ),
    ]
)
