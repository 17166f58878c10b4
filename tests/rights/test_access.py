"""The access file, portability, and drills."""

from __future__ import annotations

import csv
import io
import shutil
from typing import Any

import numpy as np
import pytest

from bank import OFFICER, OPERATOR
from fiduciary.errors import ConflictError, NotFoundError, UsageError
from fiduciary.models import probability
from fiduciary.registry import Registry
from fiduciary.rights import Desk, access_file, drill_stop, page, portable, portable_csv, record_drill
from rights_bank import ANN, BOB, GOOD, ROW, RightsBank


def test_an_access_file_tells_every_decision_about_one_person_and_no_other(bank: RightsBank) -> None:
    row = {"utilisation": 0.8, "late_payments": 1, "housing": "owner"}
    first, second = bank.decide(ANN, row), bank.decide(ANN, GOOD)
    bank.decide(BOB)
    bank.desk.override(first, "approve", by="hana", key=bank.key("hana"), reason="guarantor")
    document = access_file(bank.desk, ANN)
    assert [d["record"] for d in document["decisions"]] == [first, second]
    told = document["decisions"][0]
    assert told["inputs"] == row
    assert (told["outcome"], told["standing_outcome"]) == ("refer", "approve")
    assert told["human_part"]["decided_by"] == "hana"
    assert told["decided_by"]["made_by"] == "ada"
    assert told["decided_by"]["approved_by"] == ["grace"]
    what_if = told["what_would_have_changed_it"]
    changed = {**row, **{c["feature"]: c["after"] for c in what_if["changes"]}}
    release = bank.decider.release
    score = probability(release.scorer.score(np.array([release.compiled.encode(changed)])), "logit").tolist()
    assert score == [what_if["score"]]
    assert score[0] < bank.use_case.approve_below
    assert document["decisions"][1]["what_would_have_changed_it"] == {"answer": "approved"}
    assert "bob" not in str(document)


def test_an_access_file_of_a_period_tells_that_period(bank: RightsBank) -> None:
    first, second = bank.decide(ANN), bank.decide(ANN)
    between = bank.ledger.get(second).header.time_ns
    for period, expected in (
        ({"until_ns": between}, [first]),
        ({"since_ns": between}, [second]),
        ({}, [first, second]),
    ):
        assert [d["record"] for d in access_file(bank.desk, ANN, **period)["decisions"]] == expected
        assert [r["record"] for r in portable(bank.desk, ANN, **period)["rows"]] == expected
    with pytest.raises(NotFoundError):
        access_file(bank.desk, ANN, until_ns=1)


def test_an_access_file_without_the_release_says_what_cannot_be_told(bank: RightsBank) -> None:
    bank.decide(ANN, explained=False, reasons=[])
    shutil.rmtree(bank.settings.home / "releases")
    desk = Desk(bank.ledger, Registry(bank.ledger, bank.settings))
    document = access_file(desk, ANN)
    (told,) = document["decisions"]
    assert told["inputs"] == ROW
    assert told["reasons"] == []
    assert told["reasons_note"]
    assert told["what_would_have_changed_it"]["answer"] == "not_found"
    assert "cannot be computed again" in page(document)


def test_the_page_escapes_and_refers_to_nothing_outside(bank: RightsBank) -> None:
    bank.decide(BOB)
    text = page(access_file(bank.desk, BOB))
    assert "<b>{creditor}" not in text
    assert "&lt;b&gt;{creditor}" in text
    assert "<script" not in text
    assert "src=" not in text.replace("default-src", "").replace("style-src", "")
    assert "://" not in text


def test_portable_data_is_what_was_given(bank: RightsBank) -> None:
    decision = bank.decide(ANN)
    document = portable(bank.desk, ANN)
    assert document["rows"][0]["features"] == ROW
    (line,) = csv.DictReader(io.StringIO(portable_csv(document)))
    assert line["record"] == decision
    assert float(line["utilisation"]) == ROW["utilisation"]
    evil = {"rows": [{"record": "r", "time": "t", "use_case": "u", "features": {"x": "=cmd()"}}]}
    assert "'=cmd()" in portable_csv(evil)
    with pytest.raises(NotFoundError):
        portable(bank.desk, "nobody")


def test_a_stop_drill_presses_the_button_and_is_on_record(bank: RightsBank) -> None:
    bank.enrol(OPERATOR, "operator", "validator")
    gate = Registry(bank.ledger, bank.settings)  # another reader of the same home, as a running gate is

    def ask() -> Any:
        return gate.load_live(bank.use_case.name)

    stopped = drill_stop(bank.desk, bank.release, ask, by=OPERATOR, key=bank.key(OPERATOR))
    assert stopped.passed
    assert 0 < stopped.seconds < 1
    assert stopped.answered == 0
    assert gate.live(bank.use_case.name) == bank.release  # it answers again
    (drill,) = bank.registry.facts(bank.use_case.name).drills
    assert (drill.kind, drill.passed) == ("stop", True)
    assert drill.seconds == pytest.approx(stopped.seconds)
    bank.registry.suspend(bank.release, by=OPERATOR, key=bank.key(OPERATOR), reason="x")
    with pytest.raises(ConflictError, match="not live"):
        drill_stop(bank.desk, bank.release, ask, by=OPERATOR, key=bank.key(OPERATOR))


def test_a_gate_that_goes_on_answering_fails_the_drill_and_is_resumed(
    bank: RightsBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fiduciary.rights import _drill

    monkeypatch.setattr(_drill, "MAX_WAIT_S", 0.2)
    bank.enrol(OPERATOR, "operator", "validator")
    stopped = drill_stop(bank.desk, bank.release, lambda: None, by=OPERATOR, key=bank.key(OPERATOR))
    assert not stopped.passed
    assert stopped.answered > 0
    assert bank.registry.live(bank.use_case.name) == bank.release


def test_other_drills_are_recorded_within_limits(bank: RightsBank) -> None:
    record_drill(bank.desk, "restore", by=OFFICER, passed=True, note="from last night", seconds=840.0)
    assert bank.registry.facts(bank.use_case.name).drills[0].seconds == 840
    for kind, note, seconds in (("party", "x", 1.0), ("restore", "", 1.0), ("restore", "x", -1.0)):
        with pytest.raises(UsageError):
            record_drill(bank.desk, kind, by=OFFICER, passed=True, note=note, seconds=seconds)
