"""What the ledger knows of a use case and a release, for the checks that look at governance.

Facts are read off the control log's fold, the release's own documents and the settings; what only a run of something
else can tell (served counts, probes, contests) is left out here, and a check that needs it says so: unknown is not a
pass. Whoever has such figures adds them with `msgspec.structs.replace`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from fiduciary.checks import _facts as facts
from fiduciary.errors import FiduciaryError
from fiduciary.ledger import Ledger
from fiduciary.registry import _bundle as names
from fiduciary.registry._bundle import Bundle
from fiduciary.registry._judging import day
from fiduciary.registry._projection import Projection
from fiduciary.registry._state import Release

SECTION = re.compile(r"^##\s+(.+?)\s*$", re.MULTILINE)
CLASHING = (("developer", "validator"), ("developer", "operator"), ("validator", "operator"))
"""Roles that one party should not hold together where duties are segregated."""


def gather_facts(
    ledger: Ledger,
    state: Projection,
    bundle_of: Callable[[str], Bundle],
    use_case: str,
    release: str | None,
    at_ns: int,
) -> facts.Facts:
    """`checks.Facts` from the state at a moment. Raises `NotFoundError` for an unknown use case or release."""
    use = state.use(use_case)
    found = state.releases.get(release) if release else None
    told = _Told(ledger, at_ns)
    return facts.Facts(
        today=day(at_ns),
        release=_release(state, found, bundle_of) if found is not None else None,
        attestations=[
            facts.Attestation(
                kind=a.kind,
                filed=day(a.mark.time_ns),
                expires=a.expires,
                release=a.release,
                digest=a.digest,
                title=a.title,
                by=a.mark.by,
            )
            for a in state.attestations
            if a.use_case in ("", use_case)
        ],
        findings=[
            facts.Finding(
                finding=f.id,
                severity=f.severity,
                due=f.due,
                closed=day(f.closed.time_ns) if f.closed else "",
            )
            for f in state.findings.values()
            if f.use_case == use_case and f.release in ("", release or "")
        ],
        overlays=[
            facts.Overlay(overlay=o.id, expires=o.expires, owner=o.set.by)
            for o in state.overlays.values()
            if o.use_case == use_case and o.ended is None
        ],
        parties=[
            facts.Person(
                name=p.name,
                roles=list(p.current.roles) if p.current else [],
                kind=p.current.kind if p.current else p.history[-1].kind,
                removed="" if p.current else told.removed.get(p.name, ""),
            )
            for p in state.parties.values()
        ],
        configuration=_configuration(state),
        retention=_retention(ledger, use.use_case.retention, use.book, told),
        drills=told.drills,
    )


class _Told:
    """What events outside the fold tell: removals, sweeps, erasures, drills."""

    def __init__(self, ledger: Ledger, until_ns: int) -> None:
        self.removed: dict[str, str] = {}
        self.swept = ""
        self.erased = 0
        self.completed = 0
        self.drills: list[facts.Drill] = []
        for _, time_ns, payload in ledger.events():
            if time_ns > until_ns:
                break
            event, today = payload.get("event"), day(time_ns)
            if event == "party.removed":
                self.removed[str(payload.get("party"))] = today
            elif event == "retention.swept":
                self.swept = today
            elif event == "subject.erased":
                self.erased += 1
            elif event == "erasure.completed":
                self.completed += 1
            elif event == "drill.recorded":
                self._drill(payload, today)

    def _drill(self, payload: Any, today: str) -> None:
        kind, passed, seconds = payload.get("kind"), payload.get("passed", True), payload.get("seconds")
        if isinstance(kind, str) and isinstance(passed, bool):
            took = (
                float(seconds) if isinstance(seconds, int | float) and not isinstance(seconds, bool) else None
            )
            self.drills.append(facts.Drill(kind=kind, held=today, passed=passed, seconds=took))


def _release(state: Projection, release: Release, bundle_of: Callable[[str], Bundle]) -> facts.ReleaseFacts:
    checks = release.checks
    found = facts.ReleaseFacts(
        digest=release.digest,
        author=release.author,
        approvers=[a.party for a in release.approvals],
        state=state.state(release.digest),
        signers=sorted({owner for key, owner in state.key_owner.items() if _key_id(key) in release.signers}),
        checked=day(checks.time_ns) if checks else "",
        green=bool(checks and checks.green),
        rollback=_can_go_back(state, release),
    )
    try:
        bundle = bundle_of(release.digest)
        contract = bundle.document(names.CONTRACT)
        provenance = bundle.document(names.PROVENANCE)
    except FiduciaryError:  # pruned from disk, or broken: the loader says so; here it is unknown
        return found
    features = contract.get("features", []) if isinstance(contract, dict) else []
    return msgspec.structs.replace(
        found,
        sections=SECTION.findall(bundle.files[names.CARD].decode("utf-8", "replace")),
        provenance=sorted(provenance) if isinstance(provenance, dict) else [],
        features_without_purpose=[str(f["name"]) for f in features if not str(f.get("purpose", "")).strip()],
        protected_features=[str(f["name"]) for f in features if f.get("protected") is True],
    )


def _key_id(public: str) -> str:
    from fiduciary.registry._rules import key_id_of

    return key_id_of(public)


def _can_go_back(state: Projection, release: Release) -> bool:
    """Is there an earlier release that still holds, or is this one the first?"""
    history = state.uses[release.use_case].history
    others = [digest for digest in history if digest != release.digest]
    return not others or any(state.releases[digest].servable for digest in others)


def _configuration(state: Projection) -> dict[str, bool]:
    """Settings that hold by construction, or that the enrolments show; others a person attests."""
    present = [p.current for p in state.parties.values() if p.current is not None]
    segregated = not any(set(pair) <= set(p.roles) for p in present for pair in CLASHING)
    return {
        "payload_encryption": True,
        "append_only_log": True,
        "signed_approvals": True,
        "token_expiry": True,
        "unique_identities": True,
        "least_privilege": segregated,
        "segregation_of_duties": segregated,
    }


def _retention(ledger: Ledger, own: str, book: Any, told: _Told) -> facts.RetentionFacts:
    """How long the use case's decisions are kept, by the class that their headers carry."""
    obliged = book.obligations.get("retention_class") if book is not None else ""
    rule = ledger.retention.get(obliged or own)
    return facts.RetentionFacts(
        minimum_days=rule.minimum_days if rule else None,
        maximum_days=rule.maximum_days if rule else None,
        swept=told.swept,
        erasures_open=max(told.erased - told.completed, 0),
        erasures_done=told.completed,
    )
