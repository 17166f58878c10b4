"""Auditor mode: draw some decisions, rebuild each from the record, list what does not come out.

The draw is a function of the log and the seed: the eligible record ids, ordered by SHA-256(seed, id), the first N.
Who has the same log draws the same. Each drawn decision is decided again bit for bit (score, outcome, referral,
reasons, notices), its release must have been live and its reasons present where it is adverse; what was erased or
pruned is listed as not rebuildable, which is no exception.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
from collections.abc import Callable
from typing import Any

import msgspec

from fiduciary.decision import REFUSED, Replayer, decode_record
from fiduciary.errors import FiduciaryError, UsageError
from fiduciary.evidence import _verify_folder as offline
from fiduciary.evidence._changes import plain_cell
from fiduciary.ledger import Kind, Ledger, Record
from fiduciary.registry import Registry

MAX_SAMPLE = 100_000
CONTROL = "control"


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """One drawn decision and what became of it."""

    record: str
    time: str
    release: str
    outcome: str
    result: str
    """rebuilt, refusal, not rebuildable, or exception."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that did not come out: what was expected and what was found."""

    record: str
    what: str
    expected: str
    found: str


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """The sample and its exceptions."""

    use_case: str
    seed: str
    eligible: int
    sample: list[Drawn]
    exceptions: list[Finding]

    def count(self, result: str) -> int:
        """How many of the sample ended so."""
        return sum(1 for drawn in self.sample if drawn.result == result)


def draw(ids: list[str], seed: str, size: int) -> list[str]:
    """The first `size` of the ids in the order of SHA-256(seed, id): the same for everybody with the same ids."""
    return sorted(ids, key=lambda i: (hashlib.sha256(f"{seed}\x00{i}".encode()).digest(), i))[:size]


def audit(
    ledger: Ledger,
    registry: Registry,
    *,
    use_case: str,
    sample: int,
    seed: str,
    since_ns: int = 0,
    until_ns: int = 1 << 62,
    progress: Callable[[int, int], None] | None = None,
) -> AuditReport:
    """Draw and rebuild. Raises `UsageError` for a senseless sample size, `NotFoundError` for an unknown use case."""
    if not 1 <= sample <= MAX_SAMPLE:
        raise UsageError(f"a sample has 1 to {MAX_SAMPLE} decisions, not {sample}")
    registry.states().use(use_case)
    eligible = [
        record.id
        for name in ledger.logs()
        if name != CONTROL
        for record in ledger.records(name)
        if record.header.kind == Kind.DECISION
        and record.header.use_case == use_case
        and since_ns <= record.header.time_ns < until_ns
    ]
    chosen = draw(eligible, seed, sample)
    replayer = Replayer(ledger, registry)
    drawn: list[Drawn] = []
    exceptions: list[Finding] = []
    for done, record_id in enumerate(chosen):
        if progress is not None:
            progress(done, len(chosen))
        one, found = _rebuild(ledger.get(record_id), replayer, registry)
        drawn.append(one)
        exceptions += found
    return AuditReport(
        use_case=use_case, seed=seed, eligible=len(eligible), sample=drawn, exceptions=exceptions
    )


def _rebuild(record: Record, replayer: Replayer, registry: Registry) -> tuple[Drawn, list[Finding]]:
    when = offline.time_text(record.header.time_ns)
    shown = {"record": record.id, "time": when}
    if record.payload is None:
        release = record.header.release.hex()
        return Drawn(**shown, release=release, outcome=record.state, result="not rebuildable"), []
    found: list[Finding] = []

    def wrong(what: str, expected: Any, came: Any) -> None:
        found.append(Finding(record=record.id, what=what, expected=str(expected), found=str(came)))

    try:
        decision = decode_record(record.payload)
    except FiduciaryError as error:
        wrong("the record can be read", "a decision", error.detail)
        return Drawn(**shown, release="", outcome="", result="exception"), found
    if decision.outcome == REFUSED:
        if not decision.problem:
            wrong("a refusal says why", "a problem", "nothing")
        result = "exception" if found else "refusal"
        return Drawn(**shown, release=decision.release, outcome=decision.outcome, result=result), found
    try:
        again = replayer.replay(record.id)
        for difference in again.differences:
            wrong(f"{difference.field} comes out again", difference.recorded, difference.replayed)
    except FiduciaryError as error:
        wrong("it can be decided again", "the same decision", error.detail)
    live = registry.states(record.header.time_ns + 1).live(decision.use_case)
    before = registry.states(record.header.time_ns - offline.SLACK_NS).live(decision.use_case)
    if decision.release not in (live, before):
        wrong("the release was live then", live or before or "no release", decision.release)
    if decision.outcome == "decline" and decision.explained and not decision.reasons:
        wrong("an adverse decision has reasons", "at least one", "none")
    result = "exception" if found else "rebuilt"
    return Drawn(**shown, release=decision.release, outcome=decision.outcome, result=result), found


def exceptions_csv(report: AuditReport) -> str:
    """The exception sheet, RFC 4180; a cell that a spreadsheet would run begins with an apostrophe."""
    return _sheet(("record", "what", "expected", "found"), report.exceptions)


def sample_csv(report: AuditReport) -> str:
    """The sample, one drawn decision a line."""
    return _sheet(("record", "time", "release", "outcome", "result"), report.sample)


def _sheet(columns: tuple[str, ...], rows: list[Any]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([plain_cell(getattr(row, column)) for column in columns])
    return out.getvalue()


def audit_html(report: AuditReport) -> str:
    """The sheet for people: printable, self-contained."""
    title = f"Audit sample of {report.use_case}"
    counts = ", ".join(
        f"{report.count(r)} {r}" for r in ("rebuilt", "refusal", "not rebuildable", "exception")
    )
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{len(report.sample)} of {report.eligible} decisions, drawn with seed "
        f"<code>{html.escape(report.seed)}</code>: {counts}.</p>",
        "<h2>Exceptions</h2>",
        _table(("record", "what", "expected", "found"), report.exceptions)
        if report.exceptions
        else "<p>None: every decision that still has its content came out as recorded.</p>",
        "<h2>Sample</h2>",
        _table(("record", "time", "outcome", "result"), report.sample),
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
