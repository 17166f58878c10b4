"""Packs, rulebooks, rule checks, waivers, findings, attestations, overlays: every rule, tried past the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from control_log import DOCUMENT, NOW, SCOPE, USE, A, B, Control, digest_of
from fiduciary.errors import UsageError
from fiduciary.registry import Projection, read_use_case
from fiduciary.registry._statements import NANO

DAY = 86_400 * NANO
TODAY = "2026-04-24"


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
def ruled(control: Control) -> Control:
    """Under one pack, its rulebook announced, a release proposed."""
    assert control.adopt() and control.define(packs=["eu-credit"]) and control.resolve()
    assert control.propose()
    return control


def test_the_straight_way_under_rules(ruled: Control) -> None:
    assert ruled.check_rules() and ruled.approve() and ruled.act("promoted")
    assert ruled.state.live(USE) == A and ruled.state.anomalies == []
    book = ruled.state.uses[USE].book
    assert ruled.state.books[book.digest] == book and book.packs[0][:2] == ("eu-credit", "1")


# --- packs ---


def test_only_an_officer_adopts_a_pack(control: Control) -> None:
    for name in ("ada", "grace", "otto"):
        assert not control.adopt(by=name) and "takes officer" in control.why()
    assert control.enrol("machine", "officer", kind="service")
    assert not control.adopt(by="machine") and "person" in control.why()


def test_a_pack_is_the_document_of_its_digest(control: Control) -> None:
    document = {"pack": "p", "version": "1"}
    good = {"pack": "p", "version": "1", "digest": digest_of(document), "document": document, "note": ""}
    for change, why in (
        ({"document": {**document, "rules": []}}, "digest"),
        ({"digest": A}, "digest"),
        ({"pack": "q"}, "another pack"),
        ({"version": "2"}, "another pack or version"),
        ({"document": "p"}, "document"),
        ({"pack": "No Pack"}, "names no pack"),
        ({"version": ""}, "version"),
        ({"version": 1}, "version"),
        ({"note": 7}, "note"),
    ):
        assert not control.do("pack.adopted", "olga", **{**good, **change}) and why in control.why(), change
    assert control.do("pack.adopted", "olga", **good)
    assert not control.do("pack.adopted", "olga", **good) and "in force already" in control.why()


def test_a_review_by_counsel_is_signed_by_somebody_else_than_who_adopts(control: Control) -> None:
    counsel = {"name": "R. Example", "date": "2026-04-01"}
    assert not control.adopt("claimed", reviewed_by_counsel=counsel) and "no signed review" in control.why()
    assert not control.adopt_reviewed(reviewer="olga") and "adopts the pack" in control.why()
    assert control.adopt_reviewed()
    forged = {**control.events[-1][2]["review"]}
    document = {"pack": "other", "version": "1", "rules": [], "reviewed_by_counsel": counsel}
    body = {"pack": "other", "version": "1", "digest": digest_of(document), "document": document, "note": ""}
    assert not control.do("pack.adopted", "olga", **body, review=forged) and "for this pack" in control.why()
    assert not control.do("pack.adopted", "olga", **body, review={**forged, "public": "0" * 64})
    assert "nobody was ever enrolled" in control.why()


def test_which_packs_were_in_force_at_any_time_is_a_function_of_the_log(control: Control) -> None:
    assert control.adopt() and control.adopt(version="2")
    assert control.do("pack.withdrawn", "olga", pack="eu-credit", reason="superseded")
    assert not control.do("pack.withdrawn", "olga", pack="eu-credit", reason="again")
    assert control.adopt(version="3")
    history = control.state.pack_history
    assert [(a.version, a.ended is not None) for a in history] == [("1", True), ("2", True), ("3", False)]
    assert history[0].ended.time_ns == history[1].mark.time_ns
    for index in range(len(control.events)):
        then = Projection(SCOPE).fold(control.events[: index + 1])
        found = [a.version for a in then.pack_history if a.ended is None]
        at = control.events[index][1]
        assert found == [
            a.version for a in history if a.mark.time_ns <= at and (a.ended is None or a.ended.time_ns > at)
        ]


# --- rulebooks ---


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rules": A}, "another version of the use case"),
        ({"packs": []}, "other packs"),
        ({"packs": [{"pack": "eu-credit", "version": "9", "digest": A}]}, "other packs"),
        ({"valid_from": "2026-04-25"}, "not in force today"),
        ({"valid_until": TODAY}, "not in force today"),
        ({"valid_from": "yesterday"}, "dates"),
        ({"valid_until": None}, "dates"),
        ({"valid_until": "2026-02-30"}, "dates"),
        ({"obligations": []}, "serving path"),
        ({"in_force": {}}, "at most"),
        ({"in_force": ["auc"]}, "has an id"),
        ({"in_force": [{"rule": "x", "pack": "us-credit", "stage": "serve", "severity": "block"}]}, "rule x"),
        ({"in_force": [{"rule": "x", "pack": "eu-credit", "stage": "lunch", "severity": "block"}]}, "rule x"),
        ({"in_force": [{"rule": "x", "pack": "eu-credit", "stage": "serve", "severity": "shout"}]}, "rule x"),
        (
            {"in_force": [{"rule": "x", "pack": "eu-credit", "stage": "serve", "severity": "block"}] * 2},
            "twice",
        ),
    ],
)
def test_a_rulebook_is_of_the_packs_and_the_use_case_in_force(ruled: Control, change: Any, why: str) -> None:
    before = ruled.state.uses[USE].book
    assert not ruled.resolve(**change) and why in ruled.why(), ruled.why()
    assert ruled.state.uses[USE].book is before


def test_a_rulebook_has_the_digest_of_what_it_says(ruled: Control) -> None:
    body = {**ruled.book(), "obligations": {"referral": ""}}
    event = {"event": "rules.resolved", "by": "gate-0", "scope": SCOPE}
    assert not ruled.put({**event, **body}) and "digest" in ruled.why()


def test_a_use_case_without_packs_has_no_rulebook(control: Control) -> None:
    assert not control.resolve() and "no packs" in control.why()
    assert control.define(packs=["eu-credit"])
    assert not control.resolve() and "pack eu-credit is not in force" in control.why()


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.adopt(version="2"),
        lambda c: c.do("pack.withdrawn", "olga", pack="eu-credit", reason="x"),
        lambda c: c.define(packs=["eu-credit"], decline_from=0.5),
        lambda c: c.define(),
    ],
)
def test_a_rulebook_ends_with_what_it_was_made_of(ruled: Control, change: Callable[[Control], bool]) -> None:
    assert change(ruled) and ruled.state.uses[USE].book is None


def test_another_pack_or_use_case_does_not_end_it(ruled: Control) -> None:
    assert ruled.adopt(pack="us-credit") and ruled.define(name="mortgage")
    assert ruled.state.uses[USE].book is not None


# --- check runs ---


@pytest.mark.parametrize("auc", [False, None])
def test_a_blocking_rule_that_is_not_met_or_not_known_stops_approval_and_service(
    ruled: Control, auc: Any
) -> None:
    assert ruled.check_rules(auc=auc)
    assert not ruled.approve() and "rule auc" in ruled.why()
    assert ruled.check_rules() and ruled.approve()
    assert ruled.check_rules(auc=auc)
    assert not ruled.act("promoted") and "rule auc" in ruled.why()
    assert not ruled.act("shadowed")


def test_a_run_leaves_no_rule_out_and_softens_none(ruled: Control) -> None:
    assert not ruled.check_rules(leave="auc") and "leaves out rule auc" in ruled.why()
    soft = [
        {"name": "auc", "rule": "auc", "ok": False, "severity": "warn"},
        {"name": "drift", "rule": "drift", "ok": True, "severity": "warn"},
    ]
    assert not ruled.check_rules(results=soft, green=True) and "another severity" in ruled.why()
    assert ruled.state.releases[A].checks is None


def test_rule_results_come_with_the_rulebook_in_force(ruled: Control) -> None:
    assert not ruled.check_rules(rulebook="") and "come with the rulebook" in ruled.why()
    assert not ruled.check_rules(rulebook=B) and "another rulebook" in ruled.why()
    first = ruled.state.uses[USE].book.digest
    assert ruled.adopt(version="2") and ruled.resolve()
    assert not ruled.check_rules(rulebook=first) and "another rulebook" in ruled.why()
    assert not ruled.check_rules(rulebook=7) and "digest" in ruled.why()


def test_a_run_without_rules_does_not_do_where_there_are_some(ruled: Control) -> None:
    assert ruled.check()
    assert not ruled.approve() and "run the checks again" in ruled.why()


def test_checks_of_earlier_rules_do_not_do(ruled: Control) -> None:
    assert ruled.check_rules() and ruled.approve()
    assert ruled.adopt(version="2")
    assert not ruled.act("promoted") and "run the checks again" in ruled.why()
    assert ruled.resolve()
    assert not ruled.act("promoted") and "run the checks again" in ruled.why()
    assert ruled.check_rules() and ruled.act("promoted")


def test_checks_do_not_outlive_the_day_on_which_the_rules_may_change(ruled: Control) -> None:
    assert ruled.resolve(valid_until="2026-04-25") and ruled.check_rules()
    index = len(ruled.events)
    checked = ruled.state.releases[A].checks.index
    late = ruled.signed("release.approved", "grace", release=A, use_case=USE, checked=checked, note="")
    assert not ruled.state.apply(index, NOW + DAY, late) and "run the checks again" in ruled.why()
    assert ruled.approve()


@pytest.mark.parametrize(
    "result",
    [
        {"name": "x", "ok": None},
        {"name": "x", "ok": True, "severity": "record"},
        {"name": "x", "ok": "yes", "rule": "r"},
        {"name": "x", "ok": True, "rule": 7},
        {"name": "x", "ok": True, "rule": ""},
        {"name": "x", "rule": "r"},
        {"name": "x", "ok": True, "rule": "r", "severity": "shout"},
    ],
)
def test_results_have_one_form(ruled: Control, result: dict[str, Any]) -> None:
    assert not ruled.check_rules(results=[result], green=True)


# --- waivers ---


def test_a_waiver_lifts_one_rule_of_one_release_until_its_day(ruled: Control) -> None:
    assert ruled.propose(B)
    assert ruled.check_rules(auc=None) and ruled.check_rules(B, auc=False)
    assert ruled.waive("olga", expires="2026-04-26")
    assert ruled.waive("grace", rule="drift", release=B)
    assert not ruled.approve(B), "of another rule"
    assert ruled.approve(), ruled.why()
    promote = ruled.signed("release.promoted", "otto", release=A, use_case=USE, note="")
    assert not ruled.state.apply(len(ruled.events), NOW + 2 * DAY, {**promote}), "it has expired"
    assert ruled.act("promoted")


def test_no_waiver_lifts_what_is_no_rule_of_a_pack(ruled: Control) -> None:
    results = [
        {"name": "reasons_add_up", "ok": False},
        {"name": "auc", "rule": "auc", "ok": True, "severity": "block"},
        {"name": "drift", "rule": "drift", "ok": True, "severity": "warn"},
    ]
    assert ruled.check_rules(results=results, green=False)
    assert ruled.waive(rule="reasons_add_up")
    assert not ruled.approve() and "not green" in ruled.why()


def test_nobody_waives_for_the_own_release(ruled: Control) -> None:
    assert ruled.enrol("ada", "developer", "officer", "validator")
    assert not ruled.waive("ada") and "own release" in ruled.why()
    assert ruled.enrol("eve", "validator", by="ada")
    assert not ruled.waive("eve") and "enrolled by the release's author" in ruled.why()
    assert not ruled.waive("otto") and "takes officer or validator" in ruled.why()
    ruled.propose(B, signers=[ruled.keys["ada"].key_id, ruled.keys["grace"].key_id])
    assert not ruled.waive("grace", release=B) and "signed the release as author" in ruled.why()
    unsigned = {"event": "waiver.granted", "by": "grace", "scope": SCOPE, "release": A, "use_case": USE}
    assert not ruled.put({**unsigned, "rule": "auc", "expires": "2026-06-01", "reason": "x"})
    assert ruled.state.waivers == []


@pytest.mark.parametrize(
    "expires", ["", TODAY, "2026-04-23", "2027-04-26", "tomorrow", "2026-13-01", None, 7]
)
def test_a_waiver_has_an_end_that_is_near(ruled: Control, expires: Any) -> None:
    assert not ruled.waive(expires=expires)
    assert ruled.waive(expires="2027-04-25"), "366 days"


# --- attestations, findings, overlays ---


def test_attestations_are_filed_by_people_and_expire(ruled: Control) -> None:
    body = {
        "kind": "dpia",
        "use_case": USE,
        "release": A,
        "digest": B,
        "title": "DPIA 7",
        "expires": "",
        "note": "",
    }
    assert ruled.do("attestation.filed", "ada", **body)
    assert ruled.do(
        "attestation.filed", "olga", **{**body, "use_case": "", "release": "", "kind": "board-report"}
    )
    for change in (
        {"kind": "A DPIA"},
        {"use_case": "none"},
        {"use_case": ""},
        {"release": B},
        {"digest": "x"},
        {"title": " "},
        {"expires": TODAY},
        {"expires": "soon"},
    ):
        assert not ruled.do("attestation.filed", "ada", **{**body, **change}), change
    assert [(a.kind, a.release) for a in ruled.state.attestations] == [("dpia", A), ("board-report", "")]


def test_findings_are_closed_by_somebody_else(ruled: Control) -> None:
    body = {
        "finding": "F-1",
        "use_case": USE,
        "release": A,
        "severity": "high",
        "title": "x",
        "due": "",
        "note": "",
    }
    assert not ruled.do("finding.raised", "ada", **body)
    assert ruled.do("finding.raised", "grace", **body)
    assert not ruled.do("finding.raised", "grace", **body) and "before" in ruled.why()
    for change in (
        {"finding": "-"},
        {"severity": "urgent"},
        {"due": "soon"},
        {"use_case": "x"},
        {"release": B},
    ):
        assert not ruled.do("finding.raised", "grace", **{**body, "finding": "F-2", **change}), change
    close = {"finding": "F-1", "use_case": USE, "reason": "repaired"}
    assert ruled.enrol("ada", "developer", "validator")
    assert not ruled.do("finding.closed", "ada", **close) and "author" in ruled.why()
    assert not ruled.do("finding.closed", "grace", **{**close, "reason": ""})
    assert not ruled.do("finding.closed", "grace", **{**close, "finding": "F-9"})
    assert ruled.do("finding.closed", "grace", **close)
    assert not ruled.do("finding.closed", "grace", **close) and "closed before" in ruled.why()


def test_overlays_have_an_end(ruled: Control) -> None:
    body = {"overlay": "O-1", "use_case": USE, "title": "rates", "reason": "rise", "expires": "2026-12-31"}
    for change in ({"expires": TODAY}, {"expires": ""}, {"overlay": ""}, {"title": ""}, {"reason": ""}):
        assert not ruled.do("overlay.set", "olga", **{**body, **change}), change
    assert not ruled.do("overlay.set", "ada", **body)
    assert ruled.do("overlay.set", "olga", **body)
    assert not ruled.do("overlay.set", "olga", **body) and "before" in ruled.why()
    end = {"overlay": "O-1", "use_case": USE, "reason": "rates fell"}
    assert not ruled.do("overlay.ended", "olga", **{**end, "use_case": "x"})
    assert ruled.do("overlay.ended", "olga", **end)
    assert not ruled.do("overlay.ended", "olga", **end)


# --- use cases ---


@pytest.mark.parametrize(
    "more",
    [
        {"packs": ["A B"]},
        {"packs": ["a", "a"]},
        {"packs": [""]},
        {"automated_ground": "whim"},
        {"regions": [" "]},
        {"attributes": {"": "x"}},
        {"attributes": {"a": 1}},
        {"sector": "x" * 2_001},
    ],
)
def test_a_use_case_says_its_rules_rightly(control: Control, more: dict[str, Any]) -> None:

    with pytest.raises(UsageError):
        read_use_case({**DOCUMENT, **more})


def test_a_use_case_keeps_the_digest_it_had_before_there_were_packs() -> None:

    plain = read_use_case(DOCUMENT)
    assert read_use_case({**DOCUMENT, "packs": [], "sector": "", "attributes": {}}).digest == plain.digest
    assert read_use_case({**DOCUMENT, "packs": ["p"]}).digest != plain.digest
    assert read_use_case(read_use_case({**DOCUMENT, "packs": ["p"]}).document).packs == ["p"]
