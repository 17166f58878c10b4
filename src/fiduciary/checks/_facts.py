"""Governance facts: what is true of a use case, its release and its home on a day, as plain values.

The registry assembles them from the control log, the settings and the rights register; checks judge them and know
none of those. A fact that nobody established is None (or an absent list), and a check that needs it says what a
person must add: unknown is never a pass. Dates are ISO texts (`2026-07-21`), so that they compare as they read.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Attestation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person said that a document is there: its kind and digest, when, and until when it counts."""

    kind: str
    filed: str
    expires: str = ""
    """First day on which it no longer counts; empty: no end."""
    release: str = ""
    """The release it is about; empty: the use case or the whole home."""
    digest: str = ""
    title: str = ""
    by: str = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something a reviewer wants repaired."""

    finding: str
    severity: str = "medium"
    due: str = ""
    closed: str = ""
    """The day it was closed; empty: open."""


class Overlay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A post-model adjustment in use."""

    overlay: str
    expires: str
    owner: str = ""
    size: str = ""


class Drill(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An exercise: stop button, kill switch, restore, provider exit."""

    kind: str
    held: str
    passed: bool = True
    seconds: float | None = None


class ReleaseFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One release as the control log tells of it."""

    digest: str
    author: str
    approvers: list[str] = []
    state: str = ""
    signers: list[str] = []
    checked: str = ""
    """Day of the latest check run; empty: none."""
    green: bool = False
    rollback: bool | None = None
    """Is there an earlier release to go back to (or is this the first)?"""
    sections: list[str] = []
    """Sections that its documentation has."""
    provenance: list[str] = []
    """Members that its provenance states."""
    features_without_purpose: list[str] | None = None
    protected_features: list[str] | None = None
    """Protected characteristics among the model's inputs."""


class Person(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A party of the home."""

    name: str
    roles: list[str] = []
    kind: str = "person"
    removed: str = ""
    expires: str = ""


class LedgerFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the ledger's own checks found."""

    served: int | None = None
    """Answers the gates counted."""
    recorded: int | None = None
    """Answers that have a record."""
    verified: bool | None = None
    """Whether all chains verified at the last verification."""
    replayed: int | None = None
    """Decisions that were decided again."""
    differed: int | None = None


class RetentionFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long content is kept, and whether it is destroyed when its time ends."""

    minimum_days: int | None = None
    """Shortest time that the use case's decisions are kept."""
    maximum_days: int | None = None
    swept: str = ""
    """Day of the last sweep; empty: never."""
    overdue: int | None = None
    """Records kept past their time at the last sweep."""
    erasures_open: int | None = None
    erasures_done: int | None = None
    readable_after_erasure: int | None = None


class OversightFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What people did with what the machine decided."""

    decisions: int | None = None
    adverse: int | None = None
    solely_automated: int | None = None
    """Adverse decisions without a person in them."""
    referred: int | None = None
    contests: int | None = None
    contests_decided: int | None = None
    contests_late: int | None = None
    overrides: int | None = None
    oldest_open_days: float | None = None


class ClockFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of clock over the period."""

    name: str
    ended: int = 0
    late: int = 0
    running: int = 0
    slowest_seconds: float | None = None


class ProbeFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A suite of probes against the running path: how many were tried, how many failed."""

    name: str
    tried: int
    failed: int
    held: str = ""


class ReasonFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reasons and notices of recorded decisions over the period."""

    adverse: int | None = None
    with_reasons: int | None = None
    fewest: int | None = None
    most: int | None = None
    notices: dict[str, int] = {}
    """Notice code -> how many were due and named in the record."""
    notices_late: int | None = None


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a governance check may read. `today` is the UTC day the facts are of."""

    today: str
    release: ReleaseFacts | None = None
    attestations: list[Attestation] = []
    findings: list[Finding] | None = None
    overlays: list[Overlay] | None = None
    parties: list[Person] | None = None
    configuration: dict[str, bool] = {}
    """Setting -> does it hold? Such as payload_encryption, tls, least_privilege, token_expiry, mfa_approvals."""
    retention: RetentionFacts | None = None
    ledger: LedgerFacts | None = None
    oversight: OversightFacts | None = None
    clocks: list[ClockFacts] | None = None
    drills: list[Drill] = []
    probes: list[ProbeFacts] = []
    reasons: ReasonFacts | None = None
    refusals: dict[str, int] = {}
    """Problem kind -> requests refused with it over the period."""
    endpoints: dict[str, bool] | None = None
    """Outside model endpoint -> does the register of providers have a row for it?"""
    monitors: dict[str, str] | None = None
    """Scheduled check -> day of its last run; empty: it never ran."""


def read_facts(document: Any) -> Facts:
    """Facts from JSON values. Raises `UsageError` naming what is wrong."""
    from fiduciary.errors import UsageError

    try:
        return msgspec.convert(document, Facts)
    except msgspec.ValidationError as error:
        raise UsageError(f"the facts are not right: {error}") from None
