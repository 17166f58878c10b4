"""The ledger seen from an event loop: `await appender.append(entry)`, one wake-up of the loop per group."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from fiduciary.errors import FiduciaryError, LedgerError
from fiduciary.ledger._record import Entry, Receipt

if TYPE_CHECKING:
    from fiduciary.ledger._log import Log
    from fiduciary.ledger._writer import Sink, Token


class _Waiting:
    __slots__ = ("abandoned", "deadline", "future", "sink")

    def __init__(self, sink: AsyncAppender, future: asyncio.Future[Receipt], deadline: float) -> None:
        self.sink: Sink = sink
        self.future = future
        self.deadline = deadline
        self.abandoned = False


class AsyncAppender:
    """Appends to a log from one event loop. One per loop; not for other threads.

    An entry that is not durable within `append_timeout_s` is answered with `LedgerError`. If it was still
    queued it is not written; if its group was under way it may be: a refusal says that nothing was
    confirmed, not that nothing was recorded. One timer watches the oldest entry; there is none per entry.
    """

    def __init__(self, log: Log, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._log = log
        self._writer = log.writer
        self._loop = loop or asyncio.get_running_loop()
        self._timeout = log.append_timeout_s
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def append(self, entry: Entry) -> asyncio.Future[Receipt]:
        """Record an entry: await the result for its receipt.

        Raises at once `OverloadedError` when the queue is full, `UsageError` or `LimitError` for an entry
        that cannot be recorded, `LedgerError` when the log has stopped; the future raises the rest.
        """
        future: asyncio.Future[Receipt] = self._loop.create_future()
        token = _Waiting(self, future, self._loop.time() + self._timeout)
        self._writer.append_nowait(entry, token)
        self._waiting.append(token)
        if self._timer is None:
            self._timer = self._loop.call_at(token.deadline, self._expire)
        return future

    def resolve(self, results: list[tuple[Token, Receipt | FiduciaryError]]) -> None:
        """Called by the writer thread with the results of a group."""
        try:
            self._loop.call_soon_threadsafe(self._resolve, results)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    def _resolve(self, results: list[tuple[Token, Receipt | FiduciaryError]]) -> None:
        for token, result in results:
            assert isinstance(token, _Waiting)
            future = token.future
            if not future.done():
                if isinstance(result, Receipt):
                    future.set_result(result)
                else:
                    future.set_exception(result)
        waiting = self._waiting
        while waiting and waiting[0].future.done():
            waiting.popleft()

    def _expire(self) -> None:
        now = self._loop.time()
        waiting = self._waiting
        while waiting and (waiting[0].future.done() or waiting[0].deadline <= now):
            token = waiting.popleft()
            if not token.future.done():
                token.abandoned = True
                token.future.set_exception(
                    LedgerError(f"log {self._log.name} did not confirm an entry within {self._timeout} s")
                )
        self._timer = self._loop.call_at(waiting[0].deadline, self._expire) if waiting else None
