"""How well scores separate events from non-events: one ranking, and the AUC and KS read off it, exact with ties."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


class Ranking(msgspec.Struct, frozen=True):
    """Scores with outcomes, tied scores together, riskiest last. Rows without a finite score are left out."""

    values: F64
    """Distinct scores, ascending, (k,)."""
    events: F64
    """Adverse events at each score, (k,)."""
    rest: F64
    """Rows without the event at each score, (k,)."""
    inverse: NDArray[np.intp]
    """For each kept row, the place of its score in `values`, (m,)."""
    outcomes: NDArray[np.bool_]
    """For each kept row, whether the event happened, (m,)."""

    @property
    def bad(self) -> int:
        """How many events."""
        return int(self.events.sum())

    @property
    def good(self) -> int:
        """How many rows without the event."""
        return int(self.rest.sum())


def ranking(scores: F64, outcomes: NDArray[np.bool_] | F64) -> Ranking:
    """Sort once: distinct scores with their events. Rows without a finite score are left out."""
    scores = np.asarray(scores, dtype=np.float64)
    events = np.asarray(outcomes, dtype=np.bool_)
    finite = np.isfinite(scores)
    if not finite.all():
        scores, events = scores[finite], events[finite]
    order = np.argsort(scores)
    ordered = scores[order]
    new = np.empty(len(ordered), dtype=np.bool_)
    new[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    place = np.cumsum(new) - 1
    inverse = np.empty(len(ordered), dtype=np.intp)
    inverse[order] = place
    k = int(place[-1]) + 1 if len(place) else 0
    bad = np.bincount(inverse[events], minlength=k).astype(np.float64)
    total = np.bincount(inverse, minlength=k)
    return Ranking(ordered[new], bad, total - bad, inverse, events)


def auc(scores: F64, events: F64) -> float:
    """Area under the ROC curve, (n,) and (n,): the chance that an event scores above a non-event, ties half.

    NaN when one of the classes is empty. The Mann-Whitney statistic on mid-ranks.
    """
    ranks = ranking(scores, events)
    if not ranks.bad or not ranks.good:
        return math.nan
    below = np.cumsum(ranks.rest) - ranks.rest / 2.0
    return float(ranks.events @ below / (ranks.bad * ranks.good))


def auc_error(area: float, events: F64) -> float:
    """Standard error of an AUC (Hanley and McNeil, Radiology 143, 1982)."""
    bad = int(events.sum())
    good = len(events) - bad
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    variance = area * (1 - area) + (bad - 1) * (q1 - area * area) + (good - 1) * (q2 - area * area)
    return math.sqrt(max(variance, 0.0) / (bad * good)) if bad and good else math.nan


def ks(scores: F64, events: F64) -> float:
    """Largest distance between the score distributions of events and non-events (Kolmogorov-Smirnov)."""
    return ks_at(ranking(scores, events))[0]


def ks_at(ranks: Ranking) -> tuple[float, int]:
    """The Kolmogorov-Smirnov distance, and the place in `ranks.values` where it lies; NaN when a class is empty."""
    if not ranks.bad or not ranks.good:
        return math.nan, 0
    gaps = np.abs(np.cumsum(ranks.events) / ranks.bad - np.cumsum(ranks.rest) / ranks.good)
    at = int(np.argmax(gaps))
    return float(gaps[at]), at
