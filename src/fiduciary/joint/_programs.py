"""The programs that this installation carries: found by reading their sources, never by importing them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from fiduciary.errors import IntegrityError, NotFoundError
from fiduciary.joint.worker._digest import ROOT, program_card, program_digest, program_files

_ID = re.compile(r"[a-z][a-z0-9]*(?:\.[a-z][a-z0-9_]*)+@[1-9]\d*")


class Program(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a program says of itself, and the digest of exactly this source."""

    id: str
    module: str
    digest: str
    summary: str
    protocols: tuple[str, ...]
    leaks: tuple[str, ...] = ()
    """What the parties learn besides the outputs, in plain words."""
    outputs: dict[str, str] = {}
    engine: str = "spu"


def shipped_programs(root: Path = ROOT) -> dict[str, Program]:
    """Every program by id. Raises `IntegrityError` when one has no readable card."""
    found: dict[str, Program] = {}
    for path in sorted((root / "programs").glob("[a-z]*.py")):
        try:
            files = program_files(path.stem, root)
            card: dict[str, Any] = program_card(files[f"programs/{path.name}"])
            document = {**card, "module": path.stem, "digest": program_digest(files)}
            program = msgspec.convert(document, Program)
        except (OSError, ValueError, SyntaxError) as error:
            raise IntegrityError(f"the program in {path.name} has no readable card: {error}") from None
        if not _ID.fullmatch(program.id) or program.id in found:
            raise IntegrityError(f"{path.name} has no id of its own such as fiduciary.lr.newton@1")
        found[program.id] = program
    return found


def program(name: str, root: Path = ROOT) -> Program:
    """The program of an id. Raises `NotFoundError` naming those there are."""
    programs = shipped_programs(root)
    if name not in programs:
        raise NotFoundError(
            f"there is no program {name!r}; there are: {', '.join(sorted(programs)) or 'none'}"
        )
    return programs[name]
