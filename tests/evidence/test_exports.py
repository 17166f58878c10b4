"""Exports for other people's tools: OSCAL, a Gemara evaluation log, the change population."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bank import OFFICER
from control_log import NOW, USE, A, B, Control
from fiduciary.evidence import Scope, cut
from fiduciary.evidence._changes import changes, changes_csv
from fiduciary.evidence._gemara import RANK, evaluation_log
from fiduciary.evidence._oscal import assessment_results

RELEASES = [{"release": A, "name": "card", "version": "1", "author": "ada", "use_case": USE}]
RUNS = [
    {
        "release": A, "index": 7, "time": "2026-05-03T12:00:00.000000001Z", "by": "ada", "rulebook": B,
        "results": [
            {"name": "probes_reproduce", "ok": True, "severity": "block", "detail": "64 rows"},
            {"name": "discrimination.auc", "rule": "crr-185-disc", "pack": "basel", "version": "1", "ok": True,
             "severity": "warn", "detail": "AUC 0.78", "value": 0.78, "threshold": 0.7},
            {"name": "approval.attested", "rule": "gdpr-35", "pack": "gdpr", "version": "1", "ok": None,
             "severity": "block", "detail": "", "lacking": "a current filing of: dpia"},
            {"name": "fairness.significance", "rule": "nj-lad-di", "pack": "us-credit", "version": "1", "ok": False,
             "severity": "warn", "detail": "p 0.001", "value": 0.001},
        ],
    }
]  # fmt: skip
CREATED = "2026-06-01T00:00:00.000000000Z"
HOME = "acme.eu"
READ = """
import pathlib, sys
from trestle.oscal.assessment_results import AssessmentResults
print(len(AssessmentResults.oscal_read(pathlib.Path(sys.argv[1])).results))
"""


def oscal() -> dict[str, Any]:
    return json.loads(assessment_results(HOME, CREATED, RELEASES, RUNS))["assessment-results"]


def test_every_rule_is_a_finding_and_unknown_is_not_satisfied() -> None:
    result = oscal()["results"][0]
    states = {f["target"]["target-id"]: f["target"]["status"] for f in result["findings"]}
    assert states["crr-185-disc"] == {"state": "satisfied"}
    assert states["nj-lad-di"] == {"state": "not-satisfied", "reason": "fail"}
    assert states["gdpr-35"]["state"] == "not-satisfied" and "dpia" in states["gdpr-35"]["remarks"]
    assert len(result["observations"]) == 4 and len(result["findings"]) == 3


def test_identifiers_are_unique_and_the_same_twice() -> None:
    text = assessment_results(HOME, CREATED, RELEASES, RUNS)
    assert text == assessment_results(HOME, CREATED, RELEASES, RUNS)
    own = re.findall(r'"uuid": "([0-9a-f-]{36})"', text)
    assert len(own) == len(set(own)) > 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from evidence_bank import EvidenceBank

    bank = EvidenceBank(tmp_path_factory.mktemp("bank"))
    bank.live()
    ids = bank.decide(USE, "gate-0", 5)
    place = bank.folder / "evidence"
    cut(bank.ledger, bank.registry, Scope("decisions", tuple(ids[:1])), place, by=OFFICER)
    yield place
    bank.ledger.close()


def test_trestle_reads_it(tmp_path: Path, folder: Path) -> None:
    python = os.environ.get("FIDUCIARY_TRESTLE")
    if not python:
        pytest.skip("no compliance-trestle here: make test-conformance-evidence builds its environment")
    made = tmp_path / "assessment-results.json"
    made.write_text(assessment_results(HOME, CREATED, RELEASES, RUNS))
    for document in (made, folder / "oscal" / "assessment-results.json"):
        done = subprocess.run([python, "-c", READ, str(document)], capture_output=True, text=True)
        assert done.returncode == 0 and int(done.stdout.split()[-1]) >= 1, done.stdout + done.stderr


ENTRY = {"reference-id", "entry-id"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def test_the_evaluation_log_has_what_its_schema_asks_for() -> None:
    """The members and constraints of the published schema's text, one by one; no tool for CUE is at hand."""
    log = yaml.safe_load(evaluation_log(HOME, CREATED, RELEASES, RUNS))
    assert log["metadata"]["type"] == "EvaluationLog" and {"id", "description", "author"} <= set(
        log["metadata"]
    )
    assert {"id", "name", "type"} <= set(log["metadata"]["author"]) and {"id", "name", "type"} <= set(
        log["target"]
    )
    declared = {r["id"] for r in log["metadata"]["mapping-references"]}
    assert log["result"] == "Failed" and len(log["evaluations"]) == 3
    for evaluation in log["evaluations"]:
        assert {"name", "result", "message", "control", "assessment-logs"} == set(evaluation)
        assert set(evaluation["control"]) == ENTRY and evaluation["control"]["reference-id"] in declared
        for one in evaluation["assessment-logs"]:
            assert {"requirement", "description", "result", "message", "applicability", "steps"} <= set(one)
            assert one["requirement"]["reference-id"] == evaluation["control"]["reference-id"]
            assert one["result"] in RANK and one["applicability"] and one["steps"] and one["message"]
            assert TIME.fullmatch(str(one["start"])), "executed assessments have a start"
    results = {e["name"]: e["result"] for e in log["evaluations"]}
    assert results == {"crr-185-disc": "Passed", "gdpr-35": "Needs Review", "nj-lad-di": "Failed"}
    assert evaluation_log(HOME, CREATED, RELEASES, []) == ""


def control() -> Control:
    made = Control()
    for name, role in {
        "olga": "officer",
        "ada": "developer",
        "grace": "validator",
        "otto": "operator",
    }.items():
        made.enrol(name, role)
    made.define()
    return made


def listed(made: Control) -> list[dict[str, Any]]:
    return [{"index": i, "time_ns": t, "payload": p} for i, t, p in made.events]


def test_an_honest_change_has_no_violation() -> None:
    made = control()
    assert made.propose(A) and made.check(A) and made.approve(A) and made.act("promoted", A)
    (row,) = changes(listed(made))
    assert (row["author"], row["promoter"], row["green"], row["violations"]) == ("ada", "otto", True, [])
    assert row["approvers"][0].startswith("grace ") and row["record"] == f"control.{len(made.events) - 1}"


def test_what_should_not_have_been_possible_is_named() -> None:
    made = control()
    made.propose(A)
    made.act("promoted", A)  # the registry refuses it; a forged log may still show it
    (row,) = changes(listed(made))
    assert row["violations"] == ["it was never checked", "it has fewer than 1 approvals by others"]
    forged = {"event": "release.promoted", "by": "ada", "release": B, "use_case": USE}
    rows = changes([{"index": 0, "time_ns": NOW, "payload": forged}])
    assert "it was never proposed" in rows[0]["violations"]


def test_the_spreadsheet_runs_no_formula() -> None:
    made = control()
    made.propose(A)
    forged = {
        "event": "release.promoted", "by": "=cmd|' /C calc'!A0", "release": A, "use_case": USE, "note": "@SUM(1)",
    }  # fmt: skip
    (row,) = changes([*listed(made), {"index": 99, "time_ns": NOW, "payload": forged}])
    cells = next(csv.DictReader(io.StringIO(changes_csv([row]))))
    assert cells["promoter"].startswith("'=") and cells["note"].startswith("'@")


def test_the_folder_has_them_all_and_no_rule_means_no_evaluation_log(folder: Path) -> None:
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {"oscal/assessment-results.json", "changes/changes.csv", "changes/changes.jsonl"} <= names
    assert "gemara/evaluation-log.yaml" not in names
    rows = [json.loads(line) for line in (folder / "changes" / "changes.jsonl").read_text().splitlines()]
    assert rows and all(row["violations"] == [] for row in rows)
