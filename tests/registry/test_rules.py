"""Every rule of governance, tried by writing the forbidden event straight into the fold, past the registry."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from control_log import DOCUMENT, NOW, SCOPE, USE, A, B, Control
from fiduciary.identity import PartyKey
from fiduciary.registry import RULES, Projection, make_statement, sign_statement
from fiduciary.registry._statements import MAX_AGE_S, NANO


@pytest.fixture
def control() -> Control:
    made = Control()
    for name, role in (
        ("olga", "officer"),
        ("ada", "developer"),
        ("grace", "validator"),
        ("otto", "operator"),
    ):
        assert made.enrol(name, role)
    assert made.define()
    return made


@pytest.fixture
def approved(control: Control) -> Control:
    assert control.propose() and control.check() and control.approve()
    return control


@pytest.fixture
def live(approved: Control) -> Control:
    assert approved.act("promoted")
    return approved


def test_the_straight_way(live: Control) -> None:
    assert live.state.live(USE) == A and live.state.state(A) == "live"
    assert live.state.anomalies == []


def test_states_in_order(control: Control) -> None:
    seen = []
    for step in (
        control.propose,
        control.check,
        control.approve,
        lambda: control.act("promoted"),
        lambda: control.act("suspended"),
        lambda: control.act("resumed"),
        lambda: control.act("retired"),
    ):
        assert step()
        seen.append(control.state.state(A))
    assert seen == ["proposed", "checked", "approved", "live", "suspended", "live", "retired"]


# --- what a signature must be ---


@pytest.mark.parametrize("event", sorted(name for name, rule in RULES.items() if rule.signed))
def test_an_unsigned_event_changes_nothing(live: Control, event: str) -> None:
    before = repr(vars(live.state)["releases"])
    assert not live.put({"event": event, "by": "olga", "scope": SCOPE, "release": A, "use_case": USE})
    assert repr(vars(live.state)["releases"]) == before


def change(payload: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**payload, **more}


@pytest.mark.parametrize(
    "forge",
    [
        lambda p: change(p, release=B),
        lambda p: change(p, note="another"),
        lambda p: change(p, extra=1),
        lambda p: change(p, by="otto"),
        lambda p: change(p, event="release.rejected", reason="x"),
        lambda p: change(p, signature=p["signature"][:-4] + "AAA="),
        lambda p: change(p, signature=""),
        lambda p: change(p, signature=7),
        lambda p: change(p, key="0" * 16),
        lambda p: change(p, nonce="0" * 32),
        lambda p: change(p, signed="2026-01-01T00:00:00Z"),
        lambda p: {k: v for k, v in p.items() if k != "nonce"},
        lambda p: {k: v for k, v in p.items() if k != "scope"},
    ],
)
def test_no_member_of_a_signed_event_can_be_changed(
    control: Control, forge: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    control.propose()
    control.check()
    control.propose(B)
    payload = control.signed(
        "release.approved",
        "grace",
        release=A,
        use_case=USE,
        checked=control.state.releases[A].checks.index,
        note="",
    )
    assert not control.put(forge(payload))
    assert control.state.releases[A].approvals == [] and control.state.releases[B].approvals == []
    assert control.put(payload), control.why()


def test_a_statement_counts_once(live: Control) -> None:
    live.propose(B), live.check(B), live.approve(B)
    promote = live.signed("release.promoted", "otto", release=B, use_case=USE, note="")
    assert live.put(promote) and live.state.live(USE) == B
    assert live.act("rolled_back", A, **{"from": B})
    assert not live.put(promote)
    assert "used before" in live.why() and live.state.live(USE) == A


def test_a_statement_for_another_home_does_not_count(control: Control) -> None:
    key = control.keys["ada"]
    body = {
        "release": A,
        "use_case": USE,
        "name": "c",
        "version": "1",
        "family": "x",
        "signers": [key.key_id],
    }
    for scope in ("acme.us", "other.eu", ""):
        statement = make_statement(
            "release.proposed", body, scope=scope, by="ada", key_id=key.key_id, signed_ns=NOW
        )
        assert not control.put(sign_statement(statement, key))
        assert "signed for" in control.why()


@pytest.mark.parametrize("shift", [MAX_AGE_S + 60, -MAX_AGE_S - 60])
def test_a_statement_signed_long_ago_or_ahead_does_not_count(control: Control, shift: int) -> None:
    key = control.keys["olga"]
    body = {
        "party": "eve",
        "public": PartyKey.generate().public.hex(),
        "roles": ["operator"],
        "kind": "person",
    }
    statement = make_statement(
        "party.enrolled", body, scope=SCOPE, by="olga", key_id=key.key_id, signed_ns=NOW + shift * NANO
    )
    assert not control.put(sign_statement(statement, key)) and "hours from now" in control.why()


# --- parties ---


def test_the_first_party_is_an_officer_in_person_and_enrols_itself() -> None:
    for roles, kind, by in ((["developer"], "person", "olga"), (["officer"], "service", "olga")):
        control = Control()
        control.keys["olga"] = PartyKey.generate()
        public = control.keys["olga"].public.hex()
        assert not control.do("party.enrolled", by, party="olga", public=public, roles=roles, kind=kind)
    control = Control()
    control.keys["olga"] = PartyKey.generate()
    assert not control.do(
        "party.enrolled",
        "olga",
        party="eve",
        public=control.keys["olga"].public.hex(),
        roles=["officer"],
        kind="person",
    )
    assert control.state.parties == {}


def test_only_an_officer_enrols(control: Control) -> None:
    for name in ("ada", "grace", "otto"):
        assert not control.enrol("eve", "validator", by=name)
        assert "takes officer" in control.why()


def test_a_key_belongs_to_one_party_for_ever(control: Control) -> None:
    control.keys["eve"] = control.keys["ada"]
    assert not control.enrol("eve", "validator") and "ada's" in control.why()
    control.keys["ada"] = PartyKey.generate()
    assert control.enrol("ada", "developer")
    assert not control.enrol("eve", "validator"), "a key that was renewed away is still ada's"


def test_nobody_changes_the_own_roles(control: Control) -> None:
    assert not control.enrol("olga", "officer", "validator") and "own roles" in control.why()
    old = control.keys["olga"]
    control.keys["olga"] = PartyKey.generate()
    renewed = control.signed(
        "party.enrolled",
        "olga",
        key=old,
        party="olga",
        public=control.keys["olga"].public.hex(),
        roles=["officer"],
        kind="person",
    )
    assert control.put(renewed), control.why()
    assert control.enrol("eve", "auditor")


def test_a_renewed_key_ends_the_old_one(control: Control) -> None:
    old = control.keys["grace"]
    control.keys["grace"] = PartyKey.generate()
    assert control.enrol("grace", "validator")
    control.propose(), control.check()
    control.keys["grace"], new = old, control.keys["grace"]
    assert not control.approve()
    control.keys["grace"] = new
    assert control.approve()


def test_a_removed_party_may_do_nothing_but_what_it_did_holds(approved: Control) -> None:
    assert approved.do("party.removed", "olga", party="grace", reason="left")
    assert approved.state.releases[A].servable
    approved.propose(B), approved.check(B)
    assert not approved.approve(B) and "not an enrolled party" in approved.why()


def test_the_last_officer_stays(control: Control) -> None:
    assert not control.do("party.removed", "olga", party="olga", reason="x")
    assert control.enrol("oscar", "officer")
    assert control.do("party.removed", "oscar", party="olga", reason="x")
    assert not control.enrol("eve", "auditor", by="olga")


@pytest.mark.parametrize(
    "body",
    [
        {"party": "eve", "public": "0" * 64, "roles": ["auditor"], "kind": "person"},
        {"party": "eve", "public": "ab", "roles": ["auditor"], "kind": "person"},
        {"party": "eve\n", "public": "K", "roles": ["auditor"], "kind": "person"},
        {"party": "eve", "public": "K", "roles": [], "kind": "person"},
        {"party": "eve", "public": "K", "roles": ["king"], "kind": "person"},
        {"party": "eve", "public": "K", "roles": ["auditor", "auditor"], "kind": "person"},
        {"party": "eve", "public": "K", "roles": "auditor", "kind": "person"},
        {"party": "eve", "public": "K", "roles": [{}], "kind": "person"},
        {"party": "eve", "public": "K", "roles": ["auditor"], "kind": "robot"},
        {"party": ["eve"], "public": "K", "roles": ["auditor"], "kind": "person"},
    ],
)
def test_malformed_enrolments_are_refused(control: Control, body: dict[str, Any]) -> None:
    if body["public"] == "K":
        body = {**body, "public": PartyKey.generate().public.hex()}
    assert not control.do("party.enrolled", "olga", **body)


# --- author and approver ---


def test_the_author_cannot_approve_even_with_the_role(control: Control) -> None:
    assert control.enrol("ada", "developer", "validator")
    control.propose(), control.check()
    assert not control.approve(by="ada") and "author" in control.why()


def test_the_author_cannot_approve_with_a_new_key(control: Control) -> None:
    assert control.enrol("ada", "developer", "validator")
    control.propose(), control.check()
    control.keys["ada"] = PartyKey.generate()
    assert control.enrol("ada", "developer", "validator")
    assert not control.approve(by="ada") and "author" in control.why()


def test_whoever_signed_the_bundle_cannot_approve_it(control: Control) -> None:
    control.propose(signers=[control.keys["ada"].key_id, control.keys["grace"].key_id])
    control.check()
    assert not control.approve() and "signed the release" in control.why()


def test_an_approver_enrolled_by_the_author_does_not_count(control: Control) -> None:
    assert control.enrol("dora", "officer", "developer")
    assert control.enrol("puppet", "validator", by="dora")
    assert control.propose(by="dora") and control.check()
    assert not control.approve(by="puppet") and "independent" in control.why()
    control.keys["puppet"], old = PartyKey.generate(), control.keys["puppet"]
    renewed = control.signed(
        "party.enrolled",
        "puppet",
        key=old,
        party="puppet",
        public=control.keys["puppet"].public.hex(),
        roles=["validator"],
        kind="person",
    )
    assert not control.put(renewed), "only an officer enrols, so a new key keeps who vouched"
    assert control.approve(by="grace")


def test_a_service_cannot_approve_or_propose(control: Control) -> None:
    assert control.enrol("robot", "validator", "developer", kind="service")
    assert not control.propose(by="robot") and "person" in control.why()
    control.propose(), control.check()
    assert not control.approve(by="robot") and "person" in control.why()


@pytest.mark.parametrize("name", ["olga", "otto"])
def test_only_a_validator_approves(control: Control, name: str) -> None:
    control.propose(), control.check()
    assert not control.approve(by=name) and "takes validator" in control.why()


def test_an_approval_is_of_green_and_latest_checks(control: Control) -> None:
    control.propose()
    assert not control.approve(checked=-1) and "not been checked" in control.why()
    control.check(ok=False)
    assert not control.approve() and "not green" in control.why()
    control.check()
    assert (
        not control.approve(checked=control.state.releases[A].checks.index - 1) and "latest" in control.why()
    )
    assert control.approve()


def test_two_approvals_are_by_two_people(control: Control) -> None:
    assert control.define(approvals=2)
    assert control.enrol("gwen", "validator")
    control.propose(), control.check()
    assert control.approve() and control.state.state(A) == "checked"
    assert not control.approve() and "counts once" in control.why()
    assert not control.act("promoted") and "1 of 2 approvals" in control.why()
    assert control.approve(by="gwen") and control.act("promoted")


def test_a_use_case_that_asks_for_more_approvals_stops_the_next_promotion(approved: Control) -> None:
    assert approved.define(approvals=2)
    assert not approved.act("promoted") and "1 of 2" in approved.why()


def test_green_must_be_true_of_the_results(control: Control) -> None:
    control.propose()
    common = {"release": A, "use_case": USE}
    for results, green in (
        ([{"name": "x", "ok": False}], True),
        ([{"name": "x", "ok": True}], False),
        ([], True),
        ([{"name": "x"}], True),
        ([{"ok": True}], True),
        (["x"], True),
        ([{"name": "x", "ok": 1}], True),
        ([{"name": "x", "ok": False, "severity": "whatever"}], True),
        ([{"name": "x", "ok": False, "severity": []}], True),
        ("x", True),
    ):
        assert not control.do("release.checked", "ada", results=results, green=green, **common)
    warned = [{"name": "x", "ok": False, "severity": "warn"}, {"name": "y", "ok": True}]
    assert control.do("release.checked", "ada", results=warned, green=True, **common)


# --- into service and out of it ---


def test_nothing_goes_live_unapproved_or_with_red_checks(control: Control) -> None:
    assert not control.act("promoted") and "proposed" in control.why()
    control.propose()
    assert not control.act("promoted")
    control.check()
    assert not control.act("promoted") and "0 of 1" in control.why()
    control.approve()
    control.check(ok=False)
    assert not control.act("promoted") and "not green" in control.why()


def test_the_author_cannot_promote_or_resume(control: Control) -> None:
    assert control.enrol("ada", "developer", "operator")
    control.propose(), control.check(), control.approve()
    assert not control.act("promoted", by="ada") and "author" in control.why()
    assert control.act("promoted")
    assert control.act("suspended", by="ada"), "stopping is for everybody"
    assert not control.act("resumed", by="ada") and "author" in control.why()


def test_a_release_serves_only_the_use_case_it_was_made_for(approved: Control) -> None:
    other = {**DOCUMENT, "name": "mortgage"}
    assert approved.define(**other)
    assert not approved.do("release.promoted", "otto", release=A, use_case="mortgage", note="")
    assert "made for" in approved.why()
    assert approved.state.live("mortgage") is None


def test_a_suspended_release_is_not_live_and_promotes_nowhere(live: Control) -> None:
    assert live.act("suspended", by="grace")
    assert live.state.live(USE) is None and not live.state.releases[A].servable
    assert not live.act("promoted") and "suspended" in live.why()
    assert not live.act("suspended") and "already" in live.why()
    assert live.act("resumed") and live.state.live(USE) == A


def test_stopping_needs_no_signature_but_starting_does(live: Control) -> None:
    common = {"scope": SCOPE, "release": A, "use_case": USE, "reason": "wrong"}
    assert live.put({"event": "release.suspended", "by": "someone@oidc", **common})
    assert live.state.live(USE) is None
    assert not live.put({"event": "release.resumed", "by": "otto", **common})


def test_a_signature_on_a_stop_must_hold(live: Control) -> None:
    payload = live.signed("release.suspended", "otto", release=A, use_case=USE, reason="x")
    assert not live.put({**payload, "reason": "y"})
    assert live.state.live(USE) == A


def test_retired_is_for_good(live: Control) -> None:
    assert live.act("retired")
    assert live.state.live(USE) is None
    assert not live.approve(checked=live.state.releases[A].checks.index) and "retired" in live.why()
    for verb in ("promoted", "resumed", "shadowed", "suspended", "rejected"):
        assert not live.act(verb, by="grace" if verb == "rejected" else "otto") and "retired" in live.why(), (
            verb
        )
    assert not live.propose() and "retired" in live.why()
    assert not live.check() and "retired" in live.why()


def test_a_rejected_release_cannot_be_approved(control: Control) -> None:
    control.propose(), control.check()
    assert control.act("rejected", by="grace")
    assert control.state.state(A) == "rejected"
    assert not control.approve() and "rejected" in control.why()
    assert not control.act("promoted") and "rejected" in control.why()


def test_a_rejection_after_approval_voids_it(approved: Control) -> None:
    assert approved.enrol("gwen", "validator")
    assert approved.act("rejected", by="gwen")
    assert not approved.state.releases[A].servable


def test_a_live_release_is_suspended_not_rejected(live: Control) -> None:
    assert not live.act("rejected", by="grace") and "suspend or retire" in live.why()


def bring(control: Control, digest: str) -> None:
    assert control.propose(digest) and control.check(digest) and control.approve(digest)
    assert control.act("promoted", digest)


def test_rolling_back_goes_to_the_previous_release_that_still_holds(live: Control) -> None:
    c = "sha256:" + "c" * 64
    bring(live, B)
    bring(live, c)
    assert live.act("suspended", c)
    assert not live.act("rolled_back", A, **{"from": c}) and "this is not it" in live.why()
    assert live.act("rolled_back", B, **{"from": c})
    assert live.state.live(USE) == B
    assert live.act("retired", B)
    assert live.state.live(USE) is None
    assert live.act("rolled_back", A, **{"from": B})
    assert live.state.live(USE) == A
    assert live.state.rollback_target(USE) is None


def test_a_roll_back_decided_on_an_old_view_is_refused(live: Control) -> None:
    bring(live, B)
    assert live.act("rolled_back", A, **{"from": B})
    assert not live.act("rolled_back", A, **{"from": B}) and "does not start from" in live.why()


def test_a_shadow_is_approved_too_and_ends_with_promotion(live: Control) -> None:
    assert live.propose(B) and live.check(B)
    assert not live.act("shadowed", B)
    assert live.approve(B) and live.act("shadowed", B)
    assert live.state.state(B) == "shadow" and live.state.live(USE) == A
    assert not live.act("shadowed", B)
    assert live.act("promoted", B) and live.state.uses[USE].shadows == []


@pytest.mark.parametrize(
    "more",
    [
        {"approve_below": 0.5, "decline_from": 0.3},
        {"adverse": "low"},
        {"approvals": 0},
        {"reason_count": 0},
        {"purpose": " "},
        {"surprise": 1},
        {"name": "Bad Name"},
        {"tier": "none"},
    ],
)
def test_use_cases_that_contradict_themselves_are_refused(control: Control, more: dict[str, Any]) -> None:
    document = {**DOCUMENT, **more}
    assert not control.do(
        "usecase.defined", "olga", use_case=document["name"], digest="sha256:" + "0" * 64, document=document
    )
    assert list(control.state.uses) == [USE]


def test_earlier_versions_of_a_use_case_stay_known(control: Control) -> None:
    first = control.state.uses[USE].digest
    assert control.define(decline_from=0.25)
    second = control.state.uses[USE].digest
    assert first != second
    assert control.state.rules[first].decline_from == 0.3 and control.state.rules[second].decline_from == 0.25


# --- the fold itself ---


def test_the_fold_survives_any_event(live: Control) -> None:
    """Whatever lies on the log, the fold goes on and keeps its state."""
    hostile: list[Any] = [None, 1, -1.5, True, [], {}, "x" * 3_000, ["x"], {"a": {"b": []}}, "\ud800"]
    before = live.state.state(A)
    for event in [*RULES, "unknown", None, 7, []]:
        for value in hostile:
            body = dict.fromkeys(
                (
                    "release",
                    "use_case",
                    "party",
                    "public",
                    "roles",
                    "kind",
                    "document",
                    "digest",
                    "name",
                    "version",
                    "family",
                    "signers",
                    "results",
                    "green",
                    "checked",
                    "note",
                    "reason",
                    "from",
                    "jti",
                    "subject",
                ),
                value,
            )
            live.put({"event": event, "by": value, **body})
            live.put(
                {
                    "event": event,
                    "by": "olga",
                    "scope": SCOPE,
                    "key": value,
                    "nonce": value,
                    "signature": value,
                }
            )
            if isinstance(event, str) and value != "\ud800":
                for name in ("olga", "ada", "grace", "otto"):
                    live.put(live.signed(event, name, **body))
    assert live.state.state(A) == before
    assert len(live.state.anomalies) <= 1_000


def test_what_was_live_at_any_time_is_a_prefix_of_the_log(live: Control) -> None:
    bring(live, B)
    assert live.act("suspended", B)
    for index, (_, at, payload) in enumerate(live.events):
        then = Projection(SCOPE).fold(live.events, until_ns=at)
        assert then.position == index + 1
        again = Projection(SCOPE).fold(live.events[: index + 1])
        assert then.live(USE) == again.live(USE)
        assert payload["event"]
    promoted = next(t for _, t, p in live.events if p["event"] == "release.promoted" and p["release"] == B)
    assert Projection(SCOPE).fold(live.events, until_ns=promoted - 1).live(USE) == A
    assert Projection(SCOPE).fold(live.events, until_ns=promoted).live(USE) == B
    assert Projection(SCOPE).fold(live.events, until_ns=0).live(USE) is None


def test_folding_a_long_log_is_quick(control: Control) -> None:
    other = [(100 + i, NOW + 3_600 * NANO, {"event": "heads", "heads": []}) for i in range(100_000)]
    start = time.perf_counter()
    control.state.fold(other)
    assert time.perf_counter() - start < 2.0
