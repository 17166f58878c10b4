"""The shipped packs: all duties are there, each held by a check, and each rule's own tests come out."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import jsonschema
import pytest

from fiduciary import rules
from fiduciary.checks import CATALOGUE
from fiduciary.registry import canonical, digest_text
from fiduciary.rules import Pack

ROOT = Path(__file__).resolve().parents[2]
PACKS = rules.shipped_packs()
KINDS = {
    "metric", "approval", "inventory", "reason", "access-config", "retention", "clock", "refusal", "document",
    "oversight", "data", "ledger", "drill",
}  # fmt: skip
ONE_SIDED = {
    "fairness.adverse_impact_ratio": "a screen: it can fail and never pass",
    "fairness.less_discriminatory_alternative": "fits models for minutes; tests/checks_fair tries both sides",
}


@pytest.mark.parametrize("pack", PACKS, ids=lambda p: p.pack)
def test_every_rule_comes_out_as_its_own_tests_say(pack: Pack) -> None:
    wrong = [(o.rule, o.test, o.expected, o.found, o.detail) for o in rules.run_tests(pack) if not o.ok]
    assert not wrong


@pytest.mark.parametrize("pack", PACKS, ids=lambda p: p.pack)
def test_every_rule_has_a_passing_and_a_failing_test(pack: Pack) -> None:
    for rule in pack.rules:
        found = {test.expect for test in rule.tests}
        if rule.check in ONE_SIDED:
            assert found, rule.id
        else:
            assert "pass" in found and found & {"fail", "unknown"}, rule.id


def test_every_duty_of_the_list_is_held_by_a_rule() -> None:
    """All hundred duties, by the shipped list: none silently missing."""
    listed = (ROOT / "src" / "fiduciary" / "rules" / "controls.txt").read_text().split()
    assert len(listed) == len(set(listed)) == 100
    held = {control for pack in PACKS for rule in pack.rules for control in rule.controls}
    assert held == set(listed)


def test_the_list_of_duties_is_the_shared_one(shared_data: Path) -> None:
    path = shared_data.parent / "controls.csv"
    if not path.exists():
        pytest.skip("no table of duties beside the data")
    with path.open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    listed = (ROOT / "src" / "fiduciary" / "rules" / "controls.txt").read_text().split()
    assert sorted(rows) == sorted(listed)
    for pack in PACKS:
        for rule in pack.rules:
            for control in rule.controls:
                begins = rows[control]["effective_from"]
                if len(begins) == 10 and control != "regb-6-effects":
                    assert str(rule.effective.since) == begins, rule.id


def test_thirteen_kinds_of_check_hold_all_duties() -> None:
    assert {CATALOGUE[rule.check].kind for pack in PACKS for rule in pack.rules} == KINDS


def test_a_starter_pack_says_that_no_counsel_reviewed_it() -> None:
    for pack in PACKS:
        assert not pack.reviewed and "not reviewed by counsel" in pack.banner
        assert all(rule.cite and rule.duty and rule.source for rule in pack.rules)


def test_the_digest_is_the_one_that_the_control_log_computes() -> None:
    for pack in PACKS:
        assert pack.digest == digest_text(canonical(pack.document))


def test_the_published_schema_takes_every_shipped_pack_and_refuses_broken_ones() -> None:
    schema = json.loads((ROOT / "docs" / "formats" / "pack.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    for pack in PACKS:
        validator.validate(json.loads(json.dumps(pack.document)))
    good = PACKS[0].document
    for broken in (
        {**good, "surprise": 1},
        {k: v for k, v in good.items() if k != "rules"},
        {**good, "rules": [{**good["rules"][0], "severity": "maybe"}]},
        {**good, "rules": [{**good["rules"][0], "run": "import os"}]},
    ):
        assert not validator.is_valid(broken)


def test_generated_pages_are_fresh() -> None:
    """docs/controls.md, docs/frameworks.md and the schema say what the packs say (`make pack-docs` writes them)."""
    from pack_docs import pages

    for path, text in pages().items():
        assert (ROOT / path).read_text() == text, f"{path} is stale: run make pack-docs"


def test_every_duty_has_check_kind_and_tests_in_the_table() -> None:
    text = (ROOT / "docs" / "controls.md").read_text()
    for control in (ROOT / "src" / "fiduciary" / "rules" / "controls.txt").read_text().split():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{control}` |"))
        cells = [cell.strip() for cell in row.split("|")[1:-1]]
        assert all(cells), row
        assert cells[4].split("`")[1] in CATALOGUE
