"""One counter in a shared memory page: "something that caches may hold has changed".

Every control event bumps it after the event is durable. A process compares the number it last saw (a memory
read, no system call) before each use of cached state, so a revocation, a suspension or an erasure is obeyed
by the very next answer of every process on the machine.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from pathlib import Path

_U64 = struct.Struct("<Q")


class Epoch:
    """The counter in `path` (8 bytes, little-endian), created as zero."""

    def __init__(self, path: Path | str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._fd).st_size < 8:
            os.ftruncate(self._fd, 8)
        self._map = mmap.mmap(self._fd, 8)
        self._view = memoryview(self._map).cast("Q") if _little_endian() else None

    @property
    def value(self) -> int:
        """The present number."""
        if self._view is not None:
            return self._view[0]
        return int(_U64.unpack_from(self._map, 0)[0])

    def bump(self) -> int:
        """Add one, whoever else does so at the same time; returns the new number."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            number = int(_U64.unpack_from(self._map, 0)[0]) + 1
            _U64.pack_into(self._map, 0, number)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        return number

    def close(self) -> None:
        if self._view is not None:
            self._view.release()
            self._view = None
        if not self._map.closed:
            self._map.close()
            os.close(self._fd)


def _little_endian() -> bool:
    return struct.pack("=H", 1) == b"\x01\x00"
