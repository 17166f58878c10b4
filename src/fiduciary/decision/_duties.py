"""What the rules in force ask of the serving path: refuse, refer to a person, limit reasons, give notice.

Pure functions of the duties, the use case and what the request said. The gate calls them around the scorer; replay
and the offline verifier (evidence/_verify_folder.py) apply the same to the record. Duties are data: they come from
the `obligations` of the `rules.resolved` event that the record's rulebook names, so that a decision is replayed
under the rules of its day, whatever the packs say now. docs/serving-rules.md says it for people.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fiduciary.decision._record import DecisionRecord, Notice
from fiduciary.errors import IntegrityError, RuleError
from fiduciary.models import Reason
from fiduciary.registry import Book, UseCase

OPTED_OUT = "opted-out"
"""Who referred a decision when the subject opted out and no rule in force asks for it: the request itself."""
REASONS = "reasons"
"""Who referred an adverse decision for which fewer reasons were found than a rule asks for, if it is not named."""


MAX_REASONS = 32
MAX_NOTICES = 32
MAX_CLASS = 63


class NoticeDuty(msgspec.Struct, frozen=True, kw_only=True):
    """A notice that is due after certain outcomes."""

    code: str
    rule: str
    when: Literal["adverse", "always"] = "adverse"
    within_days: int | None = None
    letter: str = ""


class Duties(msgspec.Struct, frozen=True, kw_only=True):
    """The obligations of one rulebook; members this program does not know are for others."""

    purpose_required: bool = False
    lawful_bases: tuple[str, ...] | None = None
    """Lawful bases that the rules accept; None: any."""
    consent_required: bool = False
    residency: tuple[str, ...] | None = None
    """Regions in which, and about people of which, it may be decided; None: any."""
    referral: str = ""
    """The rule that forbids a solely automated adverse decision."""
    opt_out: str = ""
    """The rule under which a subject may refuse to be decided about by a machine."""
    reasons_min: int = 0
    reasons_max: int = 0
    """Most reasons given; 0: as the use case says."""
    notices: tuple[NoticeDuty, ...] = ()
    retention_class: str = ""


class Asked(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a request said about its circumstances, for one row."""

    purpose: str = ""
    consent: str = ""
    region: str = ""
    opted_out: bool = False


NOTHING_ASKED = Asked()
NO_DUTIES = Duties()


def duties_of(book: Book | None) -> Duties:
    """The duties of a rulebook as it was announced. Raises `IntegrityError` when they are malformed."""
    if book is None:
        return NO_DUTIES
    try:
        found = msgspec.convert(book.obligations, Duties)
    except msgspec.ValidationError as error:
        raise IntegrityError(f"the obligations of rulebook {book.digest} are not right: {error}") from None
    if not 0 <= found.reasons_min <= MAX_REASONS or not 0 <= found.reasons_max <= MAX_REASONS:
        raise IntegrityError(
            f"rulebook {book.digest} asks for more than {MAX_REASONS} reasons, or for fewer than 0"
        )
    if found.reasons_max and found.reasons_min > found.reasons_max:
        raise IntegrityError(f"rulebook {book.digest} asks for more reasons than it allows")
    if len(found.notices) > MAX_NOTICES or len(found.retention_class) > MAX_CLASS:
        raise IntegrityError(
            f"rulebook {book.digest} has over {MAX_NOTICES} notices or a class of over {MAX_CLASS} characters"
        )
    return found


def asked_of(record: DecisionRecord) -> Asked:
    """What the request of a record had said."""
    return Asked(
        purpose=record.purpose, consent=record.consent, region=record.region, opted_out=record.opted_out
    )


def admit(
    duties: Duties, use_case: UseCase, asked: Asked, region: str, where: str = "", top: str = ""
) -> None:
    """Refuse what may not be decided at all. `region`: where the gate stands.

    `where`, `top`: JSON pointers to where the row's and the request's members stand, for the refusal.

    Raises `RuleError`; the message repeats nothing that was sent.
    """
    if asked.purpose:
        if not same_purpose(asked.purpose, use_case):
            raise RuleError(
                f"the purpose stated is not that of use case {use_case.name!r}", where=f"{top}/purpose"
            )
    elif duties.purpose_required:
        raise RuleError("a rule in force asks for the purpose to be stated", where=f"{top}/purpose")
    basis = use_case.lawful_basis
    if duties.lawful_bases is not None and basis not in duties.lawful_bases:
        accepted = ", ".join(duties.lawful_bases) or "none"
        raise RuleError(
            f"use case {use_case.name!r} has the lawful basis {basis or 'none'!r}; the rules accept: {accepted}"
        )
    if (duties.consent_required or basis == "consent") and not asked.consent:
        raise RuleError(
            "it may be decided on the subject's consent only: give the reference to it",
            where=f"{where}/consent",
        )
    for allowed, whose in ((duties.residency, "the rules"), (use_case.regions or None, "the use case")):
        if allowed is None:
            continue
        if not inside(region, allowed):
            raise RuleError(
                f"this gate stands in region {region!r}; {whose} let it be decided in {_listed(allowed)} only"
            )
        if asked.region and not inside(asked.region, allowed):
            raise RuleError(
                f"{whose} let it be decided about subjects of {_listed(allowed)} only",
                where=f"{where}/region",
            )


def same_purpose(stated: str, use_case: UseCase) -> bool:
    """Is it the use case's name, or its purpose apart from spaces and capitals?"""
    if stated == use_case.name:
        return True
    return " ".join(stated.casefold().split()) == " ".join(use_case.purpose.casefold().split())


def inside(region: str, allowed: tuple[str, ...] | list[str]) -> bool:
    """Is a region one of those, or a part of one (`US-NJ` is inside `us`)?"""
    low = region.casefold()
    return any(low == a.casefold() or low.startswith(a.casefold() + "-") for a in allowed)


def _listed(regions: tuple[str, ...] | list[str]) -> str:
    return ", ".join(regions) or "no region"


def referral(duties: Duties, use_case: UseCase, asked: Asked, outcome: str, reasons: list[Reason]) -> str:
    """The rule that gives a decision to a person, or nothing: then the outcome of the cut-offs stands.

    A subject who opted out is never decided about by the machine. An adverse outcome goes to a person where a rule
    forbids solely automated ones and the use case has no ground for it (GDPR Article 22(2)); the ground consent
    holds only with a reference to it. So does one for which fewer reasons are found than a rule asks for.
    """
    if outcome == "refer":
        return ""
    if asked.opted_out:
        return duties.opt_out or OPTED_OUT
    if outcome == "decline":
        if duties.referral:
            ground = use_case.automated_ground
            if not ground or (ground == "consent" and not asked.consent):
                return duties.referral
        if len(reasons) < duties.reasons_min:
            return REASONS
    return ""


def notices(duties: Duties, outcome: str) -> list[Notice]:
    """The notices due after an outcome, in the rulebook's order. Adverse is what was declined."""
    return [
        Notice(code=n.code, rule=n.rule, within_days=n.within_days)
        for n in duties.notices
        if n.when == "always" or outcome == "decline"
    ]


def reason_count(duties: Duties, use_case: UseCase) -> int:
    """How many reasons are given at most: the use case's number, within what the rules ask for."""
    count = max(use_case.reason_count, duties.reasons_min)
    return min(count, duties.reasons_max) if duties.reasons_max else count


def reviewer(use_case: UseCase) -> str:
    """Who decides what a rule refers."""
    return use_case.oversight_person or (use_case.reviewers[0] if use_case.reviewers else "")
