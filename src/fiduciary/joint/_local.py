"""A federation on this machine: one member process and one worker process per party, real links between them.

Everything is as between organisations (keys, contract, allow-lists, pinned TLS, signed transcript) except that
one person starts it and sees all columns. It is for development, tests, and for learning what a job will cost.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import msgspec
import numpy as np

from fiduciary.errors import ConflictError, FiduciaryError, JointError, PermissionDeniedError, UsageError
from fiduciary.identity import PartyKey
from fiduciary.joint._contract import (
    Contract,
    Invitation,
    InvitedParty,
    Limits,
    PartyRef,
    ProgramRef,
    RowPolicy,
    Signed,
    make_contract,
    make_nonce,
    sign_payload,
)
from fiduciary.joint._engine import Columns, Progress, RunResult
from fiduciary.joint._programs import program as find_program
from fiduciary.joint._programs import shipped_programs
from fiduciary.joint._protocols import check_protocol
from fiduciary.joint._transcript import Transcript
from fiduciary.joint._workers import worker_python
from fiduciary.joint.worker._digest import ROOT
from fiduciary.joint.worker._frames import FrameError, read, write

COORDINATOR = "coordinator"
_KINDS: dict[str, type[FiduciaryError]] = {
    "permission-denied": PermissionDeniedError,
    "usage": UsageError,
    "conflict": ConflictError,
}


class LocalFederation:
    """`parties`: names by rank. `protocol`: aby3 (three parties) or cheetah (two).

    `limits`: times after which a job ends with a reason. Use it as a context manager: workers live from the first
    job to the end of the block. For tests of the product only: `testing` lets SEMI2K and REF2K run, `tap` is a folder
    for what each relay sends, `through` puts another address before a member's own.
    """

    def __init__(
        self,
        parties: Sequence[str],
        protocol: str = "aby3",
        *,
        field: str = "FM64",
        fraction_bits: int | None = None,
        limits: Limits | None = None,
        python: Path | None = None,
        testing: bool = False,
        tap: Path | None = None,
        root: Path = ROOT,
        through: Callable[[str], str] | None = None,
    ) -> None:
        check_protocol(protocol, len(parties), testing=testing)
        if len(set(parties)) != len(parties):
            raise UsageError("the parties of a federation need different names")
        self._parties, self._protocol = tuple(parties), protocol
        self._field, self._fraction_bits = field, fraction_bits
        self._limits = limits or Limits()
        self._python = python or worker_python("spu")
        self._testing, self._tap, self._root, self._through = testing, tap, root, through
        self._coordinator = PartyKey.generate()
        self._handles: dict[str, _Handle] = {}

    @property
    def parties(self) -> tuple[str, ...]:
        """The parties by rank."""
        return self._parties

    @property
    def protocol(self) -> str:
        """The protocol."""
        return self._protocol

    @property
    def pids(self) -> dict[str, tuple[int, int | None]]:
        """Party -> process numbers of its member and its worker (None: no worker runs)."""
        return {name: (handle.process.pid, handle.worker_pid) for name, handle in self._handles.items()}

    def __enter__(self) -> LocalFederation:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start what does not run: the members, and their workers in the background."""
        for name in self._parties:
            if name not in self._handles or not self._handles[name].alive:
                self._handles[name] = _Handle(name, self._python, self._testing, self._tap, self._root)
        keys = {name: handle.key for name, handle in self._handles.items()}
        programs = {p.id: p.digest for p in shipped_programs(self._root).values()}
        for handle in self._handles.values():
            handle.allow(
                {
                    "coordinators": {COORDINATOR: self._coordinator.public.hex()},
                    "peers": keys,
                    "programs": programs,
                    "receivers": list(self._parties),
                    "most_rows": 100_000_000,
                    "longest_s": self._limits.run_s,
                }
            )

    def close(self) -> None:
        """End every member and worker."""
        for handle in self._handles.values():
            handle.close()
        self._handles.clear()

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
        """See `Engine.run`."""
        strangers = set(inputs) - set(self._parties)
        if strangers:
            raise UsageError(f"{', '.join(sorted(strangers))} is no party of this federation")
        self.start()
        columns = {name: plain_columns(inputs.get(name, {}), name) for name in self._parties}
        invitation = sign_payload(
            self._invite(program, params, reveal_to, outputs, privacy), self._coordinator
        )
        acceptances = []
        for name in self._parties:
            acceptances.append(self._handles[name].accept(invitation, columns[name], self._through))
        contract = make_contract(invitation, acceptances)
        return self._collect(contract, on_progress)

    def _invite(
        self,
        program: str,
        params: Mapping[str, Any],
        reveal_to: Sequence[str],
        outputs: Mapping[str, Sequence[str]] | None,
        privacy: Mapping[str, float] | None,
    ) -> Invitation:
        known = find_program(program, self._root)
        now = int(time.time())
        return Invitation(
            job="local",
            nonce=make_nonce(),
            issued=now,
            expires=now + int(self._limits.run_s) + 3600,
            coordinator=PartyRef(name=COORDINATOR, key=self._coordinator.public.hex()),
            program=ProgramRef(id=known.id, module=known.module, digest=known.digest),
            engine=known.engine,
            protocol=self._protocol,
            field=self._field,
            fraction_bits=self._fraction_bits,
            parameters=dict(params),
            parties=[InvitedParty(name=n, key=self._handles[n].key) for n in self._parties],
            rows=RowPolicy(most=100_000_000),
            outputs={"*": list(reveal_to)} | {k: list(v) for k, v in (outputs or {}).items()},
            privacy=dict(privacy) if privacy else None,
            limits=self._limits,
        )

    def _collect(self, contract: Contract, on_progress: Callable[[Progress], None] | None) -> RunResult:
        document = msgspec.to_builtins(contract)
        for handle in self._handles.values():
            handle.post({"type": "run", "contract": document})
        found: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        failures: dict[str, FiduciaryError] = {}
        for name, handle in self._handles.items():
            try:
                found[name] = handle.outcome(on_progress if name == self._parties[0] else None)
            except FiduciaryError as error:
                failures[name] = error
        if failures:
            # The party that met the failure says it best; the others repeat what it told them.
            first = min(failures, key=lambda n: ("ended the job" in failures[n].detail, n))
            raise failures[first]
        transcripts = [msgspec.convert(header["transcript"], Transcript) for header, _ in found.values()]
        if len({t.digest for t in transcripts}) != 1:
            raise JointError("the parties signed different transcripts")
        return RunResult(
            by_party={name: arrays for name, (_, arrays) in found.items() if arrays},
            transcript=transcripts[0],
            salts={name: header["salt"] for name, (header, arrays) in found.items() if arrays},
            measures={name: header["measures"] for name, (header, _) in found.items()},
        )


class _Handle:
    """A member process from the outside."""

    def __init__(self, name: str, python: Path, testing: bool, tap: Path | None, root: Path) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fiduciary.joint._local_member"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._frames: queue.Queue[tuple[dict[str, Any], dict[str, Any]] | None] = queue.Queue()
        self.worker_pid: int | None = None
        threading.Thread(target=self._listen, daemon=True).start()
        self.post(
            {
                "type": "setup",
                "name": name,
                "python": str(python),
                "testing": testing,
                "tap": str(tap) if tap else None,
                "root": str(root),
            }
        )
        self.key = str(self._next()[0]["key"])

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def allow(self, document: dict[str, Any]) -> None:
        self.post({"type": "allow", "allow": document})

    def accept(self, invitation: Signed, columns: Columns, through: Callable[[str], str] | None) -> Signed:
        self.post({"type": "listen"})
        address = str(self._next()[0]["address"])
        if through is not None:
            address = through(address)
        document = msgspec.to_builtins(invitation)
        self.post({"type": "accept", "invitation": document, "address": address}, columns)
        return msgspec.convert(self._next()[0]["acceptance"], Signed)

    def outcome(
        self, on_progress: Callable[[Progress], None] | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        while True:
            header, arrays = self._next()
            if header["type"] == "progress":
                if on_progress is not None:
                    on_progress(msgspec.convert(header["progress"], Progress))
            else:
                return header, arrays

    def post(self, header: dict[str, Any], arrays: Columns | None = None) -> None:
        try:
            write(cast(BinaryIO, self.process.stdin), header, arrays)
        except FrameError as error:
            raise UsageError(f"the columns of {self.name} cannot be used: {error}") from None
        except OSError:
            raise JointError(f"the member of {self.name} has ended") from None

    def _next(self) -> tuple[dict[str, Any], dict[str, Any]]:
        while True:
            frame = self._frames.get()
            if frame is None:
                self._frames.put(None)
                raise JointError(f"the member of {self.name} has ended")
            header, _ = frame
            if header["type"] == "worker":
                self.worker_pid = header["pid"]
                continue
            if header["type"] == "error":
                raise _KINDS.get(header["kind"], JointError)(f"{header['detail']}")
            return frame

    def _listen(self) -> None:
        try:
            while True:
                frame = read(cast(BinaryIO, self.process.stdout))
                self._frames.put(frame)
                if frame is None:
                    return
        except (FrameError, OSError, ValueError):
            self._frames.put(None)

    def close(self) -> None:
        with _quiet():
            cast(BinaryIO, self.process.stdin).close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        with _quiet():
            cast(BinaryIO, self.process.stdout).close()


@contextmanager
def _quiet() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError):
        return


def plain_columns(columns: Columns, party: str) -> dict[str, np.ndarray[Any, Any]]:
    """Columns as arrays that can be sent. Raises `UsageError` for objects and for arrays of other kinds."""
    found = {}
    for name, value in columns.items():
        array = np.asarray(value)
        if array.dtype.kind not in "fiubSU" or array.ndim > 4:
            raise UsageError(
                f"array {name!r} of {party} holds {array.dtype} in {array.ndim} dimensions; numbers, booleans or "
                "texts in at most 4 are taken"
            )
        found[str(name)] = array
    return found
