"""What metric checks share: the refusal to judge too little, normal tails, ordered grades, corrections."""

from __future__ import annotations

import math
import re
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._result import CheckResult
from fiduciary.checks._sample import F64, Sample, Text
from fiduciary.models import Ranking

_NORMAL = NormalDist()
MAX_GRADES = 1_000


def unjudged(name: str, lacking: str, *, unit: str = "", **more: Any) -> CheckResult:
    """A result without a verdict, for want of evidence."""
    return CheckResult(
        name=name, ok=None, unit=unit, lacking=lacking, detail=f"not judged: {lacking}", **more
    )


def unscored(sample: Sample) -> str:
    """What is lacking when rows have no finite score; empty when all have one.

    Leaving such rows out would flatter a model that fails on its hardest cases, so nothing is judged.
    """
    if not len(sample):
        return "rows: the sample is empty"
    if sample.unscored:
        return f"a finite score for every row ({sample.unscored} of {len(sample)} have none)"
    return ""


def improper(sample: Sample) -> str:
    """What is lacking when scores are not probabilities."""
    if lacking := unscored(sample):
        return lacking
    ordered = sample.sorted_scores
    if ordered[0] < 0 or ordered[-1] > 1:
        return "scores that are probabilities (between 0 and 1)"
    return ""


def one_class(ranking: Ranking) -> str:
    """What is lacking when only one of the two outcomes occurs."""
    if not ranking.bad:
        return "at least one adverse event among the outcomes"
    if not ranking.good:
        return "at least one row without the adverse event"
    return ""


def of_logit(scores: F64, margins: F64 | None) -> tuple[F64, int]:
    """Log-odds of probabilities, and how many had to be held off 0 and 1 (at 1e-12)."""
    if margins is not None and np.isfinite(margins).all():
        return margins, 0
    held = np.clip(scores, 1e-12, 1 - 1e-12)
    return np.log(held) - np.log1p(-held), int(np.count_nonzero(held != scores))


def quantile(p: float) -> float:
    """Quantile of the standard normal distribution, 0 < p < 1."""
    return _NORMAL.inv_cdf(p)


def upper_tail(z: float) -> float:
    """P(Z > z) of the standard normal distribution."""
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def two_tails(z: float) -> float:
    """P(|Z| > |z|) of the standard normal distribution."""
    return math.erfc(abs(z) / math.sqrt(2.0))


def holm(p_values: list[float]) -> list[float]:
    """p-values corrected for looking at many (Holm, Scand. J. Statist. 6, 1979), in the given order."""
    n = len(p_values)
    corrected = [1.0] * n
    worst = 0.0
    for rank, i in enumerate(sorted(range(n), key=p_values.__getitem__)):
        worst = max(worst, min((n - rank) * p_values[i], 1.0))
        corrected[i] = worst
    return corrected


def corrected(p_values: list[float], correction: str) -> list[float]:
    """p-values as they are ("none"), or corrected ("holm")."""
    return holm(p_values) if correction == "holm" else list(p_values)


def natural(label: str) -> list[tuple[int, float, str]]:
    """Sorting key that puts grade 2 before grade 10."""
    parts = re.split(r"(\d+(?:\.\d+)?)", label)
    return [(0, float(p), "") if i % 2 else (1, 0.0, p) for i, p in enumerate(parts) if p]


def labels_of(array: Text) -> tuple[list[str], NDArray[np.intp]]:
    """Distinct labels as text in natural order, and for each row the place of its label; missing is
    "missing".
    """
    if array.dtype.kind == "U":
        kinds, inverse = np.unique(array, return_inverse=True)
        texts = [str(k) or "missing" for k in kinds]
    elif array.dtype.kind in "biu":
        kinds, inverse = np.unique(array, return_inverse=True)
        texts = [str(k) for k in kinds.tolist()]
    else:
        places: dict[str, int] = {}
        inverse = np.array([places.setdefault(shown(v), len(places)) for v in array.tolist()], dtype=np.intp)
        texts = list(places)
    merged: dict[str, int] = {text: i for i, text in enumerate(sorted(dict.fromkeys(texts), key=natural))}
    move = np.array([merged[text] for text in texts], dtype=np.intp)
    return list(merged), move[inverse] if len(move) else np.zeros(0, dtype=np.intp)


def shown(value: Any) -> str:
    """A label as text: whole floats without a point, missing as "missing"."""
    if value is None or value != value or value == "":
        return "missing"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def grade_bands(sample: Sample, bands: int) -> tuple[list[str], NDArray[np.intp], str]:
    """Rating grades of the sample, or bands of equal size over the score where there are none.

    Returns labels, the place of each row, and what they are in words. Tied scores stay in one band.
    """
    if sample.grades is not None:
        labels, place = labels_of(sample.grades)
        return labels, place, "grades"
    edges = band_edges(sample.sorted_scores, bands)
    place = np.searchsorted(edges, sample.scores, side="right").astype(np.intp)
    return [str(i + 1) for i in range(len(edges) + 1)], place, "score bands"


def band_edges(ordered: F64, bands: int) -> F64:
    """Inner edges of about equally full bands over ascending values, (at most bands - 1,); ties in one band.

    A value v lies in band searchsorted(edges, v, side="right"): edges are the smallest values of their band.
    """
    n = len(ordered)
    if n == 0:
        return np.zeros(0)
    cuts = ordered[np.unique(np.arange(1, bands) * n // bands)]
    cuts = np.unique(cuts)
    inner: F64 = cuts[cuts > ordered[0]]
    return inner


def group_sums(place: NDArray[np.intp], k: int, values: F64 | None = None) -> F64:
    """Rows per group, or the sum of values per group, (k,)."""
    return np.asarray(np.bincount(place, weights=values, minlength=k), dtype=np.float64)


def listed(names: list[str], most: int = 10) -> str:
    """Names in one line, cut off after `most`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def clipped(value: float, half: float, low: float, high: float) -> tuple[float, float] | None:
    """Interval value +- half within [low, high]; None when half is not a number."""
    if not math.isfinite(half):
        return None
    return max(value - half, low), min(value + half, high)
