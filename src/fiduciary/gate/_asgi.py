"""The slow routes: an ASGI application (Starlette, or anything else) behind the hot ones.

A hot route is a call; a page or a document may as well be a task. The bridge holds the whole answer back until it
is complete, which is right for pages and documents and wrong for streams: those need a door of their own.
"""

from __future__ import annotations

import asyncio
import logging
import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fiduciary.errors import FiduciaryError, LimitError, OverloadedError
from fiduciary.gate import _limits as limits
from fiduciary.gate._http import Exchange

Message = MutableMapping[str, Any]
Asgi = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of one page or document."""

log = logging.getLogger("fiduciary.gate")


class AsgiBridge:
    """Runs exchanges through an ASGI application, a bounded number at once."""

    def __init__(self, app: Asgi, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        self._app = app
        self._loop = loop
        self._timeout = timeout_s
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, exchange: Exchange) -> None:
        """Answer the exchange sooner or later."""
        if len(self._tasks) >= limits.MAX_COLD:
            exchange.refuse(OverloadedError("too many pages are being made"))
            return
        task = self._loop.create_task(self._run(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        exchange.cold = task.cancel  # type: ignore[assignment]

    async def _run(self, exchange: Exchange) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._call(exchange)
        except TimeoutError:
            exchange.refuse(OverloadedError("the page could not be made in time"))
        except FiduciaryError as error:
            exchange.refuse(error)
        except Exception:
            log.exception("a page failed")
            exchange.refuse(FiduciaryError("an unexpected error; the operator's log says more"))

    async def _call(self, exchange: Exchange) -> None:
        path = urllib.parse.unquote(exchange.path.decode("latin-1"))
        method = exchange.method.decode("ascii")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": exchange.path,
            "query_string": exchange.query,
            "root_path": "",
            "headers": list(exchange.headers.items()),
            "client": exchange.connection.transport.get_extra_info("peername"),
            "server": exchange.connection.transport.get_extra_info("sockname"),
            "state": {},
        }
        given = False
        status = 500
        headers: list[tuple[bytes, bytes]] = []
        parts: list[bytes] = []
        size = 0

        async def receive() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": exchange.body, "more_body": False}
            return await self._loop.create_future()  # type: ignore[no-any-return]  # the client's leaving cancels the task

        async def send(message: Message) -> None:
            nonlocal status, headers, size
            if message["type"] == "http.response.start":
                status, headers = message["status"], list(message.get("headers", ()))
            elif message["type"] == "http.response.body":
                body = bytes(message.get("body", b""))
                size += len(body)
                if size > MAX_ANSWER:
                    raise LimitError(f"the answer is larger than {MAX_ANSWER} bytes")
                parts.append(body)

        await self._app(scope, receive, send)
        kind, more = b"application/octet-stream", b""
        for name, value in headers:
            name = name.lower()
            if name == b"content-type":
                kind = value
            elif name not in (b"content-length", b"connection", b"transfer-encoding", b"date"):
                if any(c in name + value for c in b"\r\n\0"):
                    raise ValueError("a header of a page holds a line break")
                more += name + b": " + value + b"\r\n"
        exchange.reply(status, b"".join(parts), kind, more)
