"""Hostile tokens at the door: each is refused by name, and no refusal repeats any part of the token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from fiduciary.config import AuthSettings
from fiduciary.errors import AuthenticationError
from fiduciary.identity import Authenticator, FileKeys, Keyring, SpentTokens

ISSUER = "https://id.example"
EC, OKP, RSA = ECKey.generate_key("P-256"), OKPKey.generate_key("Ed25519"), RSAKey.generate_key(2048)
STRANGER = ECKey.generate_key("P-256")


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def public(key: Any, kid: str, **more: str) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": kid, **more}


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {
        "iss": ISSUER, "sub": "alice", "aud": "fiduciary", "iat": now, "exp": now + 600, "jti": "t-1",
        "roles": ["auditor"],
    }  # fmt: skip
    good.update(changes)
    return {name: value for name, value in good.items() if value is not ...}


def sign(
    header: dict[str, Any] | bytes, payload: dict[str, Any] | bytes, key: Any = EC, alg: str = "ES256"
) -> bytes:
    """A compact token with any header and payload, really signed with `key`."""
    parts = [
        b64(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, payload)
    ]
    signed = b".".join(parts)
    return signed + b"." + b64(JWSRegistry.algorithms[alg].sign(signed, key))


GOOD = {"alg": "ES256", "kid": "ec"}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Authenticator:
    path: Path = tmp_path_factory.mktemp("keys") / "jwks.json"
    listed = [
        public(EC, "ec"),
        public(OKP, "okp"),
        public(RSA, "rsa"),
        public(ECKey.generate_key("P-256"), "twice"),
        public(ECKey.generate_key("P-256"), "twice"),
        public(STRANGER, "encryption", use="enc"),
        public(STRANGER, "says-other", alg="ES384"),
        {**STRANGER.as_dict(private=True), "kid": "with-private-half"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"},
        {"kty": "OKP", "crv": "Ed25519", "x": b64(b"\x01" + b"\0" * 31).decode(), "kid": "small-order"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "off-curve"},
        "not an object",
        {"kty": "EC", "kid": 7},
    ]
    path.write_text(json.dumps({"keys": listed}))
    ring = Keyring([FileKeys(ISSUER, path)])
    return Authenticator(AuthSettings(), lambda: 0, None, ring, spent=SpentTokens())


def refused(door: Authenticator, token: bytes) -> str:
    """The rule that refuses this token, twice (a refusal must not be remembered as anything else)."""
    rules = []
    for _ in range(2):
        with pytest.raises(AuthenticationError) as caught:
            door.authenticate(b"Bearer " + token)
        text = json.dumps(caught.value.problem()) + repr(caught.value)
        for part in token.split(b"."):
            assert len(part) < 8 or part.decode("latin-1") not in text
        rules.append(str(caught.value.more["rule"]))
    assert rules[0] == rules[1]
    return rules[0]


def test_the_good_ones(door: Authenticator) -> None:
    """Without these, the refusals below would prove nothing."""
    tokens = [
        sign(GOOD, claims()),
        sign({**GOOD, "typ": "at+jwt"}, claims(aud=["other", "fiduciary"])),
        sign({**GOOD, "typ": "application/at+JWT", "x5t": "abc"}, claims(iat=...)),
        sign({"alg": "EdDSA", "kid": "okp"}, claims(), OKP, "Ed25519"),
        sign({"alg": "Ed25519", "kid": "okp"}, claims(), OKP, "Ed25519"),
        sign({"alg": "Ed25519"}, claims(), OKP, "Ed25519"),
        sign(GOOD, claims(jti=..., nbf=int(time.time()))),
    ]
    for token in tokens:
        assert door.authenticate(b"Bearer " + token).subject == "alice"
    assert door.authenticate(b"bearer " + tokens[-1]).token_id.startswith("sha256:")


def hs256_with_public_key(kid: str, pem: bytes) -> bytes:
    signed = (
        b64(json.dumps({"alg": "HS256", "kid": kid}).encode()) + b"." + b64(json.dumps(claims()).encode())
    )
    return signed + b"." + b64(hmac.new(pem, signed, hashlib.sha256).digest())


def test_algorithms(door: Authenticator) -> None:
    for name in (
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        "HS256",
        "RS256",
        "PS256",
        "ES384",
        "ES512",
        "ES256K",
        "Ed448",
    ):
        assert refused(door, sign({"alg": name, "kid": "ec"}, claims())) == "algorithm", name
    for odd in (None, 5, ["ES256"], {"ES256": 1}, "ES256\0"):
        assert refused(door, sign({"alg": odd, "kid": "ec"}, claims())) == "algorithm"
    assert refused(door, sign({"kid": "ec"}, claims())) == "algorithm"
    unsigned = b64(b'{"alg":"none"}') + b"." + b64(json.dumps(claims()).encode()) + b"."
    assert refused(door, unsigned) == "form"
    assert refused(door, unsigned + b64(b"x")) == "algorithm"
    for key, kid in ((EC, "ec"), (OKP, "okp"), (RSA, "rsa")):
        for secret in (
            key.as_pem(private=False),
            key.as_der(private=False),
            json.dumps(public(key, kid)).encode(),
        ):
            assert refused(door, hs256_with_public_key(kid, secret)) == "algorithm"
    assert refused(door, sign({"alg": "RS256", "kid": "rsa"}, claims(), RSA, "RS256")) == "algorithm"


def test_an_algorithm_is_bound_to_its_key_type(door: Authenticator) -> None:
    assert refused(door, sign({"alg": "ES256", "kid": "okp"}, claims(), OKP, "Ed25519")) == "key"
    assert refused(door, sign({"alg": "EdDSA", "kid": "ec"}, claims())) == "key"
    assert refused(door, sign({"alg": "ES256", "kid": "rsa"}, claims())) == "key"


def test_keys_that_are_not_the_issuers(door: Authenticator) -> None:
    own = public(STRANGER, "mine")
    assert refused(door, sign(GOOD, claims(), STRANGER)) == "signature"
    assert refused(door, sign({"alg": "ES256", "kid": "mine"}, claims(), STRANGER)) == "key"
    for kid in (
        "twice",
        "encryption",
        "says-other",
        "with-private-half",
        "oct",
        "off-curve",
        "../../etc/passwd",
    ):
        assert refused(door, sign({"alg": "ES256", "kid": kid}, claims(), STRANGER)) == "key", kid
    zero = b64(b'{"alg":"EdDSA","kid":"small-order"}') + b"." + b64(json.dumps(claims()).encode())
    assert refused(door, zero + b"." + b64(b"\x01" + b"\0" * 63)) == "key"
    for extra in (
        {"jwk": own},
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"b64": False, "crit": ["b64"]},
        {"b64": True},
    ):
        assert refused(door, sign({**GOOD, **extra}, claims(), STRANGER)) == "header"
        assert refused(door, sign({**GOOD, **extra}, claims())) == "header"
    assert refused(door, sign({"alg": "ES256", "kid": ["ec"]}, claims())) == "header"
    assert refused(door, sign({"alg": "ES256", "kid": "k" * 300}, claims())) == "header"


def test_claims(door: Authenticator) -> None:
    now = int(time.time())
    for rule, changes in [
        ("issuer", {"iss": ...}),
        ("issuer", {"iss": "https://evil.example"}),
        ("issuer", {"iss": ISSUER + "/"}),
        ("issuer", {"iss": [ISSUER]}),
        ("audience", {"aud": ...}),
        ("audience", {"aud": "other"}),
        ("audience", {"aud": ["fiduciary2"]}),
        ("audience", {"aud": {"fiduciary": 1}}),
        ("audience", {"aud": []}),
        ("expiry", {"exp": ...}),
        ("expiry", {"exp": now + 10**9}),
        ("expired", {"exp": now - 10}),
        ("expired", {"exp": 0}),
        ("claims", {"exp": None}),
        ("claims", {"exp": str(now + 600)}),
        ("claims", {"exp": True}),
        ("claims", {"exp": 2**80}),
        ("claims", {"exp": -1}),
        ("not-yet", {"nbf": now + 60}),
        ("issued", {"iat": now + 3600}),
        ("claims", {"iat": "now"}),
        ("claims", {"sub": ...}),
        ("claims", {"sub": ""}),
        ("claims", {"sub": 7}),
        ("claims", {"sub": "a" * 257}),
        ("claims", {"sub": "alice\nadmin"}),
        ("claims", {"sub": "alice\u202e"}),
        ("claims", {"roles": "officer"}),
        ("claims", {"roles": [["officer"]]}),
        ("claims", {"roles": ["r"] * 65}),
        ("claims", {"kind": "robot"}),
        ("claims", {"region": 1}),
        ("claims", {"one_time": "yes"}),
        ("claims", {"one_time": True, "jti": ...}),
    ]:
        assert refused(door, sign(GOOD, claims(**changes))) == rule, changes
    assert refused(door, sign({**GOOD, "typ": "logout+jwt"}, claims())) == "type"
    assert refused(door, sign({**GOOD, "typ": 5}, claims())) == "type"


def test_forms(door: Authenticator) -> None:
    good = sign(GOOD, claims())
    header, payload, signature = good.split(b".")
    text = json.dumps(claims()).encode()
    for rule, token in [
        ("form", header + b"." + payload),
        ("form", header + b".." + signature),  # detached
        ("form", good + b"."),
        ("form", good + b".x"),
        ("form", b"." + good),
        ("form", good + b"="),
        ("form", good + b"\n"),
        ("form", b" " + good),
        ("form", good.replace(b".", b",", 1)),
        ("form", header + b"." + payload + b".A"),
        ("form", b"\xff\xfe"),
        ("form", json.dumps({"protected": "", "payload": "", "signature": ""}).encode()),
        ("form", json.dumps({"payload": payload.decode(), "signatures": []}).encode()),
        ("size", good + b"A" * 8192),
        ("json", sign(b'{"alg":"ES256","alg":"ES256","kid":"ec"}', text)),
        ("json", sign(b'{"alg":"none","kid":"ec","alg":"ES256"}', text)),
        ("json", sign(GOOD, text[:-1] + b',"sub":"officer"}')),
        ("json", sign(GOOD, text[:-1] + b',"x":{"a":1,"a":2}}')),
        ("json", sign(GOOD, b"[" * 4000)),
        ("json", sign(GOOD, b"[]")),
        ("json", sign(GOOD, b"null")),
        ("json", sign(GOOD, b'{"exp": NaN}')),
        ("json", sign(GOOD, b'{"exp": Infinity}')),
        ("json", sign(GOOD, b'{"exp": ' + b"9" * 4400 + b"}")),
        ("json", sign(GOOD, b"\xff\xff")),
        ("json", sign(GOOD, text + b"{}")),
        ("json", sign(b"\xef\xbb\xbf{}", text)),
    ]:
        assert refused(door, token) == rule, (rule, token[:60])


def test_a_signature_covers_every_byte(door: Authenticator) -> None:
    """Any single changed character of a good token is refused."""
    good = sign(GOOD, claims(jti="every-byte"))
    for place in range(len(good)):
        other = b"A" if good[place : place + 1] != b"A" else b"B"
        with pytest.raises(AuthenticationError):
            door.authenticate(b"Bearer " + good[:place] + other + good[place + 1 :])
    assert door.authenticate(b"Bearer " + good)


def test_one_token_has_one_spelling(door: Authenticator) -> None:
    """The last character of a 64-byte signature has four unused bits: 15 other spellings of the same bytes."""
    good = sign(GOOD, claims(jti="one-spelling"))
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    first = alphabet.index(good[-1]) & ~15
    spellings = [good[:-1] + alphabet[n : n + 1] for n in range(first, first + 16)]
    assert len({base64.urlsafe_b64decode(token.split(b".")[2] + b"==") for token in spellings}) == 1
    for token in spellings:
        if token != good:
            assert refused(door, token) == "form"
    assert door.authenticate(b"Bearer " + good)


def test_signatures_of_the_wrong_shape(door: Authenticator) -> None:
    signed = sign(GOOD, claims()).rpartition(b".")[0]
    der = EC.private_key.sign(signed, ECDSA(SHA256()))
    for signature in (der, b"\0" * 64, b"\0" * 63 + b"\1", b"\xff" * 64, b"\0" * 32, b"x" * 65):
        assert refused(door, signed + b"." + b64(signature)) == "signature"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_other_bytes_are_refused_in_order(door: Authenticator, header: bytes | str) -> None:
    """Whatever arrives, the answer is an `AuthenticationError`, never another exception."""
    for value in (header, b"Bearer " + header if isinstance(header, bytes) else "Bearer " + header):
        with pytest.raises(AuthenticationError):
            door.authenticate(value)


def test_a_one_time_token_cannot_be_replayed(door: Authenticator) -> None:
    token = sign(GOOD, claims(jti="once", one_time=True))
    assert door.authenticate(b"Bearer " + token).one_time
    assert refused(door, token) == "replayed"
    resigned = sign({"alg": "EdDSA", "kid": "okp"}, claims(jti="once", one_time=True), OKP, "Ed25519")
    assert refused(door, resigned) == "replayed"


def test_expiry_is_not_postponed_by_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [public(EC, "ec")]}))
    now = [time.time()]
    door = Authenticator(
        AuthSettings(leeway_s=0), lambda: 0, None, Keyring([FileKeys(ISSUER, path)]), clock=lambda: now[0]
    )
    token = b"Bearer " + sign(GOOD, claims(exp=int(now[0]) + 10))
    for _ in range(100):
        now[0] += 0.1
        if now[0] >= int(json.loads(base64.urlsafe_b64decode(token.split(b".")[1] + b"=="))["exp"]):
            break
        door.authenticate(token)
    with pytest.raises(AuthenticationError, match="expired"):
        door.authenticate(token)
