"""`fiduciary subject`: what a person may ask: access, portability, erasure, and the clock of each request."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fiduciary.cli._home import Home, acting, moment, nanoseconds, with_home
from fiduciary.cli._output import Output
from fiduciary.rights import (
    REQUESTS,
    Desk,
    access_file,
    check_folder,
    page,
    portable,
    portable_csv,
    when,
    write_folder,
)

who = click.option("--subject", required=True, help="The person's id as the gate was given it.")
out_option = click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder to write into, outside the home."
)

since_option = click.option("--since", default=None, help="Decisions from this time on.")
until_option = click.option("--until", default=None, help="Decisions before this time.")


def period(since: str | None, until: str | None) -> dict[str, int | None]:
    """The period of decisions asked for."""
    return {
        "since_ns": nanoseconds(moment(since)) if since else None,
        "until_ns": nanoseconds(moment(until)) if until else None,
    }


@click.group()
def subject() -> None:
    """Requests of people about their data: request, access, port, erase, due."""


@subject.command()
@click.argument("kind", type=click.Choice(REQUESTS))
@who
@acting
@with_home
def request(output: Output, home: Home, kind: str, subject: str, party: str) -> None:
    """Put a person's request of KIND on record; its clock starts."""
    home.require(party, "read_record", "Record")
    found = Desk(home.ledger, home.registry).open_request(kind, subject, by=party)
    output.result(
        {"request": found.id, "kind": kind, "due": when(found.due_ns)},
        f"request {found.id} ({kind}) is due by {when(found.due_ns)} ({found.rule}, {found.limit})",
    )


@subject.command()
@who
@out_option
@since_option
@until_option
@acting
@with_home
def access(
    output: Output, home: Home, subject: str, out: Path, since: str | None, until: str | None, party: str
) -> None:
    """Write every decision about a person: inputs, reasons, what would have changed it, rules, people."""
    home.require(party, "read_record", "Record")
    names = ["access.json", "access.html"]
    check_folder(home.path, out, names)
    desk = Desk(home.ledger, home.registry)
    document = access_file(desk, subject, **period(since, until))
    texts = (json.dumps(document, indent=2, ensure_ascii=False) + "\n", page(document))
    write_folder(home.path, out, dict(zip(names, texts, strict=True)))
    answered = [] if since or until else desk.answer_requests("access", subject, by=party)
    output.result(
        {
            "decisions": len(document["decisions"]),
            "files": [str(out / n) for n in names],
            "answered": answered,
        },
        f"{len(document['decisions'])} decision(s) are in {out}; {len(answered)} request(s) answered",
    )


@subject.command()
@who
@out_option
@since_option
@until_option
@acting
@with_home
def port(
    output: Output, home: Home, subject: str, out: Path, since: str | None, until: str | None, party: str
) -> None:
    """Write the data that was given about a person, as it was given (JSON, CSV)."""
    home.require(party, "read_record", "Record")
    names = ["data.json", "data.csv"]
    check_folder(home.path, out, names)
    desk = Desk(home.ledger, home.registry)
    document = portable(desk, subject, **period(since, until))
    texts = (json.dumps(document, indent=2, ensure_ascii=False) + "\n", portable_csv(document))
    write_folder(home.path, out, dict(zip(names, texts, strict=True)))
    answered = [] if since or until else desk.answer_requests("portability", subject, by=party)
    output.result(
        {"rows": len(document["rows"]), "files": [str(out / n) for n in names], "answered": answered},
        f"{len(document['rows'])} row(s) are in {out}; {len(answered)} request(s) answered",
    )


@subject.command()
@who
@click.option("--reason", required=True, help="Why, such as a reference to the request; no names.")
@acting
@with_home
def erase(output: Output, home: Home, subject: str, reason: str, party: str) -> None:
    """Erase a person, or refuse on record: then it is pending, and `subject due` does it when nothing keeps it."""
    home.require(party, "erase_subject", "Subject")
    erasure = Desk(home.ledger, home.registry).erase(subject, by=party, reason=reason)
    output.result(
        {"record": erasure.receipt.id, "records": erasure.records},
        f"the content of {sum(erasure.records.values())} record(s) is gone for good ({erasure.receipt.id})",
    )


@subject.command()
@click.option("--list", "only_list", is_flag=True, help="Show what is pending and why; erase nothing.")
@acting
@with_home
def due(output: Output, home: Home, only_list: bool, party: str) -> None:
    """Carry out erasures that were refused before and that nothing keeps any more; say what keeps the others."""
    home.require(party, "erase_subject", "Subject")
    desk = Desk(home.ledger, home.registry)
    if only_list:
        desk.know_retention()
        pending = home.ledger.pending_erasures()
        done: list[str] = []
        kept = {point: why for point, why in pending.items() if why}
        waiting = [point for point, why in pending.items() if not why]
    else:
        done, kept = desk.carry_out(by=party)
        waiting = []
    lines = [f"{point}: erased" for point in done]
    lines += [f"{point}: due now" for point in waiting]
    lines += [f"{point}: kept, {'; '.join(why)}" for point, why in kept.items()]
    output.result({"erased": done, "due": waiting, "kept": kept}, "\n".join(lines) or "no erasure is pending")
