"""Which rules bind on a day: order does not matter, the strictest wins, days partition, the law's dates hold."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary import rules
from fiduciary.errors import UsageError
from fiduciary.rules import Pack, Retention

SHIPPED = {pack.pack: pack for pack in rules.shipped_packs()}
US = {"name": "loans", "jurisdictions": ["US"], "attributes": {"kind": "credit"}, "subject": "natural_person"}
NJ = {**US, "jurisdictions": ["US", "US-NJ"]}


def book(names: list[str], day: str, use_case: dict[str, Any]) -> rules.Rulebook:
    return rules.resolve([SHIPPED[n] for n in names], at=date.fromisoformat(day), use_case=use_case)


def severities(found: rules.Rulebook) -> dict[str, str]:
    return {rule.id: rule.severity for rule in found.rules}


def test_the_federal_effects_test_ends_and_new_jersey_stays() -> None:
    before, after = book(["us-credit"], "2026-07-20", NJ), book(["us-credit"], "2026-07-22", NJ)
    assert severities(before)["regb-6-effects"] == "block"
    assert severities(after)["regb-6-effects"] == "record"
    for kept in ("regb-6-effects-proxy", "nj-lad-di", "nj-lad-di-search", "regb-9-reasons"):
        assert severities(before)[kept] == severities(after)[kept]
    assert before.valid_until == date(2026, 7, 21) == after.valid_from
    changes = rules.diff(before, after)["changes"]
    assert [(c["rule"], c["fields"]) for c in changes] == [
        ("regb-6-effects", {"severity": ["block", "record"]})
    ]


def test_a_bank_outside_new_jersey_is_not_under_its_rule() -> None:
    assert "nj-lad-di" not in severities(book(["us-credit"], "2026-07-22", US))


def test_the_diff_names_the_releases_that_change_verdict() -> None:
    results = [
        {"rule": r.id, "ok": True}
        for r in book(["us-credit"], "2026-07-20", NJ).rules
        if r.stage == "release" and r.severity == "block"
    ]
    failing = [{**r, "ok": False} if r["rule"] == "regb-6-effects" else r for r in results]
    found = rules.diff(
        book(["us-credit"], "2026-07-20", NJ),
        book(["us-credit"], "2026-07-22", NJ),
        [{"release": "fair", "results": results}, {"release": "unfair", "results": failing},
         {"release": "unchecked", "results": []}],
    )  # fmt: skip
    assert found["releases"] == [{"release": "unfair", "before": "blocked", "after": "passes", "rules": []}]


def test_superseded_and_future_rules_bind_on_their_days_only() -> None:
    assert "sr11-7" in severities(book(["us-credit"], "2026-04-16", US))
    assert "sr26-val" not in severities(book(["us-credit"], "2026-04-16", US))
    assert "sr11-7" not in severities(book(["us-credit"], "2026-04-17", US))
    eu = {"name": "loans", "jurisdictions": ["EU"], "attributes": {"kind": "credit"}}
    assert "aia-27" not in severities(book(["eu-credit"], "2027-12-01", eu))
    assert severities(book(["eu-credit"], "2027-12-02", eu))["aia-27"] == "block"


def test_what_a_use_case_does_not_say_frees_it_of_nothing() -> None:
    said = book(["us-credit", "basel"], "2026-08-01", NJ)
    unsaid = book(["us-credit", "basel"], "2026-08-01", {"name": "loans"})
    assert set(severities(said)) < set(severities(unsaid))


def test_retention_that_cannot_be_kept_together_is_a_clash_for_a_person() -> None:
    short = msgspec.structs.replace(
        SHIPPED["gdpr"],
        retention=[Retention(record="decision", name="brief", maximum="P1Y", rule="gdpr-5-1e")],
    )
    found = rules.resolve([short, SHIPPED["us-credit"]], at=date(2026, 8, 1), use_case={"name": "loans"})
    clash = next(c for c in found.conflicts if c.kind == "retention")
    assert clash.rules == ["gdpr-5-1e", "regb-12"] and clash.resolved == ""
    assert "at least" in clash.detail


def test_two_versions_of_one_pack_are_refused() -> None:
    with pytest.raises(UsageError, match="two versions"):
        rules.resolve([SHIPPED["gdpr"], SHIPPED["gdpr"]], at=date(2026, 1, 1), use_case={})


def test_obligations_are_the_strictest_of_all() -> None:
    found = book(["gdpr", "us-credit", "uk-credit"], "2026-08-01", {"name": "loans"}).obligations
    assert found.purpose_required and found.referral == "gdpr-22"
    assert (found.reasons_min, found.reasons_max) == (1, 4)
    assert {n.code for n in found.notices} >= {"adverse_action", "credit_score", "automated_decision"}
    assert found.lawful_bases and "consent" in found.lawful_bases
    assert found.retention_class == "credit-us"


DAYS = st.dates(date(2000, 1, 1), date(2030, 12, 31))
NAMES = st.lists(st.sampled_from(sorted(SHIPPED)), min_size=1, max_size=5, unique=True)


@given(names=NAMES, day=DAYS, seed=st.randoms())
@settings(max_examples=60, deadline=None)
def test_order_does_not_matter_and_days_partition(names: list[str], day: date, seed: Any) -> None:
    packs = [SHIPPED[n] for n in names]
    found = rules.resolve(packs, at=day, use_case=NJ)
    seed.shuffle(packs)
    assert rules.resolve(packs, at=day, use_case=NJ).digest == found.digest
    assert found.valid_from <= day and (found.valid_until is None or day < found.valid_until)
    inside = [found.valid_from] if found.valid_from > date(1970, 1, 1) else []
    if found.valid_until:
        inside.append(found.valid_until - timedelta(days=1))
        assert rules.resolve(packs, at=found.valid_until, use_case=NJ).valid_from == found.valid_until
    for other in inside:
        assert rules.resolve(packs, at=other, use_case=NJ).digest == found.digest


@given(names=NAMES, more=st.sampled_from(sorted(SHIPPED)), day=DAYS)
@settings(max_examples=60, deadline=None)
def test_another_pack_never_loosens(names: list[str], more: str, day: date) -> None:
    few = rules.resolve([SHIPPED[n] for n in names], at=day, use_case={})
    many = rules.resolve([SHIPPED[n] for n in {*names, more}], at=day, use_case={})
    order = ("record", "warn", "block")
    for name, severity in severities(few).items():
        assert order.index(severities(many)[name]) >= order.index(severity)
    a, b = few.obligations, many.obligations
    assert b.purpose_required >= a.purpose_required and bool(b.referral) >= bool(a.referral)
    assert b.reasons_min >= a.reasons_min and {n.code for n in b.notices} >= {n.code for n in a.notices}
    assert (b.retention_min_days or 0) >= (a.retention_min_days or 0)
    if a.lawful_bases is not None:
        assert b.lawful_bases is not None and set(b.lawful_bases) <= set(a.lawful_bases)


def _severed(pack: Pack, severity: Any) -> Pack:
    return msgspec.structs.replace(
        pack, pack="other", rules=[msgspec.structs.replace(pack.rules[0], severity=severity)]
    )


@pytest.mark.parametrize("severity", ["record", "warn", "block"])
def test_one_rule_in_two_packs_takes_the_strictest_severity_and_is_reported(severity: str) -> None:
    pack = SHIPPED["gdpr"]
    found = rules.resolve([pack, _severed(pack, severity)], at=date(2026, 8, 1), use_case={})
    assert severities(found)[pack.rules[0].id] == "block"
    assert any(c.kind == "same-rule" for c in found.conflicts)
