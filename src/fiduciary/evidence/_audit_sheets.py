"""What an audit gives to people: two sheets for a spreadsheet, one page to print. They run nothing."""

from __future__ import annotations

import csv
import html
import io
from typing import Any

from fiduciary.evidence import _verify_folder as offline
from fiduciary.evidence._audit import AuditReport
from fiduciary.evidence._changes import plain_cell

EXCEPTION = ("record", "what", "expected", "found")
SAMPLE = ("record", "time", "release", "outcome", "result", "because")


def exceptions_csv(report: AuditReport) -> str:
    """The exception sheet, RFC 4180; a cell that a spreadsheet would run begins with an apostrophe."""
    return _sheet(EXCEPTION, report.exceptions)


def sample_csv(report: AuditReport) -> str:
    """The sample, one drawn decision a line."""
    return _sheet(SAMPLE, report.sample)


def _sheet(columns: tuple[str, ...], rows: list[Any]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([plain_cell(getattr(row, column)) for column in columns])
    return out.getvalue()


def audit_html(report: AuditReport) -> str:
    """The sheet for people: printable, self-contained, without script."""
    title = f"Audit sample of {report.use_case}"
    results = ("rebuilt", "refusal", "not rebuildable", "exception")
    counts = ", ".join(f"{report.count(r)} {r}" for r in results)
    period = f"From {report.since or 'the first record'} to {report.until or 'the last'}."
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{len(report.sample)} of {report.eligible} decisions, drawn with seed "
        f"<code>{html.escape(report.seed)}</code>: {counts}. {html.escape(period)}</p>",
        "<p>The draw is the record ids in the order of SHA-256 of the seed, a zero byte and the id.</p>",
        "<h2>Exceptions</h2>",
        _table(EXCEPTION, report.exceptions)
        if report.exceptions
        else "<p>None: every decision that still has its content came out as recorded.</p>",
        "<h2>Sample</h2>",
        _table(("record", "time", "outcome", "result", "because"), report.sample),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{offline.STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _table(columns: tuple[str, ...], rows: list[Any]) -> str:
    head = "".join(f"<th scope=col>{c}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(getattr(row, c)))}</td>" for c in columns) + "</tr>"
        for row in rows
    )
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
