"""This worker's shard of the ledger as the path sees it: entries out, a whole commit group's results back at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fiduciary.errors import FiduciaryError
from fiduciary.ledger import Entry, Kind, Log, Receipt

if TYPE_CHECKING:
    from fiduciary.gate.path import Path, Question


class Waiting:
    """One entry on its way to the disk, and the row that waits for it."""

    __slots__ = ("abandoned", "question", "row", "sink")

    def __init__(self, sink: Shard, question: Question | None, row: int) -> None:
        self.sink = sink
        self.question = question
        self.row = row
        self.abandoned = False


class Shard:
    """Queues entries on a log; its writer thread wakes the event loop once per group."""

    def __init__(self, log: Log, loop: asyncio.AbstractEventLoop, path: Path) -> None:
        self.log = log
        self._loop = loop
        self._durable = path.durable
        self._append = log.writer.append_nowait

    def put(self, entry: Entry, question: Question, row: int) -> None:
        """Queue an entry for a question's row; raises `FiduciaryError` when that can be said at once."""
        self._append(entry, Waiting(self, question, row))  # type: ignore[arg-type]

    def note(self, payload: bytes) -> None:
        """Queue an entry that nobody waits for."""
        self._append(Entry(Kind.DECISION, payload), Waiting(self, None, -1))  # type: ignore[arg-type]

    def resolve(self, results: list[tuple[Waiting, Receipt | FiduciaryError]]) -> None:
        """Called by the writer thread with the results of a group."""
        try:
            self._loop.call_soon_threadsafe(self._durable, results)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return
