"""Calibration against SciPy and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.metrics import brier_score_loss

from fiduciary.checks import Sample, Subject, battery, run_check
from fiduciary.checks._calibration import in_the_large, jeffreys_interval, recalibrate

NAMES = [
    "calibration." + x for x in ("binomial", "jeffreys", "hosmer_lemeshow", "spiegelhalter", "slope", "brier")
]


def sample_of(scores: object, outcomes: object, grades: object = None) -> Sample:
    s = np.asarray(scores, dtype=np.float64)
    return Sample(
        rows=np.zeros((len(s), 0)),
        names=(),
        scores=s,
        outcomes=np.asarray(outcomes, dtype=bool),
        grades=None if grades is None else np.asarray(grades),
    )


def drawn(seed: int, n: int = 3000, factor: float = 1.0) -> Sample:
    rng = np.random.default_rng(seed)
    pds = np.array([0.005, 0.01, 0.03, 0.08, 0.2])
    grade = rng.integers(0, 5, n)
    p = pds[grade] * rng.uniform(0.8, 1.25, n)
    return sample_of(p, rng.random(n) < p * factor, np.array(list("ABCDE"))[grade])


@pytest.mark.parametrize("seed", range(4))
def test_per_grade_tests(seed: int) -> None:
    sample = drawn(seed)
    binomial, jeffreys = battery(Subject(sample=sample), NAMES[:2])
    assert sample.outcomes is not None and sample.grades is not None
    for row in binomial.numbers["grades"]:
        own = sample.grades == row["grade"]
        n, d, pd = int(own.sum()), int(sample.outcomes[own].sum()), sample.scores[own].mean()
        assert (row["rows"], row["events"]) == (n, d)
        assert row["pd"] == pytest.approx(pd, abs=1e-12)
        expected = stats.binomtest(d, n, pd, alternative="greater").pvalue
        assert row["p_value"] == pytest.approx(expected, abs=1e-9)
    for row in jeffreys.numbers["grades"]:
        n, d = row["rows"], row["events"]
        assert row["p_value"] == pytest.approx(stats.beta.cdf(row["pd"], d + 0.5, n - d + 0.5), abs=1e-9)
        low, high = sm.stats.proportion_confint(d, n, method="jeffreys")
        assert row["interval"][1] == pytest.approx(high, abs=1e-9)
        assert row["interval"][0] == pytest.approx(low if d else 0.0, abs=1e-9)
    raw = [row["p_value"] for row in jeffreys.numbers["grades"]]
    theirs = sm.stats.multipletests(raw, method="holm")[1]
    assert [row["corrected"] for row in jeffreys.numbers["grades"]] == pytest.approx(list(theirs), abs=1e-12)


def test_understated_risk_fails_and_overstated_does_not() -> None:
    for name in NAMES[:2]:
        assert run_check(name, Subject(sample=drawn(1, factor=2.0))).ok is False
        assert run_check(name, Subject(sample=drawn(1, factor=0.5))).ok is True


def test_no_default_in_a_grade_and_none_at_all() -> None:
    sample = sample_of([0.01] * 50 + [0.02] * 50, [False] * 100, ["A"] * 50 + ["B"] * 50)
    binomial, jeffreys = battery(Subject(sample=sample), NAMES[:2])
    assert binomial.ok is True and [r["p_value"] for r in binomial.numbers["grades"]] == [1.0, 1.0]
    assert jeffreys.ok is True
    assert [r["interval"][0] for r in jeffreys.numbers["grades"]] == [0.0, 0.0]
    assert jeffreys_interval(5, 5, 0.95)[1] == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_hosmer_lemeshow_and_spiegelhalter(seed: int) -> None:
    sample = drawn(seed)
    p, y = sample.scores, np.asarray(sample.outcomes, dtype=float)
    hl, z = battery(Subject(sample=sample), NAMES[2:4])
    statistic = 0.0
    for grade in "ABCDE":
        own = sample.grades == grade
        for side, expected in ((y[own], p[own].sum()), (1 - y[own], (1 - p[own]).sum())):
            statistic += (side.sum() - expected) ** 2 / expected
    assert hl.value == pytest.approx(statistic, abs=1e-9)
    assert hl.numbers["p_value"] == pytest.approx(stats.chi2.sf(statistic, 5), abs=1e-9)
    mean, spread = (p * (1 - p)).sum(), (p * (1 - p) * (1 - 2 * p) ** 2).sum()
    assert z.value == pytest.approx((((y - p) ** 2).sum() - mean) / math.sqrt(spread), abs=1e-9)
    assert z.numbers["p_value"] == pytest.approx(2 * stats.norm.sf(abs(z.value or 0)), abs=1e-12)


def test_certain_and_wrong() -> None:
    sample = sample_of([0.0] * 10 + [1.0] * 10 + [0.5] * 10, [True] + [False] * 9 + [True] * 15 + [False] * 5)
    result = run_check("calibration.hosmer_lemeshow", Subject(sample=sample), {"bands": 3})
    assert result.ok is False and result.value is None and result.numbers["p_value"] == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_slope_against_statsmodels(seed: int) -> None:
    sample = drawn(seed, 4000, 0.7)
    x = np.log(sample.scores / (1 - sample.scores))
    y = np.asarray(sample.outcomes, dtype=float)
    fit = sm.Logit(y, sm.add_constant(x)).fit(disp=0, tol=1e-14, maxiter=100)
    result = run_check("calibration.slope", Subject(sample=sample))
    assert result.value == pytest.approx(fit.params[1], abs=1e-9)
    assert result.numbers["intercept"] == pytest.approx(fit.params[0], abs=1e-9)
    assert result.numbers["standard_error"] == pytest.approx(fit.bse[1], abs=1e-9)
    assert result.numbers["intercept_standard_error"] == pytest.approx(fit.bse[0], abs=1e-9)
    fixed = np.sum(y * x - np.logaddexp(0, x))
    assert result.numbers["p_value"] == pytest.approx(stats.chi2.sf(2 * (fit.llf - fixed), 2), abs=1e-9)
    offset = sm.GLM(y, np.ones((len(y), 1)), family=sm.families.Binomial(), offset=x).fit(tol=1e-14)
    large, error = in_the_large(x, y.astype(bool))
    assert large == pytest.approx(offset.params[0], abs=1e-9)
    assert error == pytest.approx(offset.bse[0], abs=1e-7)


def test_separated_outcomes_have_no_slope() -> None:
    assert recalibrate(np.arange(10.0), np.arange(10) > 4) is None
    result = run_check(
        "calibration.slope", Subject(sample=sample_of(np.linspace(0.1, 0.9, 10), np.arange(10) > 4))
    )
    assert result.ok is None and "overlap" in result.lacking


@pytest.mark.parametrize("seed", range(3))
def test_brier_and_its_parts(seed: int) -> None:
    sample = drawn(seed)
    result = run_check("calibration.brier", Subject(sample=sample), {"maximum": 0.25})
    assert result.ok is True
    assert result.value == pytest.approx(brier_score_loss(sample.outcomes, sample.scores), abs=1e-12)
    n = result.numbers
    parts = n["reliability"] - n["resolution"] + n["uncertainty"] + n["within_bands"]
    assert parts == pytest.approx(result.value, abs=1e-12)
    assert min(n["reliability"], n["resolution"], n["uncertainty"]) >= 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("outcomes", [[True] * 6, [False] * 6, [True, False] * 3, []])
@pytest.mark.parametrize("score", [0.0, 0.3, 1.0, np.nan, 2.0])
def test_degenerate_samples_give_a_plain_result(outcomes: list[bool], score: float) -> None:
    for result in battery(Subject(sample=sample_of([score] * len(outcomes), outcomes)), NAMES):
        assert result.value is None or math.isfinite(result.value)
        assert result.detail
        if not outcomes or not 0 <= score <= 1:
            assert result.ok is None and result.lacking
