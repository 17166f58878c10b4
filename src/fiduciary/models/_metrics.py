"""How well scores separate events from non-events: AUC and KS, exact with ties."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def auc(scores: F64, events: F64) -> float:
    """Area under the ROC curve, (n,) and (n,): the chance that an event scores above a non-event, ties half.

    NaN when one of the classes is empty. The Mann-Whitney statistic on mid-ranks.
    """
    bad = events.astype(bool)
    n_bad, n_good = int(bad.sum()), int((~bad).sum())
    if not n_bad or not n_good:
        return math.nan
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2.0
    return float((ranks[inverse][bad].sum() - n_bad * (n_bad + 1) / 2.0) / (n_bad * n_good))


def auc_error(area: float, events: F64) -> float:
    """Standard error of an AUC (Hanley and McNeil, Radiology 143, 1982)."""
    bad = int(events.sum())
    good = len(events) - bad
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    variance = area * (1 - area) + (bad - 1) * (q1 - area * area) + (good - 1) * (q2 - area * area)
    return math.sqrt(max(variance, 0.0) / (bad * good)) if bad and good else math.nan


def ks(scores: F64, events: F64) -> float:
    """Largest distance between the score distributions of events and non-events (Kolmogorov-Smirnov)."""
    bad = events.astype(bool)
    if not bad.any() or bad.all():
        return math.nan
    _, inverse = np.unique(scores, return_inverse=True)
    bad_share = np.cumsum(np.bincount(inverse, weights=bad)) / bad.sum()
    good_share = np.cumsum(np.bincount(inverse, weights=~bad)) / (~bad).sum()
    return float(np.abs(bad_share - good_share).max())
