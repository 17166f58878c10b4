"""HTTP/1.1 on one connection: bytes in, `Exchange`s out, answers back in the order asked. Limits on everything.

Follows RFC 9110 and RFC 9112 on llhttp's strict parser (through httptools), as a plain asyncio protocol: no task,
no future and no event per request, which is a third of what an ASGI server spends on one
(docs/operations.md#http). What the parser leaves open is refused here: more than one Host or Authorization, a
request target that is not a path, an encoded body, an upgrade. A refusal at this level is a problem document, and
the connection is closed, because after bytes that two parsers could read in two ways nothing on it can be
trusted. tests/attacks/test_http.py holds every line of that.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol

import httptools
import msgspec

from fiduciary.config import GateSettings
from fiduciary.errors import PROBLEM_BASE, FiduciaryError
from fiduciary.gate import _limits as limits

JSON = b"application/json"
PROBLEM = b"application/problem+json"

IDLE, HEAD, BODY, LINGER = range(4)
"""What a connection's reading side is doing. Deadlines follow from it."""

_STATUS = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_SINGLE = frozenset(
    (b"host", b"authorization", b"content-length", b"content-type", b"content-encoding", b"idempotency-key")
)
_BODY_METHODS = frozenset((b"POST", b"PUT", b"PATCH"))
_encode = msgspec.json.Encoder().encode


def problem(status: int, kind: str, title: str, detail: str) -> bytes:
    """An RFC 9457 document for what is refused before there is a request to speak of."""
    return _encode({"type": PROBLEM_BASE + kind, "title": title, "status": status, "detail": detail})


class Application(Protocol):
    """What a connection hands complete requests to."""

    def __call__(self, exchange: Exchange) -> None:
        """Take the request; sooner or later call `exchange.reply` once. Must not raise."""

    def refused(self, kind: str) -> None:
        """Count a request that was refused before it was one."""


class Exchange:
    """One request and the place for its answer."""

    __slots__ = (
        "body",
        "cold",
        "connection",
        "headers",
        "keep_alive",
        "method",
        "path",
        "query",
        "response",
        "since",
    )

    def __init__(
        self, connection: Connection, method: bytes, target: bytes, headers: dict[bytes, bytes]
    ) -> None:
        self.connection = connection
        self.method = method
        path, _, query = target.partition(b"?")
        self.path = path
        self.query = query
        self.headers = headers
        self.body = b""
        self.keep_alive = True
        self.since = 0.0
        self.response: bytes | None = None
        self.cold: Callable[[], None] | None = None
        """Set by a slow route: called when the client goes away before the answer."""

    def reply(self, status: int, body: bytes, kind: bytes = JSON, more: bytes = b"") -> None:
        """Answer once; later calls are ignored. `more`: further header lines, each ending in CRLF."""
        if self.response is not None:
            return
        connection = self.connection
        keep = self.keep_alive and not connection.server.draining
        self.response = b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n%b" % (
            _STATUS[status],
            connection.server.common,
            kind,
            len(body),
            more,
            b"" if keep else b"connection: close\r\n",
            b"" if self.method == b"HEAD" else body,
        )
        self.keep_alive = keep
        connection.answered(self)

    def refuse(self, error: FiduciaryError, more: bytes = b"") -> None:
        """Answer with the error's problem document."""
        if error.status == 401:
            more += b'www-authenticate: Bearer realm="fiduciary"\r\n'
        elif error.status == 503:
            more += b"retry-after: 1\r\n"
        self.reply(error.status, _encode(error.problem()), PROBLEM, more)


class Server:
    """What the connections of one process share: limits, counters, the clock, the application."""

    def __init__(self, settings: GateSettings, application: Application) -> None:
        self.settings = settings
        self.application = application
        self.connections: set[Connection] = set()
        self.waiting = 0
        """Exchanges that were handed on and not yet answered."""
        self.buffered = 0
        """Bytes of unfinished bodies."""
        self.most_raw = limits.CHUNK_OVERHEAD * settings.max_body_bytes + settings.max_header_bytes
        """Bytes on the wire from which on one request is an attack."""
        self.body_budget = limits.BODY_BUDGET * settings.max_body_bytes
        self.draining = False
        self.now = time.monotonic()
        self.common = b""
        self._second = 0
        self._tick_handle: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin the sweep that keeps the clock and cuts off slow clients."""
        self._loop = loop
        self._tick()

    def stop(self) -> None:
        """End the sweep and drop what is still connected."""
        if self._tick_handle is not None:
            self._tick_handle.cancel()
        for connection in list(self.connections):
            connection.abort()

    def drain(self) -> None:
        """From now on every answer is the last one of its connection; idle connections are closed."""
        self.draining = True
        for connection in list(self.connections):
            if not connection.queue and connection.phase == IDLE:
                connection.close()

    def protocol(self) -> Connection:
        """A new connection (the protocol factory of `loop.create_server`)."""
        return Connection(self)

    def _tick(self) -> None:
        self.now = now = time.monotonic()
        second = int(time.time())
        if second != self._second:
            self._second = second
            self.common = (
                f"date: {formatdate(second, usegmt=True)}\r\n"
                "cache-control: no-store\r\nx-content-type-options: nosniff\r\n"
            ).encode()
        for connection in list(self.connections):
            connection.sweep(now)
        assert self._loop is not None
        self._tick_handle = self._loop.call_later(limits.TICK_S, self._tick)


class Connection(asyncio.Protocol):
    """One client connection. Reads requests, keeps their order, enforces every limit."""

    __slots__ = (
        "_body", "_body_size", "_chunk", "_closing", "_head", "_headers", "_paused", "_raw", "_unread", "_url",
        "parser", "phase", "queue", "server", "since", "transport",
    )  # fmt: skip

    transport: asyncio.Transport
    parser: httptools.HttpRequestParser

    def __init__(self, server: Server) -> None:
        self.server = server
        self.queue: deque[Exchange] = deque()
        self.phase = IDLE
        self.since = server.now
        self._closing = False  # no further request is taken; closes when the queue is empty
        self._paused = False  # reading is paused
        self._unread = False  # the client does not read its answers
        self._head: Exchange | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._url = b""
        self._raw = 0
        self._chunk: bytes = b""
        self._body: bytearray | None = None
        self._body_size = 0

    # transport events

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is one in all but name
        self.parser = httptools.HttpRequestParser(self)
        server = self.server
        server.connections.add(self)
        self.transport.set_write_buffer_limits(high=limits.WRITE_BUFFER)
        if len(server.connections) > server.settings.max_connections or server.draining:
            self._refuse(503, "overloaded", "The service is busy", "too many connections are open")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        server = self.server
        server.connections.discard(self)
        server.buffered -= self._body_size
        self._body_size = 0
        self._body = None
        self.phase = LINGER
        for exchange in self.queue:
            if exchange.response is None:
                exchange.response = b""
                server.waiting -= 1
                if exchange.cold is not None:
                    exchange.cold()
        self.queue.clear()

    def data_received(self, data: bytes) -> None:
        phase = self.phase
        if phase == LINGER:
            self._raw += len(data)
            if self._raw > limits.LINGER_BYTES:
                self.abort()
            return
        if phase == IDLE:
            self.phase = HEAD
            self.since = self.server.now
            self._raw = 0
        self._raw += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(
                400, "malformed-request", "The request is malformed", "this server does not change protocols"
            )
            return
        except httptools.HttpParserError as error:
            if isinstance(error, httptools.HttpParserCallbackError) and error.__context__ is not None:
                self.abort()
                raise error.__context__ from None  # a programmer's error of ours, not the client's
            self._refuse(
                400, "malformed-request", "The request is malformed", f"the bytes do not follow HTTP: {error}"
            )
            return
        settings = self.server.settings
        if self.phase == HEAD:
            if self._raw > settings.max_header_bytes:
                self._too_large_header()
        elif self.phase == BODY and self._raw > self.server.most_raw:
            self._too_large_body()

    def eof_received(self) -> bool:
        if self.queue:  # the client has finished sending and waits for its answers
            self._closing = True
            return True
        return False

    def pause_writing(self) -> None:
        self._unread = True
        self.since = self.server.now
        self._pause()

    def resume_writing(self) -> None:
        self._unread = False
        self.since = self.server.now
        self._resume()

    # parser events

    def on_message_begin(self) -> None:
        if self.phase == LINGER:
            return
        if self.phase != HEAD:  # a pipelined request in the same bytes
            self.phase = HEAD
            self.since = self.server.now
            self._raw = 0
        self._url = b""
        self._headers = []
        self._head = None

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.phase == HEAD:  # trailers of a chunked body mean nothing here
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.phase != HEAD:
            return None
        found = self._headers
        headers = dict(found)
        size = len(self._url)
        for name, value in found:
            size += len(name) + len(value) + 4
        settings = self.server.settings
        if size > settings.max_header_bytes or len(found) > limits.MAX_HEADERS:
            return self._too_large_header()
        if len(headers) != len(found):
            names = [name for name, _ in found]
            for name in _SINGLE:
                if names.count(name) > 1:
                    return self._malformed(f"the header {name.decode()} was sent more than once")
            for name, value in found:  # the others are lists: RFC 9110 section 5.3
                headers[name] = (
                    b", ".join(v for n, v in found if n == name) if names.count(name) > 1 else value
                )
        parser = self.parser
        if self._url[:7].lower() == b"http://" or self._url[:8].lower() == b"https://":
            self._url = b"/" + self._url.split(b"/", 3)[3] if self._url.count(b"/") > 2 else b"/"
        if not self._url.startswith(b"/"):
            return self._malformed("the request target must be a path, such as /v1/decisions")
        if parser.should_upgrade():
            return self._malformed("this server does not change protocols")
        version = parser.get_http_version()
        if version == "1.1":
            if b"host" not in headers:
                return self._malformed("an HTTP/1.1 request needs a Host header")
        elif version != "1.0":
            return self._refuse(
                505, "malformed-request", "The request is malformed", "HTTP/1.1 and 1.0 are spoken here"
            )
        elif b"transfer-encoding" in headers:
            return self._malformed("HTTP/1.0 has no transfer encodings")
        if b"content-encoding" in headers and headers[b"content-encoding"].lower() != b"identity":
            return self._refuse(
                415,
                "malformed-request",
                "The request is malformed",
                "send the body as it is: encoded bodies are refused",
            )
        transfer = headers.get(b"transfer-encoding")
        if transfer is not None and transfer.lower() != b"chunked":
            return self._refuse(
                501, "malformed-request", "The request is malformed", "chunked is the only transfer encoding"
            )
        length = headers.get(b"content-length")
        if length is not None and int(length) > settings.max_body_bytes:
            return self._too_large_body()
        if len(self.queue) >= limits.MAX_PIPELINED:
            return self._refuse(
                503, "overloaded", "The service is busy", "too many requests wait on this connection"
            )
        exchange = Exchange(self, parser.get_method(), self._url, headers)
        exchange.since = self.since
        exchange.keep_alive = version == "1.1" and parser.should_keep_alive()
        self._head = exchange
        self.phase = BODY
        self.since = self.server.now
        if b"expect" in headers and version == "1.1":
            if headers[b"expect"].lower() != b"100-continue":
                return self._refuse(
                    417, "malformed-request", "The request is malformed", "only 100-continue can be expected"
                )
            if self.queue:  # its turn has not come: an interim answer now would be read as the answer before
                return self._refuse(
                    417, "malformed-request", "The request is malformed", "100-continue cannot be pipelined"
                )
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    def on_body(self, body: bytes) -> None:
        if self.phase != BODY:
            return
        size = self._body_size
        if size == 0:
            self._chunk = body
        else:
            if self._body is None:
                self._body = bytearray(self._chunk)
            self._body += body
        more = len(body)
        self._body_size = size + more
        server = self.server
        server.buffered += more
        if size + more > server.settings.max_body_bytes:
            self._too_large_body()
        elif server.buffered > server.body_budget:
            self._refuse(503, "overloaded", "The service is busy", "too many unfinished requests are held")

    def on_message_complete(self) -> None:
        if self.phase != BODY:
            return
        exchange = self._head
        assert exchange is not None
        self._head = None
        server = self.server
        if self._body_size:
            exchange.body = self._chunk if self._body is None else bytes(self._body)
            server.buffered -= self._body_size
            self._body_size = 0
            self._body = None
            self._chunk = b""
        self.phase = IDLE
        self.since = server.now
        if not exchange.keep_alive:
            self._closing = True
            self._raw = 0
            self.phase = LINGER  # whatever follows is not a request
        self.queue.append(exchange)
        server.waiting += 1
        if len(self.queue) > 1:
            self._pause()
        server.application(exchange)

    # answers

    def answered(self, exchange: Exchange) -> None:
        """An exchange has its response: write it when everything asked before it is answered."""
        server = self.server
        server.waiting -= 1
        queue = self.queue
        if queue[0] is not exchange:
            return
        write = self.transport.write
        while queue and queue[0].response is not None:
            exchange = queue.popleft()
            assert exchange.response is not None
            write(exchange.response)
            if not exchange.keep_alive:
                self._closing = True
        if not queue:
            self.since = server.now
            if self._closing:
                self._end()
            elif self._paused:
                self._resume()

    def _end(self) -> None:
        """Say that no more answers come, and give the client a moment to read the last one.

        Closing at once would answer bytes still under way with a reset, and the client could lose the answer.
        """
        self.phase = LINGER
        self._resume()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        else:
            self.transport.close()

    def close(self) -> None:
        """Close once what has been written is sent."""
        self.phase = LINGER
        self._closing = True
        self.transport.close()

    def abort(self) -> None:
        """Close now."""
        self.phase = LINGER
        self._closing = True
        self.transport.abort()

    # limits

    def sweep(self, now: float) -> None:
        """Look at this connection's deadlines."""
        settings = self.server.settings
        age = now - self.since
        if self._unread:
            if age > settings.body_timeout_s:
                self.abort()
        elif self._paused:
            pass  # it is we who are not reading
        elif self.phase == HEAD:
            if age > settings.header_timeout_s:
                self._refuse(408, "limit", "A limit was passed", "the header did not arrive in time")
        elif self.phase == BODY:
            if age > settings.body_timeout_s:
                self._refuse(408, "limit", "A limit was passed", "the body did not arrive in time")
        elif self.phase == LINGER:
            if not self.queue and age > limits.LINGER_S:
                self.abort()
        elif not self.queue and age > settings.idle_timeout_s:
            self.close()

    def _malformed(self, detail: str) -> None:
        self._refuse(400, "malformed-request", "The request is malformed", detail)

    def _too_large_header(self) -> None:
        most = self.server.settings.max_header_bytes
        detail = f"a request's header may have {limits.MAX_HEADERS} fields and {most} bytes"
        self._refuse(431, "limit", "A limit was passed", detail)

    def _too_large_body(self) -> None:
        most = self.server.settings.max_body_bytes
        self._refuse(413, "limit", "A limit was passed", f"a request's body may have {most} bytes")

    def _refuse(self, status: int, kind: str, title: str, detail: str) -> None:
        """Answer a request that never became one, after those before it, and take nothing more."""
        if self.phase == LINGER:
            return
        server = self.server
        server.buffered -= self._body_size
        self._body_size = 0
        self._body = None
        self._chunk = b""
        self._head = None
        self.phase = LINGER
        self.since = server.now
        self._raw = 0
        self._closing = True
        server.application.refused(kind)
        exchange = Exchange(self, b"", b"", {})
        exchange.keep_alive = False
        self.queue.append(exchange)
        server.waiting += 1
        exchange.reply(status, problem(status, kind, title, detail), PROBLEM)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self._unread and not self.queue:
            self._paused = False
            self.since = self.server.now
            if not self.transport.is_closing():
                self.transport.resume_reading()
