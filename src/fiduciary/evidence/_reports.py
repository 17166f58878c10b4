"""Reports for people that are cut beside the proved content: the model validation report and the technical file.

Both are made from the release's own files and from the check runs on the control log, and say plainly what nobody has
stated: an empty section is listed as empty, never filled with words. The verifier holds them to their digest in the
manifest and to nothing else, and says so; what they quote is proved in checks.jsonl and releases/.

Sections of the technical file: Regulation (EU) 2024/1689, Annex IV, points 1 to 9. The validation report follows the
order of SR 26-2 and SS1/23: what the model is for, what was tested, what was found, who approved, what is open.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fiduciary.checks import CATALOGUE
from fiduciary.evidence import _verify_folder as offline
from fiduciary.models import Contract

Run = Mapping[str, Any]
NOT_STATED = "Not stated."
GROUPS = {
    "discrimination": "Does it order risk?",
    "calibration": "Are its probabilities right?",
    "performance": "Does it do what was declared?",
    "stability": "Is the population still the one it was built on?",
    "fairness": "Does it treat groups alike?",
    "reasons": "Are its reasons true, specific and readable?",
    "robustness": "Can it be turned?",
    "privacy": "What does it give away?",
    "data": "Is the data what it is said to be?",
    "basel": "Does it meet the capital rules?",
}


def check_runs(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every check run on the control log as the exports read it: release, time, by whom, rulebook, results."""
    return [
        {
            "release": e["payload"]["release"],
            "index": e["index"],
            "time": offline.time_text(e["time_ns"]),
            "by": str(e["payload"].get("by", "")),
            "rulebook": str(e["payload"].get("rulebook", "")),
            "results": e["payload"]["results"],
        }
        for e in events
        if e["payload"].get("event") == "release.checked"
    ]


def validation_report(
    release: Mapping[str, Any], runs: Sequence[Run], events: Sequence[Mapping[str, Any]], created: str
) -> str:
    """`reports/NAME-VERSION.validation.html`: what was tested of a release, what was found and what is open."""
    name = f"{release['name']}@{release['version']}"
    own = [run for run in runs if run["release"] == release["release"]]
    parts = [
        f"<h1>Validation report: {_(name)}</h1>",
        f"<p class=soft>{_(release['family'])} for use case {_(release['use_case'])}; {_(release['release'])}; "
        f"written {_(created[:10])} from the control log.</p>",
        "<h2>Who built it and who approved it</h2>",
        f"<p>Built by {_(release['author'])}. Approved by {_(', '.join(release['approved_by']) or 'nobody yet')}. "
        f"State when cut: {_(release['state_when_cut'])}.</p>",
    ]
    if not own:
        return _page(f"Validation report {name}", [*parts, "<p class=flag>No check run is recorded.</p>"])
    last = own[-1]
    failing = [r for r in last["results"] if r.get("ok") is False]
    unknown = [r for r in last["results"] if r.get("ok") is None]
    parts += [
        "<h2>In short</h2>",
        f"<p>{len(last['results'])} results on {_(last['time'][:10])} by {_(last['by'])}: "
        f"{len(last['results']) - len(failing) - len(unknown)} hold, {len(failing)} do not, {len(unknown)} could "
        f"not be judged. {len(own)} run{'s' if len(own) > 1 else ''} in all.</p>",
    ]
    if failing or unknown:
        rows = [
            [_label(r), str(r.get("lacking") or r.get("detail", "")), _word(r)] for r in [*failing, *unknown]
        ]
        parts += ["<h3>Open</h3>", _table(["Rule or check", "What", "Result"], rows)]
    for group, question in GROUPS.items():
        found = [r for r in last["results"] if str(r["name"]).split(".")[0] == group]
        if found:
            parts += [f"<h2>{_(question)}</h2>", _table(*_results(found))]
    rest = [r for r in last["results"] if str(r["name"]).split(".")[0] not in GROUPS]
    if rest:
        parts += ["<h2>The other checks</h2>", _table(*_results(rest))]
    about = ("finding.", "waiver.", "overlay.")
    open_ = [
        [
            offline.time_text(e["time_ns"])[:10],
            str(e["payload"]["event"]),
            str(e["payload"].get("by", "")),
            _text(e),
        ]
        for e in events
        if str(e["payload"].get("event", "")).startswith(about)
        and e["payload"].get("release", release["release"]) == release["release"]
        and e["payload"].get("use_case", release["use_case"]) == release["use_case"]
    ]
    parts += ["<h2>Findings, waivers, overlays</h2>"]
    parts.append(_table(["Day", "Event", "By", "What"], open_) if open_ else "<p>None are recorded.</p>")
    return _page(f"Validation report {name}", parts)


def technical_file(
    release: Mapping[str, Any],
    files: Mapping[str, bytes],
    use_case: Mapping[str, Any],
    runs: Sequence[Run],
    attested: Sequence[str],
    created: str,
) -> str:
    """`reports/NAME-VERSION.technical-file.html`: the sections of Annex IV, from what is there; gaps said plainly.

    `attested`: kinds of documents on file for the use case. `files`: the release's bundle.
    """
    name = f"{release['name']}@{release['version']}"
    contract = Contract.from_json(files["contract.json"])
    provenance = json.loads(files["provenance.json"])
    last = next((r for r in reversed(runs) if r["release"] == release["release"]), None)
    measured = [
        f"{r['name']}: {r['value']:.4g}{' ' + r['unit'] if r.get('unit') else ''} ({_word(r)})"
        for r in (last["results"] if last else [])
        if isinstance(r.get("value"), int | float) and str(r["name"]).split(".")[0] in GROUPS
    ]
    inputs = [
        f"{f.name}: {f.type}{', ' + f.unit if f.unit else ''}; {f.purpose or 'purpose not stated'}"
        for f in contract.features
    ]
    reviewers = [*map(str, use_case.get("reviewers") or []), str(use_case.get("oversight_person") or "")]
    sections: list[tuple[str, list[str]]] = [
        ("1(a) Intended purpose, provider, version", _said(use_case.get("purpose"), release["author"], name)),
        ("1(b) How it interacts with other systems", _said(_attribute(use_case, "interaction"))),
        ("1(c) Software and firmware versions", [f"release {release['release']}", f"family {release['family']}"]),
        ("1(e) Hardware it is to run on", _said(_attribute(use_case, "hardware"))),
        ("1(h) Instructions for use", _filed(attested, "instructions")),
        ("2(a) Methods and steps of development", _said(provenance.get("training"), provenance.get("code"))),
        ("2(b) Design: inputs and what they may be used for", inputs),
        ("2(b) Design: what is optimised, cut-offs", [
            f"approve at {use_case.get('approve_below')}, decline at {use_case.get('decline_from')} "
            f"(adverse: {use_case.get('adverse')})"
        ]),
        ("2(d) Data: origin, scope, preparation", _said(*[f"{k}: {v}" for k, v in sorted(provenance.items())])),
        ("2(e) Human oversight", _said(*reviewers)),
        ("2(g) Validation and testing", measured or [NOT_STATED]),
        ("2(h) Cybersecurity", _prefixed(measured, ("robustness", "privacy"))),
        ("3 Monitoring, functioning, control; foreseeable unintended outcomes", _filed(attested, "monitoring-plan")),
        ("4 Appropriateness of the performance metrics", _said(_attribute(use_case, "metrics_reason"))),
        ("5 Risk management system", _filed(attested, "risk-register")),
        ("6 Changes through the life cycle", [f"every change is an event; this file is of {created[:10]}"]),
        ("7 Harmonised standards applied", _said(_attribute(use_case, "standards"))),
        ("8 EU declaration of conformity", _filed(attested, "eu-declaration")),
        ("9 Post-market monitoring plan", _filed(attested, "monitoring-plan")),
    ]  # fmt: skip
    gaps = [title for title, lines in sections if lines == [NOT_STATED]]
    parts = [
        f"<h1>Technical file: {_(name)}</h1>",
        "<p class=soft>Regulation (EU) 2024/1689, Article 11 and Annex IV; made from the release, its use case and "
        f"the control log on {_(created[:10])}.</p>",
        "<h2>What is not stated</h2>",
        "<ul>" + "".join(f"<li>{_(g)}</li>" for g in gaps) + "</ul>"
        if gaps
        else "<p>Nothing is left open.</p>",
    ]
    for title, lines in sections:
        body = "".join(f"<li>{_(line)}</li>" for line in lines)
        flag = ' class="flag"' if lines == [NOT_STATED] else ""
        parts.append(f"<h2>{_(title)}</h2><ul{flag}>{body}</ul>")
    return _page(f"Technical file {name}", parts)


def _said(*values: Any) -> list[str]:
    found = [str(v) for v in values if v not in (None, "", [], {})]
    return found or [NOT_STATED]


def _attribute(use_case: Mapping[str, Any], name: str) -> str:
    return str((use_case.get("attributes") or {}).get(name, ""))


def _filed(attested: Sequence[str], kind: str) -> list[str]:
    return (
        [f"a document of kind {kind} is on file; its digest is on the control log"]
        if kind in attested
        else [NOT_STATED]
    )


def _prefixed(lines: Sequence[str], prefixes: tuple[str, ...]) -> list[str]:
    return [line for line in lines if line.startswith(prefixes)] or [NOT_STATED]


def _results(results: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for r in results:
        value, interval, limit = r.get("value"), r.get("interval"), r.get("threshold")
        number = f"{value:.4g}" if isinstance(value, int | float) else ""
        if isinstance(interval, list | tuple) and len(interval) == 2:
            number += f" ({interval[0]:.4g} to {interval[1]:.4g})"
        check = CATALOGUE.get(str(r["name"]))
        source = check.source if check is not None and "." in str(r["name"]) else ""
        held = f"{limit:.4g}" if isinstance(limit, int | float) else ""
        rows.append([_label(r), _word(r), number, held, str(r.get("detail", "")), source])
    return ["Rule or check", "Result", "Number (interval)", "Held against", "In words", "Source"], rows


def _label(result: Run) -> str:
    rule = str(result.get("rule", ""))
    return f"{rule} ({result['name']})" if rule else str(result["name"])


def _word(result: Run) -> str:
    return {True: "holds", False: "does not hold"}.get(result.get("ok"), "not judged")  # type: ignore[arg-type]


def _text(event: Mapping[str, Any]) -> str:
    payload = event["payload"]
    names = ("rule", "finding", "overlay", "title", "reason", "severity", "due", "expires")
    return "; ".join(f"{n}: {payload[n]}" for n in names if payload.get(n))


def _(text: Any) -> str:
    return html.escape(str(text))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th scope=col>{_(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{_(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def _page(title: str, parts: Sequence[str]) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_(title)}</title><style>{offline.STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def file_name(release: Mapping[str, Any]) -> str:
    """The stem of a release's reports: name and version, of characters that every file system takes."""
    raw = f"{release['name']}-{release['version']}-{str(release['release'])[7:15]}"
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in raw).lstrip(".") or "release"


def attested_kinds(events: Sequence[Mapping[str, Any]], use_case: str, day: str) -> list[str]:
    """Kinds of documents on file for a use case (or for all) that still count on a day."""
    return sorted(
        {
            str(e["payload"]["kind"])
            for e in events
            if e["payload"].get("event") == "attestation.filed"
            and e["payload"].get("use_case") in ("", use_case)
            and (not e["payload"].get("expires") or day < e["payload"]["expires"])
        }
    )
