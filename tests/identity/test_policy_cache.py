"""Cache and no cache give the same answers, whatever changes in between."""

from __future__ import annotations

import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from fiduciary.identity import ACTIONS, ROLES, Authorizer, Context, Principal, Resource

PLACES = st.sampled_from(["", "eu", "us", "*"])
SUBJECTS = st.sampled_from(["ann", "bob"])
SOME_ACTIONS = st.sampled_from(["decide", "approve_release", "read_record", "read_ledger", "nonsense"])

ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "department": PLACES,
        "region": PLACES,
        "author": SUBJECTS,
        "tier": st.sampled_from(["1", "True"]),
    },
)
ODD_ATTRIBUTES = st.fixed_dictionaries({}, optional={"tier": st.sampled_from([1, True, "1", ["1"]])})

TESTS = st.sampled_from(
    [
        "true",
        'principal.region == "eu"',
        'principal.subject == "ann"',
        'principal.department == "us"',
        'principal.issuer == "one"',
        "principal.one_time",
        "resource has region && resource.region == principal.region",
        "resource has author && resource.author == principal.subject",
        'resource has tier && resource.tier == "1"',
        'context has region && context.region == "us"',
        "context has door && context.door == principal.department",
        "9223372036854775807 + 1 == 0",
    ]
)
SCOPES = st.sampled_from(
    [
        "principal, action, resource",
        "principal is Person, action, resource",
        'principal == Service::"ann", action, resource',
        'principal, action == Action::"decide", resource is UseCase',
        'principal, action, resource == Release::"x"',
        *(f'principal in Role::"{role}", action, resource' for role in ROLES[:3]),
    ]
)
POLICY = st.tuples(st.sampled_from(["permit", "permit", "forbid"]), SCOPES, TESTS)
BROKEN = ["permit (", "", '@id("p0") permit (principal, action, resource) when { principal.nothing };']


class CachedPolicy(RuleBasedStateMachine):
    """Random questions, policy edits and epoch bumps; `fresh` is a new authorizer without any memory."""

    @initialize()
    def open(self) -> None:
        self.room = TemporaryDirectory()
        self.folder = Path(self.room.name)
        (self.folder / "a.cedar").write_text('@id("all") permit (principal, action, resource);')
        self.epoch = 0
        self.cached = Authorizer(self.folder, lambda: self.epoch, cache=20)

    def teardown(self) -> None:
        if hasattr(self, "room"):
            self.room.cleanup()

    @rule(policies=st.lists(POLICY, min_size=1, max_size=4))
    def edit(self, policies: list[tuple[str, str, str]]) -> None:
        text = "\n".join(
            f'@id("p{n}") {effect} ({scope}) when {{ {test} }};'
            for n, (effect, scope, test) in enumerate(policies)
        )
        (self.folder / "a.cedar").write_text(text)
        self.epoch += 1

    @rule(text=st.sampled_from(BROKEN))
    def damage(self, text: str) -> None:
        (self.folder / "a.cedar").write_text(text)
        self.epoch += 1

    @rule(there=st.booleans())
    def second_file(self, there: bool) -> None:
        path = self.folder / "b.cedar"
        if there:
            path.write_text(
                '@id("no-ann") forbid (principal, action, resource) when { principal.subject == "ann" };'
            )
        else:
            path.unlink(missing_ok=True)
        self.epoch += 1

    @rule()
    def bump(self) -> None:
        self.epoch += 1

    @rule(
        subject=SUBJECTS,
        roles=st.lists(st.sampled_from(ROLES[:4]), max_size=2).map(tuple),
        where=st.tuples(PLACES, PLACES),
        kind=st.sampled_from(["person", "service"]),
        issuer=st.sampled_from(["one", "two"]),
        one_time=st.booleans(),
        action=SOME_ACTIONS,
        named=st.tuples(st.sampled_from(["UseCase", "Release", "Nothing"]), st.sampled_from(["x", "y"])),
        attrs=st.one_of(ATTRIBUTES, ATTRIBUTES, ODD_ATTRIBUTES),
        context=st.none() | st.fixed_dictionaries({}, optional={"region": PLACES, "door": PLACES}),
    )
    def ask(
        self,
        subject: str,
        roles: tuple[str, ...],
        where: tuple[str, str],
        kind: Any,
        issuer: str,
        one_time: bool,
        action: str,
        named: tuple[str, str],
        attrs: dict[str, Any],
        context: dict[str, str] | None,
    ) -> None:
        principal = Principal(
            subject=subject, roles=roles, department=where[0], region=where[1], kind=kind, issuer=issuer,
            one_time=one_time,
        )  # fmt: skip
        resource = Resource(*named, attrs)
        fresh = Authorizer(self.folder, lambda: self.epoch, cache=0)
        want = fresh.allowed(principal, action, resource, context)
        for _ in range(2):
            assert self.cached.allowed(principal, action, resource, context) == want
        assert self.cached.digest == fresh.digest


CachedPolicy.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCachedPolicy = CachedPolicy.TestCase


def test_true_one_and_the_text_one_are_different_questions() -> None:
    keys = {Resource("UseCase", "x", {"tier": value}).key for value in (1, True, "1", ["1"], "true")}
    assert len(keys) == 5
    assert Resource("a", 'b"]{}').key != Resource('a"]{}', "b").key
    assert len({Context({"door": value}).key for value in (0, False, "0", "")}) == 4


def test_an_answer_under_old_policies_is_never_found_under_new_ones(tmp_path: Path) -> None:
    """A thread that is still evaluating when the policies change must not leave its answer behind."""
    (tmp_path / "a.cedar").write_text('@id("all") permit (principal, action, resource);')
    epoch = [0]
    desk = Authorizer(tmp_path, lambda: epoch[0])
    entered, go = threading.Event(), threading.Event()
    ask = desk._ask

    def slow(*question: Any) -> Any:
        answer = ask(*question)
        entered.set()
        go.wait(10)
        return answer

    desk._ask = slow  # type: ignore[method-assign]
    ann, ledger = Principal(subject="ann"), Resource("Ledger")
    late: list[bool] = []
    thread = threading.Thread(target=lambda: late.append(desk.allowed(ann, "read_ledger", ledger).allowed))
    thread.start()
    assert entered.wait(10)
    (tmp_path / "a.cedar").write_text('@id("none") forbid (principal, action, resource);')
    epoch[0] += 1
    desk._ask = ask  # type: ignore[method-assign]
    assert not desk.allowed(ann, "read_ledger", ledger).allowed
    go.set()
    thread.join(10)
    assert late == [True]
    assert not desk.allowed(ann, "read_ledger", ledger).allowed


def test_every_action_is_known_to_the_schema(tmp_path: Path) -> None:
    (tmp_path / "a.cedar").write_text('@id("all") permit (principal, action, resource);')
    desk = Authorizer(tmp_path, lambda: 0)
    for action in ACTIONS:
        assert desk.allowed(Principal(subject="ann"), action, Resource("Release", "x")).allowed, action
