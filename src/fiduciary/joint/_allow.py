"""What an organisation lets its own member do: a list that only it writes, asked before a column is loaded.

    [joint allow.toml]
    coordinators = {utility = "<public key>"}          # whose invitations are read at all
    peers = {telco = "<public key>", regulator = "..."} # with whom this party computes
    protocols = ["aby3"]
    receivers = ["bank"]                                # who may ever learn an output
    columns = ["income", "utilisation"]                 # which of its own columns may be used; absent: any
    least_rows = 100
    most_rows = 1000000
    longest_s = 3600
    epsilon_per_job = 1.0                               # present: a job must promise noise within it
    epsilon_total = 3.0                                 # over all jobs of this home
    [programs]
    "fiduciary.lr.newton@1" = "sha256:..."

Anything that is not on the list is refused by name. Proof: tests/joint/test_contract.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from fiduciary.errors import ConfigError, ConflictError, NotFoundError, PermissionDeniedError
from fiduciary.joint._contract import Agreed, Invitation
from fiduciary.joint._programs import shipped_programs
from fiduciary.joint._protocols import check_protocol
from fiduciary.joint.worker._digest import ROOT

CLOCK_SKEW_S = 300
"""How far a coordinator's clock may be ahead, seconds."""


class Allow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The allow-list of one party."""

    coordinators: dict[str, str]
    peers: dict[str, str]
    programs: dict[str, str]
    protocols: tuple[str, ...] = ("aby3", "cheetah", "rr22", "ecdh")
    receivers: list[str] = []
    columns: list[str] | None = None
    least_rows: int = 1
    most_rows: int = 1_000_000
    longest_s: float = 3600.0
    epsilon_per_job: float | None = None
    epsilon_total: float | None = None
    testing: bool = False
    """Lets SEMI2K and REF2K through; a file cannot set it."""

    @classmethod
    def load(cls, path: Path) -> Allow:
        """Read `allow.toml`. Raises `NotFoundError` or `ConfigError` with what would be right."""
        try:
            document = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise NotFoundError(
                f"there is no allow-list {path}: nothing may run here until it names coordinators, peers, programs "
                "and receivers (docs/joint.md shows one)"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from None
        if "testing" in document:
            raise ConfigError(f"{path}: testing cannot be set in a file")
        try:
            return msgspec.convert(document, cls)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{path}: {error}") from None


def check_invitation(
    invitation: Invitation, allow: Allow, *, party: str, key: str, now: float, root: Path = ROOT
) -> str:
    """Raise `PermissionDeniedError` unless this party may take part; returns the program's digest as it lies here.

    `key`: the party's own public key; `now`: seconds since 1970.
    """
    if now >= invitation.expires:
        raise PermissionDeniedError(f"the invitation to {invitation.job} has expired")
    if invitation.issued > now + CLOCK_SKEW_S:
        raise PermissionDeniedError(
            f"the invitation to {invitation.job} is dated in the future: compare clocks"
        )
    if allow.coordinators.get(invitation.coordinator.name) != invitation.coordinator.key:
        raise PermissionDeniedError(
            f"{invitation.coordinator.name} is not among the coordinators allowed here, or has another key"
        )
    if invitation.parties[invitation.rank(party)].key != key:
        raise PermissionDeniedError(f"the invitation is to another key than {party} has here")
    for other in invitation.parties:
        if other.name != party and allow.peers.get(other.name) != other.key:
            raise PermissionDeniedError(
                f"{other.name} is not among the peers allowed here, or has another key"
            )
    if invitation.protocol not in allow.protocols and not allow.testing:
        check_protocol(invitation.protocol, len(invitation.parties))
        raise PermissionDeniedError(f"protocol {invitation.protocol} is not allowed here")
    check_protocol(invitation.protocol, len(invitation.parties), testing=allow.testing)
    strangers = [name for name in invitation.receivers if name not in allow.receivers]
    if strangers:
        raise PermissionDeniedError(
            f"{', '.join(strangers)} may not learn outputs, by the allow-list of {party}"
        )
    if invitation.limits.run_s > allow.longest_s:
        raise PermissionDeniedError(
            f"the job may run {invitation.limits.run_s:g} s; allowed are {allow.longest_s:g}"
        )
    _check_columns(invitation, allow, party)
    _check_privacy(invitation, allow)
    return _check_program(invitation, allow, root)


def _check_program(invitation: Invitation, allow: Allow, root: Path) -> str:
    wanted = invitation.program
    if allow.programs.get(wanted.id) != wanted.digest:
        known = "with another digest" if wanted.id in allow.programs else "at all"
        raise PermissionDeniedError(f"program {wanted.id} ({wanted.digest[:19]}) is not allowed here {known}")
    shipped = shipped_programs(root)
    mine = shipped.get(wanted.id)
    if mine is None or mine.digest != wanted.digest or mine.module != wanted.module:
        found = mine.digest[:19] if mine else "none"
        raise PermissionDeniedError(
            f"the source of {wanted.id} on this machine is {found}, the contract runs {wanted.digest[:19]}"
        )
    if invitation.protocol not in mine.protocols and not allow.testing:
        raise PermissionDeniedError(f"{wanted.id} does not run under {invitation.protocol}")
    if invitation.engine != mine.engine:
        raise PermissionDeniedError(f"{wanted.id} runs on {mine.engine}, not {invitation.engine}")
    return mine.digest


def _check_columns(invitation: Invitation, allow: Allow, party: str) -> None:
    mine = invitation.parties[invitation.rank(party)].columns
    if allow.columns is not None:
        refused = [c.name for c in mine if c.name not in allow.columns]
        if refused:
            raise PermissionDeniedError(
                f"column {', '.join(refused)} of {party} is not allowed for joint jobs"
            )


def _check_privacy(invitation: Invitation, allow: Allow) -> None:
    if allow.epsilon_per_job is None:
        return
    if invitation.privacy is None:
        raise PermissionDeniedError(
            "the job promises no noise on what it reveals; the allow-list asks for it"
        )
    if invitation.privacy["epsilon"] > allow.epsilon_per_job:
        raise PermissionDeniedError(
            f"the job would spend epsilon {invitation.privacy['epsilon']:g}; "
            f"{allow.epsilon_per_job:g} is allowed per job"
        )


def check_contract(
    agreed: Agreed, allow: Allow, *, party: str, key: str, now: float, root: Path = ROOT
) -> None:
    """`check_invitation`, and every party's rows within the contract's and this party's own policy."""
    invitation = agreed.invitation
    check_invitation(invitation, allow, party=party, key=key, now=now, root=root)
    counts = {a.party: a.rows for a in agreed.acceptances if a.arrays}
    for name, rows in counts.items():
        if not invitation.rows.least <= rows <= invitation.rows.most:
            raise PermissionDeniedError(
                f"{name} brings {rows} rows; the contract takes {invitation.rows.least} to {invitation.rows.most}"
            )
        if not allow.least_rows <= rows <= allow.most_rows:
            raise PermissionDeniedError(
                f"{name} brings {rows} rows; allowed here are {allow.least_rows} to {allow.most_rows}"
            )
    if invitation.rows.equal and len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {rows}" for name, rows in counts.items())
        raise PermissionDeniedError(f"the parties must bring equally many rows, but bring {told}")


class Memory:
    """What a member must not forget: nonces that ran, and the privacy budget that is spent.

    `path`: a file of this home, written durably under a lock; None keeps it for this process alone.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._state: dict[str, Any] = {"nonces": {}, "epsilon": 0.0}

    def spend(self, invitation: Invitation, allow: Allow, now: float) -> None:
        """Record that this contract runs now. Raises `ConflictError` for a replay, `PermissionDeniedError` over
        budget.

        It is recorded before anything runs, so that a crash spends the budget and cannot be used to run twice.
        """
        with self._open() as (state, save):
            nonces: Mapping[str, int] = state["nonces"]
            if invitation.nonce in nonces:
                raise ConflictError(
                    f"the contract of {invitation.job} was run here before: a contract runs once, invite again"
                )
            epsilon = invitation.privacy["epsilon"] if invitation.privacy else 0.0
            spent = float(state["epsilon"]) + epsilon
            if allow.epsilon_total is not None and spent > allow.epsilon_total:
                raise PermissionDeniedError(
                    f"the job would bring the spent epsilon to {spent:g}; {allow.epsilon_total:g} is allowed in all"
                )
            kept = {n: t for n, t in nonces.items() if t > now - CLOCK_SKEW_S}
            save({"nonces": {**kept, invitation.nonce: invitation.expires}, "epsilon": spent})

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[dict[str, Any], Callable[[dict[str, Any]], None]]]:
        if self._path is None:
            yield self._state, self._state.update
            return
        path = self._path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.with_name(path.name + ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                state = msgspec.json.decode(path.read_bytes()) if path.exists() else self._state
                if set(state) != {"nonces", "epsilon"}:
                    raise ValueError
            except (msgspec.DecodeError, ValueError, TypeError):
                raise ConfigError(
                    f"{path} is damaged; restore it, or no job can be told from a replay"
                ) from None

            def save(new: dict[str, Any]) -> None:
                draft = path.with_name(f".{path.name}.new")
                with draft.open("wb") as file:
                    file.write(msgspec.json.encode(new))
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)

            yield state, save
