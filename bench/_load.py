"""Start a server, drive it with wrk, and read what it cost from /proc: Linux, one machine, loopback only."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
NO_WRK = """bench-serve drives the servers with wrk, which is not installed here. Install it and run again:
  Debian, Ubuntu:  apt-get install wrk
  Fedora:          dnf install wrk
  macOS:           brew install wrk   (the benchmark itself reads /proc: run it on Linux)
Nothing was measured."""


class Load(NamedTuple):
    """One measurement of one server at one number of connections."""

    requests: int
    rate: float
    """Requests answered a second."""
    p50_ms: float
    p99_ms: float
    refused: int
    """Answers other than 2xx and 3xx."""
    broken: int
    """Connections that failed, and requests that got no answer in time."""
    cpu_us: float
    """CPU time of the server's whole process tree per request, microseconds."""
    cores: float
    """CPU seconds per second: how many cores the server kept busy."""
    rss_mib: float
    load: float
    """The machine's load average (1 min) just after."""


def require_wrk() -> str:
    """The path of wrk, or an exit that says how to get it."""
    found = shutil.which("wrk")
    if not found:
        raise SystemExit(NO_WRK)
    return found


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Server:
    """A server process with everything it starts, in a session of its own.

    A child that outlives its parent is found by the session, one in another session by its parent.
    """

    def __init__(
        self, name: str, command: list[str], env: Mapping[str, str], port: int, *, cwd: Path, log: Path
    ) -> None:
        self.name, self.port, self.log = name, port, log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    def wait_ready(self, path: str, body: bytes, headers: Mapping[str, str], limit_s: float = 120.0) -> float:
        """Seconds until the first good answer. Raises `RuntimeError` with the end of the log."""
        begun = time.monotonic()
        why = "no answer"
        while time.monotonic() - begun < limit_s:
            if self.process.poll() is not None:
                why = f"it exited with {self.process.returncode}"
                break
            try:
                status, answer = self.post(path, body, headers)
                if status == 200:
                    return time.monotonic() - begun
                why = f"HTTP {status}: {answer[:300].decode(errors='replace')}"
            except (OSError, http.client.HTTPException) as error:
                why = str(error)
            time.sleep(0.25)
        tail = self.log.read_bytes()[-1500:].decode(errors="replace")
        raise RuntimeError(f"{self.name} did not come up ({why}). Its log ends:\n{tail}")

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request("POST", path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()

    def processes(self) -> dict[int, list[str]]:
        """Its processes: those of its session, and what descends from them in sessions of their own.

        Maps each process id to the fields of /proc/PID/stat from the state on (proc_pid_stat(5), field 3).
        """
        every: dict[int, list[str]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (fields := _stat(int(entry.name))):
                every[int(entry.name)] = fields
        found = {pid for pid, fields in every.items() if int(fields[3]) == self.process.pid}
        grown = True
        while grown:
            children = {pid for pid, fields in every.items() if int(fields[1]) in found}
            grown = not children <= found
            found |= children
        return {pid: every[pid] for pid in found}

    def usage(self) -> tuple[float, float]:
        """CPU seconds so far and resident MiB now, summed over its processes."""
        stats = self.processes().values()
        ticks = sum(
            int(field) for fields in stats for field in fields[11:15]
        )  # own and reaped, user and system
        return ticks / TICK, sum(int(fields[21]) for fields in stats) * PAGE / 2**20

    def stop(self) -> None:
        """TERM to the group, then KILL to whatever is left of all it started."""
        started = self.processes()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        for pid, fields in started.items():
            if (
                _stat(pid)[19:20] == fields[19:20]
            ):  # started at the same moment: not another one with its number
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none if the process has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def drive(server: Server, path: str, bodies: Path, headers: Path, connections: int, seconds: float) -> Load:
    """Keep `connections` requests in flight for `seconds` (wrk, one thread, keep-alive, no pipelining)."""
    url = f"http://127.0.0.1:{server.port}{path}"
    command = [
        require_wrk(), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s",
        "--latency", "-s", str(HERE / "_peers" / "wrk.lua"), url, "--", str(bodies), str(headers),
    ]  # fmt: skip
    cpu_before, _ = server.usage()
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.monotonic() - begun
    cpu_after, rss = server.usage()
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or len(lines) != 1:
        raise RuntimeError(f"wrk failed on {server.name}: {(done.stderr or done.stdout)[-500:]}")
    result = json.loads(lines[0].removeprefix("RESULT "))
    if not result["requests"]:
        raise RuntimeError(f"{server.name} answered nothing in {seconds} s")
    cpu = cpu_after - cpu_before
    return Load(
        requests=result["requests"],
        rate=result["requests"] / (result["duration_us"] / 1e6),
        p50_ms=result["p50_us"] / 1e3,
        p99_ms=result["p99_us"] / 1e3,
        refused=result["refused"],
        broken=result["broken"],
        cpu_us=cpu / result["requests"] * 1e6,
        cores=cpu / wall,
        rss_mib=rss,
        load=os.getloadavg()[0],
    )
