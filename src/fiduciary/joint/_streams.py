"""What runs on an established link: a pump between two sockets, and a channel of small messages.

Both belong to the relay's one loop and never block. A pump reads one side only while the other takes what was
read, so that a slow link slows the engine instead of filling memory.
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from fiduciary.joint._guard import Foreign
from fiduciary.joint._pinning import close

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE
CHUNK = 256 << 10
MAX_MESSAGE = 512 << 10
"""Largest message on a control link, bytes."""
MAX_QUEUED = 1024
_SIZE = struct.Struct(">I")
_AGAIN = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError)


class _Side:
    __slots__ = ("ended", "mask", "other", "sock", "waiting", "watch")

    def __init__(self, sock: socket.socket, watch: Callable[[memoryview], None]) -> None:
        self.sock = sock
        self.watch = watch
        self.waiting = memoryview(b"")  # read from here, not yet taken by the other side
        self.other: _Side
        self.ended = False
        self.mask = 0


class Pump:
    """Carries bytes both ways between two connected, non-blocking sockets.

    `watch_a`, `watch_b` see what is read from each side before it is passed on; `Foreign` from them ends the
    pump with `on_foreign`. When one side ends, what was read is delivered and both are closed.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        a: socket.socket,
        b: socket.socket,
        *,
        watch_a: Callable[[memoryview], None],
        watch_b: Callable[[memoryview], None],
        on_end: Callable[[Pump, str], None],
    ) -> None:
        self._selector = selector
        self._scratch = memoryview(bytearray(CHUNK))
        self._a, self._b = _Side(a, watch_a), _Side(b, watch_b)
        self._a.other, self._b.other = self._b, self._a
        self._on_end = on_end
        self.closed = False
        for side in (self._a, self._b):
            self._interest(side)
        self._flow(self._a)  # TLS may hold bytes that no poll will announce
        self._flow(self._b)

    def ready(self, sock: Any, mask: int) -> None:
        """The selector says that `sock` can be read or written."""
        side = self._a if sock is self._a.sock else self._b
        if mask & WRITE:
            self._flow(side.other)
        if mask & READ and not self.closed:
            self._flow(side)

    def _flow(self, side: _Side) -> None:
        """Move bytes from `side` to the other until one of the two would block."""
        if self.closed:
            return
        target = side.other.sock
        try:
            while True:
                while side.waiting:
                    try:
                        done = target.send(side.waiting)
                    except _AGAIN:
                        self._interest(side)
                        self._interest(side.other)
                        return
                    side.waiting = side.waiting[done:]
                if side.ended:
                    self.end("")
                    return
                try:
                    count = side.sock.recv_into(self._scratch)
                except _AGAIN:
                    break
                if not count:
                    side.ended = True
                    continue
                data = self._scratch[:count]
                side.watch(data)
                try:
                    done = target.send(data)
                except _AGAIN:
                    done = 0
                if done < count:
                    side.waiting = memoryview(bytes(data[done:]))
        except Foreign as error:
            self.end(str(error))
            return
        except (OSError, ssl.SSLError):
            self.end("")
            return
        self._interest(side)
        self._interest(side.other)

    def _interest(self, side: _Side) -> None:
        mask = (0 if side.waiting or side.ended else READ) | (WRITE if side.other.waiting else 0)
        if mask == side.mask or self.closed:
            return
        if not side.mask:
            self._selector.register(side.sock, mask, self)
        elif not mask:
            self._selector.unregister(side.sock)
        else:
            self._selector.modify(side.sock, mask, self)
        side.mask = mask

    def end(self, reason: str) -> None:
        """Close both sides; `reason` is empty for an ordinary end."""
        if self.closed:
            return
        self.closed = True
        for side in (self._a, self._b):
            if side.mask:
                self._selector.unregister(side.sock)
            close(side.sock)
        self._on_end(self, reason)


class Channel:
    """Length-prefixed JSON messages over one connected, non-blocking socket."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        sock: socket.socket,
        *,
        on_message: Callable[[dict[str, Any]], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._selector = selector
        self._sock = sock
        self._on_message, self._on_end = on_message, on_end
        self._in = bytearray()
        self._out: deque[memoryview] = deque()
        self._mask = READ
        self.closed = False
        selector.register(sock, READ, self)
        self.ready(sock, READ)

    @property
    def waiting(self) -> bool:
        """Is anything not yet handed to the system?"""
        return bool(self._out) and not self.closed

    def queue(self, message: dict[str, Any]) -> None:
        """Send a message as soon as the socket takes it."""
        if self.closed:
            return
        raw = json.dumps(message).encode()
        if len(raw) > MAX_MESSAGE or len(self._out) >= MAX_QUEUED:
            self.end("it does not take what is sent")
            return
        self._out.append(memoryview(_SIZE.pack(len(raw)) + raw))
        self._write()

    def ready(self, sock: Any, mask: int) -> None:
        """The selector says that the socket can be read or written."""
        if mask & WRITE:
            self._write()
        if not mask & READ:
            return
        try:
            while not self.closed:
                data = self._sock.recv(1 << 16)
                if not data:
                    self.end("it closed its link")
                    return
                self._in += data
                self._take()
        except _AGAIN:
            return
        except (OSError, ssl.SSLError) as error:
            self.end(f"its link broke ({type(error).__name__})")

    def _take(self) -> None:
        while len(self._in) >= _SIZE.size and not self.closed:
            (size,) = _SIZE.unpack_from(self._in)
            if size > MAX_MESSAGE:
                self.end("it sent a message over the limit")
                return
            if len(self._in) < _SIZE.size + size:
                return
            raw = bytes(self._in[_SIZE.size : _SIZE.size + size])
            del self._in[: _SIZE.size + size]
            try:
                message = json.loads(raw)
                if not isinstance(message, dict) or not isinstance(message.get("type"), str):
                    raise ValueError
            except (ValueError, RecursionError):
                self.end("it sent bytes that are no message")
                return
            self._on_message(message)

    def _write(self) -> None:
        try:
            while self._out:
                done = self._sock.send(self._out[0])
                if done == len(self._out[0]):
                    self._out.popleft()
                else:
                    self._out[0] = self._out[0][done:]
        except _AGAIN:
            pass
        except (OSError, ssl.SSLError) as error:
            self.end(f"its link broke ({type(error).__name__})")
            return
        mask = READ | (WRITE if self._out else 0)
        if mask != self._mask and not self.closed:
            self._mask = mask
            self._selector.modify(self._sock, mask, self)

    def end(self, reason: str) -> None:
        """Close; the reason goes to `on_end`."""
        if self.closed:
            return
        self.closed = True
        self._selector.unregister(self._sock)
        close(self._sock)
        self._on_end(reason)
