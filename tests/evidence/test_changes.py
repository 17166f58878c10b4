"""The change population: an honest log has no violation, and each forgery of one is named."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from control_log import NOW, USE, A, B, Control
from fiduciary.evidence._changes import COLUMNS, changes, changes_csv, changes_jsonl
from fiduciary.registry._statements import NANO

STAFF = {"olga": "officer", "ada": "developer", "grace": "validator", "vic": "validator", "otto": "operator"}
Events = list[dict[str, Any]]


def bank(**more: Any) -> Control:
    made = Control()
    for name, role in STAFF.items():
        made.enrol(name, role)
    made.define(**more)
    return made


def listed(made: Control) -> Events:
    return [{"index": i, "time_ns": t, "payload": p} for i, t, p in made.events]


def forged(*payloads: dict[str, Any]) -> Events:
    """A log that no registry would have let be written."""
    return [
        {"index": i, "time_ns": NOW + i * NANO, "payload": {"release": A, "use_case": USE, **p}}
        for i, p in enumerate(payloads)
    ]


PROPOSED = {"event": "release.proposed", "by": "ada", "name": "card", "version": "1"}
GREEN = {"event": "release.checked", "by": "ada", "green": True, "results": [{"name": "x", "ok": True}]}
FAILS = {"rule": "auc", "ok": False, "severity": "block"}
RED = {"event": "release.checked", "by": "ada", "green": False, "results": [FAILS]}
APPROVED = {"event": "release.approved", "by": "grace"}
PROMOTED = {"event": "release.promoted", "by": "otto"}
WAIVED = {"event": "waiver.granted", "by": "grace", "rule": "auc", "expires": "2099-01-01"}
ASKS_TWO = {"event": "usecase.defined", "document": {"approvals": 2}}
GOOD = (PROPOSED, GREEN, APPROVED, PROMOTED)


def test_promotions_a_shadow_and_a_roll_back_are_the_population() -> None:
    made = bank()
    for release in (A, B):
        assert made.propose(release) and made.check(release) and made.approve(release)
        if release == B:
            assert made.act("shadowed", B)
        assert made.act("promoted", release)
    assert made.act("rolled_back", A, **{"from": B})
    rows = changes(listed(made))
    assert [(r["event"], r["release"]) for r in rows] == [
        ("release.promoted", A),
        ("release.shadowed", B),
        ("release.promoted", B),
        ("release.rolled_back", A),
    ]
    assert all(r["violations"] == [] for r in rows)
    assert all(r["author"] == "ada" and r["promoter"] == "otto" and r["green"] for r in rows)


def test_a_use_case_that_asks_for_more_later_makes_no_old_change_wrong() -> None:
    made = bank()
    assert made.propose(A) and made.check(A) and made.approve(A) and made.act("promoted", A)
    assert made.define(approvals=2)
    assert made.propose(B) and made.check(B) and made.approve(B) and made.approve(B, "vic")
    assert made.act("promoted", B) and made.act("rolled_back", A, **{"from": B})
    rows = changes(listed(made))
    assert [(r["approvals_needed"], r["violations"]) for r in rows] == [(1, []), (2, []), (1, [])]


def test_a_waiver_that_was_used_is_named_and_no_violation() -> None:
    (row,) = changes(forged(PROPOSED, RED, WAIVED, APPROVED, PROMOTED))
    assert row["violations"] == [] and row["waivers"] == ["auc until 2099-01-01 by grace"]
    (row,) = changes(forged(PROPOSED, GREEN, WAIVED, APPROVED, PROMOTED))
    assert row["waivers"] == [], "nothing failed, so nothing was waived"


BAD: dict[str, tuple[tuple[dict[str, Any], ...], str]] = {
    "author approves": ((PROPOSED, GREEN, {**APPROVED, "by": "ada"}, PROMOTED), "its author approved it"),
    "author promotes": ((PROPOSED, GREEN, APPROVED, {**PROMOTED, "by": "ada"}), "its author put it to use"),
    "never proposed": (GOOD[1:], "it was never proposed"),
    "never checked": ((PROPOSED, APPROVED, PROMOTED), "it was never checked"),
    "approved, then checked": (
        (PROPOSED, APPROVED, GREEN, PROMOTED),
        "grace approved it with no green check run before",
    ),
    "approved on red": ((PROPOSED, RED, APPROVED, GREEN, PROMOTED), "grace approved it with no green check run"),
    "promoted on red": ((PROPOSED, GREEN, APPROVED, RED, PROMOTED), "its last check run is not green"),
    "red called green": (
        (PROPOSED, {**RED, "green": True}, APPROVED, PROMOTED),
        "its last check run calls itself green",
    ),
    "promoted, then approved": ((PROPOSED, GREEN, PROMOTED, APPROVED), "it has fewer than 1 approvals"),
    "one of two approvals": ((ASKS_TWO, *GOOD), "it has fewer than 2 approvals"),
    "the same person twice": (
        (ASKS_TWO, PROPOSED, GREEN, APPROVED, APPROVED, PROMOTED),
        "it has fewer than 2 approvals",
    ),
    "the author waives": (
        (PROPOSED, RED, {**WAIVED, "by": "ada"}, APPROVED, PROMOTED),
        "its author waived a rule",
    ),
    "the waiver is over": (
        (PROPOSED, RED, {**WAIVED, "expires": "2020-01-01"}, APPROVED, PROMOTED),
        "its last check run is not green",
    ),
    "of another rule": (
        (PROPOSED, RED, {**WAIVED, "rule": "psi"}, APPROVED, PROMOTED),
        "its last check run is not green",
    ),
    "suspended": ((*GOOD[:3], {"event": "release.suspended", "by": "otto"}, PROMOTED), "it was suspended when"),
    "retired": ((*GOOD[:3], {"event": "release.retired", "by": "otto"}, PROMOTED), "it was retired when"),
}  # fmt: skip


def test_the_log_that_is_forged_below_is_good() -> None:
    (row,) = changes(forged(*GOOD))
    assert row["violations"] == []


@pytest.mark.parametrize("name", BAD)
def test_each_forgery_is_named(name: str) -> None:
    payloads, expected = BAD[name]
    (row,) = changes(forged(*payloads))
    assert any(v.startswith(expected) for v in row["violations"]), row["violations"]


@pytest.mark.parametrize("write", [changes_csv, changes_jsonl])
def test_the_sheets_say_the_same_each_time(write: Callable[..., str]) -> None:
    rows = changes(forged(*GOOD))
    assert write(rows) == write(changes(forged(*GOOD)))


def test_a_spreadsheet_runs_nothing_and_reads_every_cell_back() -> None:
    evil = {**PROPOSED, "name": '=HYPERLINK("x")', "version": "-1\r\n,", "by": "+ada"}
    rows = changes(forged(evil, GREEN, {**APPROVED, "by": "@grace"}, PROMOTED))
    (cells,) = csv.DictReader(io.StringIO(changes_csv(rows), newline=""))
    assert list(cells) == list(COLUMNS)
    assert (cells["name"], cells["version"], cells["author"]) == ('\'=HYPERLINK("x")', "'-1\r\n,", "'+ada")
    assert cells["approvers"].startswith("'@grace ")
    assert [json.loads(line) for line in changes_jsonl(rows).splitlines()] == rows
