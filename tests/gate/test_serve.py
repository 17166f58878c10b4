"""`serve` as a process: several workers, one port, one shard each; crashes, signals, addresses."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bank import Bank
from door import ROW, USE
from fiduciary.config import Settings
from fiduciary.errors import ConfigError
from fiduciary.gate._serve import check_parts, listen
from fiduciary.gate._worker import read_settings, settings_document
from fiduciary.identity import LocalIssuer, install_default_policies

SERVE = """
import msgspec, sys
from fiduciary.config import Settings
from fiduciary.gate import serve
serve(Settings.load(sys.argv[1]), lambda a: print(a.port, flush=True))
"""


class Served:
    """A supervisor and its workers in processes of their own."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.bank = Bank(folder)
        self.bank.live()
        home = self.bank.settings.home
        install_default_policies(home / "policies")
        issuer = LocalIssuer.create(home)
        self.token = issuer.issue("svc", ["application"], region="eu", kind="service")
        self.operator = issuer.issue("mona", ["operator"], region="eu")
        (home / "fiduciary.toml").write_text(f'tenant = "acme"\n[gate]\nport = 0\nworkers = {workers}\n')
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(home)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def ask(self, subject: str = "s") -> Any:
        body = json.dumps({"use_case": USE, "subject": subject, "features": ROW}).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/decisions", body, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path, 2)
    yield made
    if made.process.poll() is None:
        made.process.terminate()
    made.process.wait(30)
    made.bank.ledger.close()


def test_two_workers_share_a_port_and_keep_shards_of_their_own(served: Served) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: served.ask(f"s{i}"), range(80)))
    logs = {answer["ledger"]["log"] for answer in answers}
    assert logs == {"gate-0", "gate-1"}
    for log in logs:
        indexes = sorted(a["ledger"]["index"] for a in answers if a["ledger"]["log"] == log)
        assert indexes == list(range(len(indexes)))
    # Whichever worker is scraped answers for all.
    time.sleep(1.5)
    request = urllib.request.Request(
        f"http://127.0.0.1:{served.port}/metrics", headers={"Authorization": f"Bearer {served.operator}"}
    )
    with urllib.request.urlopen(request) as page:
        counts = re.findall(r'fiduciary_decisions_total\{.*worker="(gate-\d)"\} (\d+)', page.read().decode())
    assert sum(int(count) for _, count in counts) == 80 and {worker for worker, _ in counts} == logs

    # A worker that is killed loses nothing it acknowledged, and is replaced.
    victim = served.workers()[0]
    os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while victim in served.workers() or len(served.workers()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with ThreadPoolExecutor(8) as pool:
        answers += list(pool.map(lambda i: served.ask(f"t{i}"), range(20)))
    for answer in answers:
        assert served.bank.ledger.get(answer["id"]).header.use_case == USE

    # SIGTERM: everyone drains and ends well.
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", served.port), timeout=1).close()
    assert {name: served.bank.ledger.checkpoint(name).size for name in sorted(logs)} == {
        name: sum(a["ledger"]["log"] == name for a in answers) for name in sorted(logs)
    }


def test_workers_end_when_their_supervisor_is_killed(served: Served) -> None:
    workers = served.workers()
    served.process.kill()
    served.process.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_settings_reach_a_worker_whole() -> None:
    settings = Settings(home=Path("/x/ü"), tenant="t")
    assert read_settings(settings_document(settings)) == settings


def test_an_address_in_use_is_a_clear_error() -> None:
    taken = listen("127.0.0.1", 0, 1)[0]
    with taken, pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1 port \d+"):
        listen("127.0.0.1", taken.getsockname()[1], 1)
    with pytest.raises(ConfigError, match="not an address"):
        listen("no-such-host.invalid", 0, 1)


@pytest.mark.parametrize("name", ["httptools", "uvloop"])
def test_it_does_not_start_without_its_fast_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == name else real(n, *a))
    with pytest.raises(ConfigError, match=name):
        check_parts(Settings())


def test_settings_that_need_an_extra_say_which(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    from fiduciary.errors import MissingExtraError

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n in ("grpc", "opentelemetry.sdk") else real(n, *a)
    )
    for option, extra in ({"grpc_port": 1}, "grpc"), ({"otlp_endpoint": "http://x"}, "otel"):
        gate = msgspec.structs.replace(Settings().gate, **option)
        with pytest.raises(MissingExtraError, match=extra):
            check_parts(msgspec.structs.replace(Settings(), gate=gate))
