"""Appending, reading, rotating, publishing: what was acknowledged is there, in order, and proved."""

from __future__ import annotations

import asyncio
import fcntl
import json
import multiprocessing
import threading
import time
from pathlib import Path

import pytest

from crash_disk import Stepwise
from fiduciary.config import Settings
from fiduciary.errors import (
    ConfigError,
    ConflictError,
    IntegrityError,
    LedgerError,
    LimitError,
    NotFoundError,
    OverloadedError,
    UsageError,
)
from fiduciary.ledger import AsyncAppender, Entry, Kind, Ledger, Receipt
from fiduciary.ledger._files import Files
from fiduciary.ledger._log import LEASE_S
from ledger_home import RELEASE, decision, emit_events, small_settings


def append(ledger: Ledger, count: int, shard: str = "gate-0", subjects: int = 20) -> list[Receipt]:
    log = ledger.shard(shard)
    futures = [log.append(decision(ledger, f"s{k % subjects}", k)) for k in range(count)]
    return [future.result(10) for future in futures]


def test_receipts_are_contiguous_and_records_come_back(ledger: Ledger) -> None:
    receipts = append(ledger, 700)
    assert [r.index for r in receipts] == list(range(700))
    assert len(list((ledger.folder("gate-0") / "segments").iterdir())) > 2, "several segments are wanted here"
    for receipt in receipts[::53]:
        record = ledger.get(receipt.id)
        assert record.json()["number"] == receipt.index
        assert record.header.time_ns == receipt.time_ns
        assert record.state == "readable"
    assert [r.json()["number"] for r in ledger.records("gate-0")] == list(range(700))


def test_what_was_written_is_there_after_reopening(settings: Settings) -> None:
    with Ledger.create(settings) as ledger:
        append(ledger, 300)
    with Ledger.open(settings) as ledger:
        assert ledger.shard("gate-0").size == 300
        receipts = append(ledger, 50)
        assert [r.index for r in receipts] == list(range(300, 350))
        assert ledger.verify().every_problem() == []


def test_time_never_goes_backwards(settings: Settings) -> None:
    ticks = iter([5_000, 4_000, 9_000, 1, 2, 3, 9_001] + [7] * 1000)
    with Ledger.create(settings, clock=lambda: next(ticks)) as ledger:
        receipts = append(ledger, 20)
        times = [r.time_ns for r in receipts]
        assert times == sorted(times)
    with Ledger.open(settings, clock=lambda: 1) as ledger:
        assert append(ledger, 1)[0].time_ns >= times[-1]
        assert ledger.verify().every_problem() == []


def test_a_record_is_proved_offline(ledger: Ledger) -> None:
    receipts = append(ledger, 600)
    ledger.shard("gate-0").publish()
    for receipt in receipts[::97]:
        record = ledger.get(receipt.id)
        proof = ledger.prove(receipt.id)
        keys = ledger.keys("gate-0").verifiers
        assert proof.verify(record.header_bytes, "acme.eu/gate-0", keys).size == 600
        with pytest.raises(IntegrityError):
            proof.verify(record.header_bytes + b"\0", "acme.eu/gate-0", keys)
    with pytest.raises(NotFoundError):
        ledger.prove("gate-0.600")


def test_a_proof_at_once_after_the_receipt(ledger: Ledger) -> None:
    log = ledger.shard("gate-0")
    for k in range(5):
        receipt = log.append(decision(ledger, "anna", k)).result(5)
        ledger.prove(receipt.id)


def test_search(ledger: Ledger) -> None:
    receipts = append(ledger, 120)
    append(ledger, 30, shard="gate-1")
    ledger.shard("gate-0").publish()
    ledger.shard("gate-1").publish()
    assert {h.log for h in ledger.search(subject="s3")} == {"gate-0", "gate-1"}
    assert len(ledger.search(subject="s3")) == 6 + 2
    assert len(ledger.search(subject="s3", log="gate-0", outcome="decline")) == 2
    assert ledger.search(subject="nobody") == []
    assert len(ledger.search(release=RELEASE, use_case="credit-line")) == 150
    assert ledger.search(release=bytes(32)) == []
    newest = ledger.search(kind=Kind.DECISION, limit=5)
    assert len(newest) == 5
    assert [h.time_ns for h in newest] == sorted((h.time_ns for h in newest), reverse=True)
    middle = receipts[60].time_ns
    early = {h.index for h in ledger.search(log="gate-0", until=middle)}
    late = {h.index for h in ledger.search(log="gate-0", since=middle)}
    assert early | late == set(range(120))
    assert not early & late
    assert 60 in late
    assert len(ledger.search(outcome="shard.opened")) == 2


def test_the_index_is_made_again_from_the_segments(settings: Settings) -> None:
    with Ledger.create(settings) as ledger:
        append(ledger, 260)
        before = None
        ledger.shard("gate-0").publish()
        before = ledger.search(log="gate-0")
        assert ledger.rebuild_index("gate-0") == 260
        assert ledger.search(log="gate-0") == before
        assert ledger.rebuild_index("control") == 1
    path = settings.home / "ledger" / "gate-0" / "index.sqlite"
    for damage in (lambda: path.unlink(), lambda: path.write_bytes(b"not a database" * 500)):
        damage()
        with Ledger.open(settings) as ledger:
            ledger.shard("gate-0")
            assert ledger.search(log="gate-0") == before


def test_events_are_read_in_order_and_from_anywhere(ledger: Ledger) -> None:
    for k in range(30):
        ledger.emit("usecase.defined", {"number": k})
    events = list(ledger.events())
    assert [e["number"] for _, _, e in events] == list(range(30))
    assert [i for i, _, _ in ledger.events(after=12)] == list(range(12, 30))
    assert list(ledger.events(after=30)) == []
    ledger.emit("usecase.defined", {"number": 30})
    assert [e["number"] for _, _, e in ledger.events(after=30)] == [30]
    record = ledger.get("control.3")
    assert record.payload == b'{"event":"usecase.defined","number":3}'


def test_control_may_be_nested_and_bumps_the_epoch_once_it_is_durable(ledger: Ledger) -> None:
    before = ledger.epoch.value
    with ledger.control() as log:
        log.append(Entry(Kind.EVENT, b'{"event":"a"}')).result()
        ledger.emit("b", {})
        assert [e["event"] for _, _, e in ledger.events()] == ["a", "b"]
        assert ledger.epoch.value == before
    assert ledger.epoch.value == before + 1
    with ledger.control():
        pass
    assert ledger.epoch.value == before + 1


def test_processes_share_the_control_log(settings: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    with Ledger.create(settings) as ledger:
        children = [context.Process(target=emit_events, args=(settings, f"p{k}", 15)) for k in range(3)]
        for child in children:
            child.start()
        for k in range(15):
            ledger.emit("from", {"process": "here", "number": k})
        for child in children:
            child.join(60)
            assert child.exitcode == 0
        events = [e for _, _, e in ledger.events()]
        assert len(events) == 60
        for name in ("here", "p0", "p1", "p2"):
            assert [e["number"] for e in events if e["process"] == name] == list(range(15))
        assert ledger.verify().every_problem() == []


def test_threads_share_the_control_log(ledger: Ledger) -> None:
    def emit(name: int) -> None:
        for k in range(10):
            ledger.emit("from", {"thread": name, "number": k})

    threads = [threading.Thread(target=emit, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(ledger.events())) == 40


def test_a_shard_has_one_writer_and_announces_itself_first(ledger: Ledger, settings: Settings) -> None:
    ledger.shard("gate-0")
    assert ledger.shard("gate-0") is ledger.shard("gate-0")
    with Ledger.open(settings) as other, pytest.raises(ConflictError):
        other.shard("gate-0")
    opened = [e for _, _, e in ledger.events() if e["event"] == "shard.opened"]
    assert [e["log"] for e in opened] == ["gate-0"]
    assert opened[0]["origin"] == "acme.eu/gate-0"
    for name in ("control", "", "a/b", "../x", "ä", "x" * 65, ".hidden"):
        with pytest.raises(ConfigError):
            ledger.shard(name)


def test_a_read_only_ledger_changes_nothing(settings: Settings) -> None:
    with Ledger.create(settings) as ledger:
        append(ledger, 10)
    before = {
        p: p.read_bytes() for p in settings.home.rglob("*") if p.is_file() and p.suffix != ".sqlite-shm"
    }
    with Ledger.open(settings, writable=False) as ledger:
        assert ledger.get("gate-0.3").json()["number"] == 3
        assert ledger.verify().ok
        for refused in (lambda: ledger.emit("x", {}), lambda: ledger.shard("gate-0")):
            with pytest.raises(ConflictError):
                refused()
    after = {p: p.read_bytes() for p in before}
    assert after == before


def test_what_cannot_be_recorded_is_said_at_once(ledger: Ledger) -> None:
    log = ledger.shard("gate-0")
    with pytest.raises(LimitError):
        log.append(Entry(Kind.DECISION, b'{"x":"' + b"y" * 20_000 + b'"}')).result(5)
    with pytest.raises(UsageError):
        log.append(Entry(Kind.DECISION, b"[1]")).result(5)
    assert log.size == 0


def test_records_of_the_largest_size_rotate_segments(ledger: Ledger) -> None:
    log = ledger.shard("gate-0")
    payload = b'{"x":"' + b"y" * (16 * 1024 - 8) + b'"}'
    futures = [log.append(Entry(Kind.DECISION, payload)) for _ in range(40)]
    assert [f.result(10).index for f in futures] == list(range(40))
    assert ledger.verify().ok


def test_a_closed_log_refuses(ledger: Ledger) -> None:
    log = ledger.shard("gate-0")
    log.append(decision(ledger, "anna")).result(5)
    log.close()
    with pytest.raises(LedgerError):
        log.append(decision(ledger, "anna")).result(5)
    assert ledger.shard("gate-0").size == 1


def test_the_disk_reserve_is_kept(tmp_path: Path) -> None:
    class Full(Files):
        free = 1 << 40

        def free_bytes(self, path: Path) -> int:
            return self.free

    files = Full()
    with Ledger.create(small_settings(tmp_path / "home"), files=files) as ledger:
        append(ledger, 3)
        files.free = 1000
        time.sleep(2 * LEASE_S)  # a look at the disk holds that long
        with pytest.raises(LedgerError, match="reserve"):
            append(ledger, 1)
        with pytest.raises(LedgerError, match="reserve"):
            ledger.emit("x", {})
        files.free = 1 << 40
        assert append(ledger, 1)[0].index == 3
        assert ledger.verify().ok


class Slow(Stepwise):
    """A disk whose syncs wait until they are let go."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()

    def fdatasync(self, fd: int) -> None:
        self.gate.wait(20)
        super().fdatasync(fd)


def test_one_sync_serves_many_waiters(tmp_path: Path) -> None:
    class Counting(Stepwise):
        syncs = 0

        def fdatasync(self, fd: int) -> None:
            Counting.syncs += 1
            time.sleep(0.002)
            super().fdatasync(fd)

    with Ledger.create(small_settings(tmp_path / "home"), files=Counting()) as ledger:
        ledger.shard("gate-0")
        before = Counting.syncs

        async def run() -> None:
            appender = AsyncAppender(ledger.shard("gate-0"))

            async def writer(name: int) -> None:
                for k in range(10):
                    receipt = await appender.append(decision(ledger, f"s{name}", k))
                    assert receipt.log == "gate-0"

            await asyncio.gather(*(writer(k) for k in range(50)))

        asyncio.run(run())
        assert ledger.shard("gate-0").size == 500
        assert Counting.syncs - before < 100


def test_nobody_is_told_before_the_sync_has_returned(tmp_path: Path) -> None:
    files = Slow()
    with Ledger.create(small_settings(tmp_path / "home"), files=files) as ledger:
        log = ledger.shard("gate-0")
        log.append(decision(ledger, "anna")).result(5)
        files.gate.clear()
        future = log.append(decision(ledger, "anna"))
        time.sleep(0.1)
        assert not future.done()
        assert log.size == 1
        files.gate.set()
        assert future.result(5).index == 1


def test_a_slow_disk_shows_as_refusals(tmp_path: Path) -> None:
    files = Slow()
    settings = small_settings(tmp_path / "home", queue_limit=5, append_timeout_s=0.2)
    with Ledger.create(settings, files=files) as ledger:
        log = ledger.shard("gate-0")

        async def run() -> None:
            appender = AsyncAppender(log)
            assert (await appender.append(decision(ledger, "anna"))).index == 0
            files.gate.clear()
            under_way = appender.append(decision(ledger, "under way"))
            await asyncio.sleep(0.05)
            queued = [appender.append(decision(ledger, f"queued {k}")) for k in range(5)]
            with pytest.raises(OverloadedError):
                appender.append(decision(ledger, "too many"))
            for future in (under_way, *queued):
                with pytest.raises(LedgerError, match="did not confirm"):
                    await future
            files.gate.set()
            await asyncio.sleep(0.1)
            assert (await appender.append(decision(ledger, "after"))).index == 2

        asyncio.run(run())
        names = [json.loads(r.payload or b"")["name"] for r in ledger.records("gate-0")]
        assert names == ["Person anna", "Person under way", "Person after"], "expired entries are not written"


def test_several_loops_and_threads_write_one_log(ledger: Ledger) -> None:
    log = ledger.shard("gate-0")
    seen: list[int] = []

    def run(name: str) -> None:
        async def many() -> None:
            appender = AsyncAppender(log)
            receipts = await asyncio.gather(*(appender.append(decision(ledger, name, k)) for k in range(100)))
            seen.extend(r.index for r in receipts)

        asyncio.run(many())

    threads = [threading.Thread(target=run, args=(f"t{k}",)) for k in range(3)]
    for thread in threads:
        thread.start()
    seen.extend(log.append(decision(ledger, "plain", k)).result(10).index for k in range(50))
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(350))


def test_a_failing_commit_does_not_keep_erasures_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger.create(small_settings(tmp_path / "home")) as ledger:
        log = ledger.shard("gate-0", group_commit=False)
        lock = (tmp_path / "home" / "vault" / "lock").open("r+b")
        entry = decision(ledger, "anna")
        log.commit([entry], keep_lease=True)
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

        def broken(_: object) -> None:
            raise RuntimeError

        with monkeypatch.context() as patched:
            patched.setattr(log, "_commit", broken)
            with pytest.raises(RuntimeError):
                log.commit([entry], keep_lease=True)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.close()
