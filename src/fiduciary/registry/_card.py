"""The model card: what the release is, for people, in Markdown, written from the same documents it ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fiduciary.models import Baseline, Contract, Feature
from fiduciary.registry._reference import Reference
from fiduciary.registry._use_case import UseCase


def model_card(
    *,
    name: str,
    version: str,
    family: str,
    use_case: UseCase,
    contract: Contract,
    baseline: Baseline,
    reference: Reference,
    checks: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
) -> str:
    """A card with purpose, inputs, cut-offs, baseline, checks and provenance. All texts are escaped."""
    lines = [
        f"# {_text(name)} {_text(version)}",
        "",
        f"Model family: {family}. Made for use case `{_text(use_case.name)}`: {_text(use_case.purpose)}",
        "",
        "## Use",
        f"- Jurisdictions: {_text(', '.join(use_case.jurisdictions)) or 'not stated'}",
        f"- Tier: {use_case.tier}",
        f"- Adverse end of the score: {use_case.adverse}",
        f"- When it was built: approve {_below(use_case)} {use_case.approve_below}, "
        f"decline {_from(use_case)} {use_case.decline_from}, a person decides in between",
        f"- Reasons: {use_case.reasons}, at most {use_case.reason_count}",
        "",
        "## Inputs",
        "| name | type | unit | allowed | missing | group | protected | why it may be used |",
        "|---|---|---|---|---|---|---|---|",
        *[_row(feature) for feature in contract.features],
        "",
    ]
    if contract.relations:
        lines += ["Relations between inputs:", *[f"- {_text(r.message)}" for r in contract.relations], ""]
    lines += [
        "## Baseline of the reasons",
        f"Reasons are differences to the mean of {baseline.rows} rows: "
        f"{_text(baseline.description) or 'the approved population'}. Mean margin {baseline.margin!r}.",
        "",
        "## Reference for drift",
        f"{reference.rows} rows, binned; see `reference.json`.",
        "",
        "## The developer's checks",
        *([_check(check) for check in checks] or ["None were handed in with the release."]),
        "",
        "## Provenance",
        *([f"- {_text(k)}: {_text(str(v))}" for k, v in sorted(provenance.items())] or ["Not stated."]),
        "",
    ]
    return "\n".join(lines)


def _below(use_case: UseCase) -> str:
    return "below" if use_case.adverse == "high" else "above"


def _from(use_case: UseCase) -> str:
    return "from" if use_case.adverse == "high" else "up to"


def _row(f: Feature) -> str:
    if f.type == "category":
        allowed = f"{len(f.categories)} categories"
    elif f.minimum is None and f.maximum is None:
        allowed = "any"
    else:
        allowed = f"{'' if f.minimum is None else f.minimum} to {'' if f.maximum is None else f.maximum}"
    cells = (f.name, f.type, f.unit, allowed, f.missing, f.group, "yes" if f.protected else "", f.purpose)
    return "| " + " | ".join(_text(cell) for cell in cells) + " |"


def _check(check: Mapping[str, Any]) -> str:
    outcome = "holds" if check.get("ok") else "DOES NOT HOLD"
    detail = str(check.get("detail", ""))
    return f"- {_text(str(check.get('name', '')))}: {outcome}{'. ' + _text(detail) if detail else ''}"


def _text(raw: str) -> str:
    """One line without Markdown's or HTML's special meaning."""
    plain = " ".join(raw.split())
    for character in "\\`*_[]<>|#":
        plain = plain.replace(character, "\\" + character)
    return plain
