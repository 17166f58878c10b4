"""`fiduciary finding`: what a reviewer wants repaired."""

from __future__ import annotations

import click

from fiduciary.cli._home import Home, acting, short, with_home
from fiduciary.cli._output import Output


@click.group()
def finding() -> None:
    """Findings of reviews: raise, close, list."""


@finding.command("raise")
@click.argument("name")
@click.option("--use-case", required=True, help="The use case it is about.")
@click.option("--release", "reference", default="", help="The release it is about, if it is about one.")
@click.option(
    "--severity", type=click.Choice(["high", "medium", "low"]), required=True, help="How much it matters."
)
@click.option("--title", required=True, help="What is wrong, in plain words.")
@click.option("--due", default="", help="Day by which it is to be repaired (YYYY-MM-DD).")
@click.option("--note", default="", help="A word on it.")
@acting
@with_home
def raise_(
    output: Output,
    home: Home,
    name: str,
    use_case: str,
    reference: str,
    severity: str,
    title: str,
    due: str,
    note: str,
    party: str,
) -> None:
    """Raise finding NAME, such as F-12."""
    release = home.digest(reference) if reference else ""
    receipt = home.registry.raise_finding(
        name, use_case, severity, title, by=party, key=home.key(party), release=release, due=due, note=note
    )
    output.result({"finding": name, "record": receipt.id}, f"{name} is raised by {party} ({receipt.id})")


@finding.command()
@click.argument("name")
@click.option("--reason", required=True, help="How it was repaired.")
@acting
@with_home
def close(output: Output, home: Home, name: str, reason: str, party: str) -> None:
    """Close finding NAME. Not for the author of the release it is about."""
    receipt = home.registry.close_finding(name, by=party, key=home.key(party), reason=reason)
    output.result({"finding": name, "record": receipt.id}, f"{name} is closed by {party} ({receipt.id})")


@finding.command("list")
@click.option("--use-case", default="", help="Only those of one use case.")
@click.option("--all", "everything", is_flag=True, help="Closed ones too.")
@with_home
def list_findings(output: Output, home: Home, use_case: str, everything: bool) -> None:
    """Findings, the open ones first raised first."""
    found = [
        f
        for f in home.registry.states().findings.values()
        if (not use_case or f.use_case == use_case) and (everything or f.closed is None)
    ]
    if output.as_json:
        output.json(
            [
                {
                    "finding": f.id,
                    "use_case": f.use_case,
                    "release": f.release,
                    "severity": f.severity,
                    "title": f.title,
                    "due": f.due,
                    "raised_by": f.raised.by,
                    "closed_by": f.closed.by if f.closed else None,
                }
                for f in found
            ]
        )
        return
    rows = [
        (
            f.id,
            f.severity,
            f.use_case,
            short(f.release) or "-",
            f.due or "-",
            f.raised.by,
            f"closed by {f.closed.by}" if f.closed else "open",
            f.title,
        )
        for f in found
    ]
    output.table(["finding", "severity", "use case", "release", "due", "by", "", "what"], rows)
