"""Idempotency keys: decided once, answered the same again, whatever happens in between."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bank import OFFICER
from door import ROW, USE, OpenGate

Fresh = Callable[..., OpenGate]


def test_the_same_request_is_decided_once_and_answered_the_same(gate: OpenGate) -> None:
    first = gate.ask("gita", Idempotency_Key="k-1")
    again = gate.ask("gita", Idempotency_Key="k-1")
    assert first.status == again.status == 200 and first.body == again.body
    assert "idempotency-replayed" not in first.headers and again.headers["idempotency-replayed"] == "true"
    keyed = [r for r in gate.records() if r.subject == "gita"]
    assert len(keyed) == 1 and json.loads(keyed[0].idempotency_key)[0] == "k-1"


def test_another_request_under_the_same_key_is_a_conflict(gate: OpenGate) -> None:
    gate.ask("hugo", Idempotency_Key="k-2")
    reply = gate.ask("hugo", {**ROW, "utilisation": 0.1}, Idempotency_Key="k-2")
    assert (reply.status, reply.kind) == (409, "conflict")


def test_keys_belong_to_their_caller(gate: OpenGate) -> None:
    other = gate.issue("svc-cards", "application", kind="service")
    first = gate.ask("ines", Idempotency_Key="k-3")
    second = gate.ask("ines", Idempotency_Key="k-3", token=other)
    assert first.json()["id"] != second.json()["id"]


def test_a_refused_request_frees_its_key(gate: OpenGate) -> None:
    assert gate.ask("jan", {**ROW, "utilisation": 5}, Idempotency_Key="k-4").status == 422
    assert gate.ask("jan", Idempotency_Key="k-4").status == 200


def test_batches_are_answered_the_same_too(gate: OpenGate) -> None:
    rows = [{"subject": f"b{i}", "features": ROW} for i in range(5)]
    first = gate.post({"use_case": USE, "rows": rows}, Idempotency_Key="k-5")
    again = gate.post({"use_case": USE, "rows": rows}, Idempotency_Key="k-5")
    assert first.body == again.body and len(again.json()["decisions"]) == 5


def test_many_at_once_under_one_key_make_one_decision(gate: OpenGate) -> None:
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: gate.ask("karl", Idempotency_Key="k-6"), range(36)))
    assert {r.status for r in replies} <= {200, 409}
    assert len({r.json()["id"] for r in replies if r.status == 200}) == 1
    assert sum(r.subject == "karl" and r.outcome != "refused" for r in gate.records()) == 1


def test_keys_have_limits(gate: OpenGate) -> None:
    assert gate.ask(Idempotency_Key="k" * 201).status == 413
    assert gate.ask(Idempotency_Key="k\x7f").status in (400, 413)


def test_the_first_answer_is_given_again_after_a_restart(fresh: Fresh) -> None:
    gate = fresh()
    first = gate.ask("lena", Idempotency_Key="k")
    gate.stop()
    gate.start()
    assert gate.ask("lena", Idempotency_Key="k").body == first.body


def test_the_index_of_keys_can_be_lost_and_comes_back_from_the_ledger(fresh: Fresh) -> None:
    gate = fresh()
    first = gate.ask("mats", Idempotency_Key="k")
    rows = [{"subject": f"b{i}", "features": ROW} for i in range(3)]
    batch = gate.post({"use_case": USE, "rows": rows}, Idempotency_Key="kb")
    gate.stop()
    for path in (gate.home / "gate").glob("idempotency.sqlite*"):
        path.unlink()
    gate.start()
    assert gate.ask("mats", Idempotency_Key="k").body == first.body
    assert gate.post({"use_case": USE, "rows": rows}, Idempotency_Key="kb").body == batch.body


def test_a_crash_between_record_and_index_makes_no_second_decision(fresh: Fresh) -> None:
    gate = fresh()
    first = gate.ask("nora", Idempotency_Key="k")
    gate.stop()
    # What a kill -9 after the commit and before `settle` leaves: a reservation, and a tail not yet seen.
    with sqlite3.connect(gate.home / "gate" / "idempotency.sqlite") as db:
        db.execute("update keys set records = null")
        db.execute("delete from seen")
        db.execute("insert into keys values (x'00', x'00', 'gate-0', 9999999999, null)")
    gate.start()
    assert gate.ask("nora", Idempotency_Key="k").body == first.body
    with sqlite3.connect(gate.home / "gate" / "idempotency.sqlite") as db:
        assert db.execute("select count(*) from keys where records is null").fetchone() == (0,)


def test_an_erased_answer_is_gone(fresh: Fresh) -> None:
    gate = fresh()
    gate.ask("olaf", Idempotency_Key="k")
    gate.bank.ledger.erase("olaf", by=OFFICER, reason="asked for it")
    reply = gate.ask("olaf", Idempotency_Key="k")
    assert (reply.status, reply.kind) == (410, "gone")


def test_the_index_holds_nothing_personal(gate: OpenGate) -> None:
    gate.ask("a-name-of-a-person", Idempotency_Key="a-key-with-a-name")
    held = b"".join(p.read_bytes() for p in (gate.home / "gate").glob("idempotency.sqlite*"))
    assert b"a-name-of-a-person" not in held and b"a-key-with-a-name" not in held
