"""A home made by the commands themselves, and a way to type into it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fiduciary.cli import main
from fiduciary.cli._portfolio import TARGET, contract, generate
from fiduciary.config import Settings
from fiduciary.decision import Decider, DecisionRecord, encode_record
from fiduciary.ledger import Entry, Kind, Ledger
from fiduciary.registry import Registry

USE = "consumer-credit"
USE_CASE_TOML = """
name = "consumer-credit"
purpose = "decide on consumer loans"
approve_below = 0.10
decline_from = 0.30
"""


class Said(msgspec.Struct):
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Desk:
    """Types commands in a home; `files` is a folder for what they read and write."""

    def __init__(self, files: Path, capture: Callable[[], tuple[str, str]]) -> None:
        self.files = files
        self.home = files / "home"
        self._capture = capture

    def type(self, *arguments: str | Path, home: Path | None = None) -> Said:
        given = [str(a) for a in arguments]
        self._capture()
        with pytest.raises(SystemExit) as end:
            main(["--home", str(home or self.home), *given])
        out, err = self._capture()
        assert "Traceback" not in out + err
        return Said(int(end.value.code or 0), out, err)

    def do(self, *arguments: str | Path) -> Said:
        said = self.type(*arguments)
        assert said.code == 0, said.out + said.err
        return said


def write_table(path: Path, rows: int) -> None:
    columns = generate(rows, seed=5)
    lines = [",".join(columns)]
    for row in zip(*(column.tolist() for column in columns.values()), strict=True):
        lines.append(",".join("" if value != value else str(value) for value in row))
    path.write_text("\n".join(lines) + "\n")


def make_home(desk: Desk) -> None:
    """The straight way, by commands: a scorecard live for a use case."""
    write_table(desk.files / "loans.csv", 1_500)
    (desk.files / "contract.json").write_bytes(contract().to_json())
    (desk.files / "use.toml").write_text(USE_CASE_TOML)
    desk.do("init", desk.home, "--tenant", "acme", "--officer", "olga")
    for name, role in (
        ("ada", "developer"),
        ("grace", "validator"),
        ("otto", "operator"),
        ("aud", "auditor"),
    ):
        desk.do("party", "enrol", name, "--role", role, "--as", "olga")
    desk.do("usecase", "define", desk.files / "use.toml", "--as", "olga")
    terms = ("--contract", desk.files / "contract.json")
    desk.do(
        "train",
        "scorecard",
        desk.files / "loans.csv",
        "--target",
        TARGET,
        *terms,
        "--out",
        desk.files / "card",
    )
    data = ("--data", desk.files / "loans.csv", "--use-case", USE)
    desk.do("release", "build", desk.files / "card", *data, "--name", "credit", "--version", "1")
    desk.do("release", "sign", "credit@1", "--as", "ada")
    desk.do("release", "approve", "credit@1", "--as", "grace", "--note", "challenged")
    desk.do("release", "promote", "credit@1", "--as", "otto")


def record_decisions(home: Path, count: int = 12) -> None:
    """Decide and record rows as the gate does, about customers c-0, c-1, ..."""
    settings = Settings.load(home)
    columns = generate(count, seed=9)
    compiled = contract().compile()
    rows = compiled.table({k: v for k, v in columns.items() if k != TARGET})
    with Ledger.open(settings) as ledger:
        registry = Registry(ledger, settings)
        use = registry.states().use(USE)
        decider = Decider(registry.load_live(USE), use.use_case)
        shard = ledger.shard("gate-0")
        for i, (row, verdict) in enumerate(zip(rows.tolist(), decider.evaluate(rows), strict=True)):
            known = {k: v for k, v in compiled.decode_row(row).items() if v is not None}
            record = DecisionRecord(
                version=1,
                outcome=verdict.outcome,
                use_case=USE,
                release=decider.release.digest,
                subject=f"c-{i}",
                features=msgspec.Raw(json.dumps(known).encode()),
                score=verdict.score,
                margin=verdict.margin,
                baseline=verdict.baseline,
                reasons=verdict.reasons,
                explained=verdict.explained,
                rules=use.digest,
            )
            digests = bytes.fromhex(record.release[7:]), bytes.fromhex(record.rules[7:])
            pseudonym = ledger.vault.pseudonym(record.subject)
            entry = Entry(Kind.DECISION, encode_record(record), pseudonym, digests[0], USE, digests[1])
            shard.append(entry).result()
