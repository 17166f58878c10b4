"""What the rules in force ask of the serving path, compiled to plain data: no check is run while a customer waits.

Each serve-stage rule with a known check tightens one member; composition is strictest-wins, and what cannot be kept
together (a minimum retention above a maximum, two lists of lawful bases with nothing in common) is a clash that a
person must see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from fiduciary.rules._duration import least_days, most_days
from fiduciary.rules._pack import Clock, Retention

if TYPE_CHECKING:
    from fiduciary.rules._resolve import BoundRule


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A notice that is due after certain outcomes."""

    code: str
    rule: str
    when: Literal["adverse", "always"] = "adverse"
    within_days: int | None = None
    letter: str = ""


class Obligations(msgspec.Struct, frozen=True, kw_only=True):
    """The obligations of a rulebook; decision/_duties.py obeys them, docs/serving-rules.md tells them."""

    purpose_required: bool = False
    lawful_bases: tuple[str, ...] | None = None
    consent_required: bool = False
    residency: tuple[str, ...] | None = None
    referral: str = ""
    opt_out: str = ""
    reasons_min: int = 0
    reasons_max: int = 0
    notices: tuple[Notice, ...] = ()
    retention_class: str = ""
    retention_min_days: int | None = None
    retention_max_days: int | None = None
    clocks: tuple[Clock, ...] = ()


Clash = dict[str, Any]


def obligations_of(
    rules: Sequence[BoundRule], kept: Sequence[Retention], clocks: Sequence[Clock]
) -> tuple[Obligations, list[Clash]]:
    """Obligations of the serve-stage rules, and what clashes. `rules` in order of their ids, records left out."""
    clashes: list[Clash] = []
    serving = [r for r in rules if r.stage == "serve"]
    bases: tuple[str, ...] | None = None
    regions: tuple[str, ...] | None = None
    notices: dict[str, Notice] = {}
    purpose, referral, opt_out, fewest, most = False, "", "", 0, 0
    least, longest = [], []
    for rule in serving:
        params = rule.params
        if rule.check == "refusal.purpose":
            purpose = True
        elif rule.check == "approval.lawful_basis":
            bases = _both(bases, params["accepted"], "lawful-basis", rule.id, clashes)
        elif rule.check == "refusal.residency":
            regions = _both(
                regions, [str(r).casefold() for r in params["regions"]], "residency", rule.id, clashes
            )
        elif rule.check == "oversight.human_review":
            referral = referral or rule.id
        elif rule.check == "oversight.opt_out":
            opt_out = opt_out or rule.id
        elif rule.check in ("reasons.recorded", "reasons.count"):
            fewest = max(fewest, int(params.get("minimum", 1)))
            limit = int(params.get("maximum", 4))
            most = min(most, limit) if most else limit
        elif rule.check == "reasons.notice":
            notice = Notice(
                code=params["code"],
                rule=rule.id,
                when=params.get("when", "adverse"),
                within_days=params.get("within_days"),
                letter=params.get("letter", ""),
            )
            notices[notice.code] = _sooner(notices.get(notice.code), notice)
        elif rule.check == "retention.minimum":
            least.append((int(params["days"]), rule.id))
        elif rule.check == "retention.maximum":
            longest.append((int(params["days"]), rule.id))
    if most and fewest > most:
        clashes.append(
            {
                "kind": "reasons",
                "rules": [],
                "detail": f"at least {fewest} reasons are asked for and at most {most}",
                "resolved": f"{fewest}: a person is owed the reasons",
            }
        )
        most = fewest
    least += [(least_days(k.minimum), k.rule or k.name) for k in kept if k.minimum and k.record == "decision"]
    longest += [
        (most_days(k.maximum), k.rule or k.name) for k in kept if k.maximum and k.record == "decision"
    ]
    floor, ceiling = max(least, default=None), min(longest, default=None)
    if floor and ceiling and floor[0] > ceiling[0]:
        clashes.append(
            {
                "kind": "retention",
                "rules": sorted({floor[1], ceiling[1]}),
                "detail": f"{floor[1]} asks for at least {floor[0]} days, {ceiling[1]} for at most {ceiling[0]}",
                "resolved": "",
            }
        )
    named = [k for k in kept if k.record == "decision" and k.minimum]
    strictest = max(named, key=lambda k: (least_days(k.minimum), k.name), default=None)
    return (
        Obligations(
            purpose_required=purpose,
            lawful_bases=bases,
            residency=regions,
            referral=referral,
            opt_out=opt_out,
            reasons_min=fewest,
            reasons_max=most,
            notices=tuple(notices[code] for code in sorted(notices)),
            retention_class=strictest.name if strictest else "",
            retention_min_days=floor[0] if floor else None,
            retention_max_days=ceiling[0] if ceiling else None,
            clocks=_merged(clocks),
        ),
        clashes,
    )


def _both(
    held: tuple[str, ...] | None, asked: Sequence[str], kind: str, rule: str, clashes: list[Clash]
) -> tuple[str, ...]:
    if held is None:
        return tuple(sorted(set(asked)))
    common = tuple(sorted(set(held) & set(asked)))
    if not common:
        clashes.append(
            {
                "kind": kind,
                "rules": [rule],
                "detail": f"the rules have nothing in common: {', '.join(held)} against {', '.join(asked)}",
                "resolved": "nothing is accepted until a person decides",
            }
        )
    return common


def _sooner(a: Notice | None, b: Notice) -> Notice:
    if a is None:
        return b
    days = [n.within_days for n in (a, b) if n.within_days is not None]
    when: Literal["adverse", "always"] = "always" if "always" in (a.when, b.when) else "adverse"
    return msgspec.structs.replace(
        a, within_days=min(days, default=None), when=when, letter=a.letter or b.letter
    )


def _frozen(clock: Clock) -> tuple[str, tuple[str, ...]]:
    return clock.event, tuple(clock.steps)


def _merged(clocks: Sequence[Clock]) -> tuple[Clock, ...]:
    """Clocks in order of their events; those of one event stand side by side, and all of them tick."""
    unique = {_frozen(clock): clock for clock in clocks}
    return tuple(unique[key] for key in sorted(unique))
