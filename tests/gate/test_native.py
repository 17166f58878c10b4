"""The native door: what an answer holds, how a refusal reads, and that both are recorded first."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from bank import USE_CASE
from door import ROW, USE, OpenGate
from fiduciary.decision import Decider, replay
from fiduciary.ledger import Kind


def test_an_answer_holds_the_decision_its_true_reasons_and_its_place_on_the_ledger(gate: OpenGate) -> None:
    reply = gate.ask("anna")
    assert reply.status == 200
    answer = reply.json()
    assert list(answer) == [
        "id", "outcome", "score", "margin", "baseline", "reasons", "release", "use_case", "ledger",
    ]  # fmt: skip
    assert answer["release"] == gate.release and answer["use_case"] == USE
    assert answer["outcome"] == "decline" and answer["score"] >= USE_CASE.decline_from
    parts = sum(reason["contribution"] for reason in answer["reasons"])
    assert parts == pytest.approx(answer["margin"] - answer["baseline"], abs=1e-9)
    assert answer["id"] == f"{answer['ledger']['log']}.{answer['ledger']['index']}"


def test_the_record_is_there_when_the_answer_is_and_replays_bit_for_bit(gate: OpenGate) -> None:
    answer = gate.ask("bert").json()
    record = gate.bank.ledger.get(answer["id"])
    assert record.header.kind == Kind.DECISION and record.header.use_case == USE
    assert f"sha256:{record.header.release.hex()}" == gate.release
    assert record.subject == gate.bank.ledger.vault.pseudonym("bert")
    found = gate.records(answer["ledger"]["index"])[0]
    assert (found.subject, found.caller, found.door) == ("bert", "svc-loans", "native")
    assert json.loads(bytes(found.features)) == ROW
    assert found.rules == USE_CASE.digest and found.policies.startswith("sha256:")
    again = replay(found, Decider(gate.bank.registry.load(gate.release), USE_CASE))
    assert again.same, again.differences
    assert (again.verdict.score, again.verdict.margin) == (answer["score"], answer["margin"])


def test_nothing_personal_lies_in_the_files_in_the_clear(gate: OpenGate) -> None:
    gate.ask("a-very-unusual-name-4711")
    held = b"".join(p.read_bytes() for p in (gate.home / "ledger" / "gate-0").rglob("*") if p.is_file())
    held += b"".join(p.read_bytes() for p in (gate.home / "gate").rglob("*") if p.is_file())
    assert b"a-very-unusual-name-4711" not in held and b"utilisation" not in held


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ({"utilisation": 0.1, "late_payments": 0, "housing": "owner"}, "approve"),
        ({"utilisation": 0.5, "late_payments": 1, "housing": "renter"}, "refer"),
        ({"utilisation": 0.9, "late_payments": 5, "housing": "renter"}, "decline"),
        ({"utilisation": 0.1, "late_payments": None, "housing": "owner"}, "approve"),
    ],
)
def test_the_use_cases_cut_offs_make_the_outcome(gate: OpenGate, row: dict[str, Any], outcome: str) -> None:
    assert gate.ask("c", row).json()["outcome"] == outcome


def test_a_batch_is_decided_row_by_row_and_each_row_is_recorded(gate: OpenGate) -> None:
    rows = [{"subject": f"s{i}", "features": {**ROW, "utilisation": i / 10}} for i in range(10)]
    decisions = gate.post({"use_case": USE, "rows": rows}).json()["decisions"]
    assert [d["ledger"]["index"] for d in decisions] == list(
        range(decisions[0]["ledger"]["index"], decisions[0]["ledger"]["index"] + 10)
    )
    recorded = gate.records(decisions[0]["ledger"]["index"])
    assert [r.subject for r in recorded] == [row["subject"] for row in rows]
    for row, decision in zip(rows, decisions, strict=True):
        alone = gate.ask(str(row["subject"]), row["features"]).json()
        same = ("outcome", "score", "margin", "baseline", "reasons", "release")
        assert {k: alone[k] for k in same} == {k: decision[k] for k in same}


def test_many_at_once_are_batched_and_each_gets_its_own_answer(gate: OpenGate) -> None:
    answers: dict[int, Any] = {}

    def one(i: int) -> None:
        for k in range(5):
            answers[i * 5 + k] = gate.ask(f"x{i}", {**ROW, "utilisation": (i * 5 + k) / 200}).json()

    threads = [threading.Thread(target=one, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer["id"] for answer in answers.values()}) == 80
    by_index = {r.index: r for r in gate.bank.ledger.records("gate-0")}
    for i, answer in answers.items():
        recorded = json.loads(by_index[answer["ledger"]["index"]].payload or b"")
        assert recorded["features"]["utilisation"] == i / 200
        assert recorded["score"] == answer["score"]


REFUSALS: list[tuple[str, dict[str, Any] | str, int, str]] = [
    (
        "unknown field",
        {"use_case": USE, "subject": "s", "features": ROW, "more": 1},
        400,
        "malformed-request",
    ),
    ("no subject", {"use_case": USE, "features": ROW}, 400, "malformed-request"),
    ("empty subject", {"use_case": USE, "subject": "", "features": ROW}, 400, "malformed-request"),
    ("long subject", {"use_case": USE, "subject": "s" * 201, "features": ROW}, 400, "malformed-request"),
    ("neither", {"use_case": USE}, 400, "malformed-request"),
    ("both", {"use_case": USE, "subject": "s", "features": ROW, "rows": []}, 400, "malformed-request"),
    ("no rows", {"use_case": USE, "rows": []}, 400, "malformed-request"),
    ("not JSON", "{", 400, "malformed-request"),
    ("an array", "[]", 400, "malformed-request"),
    ("empty", "", 400, "malformed-request"),
    ("unknown feature", {"use_case": USE, "subject": "s", "features": {**ROW, "age": 3}}, 422, "contract"),
    ("missing feature", {"use_case": USE, "subject": "s", "features": {"utilisation": 0.5}}, 422, "contract"),
    (
        "out of range",
        {"use_case": USE, "subject": "s", "features": {**ROW, "utilisation": 2}},
        422,
        "contract",
    ),
    (
        "text for number",
        {"use_case": USE, "subject": "s", "features": {**ROW, "utilisation": "1"}},
        422,
        "contract",
    ),
    ("features a list", {"use_case": USE, "subject": "s", "features": [1]}, 422, "contract"),
    (
        "unknown use case",
        {"use_case": "mortgages", "subject": "s", "features": ROW},
        403,
        "permission-denied",
    ),
]


@pytest.mark.parametrize(
    ("document", "status", "kind"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS]
)
def test_refusals_are_problem_documents_and_are_recorded(
    gate: OpenGate, document: dict[str, Any] | str, status: int, kind: str
) -> None:
    before = len(gate.records())
    reply = gate.post(document)
    assert (reply.status, reply.kind) == (status, kind)
    assert reply.headers["content-type"] == "application/problem+json"
    recorded = gate.records()[before:]
    assert [(r.outcome, r.problem, r.caller) for r in recorded] == [("refused", kind, "svc-loans")]


def test_a_row_of_a_batch_that_breaks_the_contract_refuses_the_batch_and_says_where(gate: OpenGate) -> None:
    before = len(gate.records())
    rows = [{"subject": "s", "features": ROW}, {"subject": "t", "features": {**ROW, "housing": "tent"}}]
    reply = gate.post({"use_case": USE, "rows": rows})
    assert (reply.status, reply.json()["where"]) == (422, "/rows/1/features/housing")
    assert [r.outcome for r in gate.records()[before:]] == ["refused"]


def test_no_refusal_repeats_a_value_that_was_sent(gate: OpenGate) -> None:
    for features in ({**ROW, "housing": "VERY-PRIVATE"}, {**ROW, "utilisation": "VERY-PRIVATE"}):
        assert b"VERY-PRIVATE" not in gate.ask("s", features).body
    assert (
        b"VERY-PRIVATE"
        not in gate.post({"use_case": "VERY-PRIVATE" * 9, "subject": "s", "features": ROW}).body
    )


def test_who_is_not_known_is_refused_and_counted_not_recorded(gate: OpenGate) -> None:
    before = len(gate.records())
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic eDp5"}):
        reply = gate.request("POST", "/v1/decisions", json.dumps({"use_case": USE}), **headers)
        assert (reply.status, reply.kind) == (401, "authentication")
        assert reply.headers["www-authenticate"].startswith("Bearer")
    assert len(gate.records()) == before


def test_who_may_not_decide_is_refused_and_recorded(gate: OpenGate) -> None:
    before = len(gate.records())
    reply = gate.ask("dora", token=gate.issue("mona", "operator"))
    assert (reply.status, reply.kind) == (403, "permission-denied")
    [record] = gate.records()[before:]
    assert (record.outcome, record.problem, record.caller, record.subject) == (
        "refused", "permission-denied", "mona", "dora",
    )  # fmt: skip


def test_other_methods_and_addresses(gate: OpenGate) -> None:
    assert gate.request("GET", "/v1/decisions").status == 405
    assert gate.request("GET", "/v1/decisions").headers["allow"] == "POST"
    assert gate.request("GET", "/nowhere").status == 404
    assert gate.request("DELETE", "/openapi.json").status == 405
    assert gate.request("HEAD", "/health/live").body == b""


def test_a_record_can_be_read_by_readers_only(gate: OpenGate) -> None:
    answer = gate.ask("emil").json()
    path = f"/v1/decisions/{answer['id']}"
    auditor = gate.issue("audrey", "auditor")
    shown = gate.request("GET", path, token=auditor).json()
    assert shown["record"]["subject"] == "emil" and shown["ledger"] == answer["ledger"]
    assert gate.request("GET", path).status == 401
    assert gate.request("GET", path, token=gate.token).status == 403
    assert gate.request("GET", "/v1/decisions/gate-0.999999", token=gate.token).status == 403
    assert gate.request("GET", "/v1/decisions/gate-0.999999", token=auditor).status == 404
    assert gate.request("GET", "/v1/decisions/control.0", token=auditor).status == 404
    assert gate.request("GET", "/v1/decisions/..%2f..%2fx.1", token=auditor).status in (400, 404)


def test_only_json_is_taken(gate: OpenGate) -> None:
    document = {"use_case": USE, "subject": "s", "features": ROW}
    assert gate.post(document, Content_Type="text/plain").status == 400
    assert gate.post(document, Content_Type="application/json; charset=utf-8").status == 200
