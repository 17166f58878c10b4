"""The offline verifier and the registry judge every event alike: one log, two readers, one history."""

from __future__ import annotations

import copy
import functools
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import control_log as rules
from fiduciary.evidence import _verify_folder as offline
from fiduciary.registry import Projection

offline.ed25519_verify = functools.lru_cache(maxsize=None)(offline.ed25519_verify)  # the same answers, sooner


A, B, USE = rules.A, rules.B, rules.USE
C = "sha256:" + "c" * 64


def story() -> Any:
    """People, two releases, a stop, a roll-back, a shadow, a removal, and steps that are refused."""
    control = rules.Control()
    for name, role in (
        ("olga", "officer"),
        ("ada", "developer"),
        ("grace", "validator"),
        ("otto", "operator"),
    ):
        assert control.enrol(name, role)
    control.enrol("otis", "officer")
    control.enrol("bot", "validator", kind="service")
    assert control.define()
    for digest in (A, B):
        assert control.propose(digest) and control.check(digest)
        assert not control.approve(digest, by="ada")
        assert not control.approve(digest, by="bot")
        assert control.approve(digest)
    control.act("promoted", A)
    control.act("shadowed", B)
    control.act("promoted", B)
    control.act("suspended", B)
    control.act("resumed", B)
    control.do("release.rolled_back", "otto", release=A, use_case=USE, reason="why", **{"from": B})
    control.define(decline_from=0.25)
    control.put({"event": "release.suspended", "by": "olga", "release": A, "use_case": USE, "reason": "stop"})
    control.act("resumed", A, by="otto")
    control.act("retired", B)
    control.act("promoted", B)
    control.do("party.removed", "olga", party="grace", reason="left")
    control.enrol("grace", "validator", by="otis")
    control.define(approvals=2)
    oversee(control)
    return control


def oversee(control: Any) -> None:
    """Rules of the day: packs, a rulebook, checks of it, a waiver, attestations, findings, overlays."""
    c = C
    control.adopt()
    control.define(packs=["eu-credit"])
    control.propose(c)
    control.check(c)
    assert not control.approve(c), "no rulebook was resolved"
    assert control.resolve()
    assert not control.check_rules(c, leave="auc")
    assert control.check_rules(c, auc=False)
    assert not control.approve(c)
    assert not control.waive("ada", release=c)
    assert not control.waive("grace", release=c, expires="2031-01-01")
    assert control.waive("grace", release=c)
    assert control.approve(c), control.why()
    assert control.act("promoted", c)
    assert control.adopt(version="2")
    assert control.adopt_reviewed(), control.why()
    assert not control.act("shadowed", c), "the rules have changed"
    assert control.resolve(valid_until="2026-12-01")
    common = {"use_case": USE, "title": "what it is", "note": ""}
    control.do("attestation.filed", "ada", kind="dpia", release="", digest=A, expires="2027-01-01", **common)
    control.do(
        "finding.raised", "grace", finding="F-1", release=c, severity="high", due="2026-05-01", **common
    )
    control.do("finding.closed", "grace", finding="F-1", use_case=USE, reason="repaired")
    control.do(
        "overlay.set", "olga", overlay="O-1", use_case=USE, title="x", reason="rates", expires="2026-12-31"
    )
    control.do("overlay.ended", "olga", overlay="O-1", use_case=USE, reason="rates fell")
    control.do("pack.withdrawn", "olga", pack="eu-credit", reason="replaced")
    control.define(decline_from=0.4)


STORY = story()


def both(events: list[tuple[int, int, dict[str, Any]]]) -> tuple[Projection, offline.History]:
    ours, theirs = Projection(rules.SCOPE), offline.History(rules.SCOPE)
    for index, time_ns, payload in events:
        before = len(theirs.refused)
        held = ours.apply(index, time_ns, payload)
        theirs.apply(index, time_ns, payload)
        assert held == (len(theirs.refused) == before), (payload, theirs.refused[-1:], ours.anomalies[-1:])
        for use in ours.uses:
            spans = theirs.live_spans.get(use)
            assert (spans[-1][1] if spans else None) == ours.live(use)
            assert theirs.rule_spans[use][-1][1] == ours.uses[use].digest
            book = ours.uses[use].book
            assert theirs.present_books.get(use, {}).get("rulebook") == (book.digest if book else None)
        for digest, release in ours.releases.items():
            assert theirs.state(digest) == ours.state(digest)
            assert theirs.releases[digest]["approvals"] == [a.party for a in release.approvals]
            assert theirs.releases[digest]["author"] == release.author
            assert bool(theirs.blocked(theirs.releases[digest], digest)) == bool(
                ours.blocked(digest, time_ns)
            )
        in_force = {name: a.digest for name, a in ours.packs.items() if a.ended is None}
        assert {name: p["digest"] for name, p in theirs.packs.items()} == in_force
        assert [w["rule"] for w in theirs.waivers] == [w.rule for w in ours.waivers]
        assert {f: x["closed"] for f, x in theirs.findings.items()} == {
            f: x.closed is not None for f, x in ours.findings.items()
        }
        assert {o: x["ended"] for o, x in theirs.overlays.items()} == {
            o: x.ended is not None for o, x in ours.overlays.items()
        }
    assert set(ours.rules) == set(theirs.rules) and set(ours.books) == set(theirs.books)
    return ours, theirs


def test_the_whole_story_is_told_alike() -> None:
    ours, theirs = both(STORY.events)
    assert len(ours.anomalies) == len(theirs.refused) >= 4
    assert ours.live(USE) == C


def test_without_any_one_event_the_story_is_still_told_alike() -> None:
    for left_out in range(len(STORY.events)):
        both([event for event in STORY.events if event[0] != left_out])


@pytest.mark.parametrize("distance", [1, 3])
def test_with_two_events_exchanged_the_story_is_still_told_alike(distance: int) -> None:
    for i in range(0, len(STORY.events) - distance, 2):
        payloads = [event[2] for event in STORY.events]
        payloads[i], payloads[i + distance] = payloads[i + distance], payloads[i]
        both([(n, at, p) for (n, at, _), p in zip(STORY.events, payloads, strict=True)])


def test_an_event_said_twice_counts_once() -> None:
    doubled = list(itertools.chain.from_iterable((e, e) for e in STORY.events))
    both([(i, at, payload) for i, (_, at, payload) in enumerate(doubled)])


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(["", "ada", "olga", A, B, USE, "x", [], {}, ["officer"], [1], {"a": 1}]),
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_changed_member_is_judged_alike(data: st.DataObject) -> None:
    """Changed after signing, so the signature fails; unsigned stops may still hold, in both or in neither."""
    events = copy.deepcopy(STORY.events)
    index = data.draw(st.integers(0, len(events) - 1))
    payload = events[index][2]
    name = data.draw(st.sampled_from(sorted(payload)))
    if data.draw(st.booleans()):
        del payload[name]
    else:
        payload[name] = data.draw(JUNK)
    both(events)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_signed_nonsense_is_judged_alike(data: st.DataObject) -> None:
    """Signed as it stands: whoever holds a party's key may write anything, and neither reader believes more."""
    control = STORY
    event = data.draw(st.sampled_from(sorted(offline.GOVERNING)))
    by = data.draw(st.sampled_from(["olga", "ada", "grace", "otto", "otis", "bot"]))
    like = next((p for _, _, p in control.events if p["event"] == event), {})
    body = {
        k: v
        for k, v in like.items()
        if k not in ("event", "scope", "by", "key", "signed", "nonce", "signature")
    }
    for name in data.draw(st.lists(st.sampled_from(sorted(body) or ["x"]), max_size=2)):
        body[name] = data.draw(JUNK)
    cut = data.draw(st.integers(8, len(control.events)))
    signed = rules.make_statement(
        event,
        body,
        scope=rules.SCOPE,
        by=by,
        key_id=control.keys[by].key_id,
        signed_ns=control.events[cut - 1][1],
    )
    payload = rules.sign_statement(signed, control.keys[by])
    both([*control.events[:cut], (cut, control.events[cut - 1][1] + 1, payload)])
