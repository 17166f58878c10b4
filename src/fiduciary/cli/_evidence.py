"""`fiduciary evidence`: a folder for an outsider."""

from __future__ import annotations

from pathlib import Path

import click

from fiduciary.cli._home import Home, acting, moment, nanoseconds, with_home
from fiduciary.cli._output import Output
from fiduciary.errors import UsageError


@click.command()
@click.option("--decision", "decisions", multiple=True, help="A decision, such as gate-0.17. May repeat.")
@click.option("--use-case", default="", help="All decisions of a use case over a period.")
@click.option("--since", default=None, help="Begin of the period (a date or RFC 3339 time).")
@click.option("--until", default=None, help="End of the period, not included (default: now).")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@acting
@with_home
def evidence(
    output: Output,
    home: Home,
    decisions: tuple[str, ...],
    use_case: str,
    since: str | None,
    until: str | None,
    out: Path,
    party: str,
) -> None:
    """Cut a folder that an outsider verifies with `python3 verify.py`, offline."""
    from fiduciary.evidence import Scope, cut

    home.require(party, "cut_evidence", "Evidence")
    if bool(decisions) == bool(use_case):
        raise UsageError("name decisions with --decision, or a use case with --use-case and --since")
    if decisions:
        scope = Scope("decisions", decisions=decisions)
    else:
        if since is None:
            raise UsageError("--use-case needs --since, such as --since 2026-01-01")
        home.registry.states().use(use_case)
        end = nanoseconds(moment(until)) if until else home.ledger.clock()
        scope = Scope("use-case", use_case=use_case, since_ns=nanoseconds(moment(since)), until_ns=end)
    with output.progress() as progress:
        task = progress.add_task("cutting", total=None)
        summary = cut(
            home.ledger,
            home.registry,
            scope,
            out,
            by=party,
            progress=lambda what, done, total: progress.update(
                task, description=what, completed=done, total=total
            ),
        )
    output.result(
        {"folder": str(out), **summary},
        f"{summary['decisions']} decision(s), {summary['events']} events and {summary['releases']} release(s) "
        f"are in {out}\nmanifest {summary['manifest']}\nanybody can check it: python3 {out / 'verify.py'}",
    )
