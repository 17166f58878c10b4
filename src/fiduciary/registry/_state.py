"""The nouns of the governed state, as the fold of the control log leaves them."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from fiduciary.registry._use_case import UseCase

State = Literal["proposed", "checked", "approved", "live", "shadow", "suspended", "rejected", "retired"]

PARTY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+:/|=~#-]{0,127}")
PUBLIC_KEY = re.compile(r"[0-9a-f]{64}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Enrolment(msgspec.Struct, frozen=True, gc=False):
    """A party's key and roles from one enrolment until the next, or until removal."""

    public: str
    """Ed25519 public key, 64 hexadecimal digits."""
    key_id: str
    roles: tuple[str, ...]
    kind: Literal["person", "service"]
    enrolled_by: str
    since_ns: int
    index: int


class Party(msgspec.Struct):
    """A person or service that may sign. `current` is None after removal; old keys stay on record."""

    name: str
    current: Enrolment | None
    history: list[Enrolment]


class Approval(msgspec.Struct, frozen=True, gc=False):
    """One signed approval of one digest."""

    party: str
    public: str
    time_ns: int
    index: int
    note: str


class Mark(msgspec.Struct, frozen=True, gc=False):
    """Who did it, when, why, and where on the control log."""

    by: str
    time_ns: int
    index: int
    reason: str


class CheckRun(msgspec.Struct, frozen=True):
    """The latest run of the release checks."""

    by: str
    time_ns: int
    index: int
    green: bool
    results: list[dict[str, Any]]
    rulebook: str = ""
    """Digest of the rulebook whose release rules were run; empty: none were."""


class Adopted(msgspec.Struct, frozen=True):
    """A rule pack that an officer has put in force here, with its whole document."""

    pack: str
    version: str
    digest: str
    document: dict[str, Any]
    mark: Mark
    ended: Mark | None = None
    """Set when it was withdrawn, or another version took its place."""


class Book(msgspec.Struct, frozen=True):
    """A rulebook as `rules.resolved` announced it: which rules bind a use case, from which day to which."""

    digest: str
    use_case: str
    rules: str
    """Digest of the use case document that it was resolved for."""
    packs: tuple[tuple[str, str, str], ...]
    """Name, version and digest of each pack."""
    in_force: tuple[dict[str, str], ...]
    """Each rule: `rule`, `pack`, `version`, `stage`, `severity`, `check`."""
    obligations: dict[str, Any]
    valid_from: str
    valid_until: str
    """The first day on which other rules may be in force; empty: none is known."""
    index: int
    time_ns: int

    def covers(self, day: str) -> bool:
        """Is it in force on that UTC date?"""
        return self.valid_from <= day and not (self.valid_until and day >= self.valid_until)


class Attestation(msgspec.Struct, frozen=True):
    """A document a person has filed: who says that it is there, its digest, and until when it holds."""

    kind: str
    use_case: str
    release: str
    digest: str
    title: str
    expires: str
    """First day on which it no longer counts; empty: it does not expire."""
    note: str
    mark: Mark


class Finding(msgspec.Struct):
    """Something a reviewer wants repaired. `raised.index` on the control log is its number."""

    id: str
    use_case: str
    release: str
    severity: str
    title: str
    due: str
    raised: Mark
    closed: Mark | None = None


class Waiver(msgspec.Struct, frozen=True):
    """Leave for one release not to meet one rule for a while."""

    release: str
    use_case: str
    rule: str
    expires: str
    """First day on which it no longer holds."""
    mark: Mark


class Overlay(msgspec.Struct):
    """A judgement laid over a model's output (post-model adjustment), with an end."""

    id: str
    use_case: str
    title: str
    expires: str
    set: Mark
    ended: Mark | None = None


class Release(msgspec.Struct):
    """All that the control log says of one release digest."""

    digest: str
    name: str
    version: str
    family: str
    use_case: str
    author: str
    author_key: str
    signers: tuple[str, ...]
    """Key ids of all whose signature lay in the bundle when it was proposed; none of them may approve."""
    proposed: Mark
    checks: CheckRun | None = None
    approvals: list[Approval] = []
    approved: Mark | None = None
    """Set when the approvals reached the number that the use case asked for."""
    rejected: Mark | None = None
    suspended: Mark | None = None
    retired: Mark | None = None

    @property
    def servable(self) -> bool:
        """Approved, and neither rejected, suspended nor retired."""
        return self.approved is not None and not (self.rejected or self.suspended or self.retired)


class Use(msgspec.Struct):
    """A use case in force, its earlier versions, and the releases that answered for it."""

    use_case: UseCase
    digest: str
    defined: Mark
    history: list[str] = []
    """Digests that went live, oldest first; the last one is live now if it is still servable."""
    shadows: list[str] = []
    book: Book | None = None
    """The rulebook announced last, until a pack of it or the use case changes."""

    def book_on(self, day: str) -> Book | None:
        """The rulebook in force on a UTC date, or None when the rules must be resolved first."""
        book = self.book
        return book if book is not None and book.covers(day) else None


class Anomaly(msgspec.Struct, frozen=True):
    """An event on the log that does not hold, and so changed nothing."""

    index: int
    time_ns: int
    event: str
    why: str
