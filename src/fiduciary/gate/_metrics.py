"""What the gate counts, cheaply, and how Prometheus reads it.

A decision costs about 100 us, so its eight observations may not cost 1 us each: the counters are plain Python
numbers, a histogram's bucket is found by the length of an integer, and `prometheus_client` only comes in when
somebody asks. Every worker leaves its counts in a small file once a second, so that whichever worker answers
the scrape answers for all. No label holds anything of a request but the use case, the outcome and the door.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from prometheus_client.core import Metric

STAGES = ("identity", "policy", "admit", "decide", "record", "reply", "total")
"""`decide` is act, explain and oblige: one kernel call. A request waits for its whole batch, and counts all of it."""

BUCKETS = 25
"""Bucket i holds durations below 1.024 us times 2**i: 1 us to 17 s; one more holds the rest."""


class Histogram(msgspec.Struct):
    """Durations in powers of two."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (BUCKETS + 1))
    total: int = 0
    """Nanoseconds."""

    def observe(self, ns: int, times: int = 1) -> None:
        """Count a duration in nanoseconds, `times` times."""
        bucket = (ns >> 10).bit_length()
        self.counts[bucket if bucket < BUCKETS else BUCKETS] += times
        self.total += ns * times


class Counts(msgspec.Struct):
    """Everything one worker has counted since it started."""

    stages: dict[str, Histogram] = msgspec.field(default_factory=lambda: {s: Histogram() for s in STAGES})
    decisions: dict[str, int] = msgspec.field(default_factory=dict)
    """By `use case/outcome/door`."""
    refusals: dict[str, int] = msgspec.field(default_factory=dict)
    """By problem type: every refusal, recorded singly or in sum."""
    turns: int = 0
    """Kernel calls: decisions / turns is the size of the micro-batch."""
    rows: int = 0
    in_flight: int = 0
    connections: int = 0
    epoch: int = 0
    ready: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Counts)


class Metrics:
    """The counts of this worker, and the way to those of its siblings."""

    def __init__(self, directory: Path, worker: str) -> None:
        self.counts = Counts()
        self.worker = worker
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def refused(self, kind: str) -> None:
        """Count a refusal."""
        refusals = self.counts.refusals
        refusals[kind] = refusals.get(kind, 0) + 1

    def publish(self) -> None:
        """Leave the counts where the siblings find them. A full disk must not stop the gate here."""
        path = self._directory / f"{self.worker}.counts"
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            temporary.write_bytes(_encode(self.counts))
            temporary.replace(path)

    def everyone(self) -> dict[str, Counts]:
        """The counts of every worker, by its name."""
        found = {}
        for path in sorted(self._directory.glob("*.counts")):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                found[path.stem] = _decoder.decode(path.read_bytes())
        found[self.worker] = self.counts
        return found

    def collect(self) -> Iterable[Metric]:
        """Prometheus families (the collector protocol of `prometheus_client`)."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        stage = HistogramMetricFamily(
            "fiduciary_stage_seconds",
            "Time of a request in each stage of the path.",
            labels=["worker", "stage"],
        )
        decisions = CounterMetricFamily(
            "fiduciary_decisions",
            "Decisions recorded and answered.",
            labels=["worker", "use_case", "outcome", "door"],
        )
        refusals = CounterMetricFamily(
            "fiduciary_refusals", "Requests refused, by problem type.", labels=["worker", "problem"]
        )
        turns = CounterMetricFamily(
            "fiduciary_kernel_calls", "Calls of the scoring kernel.", labels=["worker"]
        )
        rows = CounterMetricFamily("fiduciary_rows", "Rows scored by the kernel.", labels=["worker"])
        flight = GaugeMetricFamily("fiduciary_in_flight", "Requests being decided.", labels=["worker"])
        connections = GaugeMetricFamily("fiduciary_connections", "Open HTTP connections.", labels=["worker"])
        epoch = GaugeMetricFamily("fiduciary_epoch", "Control epoch last obeyed.", labels=["worker"])
        ready = GaugeMetricFamily("fiduciary_ready", "1 when the worker takes decisions.", labels=["worker"])
        for worker, counts in self.everyone().items():
            for name, histogram in counts.stages.items():
                running, buckets = 0, []
                for i in range(BUCKETS):
                    running += histogram.counts[i]
                    buckets.append((repr(1024e-9 * 2**i), running))
                buckets.append(("+Inf", running + histogram.counts[BUCKETS]))
                stage.add_metric([worker, name], buckets, histogram.total / 1e9)
            for key, value in counts.decisions.items():
                decisions.add_metric([worker, *key.split("/")], value)
            for kind, value in counts.refusals.items():
                refusals.add_metric([worker, kind], value)
            turns.add_metric([worker], counts.turns)
            rows.add_metric([worker], counts.rows)
            flight.add_metric([worker], counts.in_flight)
            connections.add_metric([worker], counts.connections)
            epoch.add_metric([worker], counts.epoch)
            ready.add_metric([worker], int(counts.ready))
        return [stage, decisions, refusals, turns, rows, flight, connections, epoch, ready]

    def page(self, accept: str) -> tuple[bytes, str]:
        """The scrape and its content type: OpenMetrics for who asks for it, the plain text format otherwise."""
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        encoder, kind = choose_encoder(accept)
        return encoder(registry), kind
