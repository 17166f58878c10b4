"""From the packs in force here to the rulebook of a use case on a day, in the words of the control log.

Which rules bind is computed by `fiduciary.rules` from the documents that `pack.adopted` events carry. What it found
is then announced (`rules.resolved`), and everything later (a check run, a decision, a replay, an outsider) goes by
the announcement: a newer program that would resolve otherwise does not change what was in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import msgspec

from fiduciary.registry._state import Adopted
from fiduciary.registry._use_case import UseCase

RESOLVER = "fiduciary.resolve/1"
"""The way rules are resolved, by name: an outsider's verifier does it again for those it knows. A change of
`rules.resolve` or its obligations that could give another rulebook takes another name."""


def resolve_rules(adopted: Iterable[Adopted], use_case: UseCase, today: str) -> Any:
    """The `rules.Rulebook` of a use case on a UTC date. Raises `UsageError` when a pack cannot be read."""
    from fiduciary import rules

    packs = [rules.pack_from_document(a.document) for a in adopted]
    return rules.resolve(packs, at=date.fromisoformat(today), use_case=use_case.document)


def check_pack(document: Mapping[str, Any]) -> None:
    """Raises `UsageError` when a document is no pack that this program knows how to obey."""
    from fiduciary import rules

    rules.pack_from_document(document)


def rules_document(found: Any) -> dict[str, Any]:
    """What `rules.resolved` says of a `rules.Rulebook`: its rules, obligations and days, as JSON values."""
    return {
        "in_force": [
            {
                "rule": r.id,
                "pack": r.pack,
                "version": r.version,
                "stage": r.stage,
                "severity": r.severity,
                "check": r.check,
                **{name: str(getattr(r, name, "")) for name in ("status", "cite", "duty")},
            }
            for r in found.rules
        ],
        "obligations": msgspec.json.decode(msgspec.json.encode(found.obligations)),
        "resolver": RESOLVER,
        "valid_from": found.valid_from.isoformat(),
        "valid_until": found.valid_until.isoformat() if found.valid_until else "",
    }
