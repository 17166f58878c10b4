"""The envelope: the specification's own example, and every way in which it must not open."""

from __future__ import annotations

import base64
import json

import pytest

from fiduciary.errors import ReleaseError
from fiduciary.identity import PartyKey
from fiduciary.registry import open_envelope, pae, sign_envelope

TYPE = "application/vnd.example+json"


def test_pre_authentication_encoding_is_that_of_the_specification() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("", b"") == b"DSSEv1 0  0 "
    assert pae("\u00e9", b"x") == b"DSSEv1 2 \xc3\xa9 1 x"


def test_an_envelope_opens_with_its_key_only() -> None:
    key, other = PartyKey.generate(), PartyKey.generate()
    raw = sign_envelope(TYPE, b'{"a":1}', key)
    assert open_envelope(raw, TYPE, key.public) == b'{"a":1}'
    with pytest.raises(ReleaseError):
        open_envelope(raw, TYPE, other.public)
    with pytest.raises(ReleaseError, match="type"):
        open_envelope(raw, "application/other", key.public)


def test_the_key_id_in_the_envelope_decides_nothing() -> None:
    key, other = PartyKey.generate(), PartyKey.generate()
    document = json.loads(sign_envelope(TYPE, b"x", other))
    document["signatures"][0]["keyid"] = key.key_id
    with pytest.raises(ReleaseError):
        open_envelope(json.dumps(document).encode(), TYPE, key.public)


@pytest.mark.parametrize("field", ["payload", "payloadType", "sig"])
def test_every_changed_field_is_refused(field: str) -> None:
    key = PartyKey.generate()
    document = json.loads(sign_envelope(TYPE, b"payload of some length", key))
    if field == "sig":
        raw = bytearray(base64.b64decode(document["signatures"][0]["sig"]))
        raw[5] ^= 1
        document["signatures"][0]["sig"] = base64.b64encode(raw).decode()
    elif field == "payload":
        document["payload"] = base64.b64encode(b"payload of same length").decode()
    else:
        document["payloadType"] = TYPE + "x"
    with pytest.raises(ReleaseError):
        open_envelope(json.dumps(document).encode(), TYPE, key.public)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"payload":"","payloadType":"t"}',
        b'{"payload":"","payload":"","payloadType":"t","signatures":[]}',
        b'{"payload":"*","payloadType":"t","signatures":[]}',
        b'{"payload":"YQ=","payloadType":"t","signatures":[]}',
        b'{"payload":"YR==","payloadType":"t","signatures":[]}',
        b'{"payload":"","payloadType":"t","signatures":[]}',
        b'{"payload":"","payloadType":"t","signatures":[{"sig":""}]}',
    ],
)
def test_what_is_not_an_envelope_is_refused(raw: bytes) -> None:
    with pytest.raises(ReleaseError):
        open_envelope(raw, "t", PartyKey.generate().public)


def test_signing_is_deterministic() -> None:
    key = PartyKey.generate()
    assert sign_envelope(TYPE, b"x", key) == sign_envelope(TYPE, b"x", key)
