"""The seam between estimators and engines: run an allowed program over every party's own columns.

An estimator knows `Engine` only. `LocalFederation` runs one member and one worker process per party on this
machine; a federation of organisations runs the same members elsewhere. An engine with other guarantees (against
malicious parties, say) joins by having `run`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np

from fiduciary.joint._transcript import Transcript

Array = np.ndarray[Any, Any]
Columns = Mapping[str, Array]
"""A party's own arrays by name: 1 to 4 dimensions, numbers, booleans or fixed-width texts."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is. `left_s`: seconds to go at the pace so far; None while it cannot be told."""

    phase: str
    done: int
    total: int
    seconds: float
    sent_bytes: int
    rounds: int
    left_s: float | None = None


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished job revealed, and its signed transcript."""

    by_party: dict[str, dict[str, Any]]
    """Party -> output -> array; only parties of this machine that may learn something appear."""
    transcript: Transcript
    salts: dict[str, str] = {}
    """Party -> the salt that opens its outputs' commitments, hexadecimal; keep it beside the output."""
    measures: dict[str, dict[str, Any]] = {}
    """Party -> figures of its worker that are no part of the transcript: cpu_seconds, peak_rss_bytes, counters."""

    @property
    def outputs(self) -> dict[str, Any]:
        """All outputs by name; where several parties learnt the same one, the first of them by name."""
        merged: dict[str, Any] = {}
        for name in sorted(self.by_party, reverse=True):
            merged.update(self.by_party[name])
        return merged


@runtime_checkable
class Engine(Protocol):
    """Runs programs over columns that stay with their owners."""

    @property
    def parties(self) -> tuple[str, ...]:
        """The parties by rank."""
        ...

    @property
    def protocol(self) -> str:
        """The protocol, such as `aby3`."""
        ...

    def run(
        self,
        program: str,
        params: Mapping[str, Any],
        inputs: Mapping[str, Columns],
        reveal_to: Sequence[str],
        *,
        outputs: Mapping[str, Sequence[str]] | None = None,
        privacy: Mapping[str, float] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> RunResult:
        """Run a program and return what it revealed.

        `program`: an id such as `fiduciary.lr.newton@1`. `params`: JSON values, seen by every party. `inputs`:
        party -> its own arrays. `reveal_to`: parties that may learn the outputs; `outputs` narrows that for
        single outputs. `privacy`: {"epsilon": e, "delta": d} that the program spends. Raises `JointError`
        when a party refuses, fails, stalls or disappears; nothing is revealed then.
        """
        ...
