"""One signed token in compact form (RFC 7515): taken apart strictly, its signature checked by joserfc.

What a token says about how it wants to be checked is never believed (RFC 8725): the algorithm must be one of
three, must fit the type of the issuer's key, and no key, address or extension in the header is looked at.
tests/identity/test_wycheproof_jws.py runs Project Wycheproof's vectors through `verify_jws`;
tests/attacks/test_tokens.py holds the attacks.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey
from joserfc.jws import JWSRegistry

from fiduciary.errors import AuthenticationError, IntegrityError
from fiduciary.identity._keys import check_public

TOKEN_LIMIT = 8 * 1024
"""Largest token, bytes."""

KEYS_LIMIT = 64
"""Most keys read from one JWKS document."""

ALGORITHMS = {"ES256": "EC", "EdDSA": "OKP", "Ed25519": "OKP"}
"""The algorithms accepted and the key type each is bound to (`Ed25519` is RFC 9864's name for `EdDSA`)."""

REFUSED_HEADERS = ("jwk", "jku", "x5u", "x5c", "crit", "b64")
TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})

_COMPACT = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_VERIFIERS = {
    "ES256": JWSRegistry.algorithms["ES256"],
    "EdDSA": JWSRegistry.algorithms["Ed25519"],
    "Ed25519": JWSRegistry.algorithms["Ed25519"],
}


def refuse(rule: str, detail: str) -> NoReturn:
    """Raise the `AuthenticationError` of a rule. The detail never holds any part of the token."""
    raise AuthenticationError(detail, rule=rule)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate name")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def read_object(text: bytes, part: str) -> dict[str, Any]:
    """A JSON object in which no name occurs twice. Raises `AuthenticationError` (rule "json")."""
    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        refuse("json", f"the token's {part} is not one JSON object with each name once")
    if not isinstance(found, dict):
        refuse("json", f"the token's {part} is not a JSON object")
    return found


def _decode(part: bytes) -> bytes:
    try:
        content = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        refuse("form", "the token is not base64url")
    # Two spellings of one token would be two cache entries and two digests of the same bearer.
    if base64.urlsafe_b64encode(content).rstrip(b"=") != part:
        refuse("form", "the token is not canonical base64url")
    return content


class KeySet:
    """The usable public keys of one issuer: EC P-256 and OKP Ed25519, for signatures.

    Keys of other types and uses are left out, since no token may be checked with them. So is a key that came
    with its private half (whoever read the address can sign), and both of two keys with one kid and type.
    """

    def __init__(self, document: Any) -> None:
        listed = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(listed, list) or len(listed) > KEYS_LIMIT:
            raise ValueError(f"a JWKS document is an object with at most {KEYS_LIMIT} 'keys'")
        self._keys: dict[tuple[str, str | None], tuple[ECKey | OKPKey, str | None]] = {}
        twice: set[tuple[str, str | None]] = set()
        for jwk in listed:
            kty, kid, key = _usable(jwk)
            if key is None:
                continue
            name = (kty, kid)
            if name in self._keys:
                twice.add(name)
            self._keys[name] = (key, jwk.get("alg"))
        for name in twice:
            del self._keys[name]

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def kids(self) -> list[str]:
        """Key ids, for messages and the status page."""
        return sorted(kid or "" for _, kid in self._keys)

    def find(self, algorithm: str, kid: str | None) -> ECKey | OKPKey | None:
        """The one key for a token's algorithm and kid; without a kid, only where there is no choice."""
        kty = ALGORITHMS[algorithm]
        if kid is None:
            fitting = [pair for (family, _), pair in self._keys.items() if family == kty]
            found = fitting[0] if len(fitting) == 1 else None
        else:
            found = self._keys.get((kty, kid))
        if found is None:
            return None
        key, declared = found
        if declared is not None and ALGORITHMS.get(declared) != kty:
            return None
        return key


def _usable(jwk: Any) -> tuple[str, str | None, ECKey | OKPKey | None]:
    if not isinstance(jwk, dict):
        return "", None, None
    kty, kid, operations = jwk.get("kty"), jwk.get("kid"), jwk.get("key_ops")
    if (
        not (isinstance(kid, str) or kid is None)
        or "d" in jwk
        or jwk.get("use", "sig") != "sig"
        or (operations is not None and not (isinstance(operations, list) and "verify" in operations))
        or (kty, jwk.get("crv")) not in {("EC", "P-256"), ("OKP", "Ed25519")}
    ):
        return "", None, None
    plain = {name: jwk[name] for name in ("kty", "crv", "x", "y") if name in jwk}
    try:
        key: ECKey | OKPKey = ECKey.import_key(plain) if kty == "EC" else OKPKey.import_key(plain)
        _ = key.public_key  # reads the point now: a key off its curve is left out, not met at the first token
        if kty == "OKP":
            check_public(_decode(plain["x"].encode()))
    except (IntegrityError, AuthenticationError, AttributeError, JoseError, ValueError, TypeError, KeyError):
        return "", None, None
    return str(kty), kid, key


class Jws:
    """A compact token taken apart, its header checked, its signature not yet."""

    __slots__ = ("_signature", "_signed", "algorithm", "claims_text", "kid")

    def __init__(self, token: bytes) -> None:
        if len(token) > TOKEN_LIMIT:
            refuse("size", f"the token is larger than {TOKEN_LIMIT} bytes")
        parts = _COMPACT.fullmatch(token)
        if parts is None:
            refuse("form", "the token is not a signed token in compact form (three base64url parts)")
        header_text, payload, signature = (_decode(part) for part in parts.groups())
        header = read_object(header_text, "header")
        for name in REFUSED_HEADERS:
            if name in header:
                refuse("header", f"the token's header carries {name!r}, which is not accepted")
        algorithm, kid, typ = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            refuse("algorithm", f"the token's algorithm is not one of {', '.join(ALGORITHMS)}")
        if not (kid is None or (isinstance(kid, str) and 0 < len(kid) <= 256)):
            refuse("header", "the token's key id is not a string of 1 to 256 characters")
        if not isinstance(typ, str) or typ.lower() not in TYPES:
            refuse("type", "the token's type is not JWT or at+jwt")
        self._signed = token[: token.rindex(b".")]
        self._signature: bytes = signature
        self.algorithm: str = algorithm
        self.kid: str | None = kid
        self.claims_text: bytes = payload

    def check(self, key: ECKey | OKPKey) -> None:
        """Check the signature. Raises `AuthenticationError` (rule "signature")."""
        try:
            good = _VERIFIERS[self.algorithm].verify(self._signed, self._signature, key)
        except (JoseError, ValueError, TypeError):
            good = False
        if good is not True:
            refuse("signature", "the token's signature is not by the issuer's key")


def verify_jws(token: bytes, keys: KeySet | Sequence[dict[str, Any]]) -> bytes:
    """The payload of a token signed by one of `keys`. Raises `AuthenticationError` naming the rule."""
    keys = keys if isinstance(keys, KeySet) else KeySet({"keys": list(keys)})
    jws = Jws(token)
    key = keys.find(jws.algorithm, jws.kid)
    if key is None:
        refuse("key", "the token is signed with a key that the issuer does not publish")
    jws.check(key)
    return jws.claims_text
