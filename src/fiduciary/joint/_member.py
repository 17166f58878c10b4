"""A party's own side of a job: check the contract, load its columns, link, run, sign; or end with a true reason.

    invited -> accepted -> checked -> loaded -> linked -> running -> facts -> signed -> done
                                    \\________________ failed (reason, told to every side) __/

Nothing is handed out before every party has signed the same transcript and said so. A member that fails kills
its worker, tells the others why, and forgets what it received. Proof: tests/joint/test_member.py and, with real
workers, tests/joint/spu.
"""

from __future__ import annotations

import queue
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fiduciary.errors import FiduciaryError, IntegrityError, JointError, UsageError
from fiduciary.identity import PartyKey
from fiduciary.joint import _transcript
from fiduciary.joint._allow import Allow, Memory, check_contract, check_invitation
from fiduciary.joint._certificates import fingerprint, make_certificate
from fiduciary.joint._contract import (
    Acceptance,
    Agreed,
    Contract,
    Invitation,
    Signed,
    open_contract,
    open_signed,
    payload_of,
    sign_payload,
)
from fiduciary.joint._engine import Columns, Progress
from fiduciary.joint._programs import program as find_program
from fiduciary.joint._relay import Event, Peer, Relay
from fiduciary.joint._transcript import PartyFacts, Transcript
from fiduciary.joint._worker_process import WorkerEvent, WorkerProcess
from fiduciary.joint.worker._digest import ROOT

FINISH_S = 30.0
"""Longest wait for the others' facts, signatures and last word, seconds."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a party holds after a finished job."""

    outputs: dict[str, Any]
    transcript: Transcript
    salt: str
    measures: dict[str, Any]


class LinkKey(msgspec.Struct, frozen=True, kw_only=True):
    """The certificate of a party's links for one job, with its private key; never leaves the party."""

    certificate: str
    private_key: bytes

    def __repr__(self) -> str:
        return f"LinkKey({fingerprint(self.certificate)[:16]})"


class Member:
    """A party that takes part in jobs. `python`: the interpreter of its worker environment.

    `clock`: seconds since 1970. `tap`: sees the engine's bytes before TLS, for tests of secrecy only.
    """

    def __init__(
        self,
        *,
        name: str,
        key: PartyKey,
        allow: Allow,
        memory: Memory,
        python: Path,
        clock: Callable[[], float] = time.time,
        tap: Callable[[int, bytes], None] | None = None,
        root: Path = ROOT,
    ) -> None:
        self.name, self.key, self.allow, self.memory = name, key, allow, memory
        self._python, self._clock, self._tap, self._root = python, clock, tap, root
        self._worker: WorkerProcess | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="fj-"))

    # --- before the job ---

    def accept(self, invitation: Signed, columns: Columns, address: str) -> tuple[Signed, LinkKey]:
        """Sign a yes: the shapes of `columns`, a new certificate for the links, and where the relay will listen.

        Raises `PermissionDeniedError` naming what the allow-list refuses.
        """
        proposal = open_signed(invitation, Invitation)
        now = self._clock()
        check_invitation(
            proposal, self.allow, party=self.name, key=self.key.public.hex(), now=now, root=self._root
        )
        certificate, private = make_certificate(self.name, proposal.job, proposal.expires, now)
        acceptance = Acceptance(
            invitation=proposal.digest,
            party=self.name,
            key=self.key.public.hex(),
            certificate=certificate,
            address=address,
            arrays=shapes_of(columns),
        )
        signed = sign_payload(acceptance, self.key)
        open_signed(signed, Acceptance)
        return signed, LinkKey(certificate=certificate, private_key=private)

    def prepare(self) -> None:
        """Begin to load the engine, ahead of the job.

        Call it from a thread that lives as long as the worker is wanted: Linux ends the worker with it.
        """
        self._start_worker()

    # --- the job ---

    def run(
        self,
        contract: Contract,
        load: Callable[[], Columns],
        link: LinkKey,
        *,
        bind: str | None = None,
        listener: socket.socket | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Outcome:
        """Take part in an agreed job. `load` is called only after the whole contract was checked.

        Raises `JointError` (a party failed), or what the check of the contract refuses.
        """
        agreed = open_contract(contract)
        rank = agreed.invitation.rank(self.name)
        mine = agreed.acceptances[rank]
        check_contract(
            agreed,
            self.allow,
            party=self.name,
            key=self.key.public.hex(),
            now=self._clock(),
            root=self._root,
        )
        if mine.certificate != link.certificate:
            raise IntegrityError(
                "the contract carries another certificate of this party than the one it made"
            )
        self.memory.spend(agreed.invitation, self.allow, self._clock())
        columns = dict(load())
        if shapes_of(columns) != mine.arrays:
            raise UsageError("the columns are not the ones that were accepted: names, shapes or types differ")
        folder = self._folder / f"job-{secrets.token_hex(4)}"
        run = None
        try:
            folder.mkdir(mode=0o700)
            (folder / "link.crt").write_text(link.certificate, "ascii")
            (folder / "link.key").touch(mode=0o600)
            (folder / "link.key").write_bytes(link.private_key)
            run = _Run(self, agreed, rank, columns, folder, bind or mine.address, listener, on_progress)
            return run.go()
        except OSError as error:
            raise JointError(f"the job cannot run here: {error.strerror or type(error).__name__}") from None
        finally:
            if run is not None:
                run.relay.close()
            columns.clear()
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """End the worker and remove every file of this member's jobs."""
        self.drop_worker()
        shutil.rmtree(self._folder, ignore_errors=True)

    def drop_worker(self) -> None:
        """End the worker; the next job starts a fresh one."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    @property
    def worker_pid(self) -> int | None:
        """Process number of the worker, if one runs."""
        return self._worker.pid if self._worker is not None and self._worker.alive else None

    def _start_worker(self) -> WorkerProcess:
        if self._worker is None or not self._worker.alive:
            self.drop_worker()
            self._worker = WorkerProcess(self._python, self._folder, self._root)
        return self._worker

    def _ready_worker(self) -> WorkerProcess:
        worker = self._start_worker()
        worker.wait_ready()
        return worker


class _Run:
    """One job of one member."""

    def __init__(
        self,
        member: Member,
        agreed: Agreed,
        rank: int,
        columns: dict[str, np.ndarray[Any, Any]],
        folder: Path,
        bind: str,
        listener: socket.socket | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.member, self.agreed, self.rank, self.columns, self.folder = member, agreed, rank, columns, folder
        self.invitation = agreed.invitation
        self.names = agreed.invitation.names
        self.on_progress = on_progress
        self.relay = Relay(
            rank=rank,
            peers=[
                None if r == rank else Peer(name=a.party, address=a.address, certificate=a.certificate)
                for r, a in enumerate(agreed.acceptances)
            ],
            contract=agreed.digest,
            certificate=folder / "link.crt",
            private_key=folder / "link.key",
            folder=folder,
            bind=bind,
            listener=listener,
            tap=member._tap,
        )
        self.events: queue.Queue[Any] = self.relay.events
        self.others = set(range(len(self.names))) - {rank}
        self.ready: set[int] = set()
        self.done: set[int] = set()
        self.facts: dict[int, PartyFacts] = {}
        self.signatures: dict[int, str] = {}
        self.result: WorkerEvent | None = None
        self.salt = secrets.token_bytes(32)
        self.started = time.monotonic()
        self.phase = "linking"
        self.worker: WorkerProcess | None = None

    def go(self) -> Outcome:
        try:
            self.relay.start()
            self.worker = self.member._ready_worker()
            self.worker.sink = self.events
            self.worker.heard = time.monotonic()
            limits = self.invitation.limits
            self._until(lambda: self.others <= self.relay.linked, limits.link_s, self._not_linked)
            self.relay.broadcast({"type": "ready"})
            self._until(lambda: self.others <= self.ready, limits.link_s, self._not_linked)
            self.phase = "running"
            self.worker.send(self._job(), self.columns)
            self.columns.clear()
            self._until(
                lambda: self.result is not None, limits.run_s, lambda: "the time of the contract ran out"
            )
            return self._finish()
        except FiduciaryError as error:
            self._abort(error)
            raise
        except BaseException:
            self._abort(JointError("it was stopped"))
            raise
        finally:
            if self.worker is not None:
                self.worker.sink = None

    def _abort(self, error: FiduciaryError) -> None:
        self.result = None
        if not isinstance(error, _ToldByOther):
            self.relay.broadcast({"type": "abort", "reason": error.detail[:500]})
        self.member.drop_worker()

    # --- waiting ---

    def _until(self, reached: Callable[[], bool], limit: float, late: Callable[[], str]) -> None:
        deadline = time.monotonic() + limit
        while not reached():
            now = time.monotonic()
            if now > deadline:
                raise JointError(f"{late()} (limit {limit:g} s)")
            self._watch(now)
            try:
                event = self.events.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(event, WorkerEvent):
                self._from_worker(event)
            else:
                self._from_relay(event)

    def _watch(self, now: float) -> None:
        stall = self.invitation.limits.stall_s
        for rank in sorted(self.relay.linked):
            if now - self.relay.heard.get(rank, now) > stall:
                raise JointError(f"{self.names[rank]} gave no sign of life for {stall:g} s")
        if self.worker is not None and now - self.worker.heard > stall:
            raise JointError(f"the worker of {self.member.name} gave no sign of life for {stall:g} s")

    def _not_linked(self) -> str:
        late = sorted(self.others - self.relay.linked) or sorted(self.others - self.ready)
        told = "; ".join(
            f"{self.names[r]}: {self.relay.reasons.get(r, 'it did not connect, or is not ready')}"
            for r in late
        )
        strange = [reason for reason in self.relay.refusals if reason not in told]
        return f"not linked with {told}" + (
            f"; refused here: {'; '.join(sorted(set(strange)))}" if strange else ""
        )

    # --- what happens ---

    def _from_relay(self, event: Event) -> None:
        name = self.names[event.rank] if event.rank >= 0 else "a stranger"
        if event.kind == "lost" and event.rank not in self.done:
            raise JointError(f"the link with {name} ended: {event.reason}")
        if event.kind == "violation":
            raise JointError(f"a link of {name} was refused: {event.reason}")
        if event.kind == "message":
            self._from_peer(event.rank, name, event.message)

    def _from_peer(self, rank: int, name: str, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "abort":
            raise _ToldByOther(f"{name} ended the job: {str(message.get('reason'))[:500]}")
        if kind == "ready":
            self.ready.add(rank)
        elif kind == "facts" and rank not in self.facts:
            self.facts[rank] = self._facts_of(rank, name, message)
        elif kind == "signature" and rank not in self.signatures:
            self.signatures[rank] = str(message.get("signature"))[:256]
        elif kind == "done":
            self.done.add(rank)
        else:
            raise JointError(f"{name} said {kind[:40]!r}, which has no meaning now")

    def _facts_of(self, rank: int, name: str, message: dict[str, Any]) -> PartyFacts:
        try:
            facts = msgspec.convert(message.get("facts"), PartyFacts)
        except msgspec.ValidationError:
            raise JointError(f"{name} sent facts that cannot be read") from None
        accepted = self.agreed.acceptances[rank]
        known = (facts.name, facts.rank, facts.key, facts.certificate, facts.rows)
        if known != (name, rank, accepted.key, fingerprint(accepted.certificate), accepted.rows):
            raise JointError(f"{name} sent facts about another party")
        for output in facts.outputs:
            if name not in self._receivers(output):
                raise JointError(f"{name} received output {output[:40]!r}, which it may not learn")
        return facts

    def _receivers(self, output: str) -> list[str]:
        return self.invitation.outputs.get(output, self.invitation.outputs.get("*", []))

    def _from_worker(self, event: WorkerEvent) -> None:
        if event.kind == "progress":
            self._progress(event.header)
        elif event.kind == "result":
            for output in event.arrays:
                if self.member.name not in self._receivers(output):
                    raise JointError(f"the worker handed out {output[:40]!r}, which this party may not learn")
            self.result = event
        elif event.kind == "failed":
            raise JointError(f"at {self.member.name}: {str(event.header.get('reason'))[:400]}")
        elif event.kind == "ended":
            raise JointError(f"at {self.member.name}: {event.header['reason']}")

    def _progress(self, header: Mapping[str, Any]) -> None:
        if self.on_progress is None:
            return
        done, total = int(header.get("done", 0)), int(header.get("total", 0))
        seconds = time.monotonic() - self.started
        self.on_progress(
            Progress(
                phase=str(header.get("phase"))[:80],
                done=done,
                total=total,
                seconds=seconds,
                sent_bytes=sum(t.sent_bytes for t in self.relay.traffic.values()),
                rounds=int(header.get("rounds", 0)),
                left_s=seconds * (total - done) / done if 0 < done <= total else None,
            )
        )

    # --- the job and its end ---

    def _job(self) -> dict[str, Any]:
        invitation, limits = self.invitation, self.invitation.limits
        job: dict[str, Any] = {
            "type": "job",
            "contract": self.agreed.digest.removeprefix("sha256:"),
            "rank": self.rank,
            "parties": self.names,
            "sockets": [self.relay.socket_path(r) for r in range(len(self.names))],
            "protocol": invitation.protocol,
            "field": invitation.field,
            "fraction_bits": invitation.fraction_bits,
            "program": {"module": invitation.program.module, "digest": invitation.program.digest},
            "parameters": invitation.parameters,
            "columns": {a.party: a.arrays for a in self.agreed.acceptances},
            "receivers": invitation.receivers,
            "outputs": invitation.outputs,
            "recv_timeout_s": limits.quiet_s,
            "connect_tries": max(10, int(limits.link_s * 10)),
            "folder": str(self.folder),
        }
        if self.member.allow.testing:
            job["testing"] = "insecure protocols allowed"
        return job

    def _finish(self) -> Outcome:
        assert self.result is not None and self.worker is not None
        self.phase = "finishing"
        result, accepted = self.result, self.agreed.acceptances[self.rank]
        mine = PartyFacts(
            name=self.member.name,
            rank=self.rank,
            key=accepted.key,
            certificate=fingerprint(accepted.certificate),
            rows=accepted.rows,
            sent_bytes={self.names[r]: t.sent_bytes for r, t in sorted(self.relay.traffic.items())},
            sent_messages=sum(t.sent_messages for t in self.relay.traffic.values()),
            rounds=int(result.header.get("counters", {}).get("rounds", 0)),
            seconds=round(time.monotonic() - self.started, 3),
            engine=self.worker.engine,
            outputs={n: _transcript.commitment(a, self.salt) for n, a in sorted(result.arrays.items())},
        )
        self.relay.broadcast({"type": "facts", "facts": msgspec.to_builtins(mine)})
        self._until(
            lambda: self.others <= self.facts.keys(), FINISH_S, lambda: "not every party sent its facts"
        )
        self.facts[self.rank] = mine
        body = _transcript.compose(
            contract=payload_of(self.invitation),
            digest=self.agreed.digest,
            facts=list(self.facts.values()),
            leaks=leaks_of(self.invitation, self.member._root),
        )
        signature = _transcript.sign_body(body, self.member.key)
        self.relay.broadcast({"type": "signature", "signature": signature})
        self._until(lambda: self.others <= self.signatures.keys(), FINISH_S, lambda: "not every party signed")
        self.signatures[self.rank] = signature
        transcript = Transcript(
            body=body, signatures={n: self.signatures[r] for r, n in enumerate(self.names)}
        )
        try:
            transcript.verify()
        except IntegrityError as error:
            raise JointError(f"the transcript does not hold: {error.detail}") from None
        self.relay.broadcast({"type": "done"})
        self._until(lambda: self.others <= self.done, FINISH_S, lambda: "not every party confirmed the end")
        measures = {k: result.header.get(k) for k in ("seconds", "cpu_seconds", "peak_rss_bytes", "counters")}
        return Outcome(
            outputs=dict(result.arrays), transcript=transcript, salt=self.salt.hex(), measures=measures
        )


class _ToldByOther(JointError):
    """The reason came from another party; it is not sent back."""

    kind = JointError.kind


def shapes_of(columns: Columns) -> dict[str, tuple[list[int], str]]:
    """Array -> shape and dtype, as an acceptance states them."""
    return {
        name: (list(np.shape(array)), np.asarray(array).dtype.str) for name, array in sorted(columns.items())
    }


def leaks_of(invitation: Invitation, root: Path = ROOT) -> list[str]:
    """What the parties learn besides the outputs: by the protocol, then by the program."""
    card = find_program(invitation.program.id, root)
    return [
        "every party: who takes part, the contract with its parameters, names, shapes and types of all arrays, "
        "the number of rows, traffic sizes and timing",
        *card.leaks,
    ]
