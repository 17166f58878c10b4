"""Rules in force at every door: refused, referred, told, recorded, replayed; and re-resolved without a restart."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from bank import DEVELOPER, OFFICER, OPERATOR, USE_CASE, VALIDATOR
from door import ROW, USE, OpenGate
from fiduciary.decision import Replayer
from fiduciary.errors import NotServableError, ReleaseError
from fiduciary.gate._oip_messages import SERVICE, ModelInferRequest, ModelInferResponse
from fiduciary.registry import day_start
from ruled import RuledBank, pack, plainly

LOW = {"utilisation": 0.1, "late_payments": 0, "housing": "owner"}
HIGH = {"utilisation": 0.9, "late_payments": 8, "housing": "renter"}
NOTICE = {"code": "adverse-action", "rule": "regb-9", "when": "adverse", "within_days": 30, "letter": "us"}
TOLD = {"code": "automated", "rule": "gdpr-13", "when": "always", "within_days": None}


class RuledGate(OpenGate):
    bank: RuledBank

    def decide(self, features: dict[str, Any] | None = None, subject: str = "c-1", **more: Any) -> Any:
        return self.post({"use_case": USE, "subject": subject, "features": features or HIGH, **more})

    def infer(self, **parameters: Any) -> Any:
        inputs = [
            {"name": "utilisation", "shape": [1], "datatype": "FP64", "data": [HIGH["utilisation"]]},
            {"name": "late_payments", "shape": [1], "datatype": "INT64", "data": [HIGH["late_payments"]]},
            {"name": "housing", "shape": [1], "datatype": "BYTES", "data": [HIGH["housing"]]},
        ]
        body = {"inputs": inputs, "parameters": {"subject": "c-1", **parameters}}
        return self.post(body, f"/v2/models/{USE}/infer")

    def rpc(self, **parameters: Any) -> Any:
        request = ModelInferRequest(model_name=USE)
        for name, kind, values in (
            ("utilisation", "FP64", [HIGH["utilisation"]]),
            ("late_payments", "INT64", [HIGH["late_payments"]]),
            ("housing", "BYTES", [HIGH["housing"].encode()]),
        ):
            tensor = request.inputs.add(name=name, datatype=kind, shape=[1])
            field = {"FP64": "fp64_contents", "INT64": "int64_contents", "BYTES": "bytes_contents"}[kind]
            getattr(tensor.contents, field).extend(values)
        for name, value in {"subject": "c-1", **parameters}.items():
            if isinstance(value, bool):
                request.parameters[name].bool_param = value
            else:
                request.parameters[name].string_param = value
        with grpc.insecure_channel(f"127.0.0.1:{self.addresses.grpc_port}") as channel:
            call = channel.unary_unary(
                f"/{SERVICE}/ModelInfer",
                request_serializer=ModelInferRequest.SerializeToString,
                response_deserializer=ModelInferResponse.FromString,
            )
            return call(request, metadata=(("authorization", f"Bearer {self.token}"),), timeout=20)


@pytest.fixture
def ruled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RuledGate]]:
    """A gate whose use case is under one pack: `ruled(referral="gdpr-22", use={"lawful_basis": "consent"})`."""
    plainly(monkeypatch)
    made: list[RuledGate] = []

    def make(use: dict[str, Any] | None = None, live: bool = True, **obligations: Any) -> RuledGate:
        bank = RuledBank(tmp_path)
        bank.govern(pack(**obligations), **(use or {}))
        release = bank.passing() if live else bank.proposed()
        made.append(RuledGate(tmp_path, bank=bank, grpc_port=0))
        made[-1].release = release
        return made[-1]

    yield make
    for gate in made:
        gate.close()


def test_without_a_word_of_rules_nothing_changes(ruled: Any) -> None:
    gate = ruled()
    answer = gate.decide().json()
    assert answer["outcome"] == "decline"
    record = gate.records()[-1]
    assert answer["rulebook"] == record.rulebook == gate.bank.registry.states().uses[USE].book.digest
    assert not {"referred_by", "human", "notices"} & set(answer)


def test_the_rulebook_is_announced_before_the_first_record_that_names_it(ruled: Any) -> None:
    gate = ruled()
    gate.decide()
    record = gate.records()[-1]
    announced = [(i, at, e) for i, at, e in gate.bank.ledger.events() if e["event"] == "rules.resolved"]
    assert [e["rulebook"] for _, _, e in announced] == [record.rulebook], (
        "once, not for each process or question"
    )
    assert announced[0][1] <= gate.bank.ledger.get("gate-0.0").header.time_ns


# --- refusals ---


def refused(gate: RuledGate, reply: Any, where: str | None = None) -> str:
    """It was refused by a rule, and that is on record; returns why."""
    assert (reply.status, reply.kind) == (403, "rule"), reply.json()
    if where is not None:
        assert reply.json()["where"] == where
    record = gate.records()[-1]
    assert (record.outcome, record.problem) == ("refused", "rule") and record.score is None
    assert record.rulebook == gate.bank.registry.states().uses[USE].book.digest
    return str(reply.json()["detail"])


def test_a_purpose_that_a_rule_asks_for_must_be_the_one_of_the_use_case(ruled: Any) -> None:
    gate = ruled(purpose_required=True)
    assert "stated" in refused(gate, gate.decide(), "/purpose")
    why = refused(gate, gate.decide(purpose="marketing of holidays"), "/purpose")
    assert "holidays" not in why
    assert gate.decide(purpose=USE).status == 200
    said = gate.decide(purpose=USE_CASE.purpose.upper() + " ")
    assert said.status == 200 and gate.records()[-1].purpose == USE_CASE.purpose.upper() + " "
    rows = [{"subject": "a", "features": ROW}, {"subject": "b", "features": ROW}]
    batch = {"use_case": USE, "rows": rows}
    assert gate.post({**batch, "purpose": USE}).status == 200
    assert gate.post(batch).json()["where"] == "/purpose"
    assert gate.infer().json()["where"] == "/parameters/purpose"
    assert gate.infer(purpose=USE).status == 200


def test_without_a_rule_another_purpose_is_refused_and_none_is_asked_for(tmp_path: Path) -> None:
    gate = OpenGate(tmp_path)
    try:
        body = {"use_case": USE, "subject": "c", "features": ROW}
        assert gate.post(body).status == 200
        assert gate.post({**body, "purpose": USE}).status == 200
        assert gate.post({**body, "purpose": "marketing"}).kind == "rule"
    finally:
        gate.close()


def test_a_lawful_basis_that_the_rules_do_not_accept_stops_every_door(ruled: Any) -> None:
    gate = ruled(lawful_bases=["contract"], use={"lawful_basis": "legitimate_interest"})
    assert "accept: contract" in refused(gate, gate.decide())
    assert gate.infer().kind == "rule"
    with pytest.raises(grpc.RpcError) as error:
        gate.rpc()
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED and "rule:" in error.value.details()
    assert [r.door for r in gate.records()] == ["native", "oip", "grpc"]


@pytest.mark.parametrize(
    ("obligations", "basis"), [({}, "consent"), ({"consent_required": True}, "contract")]
)
def test_consent_is_a_reference_in_the_request(ruled: Any, obligations: Any, basis: str) -> None:
    gate = ruled(**obligations, use={"lawful_basis": basis})
    assert "consent" in refused(gate, gate.decide(), "/consent")
    assert gate.decide(consent="consent-7781").status == 200
    record = gate.records()[-1]
    assert (record.consent, record.basis) == ("consent-7781", basis)
    rows = [{"subject": "a", "features": ROW, "consent": "k"}, {"subject": "b", "features": ROW}]
    assert gate.post({"use_case": USE, "rows": rows}).json()["where"] == "/rows/1/consent"
    assert gate.rpc(consent="k").model_name == USE


def test_residency_is_of_the_gate_and_of_the_subject(ruled: Any) -> None:
    gate = ruled(residency=["EU", "us"])
    assert gate.decide(region="us-nj").status == 200
    assert gate.records()[-1].region == "us-nj"
    refused(gate, gate.decide(region="usa"), "/region")
    refused(gate, gate.decide(region="hk"), "/region")
    assert gate.decide().status == 200 and gate.records()[-1].region == "eu"


def test_a_gate_that_stands_elsewhere_decides_nothing(ruled: Any) -> None:
    gate = ruled(residency=["us"])
    assert "stands in region 'eu'" in refused(gate, gate.decide())


def test_the_use_case_may_be_stricter_than_the_rules(ruled: Any) -> None:
    gate = ruled(residency=["eu", "us"], use={"regions": ["eu"]})
    refused(gate, gate.decide(region="us"), "/region")
    assert gate.decide(region="eu-de").status == 200


# --- referral, opting out, reasons, notices ---


def test_an_adverse_decision_is_given_to_a_person_where_a_rule_says_so(ruled: Any) -> None:
    gate = ruled(referral="gdpr-22", notices=[NOTICE], use={"oversight_person": "credit desk"})
    answer = gate.decide().json()
    assert (answer["outcome"], answer["referred_by"], answer["human"]) == ("refer", "gdpr-22", "credit desk")
    assert answer["reasons"] and "notices" not in answer, "nothing has been declined yet"
    assert gate.decide(LOW).json()["outcome"] == "approve"
    assert "referred_by" not in gate.decide(LOW).json()
    tensors = {t["name"]: t["data"] for t in gate.infer().json()["outputs"]}
    assert tensors["outcome"] == ["refer"] and tensors["referred_by"] == ["gdpr-22"]
    outputs = {o.name: list(o.contents.bytes_contents) for o in gate.rpc().outputs}
    assert outputs["outcome"] == [b"refer"] and outputs["referred_by"] == [b"gdpr-22"]
    metrics = gate.request("GET", "/metrics", token=gate.issue("prom", "operator")).body.decode()
    assert 'outcome="refer"' in metrics and 'outcome="decline"' not in metrics


@pytest.mark.parametrize("ground", ["contract", "law"])
def test_a_lawful_ground_for_automated_decisions_lets_them_stand(ruled: Any, ground: str) -> None:
    gate = ruled(referral="gdpr-22", use={"automated_ground": ground})
    assert gate.decide().json()["outcome"] == "decline"


def test_the_ground_of_consent_takes_a_consent(ruled: Any) -> None:
    gate = ruled(referral="gdpr-22", use={"automated_ground": "consent"})
    assert gate.decide().json()["outcome"] == "refer"
    assert gate.decide(consent="k-1").json()["outcome"] == "decline"


def test_whoever_opts_out_is_decided_about_by_a_person(ruled: Any) -> None:
    gate = ruled(opt_out="co-6-1-1703", use={"reasons": "adverse"})
    for features in (LOW, HIGH):
        answer = gate.decide(features, opted_out=True).json()
        assert (answer["outcome"], answer["referred_by"]) == ("refer", "co-6-1-1703")
        assert gate.records()[-1].opted_out
    assert gate.decide(LOW, opted_out=False).json()["outcome"] == "approve"
    assert gate.rpc(opted_out=True).outputs[1].contents.bytes_contents[0] == b"refer"
    rows = [{"subject": "a", "features": LOW, "opted_out": True}, {"subject": "b", "features": LOW}]
    answers = gate.post({"use_case": USE, "rows": rows}).json()["decisions"]
    assert [a["outcome"] for a in answers] == ["refer", "approve"]


def test_opting_out_needs_no_rule(ruled: Any) -> None:
    assert ruled().decide(opted_out=True).json()["referred_by"] == "opted-out"


def test_reasons_are_within_what_the_rules_ask_for(ruled: Any) -> None:
    gate = ruled(reasons_min=1, reasons_max=2)
    assert len(gate.decide().json()["reasons"]) == 2


def test_an_adverse_decision_without_its_reasons_goes_to_a_person(ruled: Any) -> None:
    gate = ruled(reasons_min=4)
    answer = gate.decide().json()
    assert len(answer["reasons"]) < 4
    assert (answer["outcome"], answer["referred_by"]) == ("refer", "reasons")


def test_notices_that_are_due_are_in_the_answer_and_in_the_record(ruled: Any) -> None:
    gate = ruled(notices=[NOTICE, TOLD])
    due = {"code": "adverse-action", "rule": "regb-9", "within_days": 30}
    always = {"code": "automated", "rule": "gdpr-13"}
    assert gate.decide().json()["notices"] == [due, always]
    assert [n.code for n in gate.records()[-1].notices] == ["adverse-action", "automated"]
    assert gate.decide(LOW).json()["notices"] == [always]
    tensors = {t["name"]: t["data"] for t in gate.infer().json()["outputs"]}
    assert [json.loads(n) for n in tensors["notices"]] == [due, always]


def test_an_answer_given_again_under_its_key_has_the_same_notices(ruled: Any) -> None:
    gate = ruled(notices=[NOTICE], referral="gdpr-22", use={"automated_ground": "law"})
    body = {"use_case": USE, "subject": "c", "features": HIGH, "purpose": USE}
    first, second = gate.post(body, idempotency_key="k"), gate.post(body, idempotency_key="k")
    assert first.body == second.body and second.headers["idempotency-replayed"] == "true"


def test_the_retention_class_of_the_rules_is_in_the_header(ruled: Any) -> None:
    gate = ruled(retention_class="credit-25-months")
    gate.decide()
    assert gate.bank.ledger.get("gate-0.0").header.retention == "credit-25-months"


@pytest.mark.parametrize(
    "more",
    [
        {"purpose": ""},
        {"purpose": "x" * 201},
        {"purpose": 7},
        {"consent": ""},
        {"consent": "x" * 201},
        {"region": "x" * 41},
        {"opted_out": "yes"},
        {"opted_out": None},
        {"rows": [{"subject": "a", "features": ROW}]},
    ],
)
def test_circumstances_have_one_form(ruled: Any, more: dict[str, Any]) -> None:
    gate = ruled()
    assert gate.decide(**more).kind == "malformed-request"


def test_circumstances_come_once(ruled: Any) -> None:
    gate = ruled()
    features = json.dumps(HIGH)
    for twice in (
        '"purpose":"a","purpose":"b"',
        '"opted_out":true,"opted_out":false',
        '"consent":"a","consent":"b"',
    ):
        body = f'{{"use_case":"{USE}","subject":"c","features":{features},{twice}}}'
        assert gate.post(body).kind == "malformed-request"
    rows = f'[{{"subject":"a","features":{features},"region":"eu","region":"us"}}]'
    assert gate.post(f'{{"use_case":"{USE}","rows":{rows}}}').kind == "malformed-request"
    for name, value in (("purpose", 7), ("consent", ""), ("region", ["eu"]), ("opted_out", "yes")):
        assert gate.infer(**{name: value}).json()["where"] == f"/parameters/{name}"


# --- replay ---


def test_replay_gives_the_same_under_the_rules_of_its_day(ruled: Any) -> None:
    gate = ruled(referral="gdpr-22", notices=[TOLD], reasons_max=2)
    gate.decide()
    gate.decide(LOW, opted_out=True)
    gate.decide(HIGH, purpose=USE, region="eu-de")
    first = gate.records()[0].rulebook
    gate.bank.registry.adopt_pack(pack(version="2"), by=OFFICER, key=gate.bank.keys[OFFICER])
    assert gate.decide().json()["outcome"] == "decline"
    replayer = Replayer(gate.bank.ledger, gate.bank.registry)
    summary = replayer.replay_all(USE, limit=100)
    assert (summary.same, summary.different) == (4, [])
    old = replayer.replay("gate-0.0")
    assert old.verdict.outcome == "refer" and old.rulebook.digest == first
    assert old.rulebook.packs[0][:2] == ("eu-credit", "1")
    assert replayer.replay("gate-0.3").rulebook.packs[0][:2] == ("eu-credit", "2")


# --- a new day, another pack ---


def test_a_pack_adopted_while_serving_binds_the_next_decision(ruled: Any) -> None:
    gate = ruled()
    assert gate.decide().json()["outcome"] == "decline"
    gate.bank.registry.adopt_pack(
        pack(version="2", referral="gdpr-22"), by=OFFICER, key=gate.bank.keys[OFFICER]
    )
    answer = gate.decide().json()
    assert answer["outcome"] == "refer"
    assert answer["rulebook"] != gate.records()[0].rulebook
    announced = [e for e in gate.bank.events() if e["event"] == "rules.resolved"]
    assert [e["rulebook"] for e in announced] == [gate.records()[0].rulebook, answer["rulebook"]]


def test_a_use_case_whose_pack_was_withdrawn_is_refused_until_it_is_back(ruled: Any) -> None:
    gate = ruled()
    assert gate.decide().status == 200
    key = gate.bank.keys[OFFICER]
    gate.bank.registry.withdraw_pack("eu-credit", by=OFFICER, key=key, reason="under review")
    reply = gate.decide()
    assert reply.kind == "not-servable" and "eu-credit" in reply.json()["detail"]
    gate.bank.registry.adopt_pack(pack(), by=OFFICER, key=key)
    deadline = time.monotonic() + 10
    while gate.decide().status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_when_its_last_day_is_over_the_rulebook_is_resolved_anew(ruled: Any, monkeypatch: Any) -> None:
    gate = ruled(live=False)
    document = {**pack(version="2"), "until": "2099-07-21"}
    gate.bank.registry.adopt_pack(document, by=OFFICER, key=gate.bank.keys[OFFICER])
    gate.bank.run_checks(gate.release)
    gate.bank.approve(gate.release)
    gate.bank.promote(gate.release)
    before = gate.decide().json()["rulebook"]
    assert gate.decide().json()["rulebook"] == before
    servables = gate.worker.path._servables
    new_year = day_start("2099-07-21") + 5
    for registry in (servables._registry, servables._loader):
        monkeypatch.setattr(registry._ledger, "clock", lambda: new_year)
    monkeypatch.setattr(servables, "_clock", lambda: new_year)
    monkeypatch.setattr(gate.bank.ledger, "clock", lambda: new_year)
    control = servables._loader._ledger._control
    if control is not None:
        monkeypatch.setattr(control, "_clock", lambda: new_year, raising=False)
    after = gate.decide().json()
    assert after["rulebook"] != before


# --- a release that is blocked ---


@pytest.mark.parametrize("ok", [False, None])
def test_a_blocked_release_is_served_by_no_door(ruled: Any, ok: bool | None) -> None:
    gate = ruled(live=False)
    bank, digest = gate.bank, gate.release
    bank.run_checks(digest, ok=ok)
    with pytest.raises(ReleaseError, match="rule auc"):
        bank.approve(digest)
    with pytest.raises(ReleaseError):
        bank.promote(digest)
    with pytest.raises(ReleaseError):
        bank.registry.shadow(digest, by=OPERATOR, key=bank.keys[OPERATOR])
    for load in (lambda: bank.registry.load(digest), lambda: bank.registry.load_live(USE)):
        with pytest.raises(NotServableError):
            load()
    assert gate.decide().kind == "not-servable"
    assert gate.infer().kind == "not-servable"
    with pytest.raises(grpc.RpcError) as error:
        gate.rpc()
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    bank.run_checks(digest)
    bank.approve(digest)
    bank.promote(digest)
    assert gate.decide().status == 200


def test_checks_of_yesterdays_rules_do_not_open_the_door(ruled: Any) -> None:
    gate = ruled(live=False)
    bank, digest = gate.bank, gate.release
    bank.run_checks(digest)
    bank.registry.adopt_pack(pack(version="2"), by=OFFICER, key=bank.keys[OFFICER])
    with pytest.raises(ReleaseError, match="run the checks again"):
        bank.approve(digest)
    bank.registry.announce(USE, by=DEVELOPER)
    with pytest.raises(ReleaseError, match="run the checks again"):
        bank.approve(digest)
    bank.run_checks(digest, by=VALIDATOR)
    bank.approve(digest)


# --- a real pack ---

REAL = b"""
pack: house
version: "1"
title: Rules of the house
jurisdictions: [EU]
sources:
  - {id: gdpr, title: GDPR, kind: statute}
rules:
  - {id: no-machine-alone, source: gdpr, cite: "22", duty: A person decides., status: in_force, stage: serve,
     severity: block, check: oversight.human_review}
  - {id: lawful, source: gdpr, cite: "6", duty: A lawful basis., status: in_force, stage: serve, severity: block,
     check: approval.lawful_basis, params: {accepted: [contract, consent]}}
  - {id: stated, source: gdpr, cite: "5", duty: A purpose., status: in_force, stage: serve, severity: block,
     check: refusal.purpose}
  - {id: told, source: gdpr, cite: "13", duty: Told., status: in_force, stage: serve, severity: block,
     check: reasons.notice, params: {code: automated, when: always}}
  - {id: opt, source: gdpr, cite: "21", duty: Opt out., status: in_force, stage: serve, severity: block,
     check: oversight.opt_out, effective: {from: 2026-01-01, to: 2099-01-01}}
retention:
  - {record: decision, name: credit, minimum: P25M}
"""


def test_a_real_pack_binds_the_gate(tmp_path: Path) -> None:
    from fiduciary.rules import load_pack

    bank = RuledBank(tmp_path)
    bank.govern(load_pack(REAL).document, lawful_basis="contract", reviewers=["desk"])
    bank.passing()
    gate = RuledGate(tmp_path, bank=bank)
    try:
        assert gate.decide().json()["where"] == "/purpose"
        answer = gate.decide(purpose=USE).json()
        assert (answer["outcome"], answer["referred_by"], answer["human"]) == (
            "refer",
            "no-machine-alone",
            "desk",
        )
        assert answer["notices"] == [{"code": "automated", "rule": "told"}]
        assert gate.decide(LOW, purpose=USE, opted_out=True).json()["referred_by"] == "opt"
        assert bank.ledger.get("gate-0.1").header.retention == "credit"
        book = bank.registry.states().uses[USE].book
        assert book.valid_until == "2099-01-01" and len(book.in_force) == 5
        assert {r["duty"] for r in book.in_force if r["rule"] == "told"} == {"Told."}
        summary = Replayer(bank.ledger, bank.registry).replay_all(USE, limit=9)
        assert (summary.same, summary.different, summary.refused) == (2, [], 1)
    finally:
        gate.close()
