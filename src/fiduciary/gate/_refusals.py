"""Refusals of callers who are not known: counted at once, recorded in sums.

Whoever is not authenticated could otherwise fill the disk with records of having been refused. So these (and
refusals for overload, or because the ledger cannot write) are added up by problem type, and one record each minute
holds the sums; the last one is written when the gate drains. What a crash can lose is at most a minute of such
counts, and never an authenticated caller's refusal, which has a record of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from fiduciary.decision import REFUSED


class RefusalSum(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of the record of a sum."""

    version: int = 1
    outcome: str = REFUSED
    problem: str = "sum"
    counts: dict[str, int]
    """Refused requests by problem type."""
    since: int
    until: int
    """The time they were refused in, Unix nanoseconds."""


class Refusals:
    """Counts of one worker since its last record of them."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._since = time.time_ns()

    def count(self, kind: str) -> None:
        """One more refusal of this problem type."""
        self._counts[kind] = self._counts.get(kind, 0) + 1

    def flush(self, put: Callable[[bytes], None]) -> None:
        """Queue the record of the sums, if there is anything to say. If that raises, the counts are kept."""
        if not self._counts:
            return
        until = time.time_ns()
        put(msgspec.json.encode(RefusalSum(counts=self._counts, since=self._since, until=until)))
        self._counts = {}
        self._since = until
