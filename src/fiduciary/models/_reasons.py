"""Reasons that are true: what moved this score away from the approved population, in plain words.

A reason is a feature, or a named group of features, with the sum of its contributions minus the same sum of
the pinned baseline. Over all groups these differences add up to margin - baseline.margin (to 1e-9,
tests/models/test_reasons.py). An adverse reason is one whose difference has the adverse sign; a favourable
one is never given as a reason for an adverse outcome.

A text must say what counted against the person. "Insufficient score" or "internal policy" says nothing and
is refused: Regulation B, 12 CFR 1002.9(b)(2) with its official interpretation; CFPB Circulars 2022-03 and
2023-03.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import ContractError
from fiduciary.models._contract import Contract
from fiduciary.models._scorer import Baseline

F64 = NDArray[np.float64]

_GOAL = r"(score|standard|polic|criteri|requirement|cut-?off)"
VAGUE = (
    r"(insufficient|low|poor|bad|weak|inadequate)?\s*(credit |risk |model |overall |total )*"
    r"(score|rating|scoring)( (is |was )?(too )?(low|high|insufficient|below .*|above .*|not .*))?",
    r"(did|does|do) not (meet|qualify|pass|reach|satisfy).{0,40}" + _GOAL + ".*",
    r"fail(ed|s|ure)? to (achieve|meet|reach|attain|pass).{0,40}" + _GOAL + ".*",
    r"(our |the |bank |internal |company |credit |lending |underwriting |business )*"
    r"(polic(y|ies)|standards?|criteria|rules?|guidelines?|requirements?)( (reasons?|not met))?",
    r"(the |our |an? )*(model|algorithm|system|computer|ai|machine learning|automated)"
    r"( (decision|output|result|said so))?",
    r"(other|others|various|several|miscellaneous|general|unspecified|unknown)( (reasons?|factors?))?",
    r"(reasons?|factors?|n/?a|none|tbd|todo|xxx+|(high )?risk|credit ?worthiness|(customer )?profile)",
    r"(purchasing|consumer|spending|behaviou?ral?) (history|behaviou?r|patterns?|data)",
)
"""Texts that name no specific factor; each is matched against the whole text, in lower case."""

_vague = re.compile("|".join(f"(?:{pattern})" for pattern in VAGUE))


class Reason(msgspec.Struct, frozen=True, gc=False):
    """One reason: the group's (or feature's) name, its plain text, its signed part of the margin."""

    code: str
    text: str
    contribution: float


def vague(text: str) -> bool:
    """True when a text is empty or names no specific factor, so that it may not be given as a reason."""
    plain = " ".join(re.sub(r"[^\w\s/-]", " ", text.lower()).split())
    return len(plain) < 3 or _vague.fullmatch(plain) is not None


class ReasonPlan:
    """The groups of a contract, their texts and baseline. Immutable; safe to share between threads."""

    def __init__(self, contract: Contract, baseline: Baseline) -> None:
        """Raises `ContractError` for a vague text, two texts in a group, or a baseline of another size."""
        features = contract.features
        if len(baseline.contributions) != len(features):
            raise ContractError(
                f"the baseline has {len(baseline.contributions)} contributions, "
                f"the contract {len(features)} features"
            )
        members: dict[str, list[int]] = {}
        texts: dict[str, str] = {}
        for i, feature in enumerate(features):
            code = feature.group or feature.name
            members.setdefault(code, []).append(i)
            if feature.reason:
                if vague(feature.reason):
                    raise ContractError(
                        f"the reason text of {feature.name!r} names no specific factor; say what counted "
                        "against the person, such as 'Payments were late in the last three months'",
                        where=f"/features/{i}/reason",
                    )
                if texts.setdefault(code, feature.reason) != feature.reason:
                    raise ContractError(
                        f"the group {code!r} has two reason texts; a group gives one reason",
                        where=f"/features/{i}/reason",
                    )
        self.codes = tuple(members)
        self.texts = tuple(texts.get(code) or _plain(code) for code in members)
        self.missing_texts = tuple(code for code in members if code not in texts)
        """Groups whose text is only their name: to be written before a release."""
        self._baseline = np.array(baseline.contributions, dtype=np.float64)
        self._members = list(members.values())
        self._grouped = len(members) != len(features)
        self._labels = list(zip(self.codes, self.texts, strict=True))

    def breakdown(self, contributions: F64) -> F64:
        """Differences to the baseline per group: (n, features) -> (n, groups), groups in contract order.

        A group's members are added from left to right in contract order, so a replay gives the same bits.
        """
        differences: F64 = contributions - self._baseline
        if not self._grouped:
            return differences
        sums: F64 = np.empty((len(differences), len(self._members)), dtype=np.float64)
        for g, members in enumerate(self._members):
            sums[:, g] = differences[:, members[0]]
            for i in members[1:]:
                sums[:, g] += differences[:, i]
        return sums

    def rank(self, contributions: F64, count: int, adverse: Literal["high", "low"]) -> list[list[Reason]]:
        """Per row at most `count` adverse reasons, the strongest first; ties in contract order.

        `adverse` says which end of the margin is bad for the person. Groups that moved the score the other
        way, or not at all, are left out: they are no reason for an adverse outcome. All groups: `breakdown`.
        """
        sums = self.breakdown(contributions)
        keys = -sums if adverse == "high" else sums
        order = np.argsort(keys, axis=1, kind="stable")[:, : max(count, 0)]
        labels = self._labels
        ranked: list[list[Reason]] = []
        for row, best in zip(sums.tolist(), order.tolist(), strict=True):
            reasons = []
            for g in best:
                value = row[g]
                if not (value > 0.0 if adverse == "high" else value < 0.0):
                    break
                code, text = labels[g]
                reasons.append(Reason(code, text, value))
            ranked.append(reasons)
        return ranked


def _plain(name: str) -> str:
    words = re.sub(r"[_\-.]+", " ", name).strip() or name
    return words[0].upper() + words[1:]
