"""The fairness checks, by name.

Rates and their ratios equal Fairlearn's where it has them (tests/checks_fair/test_fairness.py). What each figure
means, and what none of them can show, is in docs/fairness.md.
"""

from __future__ import annotations

from fiduciary.checks._check import Check, Param, table
from fiduciary.checks._groups import COMMON, FAVOURABLE
from fiduciary.checks._impact import adverse_impact_ratio, significance, standardised_mean_difference
from fiduciary.checks._intersections import INTERSECTION
from fiduciary.checks._marginal import MARGINAL_EFFECT
from fiduciary.checks._odds import calibration_within_groups, equal_opportunity, equalised_odds, outcomes
from fiduciary.checks._proxies import PROXY

BINS = 10
_MAXIMUM = Param(float, None, "largest value that is ok; not given: no verdict", low=0.0)
_FAIR_LENDING = "Hall et al., A United States Fair Lending Perspective on Machine Learning, 2021"
_HARDT = "Hardt, Price and Srebro, Equality of Opportunity in Supervised Learning, 2016"
_NO_REFERENCE = {name: param for name, param in COMMON.items() if name != "reference"}

CHECKS: dict[str, Check] = table(
    [
        Check(
            name="fairness.adverse_impact_ratio",
            kind="metric",
            run=adverse_impact_ratio,
            params=COMMON
            | FAVOURABLE
            | {
                "minimum": Param(float, 0.8, "a ratio below it is a signal", low=0.0, high=1.0),
                "judge": Param(
                    str,
                    "screen",
                    "screen: below fails, above says nothing; bound: the interval decides",
                    choices=("screen", "bound"),
                ),
            },
            stages=("release", "watch", "evidence"),
            unit="ratio",
            source="29 CFR 1607.4(D), by analogy only; interval: Koopman, Biometrics 40, 1984",
            needs=("sample.groups",),
            summary="The lowest rate of favourable outcomes of a group over that of its reference group.",
        ),
        Check(
            name="fairness.standardised_mean_difference",
            kind="metric",
            run=standardised_mean_difference,
            params=COMMON
            | {
                "spread": Param(
                    str,
                    "overall",
                    "standard deviation: of all rows, or pooled within the two groups",
                    choices=("overall", "pooled"),
                ),
                "scale": Param(str, "score", "what is compared", choices=("score", "margin")),
                "maximum": _MAXIMUM,
            },
            stages=("release", "watch", "evidence"),
            unit="standard deviations",
            source=_FAIR_LENDING,
            needs=("sample.groups",),
            summary="How much worse a group scores than its reference group, in standard deviations.",
        ),
        Check(
            name="fairness.equal_opportunity",
            kind="metric",
            run=equal_opportunity,
            params=COMMON | FAVOURABLE | {"maximum": _MAXIMUM},
            stages=("release", "watch", "evidence"),
            unit="share",
            source=_HARDT,
            needs=("sample.groups", "sample.outcomes"),
            summary="Largest difference between groups in favourable outcomes among those who turned out good.",
        ),
        Check(
            name="fairness.equalised_odds",
            kind="metric",
            run=equalised_odds,
            params=COMMON | FAVOURABLE | {"maximum": _MAXIMUM},
            stages=("release", "watch", "evidence"),
            unit="share",
            source=_HARDT,
            needs=("sample.groups", "sample.outcomes"),
            summary="The larger of the differences between groups among good risks and among bad risks.",
        ),
        Check(
            name="fairness.calibration_within_groups",
            kind="metric",
            run=calibration_within_groups,
            params={name: COMMON[name] for name in ("attributes", "minimum_rows")}
            | {
                "maximum": _MAXIMUM,
                "bins": Param(int, BINS, "score bands, of equal shares of the sample", low=1, high=100),
            },
            stages=("release", "watch", "evidence"),
            unit="share",
            source="Kleinberg, Mullainathan and Raghavan, Inherent Trade-Offs, 2017; z: Spiegelhalter's variance",
            needs=("sample.groups", "sample.outcomes"),
            summary="Events observed less events expected in each group: does a score mean the same for all?",
        ),
        Check(
            name="fairness.significance",
            kind="metric",
            run=significance,
            params=COMMON
            | FAVOURABLE
            | {"alpha": Param(float, None, "a disfavoured group with p below is not ok", low=0.0, high=1.0)},
            stages=("release", "watch", "evidence"),
            unit="p",
            source="Fisher 1935; mid-p: Lancaster, JASA 56, 1961; small cells: Cochran, Biometrics 10, 1954",
            needs=("sample.groups",),
            summary="Could chance explain the difference between a group's rate and its reference group's?",
        ),
        Check(
            name="fairness.outcomes",
            kind="metric",
            run=outcomes,
            params=_NO_REFERENCE | FAVOURABLE | {"maximum": _MAXIMUM},
            stages=("release", "watch", "evidence"),
            unit="share",
            source="FCA PRIN 2A.9 (monitoring of consumer outcomes)",
            needs=("sample.groups",),
            summary="Decisions, scores, events and exposure of each customer group.",
        ),
        MARGINAL_EFFECT,
        PROXY,
        INTERSECTION,
    ]
)
