"""`fiduciary contest` and `fiduciary decision`: a person objects, a person decides, and what stands afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from fiduciary.cli._home import Home, acting, with_home
from fiduciary.cli._output import Output
from fiduciary.errors import UsageError
from fiduciary.rights import OUTCOMES, Desk, when

MAX_FILE = 1 << 20

because_option = click.option(
    "--because", "codes", multiple=True, help="For a decline: a reason code of the contract. Up to four."
)


def read_text(text: str | None, file: Path | None) -> str:
    """A text given on the line or in a file. Raises `UsageError`."""
    if (text is None) == (file is None):
        raise UsageError("give the text with --text or with --file")
    if file is None:
        return text or ""
    try:
        if file.stat().st_size > MAX_FILE:
            raise UsageError(f"{file.name} is larger than {MAX_FILE} bytes")
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"{file.name} cannot be read as UTF-8 text") from None


@click.group()
def contest() -> None:
    """What people say against decisions about them: open, decide, list."""


@contest.command("open")
@click.argument("record")
@click.option(
    "--subject", required=True, help="The person's id as the gate was given it; it must be the decision's."
)
@click.option("--text", default=None, help="What the person says.")
@click.option("--file", type=click.Path(path_type=Path), default=None, help="A file that holds it (UTF-8).")
@acting
@with_home
def open_(
    output: Output, home: Home, record: str, subject: str, text: str | None, file: Path | None, party: str
) -> None:
    """Open a contest of decision RECORD, such as gate-0.17; its clock starts and its records are kept."""
    home.require(party, "read_record", "Record")
    found = Desk(home.ledger, home.registry).open_contest(record, subject, read_text(text, file), by=party)
    output.result(
        {"contest": found.id, "decision": record, "due": when(found.due_ns), "hold": found.hold},
        f"contest {found.id} is open; a person decides it by {when(found.due_ns)} ({found.rule}, {found.limit})",
    )


@contest.command()
@click.argument("name")
@click.option(
    "--outcome", type=click.Choice(["uphold", "overturn"]), required=True, help="Does the decision stand?"
)
@click.option(
    "--result", type=click.Choice(OUTCOMES), default=None, help="What stands instead, if overturned."
)
@click.option("--reason", required=True, help="Why, in plain words; the person may read it.")
@because_option
@acting
@with_home
def decide(
    output: Output,
    home: Home,
    name: str,
    outcome: Any,
    result: str | None,
    reason: str,
    codes: tuple[str, ...],
    party: str,
) -> None:
    """Decide contest NAME. Not for who filed it, made the release, asked for the decision, or decided before."""
    home.require(party, "read_record", "Record")
    found = Desk(home.ledger, home.registry).decide_contest(
        name, outcome, by=party, key=home.key(party), reason=reason, result=result or "", codes=codes
    )
    output.result(
        {"contest": name, "decision": found.decision, "outcome": found.outcome, "standing": found.result},
        f"contest {name} is {found.outcome}: {found.result} stands for {found.decision}",
    )


@contest.command("list")
@click.option("--all", "everything", is_flag=True, help="Decided ones too.")
@acting
@with_home
def list_contests(output: Output, home: Home, everything: bool, party: str) -> None:
    """Contests, the oldest first."""
    home.require(party, "read_record", "Record")
    now = home.ledger.clock()
    found = [
        c
        for c in Desk(home.ledger, home.registry).register().contests.values()
        if everything or c.decided_ns is None
    ]
    if output.as_json:
        output.json([msgspec.to_builtins(c) for c in found])
        return
    rows = [
        (
            c.id,
            c.decision,
            c.use_case,
            c.by,
            when(c.due_ns),
            c.outcome or ("late" if now > c.due_ns else "open"),
            " ".join(c.text.split())[:60],
        )
        for c in found
    ]
    output.table(["contest", "decision", "use case", "filed by", "due", "", "says"], rows)


@click.group()
def decision() -> None:
    """What stands for a decision, and setting another outcome by a person."""


@decision.command()
@click.argument("record")
@click.option("--outcome", type=click.Choice(OUTCOMES), required=True, help="What stands from now on.")
@click.option("--reason", required=True, help="Why, in plain words.")
@because_option
@acting
@with_home
def override(
    output: Output, home: Home, record: str, outcome: str, reason: str, codes: tuple[str, ...], party: str
) -> None:
    """Set another outcome for decision RECORD without a contest. The record stays as it is."""
    home.require(party, "read_record", "Record")
    event = Desk(home.ledger, home.registry).override(
        record, outcome, by=party, key=home.key(party), reason=reason, codes=codes
    )
    output.result(
        {"decision": record, "standing": outcome, "record": event}, f"{outcome} stands for {record} ({event})"
    )


@decision.command()
@click.argument("record")
@acting
@with_home
def standing(output: Output, home: Home, record: str, party: str) -> None:
    """What was recorded for decision RECORD, what stands now, and who made it so."""
    home.require(party, "read_record", "Record")
    found = Desk(home.ledger, home.registry).standing(record)
    text = f"{record}: recorded {found['recorded']}, stands {found['standing']}"
    output.result(found, text + (f" (set by {found['by']})" if found["by"] else ""))
