"""Worker processes of the two engines: frames to TenSEAL's, one command at a time to OpenFHE's."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from fiduciary.errors import JointError
from fiduciary.joint.worker import _frames as frames

Array = np.ndarray[Any, Any]
HERE = Path(__file__).resolve().parent
FRAMES = Path(frames.__file__).resolve().parent
ANSWER_S = 120.0
"""Longest wait for one answer of a scoring worker, seconds."""
MAX_ANSWER = 1 << 30
KEPT = ("PATH", "LANG", "OMP_NUM_THREADS", "TMPDIR")


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}


class ScoringWorker:
    """One TenSEAL process, as `client` or as `server`. Answers one request at a time; close it after use."""

    def __init__(self, python: Path, role: str) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        try:
            self._process = subprocess.Popen(
                [str(python), str(HERE / "tenseal_worker.py"), str(FRAMES), role],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=_environment(),
            )
        except OSError as error:
            raise JointError(f"the TenSEAL worker {python} cannot be started: {error.strerror}") from None
        for pipe in (self._process.stdin, self._process.stdout):
            _widen(cast(BinaryIO, pipe))
        self._lock = threading.Lock()

    def ask(
        self, kind: str, header: Mapping[str, Any] | None = None, arrays: Mapping[str, Array] | None = None
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request and its answer. Raises `JointError` with the worker's reason, or when it died or stalls."""
        with self._lock:
            timer = threading.Timer(ANSWER_S, self._process.kill)
            timer.start()
            try:
                frames.write(
                    cast(BinaryIO, self._process.stdin), {"type": kind, **(header or {})}, arrays or {}
                )
                answer = frames.read(cast(BinaryIO, self._process.stdout), max_body=MAX_ANSWER)
            except (OSError, ValueError, frames.FrameError):
                answer = None
            finally:
                timer.cancel()
        if answer is None:
            raise JointError(f"the TenSEAL worker ended without an answer{self._last_words()}")
        said, found = answer
        if "error" in said:
            raise JointError(f"the TenSEAL worker refused: {said['error']}")
        return said, found

    def close(self) -> None:
        """End the process and wait for it."""
        with contextlib.suppress(OSError, ValueError):
            cast(BinaryIO, self._process.stdin).close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        cast(BinaryIO, self._process.stdout).close()
        self._log.close()

    def _last_words(self) -> str:
        with contextlib.suppress(ValueError, OSError):
            self._log.seek(0)
            lines = self._log.read()[-2_000:].decode("utf-8", "replace").strip().splitlines()
            if lines:
                return f": {lines[-1][:200]}"
        return ""


def _widen(pipe: BinaryIO) -> None:
    """A batch is some megabytes: fewer hand-overs through a larger pipe, where the system lets us."""
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)


def run_training_command(
    python: Path, words: list[str], *, timeout_s: float, tell: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Run one command of `openfhe_worker.py`; returns what it printed. Raises `JointError` with its one line."""
    command = [str(python), str(HERE / "openfhe_worker.py"), *words]
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(), text=True
        )
    except OSError as error:
        raise JointError(f"the OpenFHE worker {python} cannot be started: {error.strerror}") from None
    heard: list[str] = []

    def listen() -> None:
        for line in cast(Any, process.stderr):
            heard.append(line.rstrip()[:500])
            del heard[:-20]
            if tell is not None and line.startswith("step "):
                tell(line.strip())

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    timer = threading.Timer(timeout_s, process.kill)
    timer.start()
    try:
        printed = cast(Any, process.stdout).read()
        code = process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
        listener.join(5)
    if code == 0:
        found: dict[str, Any] = json.loads(printed.splitlines()[-1])
        return found
    if code < 0:
        raise JointError(f"the OpenFHE worker was ended ({words[0]}, limit {timeout_s:g} s)")
    reason = next(
        (line for line in reversed(heard) if line.startswith("error: ")), heard[-1] if heard else ""
    )
    raise JointError(f"the OpenFHE worker refused {words[0]}: {reason.removeprefix('error: ')}")
