"""`fiduciary clocks`: what ticks, what is due, what is late."""

from __future__ import annotations

import click

from fiduciary.cli._home import Home, with_home
from fiduciary.cli._output import Output
from fiduciary.rights import Desk, span, when
from fiduciary.rights import clocks as all_clocks

LATE = 17
"""Exit code when something is late."""


@click.command()
@click.option("--use-case", default="", help="Only contests, notices and incidents of one use case.")
@click.option("--all", "everything", is_flag=True, help="Stopped ones too.")
@with_home
def clocks(output: Output, home: Home, use_case: str, everything: bool) -> int:
    """Contests, requests, incidents, notices and erasures by what is due first. Exit 17 when something is late."""
    home.know_retention()
    now = home.ledger.clock()
    found = [
        (c, c.state(now))
        for c in all_clocks(Desk(home.ledger, home.registry), use_case)
        if everything or c.done_ns is None
    ]
    late = sum(state == "late" for _, state in found)
    if output.as_json:
        output.json(
            {
                "late": late,
                "clocks": [
                    {
                        "clock": c.name,
                        "about": c.about,
                        "step": c.step,
                        "rule": c.rule,
                        "started": when(c.started_ns),
                        "due": when(c.due_ns) if c.due_ns is not None else None,
                        "done": when(c.done_ns) if c.done_ns is not None else None,
                        "state": state,
                    }
                    for c, state in found
                ],
            }
        )
    else:
        rows = [
            (
                c.name,
                c.about,
                c.step,
                c.rule,
                when(c.due_ns) if c.due_ns is not None else "now",
                state if c.due_ns is None or c.done_ns is not None else f"{state}: {span(c.due_ns - now)}",
            )
            for c, state in found
        ]
        output.table(["clock", "about", "step", "rule", "due", "state"], rows)
        output.say(f"{late} late, {len(found)} shown")
    return LATE if late else 0
