"""`fiduciary audit`: draw decisions, rebuild each, list the exceptions."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from fiduciary.cli._home import Home, acting, moment, nanoseconds, with_home
from fiduciary.cli._output import Output
from fiduciary.errors import ConflictError, IntegrityError

SHOWN = 50
"""Most rows that are printed; the sheets have all."""


@click.command()
@click.option("--use-case", required=True, help="Whose decisions are drawn.")
@click.option("--sample", default=25, type=int, show_default=True, help="How many decisions.")
@click.option("--seed", required=True, help="Any text; the same seed draws the same decisions.")
@click.option("--since", default=None, help="Begin of the period (a date or RFC 3339 time).")
@click.option("--until", default=None, help="End of the period, not included.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder for the sheets.")
@acting
@with_home
def audit(
    output: Output,
    home: Home,
    use_case: str,
    sample: int,
    seed: str,
    since: str | None,
    until: str | None,
    out: Path,
    party: str,
) -> None:
    """Draw decisions, rebuild each bit for bit, and write the exceptions; exit 14 when there are any."""
    from rich.markup import escape

    from fiduciary.evidence import audit as run
    from fiduciary.evidence import audit_html, exceptions_csv, sample_csv
    from fiduciary.evidence._audit import FOREVER
    from fiduciary.registry import digest_text

    home.require(party, "cut_evidence", "Evidence")
    if out.exists():
        raise ConflictError(f"{out} exists already; the sheets are written into a new folder")
    with output.progress() as progress:
        task = progress.add_task("rebuilding", total=None)
        report = run(
            home.ledger,
            home.registry,
            use_case=use_case,
            sample=sample,
            seed=seed,
            since_ns=nanoseconds(moment(since)) if since else 0,
            until_ns=nanoseconds(moment(until)) if until else FOREVER,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    document = msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"
    out.mkdir(parents=True)
    (out / "exceptions.csv").write_bytes(exceptions_csv(report).encode())
    (out / "sample.csv").write_bytes(sample_csv(report).encode())
    (out / "audit.html").write_bytes(audit_html(report).encode())
    (out / "audit.json").write_bytes(document)
    held = {
        "by": party,
        "use_case": use_case,
        "seed": seed,
        "since": report.since,
        "until": report.until,
        "sample": len(report.sample),
        "exceptions": len(report.exceptions),
        "report": digest_text(document),
    }
    home.ledger.emit("audit.held", held, use_case=use_case)
    if not output.as_json:
        output.table(
            ["record", "time", "outcome", "result"],
            [(d.record, d.time, escape(d.outcome), d.result) for d in report.sample[:SHOWN]],
        )
        if report.exceptions:
            output.table(
                ["record", "what", "expected", "found"],
                [(e.record, e.what, escape(e.expected), escape(e.found)) for e in report.exceptions[:SHOWN]],
            )
    output.result(
        {**held, "eligible": report.eligible, "folder": str(out)},
        f"{len(report.sample)} of {report.eligible} decisions drawn: {report.count('rebuilt')} rebuilt, "
        f"{report.count('refusal')} refusals, {report.count('not rebuildable')} not rebuildable, "
        f"{len(report.exceptions)} exceptions; sheets in {out}",
    )
    if report.exceptions:
        raise click.exceptions.Exit(IntegrityError.exit_code)
