"""Who wins: the whole matrix of docs/rights.md, cell by cell, and what is left of a person after an erasure."""

from __future__ import annotations

from pathlib import Path

import pytest

from bank import OFFICER
from fiduciary.errors import ConflictError, NotFoundError, UsageError
from fiduciary.ledger import Ledger, Retention
from fiduciary.registry import Registry
from fiduciary.rights import Desk, access_file, write_folder
from rights_bank import ANN, BOB, RightsBank, forms, traces

DAY = 86_400 * 10**9
CLASSES = {
    "standard": Retention(),
    "long": Retention(minimum_days=100),
    "short": Retention(maximum_days=30),
    "both": Retention(minimum_days=10, maximum_days=30),
    "crossed": Retention(minimum_days=50, maximum_days=30),
}
KEEPERS = ("none", "hold", "minimum", "contest", "incident")


def keep(bank: RightsBank, keeper: str) -> tuple[str, str]:
    """A decision about Ann that something keeps; returns it and what keeps it."""
    bank.ledger.retention = CLASSES
    decision = bank.decide(ANN, retention="both" if keeper == "minimum" else "short")
    if keeper == "hold":
        return decision, bank.ledger.hold(by=OFFICER, reason="matter 4", subject_id=ANN)
    if keeper == "contest":
        return decision, bank.desk.open_contest(decision, ANN, "text", by=OFFICER).id
    if keeper == "incident":
        found = bank.desk.open_incident(
            "major", "x", by=OFFICER, use_case=bank.use_case.name, clocks=["PT4H"]
        )
        return decision, found.id
    return decision, ""


def release(bank: RightsBank, keeper: str, thing: str) -> None:
    if keeper == "hold":
        bank.ledger.lift(thing, by=OFFICER, reason="matter ended")
    elif keeper == "contest":
        bank.desk.decide_contest(thing, "uphold", by="hana", key=bank.key("hana"), reason="checked")
    elif keeper == "incident":
        bank.desk.step_incident(thing, 1, by=OFFICER, note="reported")
        bank.desk.close_incident(thing, by=OFFICER, reason="over")
    elif keeper == "minimum":
        later(bank, 11)


def later(bank: RightsBank, days: float) -> None:
    now = bank.ledger.clock()
    bank.ledger.clock = lambda: now + int(days * DAY)


@pytest.mark.parametrize("keeper", KEEPERS)
def test_against_an_erasure_request(bank: RightsBank, keeper: str) -> None:
    decision, thing = keep(bank, keeper)
    if keeper == "none":
        bank.desk.erase(ANN, by=OFFICER, reason="request 1")
        assert bank.ledger.get(decision).state == "erased"
        return
    with pytest.raises(
        ConflictError, match="must be kept 10 days" if keeper == "minimum" else "hold .* is in force"
    ):
        bank.desk.erase(ANN, by=OFFICER, reason="request 1")
    refused = [e for e in bank.events() if e["event"] == "erasure.refused"]
    assert len(refused) == 1
    assert refused[0]["because"]
    assert bank.ledger.get(decision).state == "readable"
    done, kept = bank.desk.carry_out(by=OFFICER)
    assert (done, len(kept)) == ([], 1)
    release(bank, keeper, thing)
    assert list(bank.ledger.pending_erasures().values()) == [[]]  # due, and listed as such
    done, kept = bank.desk.carry_out(by=OFFICER)
    assert (len(done), kept) == (1, {})
    assert bank.ledger.get(decision).state == "erased"
    assert bank.ledger.pending_erasures() == {}
    assert bank.ledger.verify().ok


@pytest.mark.parametrize("keeper", KEEPERS)
def test_against_a_maximum_and_the_sweep(bank: RightsBank, keeper: str) -> None:
    decision, thing = keep(bank, keeper)
    now = bank.ledger.clock()
    if keeper == "minimum":
        assert bank.ledger.sweep(by=OFFICER, now_ns=now + 9 * DAY).pruned == {}
    before_the_end = bank.ledger.sweep(by=OFFICER, now_ns=now + 29 * DAY)
    assert before_the_end.pruned == {}
    swept = bank.ledger.sweep(by=OFFICER, now_ns=now + 31 * DAY)
    if keeper in ("none", "minimum"):  # a minimum below the maximum has ended by then
        assert swept.pruned == {"gate-0": 1}
    else:
        assert "gate-0" not in swept.pruned
        assert swept.held >= 1
        assert bank.ledger.get(decision).state == "readable"
        release(bank, keeper, thing)
        assert bank.ledger.sweep(by=OFFICER, now_ns=now + 31 * DAY).pruned["gate-0"] == 1
    assert bank.ledger.get(decision).state == "pruned"
    assert bank.ledger.verify().ok


def test_a_minimum_beats_a_shorter_maximum(bank: RightsBank) -> None:
    bank.ledger.retention = CLASSES
    decision = bank.decide(ANN, retention="crossed")
    now = bank.ledger.clock()
    assert bank.ledger.sweep(by=OFFICER, now_ns=now + 49 * DAY).pruned == {}
    assert bank.ledger.get(decision).state == "readable"
    assert bank.ledger.sweep(by=OFFICER, now_ns=now + 51 * DAY).pruned == {"gate-0": 1}
    assert bank.ledger.verify().ok


@pytest.mark.parametrize("keeper", ["hold", "contest"])
def test_what_waits_for_an_erasure_is_swept_when_its_time_ends_and_is_then_not_pending(
    bank: RightsBank, keeper: str
) -> None:
    decision, thing = keep(bank, keeper)
    with pytest.raises(ConflictError):
        bank.desk.erase(ANN, by=OFFICER, reason="request")
    release(bank, keeper, thing)
    bank.ledger.sweep(by=OFFICER, now_ns=bank.ledger.clock() + 31 * DAY)
    assert bank.ledger.get(decision).state == "pruned"
    assert bank.ledger.pending_erasures() == {}
    assert bank.desk.carry_out(by=OFFICER) == ([], {})


@pytest.mark.parametrize("second", ["hold", "contest", "incident"])
@pytest.mark.parametrize("first", ["hold", "minimum", "contest", "incident"])
def test_two_that_keep_are_both_named_and_the_last_one_decides(
    bank: RightsBank, first: str, second: str
) -> None:
    if first == second:
        pytest.skip("one of a kind")
    decision, thing = keep(bank, first)
    if second == "hold":
        other = bank.ledger.hold(by=OFFICER, reason="matter 5", subject_id=ANN)
    elif second == "contest":
        other = bank.desk.open_contest(decision, ANN, "text", by=OFFICER).id
    else:
        other = bank.desk.open_incident("major", "x", by=OFFICER, subject=ANN, clocks=["PT4H"]).id
    with pytest.raises(ConflictError):
        bank.desk.erase(ANN, by=OFFICER, reason="request")
    release(bank, second, other)
    assert bank.desk.carry_out(by=OFFICER)[0] == []  # the first still keeps it
    release(bank, first, thing)
    if first == "minimum" and second == "contest":
        pass  # the contest's own record is of the decision's class and is past its minimum as well by now
    assert len(bank.desk.carry_out(by=OFFICER)[0]) == 1
    assert bank.ledger.get(decision).state == "erased"


def test_a_class_without_a_rule_is_neither_erased_nor_swept(bank: RightsBank) -> None:
    decision = bank.decide(ANN, retention="unknown")
    with pytest.raises(ConflictError, match="has no rule"):
        bank.desk.erase(ANN, by=OFFICER, reason="request")
    assert bank.ledger.sweep(by=OFFICER, now_ns=bank.ledger.clock() + 10_000 * DAY).pruned == {}
    assert bank.ledger.get(decision).state == "readable"


def test_nobody_else_s_keeper_keeps(bank: RightsBank) -> None:
    bank.decide(ANN)
    other = bank.decide(BOB)
    bank.desk.open_contest(other, BOB, "text", by=OFFICER)
    bank.desk.erase(ANN, by=OFFICER, reason="request")
    assert bank.ledger.get(other).state == "readable"
    with pytest.raises(NotFoundError):
        bank.desk.erase(ANN, by=OFFICER, reason="again")


def test_after_an_erasure_nothing_personal_is_in_any_file_and_all_proofs_hold(bank: RightsBank) -> None:
    decision = bank.decide(ANN, {"utilisation": 0.8123457, "late_payments": 4, "housing": "renter"})
    other = bank.decide(BOB)
    bank.desk.open_request("access", ANN, by=OFFICER)
    contest = bank.desk.open_contest(decision, ANN, "Zebra-illness in spring", by=OFFICER)
    bank.desk.decide_contest(
        contest.id,
        "overturn",
        by="hana",
        key=bank.key("hana"),
        reason="Yellow-payslip seen",
        result="approve",
    )
    with pytest.raises(UsageError, match="outside the home"):
        write_folder(bank.settings.home, bank.settings.home / "drafts" / ".." / "c", {"a": ANN})
    pseudonym = bank.ledger.vault.pseudonym(ANN)
    personal = [ANN, "0.8123457", "Zebra-illness in spring", "Yellow-payslip seen"]
    bank.desk.erase(ANN, by=OFFICER, reason="request 9")
    assert traces(bank.settings.home, personal) == []
    assert not [p for p in bank.settings.home.rglob("*") if p.is_file() and pseudonym in p.read_bytes()]
    report = bank.ledger.verify()
    assert report.ok, report
    assert bank.ledger.prove(decision)
    assert bank.ledger.get(other).state == "readable"
    assert len(access_file(bank.desk, BOB)["decisions"]) == 1
    with pytest.raises(NotFoundError):
        access_file(bank.desk, ANN)
    book = bank.desk.register()
    assert not book.contests
    assert not book.requests
    assert not book.overrides


def test_the_scan_finds_what_is_there(tmp_path: Path) -> None:
    for k, form in enumerate(forms(ANN)):
        folder = tmp_path / str(k)
        folder.mkdir()
        (folder / "f").write_bytes(b"\x00\x01" + form + b"\x02")
        assert traces(folder, [ANN]), k


def test_a_restored_backup_revives_no_sealed_event(bank: RightsBank) -> None:
    import shutil

    decision = bank.decide(ANN)
    contest = bank.desk.open_contest(decision, ANN, "Zebra-illness", by=OFFICER)
    bank.desk.decide_contest(contest.id, "uphold", by="hana", key=bank.key("hana"), reason="x")
    home = bank.settings.home
    backup = bank.folder / "backup"
    shutil.copytree(home / "vault", backup / "vault")
    shutil.copy(home / "keys" / "vault.kek", backup / "vault.kek")
    bank.desk.erase(ANN, by=OFFICER, reason="request")
    bank.ledger.close()
    shutil.rmtree(home / "vault")
    shutil.copytree(backup / "vault", home / "vault")
    shutil.copy(backup / "vault.kek", home / "keys" / "vault.kek")
    with Ledger.open(bank.settings) as again:
        desk = Desk(again, Registry(again, bank.settings))
        assert again.get(contest.id).state == "erased"
        assert not desk.register().contests
        assert again.verify().ok
