"""index.html of an evidence folder: readable by anybody, printable, with no reference to anything outside."""

from __future__ import annotations

from html import escape
from typing import Any

SHOWN = 200
"""Decisions listed on the page; all of them are in decisions.jsonl."""

STYLE = """
:root{color-scheme:light dark;--ink:#1b2430;--soft:#5b6675;--line:#d6dce4;--paper:#fff;--accent:#1d4e89}
@media(prefers-color-scheme:dark){:root{--ink:#e8ecf1;--soft:#9aa7b6;--line:#33404f;--paper:#141a21;--accent:#7fb2ec}}
*{box-sizing:border-box}body{margin:0 auto;max-width:62rem;padding:2rem 1.25rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}h1{font-size:1.7rem;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2.2rem 0 .5rem;
border-bottom:1px solid var(--line);padding-bottom:.3rem}p{margin:.4rem 0}.soft{color:var(--soft)}
table{border-collapse:collapse;width:100%;font-size:.92rem}th{text-align:left;color:var(--soft);font-weight:600}
td,th{padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n{font-variant-numeric:tabular-nums;text-align:right}code,pre{font:0.86rem/1.45 ui-monospace,monospace}
code{overflow-wrap:anywhere}pre{white-space:pre-wrap;border-left:3px solid var(--line);padding-left:1rem}
.wide{overflow-x:auto}.outcome{font-weight:600}a{color:var(--accent)}
@media print{body{max-width:none;padding:0;font-size:11pt}h2{break-after:avoid}tr{break-inside:avoid}pre{font-size:8pt}}
"""


def page(
    scope: dict[str, Any],
    decisions: list[dict[str, Any]],
    releases: list[dict[str, Any]],
    events: list[dict[str, Any]],
) -> str:
    """The page for a scope, its decisions, the releases behind them, and the control log's events."""
    from fiduciary.evidence._verify_folder import time_text

    if scope["kind"] == "decisions":
        title = "Evidence of " + ("one decision" if len(decisions) == 1 else f"{len(decisions)} decisions")
        about = ", ".join(scope["decisions"][:20])
    else:
        title = f"Evidence of use case {scope['use_case']}"
        about = (
            f"all decisions from {time_text(scope['since_ns'])[:19]}Z to {time_text(scope['until_ns'])[:19]}Z"
        )
    parts = [
        f"<h1>{escape(title)}</h1><p class=soft>{escape(about)} &middot; {escape(scope['home'])}</p>",
        "<h2>How to check it</h2><p>You need nothing from the institution: on any machine with Python 3, with no "
        "network, run</p><pre>python3 verify.py</pre><p>It checks every file, signature and proof, that nothing "
        "was left out, who approved the model, and decides scorecard decisions again. Compare the log key it "
        "prints with one that the institution has published. This page is a rendering; what is proved is in "
        "<code>decisions.jsonl</code> and <code>events.jsonl</code>.</p>",
        "<h2>Decisions</h2>",
        _decisions(decisions),
    ]
    if len(decisions) == 1 and decisions[0].get("reasons"):
        parts += ["<h2>Reasons given</h2>", _reasons(decisions[0])]
    parts.append("<h2>Who approved what</h2>")
    parts.append(_approvals(events, time_text))
    for release in releases:
        parts.append(f"<h2>Release {escape(release['name'])}@{escape(release['version'])}</h2>")
        parts.append(f"<p><code>{escape(release['release'])}</code></p><pre>{escape(release['card'])}</pre>")
    body = "".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def _table(head: list[str], rows: list[str]) -> str:
    cells = "".join(f"<th scope=col>{escape(h)}</th>" for h in head)
    return (
        f"<div class=wide><table><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _decisions(decisions: list[dict[str, Any]]) -> str:
    rows = []
    for d in decisions[:SHOWN]:
        score = f"{d['score']:.4f}" if isinstance(d.get("score"), float) else "&ndash;"
        rows.append(
            f"<tr><td><code>{escape(d['id'])}</code></td><td>{escape(d['time'][:19])}Z</td>"
            f"<td class=outcome>{escape(str(d.get('outcome', '')))}</td><td class=n>{score}</td>"
            f"<td>{escape(str(d.get('caller', '')))}</td></tr>"
        )
    more = f"<p class=soft>and {len(decisions) - SHOWN} more</p>" if len(decisions) > SHOWN else ""
    return _table(["Record", "Time", "Outcome", "Score", "Asked by"], rows) + more


def _reasons(decision: dict[str, Any]) -> str:
    rows = [
        f"<tr><td>{escape(r['text'])}</td><td class=n>{r['contribution']:+.4f}</td></tr>"
        for r in decision["reasons"]
    ]
    note = (
        f"<p class=soft>Each number is how far the item moved the score (log-odds) from the mean of the approved "
        f"population, {decision['baseline']:.4f}; this decision's is {decision['margin']:.4f}.</p>"
    )
    return _table(["What counted against the applicant", "Weight"], rows) + note


def _approvals(events: list[dict[str, Any]], time_text: Any) -> str:
    rows = []
    for event in events:
        payload = event["payload"]
        name = str(payload.get("event", ""))
        if not name.startswith(("release.", "usecase.", "party.")):
            continue
        what = str(payload.get("release") or payload.get("party") or payload.get("use_case") or "")
        why = str(payload.get("note") or payload.get("reason") or "")
        rows.append(
            f"<tr><td>{escape(time_text(event['time_ns'])[:19])}Z</td><td>{escape(name)}</td>"
            f"<td>{escape(str(payload.get('by', '')))}</td><td><code>{escape(what[:19])}</code></td>"
            f"<td>{escape(why)}</td></tr>"
        )
    return _table(["Time", "Event", "By", "About", "Note"], rows)
