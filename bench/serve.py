"""Serving, measured against the peers in one run: `make bench-serve`, or `bench/serve.py --help`.

Every server gets the same LightGBM model (30 features, 200 trees, depth 6) and the same rows, one row a
request. The peers answer with a bare score: no token, no policy, no contract, no record, no reason. Ours
checks the token, the policy and the row's contract, scores, finds the exact reasons, and answers only when
the sealed record is on disk (fdatasync). One server process each, access logs off, one OpenMP thread, HTTP
keep-alive, wrk with one thread. All servers are up at once and measured in turn, round after round, in
rotating order; the median of the rounds counts. Before anything is timed every server must give LightGBM's
own scores to 1e-9; afterwards our ledgers must verify and hold every answer given.

CPU per request is over the server's whole process tree. It is the steadier figure: the load generator and
the server share this machine's cores, and requests a second depend on who else wants them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _load
import _model
import _ours
import _report
import _targets
from rich.console import Console

OUT = _targets.ROOT / "bench" / "out"
TOLERANCE = 1e-9
CHECKED = 64
"""Rows whose scores are compared on every server before it is timed."""


def check_scores(server: _load.Server, target: _targets.Target) -> float:
    """The largest difference from the expected scores over the checked rows; an exit if it is too large."""
    worst = 0.0
    for i in range(CHECKED):
        status, answer = server.post(target.path, target.bodies[i], target.headers)
        if status != 200:
            raise RuntimeError(f"{target.name} answered {status} to row {i}: {answer[:300]!r}")
        worst = max(worst, abs(target.score(answer) - float(target.expected[i])))
    if not worst <= TOLERANCE:
        raise RuntimeError(f"{target.name} scores differently: by {worst:.3g}, allowed is {TOLERANCE}")
    return worst


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {"cpu": cpu or platform.machine(), "cores": os.cpu_count(), "kernel": platform.release()}


def fdatasync_ms(folder: Path) -> float:
    """Median time of one fdatasync of 4 KiB on the disk that holds the ledgers, milliseconds."""
    path, times = folder / "fdatasync.probe", []
    with path.open("wb") as file:
        for _ in range(50):
            file.write(os.urandom(4096))
            file.flush()
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - begun) * 1e3)
    path.unlink()
    return round(statistics.median(times), 3)


class Run:
    """One run: servers up, checked, timed in turn, stopped, audited."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self.options, self.console = options, console
        self.folder = OUT / "serve"
        for stale in self.folder.glob("ours*"):  # homes of an earlier run: their ledgers would not add up
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        work = _model.workload(self.folder)
        self.targets = _targets.targets(self.folder, work, options.wanted)
        if not self.targets:
            raise SystemExit("no server has such a name: --help lists them")
        self.servers: dict[str, _load.Server] = {}
        self.samples: dict[tuple[str, int], list[_load.Load]] = {}
        self.sent = dict.fromkeys((t.name for t in self.targets), 0)
        self.hung_up = dict.fromkeys(self.sent, 0)
        self.report: dict[str, Any] = {
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": machine(),
            "fdatasync_ms": fdatasync_ms(self.folder),
            "model": {"trees": _model.TREES, "depth": _model.DEPTH, "leaves": work.leaves},
            "seconds": options.seconds,
            "rounds": options.rounds,
            "load_before": os.getloadavg()[0],
            "targets": {},
        }

    def start(self, target: _targets.Target) -> None:
        """Bring a server up and prove that it scores as LightGBM does."""
        place = self.folder / target.name
        place.mkdir(exist_ok=True)
        ports = _load.free_ports(3)
        self.servers[target.name] = server = _load.Server(
            target.name,
            target.command(ports),
            _targets.environ(target.name, target.env),
            ports[0],
            cwd=place,
            log=self.folder / f"{target.name}.log",
        )
        _model.write_bodies(self._bodies(target), target.bodies)
        self._headers(target).touch(mode=0o600)
        self._headers(target).write_text("".join(f"{k}: {v}\n" for k, v in target.headers.items()))
        ready = server.wait_ready(target.path, target.bodies[0], target.headers)
        logged = server.log.stat().st_size
        worst = check_scores(server, target)
        logged = server.log.stat().st_size - logged
        self.sent[target.name] += CHECKED + 1
        self.report["targets"][target.name] = {
            "does": target.does,
            "ready_s": round(ready, 1),
            "worst_score_difference": worst,
            "log_bytes_per_request": round(logged / CHECKED, 1),
            "versions": _targets.versions(target),
        }
        self.say(f"{target.name}: up in {ready:.1f} s, {CHECKED} scores as expected, off by {worst:.1g}")

    def time(self) -> None:
        """Warm every server, then measure all of them in turn."""
        for target in self.targets:
            self.drive(target, 64, 1 if self.options.quick else 2)
        for turn in range(self.options.rounds):
            first = turn * max(1, len(self.targets) // self.options.rounds) % len(self.targets)
            for target in self.targets[first:] + self.targets[:first]:
                for connections in self.options.connections:
                    load = self.drive(target, connections, self.options.seconds)
                    self.samples.setdefault((target.name, connections), []).append(load)
            self.say(f"round {turn + 1} of {self.options.rounds} done, load {os.getloadavg()[0]:.1f}")

    def drive(self, target: _targets.Target, connections: int, seconds: float) -> _load.Load:
        server = self.servers[target.name]
        files = (self._bodies(target), self._headers(target))
        load = _load.drive(server, target.path, *files, connections, seconds)
        self.sent[target.name] += load.requests
        self.hung_up[target.name] += connections
        return load

    def stop(self) -> None:
        for server in self.servers.values():
            server.stop()

    def conclude(self) -> dict[str, Any]:
        """The medians, and what our ledgers say about the answers that were given."""
        self.report["load_after"] = os.getloadavg()[0]
        for target in self.targets:
            entry = self.report["targets"][target.name]
            entry["loads"] = {}
            for connections in self.options.connections:
                loads = self.samples[target.name, connections]
                entry["loads"][str(connections)] = {
                    "median": median(loads),
                    "rounds": [load._asdict() for load in loads],
                }
            if target.home is not None:
                entry["ledger"] = target.home.audit(self.sent[target.name], self.hung_up[target.name])
                self.say(f"{target.name}: {entry['ledger']['says']}")
        self.report["faults"] = _report.faults(self.report)
        return self.report

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False)

    def _bodies(self, target: _targets.Target) -> Path:
        return self.folder / f"{target.name}.bodies"

    def _headers(self, target: _targets.Target) -> Path:
        return self.folder / f"{target.name}.headers"


def median(loads: list[_load.Load]) -> dict[str, float]:
    """The median of every figure; requests, refusals and failures are counted over all rounds."""
    middle = {name: statistics.median(getattr(load, name) for load in loads) for name in _load.Load._fields}
    for name in ("requests", "refused", "broken"):
        middle[name] = sum(getattr(load, name) for load in loads)
    return middle


def read_options() -> argparse.Namespace:
    names = [v.name for v in _ours.VARIANTS] + list(_targets.PEER_NAMES)
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="servers: " + ", ".join(names),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=int, default=4, help="length of one measurement (4)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="measurements of each server (3); the median counts"
    )
    parser.add_argument("--connections", default="16,64", help="numbers of connections, with commas (16,64)")
    parser.add_argument(
        "--only", default="", help="names of servers, with commas; name* takes all that begin so"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round of 1 s: proves the harness, no figures"
    )
    parser.add_argument("--bars", action="store_true", help="exit 1 when a promised bar is missed")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds = 1, 1
    if options.seconds < 1 or options.rounds < 1:
        parser.error("--seconds and --rounds must be at least 1")
    try:
        options.connections = sorted({int(c) for c in options.connections.split(",")})
    except ValueError:
        parser.error("--connections takes numbers with commas between them")
    only = [name.strip() for name in options.only.split(",") if name.strip()]
    options.wanted = lambda name: (
        not only or any(name.startswith(o[:-1]) if o.endswith("*") else name == o for o in only)
    )
    return options


def main() -> int:
    options = read_options()
    _load.require_wrk()
    console = Console(width=None if sys.stdout.isatty() else 200)
    with alone(console):
        return measure(options, console)


@contextlib.contextmanager
def alone(console: Console) -> Iterator[None]:
    """Wait until no other run measures: two at once would void both, and they share a folder."""
    OUT.mkdir(parents=True, exist_ok=True)
    with (OUT / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print("another run is under way: this one begins when that one ends")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def measure(options: argparse.Namespace, console: Console) -> int:
    """One run from start to end; the exit code."""
    run = Run(options, console)
    try:
        for target in run.targets:
            run.start(target)
        run.time()
    except RuntimeError as error:
        raise SystemExit(str(error)) from None
    finally:
        run.stop()
    report = run.conclude()
    _report.show(report, console)
    stem = OUT / f"serve-{report['began'].replace(':', '')}"
    stem.with_suffix(".json").write_text(json.dumps(report, indent=1))
    stem.with_suffix(".md").write_text(_report.markdown(report))
    run.say(f"written: {stem}.json and .md")
    for fault in report["faults"]:
        console.print(f"VOID  {fault}", style="bold red", highlight=False)
    missed = options.bars and not all(bar.holds for bar in _report.judge(report))
    return 1 if report["faults"] or missed else 0


if __name__ == "__main__":
    sys.exit(main())
