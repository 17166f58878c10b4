"""After a power cut at any call, with any of the unsynced bytes and names lost, everything told holds.

The short version looks at every call of one life in three ways. FIDUCIARY_CRASH_STATES asks for that many states
over several lives (`make test-crash`: 12,000).
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from crash_disk import Disk, Recorder
from crash_story import check, fresh, live

STATES = int(os.environ.get("FIDUCIARY_CRASH_STATES", "0"))


def scratch() -> str | None:
    """Memory-backed space if there is any: the states are many, and their own syncs do not matter."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def states(seed: int, steps: int, stride: int, ways: tuple[str, ...]) -> int:
    """Live one life, then open the ledger in every state; returns how many states there were."""
    dice = random.Random(seed)
    count = 0
    with tempfile.TemporaryDirectory(dir=scratch()) as name:
        home = Path(name) / "home"
        recorder = Recorder(home)
        live(home, recorder, recorder.acknowledge, steps, seed)
        disk = Disk()
        for place, note in enumerate(recorder.notes):
            disk.take(note)
            if note[0] == "told" or place % stride:
                continue
            for way in ways:
                target = fresh(Path(name) / "state")
                disk.state(way, dice, target)
                if (target / "ledger" / "control").is_dir():
                    (target / "keys").mkdir(exist_ok=True)
                    for key in (home / "keys").glob("log-*"):  # a key is synced before its first use
                        shutil.copy2(key, target / "keys")
                try:
                    check(target, disk.told, go_on=count % 5 == 0)
                except BaseException as error:
                    error.add_note(f"seed {seed}, after call {place} {note[:3]}, {way} of the pending kept")
                    raise
                count += 1
    return count


def test_every_call_of_one_life() -> None:
    assert states(seed=1, steps=12, stride=2, ways=("all", "none", "some")) > 200


def _arguments() -> Iterator[tuple[Any, ...]]:
    for seed in itertools.count(100):
        yield seed, 24, 1, ("all", "none", *["some"] * 6)


@pytest.mark.skipif(not STATES, reason="FIDUCIARY_CRASH_STATES is not set: make test-crash sets it")
@pytest.mark.timeout(3600)
def test_many_lives() -> None:
    done = 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        lives = _arguments()
        while done < STATES:
            batch = [next(lives) for _ in range(os.cpu_count() or 1)]
            done += sum(pool.map(states, *zip(*batch, strict=True)))
    print(f"\n{done} states after a crash: none lost an acknowledged record, none failed to verify")


def test_the_disk_model_itself(tmp_path: Path) -> None:
    """A model that loses nothing would prove nothing: unsynced bytes and names must be able to vanish."""
    home = tmp_path / "home"
    home.mkdir()
    recorder = Recorder(home)
    fd = recorder.create(home / "a")
    recorder.pwrite(fd, b"one", 0)
    recorder.fsync(fd)
    recorder.pwrite(fd, b"two", 3)
    recorder.close(fd)
    disk = Disk()
    for note in recorder.notes:
        disk.take(note)
    dice = random.Random(0)
    for way, expected in (("none", None), ("all", b"onetwo")):
        target = fresh(tmp_path / way)
        disk.state(way, dice, target)
        found = (target / "a").read_bytes() if (target / "a").exists() else None
        assert found == expected
    seen = set()
    for _ in range(50):
        target = fresh(tmp_path / "some")
        disk.state("some", dice, target)
        seen.add((target / "a").read_bytes() if (target / "a").exists() else None)
    assert seen == {None, b"one", b"onetwo"}
    disk.take(("sync-names", Path()))
    target = fresh(tmp_path / "named")
    disk.state("none", dice, target)
    assert (target / "a").read_bytes() == b"one"
