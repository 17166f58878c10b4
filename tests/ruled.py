"""A bank whose use case is governed by plain packs: documents that say outright what they oblige the gate to.

What `fiduciary.rules` makes of real packs is tested with it; here its place is taken, so that every obligation can be
tried by itself, on any day.
"""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from bank import DEVELOPER, OFFICER, OPERATOR, USE_CASE, VALIDATOR, Bank
from fiduciary.registry import UseCase, _registry, digest_text

RELEASE_RULE = {"rule": "auc", "stage": "release", "severity": "block"}


def pack(name: str = "eu-credit", version: str = "1", **obligations: Any) -> dict[str, Any]:
    """A document of a plain pack: one blocking release rule, and obligations."""
    return {
        "pack": name,
        "version": version,
        "obligations": obligations,
        "rules": [RELEASE_RULE],
        "until": "",
    }


def resolve_plainly(adopted: Any, use_case: UseCase, today: str) -> Any:
    obligations: dict[str, Any] = {}
    rules = []
    until = ""
    for a in adopted:
        obligations |= a.document["obligations"]
        until = until or a.document["until"]
        for r in a.document["rules"]:
            rules.append(
                SimpleNamespace(**{**r, "id": r["rule"], "pack": a.pack, "version": a.version, "check": "x"})
            )
    return SimpleNamespace(
        rules=rules,
        obligations=obligations,
        valid_from=date(2026, 1, 1),
        valid_until=date.fromisoformat(until) if until and today < until else None,
    )


def plainly(patch: pytest.MonkeyPatch) -> None:
    """Let registries resolve plain packs."""
    patch.setattr(_registry, "resolve_rules", resolve_plainly)
    patch.setattr(_registry, "check_pack", lambda document: None)


class RuledBank(Bank):
    """`govern` puts the use case under packs; `passing` takes a release through their checks to live."""

    def govern(self, *documents: dict[str, Any], **more: Any) -> UseCase:
        for document in documents:
            self.registry.adopt_pack(document, by=OFFICER, key=self.keys[OFFICER])
        names = [str(d["pack"]) for d in documents]
        use_case = msgspec.structs.replace(USE_CASE, **{"packs": names, **more})
        self.registry.define_use_case(use_case, by=OFFICER, key=self.keys[OFFICER])
        return use_case

    def run_checks(self, digest: str, ok: bool | None = True, by: str = DEVELOPER) -> str:
        """Run the checks of the rulebook in force; returns its digest."""
        book = self.registry.announce(USE_CASE.name, by=by)
        more = [
            {
                "name": "discrimination.auc",
                "ok": ok,
                **{k: r[k] for k in ("rule", "pack", "version", "severity")},
            }
            for r in book.in_force
            if r["stage"] == "release"
        ]
        data = {"sample": digest_text(b"sample")}
        self.registry.check(digest, by=by, key=self.keys[by], more=more, rulebook=book.digest, data=data)
        return book.digest

    def approve(self, digest: str, by: str = VALIDATOR) -> None:
        self.registry.approve(digest, by=by, key=self.keys[by], note="challenged, holds")

    def promote(self, digest: str, by: str = OPERATOR) -> None:
        self.registry.promote(digest, by=by, key=self.keys[by])

    def passing(self, version: str = "1.0.0", shift: float = 0.0) -> str:
        digest = self.proposed(version, shift)
        self.run_checks(digest)
        self.approve(digest)
        self.promote(digest)
        return digest
