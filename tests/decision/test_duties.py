"""The duties of a rulebook by themselves, and the same judgement by the gate and by the offline verifier."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bank import USE_CASE
from fiduciary.decision import Asked, Duties, NoticeDuty, admit, notices, outcomes, referral
from fiduciary.decision._duties import duties_of, inside, reason_count, reviewer, same_purpose
from fiduciary.errors import IntegrityError, RuleError
from fiduciary.evidence import _verify_folder as offline
from fiduciary.models import Reason
from fiduciary.registry import Book, UseCase

REGIONS = ["eu", "EU", "us", "us-nj", "US-NJ", "usa", "hk", ""]
NAMES = st.sampled_from(["", "gdpr-22", "co-1703"])

DUTIES = st.builds(
    Duties,
    purpose_required=st.booleans(),
    lawful_bases=st.sampled_from([None, (), ("contract",), ("contract", "consent")]),
    consent_required=st.booleans(),
    residency=st.sampled_from([None, (), ("eu",), ("US", "eu"), ("us-nj",)]),
    referral=NAMES,
    opt_out=NAMES,
    reasons_min=st.integers(0, 3),
    reasons_max=st.sampled_from([0, 1, 4]),
    notices=st.lists(
        st.builds(
            NoticeDuty,
            code=st.sampled_from(["a", "b"]),
            rule=st.sampled_from(["r1", "r2"]),
            when=st.sampled_from(["adverse", "always"]),
            within_days=st.sampled_from([None, 0, 30]),
        ),
        max_size=3,
    ).map(tuple),
)
USES = st.builds(
    lambda **more: msgspec.structs.replace(USE_CASE, **more),
    lawful_basis=st.sampled_from(["", "contract", "consent"]),
    automated_ground=st.sampled_from(["", "contract", "law", "consent"]),
    regions=st.lists(st.sampled_from(["eu", "us"]), max_size=2, unique=True),
    reason_count=st.integers(1, 5),
)
ASKED = st.builds(
    Asked,
    purpose=st.sampled_from(
        ["", USE_CASE.name, USE_CASE.purpose, "  " + USE_CASE.purpose.upper(), "marketing"]
    ),
    consent=st.sampled_from(["", "k-1"]),
    region=st.sampled_from(REGIONS),
    opted_out=st.booleans(),
)


def as_recorded(asked: Asked, use_case: UseCase, gate: str) -> dict[str, Any]:
    """What a record says of the circumstances."""
    return {
        "purpose": asked.purpose,
        "consent": asked.consent,
        "region": asked.region or gate,
        "opted_out": asked.opted_out,
        "basis": use_case.lawful_basis,
    }


@given(duties=DUTIES, use_case=USES, asked=ASKED, score=st.floats(0, 1), found=st.integers(0, 5))
def test_the_gate_and_the_verifier_refer_alike(
    duties: Duties, use_case: UseCase, asked: Asked, score: float, found: int
) -> None:
    data, rules = msgspec.to_builtins(duties), use_case.document
    outcome = outcomes(use_case, [score])[0]
    assert offline.cut_off(rules, score) == outcome
    reasons = [Reason("r", "text", 1.0)] * found
    rule = referral(duties, use_case, asked, outcome, reasons)
    record = as_recorded(asked, use_case, "eu")
    assert offline.referral(data, rules, record, outcome, [{}] * found) == rule
    after = "refer" if rule else outcome
    due = notices(duties, after)
    assert offline.notices(data, after) == [msgspec.to_builtins(n) for n in due]
    assert offline.reason_count(data, rules) == reason_count(duties, use_case)


@given(duties=DUTIES, use_case=USES, asked=ASKED, gate=st.sampled_from(REGIONS[:6]))
def test_what_the_gate_admits_the_verifier_admits(
    duties: Duties, use_case: UseCase, asked: Asked, gate: str
) -> None:
    """The verifier sees the gate's region only where no other was given, so it admits a little more."""
    why = offline.inadmissible(
        msgspec.to_builtins(duties), use_case.document, as_recorded(asked, use_case, gate)
    )
    try:
        admit(duties, use_case, asked, gate)
    except RuleError as error:
        if not why:
            assert "this gate stands in" in error.detail and asked.region
    else:
        assert why == ""


@given(duties=DUTIES, use_case=USES, asked=ASKED, outcome=st.sampled_from(["approve", "refer", "decline"]))
def test_no_rule_ever_turns_an_outcome_into_an_approval_or_a_decline(
    duties: Duties, use_case: UseCase, asked: Asked, outcome: str
) -> None:
    rule = referral(duties, use_case, asked, outcome, [])
    assert not (rule and outcome == "refer")
    if asked.opted_out:
        assert rule or outcome == "refer"
    if outcome == "approve" and not asked.opted_out:
        assert not rule


@given(use_case=USES, asked=ASKED, score=st.floats(0, 1))
def test_without_rules_and_opting_out_the_cut_offs_stand(
    use_case: UseCase, asked: Asked, score: float
) -> None:
    plain = msgspec.structs.replace(asked, opted_out=False)
    assert referral(Duties(), use_case, plain, outcomes(use_case, [score])[0], []) == ""


def test_a_reason_count_is_within_what_the_rules_ask_for() -> None:
    for own, low, high, given_ in ((4, 0, 0, 4), (4, 1, 2, 2), (1, 2, 4, 2), (3, 1, 4, 3), (2, 3, 0, 3)):
        use_case = msgspec.structs.replace(USE_CASE, reason_count=own)
        assert reason_count(Duties(reasons_min=low, reasons_max=high), use_case) == given_


def test_a_region_lies_in_itself_and_in_what_it_is_part_of() -> None:
    assert inside("us-nj", ["us"]) and inside("US", ["us"]) and inside("eu", ("x", "EU"))
    assert not inside("usa", ["us"]) and not inside("us", ["us-nj"]) and not inside("", ["us"])


def test_a_purpose_is_the_name_or_the_words_of_the_use_case() -> None:
    assert same_purpose("consumer-credit", USE_CASE)
    assert same_purpose(" Decide on CONSUMER loans up to 50,000 euro ", USE_CASE)
    assert not same_purpose("Consumer-Credit loans", USE_CASE)


def test_refusals_repeat_nothing_that_was_sent() -> None:
    secret = "Jane Doe, 12 High Street"
    for duties, asked in (
        (Duties(), Asked(purpose=secret)),
        (Duties(residency=("eu",)), Asked(region=secret)),
    ):
        with pytest.raises(RuleError) as error:
            admit(duties, USE_CASE, asked, "eu")
        assert secret not in error.value.detail


def test_who_is_to_decide() -> None:
    assert reviewer(USE_CASE) == ""
    assert reviewer(msgspec.structs.replace(USE_CASE, reviewers=["credit desk", "x"])) == "credit desk"
    both = msgspec.structs.replace(USE_CASE, reviewers=["credit desk"], oversight_person="vera")
    assert reviewer(both) == "vera"


@pytest.mark.parametrize(
    "obligations",
    [
        {"reasons_min": "1"},
        {"notices": [{"code": "a"}]},
        {"residency": "eu"},
        {"notices": [{"code": 1, "rule": "r"}]},
    ],
)
def test_malformed_obligations_refuse(obligations: dict[str, Any]) -> None:
    book = Book("sha256:x", "u", "", (), (), obligations, "2026-01-01", "", 0, 0)
    with pytest.raises(IntegrityError):
        duties_of(book)
    assert duties_of(None) == Duties()
