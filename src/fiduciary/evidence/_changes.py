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

from fiduciary.evidence import _verify_folder as offline

Event = Mapping[str, Any]
PUT_TO_USE = ("release.promoted", "release.shadowed", "release.rolled_back")
COLUMNS = (
    "record", "time", "event", "use_case", "release", "name", "version", "author", "promoter", "checked", "green",
    "rulebook", "approvers", "approvals_needed", "waivers", "note", "violations",
)  # fmt: skip


def changes(events: Sequence[Event]) -> list[dict[str, Any]]:
    """One row for each promotion, shadow and roll-back, in order of the log."""
    proposed: dict[str, Mapping[str, Any]] = {}
    runs: dict[str, tuple[int, Mapping[str, Any]]] = {}
    approvals: dict[str, list[tuple[int, str, str]]] = {}
    waivers: dict[str, list[str]] = {}
    needed: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    for event in events:
        payload, index, when = event["payload"], event["index"], offline.time_text(event["time_ns"])
        name, release = str(payload.get("event", "")), str(payload.get("release", ""))
        if name == "usecase.defined":
            needed[str(payload["use_case"])] = int(payload["document"].get("approvals", 1))
        elif name == "release.proposed":
            proposed[release] = payload
        elif name == "release.checked":
            runs[release] = (index, payload)
        elif name == "release.approved":
            approvals.setdefault(release, []).append((index, str(payload["by"]), when))
        elif name == "waiver.granted":
            waivers.setdefault(release, []).append(
                f"{payload['rule']} until {payload['expires']} by {payload['by']}"
            )
        elif name in PUT_TO_USE:
            said = proposed.get(release, {})
            use_case = str(payload.get("use_case") or said.get("use_case", ""))
            row = {
                "record": f"control.{index}",
                "time": when,
                "event": name,
                "use_case": use_case,
                "release": release,
                "name": str(said.get("name", "")),
                "version": str(said.get("version", "")),
                "author": str(said.get("by", "")),
                "promoter": str(payload.get("by", "")),
                "checked": f"control.{runs[release][0]}" if release in runs else "",
                "green": bool(runs[release][1].get("green")) if release in runs else False,
                "rulebook": str(runs[release][1].get("rulebook", "")) if release in runs else "",
                "approvers": [f"{who} {at}" for _, who, at in approvals.get(release, [])],
                "approvals_needed": needed.get(use_case, 1),
                "waivers": waivers.get(release, []),
                "note": str(payload.get("note") or payload.get("reason") or ""),
            }
            who = [w for _, w, _ in approvals.get(release, [])]
            rows.append({**row, "violations": _violations(row, who)})
    return rows


def _violations(row: Mapping[str, Any], approvers: Sequence[str]) -> list[str]:
    found = []
    if not row["author"]:
        found.append("it was never proposed")
    if row["author"] in approvers:
        found.append("its author approved it")
    if row["author"] and row["author"] == row["promoter"]:
        found.append("its author put it to use")
    if not row["checked"]:
        found.append("it was never checked")
    elif not row["green"] and not row["waivers"]:
        found.append("its last check run is not green and nothing was waived")
    if len(set(approvers) - {row["author"]}) < int(row["approvals_needed"]):
        found.append(f"it has fewer than {row['approvals_needed']} approvals by others")
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
