"""docs/formats/release.md is the format: its vectors, its tables of events, and its list of refusals."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bank import Bank
from fiduciary.identity import PartyKey
from fiduciary.registry import (
    REFUSED,
    RELEASE_TYPE,
    RULES,
    UseCase,
    canonical,
    digest_text,
    make_statement,
    open_envelope,
    sign_envelope,
    sign_statement,
    statement_bytes,
    statement_holds,
)
from fiduciary.registry._bundle import REQUIRED, make_manifest, read_manifest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "formats" / "release.md").read_text("utf-8")
VECTORS = dict(re.findall(r"```vector ([a-z-]+)\n(.*?)\n```", PAGE, re.DOTALL))
KEY = PartyKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


def test_keys() -> None:
    assert KEY.public.hex() == VECTORS["public"]
    assert KEY.key_id == VECTORS["key-id"] == hashlib.sha256(KEY.public).hexdigest()[:16]


def test_manifest_and_digest() -> None:
    manifest, raw = make_manifest(
        name="credit-scorecard",
        version="1.0.0",
        use_case="consumer-credit",
        family="scorecard",
        files=dict.fromkeys(REQUIRED, b"{}"),
    )
    assert raw.decode() == VECTORS["manifest"]
    assert read_manifest(raw) == manifest
    assert digest_text(raw) == VECTORS["digest"] == "sha256:" + hashlib.sha256(raw).hexdigest()


def test_envelope() -> None:
    manifest = VECTORS["manifest"].encode()
    assert sign_envelope(RELEASE_TYPE, manifest, KEY).decode() == VECTORS["envelope"]
    assert open_envelope(VECTORS["envelope"].encode(), RELEASE_TYPE, KEY.public) == manifest


def test_statement_and_event() -> None:
    body = {
        "release": VECTORS["digest"],
        "use_case": "consumer-credit",
        "checked": 6,
        "note": "gepr\u00fcft",
    }
    statement = make_statement(
        "release.approved",
        body,
        scope="acme.eu",
        by="grace@bank.example",
        key_id=KEY.key_id,
        signed_ns=1_777_809_600 * 10**9,
        nonce=bytes(16),
    )
    assert statement_bytes(statement).decode() == VECTORS["statement"]
    event = sign_statement(statement, KEY)
    assert canonical(event).decode() == VECTORS["event"]
    assert statement_holds(json.loads(VECTORS["event"]), KEY.public)


def test_the_event_can_be_checked_with_the_page_alone() -> None:
    """As an outsider would: JSON, base64 and Ed25519 from elsewhere, nothing of ours."""
    event = json.loads(VECTORS["event"])
    signature = base64.b64decode(event.pop("signature"))
    text = "fiduciary.statement/1\n" + json.dumps(
        event, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    private.public_key().verify(signature, text.encode())


def test_use_case() -> None:
    use_case = UseCase(
        name="consumer-credit", purpose="decide on consumer loans", approve_below=0.1, decline_from=0.3
    )
    assert canonical(use_case.document).decode() == VECTORS["use-case"]
    assert use_case.digest == VECTORS["use-case-digest"]


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_governed_event_and_every_refusal_is_on_the_page() -> None:
    text = section("Events")
    assert [event for event in RULES if f"`{event}`" not in text] == []
    assert [event for event in REFUSED.values() if f"`{event}`" not in text] == []
    assert set(REFUSED) == set(RULES)


def test_every_member_of_every_event_is_on_the_page(bank: Bank) -> None:
    """Each event that a full life writes has exactly the members that the tables name."""
    rows = {}
    for line in section("Events").splitlines():
        cells = line.replace("\\|", "").split("|")
        if len(cells) > 3:
            for event in re.findall(r"`([a-z_]+\.[a-z_]+)`", cells[1]):
                rows[event] = set(re.findall(r"`([a-z_]+)`", re.sub(r"\(.*?\)|;.*", "", cells[2])))
    signed = {"event", "scope", "by", "key", "signed", "nonce", "signature"}
    bank.live()
    bank.registry.retire(bank.live("2", shift=0.1), by="otto", key=bank.key("otto"), reason="x")
    bank.registry.rollback("consumer-credit", by="otto", key=bank.key("otto"), reason="x")
    seen = set()
    for event in bank.events():
        name = str(event["event"])
        if name in rows:
            assert set(event) == rows[name] | signed, name
            seen.add(name)
    assert seen >= {
        "party.enrolled",
        "usecase.defined",
        "release.proposed",
        "release.checked",
        "release.approved",
        "release.promoted",
        "release.rolled_back",
        "release.retired",
    }


def test_required_files_are_on_the_page() -> None:
    text = section("Bundle")
    assert [path for path in REQUIRED if f"`{path}`" not in text] == []


@pytest.mark.parametrize(
    "state", ["proposed", "checked", "approved", "shadow", "live", "suspended", "rejected", "retired"]
)
def test_every_state_is_explained(state: str) -> None:
    from typing import get_args

    from fiduciary.registry import State

    guide = (Path(__file__).resolve().parents[2] / "docs" / "releases.md").read_text("utf-8")
    assert f"| {state} |" in guide
    assert set(get_args(State)) == {
        "proposed",
        "checked",
        "approved",
        "shadow",
        "live",
        "suspended",
        "rejected",
        "retired",
    }
