"""Discrimination against scikit-learn, SciPy and DeLong's estimator written out pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from fiduciary.checks import Sample, Subject, battery, run_check
from fiduciary.checks._discrimination import auc_with_error, kolmogorov_tail
from fiduciary.models import ranking

NAMES = ["discrimination." + x for x in ("auc", "gini", "ks", "cap", "average_precision")]


def sample_of(scores: object, outcomes: object, **more: object) -> Sample:
    s = np.asarray(scores, dtype=np.float64)
    return Sample(
        rows=np.zeros((len(s), 0)), names=(), scores=s, outcomes=np.asarray(outcomes, dtype=bool), **more
    )


def drawn(seed: int, n: int = 400, ties: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(n) * ties) / ties
    return scores, rng.random(n) < 0.1 + 0.6 * scores


def delong_by_pairs(scores: np.ndarray, bad: np.ndarray) -> tuple[float, float]:
    x, y = scores[bad], scores[~bad]
    psi = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
    return psi.mean(), math.sqrt(psi.mean(1).var(ddof=1) / len(x) + psi.mean(0).var(ddof=1) / len(y))


@pytest.mark.parametrize("seed", range(8))
def test_against_oracles(seed: int) -> None:
    scores, bad = drawn(seed)
    auc, gini, ks, cap, precision = battery(Subject(sample=sample_of(scores, bad)), NAMES)
    area, error = delong_by_pairs(scores, bad)
    assert auc.value == pytest.approx(roc_auc_score(bad, scores), abs=1e-12)
    assert auc.value == pytest.approx(area, abs=1e-12)
    assert auc.numbers["standard_error"] == pytest.approx(error, abs=1e-12)
    z = stats.norm.ppf(0.975)
    assert auc.interval == pytest.approx((area - z * error, area + z * error), abs=1e-9)
    assert gini.value == pytest.approx(2 * area - 1, abs=1e-12)
    assert gini.value == pytest.approx(stats.somersd(bad, scores).statistic, abs=1e-9)
    assert cap.value == pytest.approx(gini.value, abs=1e-12)  # two ways to one number
    theirs = stats.ks_2samp(scores[bad], scores[~bad], method="asymp")
    assert ks.value == pytest.approx(theirs.statistic, abs=1e-12)
    assert ks.numbers["score"] == theirs.statistic_location
    assert precision.value == pytest.approx(average_precision_score(bad, scores), abs=1e-12)


@pytest.mark.parametrize("x", [0.01, 0.2, 0.5, 1.0, 1.179, 1.181, 1.5, 2.5, 4.0])
def test_kolmogorov_tail(x: float) -> None:
    assert kolmogorov_tail(x) == pytest.approx(stats.kstwobign.sf(x), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_any_small_sample_gives_a_plain_result(pairs: list[tuple[int, bool]]) -> None:
    scores, bad = np.array([p[0] / 5 for p in pairs]), np.array([p[1] for p in pairs])
    for result in battery(Subject(sample=sample_of(scores, bad)), NAMES):
        if bad.all() or not bad.any():
            assert result.ok is None and result.value is None and result.lacking
        else:
            assert result.value is not None and math.isfinite(result.value)
    if bad.any() and not bad.all():
        area, error = auc_with_error(ranking(scores, bad))
        flipped, again = auc_with_error(ranking(-scores, bad))
        assert area + flipped == pytest.approx(1.0)
        if not math.isnan(error):
            assert error == pytest.approx(again, abs=1e-12)


def test_a_row_without_a_score_is_not_left_out_in_silence() -> None:
    scores, bad = drawn(1)
    scores[3] = np.nan
    for result in battery(Subject(sample=sample_of(scores, bad)), NAMES):
        assert result.ok is None and "1 of 400" in result.lacking


def test_change_since_development_and_the_verdict() -> None:
    scores, bad = drawn(2, 2000)
    now, then = sample_of(scores, np.roll(bad, 1)), sample_of(scores, bad)
    subject = Subject(sample=now, development=then)
    params = {"minimum": 0.6, "maximum_drop": 0.05, "drop_alpha": 0.05}
    result = run_check("discrimination.auc", subject, params)
    area, error = delong_by_pairs(scores, np.roll(bad, 1))
    before = roc_auc_score(bad, scores)
    change = result.numbers["development"]
    assert change["p_value"] == pytest.approx(stats.norm.sf((before - area) / error), abs=1e-12)
    assert result.ok is False
    assert run_check("discrimination.auc", Subject(sample=then), {"minimum": 0.6}).ok is True
    edge = run_check("discrimination.auc", Subject(sample=then), {"minimum": before - 1e-6})
    lower = run_check(
        "discrimination.auc", Subject(sample=then), {"minimum": before - 1e-6, "judge": "lower"}
    )
    assert edge.ok is True and lower.ok is False


def test_segments() -> None:
    scores, bad = drawn(3)
    segments = np.where(np.arange(400) % 2, "retail", "corporate")
    result = run_check("discrimination.auc", Subject(sample=sample_of(scores, bad, segments=segments)))
    for label in ("retail", "corporate"):
        own = segments == label
        assert result.numbers["segments"][label]["value"] == pytest.approx(
            roc_auc_score(bad[own], scores[own])
        )
