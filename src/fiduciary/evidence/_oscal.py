"""Check runs as an OSCAL assessment-results document (NIST OSCAL 1.1.2, JSON), for tools that read that format.

Written by ourselves from the check runs on the control log: one result a run, one observation a check, one finding a
rule of a pack. OSCAL knows nothing of metrics, so numbers go into properties of our own namespace. Identifiers are
UUIDs derived from what they name, so the same folder gives the same bytes. What is unknown is not satisfied.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

VERSION = "1.1.2"
NAMESPACE = "urn:fiduciary:oscal"
_ROOT = uuid.uuid5(uuid.NAMESPACE_URL, NAMESPACE)
NUMBERS = ("value", "threshold")
MAX_TEXT = 500

Run = Mapping[str, Any]


def assessment_results(
    home: str, created: str, releases: Sequence[Mapping[str, Any]], runs: Sequence[Run]
) -> str:
    """The document as JSON text. `created`: RFC 3339. `runs`: as `_reports.check_runs` gives them."""
    names = {r["release"]: f"{r['name']}@{r['version']}" for r in releases}
    shown = [run for run in runs if run["release"] in names]
    people = sorted({str(run["by"]) for run in shown if run["by"]} | {str(r["author"]) for r in releases})
    document = {
        "assessment-results": {
            "uuid": _id("results", home, created),
            "metadata": {
                "title": f"Release checks of {home}",
                "last-modified": created,
                "version": created,
                "oscal-version": VERSION,
                "roles": [{"id": "assessor", "title": "Who ran the checks"}],
                "parties": [{"uuid": _id("party", home, p), "type": "person", "name": p} for p in people],
            },
            "import-ap": {"href": "#" + _id("plan", home)},
            "results": [_result(home, run, names[run["release"]]) for run in shown]
            or [_nothing(home, created)],
            "back-matter": {
                "resources": [
                    {
                        "uuid": _id("plan", home),
                        "title": "Rule packs in force",
                        "description": "The packs of the folder (packs/) say which rules were run, and on what.",
                    }
                ]
            },
        }
    }
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _id(*parts: str) -> str:
    return str(uuid.uuid5(_ROOT, "\x1f".join(parts)))


def _controls(results: Sequence[Run]) -> list[dict[str, str]]:
    return [{"control-id": r} for r in sorted({_token(str(x["rule"])) for x in results if x.get("rule")})]


def _token(text: str) -> str:
    """An OSCAL token: it begins with a letter or underscore."""
    plain = "".join(c if c.isalnum() or c in "._-" else "-" for c in text)
    return plain if plain[:1].isalpha() or plain[:1] == "_" else "_" + plain


def _nothing(home: str, created: str) -> dict[str, Any]:
    return {
        "uuid": _id("result", home, "none"),
        "title": "No check run",
        "description": "No check run of these releases is on the control log.",
        "start": created,
        "reviewed-controls": {"control-selections": [{"include-all": {}}]},
    }


def _result(home: str, run: Run, name: str) -> dict[str, Any]:
    key = f"{home}/control.{run['index']}"
    included = _controls(run["results"])
    found: dict[str, Any] = {
        "uuid": _id("result", key),
        "title": f"Checks of {name}",
        "description": f"Record control.{run['index']}, release {run['release']}.",
        "start": run["time"],
        "end": run["time"],
        "props": [
            {"name": "release", "ns": NAMESPACE, "value": run["release"]},
            *([{"name": "rulebook", "ns": NAMESPACE, "value": run["rulebook"]}] if run["rulebook"] else []),
        ],
        "reviewed-controls": {
            "control-selections": [{"include-controls": included} if included else {"include-all": {}}]
        },
        "observations": [_observation(key, run, i, r) for i, r in enumerate(run["results"])],
    }
    findings = [_finding(key, i, r) for i, r in enumerate(run["results"]) if r.get("rule")]
    return {**found, **({"findings": findings} if findings else {})}


def _observation(key: str, run: Run, i: int, result: Run) -> dict[str, Any]:
    props = [
        {"name": "check", "ns": NAMESPACE, "value": str(result["name"])},
        {"name": "severity", "ns": NAMESPACE, "value": str(result.get("severity", "block"))},
        {"name": "result", "ns": NAMESPACE, "value": _word(result)},
    ]
    for name in NUMBERS:
        if isinstance(result.get(name), int | float):
            props.append({"name": name, "ns": NAMESPACE, "value": repr(result[name])})
    if result.get("unit"):
        props.append({"name": "unit", "ns": NAMESPACE, "value": str(result["unit"])})
    return {
        "uuid": _id("observation", key, str(i)),
        "title": str(result["name"]),
        "description": str(result.get("detail") or result["name"])[:MAX_TEXT],
        "methods": ["TEST"],
        "collected": run["time"],
        "props": props,
    }


def _finding(key: str, i: int, result: Run) -> dict[str, Any]:
    holds = result.get("ok") is True
    status: dict[str, Any] = {"state": "satisfied" if holds else "not-satisfied"}
    if not holds:
        status["reason"] = "fail" if result.get("ok") is False else "other"
        if result.get("lacking"):
            status["remarks"] = f"Not judged: {result['lacking']} needed."[:MAX_TEXT]
    return {
        "uuid": _id("finding", key, str(i)),
        "title": str(result["rule"]),
        "description": str(result.get("detail") or result["name"])[:MAX_TEXT],
        "target": {"type": "objective-id", "target-id": _token(str(result["rule"])), "status": status},
        "related-observations": [{"observation-uuid": _id("observation", key, str(i))}],
    }


def _word(result: Run) -> str:
    ok = result.get("ok")
    return "pass" if ok is True else "fail" if ok is False else "unknown"
