"""Probe rows with the exact answers they got when the release was built: does this machine give those bits?

A library of another version, another processor, a damaged kernel: any of these may move a score in its last
digits, and then replay is over. So each load scores the probes and compares bit for bit before it serves. The
rows are made from the contract and the bin edges, by rule; no person's row is among them.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import ReleaseError
from fiduciary.models import Contract, Feature, Scorer
from fiduciary.registry._reference import Histogram, Reference

F64 = NDArray[np.float64]
FORMAT = "fiduciary.probes/1"
COUNT = 64
MAX_PROBES = 1_024


class Probes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rows in contract order (null: missing), margins and contributions as shortest round-trip decimals."""

    format: str = FORMAT
    rows: list[list[float | None]]
    margins: list[float]
    contributions: list[list[float]]

    def array(self) -> F64:
        """The rows as float64 (n, features), missing as NaN."""
        return np.array([[math.nan if v is None else v for v in row] for row in self.rows], dtype=np.float64)


def candidates(feature: Feature, histogram: Histogram) -> list[float]:
    """Values worth trying: at and between bin edges, each category, both ends of the range, missing."""
    if feature.type == "category":
        values = [float(i) for i in range(min(len(feature.categories), 64))]
    elif feature.type == "boolean":
        values = [0.0, 1.0]
    else:
        low = feature.minimum if feature.minimum is not None else (histogram.edges or [0.0])[0] - 1.0
        high = feature.maximum if feature.maximum is not None else (histogram.edges or [0.0])[-1] + 1.0
        middle = [(a + b) / 2 for a, b in zip(histogram.edges, histogram.edges[1:], strict=False)]
        inner = sorted({*histogram.edges, *middle})
        values = [float(low), *(v for v in inner if low < v < high), float(high)]
        if feature.type == "integer":
            values = sorted({float(math.floor(v)) for v in values if math.floor(v) >= low})
    if feature.missing == "allowed":
        values.insert(0, math.nan)  # first, so that it is among the probes however many values there are
    return values


def probe_rows(contract: Contract, reference: Reference) -> F64:
    """64 rows, shape (64, features): by rule, the same for the same contract and reference.

    Each feature runs over all its candidate values from first to last, each in an order of its own (an odd
    step modulo 64), so that values of different features meet in different combinations.
    """
    rows = np.empty((COUNT, len(contract.features)), dtype=np.float64)
    for j, (feature, histogram) in enumerate(zip(contract.features, reference.features, strict=True)):
        values = candidates(feature, histogram)
        for k in range(COUNT):
            place = (k * (2 * j + 1) + j * j) % COUNT
            rows[k, j] = values[place * len(values) // COUNT]
    return rows


def make_probes(contract: Contract, reference: Reference, scorer: Scorer) -> Probes:
    """Score and explain the probe rows."""
    rows = probe_rows(contract, reference)
    margins, contributions = scorer.explain(rows)
    return Probes(
        rows=[[None if math.isnan(v) else v for v in row] for row in rows.tolist()],
        margins=margins.tolist(),
        contributions=contributions.tolist(),
    )


def read_probes(document: Any, features: int) -> Probes:
    """Probes from `probes.json`. Raises `ReleaseError`."""
    try:
        probes = msgspec.convert(document, Probes)
    except msgspec.ValidationError as error:
        raise ReleaseError(f"probes.json is not right: {error}") from None
    n = len(probes.rows)
    widths = {len(row) for row in probes.rows} | {len(row) for row in probes.contributions}
    if probes.format != FORMAT or not 1 <= n <= MAX_PROBES or widths != {features}:
        raise ReleaseError(f"probes.json must hold 1 to {MAX_PROBES} rows of {features} features")
    if len(probes.margins) != n or len(probes.contributions) != n:
        raise ReleaseError("probes.json must hold a margin and contributions for each row")
    return probes


def reproduces(probes: Probes, scorer: Scorer) -> bool:
    """True when this machine gives every margin and contribution bit for bit, in one batch and row by row."""
    rows = probes.array()
    expected, split = np.array(probes.margins), np.array(probes.contributions)
    margins, contributions = scorer.explain(rows)
    single = np.concatenate([scorer.score(rows[i : i + 1]) for i in range(len(rows))])
    answers = (
        (margins, expected),
        (scorer.score(rows), expected),
        (single, expected),
        (contributions, split),
    )
    return all(np.array_equal(given, wanted) for given, wanted in answers)  # JSON does not tell -0 from 0
