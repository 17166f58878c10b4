"""Governance facts are read off the ledger: as it is now, or as it was."""

from __future__ import annotations

import time

import msgspec
import pytest

from bank import DEVELOPER, OFFICER, USE_CASE, VALIDATOR, Bank
from fiduciary.checks import Subject, run_check
from fiduciary.errors import NotFoundError
from fiduciary.registry import day, digest_text

TODAY = day(time.time_ns())
DOCUMENT = digest_text(b"the assessment")


def later(days: int) -> str:
    return day(time.time_ns() + days * 86_400 * 10**9)


def judged(bank: Bank, name: str, release: str | None = None, **params: object) -> bool | None:
    subject = Subject(facts=bank.registry.facts(USE_CASE.name, release), use_case=USE_CASE.document)
    return run_check(name, subject, params).ok


def test_a_release_from_its_proposal_to_service(bank: Bank) -> None:
    digest = bank.proposed()
    before = bank.registry.facts(USE_CASE.name, digest).release
    assert (before.author, before.approvers, before.checked, before.state) == (DEVELOPER, [], "", "proposed")
    assert before.signers == [DEVELOPER] and before.rollback is True
    assert {"Use", "Inputs", "Provenance"} <= set(before.sections) and before.provenance == ["data"]
    assert before.features_without_purpose == ["utilisation", "late_payments", "housing"]
    assert before.protected_features == []
    assert judged(bank, "approval.independent", digest) is False
    bank.registry.check(digest, by=DEVELOPER, key=bank.keys[DEVELOPER])
    bank.registry.approve(digest, by=VALIDATOR, key=bank.keys[VALIDATOR])
    after = bank.registry.facts(USE_CASE.name, digest).release
    assert (after.approvers, after.checked, after.green) == ([VALIDATOR], TODAY, True)
    assert judged(bank, "approval.independent", digest) is True


def test_attestations_findings_and_overlays_decide_checks(bank: Bank) -> None:
    registry, officer = bank.registry, bank.keys[OFFICER]
    assert judged(bank, "document.attested", kinds=["dpia"]) is None
    registry.attest(
        "dpia", DOCUMENT, "DPIA 7", by=OFFICER, key=officer, use_case=USE_CASE.name, expires=later(9)
    )
    assert judged(bank, "document.attested", kinds=["dpia"]) is True
    other = msgspec.structs.replace(USE_CASE, name="mortgage")
    registry.define_use_case(other, by=OFFICER, key=officer)
    assert registry.facts("mortgage").attestations == []
    registry.attest("board-report", DOCUMENT, "Q3", by=OFFICER, key=officer)
    assert [a.kind for a in registry.facts("mortgage").attestations] == ["board-report"]
    grace = bank.keys[VALIDATOR]
    registry.raise_finding("F-1", USE_CASE.name, "high", "untested drift", by=VALIDATOR, key=grace)
    assert judged(bank, "approval.findings_closed") is False
    registry.close_finding("F-1", by=VALIDATOR, key=grace, reason="tested")
    assert judged(bank, "approval.findings_closed") is True
    registry.set_overlay("O-1", USE_CASE.name, "x", later(30), by=OFFICER, key=officer, reason="rates")
    assert [o.owner for o in registry.facts(USE_CASE.name).overlays] == [OFFICER]
    assert judged(bank, "approval.overlays_current") is True


def test_facts_of_a_moment_are_those_of_then(bank: Bank) -> None:
    bank.registry.attest("dpia", DOCUMENT, "DPIA 7", by=OFFICER, key=bank.keys[OFFICER])
    moment = time.time_ns()
    bank.registry.attest("fria", DOCUMENT, "FRIA 1", by=OFFICER, key=bank.keys[OFFICER])
    assert [a.kind for a in bank.registry.facts(USE_CASE.name, at=moment).attestations] == ["dpia"]
    assert [a.kind for a in bank.registry.facts(USE_CASE.name).attestations] == ["dpia", "fria"]


def test_what_the_ledger_cannot_know_is_unknown(bank: Bank) -> None:
    found = bank.registry.facts(USE_CASE.name)
    assert (found.ledger, found.oversight, found.clocks, found.reasons, found.endpoints) == (None,) * 5
    assert judged(bank, "ledger.complete") is None
    assert judged(bank, "access.configuration", settings=["mfa_approvals"]) is None
    assert judged(bank, "access.configuration", settings=["payload_encryption", "least_privilege"]) is True
    bank.enrol("eve", "developer", "validator")
    assert judged(bank, "access.configuration", settings=["least_privilege"]) is False


def test_erasures_and_people_are_counted(bank: Bank) -> None:
    bank.enrol("eve", "auditor")
    bank.registry.remove_party("eve", by=OFFICER, key=bank.keys[OFFICER], reason="left")
    people = {p.name: (p.roles, p.removed) for p in bank.registry.facts(USE_CASE.name).parties}
    assert people["eve"] == ([], TODAY) and people[DEVELOPER] == (["developer"], "")
    kept = bank.registry.facts(USE_CASE.name).retention
    assert (kept.minimum_days, kept.maximum_days, kept.swept, kept.erasures_done) == (0, None, "", 0)


def test_an_unknown_use_case_has_no_facts(bank: Bank) -> None:
    with pytest.raises(NotFoundError):
        bank.registry.facts("nothing")
