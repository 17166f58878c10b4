"""A pack: the rules of one jurisdiction and sector as dated data. It names checks and holds no code.

The structs are the format (docs/formats/pack.md; the JSON Schema in docs/formats/pack.schema.json is made from them).
An unknown field, an unknown check, an ill-typed parameter, a date that is none: the pack does not load.
"""

from __future__ import annotations

import hashlib
import re
from datetime import date
from typing import Any, Literal

import msgspec

from fiduciary.checks import find_check
from fiduciary.checks._check import arguments
from fiduciary.errors import UsageError
from fiduciary.rules._duration import parse_duration

FORMAT: Literal["fiduciary.pack/1"] = "fiduciary.pack/1"
MAX_RULES = 500
MAX_TEXT = 2_000
MAX_ITEMS = 200
SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,40}")

Status = Literal[
    "in_force", "adopted", "proposed", "deferred", "rescinded", "analogy", "voluntary", "see_note"
]
Severity = Literal["block", "warn", "record"]
Stage = Literal["release", "serve", "watch", "evidence"]
SEVERITIES: tuple[Severity, ...] = ("record", "warn", "block")
"""From the mildest to the strictest."""


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a rule is written."""

    id: str
    title: str
    kind: Literal["statute", "rule", "guidance", "case", "standard", "framework", "settlement"]
    note: str = ""


class Effective(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which day a rule binds, and the first day on which it does no longer."""

    since: date | None = msgspec.field(name="from", default=None)
    until: date | None = msgspec.field(name="to", default=None)


class Applies(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """To which use cases a rule applies. What is left out applies to all; what a use case does not say, too."""

    use_cases: list[str] = []
    """Kinds of use case: credit, fraud, insurance, assistant, trading, irb."""
    subjects: list[str] = []
    tiers: list[str] = []
    jurisdictions: list[str] = []


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is different from a day on: severity, status or parameters."""

    since: date = msgspec.field(name="from")
    severity: Severity | None = None
    status: Status | None = None
    params: dict[str, Any] = {}
    note: str = ""


class RuleTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A case that the rule must judge as it says. `given`: a use case, facts, a sample in cells."""

    name: str
    expect: Literal["pass", "fail", "unknown"]
    given: dict[str, Any]


class PackRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule: a duty in one plain line, where it is written, when it binds, and the check that holds to it."""

    id: str
    controls: list[str] = []
    """Ids of the duties that it answers (docs/controls.md)."""
    source: str
    cite: str
    duty: str
    status: Status
    effective: Effective = Effective()
    applies: Applies = Applies()
    stage: Stage
    severity: Severity
    check: str
    params: dict[str, Any] = {}
    tables: dict[str, str] = {}
    """Parameter -> the pack's table that it takes its value from."""
    evidence: list[str] = []
    readers: list[str] = []
    maps: dict[str, list[str]] = {}
    changes: list[Change] = []
    note: str = ""
    tests: list[RuleTest] = []


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a class of records is kept: at least, at most (ISO 8601 durations)."""

    record: str
    name: str
    """The retention class written into record headers."""
    minimum: str = ""
    maximum: str = ""
    rule: str = ""


class Clock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Time limits that start with an event: ISO 8601 durations, in order."""

    event: str
    steps: list[str]
    rule: str = ""


class Letter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A letter that this jurisdiction asks for, and the rules it answers."""

    kind: str
    rules: list[str] = []


class Review(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The counsel who read the pack and stands for it."""

    name: str
    date: date


class Pack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole pack. `document` is its canonical JSON value, `digest` names it."""

    format: Literal["fiduciary.pack/1"] = FORMAT
    pack: str
    version: str
    title: str
    jurisdictions: list[str]
    sectors: list[str] = []
    languages: list[str] = msgspec.field(default_factory=lambda: ["en"])
    authors: list[str] = []
    reviewed_by_counsel: Review | None = None
    sources: list[Source]
    rules: list[PackRule]
    retention: list[Retention] = []
    clocks: list[Clock] = []
    tables: dict[str, Any] = {}
    letters: list[Letter] = []

    @property
    def reviewed(self) -> bool:
        """Has a named counsel signed it off? Until then everything made with it carries the banner."""
        return self.reviewed_by_counsel is not None

    @property
    def banner(self) -> str:
        """What every artefact says until counsel has signed; empty afterwards."""
        return "" if self.reviewed else f"{self.pack} {self.version}: starter pack, not reviewed by counsel"

    @property
    def document(self) -> dict[str, Any]:
        """All fields as JSON values."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the document as canonical JSON (RFC 8785): sorted keys, no spaces, 5 for 5.0."""
        return digest_of(self.document)


def digest_of(document: Any) -> str:
    """`sha256:<hex>` of JSON values in canonical form; what the control log computes of an adopted pack."""
    raw = msgspec.json.encode(_whole(document), order="sorted")
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value


def pack_from_document(document: Any) -> Pack:
    """A pack from JSON values, wholly checked. Raises `UsageError` naming the place and what would be right."""
    try:
        pack = msgspec.convert(document, Pack)
    except msgspec.ValidationError as error:
        raise UsageError(f"the pack is not right: {error}") from None
    _check(pack)
    return pack


def _check(pack: Pack) -> None:
    if not SLUG.fullmatch(pack.pack):
        raise UsageError(f"the pack's name {pack.pack[:80]!r} must be lower-case letters, digits, . _ -")
    if not VERSION.fullmatch(pack.version):
        raise UsageError(f"pack {pack.pack}: the version {pack.version[:80]!r} must be like 2026.07.21")
    if not pack.rules or len(pack.rules) > MAX_RULES:
        raise UsageError(f"pack {pack.pack} has {len(pack.rules)} rules; 1 to {MAX_RULES} are possible")
    sources = {s.id for s in pack.sources}
    seen: set[str] = set()
    for i, rule in enumerate(pack.rules):
        _check_rule(pack, rule, sources, f"/rules/{i}")
        if rule.id in seen:
            raise UsageError(f"rule {rule.id} stands twice", where=f"/rules/{i}/id")
        seen.add(rule.id)
    for j, kept in enumerate(pack.retention):
        for field in ("minimum", "maximum"):
            if getattr(kept, field):
                parse_duration(getattr(kept, field), f"/retention/{j}/{field}")
    for j, clock in enumerate(pack.clocks):
        if not clock.steps:
            raise UsageError("a clock has at least one step", where=f"/clocks/{j}/steps")
        for k, step in enumerate(clock.steps):
            parse_duration(step, f"/clocks/{j}/steps/{k}")


def _check_rule(pack: Pack, rule: PackRule, sources: set[str], where: str) -> None:
    if not SLUG.fullmatch(rule.id):
        raise UsageError("a rule's id is lower-case letters, digits, . _ -", where=f"{where}/id")
    if rule.source not in sources:
        raise UsageError(
            f"rule {rule.id} cites {rule.source!r}, which is no source of the pack", where=f"{where}/source"
        )
    for field in ("duty", "cite"):
        if not getattr(rule, field).strip() or len(getattr(rule, field)) > MAX_TEXT:
            raise UsageError(f"rule {rule.id} needs a {field} in plain words", where=f"{where}/{field}")
    since, until = rule.effective.since, rule.effective.until
    if since and until and not since < until:
        raise UsageError(f"rule {rule.id} ends before it begins", where=f"{where}/effective")
    check = find_check(rule.check)
    if rule.stage not in check.stages:
        raise UsageError(
            f"rule {rule.id}: {rule.check} can be run at {', '.join(check.stages)}, not at {rule.stage}",
            where=f"{where}/stage",
        )
    arguments(check, resolved_params(pack, rule, rule.params))
    previous = None
    for change in rule.changes:
        if previous is not None and not previous < change.since:
            raise UsageError(
                f"the changes of rule {rule.id} must be in order of time", where=f"{where}/changes"
            )
        previous = change.since
        arguments(check, resolved_params(pack, rule, {**rule.params, **change.params}))


def resolved_params(pack: Pack, rule: PackRule, params: dict[str, Any]) -> dict[str, Any]:
    """Parameters with the pack's tables put in. Raises `UsageError` for a table that the pack lacks."""
    found = dict(params)
    for name, table in rule.tables.items():
        if table not in pack.tables:
            raise UsageError(
                f"rule {rule.id} takes {name} from table {table!r}, which the pack does not have"
            )
        found[name] = pack.tables[table]
    return found
