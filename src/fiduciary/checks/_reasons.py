"""Whether the reasons given for adverse decisions are true, enough, steady and there for every one of them.

Reasons are recomputed from the release's model and pinned baseline on the sample's adverse decisions, by the code
that serves them (`ReasonPlan`). Where there are more than `rows` of these, that many are drawn with the subject's
seed. Sufficiency is tested by changing inputs and scoring again, not by the arithmetic that made the reasons.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._adverse import (
    adverse_decisions,
    draw,
    members_of,
    named_reasons,
    share_interval,
    spread_of,
    within_contract,
    without,
)
from fiduciary.checks._check import Check, Param, Stage, table
from fiduciary.checks._groups import cut_offs, decide, decisions
from fiduciary.checks._reason_texts import READABLE, SPECIFIC
from fiduciary.checks._result import CheckResult
from fiduciary.checks._sample import Subject
from fiduciary.models import ReasonPlan, baseline_of, probability

F64 = NDArray[np.float64]

POPULATION_ROWS = 20_000
ALONE = 64
"""How many rows are also explained one by one, to see that a batch does not change them."""


def additive(subject: Subject, *, rows: int, tolerance: float) -> CheckResult:
    """Contributions add up to the margin, and reasons to margin minus baseline: the value is the largest gap."""
    sample, scorer, contract, baseline = subject.sample, subject.scorer, subject.contract, subject.baseline
    assert sample is not None and scorer is not None and contract is not None and baseline is not None
    chosen = draw(np.arange(len(sample)), rows, subject.seed)
    if not len(chosen):
        return without("reasons.additive", "log-odds", "rows in the sample")
    margins, contributions = scorer.explain(sample.rows[chosen])
    sums = ReasonPlan(contract, baseline).breakdown(contributions)
    to_margin = float(np.abs(scorer.bias + contributions.sum(axis=1) - margins).max())
    to_baseline = float(np.abs(sums.sum(axis=1) - (margins - baseline.margin)).max())
    gap = max(to_margin, to_baseline)
    return CheckResult(
        name="reasons.additive",
        ok=bool(gap <= tolerance),
        value=gap if np.isfinite(gap) else None,
        unit="log-odds",
        threshold=tolerance,
        detail=f"over {len(chosen)} rows reasons add up to margin minus baseline within {gap:.2g}",
        numbers={"rows": len(chosen), "to_margin": to_margin, "to_baseline": to_baseline},
    )


def sufficient(
    subject: Subject,
    *,
    adverse: list[str],
    rows: int,
    count: int | None,
    references: int,
    minimum: float | None,
) -> CheckResult:
    """Would the outcome change if the named reasons were as with approved people? The share for which it would.

    The features of the named reasons take the values of approved rows, a few of them in turn, everything else
    stays; the mean margin is held against the cut-offs. Beside it the same by the contributions alone.
    """
    name = "reasons.sufficient"
    found = adverse_decisions(subject, adverse, rows, count)
    if isinstance(found, str):
        return without(name, "share", found)
    sample, scorer, contract = subject.sample, subject.scorer, subject.contract
    assert sample is not None and scorer is not None and contract is not None
    source = subject.development or sample
    cuts = cut_offs(subject.use_case)
    if cuts is None:
        return without(name, "share", "a use case with cut-offs")
    approved = np.flatnonzero(decide(source.scores, *cuts) == "approve")
    approved = draw(approved, references, subject.seed + 1)
    if not len(approved):
        return without(name, "share", "approved rows in the sample")
    named = named_reasons(found.sums(), found.count)
    members = members_of(contract, found.plan)
    margins = np.zeros(len(found.rows))
    for place in approved:
        changed = np.where(named @ members > 0, source.rows[place], found.rows)
        margins += scorer.score(changed)
    margins /= len(approved)
    after = decide(probability(margins, scorer.link), *cuts)
    moved = ~np.isin(after, adverse)
    sums = found.plan.breakdown(found.contributions)
    by_sums = decide(probability(found.margins - (sums * named).sum(axis=1), scorer.link), *cuts)
    share = float(moved.mean())
    return CheckResult(
        name=name,
        ok=None if minimum is None else share >= minimum,
        value=share,
        unit="share",
        interval=share_interval(moved),
        threshold=minimum,
        detail=f"for {share:.1%} of {len(moved)} adverse decisions the named reasons alone decide",
        numbers={
            "decisions": found.total,
            "looked_at": len(moved),
            "references": len(approved),
            "reasons": found.count,
            "approved_after": float((after == "approve").mean()),
            "by_contributions": float((~np.isin(by_sums, adverse)).mean()),
        },
    )


def stable(
    subject: Subject, *, adverse: list[str], rows: int, count: int | None, scale: float, repeats: int,
    minimum: float | None,
) -> CheckResult:  # fmt: skip
    """Do small changes of the inputs leave the top reason? The share of changed rows in which it stays.

    Numbers move by a normal step of `scale` standard deviations, kept whole where they are whole and within the
    contract's range; categories, booleans and missing values stay as they are.
    """
    found = adverse_decisions(subject, adverse, rows, count)
    if isinstance(found, str):
        return without("reasons.stable", "share", found)
    sample, scorer, contract = subject.sample, subject.scorer, subject.contract
    assert sample is not None and scorer is not None and contract is not None
    rng = np.random.default_rng([subject.seed, 7])
    steps = scale * spread_of(contract, sample.rows)
    top = found.sums().argmax(axis=1)
    before = named_reasons(found.sums(), found.count)
    kept = np.zeros(len(found.rows))
    same = np.zeros(len(found.rows))
    overlap = 0.0
    for _ in range(repeats):
        moved = within_contract(contract, found.rows + rng.normal(size=found.rows.shape) * steps, found.rows)
        sums = found.sums(scorer.explain(moved)[1])
        after = named_reasons(sums, found.count)
        kept += sums.argmax(axis=1) == top
        same += (after == before).all(axis=1)
        overlap += float(((after & before).sum(axis=1) / np.maximum((after | before).sum(axis=1), 1)).mean())
    share = float(kept.mean() / repeats)
    return CheckResult(
        name="reasons.stable",
        ok=None if minimum is None else share >= minimum,
        value=share,
        unit="share",
        threshold=minimum,
        detail=f"the top reason stays in {share:.1%} of {repeats} small changes of {len(kept)} adverse decisions",
        numbers={
            "decisions": found.total,
            "looked_at": len(kept),
            "scale": scale,
            "same_set": float(same.mean() / repeats),
            "mean_overlap": overlap / repeats,
            "always_same_top": float((kept == repeats).mean()),
        },
    )


def baseline(
    subject: Subject, *, adverse: list[str], rows: int, count: int | None, maximum: float | None
) -> CheckResult:
    """How much the pinned baseline matters: the share of adverse decisions with another top reason under the mean of
    the whole sample instead of the approved."""
    name = "reasons.baseline"
    found = adverse_decisions(subject, adverse, rows, count)
    if isinstance(found, str):
        return without(name, "share", found)
    sample, scorer, contract, pinned = subject.sample, subject.scorer, subject.contract, subject.baseline
    assert sample is not None and scorer is not None and contract is not None and pinned is not None
    places = draw(np.arange(len(sample)), POPULATION_ROWS, subject.seed)
    everyone = baseline_of(scorer, sample.rows[places], "all rows of the sample")
    other = ReasonPlan(contract, everyone).breakdown(found.contributions)
    other = other if found.side == "high" else -other
    ours = found.sums()
    top = ours.argmax(axis=1) != other.argmax(axis=1)
    sets = (named_reasons(ours, found.count) != named_reasons(other, found.count)).any(axis=1)
    given = decisions(subject)
    assert given is not None
    approved = np.flatnonzero(given == "approve")
    drift = None
    if len(approved):
        fresh = baseline_of(scorer, sample.rows[draw(approved, POPULATION_ROWS, subject.seed)])
        drift = float(np.abs(np.array(fresh.contributions) - np.array(pinned.contributions)).max())
    share = float(top.mean())
    return CheckResult(
        name=name,
        ok=None if maximum is None else share <= maximum,
        value=share,
        unit="share",
        interval=share_interval(top),
        threshold=maximum,
        detail=f"with the mean of all applicants {share:.1%} of {len(top)} adverse decisions would get another top "
        f"reason, {float(sets.mean()):.1%} another set",
        numbers={
            "decisions": found.total,
            "looked_at": len(top),
            "another_set": float(sets.mean()),
            "reasons": found.count,
            "largest_gap_to_approved_here": drift,
            "pinned_rows": pinned.rows,
        },
    )


def counted(subject: Subject, *, adverse: list[str], rows: int, minimum: int, maximum: int) -> CheckResult:
    """Every adverse decision gets from `minimum` to `maximum` reasons; the value is the share that does."""
    name = "reasons.count"
    found = adverse_decisions(subject, adverse, rows, None)
    if isinstance(found, str):
        return without(name, "share", found)
    given = [len(r) for r in found.plan.rank(found.contributions, found.count, found.side)]
    counts = np.bincount(given, minlength=found.count + 1)
    inside = float(counts[minimum : maximum + 1].sum() / len(given))
    return CheckResult(
        name=name,
        ok=inside == 1.0,
        value=inside,
        unit="share",
        threshold=1.0,
        detail=f"{inside:.2%} of {len(given)} adverse decisions have {minimum} to {maximum} reasons",
        numbers={
            "decisions": found.total,
            "looked_at": len(given),
            "by_count": {str(k): int(n) for k, n in enumerate(counts.tolist())},
            "asked_for": found.count,
        },
    )


def coverage(subject: Subject, *, adverse: list[str], rows: int, minimum: float) -> CheckResult:
    """The share of adverse decisions with at least one reason that comes out the same when computed again.

    Again: alone instead of in a batch (bit for bit), and, where the sample holds recorded contributions, from
    those.
    """
    name = "reasons.coverage"
    found = adverse_decisions(subject, adverse, rows, None)
    if isinstance(found, str):
        return without(name, "share", found)
    sample, scorer = subject.sample, subject.scorer
    assert sample is not None and scorer is not None
    first = found.plan.rank(found.contributions, found.count, found.side)
    has = np.array([bool(reasons) for reasons in first])
    agrees = np.ones(len(first), dtype=np.bool_)
    for i in range(min(ALONE, len(first))):
        alone = scorer.explain(found.rows[i : i + 1])[1]
        agrees[i] = alone.tobytes() == found.contributions[i : i + 1].tobytes()
    recorded = sample.contributions
    if recorded is not None:
        again = found.plan.rank(recorded[found.places], found.count, found.side)
        agrees &= np.array(
            [[r.code for r in a] == [r.code for r in b] for a, b in zip(first, again, strict=True)]
        )
    share = float((has & agrees).mean())
    return CheckResult(
        name=name,
        ok=share >= minimum,
        value=share,
        unit="share",
        threshold=minimum,
        detail=f"{share:.2%} of {len(first)} adverse decisions have a reason that comes out the same again",
        numbers={
            "decisions": found.total,
            "looked_at": len(first),
            "without_reason": int((~has).sum()),
            "not_reproduced": int((~agrees).sum()),
            "against_records": recorded is not None,
        },
    )


_NEEDS = ("sample", "scorer", "contract", "baseline", "use_case")
_WHICH = {
    "adverse": Param(
        list, ["decline"], "decisions that count as adverse", low=1, choices=("decline", "refer")
    ),
    "rows": Param(int, 2_000, "most adverse decisions looked at", low=1, high=1_000_000),
}
_COUNT = {
    "count": Param(int, None, "how many reasons are named; not given: as the use case says", low=1, high=32)
}
_REG_B = "12 CFR 1002.9(b)(2); CFPB Circular 2022-03"
_STAGES: tuple[Stage, ...] = ("release", "watch", "evidence")

CHECKS: dict[str, Check] = table(
    [
        Check(
            name="reasons.additive",
            kind="reason",
            run=additive,
            params={
                "rows": Param(int, 10_000, "most rows looked at", low=1, high=10_000_000),
                "tolerance": Param(float, 1e-9, "largest gap that is ok", low=0.0),
            },
            stages=_STAGES,
            unit="log-odds",
            source="Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, 2017 (local accuracy)",
            needs=("sample", "scorer", "contract", "baseline"),
            summary="Reasons add up to the margin minus the baseline.",
        ),
        Check(
            name="reasons.sufficient",
            kind="reason",
            run=sufficient,
            params=_WHICH
            | _COUNT
            | {
                "references": Param(int, 16, "approved rows whose values are put in", low=1, high=100_000),
                "minimum": Param(
                    float, None, "smallest share that is ok; not given: no verdict", low=0.0, high=1.0
                ),
            },
            stages=_STAGES,
            unit="share",
            source=_REG_B,
            needs=_NEEDS,
            summary="Had the named reasons been as with approved people, would the outcome have changed?",
        ),
        Check(
            name="reasons.stable",
            kind="reason",
            run=stable,
            params=_WHICH
            | _COUNT
            | {
                "scale": Param(float, 0.01, "size of a change, in standard deviations", low=0.0, high=1.0),
                "repeats": Param(int, 8, "changes of each row", low=1, high=100_000),
                "minimum": Param(
                    float, None, "smallest share that is ok; not given: no verdict", low=0.0, high=1.0
                ),
            },
            stages=_STAGES,
            unit="share",
            source="Alvarez-Melis and Jaakkola, On the Robustness of Interpretability Methods, 2018",
            needs=_NEEDS,
            summary="Do small changes of the inputs leave the top reason as it is?",
        ),
        Check(
            name="reasons.baseline",
            kind="reason",
            run=baseline,
            params=_WHICH
            | _COUNT
            | {
                "maximum": Param(
                    float, None, "largest share that is ok; not given: no verdict", low=0.0, high=1.0
                )
            },
            stages=_STAGES,
            unit="share",
            source="12 CFR 1002.9, official interpretation 9(b)(2)-5 (methods of selecting reasons)",
            needs=_NEEDS,
            summary="How many would get another reason if the baseline were all applicants, not the approved.",
        ),
        Check(
            name="reasons.count",
            kind="reason",
            run=counted,
            params=_WHICH
            | {
                "minimum": Param(int, 1, "fewest reasons of an adverse decision", low=0, high=32),
                "maximum": Param(int, 4, "most reasons of an adverse decision", low=1, high=32),
            },
            stages=_STAGES,
            unit="share",
            source="12 CFR 1002.9, official interpretation 9(b)(2)-1 (no more than four are likely to help)",
            needs=_NEEDS,
            summary="Every adverse decision gets one to four reasons.",
        ),
        Check(
            name="reasons.coverage",
            kind="reason",
            run=coverage,
            params=_WHICH | {"minimum": Param(float, 1.0, "smallest share that is ok", low=0.0, high=1.0)},
            stages=_STAGES,
            unit="share",
            source=_REG_B,
            needs=_NEEDS,
            summary="Share of adverse decisions with a reason that comes out the same when computed again.",
        ),
        SPECIFIC,
        READABLE,
    ]
)
