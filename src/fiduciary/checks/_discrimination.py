"""Does the score order risk? AUC, Gini, Kolmogorov-Smirnov, the cumulative accuracy profile, average precision.

All five are read off one ranking of the sample (`Sample.ranking`): distinct scores with the events at each, so ties
are exact and the sort is paid once. Rows count alike; weights are not used.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fiduciary.checks._check import WATCHED, Check, Param, table
from fiduciary.checks._common import clipped, labels_of, one_class, quantile, unjudged, unscored, upper_tail
from fiduciary.checks._result import CheckResult, number, verdict
from fiduciary.checks._sample import Sample, Subject
from fiduciary.models import Ranking, ks_at, ranking

MAX_SEGMENTS = 100


def auc_with_error(ranks: Ranking) -> tuple[float, float]:
    """Area under the ROC curve and its standard error (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988).

    The structural components are read off mid-ranks (Sun and Xu, IEEE Signal Proc. Letters 21, 2014), O(n log n) for
    the sort and O(n) after it. The error is NaN with fewer than two rows of a class; both when a class is empty.
    """
    bad, good = ranks.events, ranks.rest
    n_bad, n_good = bad.sum(), good.sum()
    if not n_bad or not n_good:
        return math.nan, math.nan
    below = np.cumsum(good) - good / 2.0  # non-events below each score, ties half
    above = n_bad - np.cumsum(bad) + bad / 2.0  # events above each score, ties half
    area = float(bad @ below / (n_bad * n_good))
    if n_bad < 2 or n_good < 2:
        return area, math.nan
    of_bad = bad @ (below / n_good - area) ** 2 / (n_bad - 1)
    of_good = good @ (above / n_bad - area) ** 2 / (n_good - 1)
    return area, math.sqrt(of_bad / n_bad + of_good / n_good)


def _ranks(subject: Subject) -> tuple[Sample, Ranking]:
    sample = subject.sample
    assert sample is not None
    ranks = sample.ranking
    assert ranks is not None
    return sample, ranks


def _lacking(sample: Sample, ranks: Ranking) -> str:
    return unscored(sample) or one_class(ranks)


def _area(name: str, subject: Subject, scale: float, shift: float, params: dict[str, Any]) -> CheckResult:
    """AUC, or scale x AUC + shift, with its interval and its change since development."""
    sample, ranks = _ranks(subject)
    if lacking := _lacking(sample, ranks):
        return unjudged(name, lacking)
    area, error = auc_with_error(ranks)
    value = scale * area + shift
    z = quantile(0.5 + params["confidence"] / 2)
    interval = clipped(value, scale * z * error, shift, 1.0)
    numbers: dict[str, Any] = {
        "events": ranks.bad,
        "rest": ranks.good,
        "standard_error": number(scale * error),
        "confidence": params["confidence"],
    }
    judged = interval[0] if interval and params["judge"] == "lower" else value
    verdicts = [verdict(judged, minimum=params["minimum"])]
    if params["judge"] == "lower" and interval is None and params["minimum"] is not None:
        return unjudged(
            name, "at least two rows of each outcome, for an interval", value=value, numbers=numbers
        )
    said = [f"{value:.4f}"]
    if interval is not None:
        said.append(f"({params['confidence']:.0%} interval {interval[0]:.4f} to {interval[1]:.4f})")
    said.append(f"on {ranks.bad} events and {ranks.good} others")
    verdicts += _change(subject, area, error, scale, shift, params, numbers, said)
    verdicts += _by_segment(sample, scale, shift, params["segment_minimum"], numbers, said)
    return CheckResult(
        name=name,
        ok=_all(verdicts),
        value=value,
        interval=interval,
        threshold=params["minimum"],
        detail=" ".join(said),
        numbers=numbers,
    )


def _change(
    subject: Subject,
    area: float,
    error: float,
    scale: float,
    shift: float,
    params: dict[str, Any],
    numbers: dict[str, Any],
    said: list[str],
) -> list[bool | None]:
    """The fall since development: S = (AUC then - AUC now) / s of now, one-sided (ECB validation reporting, 2019)."""
    before = subject.development.ranking if subject.development is not None else None
    if before is None or math.isnan(then := auc_with_error(before)[0]):
        return []
    drop = scale * (then - area)
    statistic = (then - area) / error if error > 0 else math.nan
    p_value = upper_tail(statistic) if not math.isnan(statistic) else math.nan
    numbers["development"] = {
        "value": scale * then + shift,
        "drop": drop,
        "statistic": number(statistic),
        "p_value": number(p_value),
    }
    said.append(f"; {scale * then + shift:.4f} at development")
    alpha = params["drop_alpha"]
    return [
        verdict(drop, maximum=params["maximum_drop"]),
        verdict(p_value, minimum=alpha) if alpha is not None else None,
    ]


def _by_segment(
    sample: Sample,
    scale: float,
    shift: float,
    minimum: float | None,
    numbers: dict[str, Any],
    said: list[str],
) -> list[bool | None]:
    if sample.segments is None or sample.outcomes is None:
        return []
    labels, place = labels_of(sample.segments)
    found: dict[str, Any] = {}
    low: list[str] = []
    for i, label in enumerate(labels[:MAX_SEGMENTS]):
        chosen = place == i
        ranks = ranking(sample.scores[chosen], sample.outcomes[chosen])
        area, error = auc_with_error(ranks)
        found[label] = {
            "value": number(scale * area + shift),
            "standard_error": number(scale * error),
            "events": ranks.bad,
            "rest": ranks.good,
        }
        if minimum is not None and scale * area + shift < minimum:
            low.append(label)
    numbers["segments"] = found
    if low:
        said.append(f"; below {minimum:g} in {len(low)} of {len(labels)} segments")
    return [] if minimum is None else [not low]


def _all(verdicts: list[bool | None]) -> bool | None:
    """False when one is False, True when one is True and none False, else None."""
    given = [v for v in verdicts if v is not None]
    return all(given) if given else None


def auc(subject: Subject, **params: Any) -> CheckResult:
    """The chance that a row with the event scores above one without, ties half; DeLong interval."""
    return _area("discrimination.auc", subject, 1.0, 0.0, params)


def gini(subject: Subject, **params: Any) -> CheckResult:
    """2 AUC - 1, Somers' D of score and outcome; DeLong interval."""
    return _area("discrimination.gini", subject, 2.0, -1.0, params)


def ks(subject: Subject, *, minimum: float | None) -> CheckResult:
    """Largest distance between the score distributions of rows with and without the event, and where it lies.

    The p-value is the asymptotic one (Kolmogorov 1933, Smirnov 1948).
    """
    name = "discrimination.ks"
    sample, ranks = _ranks(subject)
    if lacking := _lacking(sample, ranks):
        return unjudged(name, lacking)
    value, at = ks_at(ranks)
    score = float(ranks.values[at])
    caught = float(ranks.events[: at + 1].sum() / ranks.bad)
    effective = ranks.bad * ranks.good / (ranks.bad + ranks.good)
    return CheckResult(
        name=name,
        ok=verdict(value, minimum=minimum),
        value=value,
        threshold=minimum,
        detail=f"{value:.4f}, at score {score:.4g}",
        numbers={
            "score": score,
            "events_at_or_below": caught,
            "rest_at_or_below": float(ranks.rest[: at + 1].sum() / ranks.good),
            "p_value": kolmogorov_tail(value * math.sqrt(effective)),
            "events": ranks.bad,
            "rest": ranks.good,
        },
    )


def kolmogorov_tail(x: float) -> float:
    """P(K > x) of the Kolmogorov distribution."""
    if x < 1.18:  # the dual series (a theta function) converges where the first does not
        if x < 0.05:
            return 1.0
        terms = (math.exp(-((2 * k - 1) ** 2) * math.pi**2 / (8 * x * x)) for k in range(1, 8))
        return max(1.0 - math.sqrt(2 * math.pi) / x * math.fsum(terms), 0.0)
    terms = ((-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 30))
    return min(max(2 * math.fsum(terms), 0.0), 1.0)


def cap(subject: Subject, *, minimum: float | None, points: int) -> CheckResult:
    """Cumulative accuracy profile: share of events among the riskiest x % of rows; value is the accuracy ratio.

    The ratio of the area between profile and diagonal to that of a perfect score (Sobehart, Keenan and Stein, Moody's
    2000); it equals 2 AUC - 1 (Engelmann, Hayden and Tasche, Risk 16, 2003).
    """
    name = "discrimination.cap"
    sample, ranks = _ranks(subject)
    if lacking := _lacking(sample, ranks):
        return unjudged(name, lacking)
    rows, caught = _profile(ranks)
    rate = ranks.bad / (ranks.bad + ranks.good)
    area = float(np.sum((caught[1:] + caught[:-1]) * np.diff(rows)) / 2.0)
    value = (area - 0.5) / (0.5 * (1.0 - rate))
    share = np.linspace(0.0, 1.0, points + 1)
    return CheckResult(
        name=name,
        ok=verdict(value, minimum=minimum),
        value=value,
        threshold=minimum,
        detail=f"accuracy ratio {value:.4f}",
        numbers={
            "rows": [float(x) for x in share],
            "events": [float(y) for y in np.interp(share, rows, caught)],
            "base_rate": rate,
        },
    )


def _profile(ranks: Ranking) -> tuple[Any, Any]:
    """Shares of rows and of events from the riskiest score down, both starting at 0."""
    counts = (ranks.events + ranks.rest)[::-1]
    rows = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    return rows, np.concatenate([[0.0], np.cumsum(ranks.events[::-1]) / ranks.bad])


def average_precision(subject: Subject, *, minimum: float | None) -> CheckResult:
    """Precision averaged over the events as the cut-off falls: sum of (recall step) x (precision), no interpolation.

    Its floor is the base rate, not one half (Davis and Goadrich, ICML 2006).
    """
    name = "discrimination.average_precision"
    sample, ranks = _ranks(subject)
    if lacking := _lacking(sample, ranks):
        return unjudged(name, lacking)
    events = ranks.events[::-1]
    precision = np.cumsum(events) / np.cumsum(events + ranks.rest[::-1])
    value = float(events @ precision / ranks.bad)
    rate = ranks.bad / (ranks.bad + ranks.good)
    return CheckResult(
        name=name,
        ok=verdict(value, minimum=minimum),
        value=value,
        threshold=minimum,
        detail=f"{value:.4f}, base rate {rate:.4f}",
        numbers={"base_rate": rate, "lift": value / rate, "events": ranks.bad, "rest": ranks.good},
    )


def _area_params(what: str) -> dict[str, Param]:
    return {
        "minimum": Param(float, None, f"smallest {what} that passes", -1, 1),
        "judge": Param(
            str, "value", "hold the value or its lower bound against it", choices=("value", "lower")
        ),
        "confidence": Param(float, 0.95, "confidence of the interval", 0.5, 0.9999),
        "maximum_drop": Param(float, None, "largest fall since development that passes", -2, 2),
        "drop_alpha": Param(float, None, "fails when the fall has a p-value below this", 0, 1),
        "segment_minimum": Param(float, None, f"smallest {what} in any segment", -1, 1),
    }


_NEEDS = ("sample", "sample.outcomes")

CHECKS = table(
    [
        Check(
            "discrimination.auc",
            "metric",
            auc,
            _area_params("AUC"),
            WATCHED,
            source="DeLong et al. 1988; Sun and Xu 2014; CRR Art. 185, ECB validation reporting 2019 sec. 2.5.3",
            needs=_NEEDS,
            summary="area under the ROC curve with DeLong interval, change since development, by segment",
        ),
        Check(
            "discrimination.gini",
            "metric",
            gini,
            _area_params("Gini"),
            WATCHED,
            source="Somers 1962; DeLong et al. 1988",
            needs=_NEEDS,
            summary="2 AUC - 1, with interval, change since development, by segment",
        ),
        Check(
            "discrimination.ks",
            "metric",
            ks,
            {"minimum": Param(float, None, "smallest distance that passes", 0, 1)},
            WATCHED,
            source="Kolmogorov 1933; Smirnov 1948",
            needs=_NEEDS,
            summary="largest distance between score distributions, and the score where it lies",
        ),
        Check(
            "discrimination.cap",
            "metric",
            cap,
            {
                "minimum": Param(float, None, "smallest accuracy ratio that passes", -1, 1),
                "points": Param(int, 20, "points of the profile that are given", 2, 1_000),
            },
            WATCHED,
            source="Sobehart et al. 2000; Engelmann et al. 2003",
            needs=_NEEDS,
            summary="cumulative accuracy profile and accuracy ratio",
        ),
        Check(
            "discrimination.average_precision",
            "metric",
            average_precision,
            {"minimum": Param(float, None, "smallest average precision that passes", 0, 1)},
            WATCHED,
            source="Davis and Goadrich 2006",
            needs=_NEEDS,
            summary="average precision, to be read against the base rate",
        ),
    ]
)
