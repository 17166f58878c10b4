"""Scorecards: one weight per bin, added up; small enough to replay by hand or with the standard library.

margin = intercept + weight of feature 1's bin + weight of feature 2's bin + ..., float64 additions from left
to right in contract order. A number x lies in bin k when k of the feature's edges are <= x. The format is
described in docs/formats/scorecard.md; tests/models/test_scorecard.py replays it bit for bit with a program
of the standard library.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import ModelError
from fiduciary.models._contract import Contract
from fiduciary.models._scorer import MODEL_FILE, Link

F64 = NDArray[np.float64]

SCORECARD_FILE = "scorecard.json"
MAX_SCORECARD_BYTES = 64 << 20
MAX_EDGES = 4_096
LARGEST_WEIGHT = 1e6
FEW_ROWS = 14
"""Up to here a loop over rows is faster than numpy column by column; both give the same bits."""


class Points(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The scale on which people read a scorecard: a straight line in the log-odds.

    A margin with odds of `base_odds` to 1 against the target has `base_points`; doubling those odds adds
    `points_to_double`. Siddiqi, Intelligent Credit Scoring (2017), chapter 10.
    """

    base_points: float = 600.0
    base_odds: float = 50.0
    points_to_double: float = 20.0

    def __post_init__(self) -> None:
        if not (
            math.isfinite(self.base_points)
            and math.isfinite(self.base_odds)
            and math.isfinite(self.points_to_double)
            and self.base_odds > 0
            and self.points_to_double != 0
        ):
            raise ModelError(
                "points need a finite base, positive base odds and a non-zero step to double them"
            )

    @property
    def factor(self) -> float:
        """Points per unit of log-odds."""
        return self.points_to_double / math.log(2.0)

    def of(self, margin: float) -> float:
        """Points of a margin (log-odds of the target), not rounded."""
        return self.base_points - self.factor * (margin + math.log(self.base_odds))


class Bins(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One feature: `weights` has the log-odds of each bin, `missing` those of a missing value."""

    name: str
    kind: Literal["number", "boolean", "category"]
    edges: list[float] = []
    """Number: strictly increasing; bin k holds edges[k-1] <= x < edges[k]."""
    categories: list[str] = []
    """Category: the contract's texts, in its order. Boolean: false, then true."""
    weights: list[float]
    missing: float | None = None

    def label(self, k: int) -> str:
        """Bin k in words; k = len(weights) is the bin of missing values."""
        if k == len(self.weights):
            return "missing"
        if self.kind == "category":
            return self.categories[k]
        if self.kind == "boolean":
            return ("false", "true")[k]
        if not self.edges:
            return "any"
        if k == 0:
            return f"< {_short(self.edges[0])}"
        if k == len(self.edges):
            return f">= {_short(self.edges[-1])}"
        return f"{_short(self.edges[k - 1])} to < {_short(self.edges[k])}"


class ScorecardFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`scorecard.json`: the whole model."""

    version: Literal[1] = 1
    link: Link = "logit"
    intercept: float
    features: list[Bins]
    points: Points = Points()


class PointsRow(msgspec.Struct, frozen=True):
    """One line of the points table."""

    feature: str
    bin: str
    weight: float
    points: float


_decoder = msgspec.json.Decoder(ScorecardFile)


class Scorecard:
    """A scorecard ready to score. Immutable; safe to share between threads."""

    family = "scorecard"

    def __init__(self, card: ScorecardFile, contract: Contract) -> None:
        """Raises `ModelError` when the card contradicts itself or the contract."""
        _check(card, contract)
        self.card = card
        self.link: Link = card.link
        self.features = len(card.features)
        self.bias = card.intercept
        # Every feature becomes: edges, then +inf, so that NaN (which sorts last) finds the weight of missing.
        self._edges: list[list[float]] = []
        self._weights: list[list[float]] = []
        for bins in card.features:
            steps = bins.edges if bins.kind == "number" else [float(k) for k in range(1, len(bins.weights))]
            self._edges.append([*steps, math.inf])
            self._weights.append([*bins.weights, math.nan if bins.missing is None else bins.missing])
        self._edge_arrays = [np.array(edges) for edges in self._edges]
        self._weight_arrays = [np.array(weights) for weights in self._weights]

    def score(self, rows: F64) -> F64:
        """Margins (n,)."""
        return self.explain(rows)[0]

    def explain(self, rows: F64) -> tuple[F64, F64]:
        """Margins (n,) and the weights that were added (n, features)."""
        if len(rows) <= FEW_ROWS:
            return self._explain_few(rows)
        margins: F64 = np.full(len(rows), self.bias)
        contributions: F64 = np.empty((len(rows), self.features))
        for j, (edges, weights) in enumerate(zip(self._edge_arrays, self._weight_arrays, strict=True)):
            found = weights[np.searchsorted(edges, rows[:, j], side="right")]
            contributions[:, j] = found
            margins += found
        return margins, contributions

    def _explain_few(self, rows: F64) -> tuple[F64, F64]:
        margins: list[float] = []
        contributions: list[list[float]] = []
        for row in rows.tolist():
            margin = self.bias
            found = []
            for edges, weights, x in zip(self._edges, self._weights, row, strict=True):
                weight = weights[bisect_right(edges, x)]
                found.append(weight)
                margin += weight  # not sum(): from Python 3.12 on it compensates, and the bits would differ
            margins.append(margin)
            contributions.append(found)
        return np.array(margins), np.array(contributions).reshape(len(margins), self.features)

    def points_table(self) -> list[PointsRow]:
        """Every bin with its weight and points; the points of one bin per feature add up to the total.

        The constant of the scale is spread evenly over the features.
        """
        points, card = self.card.points, self.card
        share = points.of(card.intercept) / max(len(card.features), 1)
        table: list[PointsRow] = []
        for bins in card.features:
            weights = bins.weights if bins.missing is None else [*bins.weights, bins.missing]
            for k, weight in enumerate(weights):
                table.append(PointsRow(bins.name, bins.label(k), weight, share - points.factor * weight))
        return table

    def points(self, margins: F64) -> F64:
        """Total points of margins (n,), not rounded."""
        scale = self.card.points
        result: F64 = scale.base_points - scale.factor * (margins + math.log(scale.base_odds))
        return result

    def save(self, directory: Path | str) -> None:
        """Write `model.json` and `scorecard.json` into a directory (made if absent)."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        document = msgspec.json.format(msgspec.json.encode(self.card), indent=1) + b"\n"
        (directory / SCORECARD_FILE).write_bytes(document)
        spec = msgspec.json.encode({"version": 1, "family": self.family, "file": SCORECARD_FILE})
        (directory / MODEL_FILE).write_bytes(spec + b"\n")


def load(directory: Path, spec: dict[str, Any], contract: Contract) -> Scorecard:
    """Load `scorecard.json`. Raises `ModelError` when absent, damaged or of another contract."""
    if spec.get("version") != 1:
        raise ModelError(f"{MODEL_FILE} of a scorecard has version 1, not {spec.get('version')!r}")
    path = directory / SCORECARD_FILE
    try:
        if path.stat().st_size > MAX_SCORECARD_BYTES:
            raise ModelError(f"{SCORECARD_FILE} is larger than {MAX_SCORECARD_BYTES} bytes")
        card = _decoder.decode(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{SCORECARD_FILE} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{SCORECARD_FILE} is not a scorecard: {error}") from None
    return Scorecard(card, contract)


def _short(edge: float) -> str:
    return repr(edge).removesuffix(".0")


def _check(card: ScorecardFile, contract: Contract) -> None:
    names = tuple(bins.name for bins in card.features)
    if names != contract.names:
        raise ModelError("the scorecard's features are not the contract's, in the same order")
    if not math.isfinite(card.intercept) or abs(card.intercept) > LARGEST_WEIGHT:
        raise ModelError("the scorecard's intercept must be a finite number of log-odds")
    for bins, feature in zip(card.features, contract.features, strict=True):
        name = bins.name
        kind = "number" if feature.type == "integer" else feature.type
        if bins.kind != kind:
            raise ModelError(
                f"the scorecard takes {name!r} as a {bins.kind}, the contract as a {feature.type}"
            )
        if bins.categories != feature.categories:
            raise ModelError(f"the categories of {name!r} are not the contract's, in the same order")
        bins_wanted = {"number": len(bins.edges) + 1, "boolean": 2, "category": len(bins.categories)}[kind]
        if len(bins.weights) != bins_wanted or (bins.edges and kind != "number"):
            raise ModelError(
                f"{name!r} must have {bins_wanted} weights, one per bin, not {len(bins.weights)}"
            )
        if len(bins.edges) > MAX_EDGES or not all(a < b for a, b in itertools.pairwise(bins.edges)):
            raise ModelError(f"the edges of {name!r} must increase, at most {MAX_EDGES} of them")
        if not all(map(math.isfinite, bins.edges)):
            raise ModelError(f"the edges of {name!r} must be finite")
        if (bins.missing is None) != (feature.missing == "forbidden"):
            raise ModelError(f"{name!r} needs a weight for missing exactly when the contract allows missing")
        weights = bins.weights if bins.missing is None else [*bins.weights, bins.missing]
        if not all(math.isfinite(w) and abs(w) <= LARGEST_WEIGHT for w in weights):
            raise ModelError(f"the weights of {name!r} must be finite numbers of log-odds")
