"""`fiduciary registry`: what is live, and what was."""

from __future__ import annotations

import click

from fiduciary.cli._home import Home, moment, short, time_text, with_home
from fiduciary.cli._output import Output
from fiduciary.registry import Projection


@click.group()
def registry() -> None:
    """What is live, and what was."""


def _show(output: Output, state: Projection, title: str) -> None:
    releases = [
        {
            "release": r.digest,
            "name": r.name,
            "version": r.version,
            "family": r.family,
            "use_case": r.use_case,
            "state": state.state(r.digest),
            "author": r.author,
            "approved_by": [a.party for a in r.approvals],
            "proposed": time_text(r.proposed.time_ns),
        }
        for r in state.releases.values()
    ]
    packs = [
        {"pack": a.pack, "version": a.version, "digest": a.digest, "since": time_text(a.mark.time_ns)}
        for a in state.pack_history
        if a.ended is None
    ]
    if output.as_json:
        live = {name: state.live(name) for name in state.uses}
        books = {name: use.book.digest if use.book else None for name, use in state.uses.items()}
        output.json({"releases": releases, "live": live, "packs": packs, "rulebooks": books})
        return
    rows = [
        (
            f"{r['name']}@{r['version']}",
            short(str(r["release"])),
            r["family"],
            r["use_case"],
            r["state"],
            r["author"],
            ", ".join(state_approvers) if (state_approvers := r["approved_by"]) else "-",
        )
        for r in releases
    ]
    output.table(
        ["release", "digest", "family", "use case", "state", "author", "approved by"], rows, title=title
    )
    for p in packs:
        output.say(f"pack in force: {p['pack']} {p['version']}, {short(p['digest'])}, since {p['since']}")
    for anomaly in state.anomalies:
        output.say(f"control.{anomaly.index} ({anomaly.event}) does not hold: {anomaly.why}")


@registry.command("list")
@with_home
def list_releases(output: Output, home: Home) -> None:
    """Every release and its state now."""
    _show(output, home.registry.states(), "Releases now")


@registry.command()
@click.argument("time")
@with_home
def at(output: Output, home: Home, time: str) -> None:
    """Every release and its state at TIME, such as 2026-05-03T12:00Z."""
    when = moment(time)
    _show(output, home.registry.states(when), f"Releases at {when.isoformat()}")
