"""Dead Simple Signing Envelope, protocol 1.0.2: the signature covers the payload's type and its bytes.

    PAE(type, body) = "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body

(https://github.com/secure-systems-lab/dsse/blob/master/protocol.md; the specification's own example is a
vector in tests/registry/test_dsse.py.) Ours signs with Ed25519 only. The payload of a release signature is
its manifest, byte for byte, so the envelope carries what it signs.
"""

from __future__ import annotations

import base64
import binascii
from typing import Protocol

import msgspec

from fiduciary.errors import FiduciaryError, IntegrityError, ReleaseError
from fiduciary.registry._canonical import canonical, parse

RELEASE_TYPE = "application/vnd.fiduciary.release+json"
MAX_ENVELOPE_BYTES = 2 << 20
MAX_ENVELOPE_SIGNATURES = 8


class Key(Protocol):
    """What signing needs of a party's key (`fiduciary.identity.PartyKey` has it)."""

    @property
    def key_id(self) -> str:
        """First 16 hexadecimal digits of SHA-256 of the public key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Ed25519 signature, 64 bytes."""
        ...


class _Signature(msgspec.Struct, frozen=True):
    sig: str
    keyid: str = ""


class _Envelope(msgspec.Struct, frozen=True):
    payload: str
    payloadType: str
    signatures: list[_Signature]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign_envelope(payload_type: str, payload: bytes, key: Key) -> bytes:
    """A DSSE envelope (canonical JSON) of `payload` with one Ed25519 signature."""
    signature = key.sign(pae(payload_type, payload))
    return canonical(
        {
            "payload": base64.b64encode(payload).decode("ascii"),
            "payloadType": payload_type,
            "signatures": [{"keyid": key.key_id, "sig": base64.b64encode(signature).decode("ascii")}],
        }
    )


def open_envelope(raw: bytes, payload_type: str, public: bytes) -> bytes:
    """The payload of an envelope of that type, if a signature in it verifies under `public` (32 bytes).

    `keyid` is a hint and decides nothing, as the protocol says. Raises `ReleaseError`.
    """
    try:
        document = parse(raw, "the envelope", MAX_ENVELOPE_BYTES)
        envelope = msgspec.convert(document, _Envelope)
        payload = decode_base64(envelope.payload)
        signatures = [decode_base64(s.sig) for s in envelope.signatures]
    except (FiduciaryError, msgspec.ValidationError, ValueError) as error:
        raise ReleaseError(f"the signature file is not a DSSE envelope: {error}") from None
    if envelope.payloadType != payload_type:
        raise ReleaseError(f"the envelope is of type {envelope.payloadType[:80]!r}, not {payload_type!r}")
    if len(signatures) > MAX_ENVELOPE_SIGNATURES:
        raise ReleaseError(
            f"the envelope has {len(signatures)} signatures, more than {MAX_ENVELOPE_SIGNATURES}"
        )
    signed = pae(payload_type, payload)
    if not any(verifies(public, signature, signed) for signature in signatures):
        raise ReleaseError("no signature in the envelope verifies under the key that it must be signed with")
    return payload


def decode_base64(text: str) -> bytes:
    """Strict standard base64: padded, no other characters, one spelling only. Raises `ValueError`."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("a field is not base64") from None
    if base64.b64encode(raw).decode("ascii") != text:
        raise ValueError("a base64 field is not in its one canonical spelling")
    return raw


def verifies(public: bytes, signature: bytes, data: bytes) -> bool:
    """True when `signature` (64 bytes) of `data` verifies under an Ed25519 public key (32 bytes)."""
    from fiduciary.identity import PartyKey

    try:
        return PartyKey.verify(public, signature, data)
    except IntegrityError:
        return False
