"""Everything that was decided about one person, for that person: to read (HTML), to check and to carry (JSON, CSV).

GDPR Article 15 with 15(1)(h) as C-203/22 (27 February 2025) reads it: per decision what went in, what came out and
why, what change within the person's control would have changed it, under which rules of the day, and which people had
a part. Portability (Article 20) is the rows as they were given, nothing derived.
"""

from __future__ import annotations

import csv
import html
import io
import json
from typing import Any

import msgspec

from fiduciary.decision import REFUSED, Decider, DecisionRecord, decode_record
from fiduciary.errors import FiduciaryError, LimitError, NotFoundError
from fiduciary.ledger import Kind, Record
from fiduciary.rights._calendar import when
from fiduciary.rights._counterfactual import as_json, counterfactual
from fiduciary.rights._desk import Desk
from fiduciary.rights._register import Register
from fiduciary.rights._template import STYLE, clean

MAX_DECISIONS = 2_000
"""Most decisions of one access file."""


def access_file(
    desk: Desk, subject: str, *, since_ns: int | None = None, until_ns: int | None = None
) -> dict[str, Any]:
    """Every decision about a person (of a period: `since_ns` included, `until_ns` not), oldest first, as JSON values.

    Raises `NotFoundError` when nothing readable is about them, `LimitError` for over 2,000 decisions.
    """
    book = desk.register()
    decisions = [_decision(desk, book, stored) for stored in _records(desk, subject, since_ns, until_ns)]
    if not decisions:
        raise NotFoundError("no readable decision is about this person")
    mine = {d["record"] for d in decisions}
    return {
        "format": "fiduciary.access/1",
        "subject": subject,
        "made": when(desk.ledger.clock()),
        "decisions": decisions,
        "contests": [_dated(c) for c in book.contests.values() if c.decision in mine],
        "requests": [_dated(r) for r in book.requests.values() if r.subject == subject],
        "letters": [_dated(x) for x in book.letters if x.decision in mine],
    }


def portable(
    desk: Desk, subject: str, *, since_ns: int | None = None, until_ns: int | None = None
) -> dict[str, Any]:
    """The data that was given about a person, as it was given, by decision. Raises as `access_file`."""
    rows = []
    for stored in _records(desk, subject, since_ns, until_ns):
        if stored.payload is None:
            continue
        record = decode_record(stored.payload)
        if record.outcome != REFUSED:
            rows.append(
                {
                    "record": stored.id,
                    "time": when(stored.header.time_ns),
                    "use_case": record.use_case,
                    "features": json.loads(bytes(record.features)),
                }
            )
    if not rows:
        raise NotFoundError("no readable decision is about this person")
    return {"format": "fiduciary.portable/1", "subject": subject, "rows": rows}


def portable_csv(document: dict[str, Any]) -> str:
    """The same as CSV (RFC 4180): one line a decision. A cell that a spreadsheet would run is quoted with '."""
    names = sorted({name for row in document["rows"] for name in row["features"]})
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["record", "time", "use_case", *names])
    for row in document["rows"]:
        values = [row["features"].get(name) for name in names]
        writer.writerow([_cell(v) for v in (row["record"], row["time"], row["use_case"], *values)])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return "" if value is None else value


def _records(desk: Desk, subject: str, since_ns: int | None, until_ns: int | None) -> list[Record]:
    hits = desk.ledger.search(
        subject=subject, kind=Kind.DECISION, since=since_ns, until=until_ns, limit=MAX_DECISIONS + 1
    )
    if len(hits) > MAX_DECISIONS:
        raise LimitError(f"over {MAX_DECISIONS} decisions are about this person: take a shorter period")
    return [desk.ledger.get(hit.id) for hit in reversed(hits)]


def _decision(desk: Desk, book: Register, stored: Record) -> dict[str, Any]:
    head = {
        "record": stored.id,
        "time": when(stored.header.time_ns),
        "use_case": stored.header.use_case,
        "state": stored.state,
    }
    if stored.payload is None:
        return head
    record = decode_record(stored.payload)
    if record.outcome == REFUSED:
        return {**head, "outcome": REFUSED, "because": record.detail, "inputs": {}}
    outcome, override = book.standing(stored.id, record.outcome)
    state = desk.registry.states()
    release = state.releases.get(record.release)
    rules = state.books.get(record.rulebook)
    use_case = state.rules.get(record.rules)
    return {
        **head,
        "outcome": record.outcome,
        "standing_outcome": outcome,
        "purpose": record.purpose or (use_case.purpose if use_case else ""),
        "lawful_basis": record.basis,
        "inputs": json.loads(bytes(record.features)),
        "score": record.score,
        "average_of_approved": record.baseline,
        **_reasons(desk, record),
        "what_would_have_changed_it": _what_if(desk, record),
        "cut_offs": {
            "approve_below": use_case.approve_below,
            "decline_from": use_case.decline_from,
            "adverse": use_case.adverse,
        }
        if use_case
        else {},
        "decided_by": {
            "release": f"{release.name} {release.version}" if release else record.release,
            "digest": record.release,
            "made_by": release.author if release else "",
            "approved_by": [a.party for a in release.approvals] if release else [],
        },
        "human_part": {
            "referred_by": record.referred_by,
            "given_to": record.human,
            "decided_by": override.by if override else "",
            "reason": override.reason if override else "",
        },
        "rules_of_the_day": {
            "use_case": record.rules,
            "rulebook": record.rulebook,
            "packs": [f"{name} {version}" for name, version, _ in rules.packs] if rules else [],
            "rules": [r["rule"] for r in rules.in_force] if rules else [],
        },
        "notices": msgspec.to_builtins(record.notices),
    }


def _reasons(desk: Desk, record: DecisionRecord) -> dict[str, Any]:
    """As recorded; else computed again; else what stands in the way, said and not hidden."""
    found = record.reasons
    if not record.explained:
        try:
            found = _decider(desk, record).explain(_row(desk, record))[0].reasons
        except FiduciaryError as error:
            return {"reasons": [], "reasons_note": error.detail}
    return {"reasons": [{"text": r.text, "weight": r.contribution} for r in found]}


def _row(desk: Desk, record: DecisionRecord) -> Any:
    import numpy as np

    release = desk.registry.examine(record.release)
    return np.array([release.compiled.decode(bytes(record.features))])


def _decider(desk: Desk, record: DecisionRecord) -> Decider:
    return Decider(desk.registry.examine(record.release), desk.registry.states().rules[record.rules])


def _what_if(desk: Desk, record: DecisionRecord) -> dict[str, Any]:
    if record.outcome == "approve":
        return {"answer": "approved"}
    try:
        return as_json(counterfactual(_decider(desk, record), bytes(record.features)))
    except FiduciaryError as error:  # the release is gone from disk, or broken: said, not hidden
        return {"answer": "not_found", "note": error.detail}


def _dated(item: Any) -> dict[str, Any]:
    """A register entry with its times as text."""
    found: dict[str, Any] = msgspec.to_builtins(item)
    return {
        name.removesuffix("_ns"): when(value) if name.endswith("_ns") and value is not None else value
        for name, value in found.items()
    }


def page(document: dict[str, Any]) -> str:
    """The access file as one self-contained page that prints. Every value is escaped."""
    parts = [f"<h1>Decisions about {_e(document['subject'])}</h1><p>Made on {_e(document['made'])}.</p>"]
    for d in document["decisions"]:
        parts.append(
            f"<h2>{_e(d['record'])}: {_e(d.get('standing_outcome') or d.get('outcome') or d['state'])}</h2>"
        )
        if "score" not in d:
            parts.append(f"<p>{_e(d['time'])}, {_e(d['use_case'])}: {_e(d.get('because') or d['state'])}</p>")
            continue
        rules = d["rules_of_the_day"]
        rows = [
            ("Time", d["time"]),
            ("What for", d["purpose"]),
            ("Result then", d["outcome"]),
            ("Result that stands", d["standing_outcome"]),
            ("Score", "none" if d["score"] is None else f"{d['score']:.4f}"),
            (
                "Decided by",
                f"{d['decided_by']['release']}, approved by {', '.join(d['decided_by']['approved_by'])}",
            ),
            ("Part of a person", d["human_part"]["decided_by"] or d["human_part"]["given_to"] or "none"),
            ("Rules of the day", ", ".join(rules["packs"]) or rules["use_case"]),
        ]
        parts.append(_table(rows))
        parts.append(
            "<h3>What was used</h3>" + _table([(k, "" if v is None else v) for k, v in d["inputs"].items()])
        )
        if d["reasons"]:
            items = "".join(f"<li>{_e(r['text'])}</li>" for r in d["reasons"])
            parts.append(f"<h3>What counted against you, the strongest first</h3><ol>{items}</ol>")
        if "reasons_note" in d:
            parts.append(f"<p>Reasons cannot be computed again: {_e(d['reasons_note'])}</p>")
        parts.append(_what_if_text(d["what_would_have_changed_it"]))
    for title, key in (("Contests", "contests"), ("Requests", "requests"), ("Letters", "letters")):
        if document[key]:
            lines = "".join(f"<li>{_table(list(item.items()))}</li>" for item in document[key])
            parts.append(f"<h2>{title}</h2><ul>{lines}</ul>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Decisions about you</title><style>{STYLE}</style></head>\n<body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )


def _what_if_text(answer: dict[str, Any]) -> str:
    if answer["answer"] == "approved":
        return ""
    top = "<h3>What would have led to an approval that day</h3>"
    if not answer.get("changes"):
        return f"{top}<p>{_e(answer.get('note') or 'nothing that we can name')}</p>"
    items = "".join(
        f"<li>{_e(c.get('description') or c['feature'])}: {_e(c['after'])} instead of {_e(c['before'])}</li>"
        for c in answer["changes"]
    )
    kind = "" if answer.get("exact") else "<p>Found by search; a smaller change may exist.</p>"
    return f"{top}<ul>{items}</ul>{kind}"


def _table(rows: list[tuple[str, Any]]) -> str:
    cells = "".join(f"<tr><th>{_e(a)}</th><td>{_e(b)}</td></tr>" for a, b in rows)
    return f"<table>{cells}</table>"


def _e(value: Any) -> str:
    return html.escape(clean(str(value)))
