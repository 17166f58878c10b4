"""The binned reference: how inputs and score were spread when the release was approved, for drift later on.

Bin edges are frozen here and signed with the release, so that every monitor counts into the same bins. Counts
only: no row can be read back, and numeric bins hold at least `MIN_COUNT` rows each where the data allow it.
Bin of x: the number of edges that are <= x (numpy.searchsorted, side="right"); missing values count apart.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import ReleaseError
from fiduciary.models import Contract, Feature, Scorer

F64 = NDArray[np.float64]
FORMAT = "fiduciary.reference/1"
BINS = 20
MIN_COUNT = 20


class Histogram(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Counts of one column: one more than there are edges, or one per category."""

    name: str
    kind: str
    """`numeric` (edges), `category` (counts in the order of the contract's categories) or `boolean`."""
    edges: list[float] = []
    counts: list[int]
    missing: int = 0


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Histograms of every feature in contract order, and of the margin."""

    format: str = FORMAT
    rows: int
    features: list[Histogram]
    margin: Histogram


def make_reference(contract: Contract, scorer: Scorer, rows: F64) -> Reference:
    """Bin rows (n, features), n >= 1, and their margins. Raises `ReleaseError` when there are none."""
    if len(rows) == 0:
        raise ReleaseError("a reference needs at least one row")
    return Reference(
        rows=len(rows),
        features=[_feature(feature, rows[:, i]) for i, feature in enumerate(contract.features)],
        margin=_numeric("margin", scorer.score(rows)),
    )


def _feature(feature: Feature, values: F64) -> Histogram:
    if feature.type in ("category", "boolean"):
        present = values[~np.isnan(values)].astype(np.int64)
        size = len(feature.categories) if feature.type == "category" else 2
        counts = np.bincount(present, minlength=size)
        missing = len(values) - len(present)
        return Histogram(name=feature.name, kind=feature.type, counts=counts.tolist(), missing=missing)
    return _numeric(feature.name, values)


def _numeric(name: str, values: F64) -> Histogram:
    present = np.sort(values[~np.isnan(values)])
    bins = max(1, min(BINS, len(present) // MIN_COUNT))
    edges = np.unique(present[(np.arange(1, bins) * len(present)) // bins]) if bins > 1 else present[:0]
    edges = edges[edges > present[0]] if len(edges) else edges  # no bin that is empty by construction
    counts = np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1)
    return Histogram(
        name=name,
        kind="numeric",
        edges=edges.tolist(),
        counts=counts.tolist(),
        missing=len(values) - len(present),
    )


def read_reference(document: Any) -> Reference:
    """A reference from `reference.json`. Raises `ReleaseError`."""
    try:
        reference = msgspec.convert(document, Reference)
    except msgspec.ValidationError as error:
        raise ReleaseError(f"reference.json is not right: {error}") from None
    if reference.format != FORMAT:
        raise ReleaseError(f"reference.json has format {reference.format[:40]!r}, not {FORMAT!r}")
    for histogram in (*reference.features, reference.margin):
        if any(a >= b for a, b in zip(histogram.edges, histogram.edges[1:], strict=False)):
            raise ReleaseError(f"the bin edges of {histogram.name!r} do not rise")
        if histogram.kind == "numeric" and len(histogram.counts) != len(histogram.edges) + 1:
            raise ReleaseError(f"{histogram.name!r} has {len(histogram.counts)} counts for its edges")
        if sum(histogram.counts) + histogram.missing != reference.rows or min(histogram.counts) < 0:
            raise ReleaseError(f"the counts of {histogram.name!r} do not add up to {reference.rows} rows")
    return reference
