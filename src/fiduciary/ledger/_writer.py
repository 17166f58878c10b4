"""Group commit: one thread writes whatever has gathered while the last group was on its way to the disk.

No timer and no batch size to tune: a lone writer waits for one sync, a thousand writers share one. A second
thread publishes. Entries wait in a queue with a limit, so that a slow disk shows as refusals and not as
memory.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

from fiduciary.config import LedgerSettings
from fiduciary.errors import FiduciaryError, LedgerError, OverloadedError
from fiduciary.ledger._record import Entry, Receipt, check_entry

if TYPE_CHECKING:
    from fiduciary.ledger._log import Log

GROUP_RECORDS = 1_024
GROUP_BYTES = 4 << 20
_FRAME_ALLOWANCE = 1_024
REST_S = 0.01
"""How long the writer waits for another group before it lets go of what it holds for a run of groups."""


class Token(Protocol):
    """What waits for an entry. `sink` is told of all its tokens of a group in one call."""

    abandoned: bool

    @property
    def sink(self) -> Sink: ...


class Sink(Protocol):
    """Receives the results of a group."""

    def resolve(self, results: list[tuple[Token, Receipt | FiduciaryError]]) -> None: ...


class _FutureToken:
    __slots__ = ("abandoned", "future")

    def __init__(self) -> None:
        self.future: Future[Receipt] = Future()
        self.abandoned = False

    @property
    def sink(self) -> Sink:
        return _FUTURES


class _Futures:
    def resolve(self, results: list[tuple[Token, Receipt | FiduciaryError]]) -> None:
        for token, result in results:
            assert isinstance(token, _FutureToken)
            if not token.future.set_running_or_notify_cancel():
                continue
            if isinstance(result, FiduciaryError):
                token.future.set_exception(result)
            else:
                token.future.set_result(result)


_FUTURES = _Futures()


class Writer:
    """The two threads of one log."""

    def __init__(self, log: Log, settings: LedgerSettings) -> None:
        self._log = log
        self._settings = settings
        self._queue: deque[tuple[Entry, Token]] = deque()
        self._idle = False
        self._stopping = False
        self._stopped = False
        self._wake = threading.Lock()  # a binary semaphore: held while there is nothing to do
        self._wake.acquire()
        self._group_bytes = min(GROUP_BYTES, settings.segment_bytes // 2)
        self._stop_publishing = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, name=f"ledger-{log.name}-write", daemon=True),
            threading.Thread(target=self._publish, name=f"ledger-{log.name}-publish", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Entries in the queue."""
        return len(self._queue)

    def append(self, entry: Entry) -> Future[Receipt]:
        """Queue an entry; the future is done when it is durable or refused."""
        token = _FutureToken()
        try:
            self.append_nowait(entry, token)
        except FiduciaryError as error:
            token.future.set_exception(error)
        return token.future

    def append_nowait(self, entry: Entry, token: Token) -> None:
        """Queue an entry; `token.sink` hears of it. Raises what can be said at once."""
        check_entry(entry, self._settings.max_payload_bytes)
        if self._log.failure is not None:
            raise self._log.failure
        if self._stopping:
            raise LedgerError(f"log {self._log.name} is closing")
        if len(self._queue) >= self._settings.queue_limit:
            raise OverloadedError(
                f"{self._settings.queue_limit} entries wait for log {self._log.name} already; try again later"
            )
        self._queue.append((entry, token))
        if self._idle:
            self._idle = False
            self._signal()
        if self._stopped:  # it stopped between the two looks: nobody else will answer
            self._refuse_rest()

    def _signal(self) -> None:
        with contextlib.suppress(RuntimeError):  # somebody else has released it already
            self._wake.release()

    def _write(self) -> None:
        queue, log = self._queue, self._log
        while True:
            if not queue:
                if self._stopping:
                    break
                log.fill_ahead()
                self._idle = True
                if not queue and not self._stopping and not self._wake.acquire(timeout=REST_S):
                    log.rest()
                    if not queue and not self._stopping:
                        self._wake.acquire()
                self._idle = False
                continue
            self._write_group()
        log.rest()
        self._stopped = True
        self._refuse_rest()

    def _write_group(self) -> None:
        queue = self._queue
        entries: list[Entry] = []
        tokens: list[Token] = []
        room = self._group_bytes
        while queue and len(entries) < GROUP_RECORDS:
            entry, token = queue[0]
            room -= len(entry.payload) + _FRAME_ALLOWANCE
            if room < 0 and entries:
                break
            queue.popleft()
            if not token.abandoned:
                entries.append(entry)
                tokens.append(token)
        if not entries:
            return
        results: list[Receipt | FiduciaryError]
        try:
            results = self._log.commit(entries, keep_lease=True)
        except FiduciaryError as error:
            results = [error] * len(entries)
        except BaseException as error:  # a programmer's error must not leave callers waiting for ever
            self._log.stop_with(f"an internal error ({type(error).__name__})")
            self._tell(tokens, [LedgerError("the ledger failed")] * len(tokens))
            raise
        self._tell(tokens, results)

    @staticmethod
    def _tell(tokens: list[Token], results: list[Receipt | FiduciaryError]) -> None:
        first = tokens[0].sink
        pairs = list(zip(tokens, results, strict=True))
        if all(token.sink is first for token in tokens):
            first.resolve(pairs)
            return
        by_sink: dict[int, tuple[Sink, list[tuple[Token, Receipt | FiduciaryError]]]] = {}
        for pair in pairs:
            sink = pair[0].sink
            by_sink.setdefault(id(sink), (sink, []))[1].append(pair)
        for sink, own in by_sink.values():
            sink.resolve(own)

    def _refuse_rest(self) -> None:
        error = self._log.failure or LedgerError(f"log {self._log.name} was closed")
        while self._queue:
            try:
                _, token = self._queue.popleft()
            except IndexError:
                return
            token.sink.resolve([(token, error)])

    def _publish(self) -> None:
        while not self._stop_publishing.wait(self._settings.publish_interval_s):
            try:
                self._log.publish()
            except LedgerError:
                return  # the log remembers why; every append says so from now on

    def stop(self) -> None:
        """Write what is queued, then end both threads."""
        self._stopping = True
        self._stop_publishing.set()
        self._signal()
        for thread in self._threads:
            thread.join()
