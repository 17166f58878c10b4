"""A worker as its member sees it: a process of another environment at the end of a pipe."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import numpy as np

from fiduciary.errors import JointError
from fiduciary.joint.worker._digest import ROOT
from fiduciary.joint.worker._frames import FrameError, read, write

START_S = 90.0
"""Longest wait for the engine to load, seconds."""
_BOOT = "import sys; sys.path.insert(0, {root!r}); from worker._main import main; sys.exit(main())"


class WorkerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A frame of the worker, or its end (kind `ended`)."""

    kind: str
    header: dict[str, Any] = {}
    arrays: dict[str, Any] = {}


class WorkerProcess:
    """One worker. `python`: the interpreter of its environment; `folder`: private, for its temporary files."""

    def __init__(self, python: Path, folder: Path, root: Path = ROOT) -> None:
        self.python = python
        self.engine = ""
        self.heard = time.monotonic()
        self.sink: queue.Queue[Any] | None = None
        """Where its events go while a job runs."""
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "TMPDIR": str(folder),
            "HOME": str(folder),
            "JAX_PLATFORMS": "cpu",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._errors = (folder / "worker.log").open("wb")
        self._process = subprocess.Popen(
            [str(python), "-I", "-c", _BOOT.format(root=str(root))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            cwd=folder,
        )
        self._ready = threading.Event()
        self._broken = ""
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Does it run?"""
        return self._process.poll() is None

    def wait_ready(self, timeout: float = START_S) -> None:
        """Wait until its engine is loaded. Raises `JointError` with what went wrong."""
        if not self._ready.wait(timeout):
            self.kill()
            raise JointError(f"the worker did not load its engine within {timeout:g} s")
        if self._broken:
            raise JointError(f"the worker cannot work: {self._broken}")

    def send(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Hand it a job. Raises `JointError` when it is gone."""
        try:
            write(cast(BinaryIO, self._process.stdin), header, arrays)
        except FrameError as error:
            raise JointError(f"the columns cannot be handed to the worker: {error}") from None
        except OSError:
            raise JointError("the worker ended before it took its job") from None

    def kill(self) -> None:
        """End it now, whatever it does."""
        with contextlib.suppress(OSError):
            self._process.send_signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        for stream in (self._process.stdin, self._errors):
            with contextlib.suppress(OSError, ValueError):
                if stream is not None:
                    stream.close()
        self._thread.join(5)

    def _listen(self) -> None:
        source = cast(BinaryIO, self._process.stdout)
        reason = "the worker process ended"
        try:
            while True:
                frame = read(source)
                if frame is None:
                    break
                header, arrays = frame
                self.heard = time.monotonic()
                if header["type"] == "ready":
                    self.engine = str(header.get("engine"))[:200]
                    self._ready.set()
                elif header["type"] == "broken":
                    self._broken = str(header.get("reason"))[:400]
                    self._ready.set()
                else:
                    self._tell(WorkerEvent(kind=header["type"], header=header, arrays=arrays))
        except FrameError as error:
            reason = f"the worker sent garbage: {error}"
        except (OSError, ValueError, MemoryError):
            pass
        finally:
            with contextlib.suppress(OSError):
                source.close()
        if not self._ready.is_set():
            self._broken = "it ended while loading its engine; `fiduciary worker check` says more"
            self._ready.set()
        self._tell(WorkerEvent(kind="ended", header={"reason": reason}))

    def _tell(self, event: WorkerEvent) -> None:
        sink = self.sink
        if sink is not None:
            sink.put(event)
