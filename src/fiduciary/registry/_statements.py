"""What a party signs when it approves, promotes or otherwise governs: one canonical statement.

    signed bytes = "fiduciary.statement/1\\n" || RFC 8785 of the event's payload without its `signature`

The payload on the ledger is therefore its own statement, and anybody with the public key can check it
offline. It names the event, the home it is meant for (`scope`), the party and key, the time of signing and a
nonce, so that a signature says one thing, in one place, once. Vectors: docs/formats/release.md and
tests/registry/test_statements.py.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fiduciary.errors import UsageError
from fiduciary.registry._canonical import canonical
from fiduciary.registry._dsse import Key, decode_base64, verifies

DOMAIN = b"fiduciary.statement/1\n"
NANO = 1_000_000_000
MAX_AGE_S = 86_400
"""Longest time between signing and recording; also how far the signer's clock may be ahead, seconds."""

_NONCE = re.compile(r"[0-9a-f]{32}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def statement_bytes(payload: Mapping[str, Any]) -> bytes:
    """The bytes that the `signature` of an event's payload covers."""
    return DOMAIN + canonical({name: value for name, value in payload.items() if name != "signature"})


def make_statement(
    event: str,
    body: Mapping[str, Any],
    *,
    scope: str,
    by: str,
    key_id: str,
    signed_ns: int,
    nonce: bytes | None = None,
) -> dict[str, Any]:
    """The payload that the party signs, still without its signature: it can be signed on another machine.

    `signed_ns`: the signer's clock, nanoseconds since 1970, kept to the second. Raises `UsageError` when
    `body` uses a reserved member.
    """
    reserved = RESERVED & body.keys()
    if reserved:
        raise UsageError(f"an event's body cannot set {', '.join(sorted(reserved))}")
    return {
        "event": event,
        "scope": scope,
        "by": by,
        "key": key_id,
        "signed": time_text(signed_ns),
        "nonce": (os.urandom(16) if nonce is None else nonce).hex(),
        **body,
    }


RESERVED = frozenset({"event", "scope", "by", "key", "signed", "nonce", "signature"})


def sign_statement(statement: Mapping[str, Any], key: Key) -> dict[str, Any]:
    """The complete payload: the statement with the Ed25519 signature of its bytes, base64."""
    signature = key.sign(statement_bytes(statement))
    return {**statement, "signature": base64.b64encode(signature).decode("ascii")}


def statement_holds(payload: Mapping[str, Any], public: bytes) -> bool:
    """True when the payload's signature verifies under the public key (32 bytes)."""
    signature = payload.get("signature")
    if not isinstance(signature, str):
        return False
    try:
        raw = decode_base64(signature)
    except ValueError:
        return False
    return verifies(public, raw, statement_bytes(payload))


def well_formed_nonce(nonce: object) -> bool:
    """True for 32 lower-case hexadecimal digits."""
    return isinstance(nonce, str) and _NONCE.fullmatch(nonce) is not None


def time_text(time_ns: int) -> str:
    """RFC 3339, UTC, whole seconds: `2026-05-03T12:00:00Z`."""
    return datetime.fromtimestamp(time_ns // NANO, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def time_ns(text: object) -> int | None:
    """Nanoseconds since 1970 of a time as `time_text` writes it; None for anything else."""
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        return None
    try:
        return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()) * NANO
    except ValueError:
        return None
