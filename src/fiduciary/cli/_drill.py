"""`fiduciary drill`: press the stop button for real, and record other drills."""

from __future__ import annotations

import click

from fiduciary.cli._decide import ask, read_row
from fiduciary.cli._home import Home, acting, short, with_home
from fiduciary.cli._output import Output
from fiduciary.errors import UsageError
from fiduciary.rights import KINDS, Desk, drill_stop, record_drill


@click.group()
def drill() -> None:
    """Drills: stop (measured), record."""


@drill.command()
@click.argument("release")
@click.option("--use-case", required=True, help="The use case to ask for.")
@click.option("--features", required=True, help="A row to ask about, as JSON or @FILE.")
@click.option(
    "--subject", default="drill", show_default=True, help="Who it is asked about: not a real person."
)
@click.option(
    "--url", envvar="FIDUCIARY_URL", default="http://127.0.0.1:8080", show_default=True, help="The gate."
)
@click.option("--token", envvar="FIDUCIARY_TOKEN", help="Access token (better: FIDUCIARY_TOKEN).")
@click.option("--within", default=1.0, show_default=True, help="Seconds in which it must refuse.")
@acting
@with_home
def stop(
    output: Output,
    home: Home,
    release: str,
    use_case: str,
    features: str,
    subject: str,
    url: str,
    token: str | None,
    within: float,
    party: str,
) -> None:
    """Suspend RELEASE, time the running gate's first refusal, resume it, and record the drill."""
    if not 0 < within <= 30:
        raise UsageError("--within takes up to 30 seconds")
    body = {"use_case": use_case, "subject": subject, "features": read_row(features)}
    found = drill_stop(
        Desk(home.ledger, home.registry),
        home.digest(release),
        lambda: ask(url, token, body),
        by=party,
        key=home.key(party),
        limit_s=within,
    )
    output.result(
        {
            "release": found.release,
            "passed": found.passed,
            "seconds": found.seconds,
            "answered_after": found.answered,
            "resumed_seconds": found.resumed_seconds,
            "record": found.receipt.id,
        },
        f"{short(found.release)} refused {found.seconds * 1000:.0f} ms after the button was pressed "
        f"({found.answered} answers still came), again {found.resumed_seconds * 1000:.0f} ms after resuming: "
        f"{'passed' if found.passed else 'NOT passed'} ({found.receipt.id})",
    )


@drill.command()
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What was tried.")
@click.option("--note", required=True, help="What was done and seen; no names of people.")
@click.option("--seconds", type=float, default=None, help="How long it took.")
@click.option("--failed", is_flag=True, help="It did not work.")
@acting
@with_home
def record(
    output: Output, home: Home, kind: str, note: str, seconds: float | None, failed: bool, party: str
) -> None:
    """Put a drill that people held on record."""
    home.require(party, "suspend_release", "Release")
    receipt = record_drill(
        Desk(home.ledger, home.registry), kind, by=party, passed=not failed, note=note, seconds=seconds
    )
    output.result({"record": receipt.id}, f"the {kind} drill is on record ({receipt.id})")
