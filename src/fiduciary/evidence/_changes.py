"""The change population: every time a release was put to use, who built, checked, approved and promoted it.

What an auditor samples for change management (Sarbanes-Oxley section 404). A pure function of the control log's
events; `violations` names what should not have been possible, so an honest log has none.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from fiduciary.evidence import _verify_folder as offline

Event = Mapping[str, Any]
PUT_TO_USE = ("release.promoted", "release.shadowed", "release.rolled_back")
ENDS = {
    "release.rejected": "rejected",
    "release.suspended": "suspended",
    "release.retired": "retired",
    "release.resumed": "",
}
COLUMNS = (
    "record", "time", "event", "use_case", "release", "name", "version", "author", "promoter", "checked", "green",
    "rulebook", "approvers", "approvals_needed", "waivers", "note", "violations",
)  # fmt: skip


class _Known(msgspec.Struct):
    """What the log has said of one release so far."""

    proposal: Mapping[str, Any] = {}
    run: Mapping[str, Any] | None = None
    run_index: int = -1
    approvals: list[tuple[str, str]] = []
    """Who and when."""
    needed: int | None = None
    """Approvals that the use case asked for when the last one came."""
    enough: bool = False
    """The approvals by others reached that number."""
    early: list[str] = []
    """Who approved before any check run that allows it."""
    waivers: list[Mapping[str, Any]] = []
    ended: str = ""
    """rejected, suspended or retired."""

    @property
    def author(self) -> str:
        return str(self.proposal.get("by", ""))


def changes(events: Sequence[Event]) -> list[dict[str, Any]]:
    """One row for each promotion, shadow and roll-back, in order of the log."""
    releases: dict[str, _Known] = {}
    needed: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    for event in events:
        payload = event["payload"]
        name = str(payload.get("event", ""))
        if name == "usecase.defined":
            needed[str(payload["use_case"])] = int(payload["document"].get("approvals", 1))
            continue
        known = releases.setdefault(str(payload.get("release", "")), _Known())
        if name in PUT_TO_USE:
            rows.append(_row(event, known, needed))
        else:
            _learn(event, known, needed)
    return rows


def _learn(event: Event, known: _Known, needed: Mapping[str, int]) -> None:
    payload, name = event["payload"], event["payload"].get("event")
    if name == "release.proposed":
        known.proposal = payload
    elif name == "release.checked":
        known.run, known.run_index = payload, event["index"]
    elif name == "release.approved":
        who = str(payload.get("by", ""))
        known.approvals.append((who, offline.time_text(event["time_ns"])))
        if known.run is None or _open(known, event["time_ns"]):
            known.early.append(who)
        use_case = str(payload.get("use_case") or known.proposal.get("use_case", ""))
        known.needed = needed.get(use_case, 1)
        others = {w for w, _ in known.approvals} - {known.author, *known.early}
        known.enough = known.enough or len(others) >= known.needed
    elif name == "waiver.granted":
        known.waivers.append(payload)
    elif name in ENDS:
        known.ended = ENDS[name]


def _open(known: _Known, time_ns: int) -> list[str]:
    """Blocking results of the last run that are not ok, and that nobody but the author had waived by then."""
    today = offline.day_of(time_ns)
    lifted = {w.get("rule") for w in _waivers(known, today)}
    return [r for r in _failed(known) if r not in lifted]


def _failed(known: _Known) -> list[str]:
    results = known.run.get("results", []) if known.run else []
    failed = [r for r in results if r.get("severity", "block") == "block" and r.get("ok") is not True]
    return [str(r.get("rule") or r.get("name", "")) for r in failed]


def _waivers(known: _Known, today: str) -> list[Mapping[str, Any]]:
    """Waivers in force that lift a rule which failed: those that were made use of."""
    failed = set(_failed(known))
    return [
        w
        for w in known.waivers
        if w.get("rule") in failed and today < str(w.get("expires", "")) and w.get("by") != known.author
    ]


def _row(event: Event, known: _Known, needed: Mapping[str, int]) -> dict[str, Any]:
    payload, run, said = event["payload"], known.run, known.proposal
    use_case = str(payload.get("use_case") or said.get("use_case", ""))
    used = _waivers(known, offline.day_of(event["time_ns"]))
    row = {
        "record": f"control.{event['index']}",
        "time": offline.time_text(event["time_ns"]),
        "event": str(payload["event"]),
        "use_case": use_case,
        "release": str(payload.get("release", "")),
        "name": str(said.get("name", "")),
        "version": str(said.get("version", "")),
        "author": known.author,
        "promoter": str(payload.get("by", "")),
        "checked": f"control.{known.run_index}" if run is not None else "",
        "green": bool(run.get("green")) if run is not None else False,
        "rulebook": str(run.get("rulebook", "")) if run is not None else "",
        "approvers": [f"{who} {at}" for who, at in known.approvals],
        "approvals_needed": needed.get(use_case, 1) if known.needed is None else known.needed,
        "waivers": [f"{w['rule']} until {w['expires']} by {w['by']}" for w in used],
        "note": str(payload.get("note") or payload.get("reason") or ""),
    }
    return {**row, "violations": _violations(row, known, event["time_ns"])}


def _violations(row: Mapping[str, Any], known: _Known, time_ns: int) -> list[str]:
    found = []
    author, failed = known.author, _failed(known)
    if not author:
        found.append("it was never proposed")
    if author and any(who == author for who, _ in known.approvals):
        found.append("its author approved it")
    if author and author == row["promoter"]:
        found.append("its author put it to use")
    if any(w.get("by") == author and w.get("rule") in failed for w in known.waivers):
        found.append("its author waived a rule that it does not meet")
    if known.run is None:
        found.append("it was never checked")
    else:
        if row["green"] and failed:
            found.append("its last check run calls itself green, and a blocking check is not")
        back = row["event"] == "release.rolled_back"  # to what was green when it was approved
        if not back and (_open(known, time_ns) or (not row["green"] and not failed)):
            found.append("its last check run is not green and nothing was waived")
    found += [f"{who} approved it with no green check run before" for who in known.early]
    if not known.enough:
        found.append(f"it has fewer than {row['approvals_needed']} approvals by others")
    if known.ended:
        found.append(f"it was {known.ended} when it was put to use")
    return found


def changes_jsonl(rows: Sequence[Mapping[str, Any]]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)


def changes_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """RFC 4180, for a spreadsheet; a cell that a spreadsheet would run as a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([plain_cell(row[column]) for column in COLUMNS])
    return out.getvalue()


def plain_cell(value: Any) -> str:
    """A cell as text that no spreadsheet takes for a formula."""
    text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
