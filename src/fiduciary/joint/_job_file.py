"""A job as a person writes it: a TOML file that becomes the invitation.

job = "credit-2026"
program = "fiduciary.lr.newton@1"
protocol = "aby3"
hours = 24                          # how long the invitation stands
[outputs]
"*" = ["bank"]                      # who may learn what
[parameters]                        # the program's own, seen by every party
[[parties]]                         # by rank
name = "bank"
key = "<public key>"
columns = [{name = "income"}, {name = "age", bins = 8}]
[rows]
least = 1000
[limits]
run_s = 1800
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from fiduciary.errors import UsageError
from fiduciary.identity import PartyKey
from fiduciary.joint._contract import (
    Invitation,
    InvitedParty,
    Limits,
    PartyRef,
    ProgramRef,
    RowPolicy,
    Signed,
    make_nonce,
    open_signed,
    sign_payload,
)
from fiduciary.joint._programs import program as find_program
from fiduciary.joint._protocols import check_protocol
from fiduciary.joint.worker._digest import ROOT


class JobFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file's content."""

    job: str
    program: str
    protocol: str
    parties: list[InvitedParty]
    outputs: dict[str, list[str]]
    parameters: dict[str, Any] = {}
    hours: float = 24.0
    field: str = "FM64"
    fraction_bits: int | None = None
    rows: RowPolicy = RowPolicy()
    limits: Limits = Limits()
    privacy: dict[str, float] | None = None


def read_job(path: Path) -> JobFile:
    """Read a job file. Raises `UsageError` naming what is wrong."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), JobFile)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {error}") from None


def invite(job: JobFile, *, coordinator: str, key: PartyKey, now: float, root: Path = ROOT) -> Signed:
    """The signed invitation. Raises `PermissionDeniedError` for a refused protocol, `NotFoundError`, `UsageError`."""
    check_protocol(job.protocol, len(job.parties))
    known = find_program(job.program, root)
    if job.protocol not in known.protocols:
        raise UsageError(f"{job.program} runs under {', '.join(known.protocols)}, not {job.protocol}")
    signed = sign_payload(
        Invitation(
            job=job.job,
            nonce=make_nonce(),
            issued=int(now),
            expires=int(now + job.hours * 3600),
            coordinator=PartyRef(name=coordinator, key=key.public.hex()),
            program=ProgramRef(id=known.id, module=known.module, digest=known.digest),
            engine=known.engine,
            protocol=job.protocol,
            field=job.field,
            fraction_bits=job.fraction_bits,
            parameters=job.parameters,
            parties=job.parties,
            rows=job.rows,
            outputs=job.outputs,
            privacy=job.privacy,
            limits=job.limits,
        ),
        key,
    )
    open_signed(signed, Invitation)
    return signed
