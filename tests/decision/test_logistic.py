"""The logistic function has one set of bits and is right."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fiduciary.models._logistic import logistic, logistic_array


@given(st.floats(allow_nan=False))
def test_scalar_and_array_have_the_same_bits(margin: float) -> None:
    assert logistic(margin) == logistic_array(np.array([margin]))[0]


def test_many_margins_have_the_same_bits_in_any_batch() -> None:
    margins = np.random.default_rng(7).normal(0, 8, 20_000)
    whole = logistic_array(margins)
    assert whole.tolist() == [logistic(m) for m in margins.tolist()]
    assert logistic_array(margins[3:10]).tolist() == whole[3:10].tolist()


def test_it_is_the_logistic_function_to_two_units_in_the_last_place() -> None:
    for margin in np.random.default_rng(3).normal(0, 12, 2_000).tolist():
        exact = Fraction(1) / (1 + Fraction(math.exp(-margin)))
        assert abs(Fraction(logistic(margin)) - exact) <= 4 * Fraction(math.ulp(float(exact)))


def test_edges() -> None:
    assert logistic(0.0) == 0.5
    assert logistic(math.inf) == logistic(800.0) == 1.0
    assert 0.0 < logistic(-math.inf) == logistic(-800.0) < 1e-300
    assert math.isnan(logistic(math.nan))
