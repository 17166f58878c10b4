"""Reads just enough of the engine's stream to know whose message it is.

The engine's messages name their sender, and the engine believes them. A link is pinned to one party, so on it
every message must name that party's rank; the guard follows the frames of brpc's `baidu_std` protocol

    "PRPC" | body size, 4 bytes big-endian | meta size, 4 bytes | meta | payload

and reads the first field of the payload (protobuf field 1, the sender's rank; absent: rank 0). It costs one
look per message, not per byte. Proof: tests/joint/test_relay.py.
"""

from __future__ import annotations

import struct

HEAD = struct.Struct(">4sII")
MAX_MESSAGE = 1 << 30
_PEEK = 11
"""A tag and the longest varint."""


class Foreign(Exception):
    """A stream that is not the engine's, or a message that names another sender."""


class Guard:
    """Follows one direction of one connection. `rank`: whose messages it carries; None: count only."""

    __slots__ = ("_head", "_need", "_rank", "_size", "_skip", "messages")

    def __init__(self, rank: int | None) -> None:
        self._rank = rank
        self._head = bytearray()
        self._need = HEAD.size
        self._size = 0
        self._skip = 0
        self.messages = 0

    def feed(self, data: memoryview) -> None:
        """Look at the next bytes. Raises `Foreign` before a foreign message is complete."""
        at, end = 0, len(data)
        while at < end:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                at += step
                continue
            step = min(self._need - len(self._head), end - at)
            self._head += data[at : at + step]
            at += step
            if len(self._head) < self._need:
                return
            if self._need == HEAD.size:
                self._begin()
            else:
                self._judge()

    def _begin(self) -> None:
        magic, size, meta = HEAD.unpack(self._head)
        if magic != b"PRPC" or meta > size or size > MAX_MESSAGE:
            raise Foreign("bytes that are not the engine's protocol")
        self._size = size
        self._need = HEAD.size + min(size, meta + _PEEK)
        if self._need == HEAD.size:
            self._judge()

    def _judge(self) -> None:
        self.messages += 1
        if self._rank is not None:
            meta = HEAD.unpack(self._head[: HEAD.size])[2]
            sender = _first_field(self._head[HEAD.size + meta :])
            if sender != self._rank:
                raise Foreign(
                    f"a message that names rank {sender} as its sender on the link of rank {self._rank}"
                )
        self._skip = HEAD.size + self._size - len(self._head)
        self._head.clear()
        self._need = HEAD.size


def _first_field(payload: bytes | bytearray) -> int:
    if not payload or payload[0] != 0x08:
        return 0
    value = 0
    for i, byte in enumerate(payload[1:]):
        value |= (byte & 0x7F) << (7 * i)
        if not byte & 0x80:
            return value
    raise Foreign("a message whose sender cannot be read")
