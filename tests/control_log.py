"""A control log in memory, to write events into past the registry."""

from __future__ import annotations

import base64
from typing import Any

from fiduciary.identity import PartyKey
from fiduciary.registry import (
    REVIEW_TYPE,
    Projection,
    canonical,
    digest_text,
    make_statement,
    pae,
    read_use_case,
    review_statement,
    sign_statement,
)
from fiduciary.registry._statements import NANO

NOW = 1_777_000_000 * NANO
SCOPE = "acme.eu"
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
USE = "consumer-credit"
DOCUMENT = {"name": USE, "purpose": "decide on loans", "approve_below": 0.1, "decline_from": 0.3}


def digest_of(body: dict[str, Any]) -> str:
    return digest_text(canonical(body))


class Control:
    """A control log in memory: signs and folds events, one second apart."""

    def __init__(self) -> None:
        self.state = Projection(SCOPE)
        self.keys: dict[str, PartyKey] = {}
        self.events: list[tuple[int, int, dict[str, Any]]] = []

    def signed(self, event: str, by: str, key: PartyKey | None = None, **body: Any) -> dict[str, Any]:
        key = key or self.keys[by]
        now = NOW + len(self.events) * NANO
        return sign_statement(
            make_statement(event, body, scope=SCOPE, by=by, key_id=key.key_id, signed_ns=now), key
        )

    def put(self, payload: dict[str, Any]) -> bool:
        index = len(self.events)
        self.events.append((index, NOW + index * NANO, payload))
        return self.state.apply(*self.events[-1])

    def do(self, event: str, by: str, **body: Any) -> bool:
        return self.put(self.signed(event, by, **body))

    def why(self) -> str:
        return self.state.anomalies[-1].why

    def enrol(self, name: str, *roles: str, by: str = "olga", kind: str = "person") -> bool:
        key = self.keys.setdefault(name, PartyKey.generate())
        return self.do(
            "party.enrolled", by, party=name, public=key.public.hex(), roles=list(roles), kind=kind
        )

    def define(self, by: str = "olga", **more: Any) -> bool:
        use_case = read_use_case({**DOCUMENT, **more})
        return self.do(
            "usecase.defined", by, use_case=use_case.name, digest=use_case.digest, document=use_case.document
        )

    def propose(
        self, digest: str = A, by: str = "ada", use_case: str = USE, signers: list[str] | None = None
    ) -> bool:
        return self.do(
            "release.proposed",
            by,
            release=digest,
            use_case=use_case,
            name="card",
            version="1",
            family="scorecard",
            signers=signers or [self.keys[by].key_id],
            note="",
        )

    def check(self, digest: str = A, ok: bool = True, by: str = "ada") -> bool:
        return self.do(
            "release.checked", by, release=digest, use_case=USE, green=ok, results=[{"name": "x", "ok": ok}]
        )

    def approve(self, digest: str = A, by: str = "grace", checked: int | None = None) -> bool:
        checks = self.state.releases[digest].checks
        index = checks.index if checks and checked is None else checked
        return self.do("release.approved", by, release=digest, use_case=USE, checked=index, note="")

    def adopt(self, pack: str = "eu-credit", version: str = "1", by: str = "olga", **more: Any) -> bool:
        document = {"pack": pack, "version": version, "rules": [], **more}
        digest = digest_text(canonical(document))
        return self.do(
            "pack.adopted", by, pack=pack, version=version, digest=digest, document=document, note=""
        )

    def adopt_reviewed(self, pack: str = "dora", reviewer: str = "grace", by: str = "olga") -> bool:
        """A pack that says counsel reviewed it, with the signature of who says so."""
        counsel = {"name": "R. Example", "date": "2026-04-01"}
        document = {"pack": pack, "version": "1", "rules": [], "reviewed_by_counsel": counsel}
        key = self.keys[reviewer]
        signature = key.sign(pae(REVIEW_TYPE, review_statement(document)))
        review = {"public": key.public.hex(), "signature": base64.b64encode(signature).decode()}
        digest = digest_of(document)
        body = {
            "pack": pack,
            "version": "1",
            "digest": digest,
            "document": document,
            "note": "",
            "review": review,
        }
        return self.do("pack.adopted", by, **body)

    def book(self, use_case: str = USE, **more: Any) -> dict[str, Any]:
        """What a gate announces: one blocking release rule, one that warns, one of the serving path."""
        use = self.state.uses[use_case]
        packs = [self.state.packs[name] for name in use.use_case.packs if name in self.state.packs]
        first = packs[0].pack if packs else "none"
        version = packs[0].version if packs else ""
        rules = [("auc", "release", "block"), ("drift", "release", "warn"), ("referral", "serve", "block")]
        body = {
            "use_case": use_case,
            "rules": use.digest,
            "packs": [{"pack": a.pack, "version": a.version, "digest": a.digest} for a in packs],
            "in_force": [
                {
                    "rule": r,
                    "pack": first,
                    "version": version,
                    "stage": stage,
                    "severity": severity,
                    "check": "x",
                }
                for r, stage, severity in rules
            ],
            "resolver": "plain",
            "obligations": {},
            "valid_from": "2026-01-01",
            "valid_until": "",
            **more,
        }
        return {"rulebook": digest_of(body), **body}

    def resolve(self, by: str = "gate-0", **more: Any) -> bool:
        return self.put({"event": "rules.resolved", "by": by, "scope": SCOPE, **self.book(**more)})

    def check_rules(
        self, digest: str = A, auc: bool | None = True, by: str = "ada", leave: str = "", **more: Any
    ) -> bool:
        results: list[dict[str, Any]] = [{"name": "reasons_add_up", "ok": True}]
        for rule, ok, severity in (("auc", auc, "block"), ("drift", False, "warn")):
            if rule != leave:
                results.append({"name": rule, "rule": rule, "ok": ok, "severity": severity})
        book = self.state.uses[USE].book
        body = {"results": results, "green": auc is True, "rulebook": book.digest if book else "", **more}
        return self.do("release.checked", by, release=digest, use_case=USE, **body)

    def waive(
        self, by: str = "grace", rule: str = "auc", expires: str = "2026-06-01", release: str = A
    ) -> bool:
        return self.do(
            "waiver.granted", by, release=release, use_case=USE, rule=rule, expires=expires, reason="pilot"
        )

    def act(self, verb: str, digest: str = A, by: str = "otto", **more: Any) -> bool:
        return self.do(f"release.{verb}", by, release=digest, use_case=USE, **{"reason": "why", **more})
