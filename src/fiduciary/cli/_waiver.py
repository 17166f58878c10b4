"""`fiduciary waiver`: leave for a release not to meet a rule, until a date."""

from __future__ import annotations

import time

import click

from fiduciary.cli._home import Home, acting, short, with_home
from fiduciary.cli._output import Output
from fiduciary.registry import day


@click.group()
def waiver() -> None:
    """Waivers of rules: grant, list."""


@waiver.command()
@click.argument("reference")
@click.argument("rule")
@click.option("--expires", required=True, help="First day on which it no longer holds (YYYY-MM-DD).")
@click.option("--reason", required=True, help="Why, in plain words.")
@acting
@with_home
def grant(
    output: Output, home: Home, reference: str, rule: str, expires: str, reason: str, party: str
) -> None:
    """Let release REFERENCE not meet RULE for a while. An officer or a validator, never its author."""
    digest = home.digest(reference)
    receipt = home.registry.waive(digest, rule, expires, by=party, key=home.key(party), reason=reason)
    output.result(
        {"release": digest, "rule": rule, "expires": expires, "record": receipt.id},
        f"{reference} need not meet {rule} before {expires} ({receipt.id})",
    )


@waiver.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that have ended too.")
@with_home
def list_waivers(output: Output, home: Home, everything: bool) -> None:
    """Waivers in force."""
    today = day(time.time_ns())
    found = [w for w in home.registry.states().waivers if everything or today < w.expires]
    if output.as_json:
        output.json(
            [
                {
                    "release": w.release,
                    "use_case": w.use_case,
                    "rule": w.rule,
                    "expires": w.expires,
                    "by": w.mark.by,
                    "reason": w.mark.reason,
                    "in_force": today < w.expires,
                }
                for w in found
            ]
        )
        return
    rows = [
        (short(w.release), w.rule, w.expires, w.mark.by, w.mark.reason, "" if today < w.expires else "ended")
        for w in found
    ]
    output.table(["release", "rule", "ends", "by", "why", ""], rows)
