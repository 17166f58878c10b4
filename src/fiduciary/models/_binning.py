"""Bins: where a scorecard cuts each feature, and what the bins say about the target.

Numbers are cut at quantiles of the training rows, with extra cuts in the tails on request, and merged until
every bin has enough rows; a monotone feature is merged further until its event rate never turns back (pool
adjacent violators: Ayer et al. 1955). Missing values have a bin of their own. Rare categories share one bin.
Weight of evidence and information value as in Siddiqi, Intelligent Credit Scoring (2017), chapter 10.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.models._contract import Feature

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SMOOTHING = 0.5
"""Added to the events and to the non-events of a bin, so that a pure bin has a finite weight of evidence."""


class BinningOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How numbers and categories are cut."""

    method: Literal["quantile", "monotone"] = "quantile"
    """`monotone`: every number is binned monotonically, in the direction its event rate leans."""
    bins: int = 20
    tails: tuple[float, ...] = (0.01,)
    """Extra cuts at these shares of the rows from either end; (0.001, 0.01) suits very rare events."""
    min_rows: int = 20
    """Fewest training rows in a bin."""


class FeatureBins(msgspec.Struct, frozen=True):
    """Cuts of one feature. `groups[k]` is the fitted bin of raw bin k (the last raw bin is missing).

    Raw bins are the intervals between `edges` (numbers) or the categories; several may share one fitted bin.
    A group of -1 was not seen in training.
    """

    feature: Feature
    edges: F64
    groups: I64
    labels: int
    """How many fitted bins there are."""
    direction: int
    """1: the fitted weights must not fall from bin to bin; -1: must not rise; 0: free."""


class EvidenceRow(msgspec.Struct, frozen=True):
    """One line of the weight-of-evidence table: positive when the bin has more non-events than average."""

    feature: str
    bin: str
    rows: int
    events: int
    event_rate: float
    weight_of_evidence: float
    information_value: float


def raw_bins(bins: FeatureBins, column: F64) -> I64:
    """Raw bin of each value of a column: number of edges at or below it; NaN: the last bin."""
    found: I64 = np.searchsorted(bins.edges, column, side="right").astype(np.int64)
    found[np.isnan(column)] = len(bins.groups) - 1
    return found


def make_bins(feature: Feature, column: F64, events: F64, options: BinningOptions) -> FeatureBins:
    """Cut one feature: column (n,) of model inputs, events (n,) of 0 and 1; training rows only."""
    known = ~np.isnan(column)
    values, outcome = column[known], events[known]
    direction = 0
    if feature.type in ("number", "integer"):
        edges = _quantile_edges(values, options)
        edges = _merge_small(edges, values, options.min_rows)
        direction = feature.monotone
        if options.method == "monotone" and not direction:
            direction = _lean(values, outcome)
        if direction:
            edges = _monotone_edges(edges, values, outcome, direction)
        edges = _short_edges(edges, values)
        groups = list(range(len(edges) + 1))
    else:
        count = 2 if feature.type == "boolean" else len(feature.categories)
        edges = np.arange(1.0, count)
        rows = np.bincount(values.astype(np.int64), minlength=count)
        groups = _category_groups(rows, options.min_rows)
        if feature.type == "boolean":
            direction = feature.monotone if min(groups) >= 0 and groups[0] != groups[1] else 0
    fitted = max(groups, default=-1) + 1
    missing = -1 if known.all() else fitted
    return FeatureBins(feature, edges, np.array([*groups, missing]), fitted + (missing >= 0), direction)


def evidence(bins: FeatureBins, column: F64, events: F64, labels: list[str]) -> list[EvidenceRow]:
    """The weight-of-evidence table of one feature; `labels` names the raw bins."""
    fitted = bins.groups[raw_bins(bins, column)]
    seen = fitted >= 0
    rows = np.bincount(fitted[seen], minlength=bins.labels)
    bad = np.bincount(fitted[seen], weights=events[seen], minlength=bins.labels)
    all_bad, all_good = events.sum(), len(events) - events.sum()
    table = []
    for k in range(bins.labels):
        share_good = (rows[k] - bad[k] + SMOOTHING) / (all_good + SMOOTHING)
        share_bad = (bad[k] + SMOOTHING) / (all_bad + SMOOTHING)
        weight = math.log(share_good / share_bad)
        members = [labels[r] for r in np.flatnonzero(bins.groups == k)]
        table.append(
            EvidenceRow(
                bins.feature.name,
                ", ".join(members),
                int(rows[k]),
                int(bad[k]),
                float(bad[k] / rows[k]) if rows[k] else math.nan,
                weight,
                float((share_good - share_bad) * weight),
            )
        )
    return table


def _quantile_edges(values: F64, options: BinningOptions) -> F64:
    if not len(values):
        return np.empty(0)
    shares = {k / options.bins for k in range(1, options.bins)}
    for tail in options.tails:
        shares |= {tail, 1.0 - tail}
    # Observed values, not interpolations: a bin starts at a value that occurs.
    edges: F64 = np.unique(np.quantile(values, sorted(shares), method="higher"))
    inner: F64 = edges[edges > values.min()]
    return inner


def _merge_small(edges: F64, values: F64, fewest: int) -> F64:
    """Drop edges until every bin has at least `fewest` rows: the smallest bin joins its smaller neighbour."""
    rows = _rows_per_bin(edges, values).tolist()
    kept = edges.tolist()
    while kept and min(rows) < fewest:
        k = rows.index(min(rows))
        join_left = k == len(rows) - 1 or (k > 0 and rows[k - 1] <= rows[k + 1])
        left = k - 1 if join_left else k
        rows[left] += rows.pop(left + 1)
        kept.pop(left)
    return np.array(kept, dtype=np.float64)


def _rows_per_bin(edges: F64, values: F64, weights: F64 | None = None) -> F64:
    where = np.searchsorted(edges, values, side="right")
    return np.bincount(where, weights=weights, minlength=len(edges) + 1).astype(np.float64)


def _lean(values: F64, outcome: F64) -> int:
    """Direction of the rank correlation with the target, 0 when there is none."""
    order = np.unique(values, return_inverse=True)[1].astype(np.float64)
    lean = float(((order - order.mean()) * (outcome - outcome.mean())).sum()) if len(values) else 0.0
    return (lean > 0) - (lean < 0)


def _monotone_edges(edges: F64, values: F64, outcome: F64, direction: int) -> F64:
    rows = _rows_per_bin(edges, values)
    bad = _rows_per_bin(edges, values, outcome)
    blocks: list[tuple[float, float, int]] = []  # rows, events, first bin
    for k in range(len(rows)):
        blocks.append((rows[k], bad[k], k))
        while len(blocks) > 1:
            (n0, b0, first), (n1, b1, _) = blocks[-2:]
            if direction * (b1 / n1 - b0 / n0) > 0:
                break
            blocks[-2:] = [(n0 + n1, b0 + b1, first)]
    return np.array([edges[first - 1] for _, _, first in blocks[1:]], dtype=np.float64)


def _short_edges(edges: F64, values: F64) -> F64:
    """Each edge as the shortest decimal that cuts the training rows at the same place.

    Easier to read, and seldom the exact figure of any one person.
    """
    ordered = np.unique(values)
    short = []
    for edge in edges.tolist():
        at = int(np.searchsorted(ordered, edge))
        before = float(ordered[at - 1]) if at else -math.inf
        short.append(_shortest_between(before, edge))
    return np.array(short, dtype=np.float64)


def _shortest_between(low: float, high: float) -> float:
    """The decimal with the fewest digits in (low, high]."""
    for digits in range(1, 17):
        rounded = float(f"{high:.{digits - 1}e}")
        step = 10.0 ** (math.floor(math.log10(abs(high))) - digits + 1) if high else 0.0
        for candidate in (rounded, float(f"{high - step:.{digits - 1}e}")):
            if low < candidate <= high:
                return candidate
    return high


def _category_groups(rows: NDArray[np.int64], fewest: int) -> list[int]:
    """Group of each category: its own when common enough, one shared by the rare, -1 when never seen."""
    groups: list[int] = []
    next_group = 0
    shared = -1
    for count in rows.tolist():
        if count == 0:
            groups.append(-1)
        elif count >= fewest:
            groups.append(next_group)
            next_group += 1
        else:
            if shared < 0:
                shared, next_group = next_group, next_group + 1
            groups.append(shared)
    return groups
