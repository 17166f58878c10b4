"""The default policies role by role, the documented table, and policy files that cannot be used."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from fiduciary.errors import ConflictError, PermissionDeniedError, UsageError
from fiduciary.identity import (
    ACTIONS,
    ROLES,
    Authorizer,
    Context,
    Principal,
    Resource,
    install_default_policies,
)

DOCS = Path(__file__).resolve().parents[2] / "docs" / "identity.md"
HERE = {"department": "retail", "region": "eu"}
KIND = {"decide": "UseCase", "define_use_case": "UseCase", "read_record": "Record", "replay": "Record"}

ALLOWED = {
    "developer": {"build_release", "sign_release", "read_ledger", "read_metrics"},
    "validator": {
        "approve_release", "suspend_release", "replay", "read_record", "read_ledger", "read_metrics",
    },
    "operator": {"promote_release", "suspend_release", "retire_release", "read_ledger", "read_metrics"},
    "officer": {
        "define_use_case", "enrol_party", "revoke_token", "suspend_release", "erase_subject", "hold_records",
        "cut_evidence", "read_record", "replay", "read_ledger", "read_metrics",
    },
    "auditor": {"read_record", "replay", "cut_evidence", "read_ledger", "read_metrics"},
    "application": {"decide"},
}  # fmt: skip
"""What each role may do, said here a second time: a change of the policies must be meant."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    install_default_policies(tmp_path / "policies")
    return tmp_path / "policies"


@pytest.fixture
def desk(folder: Path) -> Authorizer:
    return Authorizer(folder, lambda: 0)


def caller(*roles: str, subject: str = "sam", kind: str = "person", **where: str) -> Principal:
    return Principal(subject=subject, roles=roles, kind=kind, **{**HERE, **where})  # type: ignore[arg-type]


def thing(action: str, **attrs: str) -> Resource:
    return Resource(KIND.get(action, "Release"), "x", {**HERE, **attrs})


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_exactly_this(desk: Authorizer, role: str) -> None:
    found = {action for action in ACTIONS if desk.allowed(caller(role), action, thing(action)).allowed}
    assert found == ALLOWED[role]


def test_the_documented_table_is_the_policies(desk: Authorizer) -> None:
    rows = re.findall(r"^\| `(\w+)` \|(.+)\|$", DOCS.read_text("utf-8"), re.MULTILINE)
    table = {
        action: [cell.strip() for cell in cells.split("|")] for action, cells in rows if action in ACTIONS
    }
    assert set(table) == set(ACTIONS)
    for action, cells in table.items():
        said = {role for role, cell in zip(ROLES, cells, strict=True) if cell == "yes"}
        true = {role for role in ROLES if desk.allowed(caller(role), action, thing(action)).allowed}
        assert said == true, action


def test_nobody_and_strangers_may_nothing(desk: Authorizer) -> None:
    for roles in ((), ("admin",), ("Officer",), ("root", "*")):
        for action in ACTIONS:
            assert not desk.allowed(caller(*roles), action, thing(action)).allowed
    assert not desk.allowed(caller(*ROLES), "delete_everything", thing("decide")).allowed
    assert not desk.allowed(caller(*ROLES), "", thing("decide")).allowed


def test_an_application_decides_for_its_own_place_only(desk: Authorizer) -> None:
    app = caller("application", kind="service")
    here = Context({"region": "eu"})
    assert desk.allowed(app, "decide", thing("decide"), here).policies == ("application-decides",)
    for resource in (
        thing("decide", department="fraud"),
        thing("decide", region="us"),
        Resource("UseCase", "x", {"region": "eu"}),
        Resource("UseCase", "x", {"department": "retail"}),
        Resource("Release", "x", HERE),
    ):
        assert not desk.allowed(app, "decide", resource, here).allowed
    assert desk.allowed(app, "decide", thing("decide"), {"region": "us"}).policies == ("serve-in-region",)
    assert not desk.allowed(caller("application", department=""), "decide", thing("decide")).allowed
    assert not desk.allowed(caller("application", region="*"), "decide", thing("decide")).allowed


def test_nobody_approves_what_they_made(desk: Authorizer) -> None:
    release = thing("approve_release", author="sam")
    refused = desk.allowed(caller("validator", "officer", "developer"), "approve_release", release)
    assert (refused.allowed, refused.policies) == (False, ("four-eyes",))
    assert desk.allowed(caller("validator", subject="kim"), "approve_release", release).allowed
    pipeline = caller("validator", subject="ci", kind="service")
    assert desk.allowed(pipeline, "approve_release", release).policies == ("people-approve",)


@pytest.mark.parametrize("action", ["replay", "read_record", "cut_evidence", "erase_subject", "hold_records"])
def test_personal_data_stays_in_its_region(desk: Authorizer, action: str) -> None:
    everything = caller(*ROLES)
    assert desk.allowed(everything, action, thing(action)).allowed
    assert desk.allowed(everything, action, thing(action, region="us")).policies == ("stay-in-region",)
    assert desk.allowed(caller(*ROLES, region="*"), action, thing(action, region="us")).allowed
    assert not desk.allowed(caller(*ROLES, region=""), action, thing(action)).allowed


def test_a_refusal_says_what_is_missing(desk: Authorizer) -> None:
    with pytest.raises(PermissionDeniedError, match=r"^approve_release .* it needs the role validator$"):
        desk.require(caller("developer"), "approve_release", thing("approve_release"))
    with pytest.raises(PermissionDeniedError, match="forbidden by four-eyes"):
        desk.require(caller("validator"), "approve_release", thing("approve_release", author="sam"))
    with pytest.raises(PermissionDeniedError, match="belongs to another department"):
        desk.require(caller("application"), "decide", thing("decide", department="secret-project"))
    with pytest.raises(PermissionDeniedError, match="role application, and it belongs to another department"):
        desk.require(caller(), "decide", thing("decide", department="secret-project"))
    with pytest.raises(PermissionDeniedError) as caught:
        desk.require(caller(), "<script>", Resource("UseCase", "secret-project"))
    assert "script" not in caught.value.detail and "secret" not in caught.value.detail
    assert desk.require(caller("auditor"), "read_ledger", Resource("Ledger")).policies == ("auditor-reads",)


BROKEN = {
    "does not parse": "permit (principal, action, resource",
    "no @id": "permit (principal, action, resource);",
    "two policies have the id": '@id("four-eyes") permit (principal, action, resource);',
    "does not fit the schema": '@id("x") forbid (principal, action, resource) when { principal.regoin };',
    "template": '@id("t") permit (principal == ?principal, action, resource);',
}


@pytest.mark.parametrize("problem", BROKEN)
def test_policies_that_cannot_be_used_allow_nothing(folder: Path, problem: str) -> None:
    epoch = [0]
    desk = Authorizer(folder, lambda: epoch[0])
    auditor, ledger = caller("auditor"), Resource("Ledger")
    before = desk.digest
    assert desk.allowed(auditor, "read_ledger", ledger).allowed
    (folder / "mine.cedar").write_text(BROKEN[problem])
    epoch[0] += 1
    refused = desk.allowed(auditor, "read_ledger", ledger)
    assert not refused.allowed and problem in refused.missing and "mine.cedar" in refused.missing
    assert desk.digest != before and problem in desk.problem
    (folder / "mine.cedar").unlink()
    epoch[0] += 1
    assert desk.allowed(auditor, "read_ledger", ledger).allowed and desk.digest == before


def test_missing_or_oversized_policies_allow_nothing(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "none", tmp_path / "empty"):
        assert (
            not Authorizer(place, lambda: 0)
            .allowed(caller("auditor"), "read_ledger", Resource("Ledger"))
            .allowed
        )
    (folder / "big.cedar").write_text("//" + "x" * (1 << 20))
    assert "larger" in Authorizer(folder, lambda: 0).problem
    (folder / "big.cedar").write_bytes(b"\xff\xfe")
    assert "UTF-8" in Authorizer(folder, lambda: 0).problem


def test_a_policy_that_fails_while_evaluated_refuses(folder: Path) -> None:
    """Cedar skips a `forbid` that errs (here: integer overflow). That must not open the door."""
    (folder / "mine.cedar").write_text(
        '@id("overflow") forbid (principal, action, resource) when { 9223372036854775807 + 1 == 0 };'
    )
    desk = Authorizer(folder, lambda: 0)
    assert not desk.problem
    refused = desk.allowed(caller("auditor"), "read_ledger", Resource("Ledger"))
    assert not refused.allowed and "could not be evaluated" in refused.missing


def test_a_one_time_token_can_be_asked_for(folder: Path) -> None:
    """The policy that docs/identity.md offers."""
    (snippet,) = re.findall(r"```cedar\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    (folder / "mine.cedar").write_text(snippet)
    desk = Authorizer(folder, lambda: 0)
    assert not desk.problem
    validator, release = caller("validator"), thing("approve_release")
    assert desk.allowed(validator, "approve_release", release).policies == ("approve-with-one-time-token",)
    once = msgspec.structs.replace(validator, one_time=True)
    assert desk.allowed(once, "approve_release", release).allowed


def test_default_policies_are_not_overwritten(folder: Path) -> None:
    with pytest.raises(ConflictError):
        install_default_policies(folder)


@pytest.mark.parametrize(
    "value", [1.5, None, {"__entity": {"type": "Role", "id": "officer"}}, 2**63, [1], ["a", None], "\ud800"]
)
def test_attributes_are_plain(value: object) -> None:
    with pytest.raises(UsageError):
        Resource("UseCase", "x", {"department": value})
    with pytest.raises(UsageError):
        Context({"region": value})


def test_what_is_cached_under_cannot_change(desk: Authorizer) -> None:
    attrs = {"department": "retail", "region": "eu"}
    resource = Resource("UseCase", "x", attrs)
    assert desk.allowed(caller("application"), "decide", resource).allowed
    attrs["department"] = "fraud"
    resource.attrs["department"] = "fraud"
    assert resource.attrs["department"] == "retail"
    for target, name in ((resource, "text"), (resource, "kind"), (Context(), "text"), (caller(), "roles")):
        with pytest.raises(AttributeError):
            setattr(target, name, "x")


def test_identifiers_are_not_syntax(desk: Authorizer) -> None:
    """Quotes, line breaks and Cedar text in names stay names."""
    for name in ('sam"', "sam\\", 'x" || true || "', "a\nb", "\0", 'Role::"officer"'):
        assert not desk.allowed(caller(name, subject=name), "revoke_token", Resource("Token", name)).allowed
        assert desk.allowed(caller("officer", subject=name), "revoke_token", Resource("Token", name)).allowed
        assert not desk.allowed(caller("officer"), "revoke_token", Resource(name, "x")).allowed
