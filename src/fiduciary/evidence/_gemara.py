"""Check runs as a Gemara evaluation log (YAML), the format of FINOS' and OpenSSF's control catalogues.

After the published schema of the evaluation log (evaluationlog.cue and what it uses, edition of 2026): one evaluation
a rule, one assessment log a run of it. Results are Passed, Failed and Needs Review; what could not be judged needs
review.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

Run = Mapping[str, Any]
RANK = ("Passed", "Not Applicable", "Unknown", "Not Run", "Needs Review", "Failed")
"""From the best to the worst: the result of several is the worst of them."""


def evaluation_log(
    home: str, created: str, releases: Sequence[Mapping[str, Any]], runs: Sequence[Run]
) -> str:
    """The document as YAML text; empty text where no rule of a pack was run (the schema asks for one evaluation)."""
    names = {r["release"]: f"{r['name']}@{r['version']}" for r in releases}
    evaluations: dict[tuple[str, str], list[dict[str, Any]]] = {}
    checks: dict[tuple[str, str], str] = {}
    packs: dict[str, str] = {}
    for run in runs:
        if run["release"] not in names:
            continue
        for result in run["results"]:
            if not result.get("rule") or not result.get("pack"):
                continue
            pack, rule = str(result["pack"]), str(result["rule"])
            packs[pack] = str(result.get("version", ""))
            checks[pack, rule] = str(result["name"])
            evaluations.setdefault((pack, rule), []).append(_log(run, result, pack, names[run["release"]]))
    if not evaluations:
        return ""
    listed = [
        _evaluation(pack, rule, checks[pack, rule], logs)
        for (pack, rule), logs in sorted(evaluations.items())
    ]
    document = {
        "metadata": {
            "id": f"{home}-{created[:10]}",
            "type": "EvaluationLog",
            "version": created,
            "date": created[:10],
            "description": f"Release checks of {home}, from its control log",
            "author": {"id": "fiduciary", "name": "Fiduciary", "type": "Software"},
            "mapping-references": [
                {"id": pack, "title": f"Rule pack {pack}", "version": version or "unknown"}
                for pack, version in sorted(packs.items())
            ],
        },
        "target": {"id": home, "name": home, "type": "Software"},
        "result": _worst([e["result"] for e in listed]),
        "evaluations": listed,
    }
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
    return text


def _evaluation(pack: str, rule: str, check: str, logs: list[dict[str, Any]]) -> dict[str, Any]:
    result = _worst([log["result"] for log in logs])
    return {
        "name": rule,
        "result": result,
        "message": f"{check}: {result}",
        "control": {"reference-id": pack, "entry-id": rule},
        "assessment-logs": logs,
    }


def _log(run: Run, result: Run, pack: str, name: str) -> dict[str, Any]:
    lacking = str(result.get("lacking", ""))
    found: dict[str, Any] = {
        "requirement": {"reference-id": pack, "entry-id": str(result["rule"])},
        "description": f"{result['name']} on {name}, record control.{run['index']}",
        "result": _word(result),
        "message": str(result.get("detail") or result["name"]),
        "applicability": [name],
        "steps": [str(result["name"])],
        "steps-executed": 1,
        "start": _whole_seconds(str(run["time"])),
        "end": _whole_seconds(str(run["time"])),
    }
    if lacking:
        found["recommendation"] = f"add {lacking}"
    return found


def _word(result: Run) -> str:
    ok = result.get("ok")
    return "Passed" if ok is True else "Failed" if ok is False else "Needs Review"


def _worst(results: Sequence[str]) -> str:
    return max(results, key=RANK.index)


def _whole_seconds(time: str) -> str:
    """RFC 3339 without a fraction: the schema's time format has none."""
    return time[:19] + "Z"
