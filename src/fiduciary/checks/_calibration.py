"""Do probabilities come true? Tests per rating grade and over the portfolio, recalibration, Brier score.

Where the sample has no rating grades, equally full score bands stand in for them. A grade's probability of
default is the mean score of its rows. One-sided tests ask whether risk is understated, the side that a
supervisor minds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._check import WATCHED, Check, Param, scipy, table
from fiduciary.checks._common import (
    corrected,
    grade_bands,
    group_sums,
    improper,
    listed,
    of_logit,
    one_class,
    quantile,
    two_tails,
    unjudged,
)
from fiduciary.checks._result import CheckResult, number, verdict
from fiduciary.checks._sample import F64, Sample, Subject

MAX_STEPS = 50
SETTLED = 1e-12


def _sample(subject: Subject) -> tuple[Sample, NDArray[np.bool_]]:
    sample = subject.sample
    assert sample is not None and sample.outcomes is not None
    return sample, sample.outcomes


def _tail_binomial(n: float, d: float, pd: float) -> float:
    """P(X >= d), X binomial(n, pd)."""
    if d <= 0:
        return 1.0
    return float(scipy("special").betainc(d, n - d + 1, pd))


def _tail_jeffreys(n: float, d: float, pd: float) -> float:
    """P(true rate <= pd) under the posterior Beta(d + 1/2, n - d + 1/2)."""
    return float(scipy("special").betainc(d + 0.5, n - d + 0.5, pd))


def jeffreys_interval(n: float, d: float, confidence: float) -> tuple[float, float]:
    """Jeffreys interval of a proportion, closed at 0 and 1 (Brown, Cai and DasGupta, Stat. Science 16,
    2001).
    """
    tail, inverse = (1 - confidence) / 2, scipy("special").betaincinv
    low = 0.0 if d == 0 else float(inverse(d + 0.5, n - d + 0.5, tail))
    high = 1.0 if d == n else float(inverse(d + 0.5, n - d + 0.5, 1 - tail))
    return low, high


def _by_grade(
    name: str,
    subject: Subject,
    tail: Callable[[float, float, float], float],
    alpha: float,
    correction: str,
    bands: int,
    overall: bool,
    confidence: float,
) -> CheckResult:
    sample, outcomes = _sample(subject)
    if lacking := improper(sample):
        return unjudged(name, lacking, unit="p-value")
    labels, place, what = grade_bands(sample, bands)
    k = len(labels)
    n, d = group_sums(place, k), group_sums(place, k, outcomes.astype(np.float64))
    expected = group_sums(place, k, sample.scores)
    rows: list[dict[str, Any]] = []
    p_values: list[float] = []
    for i, label in enumerate(labels):
        pd = min(max(expected[i] / n[i], 0.0), 1.0)
        p_values.append(tail(n[i], d[i], pd))
        rows.append(
            {
                "grade": label,
                "rows": int(n[i]),
                "events": int(d[i]),
                "pd": pd,
                "rate": d[i] / n[i],
                "p_value": p_values[-1],
                "interval": list(jeffreys_interval(n[i], d[i], confidence)),
            }
        )
    total, events = float(len(sample)), float(d.sum())
    pd = min(max(float(expected.sum()) / total, 0.0), 1.0)
    portfolio = tail(total, events, pd)
    for row, p in zip(rows, corrected(p_values, correction), strict=True):
        row["corrected"] = p
        row["ok"] = p >= alpha
    low = [row["grade"] for row in rows if not row["ok"]]
    ok = not low and (portfolio >= alpha or not overall)
    worst = min(range(k), key=p_values.__getitem__)
    said = f"{k} {what}, {int(events)} events, {pd * total:.1f} expected; portfolio p-value {portfolio:.4g}"
    if low:
        said += f"; risk is understated in {what} {listed(low)}"
    elif not ok:
        said += "; risk is understated over the portfolio"
    if not events:
        said += "; no event at all: the test cannot show that risk is overstated"
    return CheckResult(
        name=name,
        ok=ok,
        value=portfolio if overall else p_values[worst],
        unit="p-value",
        threshold=alpha,
        detail=said,
        numbers={
            "grades": rows,
            "portfolio": {
                "rows": int(total),
                "events": int(events),
                "pd": pd,
                "rate": events / total,
                "p_value": portfolio,
                "interval": list(jeffreys_interval(total, events, confidence)),
            },
            "correction": correction,
        },
    )


def binomial(
    subject: Subject, *, alpha: float, correction: str, bands: int, confidence: float
) -> CheckResult:
    """Exact one-sided binomial test per grade: P(at least as many events | the grade's PD).

    Basel Committee, Working Paper 14, 2005. The value is the smallest p-value over grades.
    """
    return _by_grade(
        "calibration.binomial", subject, _tail_binomial, alpha, correction, bands, False, confidence
    )


def jeffreys(
    subject: Subject, *, alpha: float, correction: str, bands: int, confidence: float
) -> CheckResult:
    """Jeffreys test per grade and portfolio: posterior probability that the true rate is at most the PD.

    ECB, Instructions for reporting the validation results of internal models, 2019, sec. 2.5.3.1. The value
    is the portfolio's.
    """
    return _by_grade(
        "calibration.jeffreys", subject, _tail_jeffreys, alpha, correction, bands, True, confidence
    )


def hosmer_lemeshow(subject: Subject, *, alpha: float, bands: int, fitted: bool) -> CheckResult:
    """Chi-squared of observed against expected events over grades or bands (Hosmer and Lemeshow 1980).

    Degrees of freedom: the number of groups on new data, less two on the data the model was fitted on
    (`fitted`).
    """
    name = "calibration.hosmer_lemeshow"
    sample, outcomes = _sample(subject)
    if lacking := improper(sample):
        return unjudged(name, lacking, unit="chi-squared")
    labels, place, what = grade_bands(sample, bands)
    k = len(labels)
    freedom = k - 2 if fitted else k
    if freedom < 1:
        return unjudged(name, f"at least 3 {what}: scores take {k} distinct bands only", unit="chi-squared")
    n, d = group_sums(place, k), group_sums(place, k, outcomes.astype(np.float64))
    expected = group_sums(place, k, sample.scores)
    spread = expected * (1 - expected / n)
    gap = d - expected
    certain = spread <= 0
    impossible = bool((np.abs(gap[certain]) > 0).any())
    value = math.inf if impossible else float(np.sum(gap[~certain] ** 2 / spread[~certain]))
    p_value = 0.0 if impossible else float(scipy("special").gammaincc(freedom / 2, value / 2))
    thin = int(np.count_nonzero(np.minimum(expected, n - expected) < 5))
    said = f"chi-squared {value:.3f} on {freedom} degrees of freedom over {k} {what}, p-value {p_value:.4g}"
    if impossible:
        said = f"in {int(certain.sum())} {what} the model was certain, and wrong"
    if thin:
        said += f"; fewer than 5 expected in {thin}: the approximation is rough there"
    return CheckResult(
        name=name,
        ok=p_value >= alpha,
        value=number(value),
        unit="chi-squared",
        detail=said,
        numbers={
            "p_value": p_value,
            "degrees_of_freedom": freedom,
            "alpha": alpha,
            "thin": thin,
            "groups": [
                {"group": labels[i], "rows": int(n[i]), "events": int(d[i]), "expected": float(expected[i])}
                for i in range(k)
            ],
        },
    )


def spiegelhalter(subject: Subject, *, alpha: float) -> CheckResult:
    """z of the Brier score against its expectation if all scores were true (Spiegelhalter, Stat. Med. 5,
    1986).
    """
    name = "calibration.spiegelhalter"
    sample, outcomes = _sample(subject)
    if lacking := improper(sample):
        return unjudged(name, lacking, unit="z")
    p = sample.scores
    lean = 1 - 2 * p
    spread = float(np.sum(lean * lean * p * (1 - p)))
    gap = float(np.sum((outcomes - p) * lean))
    if spread <= 0:
        return unjudged(name, "scores other than 0, 1 and one half: the test has no variance", unit="z")
    z = gap / math.sqrt(spread)
    p_value = two_tails(z)
    return CheckResult(
        name=name,
        ok=p_value >= alpha,
        value=z,
        unit="z",
        detail=f"z {z:.3f}, p-value {p_value:.4g}",
        numbers={"p_value": p_value, "alpha": alpha},
    )


def recalibrate(log_odds: F64, outcomes: NDArray[np.bool_]) -> tuple[F64, F64, float] | None:
    """Maximum likelihood of outcome ~ intercept + slope x log-odds, by Newton's method with halved steps.

    Returns coefficients (2,), their covariance (2, 2) and the log-likelihood; None when there is no maximum
    (a cut in the score parts the outcomes, or all scores are equal).
    """
    centre = float(log_odds.mean())
    x = log_odds - centre
    y = outcomes.astype(np.float64)
    if _separated(x, outcomes):
        return None
    rate = float(y.mean())
    beta = np.array([math.log(rate / (1 - rate)), 0.0])
    likelihood = _likelihood(_line(beta, x), y)
    for _ in range(MAX_STEPS):
        p = _expit(_line(beta, x))
        w = p * (1 - p)
        residual = y - p
        gradient = np.array([residual.sum(), residual @ x])
        a, b, c = float(w.sum()), float(w @ x), float(w @ (x * x))
        determinant = a * c - b * b
        if not determinant > 0:
            return None
        step = np.array([c * gradient[0] - b * gradient[1], a * gradient[1] - b * gradient[0]]) / determinant
        scale = 1.0
        while (tried := _likelihood(_line(beta + scale * step, x), y)) < likelihood - 1e-9 and scale > 1e-6:
            scale /= 2
        beta = beta + scale * step
        settled = float(np.abs(scale * step).max()) <= SETTLED * (1 + float(np.abs(beta).max()))
        likelihood = tried
        if settled or float(gradient @ step) < 1e-18 * (1 + abs(likelihood)):
            break
    else:
        return None
    p = _expit(_line(beta, x))
    w = p * (1 - p)
    a, b, c = float(w.sum()), float(w @ x), float(w @ (x * x))
    determinant = a * c - b * b
    if not determinant > 1e-14 * a * c:
        return None
    spread = np.array([[c, -b], [-b, a]]) / determinant
    turn = np.array([[1.0, -centre], [0.0, 1.0]])
    return turn @ beta, turn @ spread @ turn.T, likelihood


def _line(beta: F64, x: F64) -> F64:
    line: F64 = beta[0] + beta[1] * x
    return line


def _separated(x: F64, outcomes: NDArray[np.bool_]) -> bool:
    """Whether a cut in x parts the outcomes, ties at the cut allowed: then the likelihood has no maximum."""
    bad, good = x[outcomes], x[~outcomes]
    return bool(good.max() <= bad.min() or bad.max() <= good.min())


def _expit(z: F64) -> F64:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def _likelihood(z: F64, y: F64) -> float:
    return float(np.sum(y * z - np.maximum(z, 0.0) - np.log1p(np.exp(-np.abs(z)))))


def in_the_large(log_odds: F64, outcomes: NDArray[np.bool_]) -> tuple[float, float]:
    """Intercept of a recalibration whose slope is held at 1, and its standard error; needs both outcomes."""
    y = float(np.count_nonzero(outcomes))
    a = 0.0
    for _ in range(MAX_STEPS):
        p = _expit(a + log_odds)
        w = float(np.sum(p * (1 - p)))
        if w <= 0:
            return math.nan, math.nan
        step = min(max((y - float(p.sum())) / w, -5.0), 5.0)
        a += step
        if abs(step) <= SETTLED * (1 + abs(a)):
            break
    p = _expit(a + log_odds)
    return a, 1.0 / math.sqrt(float(np.sum(p * (1 - p))))


def slope(
    subject: Subject, *, minimum: float | None, maximum: float | None, alpha: float | None, confidence: float
) -> CheckResult:
    """Slope and intercept of a logistic recalibration (Cox, Biometrika 45, 1958); 1 and 0 are perfect.

    A slope below 1 says scores are too extreme. The likelihood ratio of (1, 0) against the fit has 2
    degrees of freedom.
    """
    name = "calibration.slope"
    sample, outcomes = _sample(subject)
    ranks = sample.ranking
    assert ranks is not None
    if lacking := improper(sample) or one_class(ranks):
        return unjudged(name, lacking)
    margins, held = of_logit(sample.scores, sample.margins)
    fit = recalibrate(margins, outcomes)
    if fit is None:
        return unjudged(name, "outcomes that overlap in score (the recalibration has no finite solution)")
    beta, spread, likelihood = fit
    z = quantile(0.5 + confidence / 2)
    value, error = float(beta[1]), math.sqrt(float(spread[1, 1]))
    large, large_error = in_the_large(margins, outcomes)
    statistic = max(2 * (likelihood - _likelihood(margins, outcomes.astype(np.float64))), 0.0)
    p_value = math.exp(-statistic / 2)  # chi-squared with 2 degrees of freedom
    verdicts = [verdict(value, minimum=minimum, maximum=maximum)]
    if alpha is not None:
        verdicts.append(p_value >= alpha)
    given = [v for v in verdicts if v is not None]
    return CheckResult(
        name=name,
        ok=all(given) if given else None,
        value=value,
        interval=(value - z * error, value + z * error),
        threshold=minimum if minimum is not None else maximum,
        detail=f"slope {value:.4f}, intercept {beta[0]:.4f}, p-value of (1, 0) {p_value:.4g}",
        numbers={
            "standard_error": error,
            "intercept": float(beta[0]),
            "intercept_standard_error": math.sqrt(float(spread[0, 0])),
            "in_the_large": number(large),
            "in_the_large_standard_error": number(large_error),
            "likelihood_ratio": statistic,
            "p_value": p_value,
            "held_off_0_and_1": held,
        },
    )


def brier(subject: Subject, *, maximum: float | None, minimum_skill: float | None, bands: int) -> CheckResult:
    """Mean squared error of probabilities, split into reliability - resolution + uncertainty + within bands.

    Brier, Monthly Weather Review 78, 1950; Murphy, J. Appl. Meteorology 12, 1973; the remainder within
    bands (variance less twice the covariance with outcomes): Stephenson, Coelho and Jolliffe, Weather and
    Forecasting 23, 2008.
    """
    name = "calibration.brier"
    sample, outcomes = _sample(subject)
    if lacking := improper(sample):
        return unjudged(name, lacking, unit="squared error")
    p, y = sample.scores, outcomes.astype(np.float64)
    value = float(np.mean((p - y) ** 2))
    labels, place, _ = grade_bands(sample, bands)
    k = len(labels)
    n = group_sums(place, k)
    mean, rate = group_sums(place, k, p) / n, group_sums(place, k, y) / n
    base, total = float(y.mean()), float(len(y))
    reliability = float(n @ (mean - rate) ** 2 / total)
    resolution = float(n @ (rate - base) ** 2 / total)
    uncertainty = base * (1 - base)
    off = p - mean[place]
    within = float(np.mean(off * off) - 2 * np.mean(off * (y - rate[place])))
    skill = 1 - value / uncertainty if uncertainty > 0 else math.nan
    error = float(np.std((p - y) ** 2, ddof=1)) / math.sqrt(total) if total > 1 else math.nan
    verdicts = [
        v for v in (verdict(value, maximum=maximum), verdict(skill, minimum=minimum_skill)) if v is not None
    ]
    return CheckResult(
        name=name,
        ok=all(verdicts) if verdicts else None,
        value=value,
        unit="squared error",
        threshold=maximum,
        lacking=""
        if uncertainty > 0 or minimum_skill is None
        else "outcomes of both kinds, for a skill score",
        detail=f"{value:.5f}; skill {skill:.4f} over the base rate {base:.4f}"
        if uncertainty > 0
        else f"{value:.5f}; outcomes of one kind only",
        numbers={
            "reliability": reliability,
            "resolution": resolution,
            "uncertainty": uncertainty,
            "within_bands": within,
            "skill": number(skill),
            "standard_error": number(error),
            "base_rate": base,
            "bands": [
                {"band": labels[i], "rows": int(n[i]), "mean_score": float(mean[i]), "rate": float(rate[i])}
                for i in range(k)
            ],
        },
    )


_ALPHA = Param(float, 0.05, "fails when a p-value is below this", 0, 1)
_BANDS = Param(int, 10, "score bands where the sample has no rating grades", 2, 1_000)
_CONFIDENCE = Param(float, 0.95, "confidence of the intervals", 0.5, 0.9999)
_CORRECTION = Param(str, "holm", "correction for looking at many grades", choices=("holm", "none"))
_NEEDS = ("sample", "sample.outcomes")
_PER_GRADE = {"alpha": _ALPHA, "correction": _CORRECTION, "bands": _BANDS, "confidence": _CONFIDENCE}

CHECKS = table(
    [
        Check(
            "calibration.binomial",
            "metric",
            binomial,
            _PER_GRADE,
            WATCHED,
            "p-value",
            "Basel Committee Working Paper 14, 2005",
            _NEEDS,
            "exact one-sided binomial test of each grade's PD",
        ),
        Check(
            "calibration.jeffreys",
            "metric",
            jeffreys,
            _PER_GRADE,
            WATCHED,
            "p-value",
            "CRR Art. 185; ECB validation reporting 2019",
            _NEEDS,
            "Jeffreys test of each grade's and the portfolio's PD",
        ),
        Check(
            "calibration.hosmer_lemeshow",
            "metric",
            hosmer_lemeshow,
            {
                "alpha": _ALPHA,
                "bands": _BANDS,
                "fitted": Param(bool, False, "the sample is the one the model was fitted on"),
            },
            WATCHED,
            "chi-squared",
            "Hosmer and Lemeshow 1980",
            _NEEDS,
            "observed against expected events over all grades",
        ),
        Check(
            "calibration.spiegelhalter",
            "metric",
            spiegelhalter,
            {"alpha": _ALPHA},
            WATCHED,
            "z",
            "Spiegelhalter 1986",
            _NEEDS,
            "z of the Brier score against its expectation",
        ),
        Check(
            "calibration.slope",
            "metric",
            slope,
            {
                "minimum": Param(float, None, "smallest slope that passes"),
                "maximum": Param(float, None, "largest slope that passes"),
                "alpha": Param(
                    float, None, "fails when (slope 1, intercept 0) has a p-value below this", 0, 1
                ),
                "confidence": _CONFIDENCE,
            },
            WATCHED,
            "",
            "Cox 1958",
            _NEEDS,
            "slope and intercept of a logistic recalibration",
        ),
        Check(
            "calibration.brier",
            "metric",
            brier,
            {
                "maximum": Param(float, None, "largest Brier score that passes", 0, 1),
                "minimum_skill": Param(float, None, "smallest skill over the base rate that passes", -10, 1),
                "bands": _BANDS,
            },
            WATCHED,
            "squared error",
            "Brier 1950; Murphy 1973; Stephenson et al. 2008",
            _NEEDS,
            "Brier score with Murphy's decomposition",
        ),
    ]
)
