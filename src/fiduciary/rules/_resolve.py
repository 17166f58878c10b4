"""From packs to the rulebook of one use case on one day: which rules bind, as they are that day, strictest wins.

A rule binds when its effective time holds the day, its status is one that binds, and it applies to the use case (what
a use case does not say never frees it). A rule id that several packs carry is one rule: the strictest severity wins.
The rulebook is valid from the last day on which anything changed to the next one on which anything will, so days
partition (tests/rules/test_resolve.py). Nothing here depends on the order of the packs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import msgspec

from fiduciary.errors import UsageError
from fiduciary.rules._obligations import Obligations, obligations_of
from fiduciary.rules._pack import (
    SEVERITIES,
    Pack,
    PackRule,
    Severity,
    Stage,
    Status,
    digest_of,
    resolved_params,
)

BINDING: tuple[Status, ...] = (
    "in_force",
    "analogy",
    "voluntary",
    "see_note",
    "adopted",
    "deferred",
    "proposed",
)
"""Statuses that stand in a rulebook while their effective time holds."""
PREVIEW: tuple[Status, ...] = ("proposed", "deferred", "adopted")
"""Of those, the ones that do not bind yet: they are recorded, and block nothing."""
NEVER: tuple[Status, ...] = ("rescinded",)


class BoundRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as it binds on the day."""

    id: str
    pack: str
    version: str
    stage: Stage
    severity: Severity
    status: Status
    check: str
    params: dict[str, Any]
    duty: str
    cite: str
    reviewed: bool
    controls: list[str] = []
    evidence: list[str] = []
    readers: list[str] = []
    maps: dict[str, list[str]] = {}


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """Two rules that cannot both be kept, or of which one was set aside as the milder."""

    kind: str
    rules: list[str]
    detail: str
    resolved: str
    """What holds now; empty: a person must decide."""


class Rulebook(msgspec.Struct, frozen=True, kw_only=True):
    """The rules in force for one use case on one day."""

    use_case: str
    at: date
    packs: list[dict[str, str]]
    rules: list[BoundRule]
    obligations: Obligations
    conflicts: list[Conflict]
    valid_from: date
    valid_until: date | None
    """First day on which another rulebook may hold; None: no change is known."""
    banners: list[str] = []

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of everything but the day asked about: the same all through its validity."""
        document = msgspec.to_builtins(self)
        del document["at"]
        return digest_of(document)

    def stage(self, stage: Stage) -> list[BoundRule]:
        """The rules of one stage."""
        return [rule for rule in self.rules if rule.stage == stage]


def resolve(packs: Iterable[Pack], *, at: date, use_case: Mapping[str, Any]) -> Rulebook:
    """The rulebook of a use case (its document) on a day. Raises `UsageError` for two versions of one pack."""
    chosen = sorted(packs, key=lambda pack: pack.pack)
    names = [pack.pack for pack in chosen]
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise UsageError(f"pack {twice} is given in two versions; one binds at a time")
    bound: dict[str, BoundRule] = {}
    conflicts: list[Conflict] = []
    days: set[date] = set()
    for pack in chosen:
        for rule in pack.rules:
            if not applies(rule, use_case):
                continue
            days |= _days(rule)
            found = _bound(pack, rule, at)
            if found is None:
                continue
            other = bound.get(found.id)
            if other is not None:
                conflicts.append(_same_rule(other, found))
                found = max(other, found, key=lambda r: (SEVERITIES.index(r.severity), r.pack))
            bound[found.id] = found
    rules = sorted(bound.values(), key=lambda r: r.id)
    kept = [kept for pack in chosen for kept in pack.retention]
    clocks = [clock for pack in chosen for clock in pack.clocks]
    obligations, clashes = obligations_of([r for r in rules if r.severity != "record"], kept, clocks)
    return Rulebook(
        use_case=str(use_case.get("name", "")),
        at=at,
        packs=[{"pack": p.pack, "version": p.version, "digest": p.digest} for p in chosen],
        rules=rules,
        obligations=obligations,
        conflicts=[*conflicts, *[Conflict(**clash) for clash in clashes]],
        valid_from=max((d for d in days if d <= at), default=date(1970, 1, 1)),
        valid_until=min((d for d in days if d > at), default=None),
        banners=[pack.banner for pack in chosen if pack.banner],
    )


def applies(rule: PackRule, use_case: Mapping[str, Any]) -> bool:
    """Does a rule apply to a use case? What the use case leaves unsaid never frees it."""
    scope = rule.applies
    attributes = use_case.get("attributes") or {}
    kind = str(attributes.get("kind") or "")
    if scope.use_cases and kind and kind not in scope.use_cases and "all" not in scope.use_cases:
        return False
    subject = str(use_case.get("subject") or "")
    if scope.subjects and subject and subject not in scope.subjects:
        return False
    tier = str(use_case.get("tier") or "")
    if scope.tiers and tier and tier not in scope.tiers:
        return False
    places = [str(j).casefold() for j in use_case.get("jurisdictions") or []]
    if scope.jurisdictions and places:
        return any(inside(place, j.casefold()) for place in places for j in scope.jurisdictions)
    return True


def inside(place: str, jurisdiction: str) -> bool:
    """Is a place that jurisdiction or a part of it (`us-nj` lies in `us`)?"""
    return place == jurisdiction or place.startswith(jurisdiction + "-")


def _days(rule: PackRule) -> set[date]:
    found = {d for d in (rule.effective.since, rule.effective.until) if d is not None}
    return found | {change.since for change in rule.changes}


def _bound(pack: Pack, rule: PackRule, at: date) -> BoundRule | None:
    since, until = rule.effective.since, rule.effective.until
    if (since and at < since) or (until and at >= until):
        return None
    severity, status, params = rule.severity, rule.status, dict(rule.params)
    for change in rule.changes:
        if change.since <= at:
            severity, status = change.severity or severity, change.status or status
            params |= change.params
    if status in NEVER:
        return None
    if status in PREVIEW and since is None:
        severity = "record"
    return BoundRule(
        id=rule.id,
        pack=pack.pack,
        version=pack.version,
        stage=rule.stage,
        severity=severity,
        status=status,
        check=rule.check,
        params=resolved_params(pack, rule, params),
        duty=rule.duty,
        cite=rule.cite,
        reviewed=pack.reviewed,
        controls=rule.controls,
        evidence=rule.evidence,
        readers=rule.readers,
        maps=rule.maps,
    )


def _same_rule(a: BoundRule, b: BoundRule) -> Conflict:
    kept = max(a, b, key=lambda r: (SEVERITIES.index(r.severity), r.pack))
    return Conflict(
        kind="same-rule",
        rules=[f"{a.pack}/{a.id}", f"{b.pack}/{b.id}"],
        detail=f"{a.pack} says {a.severity}, {b.pack} says {b.severity}",
        resolved=f"{kept.pack}, {kept.severity}: the strictest",
    )


def changed(a: Rulebook, b: Rulebook) -> list[dict[str, Any]]:
    """What is different in `b`: rules added, removed, and changed with the fields that changed."""
    before, after = {r.id: r for r in a.rules}, {r.id: r for r in b.rules}
    found: list[dict[str, Any]] = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            kept = old or new
            assert kept is not None
            found.append(
                {
                    "rule": name,
                    "pack": kept.pack,
                    "change": "added" if old is None else "removed",
                    "duty": kept.duty,
                }
            )
            continue
        fields = [
            f
            for f in ("severity", "status", "check", "params", "stage")
            if getattr(old, f) != getattr(new, f)
        ]
        if fields:
            found.append(
                {
                    "rule": name,
                    "pack": new.pack,
                    "change": "changed",
                    "duty": new.duty,
                    "fields": {f: [getattr(old, f), getattr(new, f)] for f in fields},
                }
            )
    return found


def diff(a: Rulebook, b: Rulebook, releases: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """What changes from one rulebook to another, and for which releases the verdict does.

    `releases`: each with `release` and the `results` of its latest check run (`rule`, `ok`, `severity`). A release
    whose run lacks a rule that now blocks must be checked again, and is listed so.
    """
    rows = []
    for known in releases:
        judged = {str(r["rule"]): r.get("ok") for r in known["results"] if r.get("rule")}
        before, after = _verdict(a, judged), _verdict(b, judged)
        if before[0] != after[0]:
            rows.append(
                {"release": known["release"], "before": before[0], "after": after[0], "rules": after[1]}
            )
    return {"changes": changed(a, b), "releases": rows}


def _verdict(book: Rulebook, judged: Mapping[str, Any]) -> tuple[str, list[str]]:
    blocking = [r for r in book.rules if r.stage == "release" and r.severity == "block"]
    failing = sorted(r.id for r in blocking if judged.get(r.id) is False)
    unknown = sorted(r.id for r in blocking if judged.get(r.id) is None)
    if failing:
        return "blocked", failing
    return ("must be checked again", unknown) if unknown else ("passes", [])
