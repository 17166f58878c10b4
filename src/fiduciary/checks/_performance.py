"""Does the model still do what was declared of it?"""

from __future__ import annotations

import math

import numpy as np

from fiduciary.checks._calibration import jeffreys_interval
from fiduciary.checks._check import WATCHED, Check, Param, table
from fiduciary.checks._common import improper, one_class, quantile, unjudged, unscored
from fiduciary.checks._discrimination import auc_with_error
from fiduciary.checks._result import CheckResult, number
from fiduciary.checks._sample import Subject

METRICS = ("auc", "gini", "brier", "base_rate")
_BETTER = {"auc": 1, "gini": 1, "brier": -1, "base_rate": 0}
"""1: more is better, -1: less is better, 0: neither."""


def declared(
    subject: Subject,
    *,
    metric: str,
    value: float | None,
    tolerance: float | None,
    confidence: float,
    two_sided: bool,
) -> CheckResult:
    """The declared figure lies within the confidence interval of the live one, give or take a tolerance.

    AI Act Art. 15(3) (declared accuracy), SR 26-2 (outcomes analysis). A live figure that is better than
    declared passes unless `two_sided`. Intervals: DeLong for AUC and Gini, normal for Brier, Jeffreys for
    the base rate.
    """
    name = "performance.declared"
    sample = subject.sample
    assert sample is not None and sample.outcomes is not None
    ranks = sample.ranking
    assert ranks is not None
    stated = subject.estimation.performance.get(metric) if subject.estimation is not None else None
    if value is None:
        if stated is None:
            return unjudged(name, f"the declared {metric}")
        value = stated.value
    if tolerance is None:
        tolerance = stated.tolerance if stated is not None else 0.0
    lacking = improper(sample) if metric == "brier" else unscored(sample)
    if metric in ("auc", "gini"):
        lacking = lacking or one_class(ranks)
    if lacking:
        return unjudged(name, lacking)
    z = quantile(0.5 + confidence / 2)
    if metric in ("auc", "gini"):
        live, error = auc_with_error(ranks)
        if metric == "gini":
            live, error = 2 * live - 1, 2 * error
        interval = (live - z * error, live + z * error)
    elif metric == "brier":
        losses = (sample.scores - sample.outcomes) ** 2
        live = float(losses.mean())
        error = float(losses.std(ddof=1)) / math.sqrt(len(losses)) if len(losses) > 1 else math.nan
        interval = (live - z * error, live + z * error)
    else:
        live = float(np.count_nonzero(sample.outcomes) / len(sample))
        interval = jeffreys_interval(float(len(sample)), float(ranks.bad), confidence)
    if not all(map(math.isfinite, interval)):
        return unjudged(name, "at least two rows of each outcome, for an interval", value=number(live))
    worse_below = not (_BETTER[metric] == -1 and not two_sided)
    worse_above = not (_BETTER[metric] == 1 and not two_sided)
    low = worse_below and interval[1] + tolerance < value
    high = worse_above and interval[0] - tolerance > value
    side = "below" if low else "above"
    return CheckResult(
        name=name,
        ok=not (low or high),
        value=live,
        interval=interval,
        threshold=value,
        detail=f"{metric} {live:.4f} ({interval[0]:.4f} to {interval[1]:.4f}), declared {value:.4f}"
        + (f": significantly {side} what was declared" if low or high else ""),
        numbers={"metric": metric, "declared": value, "tolerance": tolerance, "rows": len(sample)},
    )


CHECKS = table(
    [
        Check(
            "performance.declared",
            "metric",
            declared,
            {
                "metric": Param(str, "auc", "which figure", choices=METRICS),
                "value": Param(float, None, "what was declared; left out: as the release declares"),
                "tolerance": Param(float, None, "how far outside the interval still passes", 0),
                "confidence": Param(float, 0.95, "confidence of the interval", 0.5, 0.9999),
                "two_sided": Param(bool, False, "a figure better than declared fails, too"),
            },
            WATCHED,
            "",
            "AI Act Art. 15(3); SR 26-2",
            ("sample", "sample.outcomes"),
            "the declared performance lies within the live interval",
        )
    ]
)
