"""The one path: its order, that changes are obeyed by the next answer, and that it fails closed."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from bank import OFFICER, OPERATOR, USE_CASE
from door import ROW, USE, OpenGate, read_all
from fiduciary.errors import LedgerError
from fiduciary.gate import STAGES
from fiduciary.gate.path import Path

Fresh = Callable[..., OpenGate]


def test_the_order_is_stated_once_and_kept(gate: OpenGate, monkeypatch: pytest.MonkeyPatch) -> None:
    assert STAGES == ("identity", "policy", "admit", "act", "explain", "oblige", "record", "reply")
    seen: list[str] = []

    def watch(name: str) -> None:
        real: Any = getattr(Path, name)

        def watched(self: Path, *args: Any) -> Any:
            seen.append(name)
            return real(self, *args)

        monkeypatch.setattr(Path, name, watched)

    for name in ("_consider", "_record", "_reply"):
        watch(name)
    assert gate.ask().status == 200
    assert seen == ["_consider", "_record", "_reply"]


def test_a_suspension_is_obeyed_by_the_next_answer_and_its_end_too(fresh: Fresh) -> None:
    gate = fresh()
    bank = gate.bank
    for _ in range(3):
        assert gate.ask().status == 200
        bank.registry.suspend(gate.release, by=OPERATOR, key=bank.key(OPERATOR), reason="drill")
        reply = gate.ask()
        assert (reply.status, reply.kind, reply.headers["retry-after"]) == (503, "not-servable", "1")
        assert gate.records()[-1].problem == "not-servable"
        bank.registry.resume(gate.release, by=OPERATOR, key=bank.key(OPERATOR), reason="over")
    assert gate.ask().status == 200


def test_no_answer_under_load_is_recorded_after_a_suspension(fresh: Fresh) -> None:
    gate = fresh()
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            gate.ask()

    with ThreadPoolExecutor(6) as pool:
        for _ in range(6):
            pool.submit(load)
        time.sleep(0.3)
        receipt = gate.bank.registry.suspend(
            gate.release, by=OPERATOR, key=gate.bank.key(OPERATOR), reason="drill"
        )
        returned = time.time_ns()
        time.sleep(0.3)
        done.set()
    assert returned > receipt.time_ns
    late = [
        json.loads(record.payload or b"")["outcome"]
        for record in gate.bank.ledger.records("gate-0")
        if record.header.time_ns > returned + 50_000_000  # what was with the ledger's writer already may land
    ]
    assert late and set(late) == {"refused"}


def test_a_promotion_answers_with_the_new_release_and_nobody_is_refused_meanwhile(fresh: Fresh) -> None:
    gate = fresh()
    replies: list[Any] = []
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            replies.append(gate.ask())

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(load)
        second = gate.bank.live("2.0.0", shift=0.2)
        after = [gate.ask().json()["release"] for _ in range(5)]
        done.set()
    assert after == [second] * 5
    assert {reply.status for reply in replies} == {200}
    assert {reply.json()["release"] for reply in replies} <= {gate.release, second}


def test_new_cut_offs_are_obeyed_by_the_next_answer(fresh: Fresh) -> None:
    gate = fresh()
    assert gate.ask().json()["outcome"] == "decline"
    lenient = msgspec.structs.replace(USE_CASE, approve_below=0.5, decline_from=0.9)
    gate.bank.registry.define_use_case(lenient, by=OFFICER, key=gate.bank.key(OFFICER))
    assert gate.ask().json()["outcome"] == "approve"
    assert gate.records()[-1].rules == lenient.digest


def test_a_revoked_token_is_refused_by_the_next_answer(fresh: Fresh) -> None:
    gate = fresh()
    assert gate.ask().status == 200
    gate.bank.registry.revoke_token(
        subject="svc-loans", by=OFFICER, key=gate.bank.key(OFFICER), reason="lost"
    )
    reply = gate.ask()
    assert (reply.status, reply.kind) == (401, "authentication")


def test_a_policy_change_is_obeyed_by_the_next_answer_and_a_broken_policy_allows_nothing(
    fresh: Fresh,
) -> None:
    gate = fresh()
    assert gate.ask().status == 200
    policy = gate.home / "policies" / "default.cedar"
    text = policy.read_text()
    for wrong in ("permit(", '@id("x") forbid(principal, action, resource);'):
        policy.write_text(text + wrong)
        gate.bank.ledger.emit("policy.changed", {"by": OFFICER})
        assert gate.ask().status == 403
    assert gate.request("GET", "/health/ready").status == 200
    policy.write_text(text)
    gate.bank.ledger.emit("policy.changed", {"by": OFFICER})
    assert gate.ask().status == 200


def test_an_erased_subject_can_be_decided_about_again_under_a_new_key(fresh: Fresh) -> None:
    gate = fresh()
    first = gate.ask("frida").json()["id"]
    gate.bank.ledger.erase("frida", by=OFFICER, reason="asked for it")
    reply = gate.ask("frida")
    assert reply.status == 200
    assert gate.bank.ledger.get(first).state == "erased"
    assert gate.bank.ledger.get(reply.json()["id"]).state == "readable"


def test_when_the_ledger_cannot_write_nothing_is_answered(
    fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = fresh()
    assert gate.ask().status == 200
    log = gate.worker.path.recorder.log

    def full(entries: object, **_: object) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(log, "commit", full)
    for ask in (gate.ask, lambda: gate.ask(features={"utilisation": 9})):
        reply = ask()
        assert (reply.status, reply.kind) == (503, "ledger-unavailable")
        assert "score" not in reply.json()
    monkeypatch.undo()
    assert gate.ask().status == 200
    assert [record.outcome for record in gate.records()] == ["decline", "decline"]


def test_a_stopped_log_is_opened_again_and_the_gate_is_not_ready_until_then(fresh: Fresh) -> None:
    gate = fresh()
    assert gate.ask().status == 200
    gate.worker.path.recorder.log.stop_with("a test")
    assert gate.ask().status == 503
    assert gate.request("GET", "/health/ready").status == 503
    deadline = time.monotonic() + 10
    while gate.ask().status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert gate.request("GET", "/health/ready").status == 200


def test_a_ledger_that_does_not_confirm_in_time_is_a_refusal(
    fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = fresh(ledger={"append_timeout_s": 0.4})
    log = gate.worker.path.recorder.log
    real, held = log.commit, threading.Event()

    def slow(entries: Any, **options: bool) -> Any:
        held.wait(5)
        return real(entries, **options)

    monkeypatch.setattr(log, "commit", slow)
    began = time.monotonic()
    reply = gate.ask()
    assert (reply.status, reply.kind) == (503, "ledger-unavailable")
    assert time.monotonic() - began < 3
    held.set()


def test_more_than_may_be_in_flight_are_turned_away(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = fresh(max_in_flight=3)
    log = gate.worker.path.recorder.log
    real, held = log.commit, threading.Event()

    def slow(entries: Any, **options: bool) -> Any:
        held.wait(5)
        return real(entries, **options)

    monkeypatch.setattr(log, "commit", slow)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(gate.ask) for _ in range(8)]
        time.sleep(0.5)
        held.set()
        statuses = sorted(future.result().status for future in asked)
    assert statuses == [200] * 3 + [503] * 5


def test_draining_answers_what_was_asked_and_takes_nothing_new(
    fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = fresh()
    log = gate.worker.path.recorder.log
    real, held = log.commit, threading.Event()

    def slow(entries: Any, **options: bool) -> Any:
        held.wait(5)
        return real(entries, **options)

    monkeypatch.setattr(log, "commit", slow)
    body = json.dumps({"use_case": USE, "subject": "s", "features": ROW}).encode()
    idle = gate.connect()
    with gate.connect() as connection:
        connection.sendall(gate.head(Content_Length=len(body)) + b"\r\n" + body)
        time.sleep(0.3)
        gate.worker.stop_from_anywhere()
        time.sleep(0.3)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", gate.addresses.port), timeout=1).close()
        assert read_all(idle, 1) == b""
        held.set()
        answer = read_all(connection, 5)
    assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer
    gate.thread.join(10)
    assert not gate.thread.is_alive()
    assert [record.outcome for record in gate.records()] == ["decline"]
    assert gate.bank.ledger.checkpoint("gate-0").size == 1


def test_anonymous_refusals_are_recorded_in_sums_when_the_gate_drains(fresh: Fresh) -> None:
    gate = fresh()
    for _ in range(7):
        gate.request("POST", "/v1/decisions", b"{}")
    gate.raw(b"nonsense\r\n\r\n", wait=2)
    gate.stop()
    assert gate.records() == []
    assert gate.sums() == {"authentication": 7, "malformed-request": 1}


def test_a_scorer_that_fails_is_a_recorded_refusal_and_no_traceback(
    fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = fresh()
    servable = gate.worker.path._servables.describe(USE)
    assert servable is not None

    def broken(rows: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(servable.decider, "evaluate", broken)
    reply = gate.ask()
    assert (reply.status, reply.kind) == (500, "internal") and b"secret" not in reply.body
    assert gate.records()[-1].problem == "internal"
