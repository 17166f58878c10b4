"""Each write, sync, rename, create and open made to fail once: nothing acknowledged is lost, nothing half done.

The error reaches the caller as a `LedgerError`, the log takes nothing more until it is opened again, and opening
it again needs no hand.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from crash_disk import Stepwise
from crash_story import check, live
from fiduciary.errors import LedgerError

CALLS = (
    "create",
    "open",
    "allocate",
    "pwrite",
    "fdatasync",
    "fsync",
    "rename",
    "unlink",
    "mkdir",
    "sync_directory",
)
STRIDE = 1 if os.environ.get("FIDUCIARY_CRASH_STATES") else 6


class Failing(Stepwise):
    """Fails the n-th call of all, with this error; a failing write may leave half of its bytes."""

    def __init__(self, place: int, number: int) -> None:
        self.place = place
        self.number = number
        self.calls = 0
        self.failed = ""

    def _count(self, name: str) -> bool:
        self.calls += 1
        if self.calls - 1 == self.place:
            self.failed = name
            return True
        return False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in CALLS:
            return found

        def call(*arguments: Any) -> Any:
            if self._count(name):
                if name == "pwrite":
                    fd, data, offset = arguments
                    os.pwrite(fd, data[: len(data) // 2], offset)
                if name == "fdatasync":
                    found(*arguments)  # the bytes may well be there, and nobody may be told so
                raise OSError(self.number, os.strerror(self.number))
            return found(*arguments)

        return call


def run(home: Path, place: int, number: int) -> tuple[Failing, list[tuple[Any, ...]]]:
    files = Failing(place, number)
    told: list[tuple[Any, ...]] = []
    with pytest.raises(LedgerError) if place >= 0 else _nothing():
        live(home, files, lambda *what: told.append(what), steps=9, seed=3)
    return files, told


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def total(tmp_path: Path) -> int:
    return run(tmp_path / "whole", -1, errno.EIO)[0].calls


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_each_call_failing_once(tmp_path: Path, number: int) -> None:
    calls = total(tmp_path)
    assert calls > 100
    failed = set()
    for place in range(0, calls, STRIDE):
        home = tmp_path / f"{place}"
        files, told = run(home, place, number)
        assert files.failed, "the failing call was reached"
        failed.add(files.failed)
        try:
            check(home, told, go_on=True)
        except BaseException as error:
            error.add_note(f"call {place} was {files.failed} and failed")
            raise
    if STRIDE == 1:
        assert failed == set(CALLS)
