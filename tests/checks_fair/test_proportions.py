"""Shares and their comparisons equal statsmodels, SciPy, and exact fractions where there is no library."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint, proportions_ztest

from fiduciary.checks._proportions import (
    benjamini_hochberg,
    difference_interval,
    exact_test,
    holm,
    ratio_interval,
    smallest_expected,
    wilson,
    z_test,
)

TABLES = [
    (30, 50, 60, 80),
    (3, 40, 9, 41),
    (17, 18, 500, 900),
    (1, 100, 1, 30),
    (45, 45, 30, 60),
    (400, 1000, 3, 7),
]


def counts(most: int = 60) -> st.SearchStrategy[tuple[int, int, int, int]]:
    pair = st.integers(1, most).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
    return st.tuples(pair, pair).map(lambda t: (*t[0], *t[1]))


@pytest.mark.parametrize("table", [*TABLES, (0, 20, 5, 30)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_intervals_of_shares_and_differences_equal_statsmodels(table: tuple[int, ...], level: float) -> None:
    x1, n1, x0, n0 = table
    low, high = wilson(x1, n1, level)
    assert (low, high) == pytest.approx(proportion_confint(x1, n1, 1 - level, method="wilson"), abs=1e-12)
    ours = difference_interval(x1, n1, x0, n0, level)
    theirs = confint_proportions_2indep(x1, n1, x0, n0, compare="diff", method="newcomb", alpha=1 - level)
    assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("table", TABLES)
def test_the_interval_of_a_ratio_equals_the_score_interval_of_statsmodels(table: tuple[int, ...]) -> None:
    x1, n1, x0, n0 = table
    theirs = confint_proportions_2indep(x1, n1, x0, n0, compare="ratio", method="score", correction=False)
    assert ratio_interval(x1, n1, x0, n0) == pytest.approx(theirs, rel=1e-5)


@settings(max_examples=100, deadline=None)
@given(counts())
def test_an_interval_of_a_ratio_turns_with_the_groups_and_holds_the_ratio(
    table: tuple[int, int, int, int],
) -> None:
    x1, n1, x0, n0 = table
    low, high = (float(end) for end in ratio_interval(x1, n1, x0, n0))
    back_low, back_high = (float(end) for end in ratio_interval(x0, n0, x1, n1))
    assert 0.0 <= low <= high
    if x1 and x0:
        assert low <= x1 / n1 / (x0 / n0) <= high
        assert low * back_high == pytest.approx(1.0, rel=1e-9) and high * back_low == pytest.approx(
            1.0, rel=1e-9
        )
    if not x1:
        assert low == 0.0
    if not x0:
        assert math.isinf(high)


@settings(max_examples=150, deadline=None)
@given(counts())
def test_fisher_and_mid_p_equal_exact_fractions(table: tuple[int, int, int, int]) -> None:
    x1, n1, x0, n0 = table
    total = x1 + x0
    chance = {
        k: Fraction(math.comb(n1, k) * math.comb(n0, total - k), math.comb(n1 + n0, total))
        for k in range(max(0, total - n0), min(n1, total) + 1)
    }
    seen = chance[x1]
    less = sum((p for p in chance.values() if p < seen), Fraction(0))
    equal = sum((p for p in chance.values() if p == seen), Fraction(0))
    fisher, mid = exact_test(x1, n1, x0, n0)
    assert fisher == pytest.approx(float(less + equal), abs=1e-12)
    assert mid == pytest.approx(float(less + equal / 2), abs=1e-12)


@pytest.mark.parametrize("table", [*TABLES, (9_000, 12_000, 13_000, 18_000)])
def test_tests_equal_scipy_and_statsmodels(table: tuple[int, ...]) -> None:
    x1, n1, x0, n0 = table
    theirs = stats.fisher_exact([[x1, n1 - x1], [x0, n0 - x0]])[1]
    assert exact_test(x1, n1, x0, n0)[0] == pytest.approx(theirs, rel=1e-7)
    z, p = z_test(x1, n1, x0, n0)
    assert (z, p) == pytest.approx(proportions_ztest([x1, x0], [n1, n0]), rel=1e-10)
    expected = stats.contingency.expected_freq([[x1, n1 - x1], [x0, n0 - x0]]).min()
    assert smallest_expected(x1, n1, x0, n0) == pytest.approx(expected)


@pytest.mark.parametrize(
    "p", [[0.04], [0.2, 0.01, 0.01, 1.0], np.random.default_rng(1).random(25) ** 3, [0.0] * 3]
)
def test_adjusted_p_equal_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-14)
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1], abs=1e-14)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    n1, n0, p1, p0 = 40, 120, 0.45, 0.6
    x1, x0 = rng.binomial(n1, p1, 4_000), rng.binomial(n0, p0, 4_000)
    low, high = ratio_interval(x1, n1, x0, n0)
    assert 0.94 <= ((low <= p1 / p0) & (p1 / p0 <= high)).mean() <= 0.965
    low, high = difference_interval(x1, n1, x0, n0)
    assert 0.94 <= ((low <= p1 - p0) & (p1 - p0 <= high)).mean() <= 0.97


def test_nothing_is_known_of_an_empty_group() -> None:
    assert [float(end) for end in wilson(0, 0)] == [0.0, 1.0]
    assert [float(end) for end in difference_interval(0, 0, 5, 10)] == [-1.0, 1.0]
    assert [float(end) for end in ratio_interval(0, 0, 5, 10)] == [0.0, math.inf]
    assert all(math.isnan(p) for p in exact_test(0, 0, 5, 10))
