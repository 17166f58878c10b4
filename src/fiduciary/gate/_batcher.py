"""Micro-batches without a timer: what was admitted in one turn of the event loop is scored in one kernel call.

While a kernel call runs, requests pile up in the sockets; the next turn reads them all. So a batch is as large
as the load makes it, one request alone waits for nobody, and there is no delay to tune. Calls that would hold
the loop for long (a request of a thousand rows, a model without a fast kernel) run in a thread, where the kernels
release the interpreter lock. A row's bits do not depend on its batch (tests/models/test_scorers.py), so batching
changes when an answer comes, never what it says (tests/gate/test_batching.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from fiduciary.decision import Verdict

if TYPE_CHECKING:
    from fiduciary.gate._servables import Servable
    from fiduciary.gate.path import Question

SLICE_ROWS = 32
"""Rows after which a turn's questions are split over several calls, so that the ledger has the first rows on
their way to the disk while the next are scored."""

THREAD_NS = 8_000_000
"""Expected length of a kernel call from which on it runs in a thread, nanoseconds."""

log = logging.getLogger("fiduciary.gate")
now = time.perf_counter_ns

Decided = Callable[["Servable", "list[Question]", "list[Verdict] | None", int], None]


class Batcher:
    """Gathers the questions of a turn and calls the kernel. Lives on the event loop's thread."""

    decided: Decided
    """Where verdicts go: servable, questions, verdicts of all their rows in order (None: it failed), duration."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Question] = []
        self._threads: ThreadPoolExecutor | None = None

    def add(self, question: Question) -> None:
        """Score the question's rows at the end of this turn."""
        if not self._waiting:
            self._loop.call_soon(self._turn)
        self._waiting.append(question)

    def close(self) -> None:
        """Wait for calls under way."""
        if self._threads is not None:
            self._threads.shutdown()

    def _turn(self) -> None:
        waiting, self._waiting = self._waiting, []
        groups: dict[Servable, list[Question]] = {}
        for question in waiting:
            assert question.servable is not None
            groups.setdefault(question.servable, []).append(question)
        for servable, questions in groups.items():
            part: list[Question] = []
            rows: list[list[float]] = []
            for question in questions:
                part.append(question)
                rows += question.values
                if len(rows) >= SLICE_ROWS:
                    self._call(servable, part, rows)
                    part, rows = [], []
            if part:
                self._call(servable, part, rows)

    def _call(self, servable: Servable, questions: list[Question], rows: list[list[float]]) -> None:
        matrix = np.array(rows, dtype=np.float64)
        if len(rows) * servable.row_ns < THREAD_NS:
            verdicts, ns = self._evaluate(servable, matrix)
            self.decided(servable, questions, verdicts, ns)
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, "fiduciary-kernel")

        def back(future: Future[tuple[list[Verdict] | None, int]]) -> None:
            verdicts, ns = future.result()
            self._loop.call_soon_threadsafe(self.decided, servable, questions, verdicts, ns)

        self._threads.submit(self._evaluate, servable, matrix).add_done_callback(back)

    @staticmethod
    def _evaluate(
        servable: Servable, matrix: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    ) -> tuple[list[Verdict] | None, int]:
        start = now()
        try:
            verdicts: list[Verdict] | None = servable.decider.evaluate(matrix)
        except Exception:
            log.exception("the scorer of %s failed", servable.name)
            verdicts = None
        ns = now() - start
        servable.row_ns += (ns / len(matrix) - servable.row_ns) * 0.1
        return verdicts, ns
