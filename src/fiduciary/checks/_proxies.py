"""Proxies: features that stand in for a protected attribute.

Of each feature: how well it tells a group from the rest (AUC of ranks; for a category, of its values in order of
the group's share), how much of the uncertainty about the group it removes (mutual information over the group's
entropy), whether chance explains that (the likelihood-ratio test of independence), and how much of the
dependence is left among people with the same outcome or score (conditional mutual information). Of all features
together: the AUC of a linear discriminant on rows that it was not fitted on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._check import Check, Param, scipy
from fiduciary.checks._groups import COMMON, Grouping, groupings, nothing, too_few
from fiduciary.checks._result import CheckResult, number
from fiduciary.checks._sample import Sample, Subject

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

BANDS = 10
BINS = 20
MAX_FEATURES = 2_000
MAX_JOINT_ROWS = 8_000
RIDGE = 1e-3
SLICE = 100


def proxy(
    subject: Subject,
    *,
    attributes: list[str],
    minimum_rows: int,
    given: str,
    maximum: float | None,
    shown: int,
) -> CheckResult:
    """How well single features give away a protected attribute, and all of them together.

    The value is the largest AUC of one feature for one group; the tables list each attribute's strongest.
    """
    name, sample = "fairness.proxy", subject.sample
    assert sample is not None
    if given == "outcome" and sample.outcomes is None:
        given = "nothing"
    if len(sample.names) > MAX_FEATURES:
        return nothing(name, "auc", f"at most {MAX_FEATURES} features")
    strata, width = _strata(sample, given)
    categories = {
        f.name for f in (subject.contract.features if subject.contract else ()) if f.type == "category"
    }
    found_groups = groupings(sample, attributes)
    coded = [_bins(sample, j) for j in range(len(sample.names))]
    influence = _influence(sample)
    tables: dict[str, Any] = {g.attribute: {"unknown": g.unknown, "features": []} for g in found_groups}
    small: list[str] = []
    usable = [g for g in found_groups if (g.rows >= minimum_rows).sum() >= 2]
    for grouping in found_groups:
        small += [f"{grouping.attribute} {label}"
                  for label, n in zip(grouping.labels, grouping.rows.tolist(), strict=True)
                  if n < minimum_rows]  # fmt: skip
    worst: tuple[float, str, str, str] | None = None
    for j, feature in enumerate(sample.names):
        codes, size, present, ranks = coded[j]
        for grouping in usable:
            joint = _counts(codes, size, grouping, strata, width)
            flat = joint.sum(axis=0)
            if feature in categories:
                areas = _areas_of_bins(flat)
            else:
                areas = _areas_of_ranks(ranks, present, grouping)
            areas = np.where(grouping.rows >= minimum_rows, areas, np.nan)
            if not np.isfinite(areas).any():
                continue
            away = np.nanargmax(np.abs(areas - 0.5))
            area = 0.5 + abs(float(areas[away]) - 0.5)
            bits, entropy = information(flat)
            left, left_entropy = np.array([information(s) for s in joint]).T @ _weights(joint)
            degrees = (_used(flat, 0) - 1) * (_used(flat, 1) - 1)
            statistic = 2.0 * float(flat.sum()) * bits
            line: dict[str, Any] = {
                "feature": feature,
                "auc": area,
                "group": grouping.labels[int(away)],
                "information": bits / entropy if entropy > 0 else 0.0,
                "information_given": float(left / left_entropy) if left_entropy > 0 else 0.0,
                "p": float(scipy("special").gammaincc(degrees / 2.0, statistic / 2.0))
                if degrees > 0
                else 1.0,
                "influence": None if influence is None else float(influence[j]),
            }
            tables[grouping.attribute]["features"].append(line)
            if worst is None or area > worst[0]:
                worst = area, grouping.attribute, line["group"], feature
    for grouping in usable:
        table = tables[grouping.attribute]
        table["features"] = sorted(table["features"], key=lambda line: -line["auc"])[:shown]
        table["together"] = joint_areas(sample, grouping, minimum_rows, subject.seed)
    numbers: dict[str, Any] = {"attributes": tables, "given": given}
    lacking = too_few(small, minimum_rows)
    if worst is None:
        return CheckResult(
            name=name, ok=None, unit="auc", threshold=maximum, numbers=numbers,
            lacking=lacking or "two groups", detail="no two groups could be compared",
        )  # fmt: skip
    ok: bool | None = None
    if maximum is not None:
        ok = False if worst[0] > maximum else None if small else True
    return CheckResult(
        name=name,
        ok=ok,
        value=worst[0],
        unit="auc",
        threshold=maximum,
        detail=f"{worst[3]} tells {worst[1]} {worst[2]} from the rest with an AUC of {worst[0]:.3f}",
        lacking=lacking,
        numbers=numbers,
    )


def information(counts: F64) -> tuple[float, float]:
    """Mutual information of the two axes of a table of counts, and the entropy of the second, in nats."""
    n = float(counts.sum())
    if n <= 0:
        return 0.0, 0.0
    p = counts / n
    rows, columns = p.sum(axis=1, keepdims=True), p.sum(axis=0, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = float(np.where(p > 0, p * np.log(p / (rows * columns)), 0.0).sum())
        entropy = float(-np.where(columns > 0, columns * np.log(columns), 0.0).sum())
    return max(bits, 0.0), entropy


def joint_areas(sample: Sample, grouping: Grouping, minimum_rows: int, seed: int) -> dict[str, float | None]:
    """For each group the AUC of a linear discriminant on all features, on rows that it was not fitted on.

    Fitted on one half and measured on the other, both ways, then averaged; at most `MAX_JOINT_ROWS` rows.
    """
    x, picked = _design(sample, seed)
    codes = grouping.codes[picked]
    if (codes < 0).any():
        x, codes = x[codes >= 0], codes[codes >= 0]
    wanted = [g for g, n in enumerate(grouping.rows.tolist()) if n >= minimum_rows]
    result: dict[str, float | None] = dict.fromkeys(grouping.labels)
    if not x.shape[1] or len(wanted) < 2:
        return result
    areas = np.zeros((len(wanted), 2))
    middle = len(x) // 2
    for fold, (fitted, held) in enumerate(((slice(0, middle), slice(middle, None)),
                                           (slice(middle, None), slice(0, middle)))):  # fmt: skip
        a = x[fitted]
        matrix = _product(a, a) + RIDGE * len(a) * np.eye(a.shape[1])
        targets = (codes[fitted, None] == np.array(wanted)).astype(np.float64)
        scores = x[held] @ np.linalg.solve(matrix, _product(a, targets - targets.mean(axis=0)))
        for i, g in enumerate(wanted):
            areas[i, fold] = _area(average_ranks(scores[:, i]), codes[held] == g)
    for i, g in enumerate(wanted):
        result[grouping.labels[g]] = number(areas[i].mean())
    return result


def _product(a: F64, b: F64) -> F64:
    """a'b in slices of rows, too small each for threads: they would cost more than they save here."""
    total = np.zeros((a.shape[1], b.shape[1]))
    for start in range(0, len(a), SLICE):
        total += a[start : start + SLICE].T @ b[start : start + SLICE]
    return total


def _design(sample: Sample, seed: int) -> tuple[F64, I64]:
    """Standardised features of a shuffled part of the rows, and which rows; made once a sample.

    Missing values are the column's mean, with a 0/1 column beside it.
    """
    made: dict[int, tuple[F64, I64]] = sample.__dict__.setdefault("_proxy_design", {})
    if seed not in made:
        picked = np.random.default_rng([seed, 1]).permutation(len(sample))[:MAX_JOINT_ROWS]
        x = sample.rows[picked]
        missing = np.isnan(x)
        gaps = missing.any(axis=0)
        means = np.where(missing, 0.0, x).sum(axis=0) / np.maximum((~missing).sum(axis=0), 1)
        x = np.column_stack([np.where(missing, means, x), missing[:, gaps].astype(np.float64)])
        x -= x.mean(axis=0)
        spread = np.sqrt((x * x).mean(axis=0))
        x = x[:, spread > 0] / spread[spread > 0]
        made[seed] = np.clip(x, -10.0, 10.0), picked
    return made[seed]


def average_ranks(values: F64) -> F64:
    """Ranks from 1, ties sharing their mean."""
    order = np.argsort(values)
    ranked = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    ends = np.append(starts[1:], len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends + 1) / 2.0, ends - starts)
    return ranks


def _area(ranks: F64, members: NDArray[np.bool_]) -> float:
    n = int(members.sum())
    rest = len(members) - n
    if not n or not rest:
        return math.nan
    return float((ranks[members].sum() - n * (n + 1) / 2.0) / (n * rest))


def _bins(sample: Sample, j: int) -> tuple[I64, int, NDArray[np.bool_], F64]:
    """Bin of each value of a feature (missing last), how many bins, which are present, and the ranks of those."""
    made: dict[int, tuple[I64, int, NDArray[np.bool_], F64]] = sample.__dict__.setdefault("_proxy_bins", {})
    if j in made:
        return made[j]
    column = sample.rows[:, j]
    present = ~np.isnan(column)
    values = column[present]
    codes = np.empty(len(column), dtype=np.int64)
    if not len(values):
        codes[:] = 0
        made[j] = codes, 1, present, values
        return made[j]
    order = np.argsort(values)
    ranked = values[order]
    new = np.concatenate([[True], ranked[1:] != ranked[:-1]])
    starts = np.flatnonzero(new)
    if len(starts) <= BINS:
        bin_of = np.cumsum(new) - 1
    else:
        edges = np.unique(ranked[(np.arange(1, BINS) * len(ranked)) // BINS])
        bin_of = np.searchsorted(edges, ranked, side="right")
    ends = np.append(starts[1:], len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends + 1) / 2.0, ends - starts)
    found = np.empty(len(values), dtype=np.int64)
    found[order] = bin_of
    size = int(bin_of[-1]) + 1
    codes[present] = found
    codes[~present] = size
    made[j] = codes, size + (not present.all()), present, ranks
    return made[j]


def _strata(sample: Sample, given: str) -> tuple[I64, int]:
    """What the conditional information is conditional on, as codes (n,), and how many there are."""
    if given == "outcome" and sample.outcomes is not None:
        return sample.outcomes.astype(np.int64), 2
    if given == "score":
        ordered = sample.sorted_scores
        if len(ordered) >= BANDS:
            cuts = np.unique(ordered[(np.arange(1, BANDS) * len(ordered)) // BANDS])
            return np.searchsorted(cuts, sample.scores, side="right").astype(np.int64), len(cuts) + 1
    return np.zeros(len(sample), dtype=np.int64), 1


def _counts(codes: I64, size: int, grouping: Grouping, strata: I64, width: int) -> F64:
    """Counts (strata, bins, groups) of rows with a known group."""
    k = len(grouping.labels)
    known = grouping.codes >= 0
    place = (strata * size + codes) * k + grouping.codes
    if not known.all():
        place = place[known]
    return np.bincount(place, minlength=width * size * k).reshape(width, size, k).astype(np.float64)


def _areas_of_ranks(ranks: F64, present: NDArray[np.bool_], grouping: Grouping) -> F64:
    """AUC of a feature for each group against the rest, over rows that have it."""
    codes = grouping.codes[present]
    if (codes < 0).any():
        ranks = average_ranks(ranks[codes >= 0])
        codes = codes[codes >= 0]
    k = len(grouping.labels)
    n = np.bincount(codes, minlength=k).astype(np.float64)
    sums = np.bincount(codes, weights=ranks, minlength=k)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: F64 = (sums - n * (n + 1) / 2.0) / (n * (n.sum() - n))
    return found


def _areas_of_bins(flat: F64) -> F64:
    """AUC for each group when the bins are put in order of the group's share."""
    areas = np.full(flat.shape[1], np.nan)
    totals = flat.sum(axis=1)
    for g in range(flat.shape[1]):
        inside, outside = flat[:, g], totals - flat[:, g]
        if not inside.sum() or not outside.sum():
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            order = np.argsort(np.where(totals > 0, inside / totals, 0.0), kind="stable")
        below = np.concatenate([[0.0], np.cumsum(outside[order])[:-1]])
        pairs = float((inside[order] * (below + 0.5 * outside[order])).sum())
        areas[g] = pairs / (inside.sum() * outside.sum())
    return areas


def _weights(joint: F64) -> F64:
    sizes = joint.sum(axis=(1, 2))
    found: F64 = sizes / max(float(sizes.sum()), 1.0)
    return found


def _used(flat: F64, axis: int) -> int:
    return int(np.count_nonzero(flat.sum(axis=1 - axis)))


def _influence(sample: Sample) -> F64 | None:
    """Each feature's share of the score's movement: mean distance of its contributions from their mean."""
    if sample.contributions is None or not len(sample):
        return None
    moved = np.abs(sample.contributions - sample.contributions.mean(axis=0)).mean(axis=0)
    total = float(moved.sum())
    shares: F64 = moved / total if total > 0 else np.zeros_like(moved)
    return shares


PROXY = Check(
    name="fairness.proxy",
    kind="metric",
    run=proxy,
    params={name: COMMON[name] for name in ("attributes", "minimum_rows")}
    | {
        "given": Param(
            str,
            "outcome",
            "what people are alike in for the conditional information",
            choices=("outcome", "score", "nothing"),
        ),
        "maximum": Param(float, None, "largest AUC that is ok; not given: no verdict", low=0.5, high=1.0),
        "shown": Param(int, 20, "how many features are listed for an attribute", low=1, high=1_000),
    },
    stages=("release", "watch", "evidence"),
    unit="auc",
    source="Hanley and McNeil 1982; Cover and Thomas, Elements of Information Theory, chapter 2",
    needs=("sample.groups",),
    summary="How well single features, and all together, give away a protected attribute.",
)
