"""Erasure holds against every way to read the data back; holds and retention are stronger than a request."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from pathlib import Path

import pytest

from fiduciary.config import Settings
from fiduciary.errors import (
    ConflictError,
    FiduciaryError,
    GoneError,
    IntegrityError,
    NotFoundError,
    UsageError,
)
from fiduciary.ledger import Kind, Ledger, Retention
from fiduciary.ledger._erase import DAY_NS
from ledger_home import decision, small_settings, write_about_anna

SECRET = "Person anna"


def filled(ledger: Ledger, count: int = 60) -> bytes:
    """Records about anna and others in two shards and the control log; returns anna's pseudonym."""
    pseudonym = ledger.vault.pseudonym("anna")
    for shard in ("gate-0", "gate-1"):
        log = ledger.shard(shard)
        futures = [
            log.append(decision(ledger, "anna" if k % 4 == 0 else f"s{k % 7}", k)) for k in range(count)
        ]
        for future in futures:
            future.result(10)
        log.publish()
    ledger.emit("contest.opened", {"text": SECRET}, subject=pseudonym)
    return pseudonym


def everything_under(home: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}


def assert_gone(home: Path, pseudonym: bytes) -> None:
    for path, data in everything_under(home).items():
        assert SECRET.encode() not in data, path
        assert pseudonym not in data, path
        assert pseudonym.hex().encode() not in data, path


def test_an_erased_subject_is_nowhere_and_all_else_stays(ledger: Ledger, settings: Settings) -> None:
    pseudonym = filled(ledger)
    others = {h.id for h in ledger.search(subject="s1")}
    assert any(pseudonym in data for data in everything_under(settings.home).values()), "the test must see it"
    done = ledger.erase("anna", by="dpo", reason="request 17")
    assert done.records == {"control": 1, "gate-0": 15, "gate-1": 15}
    assert ledger.search(subject="anna") == []
    for record_id in ("gate-0.0", "gate-1.4"):
        record = ledger.get(record_id)
        assert (record.state, record.payload, record.subject) == ("erased", None, None)
        with pytest.raises(GoneError):
            record.json()
        proof = ledger.prove(record_id)
        proof.verify(record.header_bytes, ledger.origin(record.log), ledger.keys(record.log).verifiers)
    assert {h.id for h in ledger.search(subject="s1")} == others
    assert ledger.get("gate-0.1").state == "readable"
    assert ledger.verify().every_problem() == []
    ledger.close()
    assert_gone(settings.home, pseudonym)
    with Ledger.open(settings) as again:
        assert again.verify().every_problem() == []
        assert again.get("gate-0.0").state == "erased"
        again.rebuild_index("gate-0")
        assert again.search(subject="anna") == []
        assert len(again.search(log="gate-0")) == 60
    assert_gone(settings.home, pseudonym)


def test_an_erased_subject_may_come_back(ledger: Ledger) -> None:
    before = filled(ledger)
    ledger.erase("anna", by="dpo", reason="request")
    receipt = ledger.shard("gate-0").append(decision(ledger, "anna", 99)).result(5)
    ledger.shard("gate-0").publish()
    assert ledger.vault.pseudonym("anna") != before
    assert ledger.get(receipt.id).json()["number"] == 99
    assert [h.id for h in ledger.search(subject="anna")] == [receipt.id]
    ledger.erase("anna", by="dpo", reason="request again")
    assert ledger.get(receipt.id).state == "erased"


def test_an_entry_under_an_erased_pseudonym_is_refused(ledger: Ledger) -> None:
    filled(ledger)
    stale = decision(ledger, "anna", 1)
    ledger.erase("anna", by="dpo", reason="request")
    log = ledger.shard("gate-0")
    before = log.size
    futures = [
        log.append(decision(ledger, "s1", 2)),
        log.append(stale),
        log.append(decision(ledger, "s2", 3)),
    ]
    assert futures[0].result(5).index == before
    with pytest.raises(GoneError):
        futures[1].result(5)
    assert futures[2].result(5).index == before + 1


BACKUPS = {
    "vault": ["vault"],
    "segments": ["ledger/gate-0/segments", "ledger/gate-1/segments"],
    "index": ["ledger/gate-0/index.sqlite", "ledger/gate-1/index.sqlite"],
    "vault, segments and index": [
        "vault",
        "ledger/gate-0/segments",
        "ledger/gate-1/segments",
        "ledger/gate-0/index.sqlite",
        "ledger/gate-1/index.sqlite",
    ],
    "everything but the keys and the control log": ["vault", "ledger/gate-0", "ledger/gate-1"],
    "the vault with its key": ["vault", "keys/vault.kek"],
    "everything but the control log": ["vault", "keys/vault.kek", "ledger/gate-0", "ledger/gate-1"],
}


@pytest.mark.parametrize("what", BACKUPS)
def test_a_restored_backup_brings_nothing_back(settings: Settings, tmp_path: Path, what: str) -> None:
    backup = tmp_path / "backup"
    with Ledger.create(settings) as ledger:
        pseudonym = filled(ledger)
    shutil.copytree(settings.home, backup)
    with Ledger.open(settings) as ledger:
        assert ledger.get("gate-0.0").json()["name"] == SECRET
        ledger.erase("anna", by="dpo", reason="request")
    for relative in BACKUPS[what]:
        source, target = backup / relative, settings.home / relative
        if source.is_dir():
            shutil.rmtree(target)
            shutil.copytree(source, target)
        else:
            for suffix in ("-wal", "-shm"):
                target.with_name(target.name + suffix).unlink(missing_ok=True)
            shutil.copy(source, target)
    try:
        ledger = Ledger.open(settings)
    except IntegrityError as error:
        assert "vault" in BACKUPS[what]
        assert "keys/vault.kek" not in BACKUPS[what]
        assert "older copy" in str(error)
        return  # shut: nothing can be read at all
    with ledger:
        for shard in ("gate-0", "gate-1"):
            for record in ledger.records(shard):
                assert record.payload is None or SECRET.encode() not in record.payload
            with pytest.raises(GoneError):
                ledger.get(f"{shard}.0").json()
        with pytest.raises(GoneError):
            ledger.vault.key(pseudonym)
        ledger.scrub()
        assert ledger.verify().every_problem() == []
    assert_gone(settings.home, pseudonym)


def test_a_crash_between_event_and_deed_is_finished_at_the_next_opening(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in ("puncture", "_clean_log"):
        home = small_settings(settings.home.with_name(step))
        with Ledger.create(home) as ledger:
            pseudonym = filled(ledger)

            def crash(*_: object) -> None:
                raise KeyboardInterrupt

            with monkeypatch.context() as patched:
                patched.setattr(f"fiduciary.ledger._erase.{step}", crash)
                with pytest.raises(KeyboardInterrupt):
                    ledger.erase("anna", by="dpo", reason="request")
        with Ledger.open(home) as ledger:
            assert ledger.get("gate-0.0").state == "erased"
            assert ledger.verify().every_problem() == []
        assert_gone(home.home, pseudonym)


def test_other_processes_obey_an_erasure_while_they_write(settings: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Event(), context.Event()
    with Ledger.create(settings) as ledger:
        pseudonym = ledger.vault.pseudonym("anna")
        child = context.Process(target=write_about_anna, args=(settings, ready, stop))
        child.start()
        assert ready.wait(30)
        ledger.erase("anna", by="dpo", reason="request")
        written = len(list(ledger.records("gate-7")))
        deadline = time.monotonic() + 10
        while len(list(ledger.records("gate-7"))) < written + 20 and time.monotonic() < deadline:
            time.sleep(0.02)
        stop.set()
        child.join(30)
        assert child.exitcode == 0
        states = [r.state for r in ledger.records("gate-7")]
        assert states[0] == "erased"
        assert states[-1] == "readable", "who comes back is served under a new pseudonym"
        assert states == sorted(states), "after the erasure nothing is sealed under the old key"
        assert ledger.verify().every_problem() == []
    for path, data in everything_under(settings.home).items():
        assert pseudonym not in data, path


def test_a_hold_beats_a_request_visibly(ledger: Ledger) -> None:
    filled(ledger)
    for scope in (
        {"subject_id": "anna"},
        {"use_case": "credit-line"},
        {"release": bytes(range(32))},
        {"log": "gate-1"},
    ):
        hold = ledger.hold(by="counsel", reason="case 9", **scope)  # type: ignore[arg-type]
        assert [h.id for h in ledger.holds()] == [hold]
        with pytest.raises(ConflictError, match=hold):
            ledger.erase("anna", by="dpo", reason="request")
        assert ledger.get("gate-0.0").json()["name"] == SECRET
        ledger.lift(hold, by="counsel", reason="case closed")
        assert ledger.holds() == []
        with pytest.raises(NotFoundError):
            ledger.lift(hold, by="counsel", reason="again")
    refused = [e for _, _, e in ledger.events() if e["event"] == "erasure.refused"]
    assert len(refused) == 4
    assert all("anna" not in json.dumps(e) for e in refused)
    ledger.erase("anna", by="dpo", reason="request")
    assert ledger.get("gate-0.0").state == "erased"


def test_a_hold_names_one_scope(ledger: Ledger) -> None:
    for scope in ({}, {"use_case": "a", "log": "b"}, {"use_case": ""}):
        with pytest.raises(UsageError):
            ledger.hold(by="x", reason="y", **scope)  # type: ignore[arg-type]


def test_minimum_retention_beats_a_request(settings: Settings) -> None:
    now = [1_800_000_000 * 10**9]
    rules = {"standard": Retention(), "credit": Retention(minimum_days=30)}
    with Ledger.create(settings, clock=lambda: now[0], retention=rules) as ledger:
        ledger.shard("gate-0").append(decision(ledger, "anna", 1, retention="credit")).result(5)
        ledger.shard("gate-0").append(decision(ledger, "bert", 2, retention="unheard-of")).result(5)
        now[0] += 29 * DAY_NS
        with pytest.raises(ConflictError, match="must be kept 30 days"):
            ledger.erase("anna", by="dpo", reason="request")
        with pytest.raises(ConflictError, match="no rule"):
            ledger.erase("bert", by="dpo", reason="request")
        now[0] += DAY_NS
        ledger.erase("anna", by="dpo", reason="request")
        assert ledger.get("gate-0.0").state == "erased"
        with pytest.raises(NotFoundError):
            ledger.erase("nobody", by="dpo", reason="request")


def test_a_sweep_prunes_what_is_over_and_not_what_is_held(settings: Settings) -> None:
    now = [1_800_000_000 * 10**9]
    rules = {"standard": Retention(), "short": Retention(maximum_days=10)}
    with Ledger.create(settings, clock=lambda: now[0], retention=rules) as ledger:
        log = ledger.shard("gate-0")
        for k in range(30):
            name = "anna" if k % 3 == 0 else "bert"
            retention = "standard" if k % 5 == 4 else "short"
            log.append(decision(ledger, name, k, retention=retention)).result(5)
            now[0] += DAY_NS
        log.publish()
        ledger.hold(by="counsel", reason="case", subject_id="anna")
        done = ledger.sweep(by="clock", now_ns=now[0])
        states = {r.index: r.state for r in ledger.records("gate-0")}
        due = {
            k for k in range(30) if k % 5 != 4 and now[0] - 10 * DAY_NS > 1_800_000_000 * 10**9 + k * DAY_NS
        }
        held = {k for k in due if k % 3 == 0}
        assert {k for k, state in states.items() if state == "pruned"} == due - held
        assert done.pruned == {"gate-0": len(due - held)}
        assert done.held == len(held)
        assert ledger.sweep(by="clock", now_ns=now[0]).pruned == {}
        assert ledger.verify().every_problem() == []
        segments = (ledger.folder("gate-0") / "segments").glob("*.seg")
        whole = b"".join(path.read_bytes() for path in segments)
        assert ledger.vault.pseudonym("bert") in whole, "records that stay keep their locator"
        frames = {f.index: f for f in ledger.reader("gate-0").frames()}
        assert all(not any(frames[k].body) and not any(frames[k].locator) for k in due - held)
        pruned = min(due - held)
        record = ledger.get(f"gate-0.{pruned}")
        with pytest.raises(GoneError):
            record.json()
        proof = ledger.prove(record.id)
        proof.verify(record.header_bytes, ledger.origin("gate-0"), ledger.keys("gate-0").verifiers)
        assert ledger.rebuild_index("gate-0") == 30
        assert ledger.verify().every_problem() == []
        assert len(ledger.search(subject="bert", kind=Kind.DECISION)) < 20


def test_a_body_that_a_crash_left_behind_is_destroyed_by_a_scrub(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = {"standard": Retention(maximum_days=1)}
    with Ledger.create(settings, retention=rules) as ledger:
        ledger.shard("gate-0").append(decision(ledger, "anna", 1)).result(5)
        ledger.shard("gate-0").publish()
        later = ledger.clock() + 3 * DAY_NS
        with monkeypatch.context() as patched:
            patched.setattr("fiduciary.ledger._segment.Segment.zero_body", lambda *_: None)
            ledger.sweep(by="clock", now_ns=later)
        assert any("still there" in problem for problem in ledger.verify().every_problem())
        assert ledger.scrub() > 0
        assert ledger.verify().every_problem() == []
        assert [e["event"] for _, _, e in ledger.events()] == ["shard.opened", "retention.swept"]


def test_errors_of_erasure_carry_no_personal_value(ledger: Ledger) -> None:
    filled(ledger)
    ledger.hold(by="counsel", reason="case", subject_id="anna")
    for subject in ("anna", "nobody-known"):
        with pytest.raises(FiduciaryError) as caught:
            ledger.erase(subject, by="dpo", reason="request")
        assert subject not in caught.value.detail
