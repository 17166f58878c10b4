"""Batching changes when an answer comes, never what it says."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bank import OPERATOR
from door import ROW, USE, OpenGate
from fiduciary.gate import _batcher

SAME = ("outcome", "score", "margin", "baseline", "reasons", "release")


def rows(n: int) -> list[dict[str, Any]]:
    return [{"subject": f"s{i}", "features": {**ROW, "utilisation": i / n}} for i in range(n)]


def said(decisions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: decision[name] for name in SAME} for decision in decisions]


def test_the_same_rows_give_the_same_bits_alone_in_slices_and_in_a_thread(
    gate: OpenGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = rows(60)
    alone = said([gate.ask(row["subject"], row["features"]).json() for row in asked])
    together = said(gate.post({"use_case": USE, "rows": asked}).json()["decisions"])
    monkeypatch.setattr(_batcher, "SLICE_ROWS", 7)
    with ThreadPoolExecutor(12) as pool:
        sliced = said(list(pool.map(lambda row: gate.ask(row["subject"], row["features"]).json(), asked)))
    monkeypatch.setattr(_batcher, "THREAD_NS", 0)
    threaded = said(gate.post({"use_case": USE, "rows": asked}).json()["decisions"])
    assert alone == together == sliced == threaded


def test_requests_that_wait_together_share_a_kernel_call(gate: OpenGate) -> None:
    counts, loop = gate.worker.path._metrics.counts, gate.worker._loop
    assert loop is not None
    calls, scored = counts.turns, counts.rows
    body = json.dumps({"use_case": USE, "subject": "s", "features": ROW}).encode()
    with contextlib.ExitStack() as held:
        connections = [held.enter_context(gate.connect()) for _ in range(40)]
        time.sleep(0.2)
        loop.call_soon_threadsafe(time.sleep, 0.5)  # the loop is busy while all forty ask
        for connection in connections:
            connection.sendall(gate.head(Content_Length=len(body)) + b"\r\n" + body)
        assert all(b"200 OK" in connection.recv(65536) for connection in connections)
    assert counts.rows - scored == 40 and counts.turns - calls <= 4


def test_a_suspension_while_a_kernel_call_is_in_its_thread_is_obeyed(
    fresh: Callable[..., OpenGate], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = fresh()
    monkeypatch.setattr(_batcher, "THREAD_NS", 0)
    servable = gate.worker.path._servables.describe(USE)
    assert servable is not None
    real = servable.decider.evaluate

    def suspend_meanwhile(matrix: Any) -> Any:
        gate.bank.registry.suspend(gate.release, by=OPERATOR, key=gate.bank.key(OPERATOR), reason="drill")
        return real(matrix)

    monkeypatch.setattr(servable.decider, "evaluate", suspend_meanwhile)
    reply = gate.ask()
    assert (reply.status, reply.kind) == (503, "not-servable")
    assert [record.outcome for record in gate.records()] == ["refused"]
