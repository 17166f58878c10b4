"""What a member refuses before it loads a column, each by name and with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fiduciary.errors import (
    ConfigError,
    ConflictError,
    FiduciaryError,
    IntegrityError,
    MalformedRequestError,
    PermissionDeniedError,
)
from fiduciary.identity import PartyKey
from fiduciary.joint import Allow, LocalFederation, Member, Memory, make_contract, open_contract
from fiduciary.joint._allow import check_contract, check_invitation
from fiduciary.joint._contract import Invitation, InvitedParty, ProgramRef, Signed, open_signed, sign_payload
from fiduciary.joint._protocols import check_protocol


def check(table: Any, invitation: Invitation, allow: Allow, now: float | None = None) -> str:
    return check_invitation(
        invitation,
        allow,
        party="telco",
        key=table.keys["telco"].public.hex(),
        now=now or table.now,
        root=table.root,
    )


def test_a_job_on_the_list_is_let_through(table: Any) -> None:
    assert check(table, table.invitation(), table.allow()) == table.program.digest


REFUSALS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("protocol", {"protocol": "cheetah"}, {}, "cheetah takes 2 parties"),
    ("insecure", {"protocol": "semi2k"}, {}, "rebuild"),
    ("protocol not listed", {}, {"protocols": ("cheetah",)}, "aby3 is not allowed here"),
    ("receiver", {"outputs": {"*": ["regulator"]}}, {}, "regulator may not learn"),
    ("single output", {"outputs": {"*": ["bank"], "gram": ["telco"]}}, {}, "telco may not learn"),
    ("coordinator", {}, {"coordinators": {}}, "utility is not among the coordinators"),
    ("coordinator key", {}, {"coordinators": {"utility": "0" * 64}}, "utility is not among"),
    ("peer", {}, {"peers": {}}, "bank is not among the peers"),
    ("program", {}, {"programs": {}}, "not allowed here at all"),
    ("program hash", {}, {"programs": {"stub.total@1": "sha256:" + "0" * 64}}, "with another digest"),
    ("time", {}, {"longest_s": 1.0}, "allowed are 1"),
    ("no noise", {}, {"epsilon_per_job": 1.0}, "promises no noise"),
    ("too little noise", {"privacy": {"epsilon": 2.0, "delta": 0.0}}, {"epsilon_per_job": 1.0}, "epsilon 2"),
]


@pytest.mark.parametrize(
    ("invited", "allowed", "reason"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS]
)
def test_what_is_not_on_the_list_is_refused(
    table: Any, invited: dict[str, Any], allowed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(PermissionDeniedError, match=reason):
        check(table, table.invitation(**invited), table.allow(**allowed))


def test_a_changed_source_is_refused_whatever_the_list_says(table: Any) -> None:
    other = "sha256:" + "1" * 64
    wanted = ProgramRef(id=table.program.id, module=table.program.module, digest=other)
    with pytest.raises(PermissionDeniedError, match=r"the source of stub\.total@1 on this machine"):
        check(table, table.invitation(program=wanted), table.allow(programs={table.program.id: other}))


def test_expired_and_future_invitations_are_refused(table: Any) -> None:
    with pytest.raises(PermissionDeniedError, match="expired"):
        check(table, table.invitation(), table.allow(), now=table.now + 7200)
    with pytest.raises(PermissionDeniedError, match="future"):
        check(table, table.invitation(), table.allow(), now=table.now - 7200)


def test_columns_that_are_not_listed_are_refused(table: Any) -> None:
    parties = [
        InvitedParty(name=n, key=k.public.hex(), columns=[{"name": "salary"}] if n == "telco" else [])  # type: ignore[list-item]
        for n, k in table.keys.items()
    ]
    invitation = msgspec.convert(msgspec.to_builtins(table.invitation(parties=parties)), Invitation)
    with pytest.raises(PermissionDeniedError, match="salary of telco"):
        check(table, invitation, table.allow(columns=["usage"]))


@pytest.mark.parametrize(
    ("name", "parties", "reason"),
    [
        ("semi2k", 2, "trusted first party"),
        ("SEMI2K", 3, "trusted first party"),
        ("ref2k", 2, "hides nothing"),
        ("aby3", 2, "takes 3 parties"),
        ("aby3", 4, "takes 3 parties"),
        ("cheetah", 3, "takes 2 parties"),
        ("shamir", 2, "hides nothing from either"),
        ("bgw", 2, "hides nothing from either"),
        ("other", 3, "only aby3 and cheetah"),
    ],
)
def test_protocols_are_refused_by_name_with_the_reason(name: str, parties: int, reason: str) -> None:
    with pytest.raises(PermissionDeniedError, match=reason):
        check_protocol(name, parties)
    with pytest.raises(PermissionDeniedError):
        LocalFederation([f"p{i}" for i in range(parties)], protocol=name)


def test_an_allow_list_cannot_turn_testing_on(tmp_path: Path) -> None:
    path = tmp_path / "allow.toml"
    path.write_text("coordinators = {}\npeers = {}\nprograms = {}\ntesting = true\n")
    with pytest.raises(ConfigError, match="testing"):
        Allow.load(path)


def member(table: Any, name: str, **changes: Any) -> Member:
    import sys

    return Member(
        name=name,
        key=table.keys[name],
        allow=table.allow(**changes),
        memory=Memory(),
        python=Path(sys.executable),
        root=table.root,
    )


def accepted(table: Any, invitation: Signed, rows: dict[str, int]) -> tuple[list[Signed], list[Any]]:
    signed, links = [], []
    for at, name in enumerate(table.keys):
        columns = {"x": np.ones(rows[name])} if name in rows else {}
        one, link = member(table, name).accept(invitation, columns, f"127.0.0.1:{7000 + at}")
        signed.append(one)
        links.append(link)
    return signed, links


def test_contracts_hold_together_or_are_refused(table: Any) -> None:
    invitation = sign_payload(table.invitation(), table.coordinator)
    signed, _ = accepted(table, invitation, {"bank": 3, "telco": 3})
    agreed = open_contract(make_contract(invitation, signed[::-1]))
    assert [a.party for a in agreed.acceptances] == list(table.keys)
    with pytest.raises(FiduciaryError, match="not yet accepted by regulator"):
        make_contract(invitation, signed[:2])
    with pytest.raises(FiduciaryError, match="accepted twice"):
        make_contract(invitation, [*signed, signed[0]])
    other = sign_payload(table.invitation(), table.coordinator)
    with pytest.raises(IntegrityError, match="another invitation"):
        make_contract(other, signed)


def test_an_extra_party_is_refused(table: Any) -> None:
    invitation = sign_payload(table.invitation(), table.coordinator)
    signed, _ = accepted(table, invitation, {})
    stranger = PartyKey.generate()
    table.keys["stranger"] = stranger
    more = [InvitedParty(name=n, key=k.public.hex()) for n, k in table.keys.items()]
    wider = sign_payload(table.invitation(parties=more), table.coordinator)
    with pytest.raises(PermissionDeniedError, match="aby3 takes 3 parties, not 4"):
        member(table, "stranger").accept(wider, {}, "127.0.0.1:7009")
    foreign = msgspec.json.decode(msgspec.json.encode(signed[2].payload))
    foreign.update(party="stranger", key=stranger.public.hex())
    from fiduciary.joint._contract import Acceptance

    foreign.pop("format")
    with pytest.raises(IntegrityError, match="stranger was not invited"):
        make_contract(invitation, [*signed, sign_payload(msgspec.convert(foreign, Acceptance), stranger)])


@pytest.mark.parametrize("field", ["job", "protocol", "outputs", "program", "nonce", "parameters"])
def test_a_changed_invitation_loses_its_signature(table: Any, field: str) -> None:
    signed = sign_payload(table.invitation(), table.coordinator)
    payload = dict(signed.payload)
    payload[field] = {
        "outputs": {"*": ["telco"]},
        "parameters": {"a": 1},
        "program": {**payload["program"], "id": "x.y@2"},
    }.get(field, "f" * 32)
    with pytest.raises(IntegrityError, match="utility's signature"):
        open_signed(Signed(payload=payload, signature=signed.signature), Invitation)


def test_one_key_cannot_be_two_parties(table: Any) -> None:
    twice = [InvitedParty(name=n, key=table.keys["bank"].public.hex()) for n in table.keys]
    with pytest.raises(MalformedRequestError, match="one party twice"):
        open_signed(sign_payload(table.invitation(parties=twice), table.coordinator), Invitation)


def test_rows_are_held_to_both_policies(table: Any) -> None:
    from fiduciary.joint._contract import RowPolicy

    invitation = sign_payload(table.invitation(rows=RowPolicy(equal=True)), table.coordinator)
    signed, _ = accepted(table, invitation, {"bank": 3, "telco": 4})
    agreed = open_contract(make_contract(invitation, signed))
    key = table.keys["bank"].public.hex()
    with pytest.raises(PermissionDeniedError, match="equally many"):
        check_contract(agreed, table.allow(), party="bank", key=key, now=table.now, root=table.root)
    with pytest.raises(PermissionDeniedError, match="telco brings 4 rows; allowed here are 1 to 3"):
        check_contract(
            agreed, table.allow(most_rows=3), party="bank", key=key, now=table.now, root=table.root
        )


def test_columns_are_not_loaded_before_the_contract_holds(table: Any) -> None:
    invitation = sign_payload(table.invitation(), table.coordinator)
    signed, links = accepted(table, invitation, {"bank": 3})
    loaded: list[int] = []
    strict = member(table, "bank", programs={})
    with pytest.raises(PermissionDeniedError):
        strict.run(make_contract(invitation, signed), lambda: loaded.append(1) or {}, links[0])
    assert not loaded


def test_a_contract_runs_once_and_a_budget_is_not_passed(table: Any, tmp_path: Path) -> None:
    allow = table.allow(epsilon_per_job=1.0, epsilon_total=2.0)
    first = table.invitation(privacy={"epsilon": 1.0, "delta": 0.0})
    Memory(tmp_path / "memory.json").spend(first, allow, table.now)
    with pytest.raises(ConflictError, match="was run here before"):
        Memory(tmp_path / "memory.json").spend(first, allow, table.now)
    second = table.invitation(privacy={"epsilon": 1.0, "delta": 0.0})
    Memory(tmp_path / "memory.json").spend(second, allow, table.now)
    third = table.invitation(privacy={"epsilon": 0.5, "delta": 0.0})
    with pytest.raises(PermissionDeniedError, match=r"spent epsilon to 2\.5"):
        Memory(tmp_path / "memory.json").spend(third, allow, table.now)
    (tmp_path / "memory.json").write_text("{}")
    with pytest.raises(ConfigError, match="damaged"):
        Memory(tmp_path / "memory.json").spend(third, allow, table.now)
