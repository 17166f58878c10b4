"""kill -9 under load, at random moments: whatever was acknowledged over a pipe is there, and the log verifies.

The short version kills a few times; FIDUCIARY_CRASH_KILLS asks for more (`make test-crash`: 300).
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import signal
import struct
import time
from pathlib import Path

import pytest

from fiduciary.config import Settings
from fiduciary.ledger import AsyncAppender, Ledger, Receipt
from ledger_home import decision, small_settings

KILLS = int(os.environ.get("FIDUCIARY_CRASH_KILLS", "6"))
LIVES_PER_HOME = 25
_ACK = struct.Struct("<QQ")


def _load(settings: Settings, pipe: int, life: int) -> None:
    """Sixteen writers; each tells the pipe of a record only after its receipt came."""
    with Ledger.open(settings) as ledger:
        log = ledger.shard("gate-0")

        async def writer(appender: AsyncAppender, name: int) -> None:
            k = 0
            while True:
                number = (life << 40) | (name << 32) | k
                receipt: Receipt = await appender.append(decision(ledger, f"s{k % 50}", number))
                os.write(pipe, _ACK.pack(receipt.index, number))
                k += 1

        async def run() -> None:
            appender = AsyncAppender(log)
            await asyncio.gather(*(writer(appender, name) for name in range(16)))

        asyncio.run(run())


def one_life(settings: Settings, life: int, dice: random.Random) -> dict[int, int]:
    """Run the load, kill it at a random moment after its first word, return what it acknowledged."""
    read, write = os.pipe()
    child = multiprocessing.get_context("fork").Process(target=_load, args=(settings, write, life))
    child.start()
    os.close(write)
    first = os.read(read, _ACK.size)
    assert len(first) == _ACK.size, "the child died before its first record"
    time.sleep(dice.random() * 0.08)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    data = first
    while part := os.read(read, 1 << 20):
        data += part
    os.close(read)
    child.join()
    return dict(_ACK.iter_unpack(data[: len(data) // _ACK.size * _ACK.size]))


@pytest.mark.timeout(1800)
def test_kill_at_random_moments(tmp_path: Path) -> None:
    dice = random.Random()
    acknowledged = 0
    for life in range(KILLS):
        if life % LIVES_PER_HOME == 0:
            settings = small_settings(tmp_path / f"home-{life}", segment_bytes=256 * 1024)
            Ledger.create(settings).close()
            told: dict[int, int] = {}
        told |= one_life(settings, life, dice)
        with Ledger.open(settings) as ledger:
            size = ledger.shard("gate-0", group_commit=False).size
            assert size >= len(told)
            if life % 5 == 0 or life == KILLS - 1:
                stored = {r.index: json.loads(r.payload or b"")["number"] for r in ledger.records("gate-0")}
                assert {index: stored[index] for index in told} == told
                report = ledger.verify()
                assert report.ok, report.every_problem()
        acknowledged += len(told)
    assert acknowledged > 0
    print(f"\n{KILLS} kills under load: no acknowledged record lost")
