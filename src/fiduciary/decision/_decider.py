"""Act, explain, oblige: rows of one release under one use case become verdicts."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.decision._duties import NO_DUTIES, Asked, Duties, reason_count, referral
from fiduciary.models import Reason, probability
from fiduciary.registry import LoadedRelease, UseCase

F64 = NDArray[np.float64]


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What the release and the use case say of one row."""

    outcome: str
    score: float
    margin: float
    baseline: float
    reasons: list[Reason]
    explained: bool
    referred_by: str = ""
    """The rule that gave it to a person; by the cut-offs it was another outcome."""


def outcomes(use_case: UseCase, scores: list[float]) -> list[str]:
    """approve, refer or decline for each score (probability or value) by the use case's cut-offs.

    With `adverse = "high"`, below `approve_below` is approved and from `decline_from` on is declined; with
    "low" the scale is mirrored: above `approve_below` is approved, up to `decline_from` is declined. What lies
    between goes to a person. A score that is not a number goes to a person too, never to an approval.
    """
    approve, decline = use_case.approve_below, use_case.decline_from
    if use_case.adverse == "high":
        return ["approve" if s < approve else "decline" if s >= decline else "refer" for s in scores]
    return ["approve" if s > approve else "decline" if s <= decline else "refer" for s in scores]


class Decider:
    """A loaded release bound to a use case and the duties of a rulebook.

    Pure: the same rows give the same bits in any batch. `evaluate` and `explain` know the cut-offs; `oblige` is what
    the rules then make of a verdict.
    """

    def __init__(self, release: LoadedRelease, use_case: UseCase, duties: Duties = NO_DUTIES) -> None:
        self.release = release
        self.use_case = use_case
        self.duties = duties
        self.reason_count = reason_count(duties, use_case)
        self.baseline = release.baseline.margin
        self._always = use_case.reasons == "always"

    def evaluate(self, rows: F64) -> list[Verdict]:
        """Verdicts of rows (n, features), in order. Rows must have passed the release's contract."""
        if self._always:
            return self.explain(rows)
        release = self.release
        margins = release.scorer.score(rows)
        scores = probability(margins, release.scorer.link).tolist()
        results = outcomes(self.use_case, scores)
        verdicts = [
            Verdict(outcome, score, margin, self.baseline, [], False)
            for outcome, score, margin in zip(results, scores, margins.tolist(), strict=True)
        ]
        adverse = [i for i, outcome in enumerate(results) if outcome != "approve"]
        if adverse:
            for i, verdict in zip(adverse, self.explain(rows[adverse]), strict=True):
                verdicts[i] = verdict
        return verdicts

    def explain(self, rows: F64) -> list[Verdict]:
        """Verdicts with reasons whatever the use case asks for: also those recomputed on demand."""
        release, use_case = self.release, self.use_case
        margins, contributions = release.scorer.explain(rows)
        reasons = release.plan.rank(contributions, self.reason_count, use_case.adverse)
        scores = probability(margins, release.scorer.link).tolist()
        baseline = self.baseline
        return [
            Verdict(outcome, score, margin, baseline, why, True)
            for outcome, score, margin, why in zip(
                outcomes(use_case, scores), scores, margins.tolist(), reasons, strict=True
            )
        ]

    def oblige(self, verdict: Verdict, asked: Asked) -> Verdict:
        """The verdict as the rules let it stand: itself, or given to a person by a rule."""
        rule = referral(self.duties, self.use_case, asked, verdict.outcome, verdict.reasons)
        return msgspec.structs.replace(verdict, outcome="refer", referred_by=rule) if rule else verdict
