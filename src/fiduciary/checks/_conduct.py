"""Checks of people and paper: approvals, inventories, access, retention, clocks, refusals, oversight, drills.

Pure functions of the facts (`_facts.py`) and the use case document. Where a fact is not established the result has
`ok` None and says in `lacking` what a person must add. Sources are the duties that rule packs cite; a check knows
none of them. `_governance.py` registers them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

from fiduciary.checks._facts import Attestation, Facts
from fiduciary.checks._result import CheckResult
from fiduciary.checks._sample import Subject

MAX_NAMED = 10


def _facts(subject: Subject) -> Facts:
    found: Facts = subject.facts
    return found


def _case(subject: Subject) -> dict[str, Any]:
    return dict(subject.use_case or {})


def _said(name: str, ok: bool | None, detail: str, **more: Any) -> CheckResult:
    return CheckResult(name=name, ok=ok, detail=detail, **more)


def _unknown(name: str, lacking: str) -> CheckResult:
    return CheckResult(name=name, ok=None, lacking=lacking, detail=f"not judged: {lacking} needed")


def _named(items: Iterable[str]) -> str:
    listed = list(items)
    return ", ".join(listed[:MAX_NAMED]) + (
        f" and {len(listed) - MAX_NAMED} more" if len(listed) > MAX_NAMED else ""
    )


def _days(since: str, today: str) -> int:
    return (date.fromisoformat(today) - date.fromisoformat(since)).days


def _current(facts: Facts, kind: str, max_age_days: int | None) -> Attestation | None:
    """The newest attestation of a kind that still counts: for this release, or for the use case as a whole."""
    release = facts.release.digest if facts.release else ""
    for found in sorted(facts.attestations, key=lambda a: a.filed, reverse=True):
        if found.kind != kind or (found.release and found.release != release):
            continue
        if found.expires and facts.today >= found.expires:
            continue
        if max_age_days is not None and _days(found.filed, facts.today) > max_age_days:
            continue
        return found
    return None


def _attested(name: str, subject: Subject, kinds: list[str], max_age_days: int | None) -> CheckResult:
    facts = _facts(subject)
    missing = [kind for kind in kinds if _current(facts, kind, max_age_days) is None]
    if missing:
        stale = [k for k in missing if any(a.kind == k for a in facts.attestations)]
        if stale:
            return _said(
                name, False, f"on file but no longer current: {_named(stale)}", value=float(len(missing))
            )
        return _unknown(name, "a current filing of: " + _named(missing))
    return _said(name, True, f"on file and current: {_named(kinds)}", value=0.0)


def approval_attested(subject: Subject, kinds: list[str], max_age_days: int | None) -> CheckResult:
    """Every named document (an impact assessment, a sign-off) is on file, unexpired and young enough."""
    return _attested("approval.attested", subject, kinds, max_age_days)


def document_attested(subject: Subject, kinds: list[str], max_age_days: int | None) -> CheckResult:
    """Every named document is on file, unexpired and young enough."""
    return _attested("document.attested", subject, kinds, max_age_days)


def approval_independent(subject: Subject, minimum: int) -> CheckResult:
    """Enough people approved, and none of them is the author or signed as one."""
    name, release = "approval.independent", _facts(subject).release
    if release is None:
        return _unknown(name, "a release")
    own = {release.author, *release.signers} & set(release.approvers)
    if own:
        return _said(name, False, f"approved by an author: {_named(sorted(own))}", value=float(len(own)))
    n = len(release.approvers)
    detail = f"{n} of {minimum} approvals, none by the author"
    return _said(name, n >= minimum, detail, value=float(n), threshold=float(minimum))


def approval_change(subject: Subject, minimum: int) -> CheckResult:
    """The change was tested green, approved by others than its author, and has a way back."""
    name, release = "approval.change", _facts(subject).release
    if release is None:
        return _unknown(name, "a release")
    wrong = []
    if not release.checked:
        wrong.append("no check run is recorded")
    if release.author in release.approvers:
        wrong.append("its author approved it")
    if release.rollback is False:
        wrong.append("there is no release to go back to")
    if release.state in ("live", "shadow", "suspended", "retired") and len(release.approvers) < minimum:
        wrong.append("it was put to use without enough approvals")
    detail = "; ".join(wrong) or "tested, approved by others and reversible"
    return _said(name, not wrong, detail, value=float(len(wrong)))


def approval_findings_closed(subject: Subject, severities: list[str]) -> CheckResult:
    """No finding of these severities is open, and no finding is past its due day."""
    name, facts = "approval.findings_closed", _facts(subject)
    if facts.findings is None:
        return _unknown(name, "the register of findings")
    open_ = [f for f in facts.findings if not f.closed]
    bad = [f.finding for f in open_ if f.severity in severities or (f.due and facts.today > f.due)]
    detail = f"open against the rule: {_named(bad)}" if bad else f"{len(open_)} open, none late or barred"
    return _said(name, not bad, detail, value=float(len(bad)))


def approval_overlays_current(subject: Subject) -> CheckResult:
    """Every post-model adjustment has an owner and an end that has not passed."""
    name, facts = "approval.overlays_current", _facts(subject)
    if facts.overlays is None:
        return _unknown(name, "the register of overlays")
    bad = [o.overlay for o in facts.overlays if not o.owner or facts.today >= o.expires]
    detail = (
        f"without owner or past its end: {_named(bad)}"
        if bad
        else f"{len(facts.overlays)} in use, all current"
    )
    return _said(name, not bad, detail, value=float(len(bad)))


def approval_review_current(subject: Subject, kind: str, max_age_days: int) -> CheckResult:
    """The review of this kind was signed recently enough."""
    return _attested("approval.review_current", subject, [kind], max_age_days)


def approval_lawful_basis(subject: Subject, accepted: list[str]) -> CheckResult:
    """The use case states a lawful basis that the rule accepts."""
    basis = str(_case(subject).get("lawful_basis") or "")
    if not basis:
        return _unknown("approval.lawful_basis", "the use case's lawful_basis")
    return _said("approval.lawful_basis", basis in accepted, f"the lawful basis is {basis}")


def inventory_fields(subject: Subject, fields: list[str]) -> CheckResult:
    """The use case says all of these: its own fields, or `attributes.NAME`."""
    return _fields("inventory.fields", subject, fields)


def inventory_complete(subject: Subject, fields: list[str]) -> CheckResult:
    """The release is on the register, and its use case says all that an inventory needs."""
    if _facts(subject).release is None:
        return _unknown("inventory.complete", "a registered release")
    return _fields("inventory.complete", subject, fields)


def inventory_classified(subject: Subject, fields: list[str]) -> CheckResult:
    """The use case was classified, with its reason."""
    return _fields("inventory.classified", subject, fields)


def inventory_endpoints(subject: Subject) -> CheckResult:
    """Every outside model endpoint has a row in the register of providers."""
    name, endpoints = "inventory.endpoints", _facts(subject).endpoints
    if endpoints is None:
        return _unknown(name, "the list of outside model endpoints")
    bad = sorted(e for e, listed in endpoints.items() if not listed)
    detail = f"not in the register: {_named(bad)}" if bad else f"{len(endpoints)} endpoints, all registered"
    return _said(name, not bad, detail, value=float(len(bad)))


def _fields(name: str, subject: Subject, fields: list[str]) -> CheckResult:
    case = _case(subject)
    attributes = case.get("attributes") or {}
    missing = []
    for field in fields:
        value = attributes.get(field[11:]) if field.startswith("attributes.") else case.get(field)
        if value in (None, "", [], {}):
            missing.append(field)
    if missing:
        return _unknown(name, "in the use case: " + _named(missing))
    return _said(name, True, f"stated: {_named(fields)}", value=0.0)


def access_configuration(subject: Subject, settings: list[str]) -> CheckResult:
    """Each of these settings of the home holds."""
    name, configuration = "access.configuration", _facts(subject).configuration
    unknown = [s for s in settings if s not in configuration]
    bad = [s for s in settings if configuration.get(s) is False]
    if bad:
        return _said(name, False, f"does not hold: {_named(bad)}", value=float(len(bad)))
    if unknown:
        return _unknown(name, "the state of: " + _named(unknown))
    return _said(name, True, f"holds: {_named(settings)}", value=0.0)


def access_reviewed(subject: Subject, max_age_days: int) -> CheckResult:
    """The review of who may do what is signed and recent, and nobody who left can still act."""
    facts = _facts(subject)
    expired = [
        p.name for p in facts.parties or [] if p.expires and facts.today >= p.expires and not p.removed
    ]
    if expired:
        return _said("access.reviewed", False, f"access outlived its end: {_named(expired)}")
    return _attested("access.reviewed", subject, ["access-review"], max_age_days)


def access_walled(subject: Subject) -> CheckResult:
    """No protected characteristic is among the model's inputs."""
    name, release = "access.walled", _facts(subject).release
    found = release.protected_features if release else None
    if found is None and subject.contract is not None:
        found = [f.name for f in subject.contract.features if f.protected]
    if found is None:
        return _unknown(name, "the feature contract of a release")
    detail = (
        f"protected and an input: {_named(found)}" if found else "no protected characteristic is an input"
    )
    return _said(name, not found, detail, value=float(len(found)))


def retention_minimum(subject: Subject, days: int) -> CheckResult:
    """Decisions are kept at least this long."""
    name, retention = "retention.minimum", _facts(subject).retention
    if retention is None or retention.minimum_days is None:
        return _unknown(name, "the retention class of the use case")
    kept = retention.minimum_days
    return _said(
        name,
        kept >= days,
        f"kept {kept} days, {days} asked",
        value=float(kept),
        unit="days",
        threshold=float(days),
    )


def retention_maximum(subject: Subject, days: int) -> CheckResult:
    """Decisions are kept no longer than this."""
    name, retention = "retention.maximum", _facts(subject).retention
    if retention is None or retention.maximum_days is None:
        return _unknown(name, "an end of the use case's retention class")
    kept = retention.maximum_days
    return _said(
        name,
        kept <= days,
        f"kept {kept} days, {days} at most",
        value=float(kept),
        unit="days",
        threshold=float(days),
    )


def retention_swept(subject: Subject, max_age_days: int) -> CheckResult:
    """The sweep ran recently, and left nothing behind that is past its time."""
    name, facts = "retention.swept", _facts(subject)
    retention = facts.retention
    if retention is None or not retention.swept or retention.overdue is None:
        return _unknown(name, "a retention sweep")
    age = _days(retention.swept, facts.today)
    ok = age <= max_age_days and retention.overdue == 0
    return _said(
        name, ok, f"swept {age} days ago, {retention.overdue} records past their time", value=float(age)
    )


def retention_erasure(subject: Subject) -> CheckResult:
    """No erasure that is due waits, and nothing erased can be read."""
    name, retention = "retention.erasure", _facts(subject).retention
    if retention is None or retention.erasures_open is None or retention.readable_after_erasure is None:
        return _unknown(name, "the register of erasures")
    bad = retention.erasures_open + retention.readable_after_erasure
    detail = f"{retention.erasures_open} waiting, {retention.readable_after_erasure} readable after erasure"
    return _said(name, bad == 0, detail, value=float(bad))


def clock_within(subject: Subject, clock: str, limit_seconds: float | None) -> CheckResult:
    """No clock of this name ran out (or took longer than the limit)."""
    name, facts = "clock.within", _facts(subject)
    found = next((c for c in facts.clocks or [] if c.name == clock), None)
    if found is None:
        return _unknown(name, f"the register of the clock {clock}")
    slow = limit_seconds is not None and (found.slowest_seconds or 0.0) > limit_seconds
    detail = f"{found.ended} ended, {found.running} running, {found.late} late"
    return _said(name, found.late == 0 and not slow, detail, value=float(found.late))


def refusal_purpose(subject: Subject) -> CheckResult:
    """The use case states its purpose and every input of the model says why it may be used."""
    name, facts = "refusal.purpose", _facts(subject)
    without = facts.release.features_without_purpose if facts.release else None
    if without is None and subject.contract is not None:
        without = [f.name for f in subject.contract.features if not f.purpose.strip()]
    if without is None:
        return _unknown(name, "the feature contract of a release")
    if not str(_case(subject).get("purpose") or "").strip():
        return _said(name, False, "the use case states no purpose")
    detail = f"without a purpose: {_named(without)}" if without else "every input says why it may be used"
    return _said(name, not without, detail, value=float(len(without)))


def refusal_residency(subject: Subject, regions: list[str]) -> CheckResult:
    """The regions where the use case may be decided lie within those the rule allows."""
    named = [str(r) for r in _case(subject).get("regions") or []]
    if not named:
        return _unknown("refusal.residency", "the use case's regions")
    low = [r.casefold() for r in regions]
    bad = [r for r in named if not any(r.casefold() == a or r.casefold().startswith(a + "-") for a in low)]
    detail = f"not allowed: {_named(bad)}" if bad else f"decided in {_named(named)} only"
    return _said("refusal.residency", not bad, detail)


def refusal_limits(subject: Subject, probe: str) -> CheckResult:
    """A suite of requests that must be refused was tried, and every one was."""
    return _probed("refusal.limits", subject, probe)


def refusal_untrusted(subject: Subject, probe: str) -> CheckResult:
    """A suite of probes for what the asker may not see was tried, and none leaked."""
    return _probed("refusal.untrusted", subject, probe)


def reasons_disclosure(subject: Subject, probe: str) -> CheckResult:
    """Sampled first answers carried the disclosure that a machine is talking."""
    return _probed("reasons.disclosure", subject, probe)


def _probed(name: str, subject: Subject, probe: str) -> CheckResult:
    found = next((p for p in _facts(subject).probes if p.name == probe), None)
    if found is None or found.tried == 0:
        return _unknown(name, f"a run of the probes {probe}")
    return _said(
        name, found.failed == 0, f"{found.tried} tried, {found.failed} failed", value=float(found.failed)
    )


def reasons_notice(
    subject: Subject, code: str, when: str, within_days: int | None, letter: str
) -> CheckResult:
    """The notice is named on every decision that calls for it, and none is late."""
    name, reasons = "reasons.notice", _facts(subject).reasons
    if reasons is None or reasons.adverse is None:
        return _unknown(name, "recorded decisions of the period")
    given = reasons.notices.get(code, 0)
    missing = max(reasons.adverse - given, 0) if when == "adverse" else 0
    late = reasons.notices_late or 0
    detail = f"{given} notices {code}, {missing} missing, {late} late"
    return _said(name, missing == 0 and late == 0, detail, value=float(missing + late))


def reasons_recorded(subject: Subject, minimum: int, maximum: int) -> CheckResult:
    """Every adverse decision of the period has its reasons on record, within these numbers."""
    name, reasons = "reasons.recorded", _facts(subject).reasons
    if reasons is None or reasons.adverse is None or reasons.with_reasons is None:
        return _unknown(name, "recorded decisions of the period")
    without = reasons.adverse - reasons.with_reasons
    off = (reasons.fewest is not None and reasons.fewest < minimum) or (
        reasons.most is not None and reasons.most > maximum
    )
    ok = without == 0 and not off
    return _said(name, ok, f"{reasons.adverse} adverse, {without} without reasons", value=float(without))


def oversight_human_review(subject: Subject) -> CheckResult:
    """No adverse decision was made by the machine alone, unless the use case has a ground for it."""
    name, case = "oversight.human_review", _case(subject)
    reviewers = case.get("reviewers") or case.get("oversight_person")
    ground = str(case.get("automated_ground") or "")
    if not reviewers:
        return _unknown(name, "in the use case: who reviews (reviewers or oversight_person)")
    oversight = _facts(subject).oversight
    alone = oversight.solely_automated if oversight else None
    if alone and not ground:
        return _said(
            name,
            False,
            f"{alone} adverse decisions by the machine alone, without a ground",
            value=float(alone),
        )
    return _said(
        name, True, f"reviewed by people{f', or on the ground {ground}' if ground else ''}", value=0.0
    )


def oversight_opt_out(subject: Subject) -> CheckResult:
    """A person who does not want to be decided about by a machine reaches a person."""
    name, case = "oversight.opt_out", _case(subject)
    if not (case.get("reviewers") or case.get("oversight_person")):
        return _unknown(name, "in the use case: who decides instead (reviewers or oversight_person)")
    return _said(name, True, "who opts out is referred to a person")


def oversight_contest_route(subject: Subject) -> CheckResult:
    """The use case says how a decision is contested, and no contest is late."""
    name, case = "oversight.contest_route", _case(subject)
    if not case.get("contest_route"):
        return _unknown(name, "in the use case: contest_route")
    oversight = _facts(subject).oversight
    late = (oversight.contests_late if oversight else None) or 0
    return _said(name, late == 0, f"contests go to {case['contest_route']}, {late} late", value=float(late))


def oversight_override_share(subject: Subject, minimum: float, maximum: float) -> CheckResult:
    """People change some of what they review, and not most of it: neither rubber stamp nor useless machine."""
    name, oversight = "oversight.override_share", _facts(subject).oversight
    reviewed = (oversight.referred or 0) + (oversight.contests_decided or 0) if oversight else 0
    if oversight is None or oversight.overrides is None or reviewed == 0:
        return _unknown(name, "reviewed decisions of the period")
    share = oversight.overrides / reviewed
    detail = f"{oversight.overrides} of {reviewed} reviewed decisions were changed"
    return _said(name, minimum <= share <= maximum, detail, value=share, unit="share")


def oversight_reviewer_named(subject: Subject) -> CheckResult:
    """A named person oversees the use case and is still here."""
    name, facts = "oversight.reviewer_named", _facts(subject)
    person = str(_case(subject).get("oversight_person") or "")
    if not person:
        return _unknown(name, "in the use case: oversight_person")
    if facts.parties is not None:
        known = {p.name: p for p in facts.parties}
        if person not in known or known[person].removed:
            return _said(name, False, f"{person} is not an active party")
    return _said(name, True, f"overseen by {person}")


def document_complete(subject: Subject, sections: list[str]) -> CheckResult:
    """The release's documentation has all of these sections."""
    name, release = "document.complete", _facts(subject).release
    if release is None:
        return _unknown(name, "a release")
    missing = [s for s in sections if s not in release.sections]
    detail = f"missing: {_named(missing)}" if missing else f"all {len(sections)} sections are there"
    return _said(name, not missing, detail, value=float(len(missing)))


def document_provenance(subject: Subject, members: list[str]) -> CheckResult:
    """The release's provenance states all of these."""
    name, release = "document.provenance", _facts(subject).release
    if release is None:
        return _unknown(name, "a release")
    missing = [m for m in members if m not in release.provenance]
    if missing:
        return _unknown(name, "in the release's provenance: " + _named(missing))
    return _said(name, True, f"stated: {_named(members)}", value=0.0)


def ledger_complete(subject: Subject) -> CheckResult:
    """Every answer that was counted has its record, and the chains verify."""
    name, ledger = "ledger.complete", _facts(subject).ledger
    if ledger is None or ledger.served is None or ledger.recorded is None or ledger.verified is None:
        return _unknown(name, "counts of answers and a verification of the ledger")
    missing = abs(ledger.served - ledger.recorded)
    detail = f"{ledger.served} served, {ledger.recorded} recorded, chains {'verify' if ledger.verified else 'FAIL'}"
    return _said(name, missing == 0 and ledger.verified, detail, value=float(missing))


def ledger_rebuild(subject: Subject, minimum: int) -> CheckResult:
    """Sampled decisions were decided again from the record, and came out the same."""
    name, ledger = "ledger.rebuild", _facts(subject).ledger
    if ledger is None or ledger.replayed is None or ledger.differed is None or ledger.replayed < minimum:
        return _unknown(name, f"a replay of at least {minimum} recorded decisions")
    detail = f"{ledger.replayed} replayed, {ledger.differed} differed"
    return _said(name, ledger.differed == 0, detail, value=float(ledger.differed))


def drill_recent(subject: Subject, kind: str, max_age_days: int, max_seconds: float | None) -> CheckResult:
    """The drill was held recently, passed, and was fast enough."""
    name, facts = "drill.recent", _facts(subject)
    held = sorted((d for d in facts.drills if d.kind == kind), key=lambda d: d.held)
    if not held:
        return _unknown(name, f"a drill of the {kind}")
    last = held[-1]
    age = _days(last.held, facts.today)
    slow = max_seconds is not None and (last.seconds is None or last.seconds > max_seconds)
    took = "" if last.seconds is None else f", {last.seconds:g} s"
    detail = f"held {age} days ago, {'passed' if last.passed else 'failed'}{took}"
    return _said(
        name, last.passed and age <= max_age_days and not slow, detail, value=float(age), unit="days"
    )


def monitors_ran(subject: Subject, max_age_days: int) -> CheckResult:
    """Every monitor of the plan ran within its time; none is silent."""
    name, facts = "performance.monitored", _facts(subject)
    if not facts.monitors:
        return _unknown(name, "a monitoring plan with its runs")
    bad = sorted(m for m, ran in facts.monitors.items() if not ran or _days(ran, facts.today) > max_age_days)
    detail = f"silent: {_named(bad)}" if bad else f"{len(facts.monitors)} monitors ran in time"
    return _said(name, not bad, detail, value=float(len(bad)))
