"""Writes the pages that say what the shipped packs say (`make pack-docs`); tests/rules holds them fresh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from fiduciary import rules
from fiduciary.checks import CATALOGUE
from fiduciary.rules import Pack, PackRule

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "src" / "fiduciary" / "rules"
PACKS = rules.shipped_packs()
FILES = {
    "discrimination": "checks/test_discrimination.py",
    "calibration": "checks/test_calibration.py",
    "stability": "checks/test_stability.py",
    "basel": "checks/test_basel.py",
    "data": "checks/test_data.py",
    "performance": "checks/test_data.py",
    "fairness": "checks_fair",
    "reasons": "checks_fair",
    "robustness": "checks_robust",
    "privacy": "checks_robust",
}


def held_by(control: str) -> list[tuple[Pack, PackRule]]:
    return [(pack, rule) for pack in PACKS for rule in pack.rules if control in rule.controls]


def controls() -> str:
    lines = [
        "# The hundred duties and what holds each",
        "",
        "Written by `make pack-docs` from the shipped [packs](packs.md). A duty is held by one or more rules; a",
        "rule runs a check of the [catalogue](checks.md) and carries its own tests, a passing and a failing one.",
        "Where the check only looks for a filed document (`approval.attested`, `document.attested`), the evidence",
        "is what a person must add.",
        "**No pack has been reviewed by counsel, and nothing here is legal advice.**",
        "",
        "| duty | what it asks | written in | rules (stage, severity) | check: kind | tests |",
        "|---|---|---|---|---|---|",
    ]
    for control in (RULES / "controls.txt").read_text().split():
        found = held_by(control)
        duty, cite = found[0][1].duty, found[0][1].cite
        source = next(s.title for s in found[0][0].sources if s.id == found[0][1].source)
        named = "; ".join(f"{p.pack}/{r.id} ({r.stage}, {r.severity})" for p, r in found)
        checks = "; ".join(dict.fromkeys(f"`{r.check}`: {CATALOGUE[r.check].kind}" for _, r in found))
        tests = "; ".join(dict.fromkeys(_tests(r) for _, r in found))
        lines.append(f"| `{control}` | {duty} | {source}, {cite} | {named} | {checks} | {tests} |")
    return "\n".join(lines) + "\n"


def _tests(rule: PackRule) -> str:
    own = ", ".join(test.name for test in rule.tests)
    area = FILES.get(rule.check.split(".")[0], "")
    there = (area and any((ROOT / "tests" / area).glob("*.py"))) or (
        area and (ROOT / "tests" / area).exists()
    )
    return f"rules/test_packs.py ({own})" + (f", {area}" if there else "")


def frameworks() -> str:
    document: Any = rules.read_yaml((RULES / "frameworks.yaml").read_bytes())
    lines = [
        "# FINOS and NIST: what answers each item",
        "",
        "Written by `make pack-docs` from `rules/frameworks.yaml` and the `maps` of the shipped packs. *Not",
        "answered yet* is said where it is so.",
    ]
    for key, framework in document.items():
        lines += ["", f"## {framework['title']}", "", f"Edition: {framework['edition']}.", ""]
        lines += ["| item | in our words | what answers it | rules that name it |", "|---|---|---|---|"]
        for item, said in framework["items"].items():
            named = sorted({f"`{r.id}`" for p in PACKS for r in p.rules if item in r.maps.get(key, [])})
            shown = ", ".join(named[:8]) + (f" and {len(named) - 8} more" if len(named) > 8 else "")
            lines.append(f"| {item} | {said['title']} | {said['by']} | {shown or '-'} |")
    return "\n".join(lines) + "\n"


def schema() -> str:
    found = msgspec.json.schema(Pack)
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "Fiduciary rule pack"
    return json.dumps(found, indent=1) + "\n"


def pages() -> dict[str, str]:
    return {
        "docs/controls.md": controls(),
        "docs/frameworks.md": frameworks(),
        "docs/formats/pack.schema.json": schema(),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        (ROOT / path).write_text(text)
