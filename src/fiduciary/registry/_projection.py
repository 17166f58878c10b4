"""The governed state at any time: a pure fold of the control log's events, in order.

What was live on 3 May has one answer, because it is computed from the events up to that moment and from
nothing else. An event that does not hold (see `_rules`) changes nothing and is listed in `anomalies`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from fiduciary.errors import NotFoundError, NotServableError
from fiduciary.identity import Revocations
from fiduciary.registry import _oversight as oversight
from fiduciary.registry._rules import key_id_of, refusal
from fiduciary.registry._state import (
    Adopted,
    Anomaly,
    Approval,
    Attestation,
    Book,
    CheckRun,
    Enrolment,
    Finding,
    Mark,
    Overlay,
    Party,
    Release,
    State,
    Use,
    Waiver,
)
from fiduciary.registry._use_case import UseCase, read_use_case

Payload = Mapping[str, Any]
Event = tuple[int, int, Mapping[str, Any]]
"""Index on the control log, time in nanoseconds, payload."""

MAX_ANOMALIES = 1_000


class Projection:
    """State of parties, use cases and releases after the events folded so far.

    `scope`: `<tenant>.<region>` of the home; statements signed for another are refused.
    """

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.position = 0
        """Index of the next control event to fold."""
        self.time_ns = 0
        """Time of the last event folded."""
        self.parties: dict[str, Party] = {}
        self.releases: dict[str, Release] = {}
        self.uses: dict[str, Use] = {}
        self.rules: dict[str, UseCase] = {}
        """Every version of every use case, by digest: what a decision record names as its rules."""
        self.nonces: set[str] = set()
        self.key_owner: dict[str, str] = {}
        self.packs: dict[str, Adopted] = {}
        """The version of each pack adopted last, by name; `ended` once it was withdrawn."""
        self.pack_history: list[Adopted] = []
        """Every adoption in order; `ended` says when another version or a withdrawal ended it."""
        self.books: dict[str, Book] = {}
        """Every rulebook that was announced, by digest: what a decision record names."""
        self.attestations: list[Attestation] = []
        self.findings: dict[str, Finding] = {}
        self.waivers: list[Waiver] = []
        self.overlays: dict[str, Overlay] = {}
        self.revocations = Revocations()
        """Tokens and subjects whose tokens are void; its `refused` is what an authenticator asks."""
        self.anomalies: list[Anomaly] = []

    def fold(self, events: Iterable[Event], until_ns: int | None = None) -> Projection:
        """Apply events in order and return self. `until_ns`: stop before the first event later than that."""
        for index, time_ns, payload in events:
            if until_ns is not None and time_ns > until_ns:
                break
            self.apply(index, time_ns, payload)
        return self

    def apply(self, index: int, time_ns: int, payload: Payload) -> bool:
        """Apply the next event; False when it does not hold and changed nothing."""
        event = payload.get("event")
        change = CHANGES.get(event) if isinstance(event, str) else None
        self.position, self.time_ns = index + 1, time_ns
        if change is None:
            return True
        why = refusal(self, payload, time_ns)
        if why is not None:
            if len(self.anomalies) < MAX_ANOMALIES:
                self.anomalies.append(Anomaly(index, time_ns, str(event), why))
            return False
        if "signature" in payload:
            self.nonces.add(payload["nonce"])
        change(self, payload, Mark(payload["by"], time_ns, index, str(payload.get("reason", ""))))
        return True

    def release(self, digest: str) -> Release:
        """What is known of a release. Raises `NotFoundError`."""
        try:
            return self.releases[digest]
        except KeyError:
            raise NotFoundError(f"no release {digest[:80]} has been proposed here") from None

    def use(self, use_case: str) -> Use:
        """A use case and who answers for it. Raises `NotFoundError`."""
        try:
            return self.uses[use_case]
        except KeyError:
            known = ", ".join(sorted(self.uses)) or "none so far"
            raise NotFoundError(
                f"no use case {use_case[:80]!r} has been defined; defined are: {known}"
            ) from None

    def live(self, use_case: str) -> str | None:
        """Digest of the release that answers for a use case, or None when none may answer."""
        use = self.uses.get(use_case)
        if use is None or not use.history:
            return None
        digest = use.history[-1]
        return digest if self.releases[digest].servable else None

    def rollback_target(self, use_case: str) -> str | None:
        """The release that was live before the last one and is still servable, or None."""
        use = self.uses.get(use_case)
        if use is None or not use.history:
            return None
        last = use.history[-1]
        for digest in reversed(use.history[:-1]):
            if digest != last and self.releases[digest].servable:
                return digest
        return None

    def packs_of(self, use_case: str) -> list[Adopted]:
        """The adopted packs that govern a use case, in its order.

        Raises `NotFoundError`, and `NotServableError` when one that it names is not in force here.
        """
        found = []
        for name in self.use(use_case).use_case.packs:
            adopted = self.packs.get(name)
            if adopted is None or adopted.ended is not None:
                raise NotServableError(
                    f"use case {use_case!r} is governed by pack {name!r}, which is not in force here: "
                    "an officer adopts it (fiduciary pack adopt)"
                )
            found.append(adopted)
        return found

    def blocked(self, digest: str, at_ns: int) -> str | None:
        """Why the latest checks keep a release from approval and service at that time; None: they do not.

        Raises `NotFoundError`.
        """
        return oversight.blocked(self, self.release(digest), at_ns)

    def state(self, digest: str) -> State:
        """The one word for a release's state. Raises `NotFoundError`."""
        release = self.release(digest)
        for word in _ENDS:
            if getattr(release, word) is not None:
                return word
        if self.live(release.use_case) == digest:
            return "live"
        if digest in self.uses[release.use_case].shadows:
            return "shadow"
        if release.approved:
            return "approved"
        return "checked" if release.checks and release.checks.green else "proposed"


_ENDS: tuple[State, ...] = ("retired", "suspended", "rejected")


# --- one function per event: what it changes, given that it holds ---


def _party_enrolled(s: Projection, p: Payload, mark: Mark) -> None:
    enrolment = Enrolment(
        public=p["public"],
        key_id=key_id_of(p["public"]),
        roles=tuple(p["roles"]),
        kind=p["kind"],
        enrolled_by=mark.by,
        since_ns=mark.time_ns,
        index=mark.index,
    )
    party = s.parties.setdefault(p["party"], Party(p["party"], None, []))
    if party.current is not None and party.name == mark.by:  # a new key does not change who vouched
        enrolment = msgspec.structs.replace(enrolment, enrolled_by=party.current.enrolled_by)
    party.current = enrolment
    party.history.append(enrolment)
    s.key_owner[enrolment.public] = party.name


def _party_removed(s: Projection, p: Payload, mark: Mark) -> None:
    s.parties[p["party"]].current = None


def _usecase_defined(s: Projection, p: Payload, mark: Mark) -> None:
    use_case = read_use_case(p["document"])
    s.rules[p["digest"]] = use_case
    present = s.uses.get(use_case.name)
    if present is None:
        s.uses[use_case.name] = Use(use_case, p["digest"], mark)
    else:
        present.book = None
        present.use_case, present.digest, present.defined = use_case, p["digest"], mark


def _release_proposed(s: Projection, p: Payload, mark: Mark) -> None:
    author = s.parties[mark.by].current
    s.releases[p["release"]] = Release(
        digest=p["release"],
        name=p["name"],
        version=p["version"],
        family=p["family"],
        use_case=p["use_case"],
        author=mark.by,
        author_key=author.public if author else "",
        signers=tuple(p["signers"]),
        proposed=mark,
    )


def _release_checked(s: Projection, p: Payload, mark: Mark) -> None:
    s.releases[p["release"]].checks = CheckRun(
        mark.by, mark.time_ns, mark.index, p["green"], p["results"], p.get("rulebook", "")
    )


def _release_approved(s: Projection, p: Payload, mark: Mark) -> None:
    release = s.releases[p["release"]]
    approver = s.parties[mark.by].current
    public = approver.public if approver else ""
    release.approvals.append(Approval(mark.by, public, mark.time_ns, mark.index, str(p.get("note", ""))))
    if release.approved is None and len(release.approvals) >= s.uses[release.use_case].use_case.approvals:
        release.approved = mark


def _release_rejected(s: Projection, p: Payload, mark: Mark) -> None:
    release = s.releases[p["release"]]
    release.rejected = mark
    _unshadow(s, release)


def _release_promoted(s: Projection, p: Payload, mark: Mark) -> None:
    release = s.releases[p["release"]]
    _unshadow(s, release)
    s.uses[release.use_case].history.append(release.digest)


def _unshadow(s: Projection, release: Release) -> None:
    shadows = s.uses[release.use_case].shadows
    if release.digest in shadows:
        shadows.remove(release.digest)


def _release_shadowed(s: Projection, p: Payload, mark: Mark) -> None:
    s.uses[p["use_case"]].shadows.append(p["release"])


def _release_suspended(s: Projection, p: Payload, mark: Mark) -> None:
    s.releases[p["release"]].suspended = mark


def _release_resumed(s: Projection, p: Payload, mark: Mark) -> None:
    s.releases[p["release"]].suspended = None


def _release_rolled_back(s: Projection, p: Payload, mark: Mark) -> None:
    history = s.uses[p["use_case"]].history
    while history[-1] != p["release"]:  # a second roll-back goes further back
        history.pop()
    _unshadow(s, s.releases[p["release"]])


def _release_retired(s: Projection, p: Payload, mark: Mark) -> None:
    release = s.releases[p["release"]]
    release.retired = mark
    _unshadow(s, release)


def _token_revoked(s: Projection, p: Payload, mark: Mark) -> None:
    s.revocations.apply(p)


def _pack_adopted(s: Projection, p: Payload, mark: Mark) -> None:
    _end_pack(s, p["pack"], mark)
    adopted = Adopted(p["pack"], p["version"], p["digest"], p["document"], mark)
    s.packs[adopted.pack] = adopted
    s.pack_history.append(adopted)


def _pack_withdrawn(s: Projection, p: Payload, mark: Mark) -> None:
    _end_pack(s, p["pack"], mark)


def _end_pack(s: Projection, pack: str, mark: Mark) -> None:
    present = s.packs.get(pack)
    if present is not None and present.ended is None:
        ended = msgspec.structs.replace(present, ended=mark)
        s.packs[pack] = s.pack_history[s.pack_history.index(present)] = ended
    for use in s.uses.values():
        if pack in use.use_case.packs:
            use.book = None


def _rules_resolved(s: Projection, p: Payload, mark: Mark) -> None:
    book = oversight.book_of(p, mark.index, mark.time_ns)
    s.books.setdefault(book.digest, book)
    s.uses[book.use_case].book = book


def _attestation_filed(s: Projection, p: Payload, mark: Mark) -> None:
    s.attestations.append(
        Attestation(
            kind=p["kind"],
            use_case=p.get("use_case", ""),
            release=p.get("release", ""),
            digest=p["digest"],
            title=p["title"],
            expires=p.get("expires", ""),
            note=p.get("note", ""),
            mark=mark,
        )
    )


def _finding_raised(s: Projection, p: Payload, mark: Mark) -> None:
    s.findings[p["finding"]] = Finding(
        id=p["finding"],
        use_case=p["use_case"],
        release=p.get("release", ""),
        severity=p["severity"],
        title=p["title"],
        due=p.get("due", ""),
        raised=mark,
    )


def _finding_closed(s: Projection, p: Payload, mark: Mark) -> None:
    s.findings[p["finding"]].closed = mark


def _waiver_granted(s: Projection, p: Payload, mark: Mark) -> None:
    s.waivers.append(Waiver(p["release"], p["use_case"], p["rule"], p["expires"], mark))


def _overlay_set(s: Projection, p: Payload, mark: Mark) -> None:
    s.overlays[p["overlay"]] = Overlay(p["overlay"], p["use_case"], p["title"], p["expires"], mark)


def _overlay_ended(s: Projection, p: Payload, mark: Mark) -> None:
    s.overlays[p["overlay"]].ended = mark


CHANGES: dict[str, Callable[[Projection, Payload, Mark], None]] = {
    "party.enrolled": _party_enrolled,
    "party.removed": _party_removed,
    "usecase.defined": _usecase_defined,
    "release.proposed": _release_proposed,
    "release.checked": _release_checked,
    "release.approved": _release_approved,
    "release.rejected": _release_rejected,
    "release.promoted": _release_promoted,
    "release.shadowed": _release_shadowed,
    "release.suspended": _release_suspended,
    "release.resumed": _release_resumed,
    "release.rolled_back": _release_rolled_back,
    "release.retired": _release_retired,
    "token.revoked": _token_revoked,
    "pack.adopted": _pack_adopted,
    "pack.withdrawn": _pack_withdrawn,
    "rules.resolved": _rules_resolved,
    "attestation.filed": _attestation_filed,
    "finding.raised": _finding_raised,
    "finding.closed": _finding_closed,
    "waiver.granted": _waiver_granted,
    "overlay.set": _overlay_set,
    "overlay.ended": _overlay_ended,
}
