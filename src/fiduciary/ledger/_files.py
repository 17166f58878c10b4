"""The ledger's only door to the disk: each call that changes a file goes through one small object.

The crash suite puts another object in its place, one that records every call or makes one of them fail. A
file system promises little (ALICE, Pillai et al., OSDI 2014): bytes are safe after `fdatasync` of their file,
a name is safe after `fsync` of its directory, and nothing else is ordered. The ledger relies on no more.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import errno
import os
from pathlib import Path

_FALLOC_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
_DSYNC: int = getattr(os, "RWF_DSYNC", 0)


class Files:
    """Thin names over the system calls. Raises `OSError` as they do."""

    def create(self, path: Path) -> int:
        """A new file, for reading and writing; an existing one is emptied. Mode 0600."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        os.close(fd)

    def allocate(self, fd: int, size: int) -> None:
        """Reserve disk for `size` bytes, so that a full disk shows here and not in the middle of a group."""
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            os.ftruncate(fd, size)

    def pwrite(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of `data` at `offset`."""
        done = os.pwrite(fd, data, offset)
        while done < len(data):
            done += os.pwrite(fd, memoryview(data)[done:], offset + done)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def write_durably(self, fd: int, data: bytes, offset: int) -> None:
        """`pwrite` and `fdatasync`; where the kernel has it, in one call (RWF_DSYNC, Linux 4.7).

        One call instead of two means one handing over of the interpreter lock instead of two, which is what
        a group costs under load.
        """
        done = 0
        if _DSYNC:
            try:
                done = os.pwritev(fd, (data,), offset, _DSYNC)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                    raise
            if done == len(data):
                return
        self.pwrite(fd, data[done:], offset + done)
        self.fdatasync(fd)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def rename(self, old: Path, new: Path) -> None:
        os.rename(old, new)  # noqa: PTH104  (the crash suite replaces this very call)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def mkdir(self, path: Path) -> None:
        path.mkdir(mode=0o700)

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.fsync(fd)
        finally:
            os.close(fd)

    def punch(self, fd: int, offset: int, length: int) -> None:
        """Give the blocks of a zeroed range back to the disk where the file system can; else do nothing."""
        libc = _libc()
        if libc is not None and length > 0:
            libc.fallocate(fd, _FALLOC_PUNCH_HOLE_KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(length))

    # Two compositions used everywhere; they add no promise of their own.

    def ensure_directory(self, path: Path) -> None:
        """Make `path` and its missing parents, durably."""
        if path.is_dir():
            return
        self.ensure_directory(path.parent)
        with contextlib.suppress(FileExistsError):
            self.mkdir(path)
        self.sync_directory(path.parent)

    def replace(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        """Put a whole file in place: temporary file, write, fsync, rename, fsync of the directory.

        With `durable=False` the two syncs are left out: readers still never see half a file, but after a
        power cut it may be missing or empty. Only for what can be rebuilt.
        """
        temporary = path.with_name(f".{path.name}.tmp")
        fd = self.create(temporary)
        try:
            self.pwrite(fd, data, 0)
            if durable:
                self.fsync(fd)
        finally:
            self.close(fd)
        self.rename(temporary, path)
        if durable:
            self.sync_directory(path.parent)

    def destroy(self, path: Path) -> None:
        """Overwrite a file with zeros, sync, remove the name. What lies underneath is the disk's affair."""
        try:
            fd = self.open(path)
        except FileNotFoundError:
            return
        try:
            self.pwrite(fd, bytes(os.fstat(fd).st_size), 0)
            self.fsync(fd)
        finally:
            self.close(fd)
        self.unlink(path)
        self.sync_directory(path.parent)

    def free_bytes(self, path: Path) -> int:
        """Disk space an ordinary process may still use below `path`."""
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize


def read_at(fd: int, length: int, offset: int) -> bytes:
    """Up to `length` bytes at `offset`; fewer only at the end of the file."""
    parts = []
    while length > 0:
        part = os.pread(fd, length, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


_LIBC: list[ctypes.CDLL | None] = []


def _libc() -> ctypes.CDLL | None:
    if not _LIBC:
        try:
            library = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
            library.fallocate  # noqa: B018  (AttributeError where the C library has none)
            _LIBC.append(library)
        except (OSError, AttributeError, TypeError):
            _LIBC.append(None)
    return _LIBC[0]
