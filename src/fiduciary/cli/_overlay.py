"""`fiduciary overlay`: the register of judgements laid over a model's output."""

from __future__ import annotations

import time

import click

from fiduciary.cli._home import Home, acting, with_home
from fiduciary.cli._output import Output
from fiduciary.registry import Overlay, day


@click.group()
def overlay() -> None:
    """Post-model adjustments: set, end, list."""


@overlay.command("set")
@click.argument("name")
@click.option("--use-case", required=True, help="The use case it is laid over.")
@click.option("--title", required=True, help="What it does, in plain words.")
@click.option("--reason", required=True, help="Why it is needed.")
@click.option("--expires", required=True, help="First day on which it is to be gone or renewed (YYYY-MM-DD).")
@acting
@with_home
def set_(
    output: Output, home: Home, name: str, use_case: str, title: str, reason: str, expires: str, party: str
) -> None:
    """Put overlay NAME on the register. An officer or a validator."""
    receipt = home.registry.set_overlay(
        name, use_case, title, expires, by=party, key=home.key(party), reason=reason
    )
    output.result({"overlay": name, "record": receipt.id}, f"{name} is set until {expires} ({receipt.id})")


@overlay.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why it is no longer needed.")
@acting
@with_home
def end(output: Output, home: Home, name: str, reason: str, party: str) -> None:
    """End overlay NAME."""
    receipt = home.registry.end_overlay(name, by=party, key=home.key(party), reason=reason)
    output.result({"overlay": name, "record": receipt.id}, f"{name} is ended ({receipt.id})")


@overlay.command("list")
@click.option("--all", "everything", is_flag=True, help="Ended ones too.")
@with_home
def list_overlays(output: Output, home: Home, everything: bool) -> None:
    """Overlays in use, and which are past their day."""
    today = day(time.time_ns())

    def state(o: Overlay) -> str:
        return "ended" if o.ended else "overdue" if today >= o.expires else "in use"

    found = [o for o in home.registry.states().overlays.values() if everything or o.ended is None]
    if output.as_json:
        output.json(
            [
                {
                    "overlay": o.id,
                    "use_case": o.use_case,
                    "title": o.title,
                    "expires": o.expires,
                    "by": o.set.by,
                    "reason": o.set.reason,
                    "state": state(o),
                }
                for o in found
            ]
        )
        return
    rows = [(o.id, o.use_case, o.title, o.expires, o.set.by, state(o)) for o in found]
    output.table(["overlay", "use case", "what", "until", "by", ""], rows)
