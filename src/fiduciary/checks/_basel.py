"""Internal-ratings duties: floors of PD and LGD, back-tests of LGD and CCF, margins, overrides, default
definition.

Floors, thresholds and versions are dated law: a rule pack passes them as parameters, none is written here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._calibration import jeffreys_interval
from fiduciary.checks._check import WATCHED, Check, Param, scipy, table
from fiduciary.checks._common import corrected, group_sums, labels_of, listed, unjudged, unscored
from fiduciary.checks._result import CheckResult, number
from fiduciary.checks._sample import F64, Sample, Subject, Text
from fiduciary.errors import UsageError

LGD_SEGMENTS = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
"""Inner edges of the twelve segments in which losses are ranked (ECB validation reporting 2019, sec.
2.6.3).
"""

ANY_CLASS = "*"


def _floors(given: dict[str, Any], check: str) -> dict[str, float]:
    for label, floor in given.items():
        if isinstance(floor, bool) or not isinstance(floor, (int, float)) or not 0 <= floor <= 1:
            raise UsageError(
                f"parameter 'floors' of check {check}: the floor of {label!r} must be a share, 0 to 1"
            )
    return {label: float(floor) for label, floor in given.items()}


def _floor(name: str, estimates: F64, classes: Text | None, given: dict[str, Any]) -> CheckResult:
    floors = _floors(given, name)
    if not floors:
        return unjudged(name, "a table of floors by exposure class (parameter floors)", unit="share")
    if not np.isfinite(estimates).all():
        short = int(np.count_nonzero(~np.isfinite(estimates)))
        return unjudged(
            name, f"an estimate for every row ({short} of {len(estimates)} have none)", unit="share"
        )
    if not len(estimates):
        return unjudged(name, "rows: the sample is empty", unit="share")
    if classes is None:
        labels, place = [ANY_CLASS], np.zeros(len(estimates), dtype=np.intp)
    else:
        labels, place = labels_of(classes)
    unknown = [x for x in labels if x not in floors and ANY_CLASS not in floors]
    if unknown:
        what = "an exposure class for every row" if classes is None else f"a floor for {listed(unknown)}"
        return unjudged(name, what, unit="share")
    found: list[dict[str, Any]] = []
    below = 0
    for i, label in enumerate(labels):
        own = estimates[place == i]
        floor = floors.get(label, floors.get(ANY_CLASS, 0.0))
        short = int(np.count_nonzero(own < floor))
        below += short
        found.append(
            {"class": label, "floor": floor, "rows": len(own), "smallest": float(own.min()), "below": short}
        )
    said = f"{below} of {len(estimates)} rows below the floor"
    if below:
        said += ": " + listed([f["class"] for f in found if f["below"]])
    return CheckResult(
        name=name,
        ok=not below,
        value=below / len(estimates),
        unit="share",
        threshold=0.0,
        detail=said,
        numbers={"classes": found},
    )


def pd_floor(subject: Subject, *, floors: dict[str, Any]) -> CheckResult:
    """No PD below the floor of its exposure class (CRR Art. 160(1), 163(1)); the value is the share below."""
    sample = subject.sample
    assert sample is not None
    if lacking := unscored(sample):
        return unjudged("basel.pd_floor", lacking, unit="share")
    return _floor("basel.pd_floor", sample.scores, sample.classes, floors)


def lgd_floor(subject: Subject, *, floors: dict[str, Any]) -> CheckResult:
    """No own LGD below the floor of its exposure class (CRR Art. 161(4), 164(4)); the value is the share
    below.
    """
    sample = subject.sample
    assert sample is not None and sample.lgd is not None
    return _floor("basel.lgd_floor", sample.lgd, sample.classes, floors)


def t_test(gap: F64) -> tuple[float, float]:
    """One-sided t of realised less estimated: statistic and P(T > t) on n - 1 degrees of freedom.

    Null hypothesis: the estimate is not too low (ECB validation reporting 2019, sec. 2.6.2.1, 2.9.3.1). NaN
    with fewer than two rows; when all gaps are equal the statistic is infinite or 0, and p is 0 or 1.
    """
    n = len(gap)
    if n < 2:
        return math.nan, math.nan
    mean, spread = float(gap.mean()), float(gap.std(ddof=1))
    if spread <= 1e-15 * max(1.0, abs(mean)):
        return (math.inf, 0.0) if mean > 0 else (0.0 if mean == 0 else -math.inf, 1.0)
    t = math.sqrt(n) * mean / spread
    return t, float(scipy("special").stdtr(n - 1, -t))


def somers_d(counts: F64) -> float:
    """Somers' D of column given row in a table of counts whose rows and columns are ordered (Somers 1962);
    NaN if void.
    """
    total = float(counts.sum())
    untied = total * total - float((counts.sum(axis=1) ** 2).sum())
    if untied <= 0:
        return math.nan
    below = np.zeros((counts.shape[0] + 1, counts.shape[1] + 1))
    below[1:, 1:] = counts.cumsum(axis=0).cumsum(axis=1)
    lower = below[:-1, :-1]  # counts in rows above and columns to the left
    upper = below[:-1, -1:] - below[:-1, 1:]  # counts in rows above and columns to the right
    return float(2 * (counts * (lower - upper)).sum() / untied)


def _ranking_power(estimated: F64, realised: F64, grades: NDArray[np.intp] | None, k: int) -> float:
    """Somers' D of realised (in twelve segments) given estimated: by grade in order of mean estimate, or
    segments.
    """
    columns = np.searchsorted(LGD_SEGMENTS, realised, side="right")
    if grades is None:
        rows, k = np.searchsorted(LGD_SEGMENTS, estimated, side="right"), len(LGD_SEGMENTS) + 1
    else:
        n = group_sums(grades, k)
        means = np.where(n > 0, group_sums(grades, k, estimated) / np.where(n > 0, n, 1.0), math.inf)
        _, order = np.unique(means, return_inverse=True)
        rows = order[grades]
    width = len(LGD_SEGMENTS) + 1
    return somers_d(group_sums(rows * width + columns, k * width).reshape(k, width))


def _backtest(
    name: str,
    sample: Sample,
    estimated: F64,
    realised: F64,
    *,
    alpha: float,
    correction: str,
    by: str,
) -> CheckResult:
    known = np.isfinite(estimated) & np.isfinite(realised)
    n = int(known.sum())
    if n < 2:
        return unjudged(
            name, f"at least two rows with both an estimated and a realised value ({n})", unit="p-value"
        )
    gap = realised[known] - estimated[known]
    t, p_value = t_test(gap)
    source = {"grades": sample.grades, "segments": sample.segments, "none": None}[by]
    rows: list[dict[str, Any]] = []
    place: NDArray[np.intp] | None = None
    labels: list[str] = []
    if source is not None:
        labels, place = labels_of(source[known])
        for i, label in enumerate(labels):
            own = place == i
            statistic, p = t_test(gap[own])
            rows.append(
                {
                    "grade": label,
                    "rows": int(own.sum()),
                    "estimated": float(estimated[known][own].mean()),
                    "realised": float(realised[known][own].mean()),
                    "t": number(statistic),
                    "p_value": number(p),
                }
            )
    tested = [row for row in rows if row["p_value"] is not None]
    for row, p in zip(tested, corrected([row["p_value"] for row in tested], correction), strict=True):
        row["corrected"], row["ok"] = p, p >= alpha
    low = [row["grade"] for row in tested if not row["ok"]]
    power = _ranking_power(estimated[known], realised[known], place, len(labels))
    said = f"realised {realised[known].mean():.4f}, estimated {estimated[known].mean():.4f} over {n} rows"
    said += f"; p-value {p_value:.4g}"
    if n < len(sample):
        said += f"; {len(sample) - n} rows are not closed"
    if low:
        said += f"; too low in {listed(low)}"
    return CheckResult(
        name=name,
        ok=p_value >= alpha and not low,
        value=p_value,
        unit="p-value",
        threshold=alpha,
        detail=said,
        numbers={
            "rows": n,
            "t": number(t),
            "estimated": float(estimated[known].mean()),
            "realised": float(realised[known].mean()),
            "somers_d": number(power),
            "generalised_auc": number((power + 1) / 2),
            "grades": rows,
            "too_few": [row["grade"] for row in rows if row["p_value"] is None],
        },
    )


def lgd_backtest(subject: Subject, *, alpha: float, correction: str, by: str) -> CheckResult:
    """Is LGD too low? One-sided t-test of realised less estimated, over the portfolio and by grade; ranking
    power beside it.
    """
    sample = subject.sample
    assert sample is not None and sample.lgd is not None and sample.realised_lgd is not None
    return _backtest(
        "basel.lgd_backtest",
        sample,
        sample.lgd,
        sample.realised_lgd,
        alpha=alpha,
        correction=correction,
        by=by,
    )


def ccf_backtest(subject: Subject, *, alpha: float, correction: str, by: str) -> CheckResult:
    """Is the credit conversion factor too low? The same t-test as for LGD."""
    sample = subject.sample
    assert sample is not None and sample.ccf is not None and sample.realised_ccf is not None
    return _backtest(
        "basel.ccf_backtest",
        sample,
        sample.ccf,
        sample.realised_ccf,
        alpha=alpha,
        correction=correction,
        by=by,
    )


def margin_of_conservatism(
    subject: Subject, *, parameters: list[str], categories: list[str], confidence: float
) -> CheckResult:
    """Each parameter has a margin of each category, none negative, each with a reason; the value is the
    smallest sum.

    CRR Art. 179(1)(f); EBA/GL/2017/16 sec. 4.4. A margin for general estimation error (category C) must be
    above zero. With outcomes, `statistical` says what sampling error alone would ask for on the PD.
    """
    name = "basel.margin_of_conservatism"
    estimation = subject.estimation
    assert estimation is not None
    wrong: list[str] = []
    sums: dict[str, float] = {}
    for parameter in parameters:
        own = [m for m in estimation.margins if m.parameter == parameter]
        sums[parameter] = math.fsum(m.margin for m in own)
        for category in categories:
            these = [m for m in own if m.category == category]
            where = f"{parameter} category {category}"
            if not these:
                wrong.append(f"{where} has no margin")
            if any(not math.isfinite(m.margin) or m.margin < 0 for m in these):
                wrong.append(f"{where} has a negative margin")
            if any(not m.reason.strip() for m in these):
                wrong.append(f"{where} has no reason")
            if category == "C" and these and not any(m.margin > 0 for m in these):
                wrong.append(f"{where} is zero: no estimate is free of estimation error")
    figures: dict[str, Any] = {"sums": {p: number(s) for p, s in sums.items()}}
    sample = subject.sample
    if sample is not None and sample.outcomes is not None and len(sample):
        n, d = float(len(sample)), float(np.count_nonzero(sample.outcomes))
        upper = jeffreys_interval(n, d, 2 * confidence - 1)[1]
        figures["statistical"] = {"confidence": confidence, "pd": upper - d / n}
    value = number(min(sums.values(), default=math.nan))
    return CheckResult(
        name=name,
        ok=not wrong,
        value=value,
        unit="share",
        threshold=0.0,
        detail="; ".join(wrong[:5])
        if wrong
        else f"margins of {', '.join(parameters)} hold, smallest sum {value}",
        numbers=figures,
    )


def override_rate(subject: Subject, *, maximum: float | None, confidence: float) -> CheckResult:
    """Share of rows whose grade or decision a person set aside (CRR Art. 172(3), 173(1)), with Jeffreys
    interval.
    """
    name = "basel.override_rate"
    sample = subject.sample
    assert sample is not None and sample.overridden is not None
    n, d = len(sample), int(np.count_nonzero(sample.overridden))
    if not n:
        return unjudged(name, "rows: the sample is empty", unit="share")
    figures: dict[str, Any] = {"rows": n, "overridden": d}
    if sample.segments is not None:
        labels, place = labels_of(sample.segments)
        k = len(labels)
        rows, over = group_sums(place, k), group_sums(place, k, sample.overridden.astype(np.float64))
        figures["segments"] = {
            x: {"rows": int(rows[i]), "share": float(over[i] / rows[i])} for i, x in enumerate(labels[:1_000])
        }
    return CheckResult(
        name=name,
        ok=None if maximum is None else d / n <= maximum,
        value=d / n,
        unit="share",
        interval=jeffreys_interval(float(n), float(d), confidence),
        threshold=maximum,
        detail=f"{d} of {n} set aside by a person",
        numbers=figures,
    )


def default_definition(
    subject: Subject,
    *,
    version: str,
    days: int,
    absolute: float,
    relative: float,
    minimum_agreement: float,
) -> CheckResult:
    """Outcomes were labelled under the definition in force; labelling them again from arrears agrees.

    CRR Art. 178; Delegated Regulation (EU) 2018/171: default when unlikely to pay, or past due for more
    than `days` with an amount above both materiality thresholds. The value is the share of rows that agree.
    """
    name = "basel.default_definition"
    declared = subject.estimation.default_definition if subject.estimation is not None else ""
    if not version:
        return unjudged(name, "the version in force (parameter version)", unit="share")
    if not declared:
        return unjudged(name, "the version under which outcomes were labelled", unit="share")
    wrong = [] if declared == version else [f"labelled under {declared!r}, in force is {version!r}"]
    value: float | None = None
    figures: dict[str, Any] = {"declared": declared, "in_force": version}
    sample = subject.sample
    if sample is not None and sample.arrears is not None and sample.outcomes is not None and len(sample):
        arrears = sample.arrears
        owed = np.where(np.isfinite(arrears.amount), arrears.amount, 0.0)
        late = (arrears.days_past_due > days) & (owed > absolute) & (owed > relative * arrears.exposure)
        again = late | arrears.unlikely_to_pay.astype(np.bool_)
        agree = again == sample.outcomes
        value = float(agree.mean())
        figures |= {
            "rows": len(sample),
            "unlabelled_defaults": int(np.count_nonzero(again & ~sample.outcomes)),
            "labelled_without_cause": int(np.count_nonzero(~again & sample.outcomes)),
        }
        if value < minimum_agreement:
            wrong.append(f"labelling again agrees on {value:.2%} of rows only")
    return CheckResult(
        name=name,
        ok=not wrong,
        value=value,
        unit="share",
        threshold=minimum_agreement if value is not None else None,
        detail="; ".join(wrong)
        or (
            f"version {declared!r}; labelling again agrees on {value:.2%} of rows"
            if value is not None
            else f"version {declared!r}; no arrears were given, so labels were not made again"
        ),
        numbers=figures,
    )


_ALPHA = Param(float, 0.05, "fails when a p-value is below this", 0, 1)
_CONFIDENCE = Param(float, 0.95, "confidence of the interval", 0.5, 0.9999)
_BACKTEST = {
    "alpha": _ALPHA,
    "correction": Param(str, "holm", "correction for looking at many grades", choices=("holm", "none")),
    "by": Param(str, "grades", "what the sample is split by", choices=("grades", "segments", "none")),
}
_FLOORS = {"floors": Param(dict, {}, 'exposure class -> smallest estimate, share; "*" is any other class')}
_REPORTING = "CRR Art. 185; ECB validation reporting 2019"

CHECKS = table(
    [
        Check(
            "basel.pd_floor",
            "metric",
            pd_floor,
            _FLOORS,
            WATCHED,
            "share",
            "CRR Art. 160(1), 163(1)",
            ("sample",),
            "no PD below the floor of its exposure class",
        ),
        Check(
            "basel.lgd_floor",
            "metric",
            lgd_floor,
            _FLOORS,
            WATCHED,
            "share",
            "CRR Art. 161(4), 164(4)",
            ("sample", "sample.lgd"),
            "no own LGD below the floor of its exposure class",
        ),
        Check(
            "basel.lgd_backtest",
            "metric",
            lgd_backtest,
            _BACKTEST,
            WATCHED,
            "p-value",
            _REPORTING,
            ("sample", "sample.lgd", "sample.realised_lgd"),
            "t-test of realised against estimated LGD, and generalised AUC",
        ),
        Check(
            "basel.ccf_backtest",
            "metric",
            ccf_backtest,
            _BACKTEST,
            WATCHED,
            "p-value",
            _REPORTING,
            ("sample", "sample.ccf", "sample.realised_ccf"),
            "t-test of realised against estimated credit conversion factors",
        ),
        Check(
            "basel.margin_of_conservatism",
            "metric",
            margin_of_conservatism,
            {
                "parameters": Param(list, ["pd"], "which parameters", 1, choices=("pd", "lgd", "ccf")),
                "categories": Param(list, ["A", "B", "C"], "which categories", 1, choices=("A", "B", "C")),
                "confidence": Param(
                    float, 0.9, "one-sided confidence of the statistical margin", 0.5, 0.9999
                ),
            },
            ("release",),
            "share",
            "CRR Art. 179(1)(f); EBA/GL/2017/16 sec. 4.4",
            ("estimation", "estimation.margins"),
            "a margin of each category with a reason, none negative",
        ),
        Check(
            "basel.override_rate",
            "metric",
            override_rate,
            {"maximum": Param(float, None, "largest share that passes", 0, 1), "confidence": _CONFIDENCE},
            WATCHED,
            "share",
            "CRR Art. 172(3), 173(1)",
            ("sample", "sample.overridden"),
            "share of grades or decisions set aside by a person",
        ),
        Check(
            "basel.default_definition",
            "metric",
            default_definition,
            {
                "version": Param(str, "", "the definition in force"),
                "days": Param(int, 90, "past due for more days than this", 0, 10_000),
                "absolute": Param(float, 0.0, "and for an amount above this, currency", 0),
                "relative": Param(float, 0.0, "and above this share of the exposure", 0, 1),
                "minimum_agreement": Param(float, 1.0, "smallest share of equal labels that passes", 0, 1),
            },
            ("release",),
            "share",
            "CRR Art. 178; Delegated Regulation (EU) 2018/171",
            (),
            "labelled under the definition in force; labelling again agrees",
        ),
    ]
)
