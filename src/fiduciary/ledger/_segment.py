"""Segment files: the truth of a log. Preallocated, framed, checked, written once, synced once a group.

A segment starts with a 64-byte block (magic, first index, hash of the origin, random seed) and holds frames,
each at a multiple of 64 bytes: a 64-byte prefix, the header, the body, padding. The prefix has a checked part
that never changes (lengths, CRC-32 of header and body, index, first index of the frame's group) and a checked
part that erasure and retention change in place (locator = the subject's pseudonym, state). Sixty-four bytes
at a multiple of 64 never straddle a disk sector, so that part changes whole or not at all.

What a crash may leave at the end is a group that was never synced, in any state; what it may not leave is a
hole before a later group, for a group is written only after the one before it is durable. Hence one rule
tells a torn tail from damage: a valid frame of a *later group* behind a bad one means that the bad one was
once durable, and that is an `IntegrityError`, never a silent cut. The seed enters every CRC, so bytes inside
a payload cannot pose as a frame.

The layout with fixed vectors is in docs/formats/record.md; tests/crash cuts, tears and reorders these files.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from fiduciary.errors import IntegrityError
from fiduciary.ledger._files import Files, read_at
from fiduciary.ledger._record import HEADER_MAX

ALIGNMENT = 64
SEGMENT_MAGIC = b"FDSEG\x00\x00\x01"
FRAME_MAGIC = b"FDF1"
LIVE = 0
PRUNED = 1
TORN = 2
"""Never written: what a reader calls a frame whose changeable part does not hold."""
NO_LOCATOR = bytes(16)
SUFFIX = ".seg"
FILL_BYTES = 1 << 20
"""How much is zero-filled ahead of the tail, so that a commit overwrites written blocks."""

_SEGMENT = struct.Struct(">8sQ16s16s12xI")
_FIXED = struct.Struct(">4sIIIIQQ")
_CRC = struct.Struct(">I")
_MUTABLE = struct.Struct(">16sB3x")
_PREFIX = struct.Struct(">4sIIIIQQI16sB3xI")
_ZERO_PREFIX = bytes(64)
MUTABLE_OFFSET = _FIXED.size + 4
_READ = 1 << 20
_crc32 = zlib.crc32


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One record as it lies in a segment. `body` is zeros when pruned; `locator` zeros when there is none."""

    offset: int
    length: int
    index: int
    group: int
    header: bytes
    body: bytes
    locator: bytes
    state: int


def padded(length: int) -> int:
    return (length + ALIGNMENT - 1) & -ALIGNMENT


def frame_length(header_length: int, body_length: int) -> int:
    """Bytes a record takes in a segment."""
    return padded(_PREFIX.size + header_length + body_length)


def encode_frame(seed: int, index: int, group: int, header: bytes, body: bytes, locator: bytes) -> bytes:
    """The bytes of one frame, padding included. `seed` is the segment's CRC seed."""
    fixed = _FIXED.pack(
        FRAME_MAGIC, len(header), len(body), _crc32(header, seed), _crc32(body, seed), index, group
    )
    data = b"".join(
        (fixed, _CRC.pack(_crc32(fixed, seed)), encode_mutable(seed, index, locator, LIVE), header, body)
    )
    return data + bytes(-len(data) % ALIGNMENT)


def encode_mutable(seed: int, index: int, locator: bytes, state: int) -> bytes:
    """The 24 bytes of a prefix that may change, with their CRC, which also binds the index."""
    data = _MUTABLE.pack(locator, state)
    return data + _CRC.pack(_crc32(data, seed ^ (index & 0xFFFFFFFF)))


def origin_hash(origin: str) -> bytes:
    return hashlib.sha256(origin.encode()).digest()[:16]


class Segment:
    """One open segment file. `tail` is where the next frame goes; `count` frames are before it."""

    def __init__(self, files: Files, path: Path, fd: int, first: int, nonce: bytes, size: int) -> None:
        self.files = files
        self.path = path
        self.fd = fd
        self.first = first
        self.seed = _crc32(nonce)
        self.size = size
        self.tail = ALIGNMENT
        self.count = 0
        self.filled = ALIGNMENT

    @classmethod
    def create(cls, files: Files, folder: Path, origin: str, first: int, size: int) -> Segment:
        """A new preallocated segment, durable with its name when this returns."""
        path = folder / f"{first:020d}{SUFFIX}"
        temporary = folder / f".{first:020d}.tmp"
        fd = files.create(temporary)
        try:
            files.allocate(fd, size)
            nonce = os.urandom(16)
            block = _SEGMENT.pack(SEGMENT_MAGIC, first, origin_hash(origin), nonce, 0)[:-4]
            files.pwrite(fd, block + _CRC.pack(_crc32(block)), 0)
            files.fsync(fd)
            files.rename(temporary, path)
            files.sync_directory(folder)
        except BaseException:
            files.close(fd)
            raise
        return cls(files, path, fd, first, nonce, size)

    @classmethod
    def open(cls, files: Files, path: Path, origin: str, *, writable: bool = False) -> Segment:
        """Open an existing segment and check its first block; raises `IntegrityError`."""
        fd = files.open(path) if writable else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            block = read_at(fd, ALIGNMENT, 0)
            if len(block) != ALIGNMENT:
                raise IntegrityError(f"{path} is shorter than a segment's first block")
            magic, first, owner, nonce, crc = _SEGMENT.unpack(block)
            if magic != SEGMENT_MAGIC or crc != _crc32(block[:-4]):
                raise IntegrityError(f"{path} does not begin with a valid segment block")
            if owner != origin_hash(origin):
                raise IntegrityError(f"{path} is a segment of another log than {origin}")
            if path.name != f"{first:020d}{SUFFIX}":
                raise IntegrityError(f"{path} says that it starts at record {first}: it was renamed")
        except BaseException:
            files.close(fd)
            raise
        return cls(files, path, fd, first, nonce, size)

    def close(self) -> None:
        if self.fd >= 0:
            self.files.close(self.fd)
            self.fd = -1

    @property
    def room(self) -> int:
        """Bytes left for frames."""
        return self.size - self.tail

    # Reading.

    def scan(self, offset: int = ALIGNMENT, index: int | None = None) -> Iterator[Frame]:
        """The valid frames from `offset` on, where record `index` is expected; stops at the first that is
        not."""
        expected = self.first if index is None else index
        seed = self.seed
        buffer, base = b"", offset
        while offset + ALIGNMENT <= self.size:
            at = offset - base
            if at + ALIGNMENT > len(buffer):
                buffer, base, at = read_at(self.fd, _READ, offset), offset, 0
                if len(buffer) < ALIGNMENT:
                    return
            fields = _PREFIX.unpack_from(buffer, at)
            if not self._plausible(buffer, at, fields, expected):
                return
            header_length, body_length = fields[1], fields[2]
            length = frame_length(header_length, body_length)
            if at + length > len(buffer):
                buffer, base, at = read_at(self.fd, max(_READ, length), offset), offset, 0
                if len(buffer) < length:
                    return
            start = at + ALIGNMENT
            header = buffer[start : start + header_length]
            body = buffer[start + header_length : start + header_length + body_length]
            if _crc32(header, seed) != fields[3]:
                return
            locator, state = self._mutable(buffer, at, fields, expected)
            if state != PRUNED and _crc32(body, seed) != fields[4] and (state == LIVE or any(body)):
                return
            yield Frame(offset, length, expected, fields[6], header, body, locator, state)
            offset += length
            expected += 1

    def _plausible(self, buffer: bytes, at: int, fields: tuple[Any, ...], expected: int) -> bool:
        return bool(
            fields[0] == FRAME_MAGIC
            and fields[5] == expected
            and fields[6] <= expected
            and fields[1] <= HEADER_MAX
            and fields[7] == _crc32(buffer[at : at + 36], self.seed)
        )

    def _mutable(self, buffer: bytes, at: int, fields: tuple[Any, ...], index: int) -> tuple[bytes, int]:
        """Locator and state. An erasure that was interrupted in a way no disk should allow must not cost the
        record: its changeable part counts as torn, and a scrub sets it right."""
        crc = _crc32(buffer[at + 40 : at + 60], self.seed ^ (index & 0xFFFFFFFF))
        if fields[10] != crc or fields[9] > PRUNED:
            return NO_LOCATOR, TORN
        return fields[8], fields[9]

    def read_frame(self, offset: int, index: int) -> Frame:
        """The frame of record `index` at `offset`; raises `IntegrityError`."""
        prefix = read_at(self.fd, ALIGNMENT, offset)
        if len(prefix) == ALIGNMENT:
            fields = _PREFIX.unpack(prefix)
            if self._plausible(prefix, 0, fields, index):
                data = read_at(self.fd, fields[1] + fields[2], offset + ALIGNMENT)
                header, body = data[: fields[1]], data[fields[1] :]
                locator, state = self._mutable(prefix, 0, fields, index)
                intact = _crc32(body, self.seed) == fields[4]
                if _crc32(header, self.seed) == fields[3] and (intact or state != LIVE):
                    length = frame_length(fields[1], fields[2])
                    return Frame(offset, length, index, fields[6], header, body, locator, state)
        raise IntegrityError(f"there is no valid frame of record {index} at byte {offset} of {self.path}")

    def recover(self, offset: int = ALIGNMENT, index: int | None = None) -> Iterator[Frame]:
        """Scan to the end, set `tail` and `count`, and prove that only a torn group lies behind it.

        Raises `IntegrityError` if a frame of a later group is found behind the first bad one.
        """
        expected = self.first if index is None else index
        for frame in self.scan(offset, expected):
            yield frame
            offset = frame.offset + frame.length
            expected = frame.index + 1
        self.tail, self.count = offset, expected - self.first
        later = self.later_group(offset, expected)
        if later is not None:
            raise IntegrityError(
                f"record {expected} at byte {offset} of {self.path} is damaged: a later group starts "
                f"behind it (byte {later}), so it had been durable"
            )

    def later_group(self, offset: int, expected: int) -> int | None:
        overlap = ALIGNMENT - 1
        position = offset
        while position < self.size:
            data = read_at(self.fd, _READ + overlap, position)
            at = data.find(FRAME_MAGIC)
            while at >= 0:
                place = position + at
                if place % ALIGNMENT == 0 and at + ALIGNMENT <= len(data):
                    fields = _PREFIX.unpack_from(data, at)
                    if fields[7] == _crc32(data[at : at + 36], self.seed) and fields[6] > expected:
                        return place
                at = data.find(FRAME_MAGIC, at + 1)
            position += _READ
        return None

    # Writing.

    def clear_tail(self) -> bool:
        """Zero whatever a torn group left behind the tail, durably; says whether there was anything."""
        dirty = False
        position = self.tail
        while position < self.size:
            data = read_at(self.fd, _READ, position)
            if not data:
                break
            if data.count(0) != len(data):
                self.files.pwrite(self.fd, bytes(len(data)), position)
                dirty = True
            position += len(data)
        if dirty:
            self.files.fdatasync(self.fd)
        return dirty

    def fill_ahead(self) -> None:
        """Write zeros ahead of the tail. Called when no group is being written."""
        start = max(self.filled, self.tail)
        end = min(self.size, self.tail + FILL_BYTES)
        if end > start and (end - self.tail) >= FILL_BYTES // 2:
            self.files.pwrite(self.fd, bytes(end - start), start)
            self.filled = end

    def write_group(self, data: bytes, count: int) -> None:
        """Write one group of whole frames at the tail and make it durable."""
        self.files.write_durably(self.fd, data, self.tail)
        self.tail += len(data)
        self.count += count

    def set_mutable(self, frame: Frame, locator: bytes, state: int) -> None:
        """Change locator and state of a frame in place (durable after the caller's `fdatasync`)."""
        self.files.pwrite(
            self.fd, encode_mutable(self.seed, frame.index, locator, state), frame.offset + MUTABLE_OFFSET
        )

    def zero_body(self, frame: Frame) -> None:
        """Overwrite a frame's body with zeros and give its blocks back."""
        start = frame.offset + ALIGNMENT + len(frame.header)
        self.files.pwrite(self.fd, bytes(len(frame.body)), start)
        block = 4096
        hole = (start + block - 1) & -block
        self.files.punch(self.fd, hole, ((start + len(frame.body)) & -block) - hole)


def segment_paths(folder: Path) -> list[Path]:
    """The segments of a log in order."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))
