"""A stranger who has the packs finds the rulebook that was announced: the verifier resolves as the bank does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bank import USE_CASE
from fiduciary.evidence import _verify_folder as offline
from fiduciary.registry._rulebook import rules_document
from fiduciary.rules import Pack, resolve, shipped_packs
from ruled import RuledBank

PACKS = shipped_packs()
DAYS = st.dates(date(2009, 1, 1), date(2032, 1, 1)) | st.sampled_from(
    sorted(
        {
            day
            for pack in PACKS
            for rule in pack.rules
            for day in (rule.effective.since, rule.effective.until, *(c.since for c in rule.changes))
            if day is not None
        }
    )
)
USES = st.builds(
    lambda **more: msgspec.structs.replace(USE_CASE, **more),
    jurisdictions=st.lists(
        st.sampled_from(["EU", "US", "US-NJ", "us-co", "UK", "SG", "HK", "CA"]), max_size=2
    ),
    subject=st.sampled_from(["", "natural_person", "company"]),
    tier=st.sampled_from(["high", "limited", "minimal"]),
    attributes=st.sampled_from(
        [{}, {"kind": "credit"}, {"kind": "fraud"}, {"kind": "assistant"}, {"kind": "trading"}]
    ),
)


def alike(packs: list[Pack], use_case: dict[str, Any], day: date) -> None:
    ours = rules_document(resolve(packs, at=day, use_case=use_case))
    theirs = offline.resolve_rules([p.document for p in packs], use_case, day.isoformat())
    assert isinstance(ours["obligations"].pop("clocks"), list)
    for name in ("valid_from", "valid_until", "obligations"):
        assert theirs[name] == ours[name], name
    assert [r["rule"] for r in theirs["in_force"]] == [r["rule"] for r in ours["in_force"]]
    for a, b in zip(theirs["in_force"], ours["in_force"], strict=True):
        assert a == b
    assert set(theirs) == set(ours) - {"resolver"}


@settings(max_examples=300, deadline=None)
@given(
    packs=st.lists(st.sampled_from(PACKS), unique_by=lambda p: p.pack, min_size=1, max_size=5),
    use_case=USES,
    day=DAYS,
)
def test_the_shipped_packs_are_resolved_alike(packs: list[Pack], use_case: Any, day: date) -> None:
    alike(packs, use_case.document, day)


def test_all_shipped_packs_at_once_on_every_day_on_which_one_changes() -> None:
    for day in (date(2026, 7, 20), date(2026, 7, 21), date(2026, 11, 25), date(2028, 1, 1)):
        alike(PACKS, USE_CASE.document, day)


@pytest.fixture(scope="module")
def announced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A rulebook of two shipped packs, as the offline history of a home has it."""
    bank = RuledBank(tmp_path_factory.mktemp("bank"))
    bank.govern(*[p.document for p in PACKS if p.pack in ("eu-credit", "gdpr")], lawful_basis="contract")
    bank.registry.announce(USE_CASE.name, by="gate-0")
    history = offline.History("acme.eu")
    for index, time_ns, payload in bank.ledger.events():
        history.apply(index, time_ns, payload)
    assert history.refused == []
    yield dict(next(iter(history.books.values())))
    bank.ledger.close()


def judged(book: dict[str, Any]) -> offline.Report:
    verifier = object.__new__(offline.Verifier)
    verifier.report = offline.Report()
    verifier.check_book(book["rulebook"], book)
    return verifier.report


def test_an_announced_rulebook_is_what_its_packs_give(announced: dict[str, Any]) -> None:
    report = judged(announced)
    assert report.problems == [] and report.notes == []
    assert report.holds == {"rulebooks that are what their packs give on that day": 1}
    assert len(announced["in_force"]) > 10 and announced["obligations"]["referral"]


def forge_rules(
    book: dict[str, Any], change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> dict[str, Any]:
    return {**book, "in_force": change([dict(r) for r in book["in_force"]])}


def soften(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    blocking = next(r for r in rules if r["severity"] == "block")
    return [{**r, "severity": "record"} if r is blocking else r for r in rules]


@pytest.mark.parametrize(
    ("forge", "why"),
    [
        (lambda b: forge_rules(b, lambda rules: rules[1:]), "it leaves out what its packs say"),
        (lambda b: forge_rules(b, soften), "it changes what its packs say"),
        (
            lambda b: forge_rules(b, lambda rules: [*rules, {**rules[0], "rule": "invented"}]),
            "it puts in what its packs say: invented",
        ),
        (lambda b: {**b, "obligations": {**b["obligations"], "referral": ""}}, "its obligations or days"),
        (lambda b: {**b, "obligations": {**b["obligations"], "notices": []}}, "its obligations or days"),
        (lambda b: {**b, "valid_until": "2031-01-01"}, "its obligations or days"),
        (
            lambda b: {**b, "documents": [{**d, "rules": "none"} for d in b["documents"]]},
            "cannot be resolved",
        ),
    ],
)
def test_a_rulebook_that_its_packs_do_not_give_is_named(
    announced: dict[str, Any], forge: Callable[[dict[str, Any]], dict[str, Any]], why: str
) -> None:
    [problem, *_] = judged(forge(announced)).problems
    assert why in problem and announced["rulebook"] in problem


def test_another_way_of_resolving_is_not_judged_and_that_is_said(announced: dict[str, Any]) -> None:
    report = judged({**announced, "resolver": "fiduciary.resolve/9"})
    assert report.problems == [] and "cannot be told by this program" in report.notes[0]
