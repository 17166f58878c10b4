"""Faults at random moments: every side ends within its limit with a true reason, and a rerun works.

The kills, stalls and broken links run on the stub engine, whose jobs are short (the members, relays and workers are
the product's); a few kills run on the real one. FIDUCIARY_JOINT_KILLS says how many moments of each party.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiduciary.errors import FiduciaryError
from fiduciary.joint import Limits, LocalFederation, prepare_identifiers
from fiduciary.joint.worker._digest import ROOT

NAMES = ("bank", "telco", "regulator")
KILLS = int(os.environ.get("FIDUCIARY_JOINT_KILLS", "3"))
FAST = Limits(link_s=6, stall_s=3, quiet_s=4, run_s=30)
INPUTS: dict[str, Any] = {"bank": {"x": np.arange(5.0)}, "telco": {"x": np.ones(3)}}


@pytest.fixture(scope="module")
def stub_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stub")
    shutil.copytree(Path(__file__).parent.parent / "joint" / "stub", root, dirs_exist_ok=True)
    shutil.copytree(ROOT / "worker", root / "worker")
    return root


def stub(root: Path, **more: Any) -> LocalFederation:
    return LocalFederation(NAMES, root=root, python=Path(sys.executable), limits=FAST, **more)


def total(federation: LocalFederation, **params: Any) -> Any:
    return federation.run("stub.total@1", params, INPUTS, ["bank"])


def during(job: Callable[[], Any], act: Callable[[], None], after: float, limit: float) -> tuple[Any, str]:
    """Run a job, act after a time, and say how it ended: (result, "") or (None, reason)."""
    ended: list[tuple[Any, str]] = []

    def run() -> None:
        try:
            ended.append((job(), ""))
        except FiduciaryError as error:
            ended.append((None, error.detail))

    thread = threading.Thread(target=run)
    started = time.monotonic()
    thread.start()
    time.sleep(after)
    act()
    thread.join(limit)
    assert not thread.is_alive(), f"no end within {limit} s"
    assert time.monotonic() - started < limit
    return ended[0]


@pytest.mark.parametrize("party", NAMES)
def test_kills_at_random_moments(stub_root: Path, party: str) -> None:
    draw = random.Random(party)
    reasons = set()
    with stub(stub_root) as federation:
        total(federation)
        for _ in range(KILLS):
            pid = draw.choice([p for p in federation.pids[party] if p])
            result, reason = during(
                lambda: total(federation, steps=30, pause=0.01),
                lambda pid=pid: os.kill(pid, signal.SIGKILL),  # type: ignore[misc]
                draw.uniform(0, 0.6),
                15,
            )
            if result is None:
                assert party in reason, reason
                reasons.add(reason)
            else:  # the last instant: complete for all, or not at all
                result.transcript.verify()
            assert total(federation).outputs["total"].tolist() == [13.0]
    assert reasons


@pytest.mark.parametrize("party", NAMES)
@pytest.mark.parametrize("which", [0, 1], ids=["member", "worker"])
def test_stalls(stub_root: Path, party: str, which: int) -> None:
    with stub(stub_root) as federation:
        total(federation)
        pid = federation.pids[party][which]
        assert pid
        wake = threading.Timer(7, lambda: os.kill(pid, signal.SIGCONT))
        wake.start()
        try:
            _, reason = during(
                lambda: total(federation, steps=200, pause=0.02),
                lambda: os.kill(pid, signal.SIGSTOP),
                0.5,
                20,
            )
        finally:
            wake.cancel()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        assert "sign of life" in reason or "ended" in reason or "TimeoutError" in reason, reason
        assert total(federation).outputs["total"].tolist() == [13.0]


class Chaos:
    """A TCP proxy before every member; `mode`: pass, slow (50 ms a chunk), drop (swallow), cut (close)."""

    def __init__(self) -> None:
        self.mode = "pass"
        self.socks: list[socket.socket] = []
        self.servers: list[socket.socket] = []

    def before(self, address: str) -> str:
        host, port = address.split(":")
        server = socket.create_server(("127.0.0.1", 0))
        self.servers.append(server)

        def accept() -> None:
            while True:
                try:
                    near, _ = server.accept()
                    far = socket.create_connection((host, int(port)))
                except OSError:
                    return
                self.socks += [near, far]
                for a, b in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    def _pump(self, a: socket.socket, b: socket.socket) -> None:
        try:
            while data := a.recv(1 << 16):
                if self.mode == "drop":
                    continue
                if self.mode == "slow":
                    time.sleep(0.05)
                b.sendall(data)
        except OSError:
            pass
        finally:
            for sock in (a, b):
                sock.close()

    def cut(self) -> None:
        for sock in self.socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        for server in self.servers:
            server.close()


@pytest.fixture
def chaos() -> Iterator[Chaos]:
    made = Chaos()
    yield made
    made.close()


@pytest.mark.parametrize("act", ["cut", "drop"])
def test_broken_links(stub_root: Path, chaos: Chaos, act: str) -> None:
    with stub(stub_root, through=chaos.before) as federation:
        assert total(federation).outputs["total"].tolist() == [13.0]

        def strike() -> None:
            if act == "cut":
                chaos.cut()
            else:
                chaos.mode = "drop"

        _, reason = during(lambda: total(federation, steps=200, pause=0.02), strike, 0.8, 20)
        assert "link" in reason or "sign of life" in reason or "TimeoutError" in reason, reason
        chaos.mode = "pass"
        assert total(federation).outputs["total"].tolist() == [13.0]


def test_slow_links_only_slow(stub_root: Path, chaos: Chaos) -> None:
    chaos.mode = "slow"
    with stub(stub_root, through=chaos.before) as federation:
        assert total(federation).outputs["total"].tolist() == [13.0]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small tmpfs: needs root")
def test_a_full_disk(stub_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        monkeypatch.setenv("TMPDIR", str(disk))
        with stub(stub_root) as federation:
            assert total(federation).outputs["total"].tolist() == [13.0]
            filler = disk / "filler"
            with filler.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"x" * 4096)
                except OSError:
                    pass
            with pytest.raises(FiduciaryError, match="No space left"):
                total(federation)
            filler.unlink()
            assert total(federation).outputs["total"].tolist() == [13.0]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_kills_on_the_real_engine() -> None:
    draw = random.Random(1)
    ids = {
        n: {"ids": prepare_identifiers([f"{k}{i}" for i in range(20_000)]).ids}
        for k, n in enumerate(NAMES[:2])
    }
    limits = Limits(link_s=15, stall_s=10, quiet_s=20, run_s=60)
    with LocalFederation(NAMES[:2], protocol="ecdh", limits=limits) as federation:
        federation.run("fiduciary.psi@1", {}, ids, ["bank"])
        for _ in range(min(KILLS, 5)):
            party = draw.choice(NAMES[:2])
            pid = draw.choice([p for p in federation.pids[party] if p])
            result, reason = during(
                lambda: federation.run("fiduciary.psi@1", {}, ids, ["bank"]),
                lambda pid=pid: os.kill(pid, signal.SIGKILL),  # type: ignore[misc]
                draw.uniform(0, 0.5),
                60,
            )
            assert result is not None or party in reason, reason
            assert not federation.run("fiduciary.psi@1", {}, ids, ["bank"]).outputs["rows"].size
