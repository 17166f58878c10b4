"""Contests, overrides and clocks: who may, what stands, and that the record never changes."""

from __future__ import annotations

import msgspec
import pytest

from bank import DEVELOPER, OFFICER, OPERATOR
from fiduciary.errors import (
    ConflictError,
    FiduciaryError,
    GoneError,
    LimitError,
    NotFoundError,
    PermissionDeniedError,
    UsageError,
)
from fiduciary.registry import statement_holds
from fiduciary.rights import clocks, due, with_rights
from rights_bank import ANN, BOB, GOOD, RightsBank

DAY = 86_400 * 10**9


def test_a_person_contests_a_human_decides_and_the_record_stays(bank: RightsBank) -> None:
    decision = bank.decide(ANN)
    before = bank.ledger.get(decision).payload
    contest = bank.desk.open_contest(decision, ANN, "My payments were late because of you", by=OFFICER)
    opened = bank.ledger.get(contest.id).header.time_ns
    assert contest.due_ns == pytest.approx(due(opened, "P1M"), abs=60 * 10**9)
    assert bank.desk.standing(decision)["standing"] == "decline"
    decided = bank.desk.decide_contest(
        contest.id, "overturn", by="hana", key=bank.key("hana"), reason="bank error", result="approve"
    )
    assert (decided.outcome, decided.result, decided.decided_by) == ("overturned", "approve", "hana")
    standing = bank.desk.standing(decision)
    assert (standing["recorded"], standing["standing"], standing["by"]) == ("decline", "approve", "hana")
    assert bank.ledger.get(decision).payload == before
    assert bank.ledger.verify().ok


def test_texts_are_sealed_and_the_human_decision_is_signed(bank: RightsBank) -> None:
    decision = bank.decide(ANN)
    contest = bank.desk.open_contest(decision, ANN, "a secret illness", by=OFFICER)
    bank.desk.decide_contest(contest.id, "uphold", by="hana", key=bank.key("hana"), reason="checked by hand")
    for record in (r for r in bank.ledger.records("control") if r.payload and b'"contest.' in r.payload):
        assert record.header.sealed
        if b"contest.decided" in (record.payload or b""):
            assert statement_holds(record.json(), bank.key("hana").public)
    everything = b"".join(p.read_bytes() for p in bank.settings.home.rglob("*") if p.is_file())
    assert b"secret illness" not in everything
    assert b"checked by hand" not in everything


def test_a_stranger_s_decision_is_not_there(bank: RightsBank) -> None:
    decision = bank.decide(ANN)
    bank.decide(BOB)
    for subject in (BOB, "nobody", ""):
        with pytest.raises(NotFoundError, match="no such decision about this person"):
            bank.desk.open_contest(decision, subject, "text", by=OFFICER)
    with pytest.raises(NotFoundError, match="no such decision about this person"):
        bank.desk.open_contest("gate-0.9999", ANN, "text", by=OFFICER)
    assert not bank.desk.register().contests
    assert not bank.ledger.holds()


def test_who_had_a_part_does_not_decide(bank: RightsBank) -> None:
    decision = bank.decide(ANN)
    contest = bank.desk.open_contest(decision, ANN, "text", by=OFFICER)
    bank.enrol("robot", "officer", kind="service")
    bank.enrol("svc-loans", "officer")
    for by, why in (
        (OFFICER, "filed"),
        (DEVELOPER, "neither an officer"),
        (OPERATOR, "neither an officer"),
        ("robot", "takes a person"),
        ("svc-loans", "had a part"),
    ):
        with pytest.raises(PermissionDeniedError, match=why):
            bank.desk.decide_contest(contest.id, "uphold", by=by, key=bank.key(by), reason="x")
    with pytest.raises(PermissionDeniedError, match="not enrolled with this key"):
        bank.desk.decide_contest(contest.id, "uphold", by="hana", key=bank.key(DEVELOPER), reason="x")
    bank.enrol(DEVELOPER, "developer", "officer")
    with pytest.raises(PermissionDeniedError, match="had a part"):  # the author of the release
        bank.desk.decide_contest(contest.id, "uphold", by=DEVELOPER, key=bank.key(DEVELOPER), reason="x")
    assert bank.desk.register().contests[contest.id].decided_ns is None


def test_wrong_steps_are_refused(bank: RightsBank) -> None:
    decision = bank.decide(ANN)
    desk, key = bank.desk, bank.key("hana")
    with pytest.raises(LimitError):
        desk.open_contest(decision, ANN, "x" * 20_001, by=OFFICER)
    for text in ("", "   ", "bell\x07"):
        with pytest.raises(UsageError):
            desk.open_contest(decision, ANN, text, by=OFFICER)
    contest = desk.open_contest(decision, ANN, "text", by=OFFICER)
    with pytest.raises(ConflictError, match="open already"):
        desk.open_contest(decision, ANN, "again", by=OFFICER)
    with pytest.raises(ConflictError, match="decide that instead"):
        desk.override(decision, "approve", by="hana", key=key, reason="x")
    for outcome, result in (
        ("overturn", ""),
        ("overturn", "decline"),
        ("overturn", "maybe"),
        ("uphold", "approve"),
    ):
        with pytest.raises(UsageError):
            desk.decide_contest(contest.id, outcome, by="hana", key=key, reason="x", result=result)  # type: ignore[arg-type]
    desk.decide_contest(contest.id, "uphold", by="hana", key=key, reason="x")
    with pytest.raises(ConflictError, match="decided before"):
        desk.decide_contest(contest.id, "uphold", by="hana", key=key, reason="x")
    with pytest.raises(NotFoundError):
        desk.decide_contest("control.999", "uphold", by="hana", key=key, reason="x")
    with pytest.raises(FiduciaryError):
        desk.open_contest("control.1", ANN, "text", by=OFFICER)


def test_an_override_without_contest_counts_and_can_be_overridden(bank: RightsBank) -> None:
    decision = bank.decide(ANN)
    bank.desk.override(decision, "approve", by="hana", key=bank.key("hana"), reason="guarantor")
    bank.desk.override(decision, "refer", by=OFFICER, key=bank.key(OFFICER), reason="guarantor withdrew")
    standing = bank.desk.standing(decision)
    assert standing["standing"] == "refer"
    assert [o["outcome"] for o in standing["overrides"]] == ["approve", "refer"]


def test_an_erased_decision_cannot_be_contested(bank: RightsBank) -> None:
    decision = bank.decide(ANN)
    bank.desk.erase(ANN, by=OFFICER, reason="request")
    with pytest.raises(GoneError):
        bank.desk.open_contest(decision, ANN, "text", by=OFFICER)


def test_statistics_feed_the_checks_of_oversight(bank: RightsBank) -> None:
    first, second = bank.decide(ANN), bank.decide(BOB)
    bank.decide("carl", GOOD)
    bank.desk.open_contest(first, ANN, "text", by=OFFICER)
    bank.desk.override(second, "approve", by="hana", key=bank.key("hana"), reason="x")
    bank.ledger.clock = lambda: 10**9 * 86_400 * 40 + bank.ledger.get(first).header.time_ns
    facts = with_rights(bank.desk, bank.registry.facts(bank.use_case.name), bank.use_case.name)
    assert facts.oversight is not None
    found = msgspec.to_builtins(facts.oversight)
    assert (found["decisions"], found["adverse"], found["solely_automated"]) == (3, 2, 1)
    assert (found["contests"], found["contests_decided"], found["contests_late"], found["overrides"]) == (
        1,
        0,
        1,
        1,
    )
    assert found["oldest_open_days"] == pytest.approx(40, abs=0.01)
    assert [(c.name, c.late, c.running) for c in facts.clocks or []] == [("contest", 1, 1)]


def test_an_incident_ticks_by_its_class_and_keeps_what_it_names(bank: RightsBank) -> None:
    decision = bank.decide(ANN)
    with pytest.raises(UsageError, match="no pack in force has a clock"):
        bank.desk.open_incident("flood", "feed down", by=OFFICER)
    start = bank.ledger.clock() - 5 * 3600 * 10**9
    incident = bank.desk.open_incident(
        "major",
        "feed down",
        by=OFFICER,
        use_case=bank.use_case.name,
        since_ns=start,
        clocks=["PT24H", "PT4H", "P1M"],
    )
    assert [s.limit for s in incident.steps] == ["PT4H", "PT24H", "P1M"]
    states = {c.step: c.state(bank.ledger.clock()) for c in clocks(bank.desk)}
    assert states == {"1: PT4H": "late", "2: PT24H": "due soon", "3: P1M": "running"}
    with pytest.raises(ConflictError, match="hold"):
        bank.desk.erase(ANN, by=OFFICER, reason="request")
    with pytest.raises(ConflictError, match="still owes step 1, 2, 3"):
        bank.desk.close_incident(incident.id, by=OFFICER, reason="over")
    for step in (1, 2, 3):
        bank.desk.step_incident(incident.id, step, by=OFFICER, note="reported")
    with pytest.raises(ConflictError, match="done already"):
        bank.desk.step_incident(incident.id, 1, by=OFFICER, note="reported")
    bank.desk.close_incident(incident.id, by=OFFICER, reason="over")
    assert not bank.ledger.holds()
    assert bank.ledger.get(decision).state == "readable"
    assert {c.state(bank.ledger.clock()) for c in clocks(bank.desk) if c.name == "incident.major"} == {
        "done",
        "done late",
    }


@pytest.mark.parametrize(
    ("kind", "hours"),
    [
        ("major", [4, 24, 72, 31 * 24]),
        ("cyber", [72]),
        ("personal_data", [72]),
        ("serious", [48, 240, 360]),
        ("customer_data", [720]),
    ],
)
def test_a_class_of_incident_has_limits_where_no_pack_and_nobody_gives_any(
    bank: RightsBank, kind: str, hours: list[int]
) -> None:
    start = 1_767_225_600 * 10**9  # 1 January 2026, a month of 31 days
    found = bank.desk.open_incident(kind, "x", by=OFFICER, since_ns=start)
    assert [(s.due_ns - start) / (3600 * 10**9) for s in found.steps] == hours
    assert {s.rule for s in found.steps} == {"default"}
    given = bank.desk.open_incident(kind, "x", by=OFFICER, since_ns=start, clocks=["PT1H"])
    assert [(s.limit, s.rule) for s in given.steps] == [("PT1H", "")]


def test_nobody_judges_a_contest_of_what_they_decided_themselves(bank: RightsBank) -> None:
    decision = bank.decide(ANN, {"utilisation": 0.8, "late_payments": 1, "housing": "owner"})  # refer
    bank.desk.override(decision, "decline", by="hana", key=bank.key("hana"), reason="income not shown")
    first = bank.desk.open_contest(decision, ANN, "it was shown", by=OFFICER)
    for outcome, result in (("uphold", ""), ("overturn", "approve")):
        with pytest.raises(PermissionDeniedError, match=r"decided about gate-0.* before"):
            bank.desk.decide_contest(
                first.id, outcome, by="hana", key=bank.key("hana"), reason="x", result=result
            )  # type: ignore[arg-type]
    bank.enrol("ines", "officer")
    bank.desk.decide_contest(first.id, "uphold", by="ines", key=bank.key("ines"), reason="looked again")
    second = bank.desk.open_contest(decision, ANN, "look once more", by=OFFICER)
    with pytest.raises(PermissionDeniedError, match="before"):  # she upheld it
        bank.desk.decide_contest(second.id, "uphold", by="ines", key=bank.key("ines"), reason="x")
    bank.enrol("jo", "officer")
    bank.desk.decide_contest(second.id, "overturn", by="jo", key=bank.key("jo"), reason="x", result="approve")
    assert bank.desk.standing(decision)["standing"] == "approve"


def test_requests_tick_until_they_are_answered(bank: RightsBank) -> None:
    bank.decide(ANN)
    request = bank.desk.open_request("access", ANN, by=OFFICER)
    assert request.due_ns == pytest.approx(
        due(bank.ledger.get(request.id).header.time_ns, "P1M"), abs=60 * 10**9
    )
    assert bank.desk.answer_requests("portability", ANN, by=OFFICER) == []
    assert bank.desk.answer_requests("access", ANN, by=OFFICER) == [request.id]
    assert bank.desk.answer_requests("access", ANN, by=OFFICER) == []
