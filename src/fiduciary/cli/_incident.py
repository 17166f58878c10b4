"""`fiduciary incident`: what went wrong, and the reports that are due for it."""

from __future__ import annotations

import click
import msgspec

from fiduciary.cli._home import Home, acting, moment, nanoseconds, with_home
from fiduciary.cli._output import Output
from fiduciary.rights import Desk, when


@click.group()
def incident() -> None:
    """Incidents and their clocks: open, step, close, list."""


@incident.command("open")
@click.option(
    "--class", "kind", required=True, help="Its class, as packs name clocks: major, serious, personal_data."
)
@click.option("--title", required=True, help="What happened; no names of people: it is kept for good.")
@click.option("--use-case", default="", help="Keep the records of this use case until it is closed.")
@click.option(
    "--release", "reference", default="", help="Keep the records of this release until it is closed."
)
@click.option("--subject", default="", help="Keep the records about this person until it is closed.")
@click.option("--since", default=None, help="When it became known (default: now).")
@click.option(
    "--clock", "clocks", multiple=True, help="A time limit beside those of packs, such as PT72H. May repeat."
)
@acting
@with_home
def open_(
    output: Output,
    home: Home,
    kind: str,
    title: str,
    use_case: str,
    reference: str,
    subject: str,
    since: str | None,
    clocks: tuple[str, ...],
    party: str,
) -> None:
    """Open an incident; each of its clocks is a report that is due."""
    home.require(party, "hold_records")
    found = Desk(home.ledger, home.registry).open_incident(
        kind,
        title,
        by=party,
        use_case=use_case,
        release=home.digest(reference) if reference else "",
        subject=subject,
        since_ns=nanoseconds(moment(since)) if since else None,
        clocks=list(clocks),
    )
    lines = [f"  step {n}: by {when(s.due_ns)} ({s.limit} {s.rule})" for n, s in enumerate(found.steps, 1)]
    output.result(msgspec.to_builtins(found), "\n".join([f"incident {found.id} is open", *lines]))


@incident.command()
@click.argument("name")
@click.option("--step", type=int, required=True, help="Which report; 1 is the first due.")
@click.option("--note", required=True, help="What was reported, and to whom.")
@acting
@with_home
def step(output: Output, home: Home, name: str, step: int, note: str, party: str) -> None:
    """Say that a report of incident NAME was made: its clock stops."""
    home.require(party, "hold_records")
    found = Desk(home.ledger, home.registry).step_incident(name, step, by=party, note=note)
    late = (found.steps[step - 1].done_ns or 0) > found.steps[step - 1].due_ns
    output.result(
        {"incident": name, "step": step, "late": late},
        f"step {step} of {name} is done, {'late' if late else 'in time'}",
    )


@incident.command()
@click.argument("name")
@click.option("--reason", required=True, help="How it ended.")
@acting
@with_home
def close(output: Output, home: Home, name: str, reason: str, party: str) -> None:
    """Close incident NAME when every report was made; what it kept is let go."""
    home.require(party, "hold_records")
    Desk(home.ledger, home.registry).close_incident(name, by=party, reason=reason)
    output.result({"incident": name, "closed": True}, f"incident {name} is closed")


@incident.command("list")
@click.option("--all", "everything", is_flag=True, help="Closed ones too.")
@with_home
def list_incidents(output: Output, home: Home, everything: bool) -> None:
    """Incidents, the oldest first."""
    found = [
        i
        for i in Desk(home.ledger, home.registry).register().incidents.values()
        if everything or i.closed_ns is None
    ]
    if output.as_json:
        output.json([msgspec.to_builtins(i) for i in found])
        return
    rows = [
        (
            i.id,
            i.kind,
            when(i.since_ns),
            f"{sum(s.done_ns is not None for s in i.steps)} of {len(i.steps)} reports",
            "closed" if i.closed_ns else "open",
            i.title,
        )
        for i in found
    ]
    output.table(["incident", "class", "known since", "", "", "what"], rows)
