"""People's rights beside a gate that goes on answering: erasure, letters and the stop button."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bank import OFFICER, OPERATOR
from door import USE, OpenGate
from fiduciary.cli._decide import ask
from fiduciary.errors import ConflictError, GoneError
from fiduciary.rights import Letters, drill_stop, find_pack, shipped_template
from rights_bank import ANN, GOOD, RightsBank, traces

KEY = "order-of-ann-miller"
ANNS = {"utilisation": 0.8123457, "late_payments": 4, "housing": "renter"}


@pytest.fixture
def gate(tmp_path: Path, pattern: RightsBank) -> Iterator[OpenGate]:
    made = OpenGate(tmp_path, bank=pattern.copied(tmp_path))
    yield made
    made.close()


def test_an_erasure_beside_a_running_gate_leaves_nothing_in_any_file(gate: OpenGate) -> None:
    bank = gate.bank
    assert isinstance(bank, RightsBank)
    answered = gate.ask(ANN, ANNS, Idempotency_Key=KEY)
    assert answered.status == 200
    decision = answered.json()["id"]
    assert gate.ask(ANN, {**ANNS, "utilisation": 7.1234567}, Idempotency_Key=KEY + "-2").status == 422
    assert gate.ask("other", GOOD).status == 200
    contest = bank.desk.open_contest(decision, ANN, "Zebra-illness in spring", by=OFFICER)
    bank.desk.decide_contest(contest.id, "uphold", by="hana", key=bank.key("hana"), reason="Yellow-payslip")
    template, raw = shipped_template("uk_adm", "en")
    letters, pack = Letters(bank.desk), find_pack(bank.desk, "uk-credit")
    assert ANN in letters.issue(decision, "uk_adm", pack, template, raw, by=OFFICER).text
    bank.desk.erase(ANN, by=OFFICER, reason="request 9")
    assert gate.ask("other", GOOD).status == 200
    assert gate.ask(ANN, ANNS, Idempotency_Key=KEY).status == 410  # not decided again, and not told
    personal = [ANN, "0.8123457", "7.1234567", "Zebra-illness in spring", "Yellow-payslip", KEY]
    assert traces(gate.home, personal) == []
    gate.stop()
    assert traces(gate.home, personal) == []
    assert bank.ledger.verify().ok
    with pytest.raises(GoneError):
        letters.issue(decision, "uk_adm", pack, template, raw, by=OFFICER)


def test_a_refused_question_gets_no_letter_and_no_contest(gate: OpenGate) -> None:
    bank = gate.bank
    assert isinstance(bank, RightsBank)
    assert gate.ask(ANN, {**ANNS, "utilisation": 7.0}).status == 422
    (refused,) = [r.id for r in bank.ledger.records("gate-0") if b'"refused"' in (r.payload or b"")]
    template, raw = shipped_template("uk_adm", "en")
    with pytest.raises(ConflictError, match="is a refusal"):
        Letters(bank.desk).issue(
            refused, "uk_adm", find_pack(bank.desk, "uk-credit"), template, raw, by=OFFICER
        )
    with pytest.raises(ConflictError, match="is a refusal"):
        bank.desk.open_contest(refused, ANN, "text", by=OFFICER)
    assert not bank.desk.register().letters


def test_the_stop_button_is_obeyed_by_a_running_gate_within_a_second(gate: OpenGate) -> None:
    bank = gate.bank
    assert isinstance(bank, RightsBank)
    bank.enrol(OPERATOR, "operator", "validator")
    url = f"http://127.0.0.1:{gate.addresses.port}"
    body = {"use_case": USE, "subject": "drill", "features": GOOD}
    stopped = drill_stop(
        bank.desk, bank.release, lambda: ask(url, gate.token, body), by=OPERATOR, key=bank.key(OPERATOR)
    )
    assert stopped.passed
    assert 0 < stopped.seconds < 1
    refusals = [r for r in gate.records() if r.outcome == "refused"]
    assert "not-servable" in {r.problem for r in refusals}
    assert gate.ask("other", GOOD).status == 200
    (drill,) = bank.registry.facts(bank.use_case.name).drills
    assert drill.seconds == pytest.approx(stopped.seconds)
