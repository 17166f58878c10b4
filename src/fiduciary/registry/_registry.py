"""Releases from proposal to retirement: every step an event on the control log, judged inside its lock.

The registry keeps no state of its own. It folds the control log (`Projection`), and each step reads, judges
and appends under the log's exclusive lock, so that two processes cannot both be right. A step that the rules
refuse is recorded as an event as well, when a party that is known here tried it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fiduciary.checks._facts import Facts
from fiduciary.config import Settings
from fiduciary.errors import LedgerError, NotFoundError, NotServableError, ReleaseError, UsageError
from fiduciary.identity import Principal
from fiduciary.ledger import Entry, Kind, Ledger, Receipt, Retention
from fiduciary.registry._build import sign
from fiduciary.registry._bundle import (
    SIGNATURES,
    Bundle,
    digest_hex,
    digest_text,
    read_bundle,
    sync_folder,
    write_bundle,
    write_durable,
)
from fiduciary.registry._canonical import canonical
from fiduciary.registry._checks import release_checks
from fiduciary.registry._dsse import RELEASE_TYPE, decode_base64, open_envelope, pae, verifies
from fiduciary.registry._facts import gather_facts
from fiduciary.registry._judging import day
from fiduciary.registry._load import LoadedRelease, load_bundle
from fiduciary.registry._oversight import REVIEW_TYPE, book_digest, book_of, review_statement
from fiduciary.registry._projection import Projection
from fiduciary.registry._rulebook import check_pack, resolve_rules, rules_document
from fiduciary.registry._rules import key_id_of, refusal
from fiduciary.registry._state import Book, Release
from fiduciary.registry._statements import NANO, make_statement, sign_statement
from fiduciary.registry._use_case import UseCase

if TYPE_CHECKING:
    from fiduciary.identity import PartyKey

CACHED = 8
"""Most releases kept ready in memory by one registry."""

Body = Mapping[str, Any]

REFUSED = {
    "release.proposed": "release.proposal_refused",
    "release.checked": "release.check_refused",
    "release.approved": "release.approval_refused",
    "release.rejected": "release.rejection_refused",
    "release.promoted": "release.promotion_refused",
    "release.shadowed": "release.promotion_refused",
    "release.suspended": "release.suspension_refused",
    "release.resumed": "release.resumption_refused",
    "release.rolled_back": "release.roll_back_refused",
    "release.retired": "release.retirement_refused",
    "usecase.defined": "usecase.definition_refused",
    "party.enrolled": "party.enrolment_refused",
    "party.removed": "party.removal_refused",
    "token.revoked": "token.revocation_refused",
    "pack.adopted": "pack.adoption_refused",
    "pack.withdrawn": "pack.withdrawal_refused",
    "rules.resolved": "rules.resolution_refused",
    "attestation.filed": "attestation.filing_refused",
    "finding.raised": "finding.raising_refused",
    "finding.closed": "finding.closing_refused",
    "waiver.granted": "waiver.refused",
    "overlay.set": "overlay.setting_refused",
    "overlay.ended": "overlay.ending_refused",
}
"""Event -> the event that records that a known party tried it and was refused."""
KEPT = ("release", "use_case", "party", "key", "pack", "version", "rule", "finding", "overlay", "kind")
"""What the record of a refused step keeps of it."""


class Registry:
    """The releases of a home. Safe to use from several threads; any number of processes may have one each.

    `clock`: nanoseconds since 1970, used for the time of signing only; events are dated by the ledger.
    """

    def __init__(
        self, ledger: Ledger, settings: Settings, *, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.RLock()
        self._loaded: OrderedDict[str, LoadedRelease] = OrderedDict()
        self._timeout = settings.ledger.append_timeout_s
        self.scope = f"{settings.tenant}.{settings.region}"
        """What statements of this home are signed for."""
        self.releases = settings.home / "releases"
        self._state = Projection(self.scope)
        self._epoch = -1

    # --- reading ---

    def states(self, at: datetime | int | None = None) -> Projection:
        """The state now, or at a moment (aware datetime, or nanoseconds since 1970).

        The present state is shared and moves on: read it, do not keep or change it. Raises `UsageError` for a
        time without a zone.
        """
        if at is None:
            with self._lock:
                return self._catch_up()
        return Projection(self.scope).fold(self._ledger.events(), until_ns=_nanoseconds(at))

    def live(self, use_case: str, at: datetime | int | None = None) -> str | None:
        """Digest of the release that answers (or answered, at that moment) for a use case; None: none may."""
        return self.states(at).live(use_case)

    def release_dir(self, digest: str) -> Path:
        """Where a release's bundle lies (or would lie) in this home."""
        return self.releases / digest_hex(digest)

    def revoked(self, principal: Principal, token_id: str) -> bool:
        """Has the token been revoked? For `identity.Authenticator`."""
        return self.states().revocations.refused(principal, token_id)

    # --- the rules of the day ---

    def rulebook(self, use_case: str) -> tuple[Book, Any]:
        """The rulebook of a use case today, resolved and not announced: as the control log would say it, and the
        `rules.Rulebook` itself.

        Raises `NotFoundError`, `UsageError`, or `NotServableError` when a pack that it names is not in force.
        """
        with self._lock:
            state = self._catch_up()
            body, found = self._resolved(state, use_case)
            return book_of({**body, "use_case": use_case}, -1, self._ledger.clock()), found

    def announce(self, use_case: str, *, by: str) -> Book:
        """The rulebook in force for a use case now; put on the control log when it is not there.

        `by`: who resolves it (a gate, a party); nothing is signed, since it follows from what officers signed. Raises
        what `rulebook` raises, `ReleaseError`, `LedgerError`.
        """
        with self._lock:
            body, _ = self._resolved(self._catch_up(), use_case)
            book = self._book(use_case)
            if book is not None and book.digest == body["rulebook"]:
                return book
            with self._ledger.control() as log:
                state = self._catch_up(force=True)
                body, _ = self._resolved(state, use_case)
                book = self._book(use_case)
                if book is None or book.digest != body["rulebook"]:  # another process may have been faster
                    payload = {"event": "rules.resolved", "scope": self.scope, "by": by, **body}
                    why = refusal(state, payload, self._ledger.clock())
                    if why is not None:
                        raise ReleaseError(f"rules.resolved was refused: {why}", event="rules.resolved")
                    self._append(log, payload)
            self._catch_up(force=True)
            book = self._book(use_case)
        if book is None:
            raise NotServableError(f"the rules of {use_case!r} changed while they were resolved; try again")
        return book

    def _book(self, use_case: str) -> Book | None:
        return self._state.use(use_case).book_on(day(self._ledger.clock()))

    def _renew(self, digest: str, by: str) -> None:
        """Resolve the rules before a release is judged by them, so that nobody's slipped-in rulebook counts.

        When they cannot be resolved no rulebook is in force, and the judgement itself refuses and records that.
        """
        release = self.states().releases.get(digest)
        if release is not None and self.states().use(release.use_case).use_case.packs:
            with contextlib.suppress(NotServableError, UsageError, ReleaseError):
                self.announce(release.use_case, by=by)

    def facts(self, use_case: str, release: str | None = None, at: datetime | int | None = None) -> Facts:
        """Governance facts of a use case, and of one release of it, as the ledger has them.

        `at`: as they were at that moment. Raises `NotFoundError`.
        """
        moment = self._ledger.clock() if at is None else _nanoseconds(at)
        with self._lock:
            return gather_facts(self._ledger, self.states(at), self._bundle, use_case, release, moment)

    def retentions(self) -> dict[str, Retention]:
        """Retention classes that rulebooks have named: how long records of each must and may be kept.

        The longest minimum that any rulebook asked for counts, so that a milder rulebook later frees no earlier
        record; the maximum is the last one's, never below the minimum. The ledger's own classes are not in it.
        """
        found: dict[str, Retention] = {}
        for book in self.states().books.values():
            name = book.obligations.get("retention_class")
            if not isinstance(name, str) or not name:
                continue
            least, most = (book.obligations.get(f"retention_{end}_days") for end in ("min", "max"))
            floor = least if isinstance(least, int) else 0
            before = found.get(name)
            floor = max(floor, before.minimum_days if before else 0)
            found[name] = Retention(floor, max(most, floor) if isinstance(most, int) else None)
        return found

    def _bundle(self, digest: str) -> Bundle:
        return read_bundle(self.release_dir(digest), digest)

    def _resolved(self, state: Projection, use_case: str) -> tuple[dict[str, Any], Any]:
        adopted = state.packs_of(use_case)
        use = state.use(use_case)
        found = resolve_rules(adopted, use.use_case, day(self._ledger.clock()))
        body = {
            "use_case": use_case,
            "rules": use.digest,
            "packs": [{"pack": a.pack, "version": a.version, "digest": a.digest} for a in adopted],
            **rules_document(found),
        }
        return {"rulebook": book_digest(body), **body}, found

    # --- loading ---

    def load(self, digest: str) -> LoadedRelease:
        """A release that may answer: approved, not suspended, rejected or retired. Whoever asks.

        State and approvals are asked of the ledger on every call. The bundle is read from disk once, wholly
        verified, and used from memory from then on: what changes on disk later cannot change an answer, and
        is found by `verify` and at the next start. Raises `NotServableError` (its state), `NotFoundError` or
        `ReleaseError` (the bundle).
        """
        with self._lock:
            release = self._catch_up().release(digest)
            if not release.servable:
                raise NotServableError(
                    f"release {digest} is {self._state.state(digest)}; only an approved release may answer"
                )
            return self._ready(release)

    def load_live(self, use_case: str) -> LoadedRelease:
        """The release that answers for a use case now. Raises what `load` raises."""
        with self._lock:
            state = self._catch_up()
            history = state.use(use_case).history
            digest = state.live(use_case)
            if digest is None:
                last = (
                    f"the last one, {history[-1]}, is {state.state(history[-1])}"
                    if history
                    else "none was promoted"
                )
                raise NotServableError(f"no release may answer for use case {use_case!r}: {last}")
            return self._ready(state.release(digest))

    def examine(self, digest: str) -> LoadedRelease:
        """A release in any state, for replay and evidence only, never to answer anew.

        Its bytes and signatures are verified like those of any other. Raises `NotFoundError`, `ReleaseError`.
        """
        with self._lock:
            return self._ready(self._catch_up().release(digest))

    def verify(self, digest: str) -> Bundle:
        """Read the bundle from disk again: every file, no other file, and every signature in it.

        The author's signature must be there, under the key that the author was enrolled with; any other must
        be of a key enrolled at some time. Raises `NotFoundError`, `ReleaseError`, `LimitError`.
        """
        with self._lock:
            return self._verify(self._catch_up().release(digest))

    def _ready(self, release: Release) -> LoadedRelease:
        found = self._loaded.get(release.digest)
        if found is None:
            found = load_bundle(self._verify(release))
            self._loaded[release.digest] = found
            while len(self._loaded) > CACHED:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(release.digest)
        return found

    def _verify(self, release: Release) -> Bundle:
        bundle = read_bundle(self.release_dir(release.digest), release.digest)
        said = (release.name, release.version, release.family, release.use_case)
        manifest = bundle.manifest
        if said != (manifest.name, manifest.version, manifest.family, manifest.use_case):
            raise ReleaseError(f"the proposal of {release.digest} on the ledger contradicts its manifest")
        author = key_id_of(release.author_key)
        if author not in bundle.signatures:
            raise ReleaseError(f"release {release.digest} lacks the signature of its author {release.author}")
        self._check_signatures(bundle)
        return bundle

    def _check_signatures(self, bundle: Bundle) -> None:
        keys = {
            enrolment.key_id: enrolment.public
            for p in self._state.parties.values()
            for enrolment in p.history
        }
        for key_id, envelope in bundle.signatures.items():
            if key_id not in keys:
                raise ReleaseError(
                    f"signatures/{key_id}.dsse.json is by a key that nobody was ever enrolled with"
                )
            payload = open_envelope(envelope, RELEASE_TYPE, bytes.fromhex(keys[key_id]))
            if payload != bundle.manifest_bytes:
                raise ReleaseError(f"signatures/{key_id}.dsse.json signs another manifest")

    # --- governing ---

    def enrol_party(
        self,
        name: str,
        public: bytes,
        roles: Iterable[str],
        *,
        by: str,
        key: PartyKey,
        kind: str = "person",
    ) -> Receipt:
        """Enrol a party, or renew its key or roles. A home's first party enrols itself, as an officer."""
        body = {"party": name, "public": public.hex(), "roles": list(roles), "kind": kind}
        return self._govern("party.enrolled", body, by=by, key=key)

    def remove_party(self, name: str, *, by: str, key: PartyKey, reason: str = "") -> Receipt:
        """End a party's rights. What it signed before stays valid."""
        return self._govern("party.removed", {"party": name, "reason": reason}, by=by, key=key)

    def define_use_case(self, use_case: UseCase, *, by: str, key: PartyKey) -> Receipt:
        """Define a use case, or a new version of it; earlier versions stay known by their digest."""
        use_case.check()
        body = {"use_case": use_case.name, "digest": use_case.digest, "document": use_case.document}
        return self._govern("usecase.defined", body, by=by, key=key)

    def propose(self, folder: Path, *, by: str, key: PartyKey, note: str = "") -> str:
        """Sign a bundle as its author, take it into this home and propose it; returns its digest.

        Whoever else has signed the bundle by then counts as an author too and cannot approve it.
        """
        sign(folder, key)
        bundle = read_bundle(folder)
        with self._lock:
            self._catch_up()
            foreign = {k: raw for k, raw in bundle.signatures.items() if k != key.key_id}
            self._check_signatures(msgspec.structs.replace(bundle, signatures=foreign))
        target = self.releases / digest_hex(bundle.digest)
        if folder.resolve() != target.resolve():
            write_bundle(self.releases, bundle.manifest_bytes, bundle.files)
            _copy_signatures(target, bundle.signatures)
        manifest = bundle.manifest
        body = {
            "release": bundle.digest,
            "name": manifest.name,
            "version": manifest.version,
            "family": manifest.family,
            "use_case": manifest.use_case,
            "signers": sorted(bundle.signatures),
            "note": note,
        }
        self._govern("release.proposed", body, by=by, key=key)
        return bundle.digest

    def check(
        self,
        digest: str,
        *,
        by: str,
        key: PartyKey,
        more: Iterable[Mapping[str, Any]] = (),
        rulebook: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Run the release checks, record their results and return them.

        `more`: results of checks made elsewhere, each with `name`, `ok` and optionally `severity`, `detail`; those of
        the rules of a pack also `rule`, and then `rulebook` names the rulebook that they are of and `data` what they
        were computed on.
        """
        bundle = self.verify(digest)
        results = [*release_checks(bundle), *[dict(result) for result in more]]
        green = all(r.get("ok") is True or r.get("severity") in ("warn", "record") for r in results)
        ruled: dict[str, Any] = {"rulebook": rulebook, "data": dict(data or {})} if rulebook else {}
        body = self._about(digest, results=results, green=green, **ruled)
        self._govern("release.checked", body, by=by, key=key)
        return results

    def approve(self, digest: str, *, by: str, key: PartyKey, note: str = "") -> Receipt:
        """Approve exactly this digest on its latest checks. Not for its author, by party or by key."""
        self._renew(digest, by)

        def body(state: Projection) -> Body:
            self.verify(digest)
            checks = state.release(digest).checks
            return self._about(digest, checked=checks.index if checks else -1, note=note)

        return self._govern("release.approved", body, by=by, key=key)

    def reject(self, digest: str, *, by: str, key: PartyKey, reason: str) -> Receipt:
        """Refuse a release for good (a validator), or withdraw it (its author)."""
        return self._govern("release.rejected", self._about(digest, reason=reason), by=by, key=key)

    def promote(self, digest: str, use_case: str = "", *, by: str, key: PartyKey, note: str = "") -> Receipt:
        """Make an approved release the one that answers for its use case. It is loaded first, as a rehearsal.

        `use_case`: if given, it must be the one that the release was made for.
        """
        return self._put_to_use("release.promoted", digest, use_case, by, key, note)

    def shadow(self, digest: str, use_case: str = "", *, by: str, key: PartyKey, note: str = "") -> Receipt:
        """Let an approved release score beside the live one, without effect on outcomes."""
        return self._put_to_use("release.shadowed", digest, use_case, by, key, note)

    def suspend(self, digest: str, *, by: str, reason: str, key: PartyKey | None = None) -> Receipt:
        """The stop button: durable when this returns, and obeyed by the next answer of every process.

        Stopping is the safe direction, so no signature is needed: the caller must have asked the access
        policy (`suspend_release`). A signature that is given must hold.
        """
        return self._govern("release.suspended", self._about(digest, reason=reason), by=by, key=key)

    def resume(self, digest: str, *, by: str, key: PartyKey, reason: str) -> Receipt:
        """End a suspension. A release that was live, with none promoted since, is live again."""
        return self._govern("release.resumed", self._about(digest, reason=reason), by=by, key=key)

    def rollback(self, use_case: str, *, by: str, key: PartyKey, reason: str) -> str:
        """Go back to the previous live release that is still approved; returns its digest.

        Raises `ReleaseError` when there is none.
        """
        target = self.states().rollback_target(use_case)
        if target is None:
            self.states().use(use_case)
            raise ReleaseError(f"use case {use_case!r} has no earlier release that is still approved")
        self.load(target)

        def body(state: Projection) -> Body:
            history = state.use(use_case).history
            return {"release": target, "use_case": use_case, "from": history[-1], "reason": reason}

        self._govern("release.rolled_back", body, by=by, key=key)
        return target

    def retire(self, digest: str, *, by: str, key: PartyKey, reason: str) -> Receipt:
        """End a release for good. It is never loaded to answer again; replay of what it decided goes on."""
        return self._govern("release.retired", self._about(digest, reason=reason), by=by, key=key)

    def revoke_token(
        self, *, by: str, jti: str = "", subject: str = "", reason: str = "", key: PartyKey | None = None
    ) -> Receipt:
        """Void one token (`jti`), or all tokens of a subject issued up to now; obeyed by the next answer.

        Without a key the caller must have asked the access policy (`revoke_token`).
        """
        if bool(jti) == bool(subject):
            raise UsageError("name either a token (jti) or a subject")
        named = {"jti": jti} if jti else {"subject": subject, "before": self._clock() // NANO}
        return self._govern("token.revoked", {**named, "reason": reason}, by=by, key=key)

    def statement(self, event: str, body: Body, *, by: str, key_id: str) -> dict[str, Any]:
        """What a party must sign for a step, to be signed on another machine and handed to `submit`."""
        return make_statement(event, body, scope=self.scope, by=by, key_id=key_id, signed_ns=self._clock())

    def submit(self, payload: Body) -> Receipt:
        """Record a step that was signed elsewhere. Raises `ReleaseError` when it does not hold."""
        if payload.get("event") not in REFUSED:
            raise UsageError("this is not a step of the registry")
        event, by = str(payload["event"]), str(payload.get("by", ""))
        return self._record(event, by, lambda _: dict(payload))

    def adopt_pack(
        self,
        document: Mapping[str, Any],
        *,
        by: str,
        key: PartyKey,
        note: str = "",
        review: bytes | None = None,
    ) -> Receipt:
        """Put a version of a rule pack in force, in place of any other; its whole document goes on the control log.

        Every use case that names it resolves its rules anew before the next decision. `review`: the signed envelope
        of a pack that says counsel reviewed it; without one such a pack is refused. Raises `UsageError` when the
        document is no pack, `ReleaseError`.
        """
        check_pack(document)
        body: dict[str, Any] = {
            "pack": document.get("pack"),
            "version": document.get("version"),
            "digest": digest_text(canonical(document)),
            "document": dict(document),
            "note": note,
        }
        if review is not None:
            body["review"] = self._reviewer(document, review)
        return self._govern("pack.adopted", body, by=by, key=key)

    def _reviewer(self, document: Mapping[str, Any], envelope: bytes) -> dict[str, str]:
        """Whose signature of the review an envelope holds, as the event says it. Raises `ReleaseError`."""
        statement = review_statement(document)
        for public in sorted(self.states().key_owner):
            try:
                if open_envelope(envelope, REVIEW_TYPE, bytes.fromhex(public)) != statement:
                    continue
            except ReleaseError:
                continue
            signed = msgspec.json.decode(envelope)["signatures"]
            data = pae(REVIEW_TYPE, statement)
            for one in signed:
                if verifies(bytes.fromhex(public), decode_base64(one["sig"]), data):
                    return {"public": public, "signature": one["sig"]}
        raise ReleaseError("the review is not signed for this pack by anybody who was ever enrolled here")

    def withdraw_pack(self, pack: str, *, by: str, key: PartyKey, reason: str) -> Receipt:
        """Take a pack out of force. Use cases that name it are not answered until they name others."""
        return self._govern("pack.withdrawn", {"pack": pack, "reason": reason}, by=by, key=key)

    def attest(
        self,
        kind: str,
        digest: str,
        title: str,
        *,
        by: str,
        key: PartyKey,
        use_case: str = "",
        release: str = "",
        expires: str = "",
        note: str = "",
    ) -> Receipt:
        """File the evidence that a person adds (a DPIA, a board report): its digest, not the document itself."""
        body = {
            "kind": kind,
            "use_case": use_case,
            "release": release,
            "digest": digest,
            "title": title,
            "expires": expires,
            "note": note,
        }
        return self._govern("attestation.filed", body, by=by, key=key)

    def raise_finding(
        self,
        finding: str,
        use_case: str,
        severity: str,
        title: str,
        *,
        by: str,
        key: PartyKey,
        release: str = "",
        due: str = "",
        note: str = "",
    ) -> Receipt:
        """Raise a finding of a review: `severity` high, medium or low."""
        body = {
            "finding": finding,
            "use_case": use_case,
            "release": release,
            "severity": severity,
            "title": title,
            "due": due,
            "note": note,
        }
        return self._govern("finding.raised", body, by=by, key=key)

    def close_finding(self, finding: str, *, by: str, key: PartyKey, reason: str) -> Receipt:
        """Close a finding; not for the author of the release that it is about."""
        found = self.states().findings.get(finding)
        if found is None:
            raise NotFoundError(f"there is no finding {finding[:80]!r}")
        body = {"finding": finding, "use_case": found.use_case, "reason": reason}
        return self._govern("finding.closed", body, by=by, key=key)

    def waive(self, digest: str, rule: str, expires: str, *, by: str, key: PartyKey, reason: str) -> Receipt:
        """Let a release not meet one rule until a date; never for its author."""
        body = self._about(digest, rule=rule, expires=expires, reason=reason)
        return self._govern("waiver.granted", body, by=by, key=key)

    def set_overlay(
        self, overlay: str, use_case: str, title: str, expires: str, *, by: str, key: PartyKey, reason: str
    ) -> Receipt:
        """Put a post-model adjustment on the register, until a date."""
        body = {
            "overlay": overlay,
            "use_case": use_case,
            "title": title,
            "expires": expires,
            "reason": reason,
        }
        return self._govern("overlay.set", body, by=by, key=key)

    def end_overlay(self, overlay: str, *, by: str, key: PartyKey, reason: str) -> Receipt:
        """End an overlay."""
        found = self.states().overlays.get(overlay)
        if found is None:
            raise NotFoundError(f"there is no overlay {overlay[:80]!r}")
        body = {"overlay": overlay, "use_case": found.use_case, "reason": reason}
        return self._govern("overlay.ended", body, by=by, key=key)

    # --- inside ---

    def _about(self, digest: str, **more: Any) -> dict[str, Any]:
        return {"release": digest, "use_case": self.states().release(digest).use_case, **more}

    def _put_to_use(
        self, event: str, digest: str, use_case: str, by: str, key: PartyKey, note: str
    ) -> Receipt:
        self._renew(digest, by)

        def body(state: Projection) -> Body:
            release = state.release(digest)
            if release.servable:
                self._ready(release)
            return {"release": digest, "use_case": use_case or release.use_case, "note": note}

        return self._govern(event, body, by=by, key=key)

    def _govern(
        self, event: str, body: Body | Callable[[Projection], Body], *, by: str, key: PartyKey | None
    ) -> Receipt:
        def make(state: Projection) -> dict[str, Any]:
            said = body(state) if callable(body) else body
            if key is None:
                return {"event": event, "scope": self.scope, "by": by, **said}
            return sign_statement(self.statement(event, said, by=by, key_id=key.key_id), key)

        return self._record(event, by, make)

    def _record(self, event: str, by: str, make: Callable[[Projection], dict[str, Any]]) -> Receipt:
        """Read, judge and append in one hold of the control log's lock; refusals are appended as well."""
        receipt: Receipt | None = None
        with self._lock:
            with self._ledger.control() as log:
                state = self._catch_up(force=True)
                tried: dict[str, Any] = {"event": event, "by": by}
                try:
                    tried = make(state)
                    why = refusal(state, tried, self._clock())
                except ReleaseError as error:  # the bundle itself does not hold
                    why = error.detail
                if why is None:
                    receipt = self._append(log, tried)
                elif by in state.parties:
                    self._append(log, _refused(tried, why))
            self._catch_up()
        if receipt is None:
            raise ReleaseError(f"{event} was refused: {why}", event=event)
        return receipt

    def _append(self, log: Any, payload: Body) -> Receipt:
        release = payload.get("release")
        entry = Entry(
            kind=Kind.EVENT,
            payload=canonical(payload),
            release=bytes.fromhex(digest_hex(release)) if isinstance(release, str) and release else b"",
            use_case=str(payload.get("use_case", ""))[:63],
        )
        try:
            receipt: Receipt = log.append(entry).result(timeout=self._timeout)
        except TimeoutError:
            raise LedgerError(f"the control log did not become durable within {self._timeout} s") from None
        return receipt

    def _catch_up(self, *, force: bool = False) -> Projection:
        """Fold what is new. Without a new epoch nothing is: every event bumps it before its writer goes on."""
        epoch = self._ledger.epoch.value
        if force or epoch != self._epoch:
            self._state.fold(self._ledger.events(self._state.position))
            self._epoch = epoch
        return self._state


def _refused(payload: Body, why: str) -> dict[str, Any]:
    kept = {name: payload[name] for name in KEPT if name in payload}
    event = str(payload["event"])
    return {"event": REFUSED[event], "by": payload["by"], "tried": event, "why": why, **kept}


def _copy_signatures(target: Path, signatures: Mapping[str, bytes]) -> None:
    folder = target / SIGNATURES
    folder.mkdir(exist_ok=True)
    for key_id, raw in signatures.items():
        place = folder / f"{key_id}.dsse.json"
        if not place.exists():
            write_durable(place, raw)
        elif place.read_bytes() != raw:
            raise ReleaseError(f"{place} is there and is another signature")
    sync_folder(folder)
    sync_folder(target)


def _nanoseconds(at: datetime | int) -> int:
    if isinstance(at, int):
        return at
    if at.tzinfo is None:
        raise UsageError("the time needs a zone, such as 2026-05-03T12:00:00Z")
    whole = at.replace(microsecond=0)
    return int(whole.timestamp()) * NANO + at.microsecond * 1_000
