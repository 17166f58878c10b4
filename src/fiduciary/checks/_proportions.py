"""Shares, their ratios and differences: intervals and tests that also hold for few rows.

Counts in, numbers out; every function takes arrays of any equal shape. Intervals: Wilson (JASA 22, 1927) for
a share, Newcombe's hybrid score (Statistics in Medicine 17, 1998, method 10) for a difference, Koopman's score
(Biometrics 40, 1984) for a ratio. Tests: the pooled z, Fisher's exact and its mid-p (Lancaster, JASA 56, 1961).
tests/checks_fair/test_proportions.py holds them to statsmodels, SciPy and to exact fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._check import scipy

F64 = NDArray[np.float64]

SMALL_CELL = 5.0
"""Below this expected count in any cell of a two-by-two table the exact mid-p is used, not z (Cochran 1954)."""
FURTHEST = 200.0
"""Log-ratios beyond this are not looked at."""
MAX_SUPPORT = 2_000_001
"""Widest range of counts over which an exact p is summed; beyond it the cells are far from small."""


def normal_quantile(level: float) -> float:
    """z with P(-z < Z < z) = level."""
    return float(scipy("special").ndtri(0.5 + level / 2.0))


def wilson(count: Any, rows: Any, level: float = 0.95) -> tuple[F64, F64]:
    """Score interval of a share; (0, 1) without rows."""
    x, n = np.asarray(count, dtype=np.float64), np.asarray(rows, dtype=np.float64)
    z2 = normal_quantile(level) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        share = x / n
        middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n)
        half = np.sqrt(z2 * (share * (1.0 - share) / n + z2 / (4.0 * n * n))) / (1.0 + z2 / n)
    low = np.where(n > 0, np.where(x == 0, 0.0, middle - half), 0.0)
    high = np.where(n > 0, np.where(x == n, 1.0, middle + half), 1.0)
    return low, high


def difference_interval(x1: Any, n1: Any, x0: Any, n0: Any, level: float = 0.95) -> tuple[F64, F64]:
    """Interval of x1/n1 - x0/n0 (Newcombe's method 10)."""
    (l1, u1), (l0, u0) = wilson(x1, n1, level), wilson(x0, n0, level)
    p1, p0 = _share(x1, n1), _share(x0, n0)
    gap = p1 - p0
    low = gap - np.sqrt((p1 - l1) ** 2 + (u0 - p0) ** 2)
    high = gap + np.sqrt((u1 - p1) ** 2 + (p0 - l0) ** 2)
    return np.where(np.isnan(gap), -1.0, low), np.where(np.isnan(gap), 1.0, high)


def ratio_interval(x1: Any, n1: Any, x0: Any, n0: Any, level: float = 0.95) -> tuple[F64, F64]:
    """Interval of (x1/n1) / (x0/n0) by Koopman's score; upper end infinite when it has no bound."""
    x1, n1, x0, n0 = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (x1, n1, x0, n0)))
    limit = normal_quantile(level) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = np.log(np.maximum(x1, 0.5) / n1) - np.log(np.maximum(x0, 0.5) / n0)
        known = (n1 > 0) & (n0 > 0) & ((x1 > 0) | (x0 > 0))
        start = np.where(known, centre, 0.0)
        low = np.where(x1 > 0, np.exp(_crossing(start, -1.0, x1, n1, x0, n0, limit)), 0.0)
        high = np.where(x0 > 0, np.exp(_crossing(start, 1.0, x1, n1, x0, n0, limit)), np.inf)
    return np.where(known, low, 0.0), np.where(known, high, np.inf)


def _crossing(start: F64, side: float, x1: F64, n1: F64, x0: F64, n0: F64, limit: float) -> F64:
    """Where Koopman's statistic, as a function of the log-ratio, first passes the limit on one side."""
    inner, outer = start.copy(), start + side
    for _ in range(60):
        inside = ~(_koopman(np.exp(outer), x1, n1, x0, n0) >= limit) & (np.abs(outer) < FURTHEST)
        if not inside.any():
            break
        inner = np.where(inside, outer, inner)
        outer = np.where(inside, outer + side * np.maximum(1.0, np.abs(outer - start)), outer)
        outer = np.clip(outer, -FURTHEST, FURTHEST)
    for _ in range(80):
        middle = 0.5 * (inner + outer)
        inside = _koopman(np.exp(middle), x1, n1, x0, n0) < limit
        inner, outer = np.where(inside, middle, inner), np.where(inside, outer, middle)
        if np.all(np.abs(outer - inner) <= 1e-14 * (1.0 + np.abs(inner))):
            break
    return 0.5 * (inner + outer)


def _koopman(ratio: F64, x1: F64, n1: F64, x0: F64, n0: F64) -> F64:
    """The score statistic of H: p1 = ratio * p0, with p0 estimated under it."""
    a = (n1 + n0) * ratio
    b = -(n1 * ratio + x1 + n0 + x0 * ratio)
    c = x1 + x0
    root = np.sqrt(np.maximum(b * b - 4.0 * a * c, 0.0))
    p0 = 2.0 * c / (-b + root)
    p1 = ratio * p0
    first = (x1 - n1 * p1) ** 2 / np.maximum(n1 * p1 * (1.0 - p1), 1e-300)
    second = (x0 - n0 * p0) ** 2 / np.maximum(n0 * p0 * (1.0 - p0), 1e-300)
    # a share estimated as exactly 0 or 1 fits exactly: nothing over nothing, but for rounding
    first = np.where(np.abs(x1 - n1 * p1) <= 1e-9 * n1, 0.0, first)
    second = np.where(np.abs(x0 - n0 * p0) <= 1e-9 * n0, 0.0, second)
    with np.errstate(over="ignore"):
        found: F64 = first + second
    return found


def z_test(x1: Any, n1: Any, x0: Any, n0: Any) -> tuple[F64, F64]:
    """z and two-sided p of equal shares, pooled variance; NaN without rows, z 0 where all rows agree."""
    x1, n1, x0, n0 = (np.asarray(a, dtype=np.float64) for a in (x1, n1, x0, n0))
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (x1 + x0) / (n1 + n0)
        gap = x1 / n1 - x0 / n0
        spread = np.sqrt(pooled * (1.0 - pooled) * (1.0 / n1 + 1.0 / n0))
        z = np.where((spread == 0) & (gap == 0), 0.0, gap / spread)
    p = 2.0 * scipy("special").ndtr(-np.abs(z))
    return z, p


def smallest_expected(x1: Any, n1: Any, x0: Any, n0: Any) -> F64:
    """The smallest expected count of the two-by-two table under equal shares."""
    x1, n1, x0, n0 = (np.asarray(a, dtype=np.float64) for a in (x1, n1, x0, n0))
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (x1 + x0) / (n1 + n0)
    found: F64 = np.minimum(pooled, 1.0 - pooled) * np.minimum(n1, n0)
    return found


def exact_test(x1: int, n1: int, x0: int, n0: int) -> tuple[float, float]:
    """Two-sided p of Fisher's exact test and its mid-p.

    The p sums the probabilities of all tables, margins fixed, that are no likelier than the one seen; the
    mid-p takes those equally likely by half.
    """
    if n1 <= 0 or n0 <= 0:
        return float("nan"), float("nan")
    total = x1 + x0
    low, high = max(0, total - n0), min(n1, total)
    mean = total * n1 / (n1 + n0)
    if high - low >= MAX_SUPPORT:
        wide = MAX_SUPPORT // 2
        low, high = max(low, min(int(mean) - wide, x1)), min(high, max(int(mean) + wide, x1))
    k = np.arange(low, high + 1, dtype=np.float64)
    gammaln = scipy("special").gammaln
    logs = -(gammaln(k + 1) + gammaln(n1 - k + 1) + gammaln(total - k + 1) + gammaln(n0 - total + k + 1))
    weights = np.exp(logs - logs.max())
    chances = weights / weights.sum()
    seen = chances[x1 - low]
    equal = np.abs(chances - seen) <= 1e-7 * seen
    less = chances[(chances < seen) & ~equal].sum()
    same = chances[equal].sum()
    return float(min(1.0, less + same)), float(min(1.0, less + 0.5 * same))


def holm(p: Sequence[float] | F64) -> F64:
    """Holm's step-down adjusted p (Scandinavian Journal of Statistics 6, 1979): family-wise error."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)
    m = len(values)
    adjusted = np.minimum(1.0, np.maximum.accumulate((m - np.arange(m)) * values[order]))
    found = np.empty(m)
    found[order] = adjusted
    return found


def benjamini_hochberg(p: Sequence[float] | F64) -> F64:
    """Adjusted p for the false discovery rate (Benjamini and Hochberg, JRSS B 57, 1995)."""
    values = np.asarray(p, dtype=np.float64)
    m = len(values)
    order = np.argsort(values)[::-1]
    adjusted = np.minimum(1.0, np.minimum.accumulate(values[order] * m / (m - np.arange(m))))
    found = np.empty(m)
    found[order] = adjusted
    return found


def _share(x: Any, n: Any) -> F64:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: F64 = np.asarray(x, dtype=np.float64) / np.asarray(n, dtype=np.float64)
    return found
