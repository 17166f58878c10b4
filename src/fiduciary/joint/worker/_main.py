"""The worker: takes jobs from its member over a pipe, runs an allowed program on the engine, hands back arrays.

It knows no other party's address. Its link to the others goes through sockets in a private folder, behind
which its member's relay holds the pinned TLS connections.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.abc
import importlib.util
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from . import _digest, _frames

BEAT_S = 0.5
PROTOCOLS = {"aby3": 3, "cheetah": 2, "rr22": 2, "ecdh": 2}
"""Protocols that a worker runs, with the number of parties each takes."""


class _Verified(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules of `programs` in bytes that were hashed, never on the disk again."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def _path(self, name: str) -> str | None:
        if name == "programs":
            return ""
        path = name.replace(".", "/") + ".py"
        return path if name.startswith("programs.") and path in self.files else None

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> Any:
        if fullname != "programs" and not fullname.startswith("programs."):
            return None
        if self._path(fullname) is None:
            raise ModuleNotFoundError(f"{fullname} is no part of the program", name=fullname)
        return importlib.util.spec_from_loader(fullname, self, is_package=fullname == "programs")

    def exec_module(self, module: Any) -> None:
        path = self._path(module.__name__)
        if path:
            exec(compile(self.files[path], f"<{path}>", "exec"), module.__dict__)  # noqa: S102


class _Voice:
    """Writes frames to the member; beats while a job runs."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self.phase: dict[str, Any] = {"phase": "", "done": 0, "total": 0}

    def say(self, header: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> None:
        with self._lock:
            _frames.write(self._out, header, arrays)

    def progress(self, phase: str, done: int = 0, total: int = 0) -> None:
        self.phase = {"phase": str(phase)[:80], "done": int(done), "total": int(total)}
        self.say({"type": "progress", **self.phase})

    def beat(self) -> None:
        while True:
            time.sleep(BEAT_S)
            with contextlib.suppress(OSError):
                self.say({"type": "beat", **self.phase})


def _die_with_parent() -> None:
    """Ask Linux to end this process when the member ends, however it ends (prctl(2), PR_SET_PDEATHSIG)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def _link(job: Mapping[str, Any]) -> Any:
    from spu import libspu

    description = libspu.link.Desc()
    description.id = job["contract"][:24]
    description.recv_timeout_ms = int(job["recv_timeout_s"] * 1000)
    description.http_timeout_ms = int(job["recv_timeout_s"] * 1000)
    description.connect_retry_times = int(job["connect_tries"])
    description.connect_retry_interval_ms = 100
    description.http_max_payload_size = 32 << 20
    description.brpc_channel_protocol = "baidu_std"
    description.brpc_channel_connection_type = "single"
    for rank, name in enumerate(job["parties"]):
        description.add_party(name, "unix:" + job["sockets"][rank])
    return libspu.link.create_brpc(description, job["rank"])


_loaded: dict[str, str] = {}


def _program(module: str, expected: str) -> Any:
    files = _digest.program_files(module)
    found = _digest.program_digest(files)
    if found != expected:
        raise ValueError(f"the program's source is {found}, the contract allows {expected}")
    if _loaded.get(module) != found:
        for name in [n for n in sys.modules if n == "programs" or n.startswith("programs.")]:
            del sys.modules[name]
        sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, _Verified)]
        sys.meta_path.insert(0, _Verified(files))
        importlib.invalidate_caches()
        _loaded.clear()
        _loaded[module] = found
    return importlib.import_module(f"programs.{module}")


def _job(voice: _Voice, job: dict[str, Any], inputs: dict[str, Any]) -> None:
    if job.get("testing") != "insecure protocols allowed" and PROTOCOLS.get(job["protocol"]) != len(
        job["parties"]
    ):
        raise ValueError(f"this worker does not run {job['protocol']} with {len(job['parties'])} parties")
    module = _program(job["program"]["module"], job["program"]["digest"])
    spu = importlib.import_module("programs._spu")
    work = tempfile.mkdtemp(prefix="job-", dir=job["folder"])
    link = None
    try:
        voice.progress("linking")
        link = _link(job)
        context = spu.Context(
            link=link,
            rank=job["rank"],
            parties=list(job["parties"]),
            protocol=job["protocol"],
            field=job["field"],
            fraction_bits=job.get("fraction_bits"),
            columns={
                party: {name: (tuple(shape), dtype) for name, (shape, dtype) in arrays.items()}
                for party, arrays in job["columns"].items()
            },
            inputs=inputs,
            receivers=list(job["receivers"]),
            progress=voice.progress,
            workdir=work,
        )
        voice.progress("running")
        started, cpu = time.perf_counter(), time.process_time()
        outputs = module.run(context, job["parameters"])
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        counters = dict(context.counters())
        voice.progress("finishing")
        me = job["parties"][job["rank"]]
        arrays = {str(name): np.asarray(value) for name, value in (outputs or {}).items()}
        allowed = job["outputs"]
        for name in arrays:
            if me not in allowed.get(name, allowed.get("*", [])):
                raise PermissionError(f"the program handed output {name!r} to {me}, who may not learn it")
        voice.say(
            {
                "type": "result",
                "seconds": seconds,
                "cpu_seconds": cpu,
                "counters": counters,
                "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            },
            arrays,
        )
    finally:
        inputs.clear()
        if link is not None:
            link.stop_link()
        shutil.rmtree(work, ignore_errors=True)


def _reason(error: BaseException) -> str:
    """One line that says what went wrong; engines' long texts (they may quote state) are cut to their head."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if type(error).__name__ in {"ProgramFailure", "ValueError", "PermissionError", "FrameError"}:
        return text[:400]
    return f"the engine failed: {type(error).__name__}: {text[:160]}"


def main() -> int:
    """Serve jobs until the pipe closes."""
    _die_with_parent()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to the error stream, never between frames
    source = os.fdopen(os.dup(0), "rb", buffering=1 << 20)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    voice = _Voice(out)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    try:
        import jax
        import spu

        version = f"spu {spu.__version__}, jax {jax.__version__}, numpy {np.__version__}"
    except Exception as error:
        voice.say({"type": "broken", "reason": f"the engine cannot be loaded: {str(error)[:300]}"})
        return 1
    voice.say({"type": "ready", "engine": version, "python": sys.version.split()[0], "pid": os.getpid()})
    threading.Thread(target=voice.beat, daemon=True).start()
    while True:
        frame = _frames.read(source)
        if frame is None:
            return 0
        header, arrays = frame
        if header["type"] == "quit":
            return 0
        try:
            if header["type"] != "job":
                raise ValueError(f"a worker takes jobs, not {header['type']!r}")
            _job(voice, header, arrays)
        except Exception as error:  # every failure is told to the member in one line; the worker then ends
            voice.say({"type": "failed", "reason": _reason(error), "kind": type(error).__name__})
            os._exit(3)
