"""The logistic function in basic IEEE 754 operations, so that every machine gives the same bits.

`exp` of a C library or of a vector unit may differ in the last bit from one processor to the next, and a
replayed decision must not. Here exp(x) = 2**k * exp(r) with r = x - k*ln2 in two parts (Cody and Waite, 1980)
and a Taylor polynomial for |r| <= ln2/2 whose remainder is below one unit in the last place. Only additions,
multiplications, one division and exact powers of two are used, in the same order in the scalar and in the
array form, and in the offline verifier.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

INVERSE_LN2 = 1.4426950408889634
LN2_HIGH = 6.93147180369123816490e-01
"""ln 2 with its low 32 bits cleared: k * LN2_HIGH is exact for every k that occurs."""
LN2_LOW = 1.90821492927058770002e-10
COEFFICIENTS = tuple(1.0 / math.factorial(n) for n in range(13, -1, -1))
LIMIT = 700.0
"""Beyond this margin the answer is 0 or 1 to every digit a float64 near 1 can hold; it is clamped."""


def logistic(margin: float) -> float:
    """Probability of log-odds `margin`: 1 / (1 + exp(-margin)), in (0, 1]; NaN stays NaN.

    The bits equal those of `logistic_array` for the same margin.
    """
    x = min(max(-margin, -LIMIT), LIMIT)
    if x != x:
        return x
    k = float(round(x * INVERSE_LN2))  # Python rounds half to even, as np.rint does
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    p = COEFFICIENTS[0]
    for c in COEFFICIENTS[1:]:
        p = p * r + c
    return 1.0 / (1.0 + math.ldexp(p, int(k)))


def logistic_array(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """`logistic` of every element (any shape), with the same bits."""
    x = np.minimum(np.maximum(-margins, -LIMIT), LIMIT)
    k = np.rint(x * INVERSE_LN2)
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    p = np.full_like(r, COEFFICIENTS[0])
    for c in COEFFICIENTS[1:]:
        p = p * r + c
    finite = np.where(np.isnan(k), 0.0, k).astype(np.int32)
    result: NDArray[np.float64] = 1.0 / (1.0 + np.ldexp(p, finite))
    return result
