"""What a joint job leaves behind: who, what, how much, what was revealed to whom; signed by every party.

A transcript holds no value of any party: outputs appear as salted commitments, SHA-256(salt | array bytes),
which their receiver can open later and nobody else can guess. Every member composes the same body from the
facts that all have exchanged, signs it, and refuses to finish without every other signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from fiduciary.errors import IntegrityError
from fiduciary.identity import PartyKey, key_id
from fiduciary.registry import canonical

DOMAIN = b"fiduciary.joint.transcript/1\n"
FORMAT = "fiduciary.joint.transcript/1"


class PartyFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What one member measured and received."""

    name: str
    rank: int
    key: str
    """Ed25519 public key, hexadecimal."""
    certificate: str
    """SHA-256 of the certificate that its links were pinned to."""
    rows: int
    sent_bytes: dict[str, int]
    """Bytes of the engine's traffic sent to each other party."""
    sent_messages: int
    """Messages of the engine sent to all other parties."""
    rounds: int
    """Rounds the program counted: points at which a party waited for others."""
    seconds: float
    """From the first check to the last array, seconds."""
    engine: str
    outputs: dict[str, str]
    """Output -> `sha256:` commitment of what this party received; empty: it received nothing."""


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """A finished job, as every party signed it."""

    body: dict[str, Any]
    signatures: dict[str, str]
    """Party -> Ed25519 signature over the body, hexadecimal."""

    @property
    def digest(self) -> str:
        """`sha256:` of the canonical body."""
        return "sha256:" + hashlib.sha256(canonical(self.body)).hexdigest()

    @property
    def parties(self) -> list[dict[str, Any]]:
        """What each party measured, by rank."""
        return list(self.body["parties"])

    @property
    def sent_bytes(self) -> int:
        """Bytes sent over all parties."""
        return sum(sum(p["sent_bytes"].values()) for p in self.body["parties"])

    @property
    def seconds(self) -> float:
        """The longest party's time, seconds."""
        return max(float(p["seconds"]) for p in self.body["parties"])

    @property
    def rounds(self) -> int:
        """The largest number of rounds of any party."""
        return max(int(p["rounds"]) for p in self.body["parties"])

    def document(self) -> dict[str, Any]:
        """As JSON values, with its digest."""
        return {"digest": self.digest, "transcript": self.body, "signatures": self.signatures}

    def verify(self) -> None:
        """Raise `IntegrityError` unless every party of the body signed exactly this body."""
        parties = {p["name"]: p["key"] for p in self.body.get("parties", [])}
        if not parties or set(parties) != set(self.signatures):
            raise IntegrityError("a transcript needs the signature of each of its parties and no other")
        for name, key in parties.items():
            try:
                signature, public = bytes.fromhex(self.signatures[name]), bytes.fromhex(key)
            except ValueError:
                raise IntegrityError(f"the signature or key of {name} is not hexadecimal") from None
            PartyKey.verify(public, signature, statement(self.body))


def statement(body: Mapping[str, Any]) -> bytes:
    """The bytes that a party signs."""
    return DOMAIN + canonical(dict(body))


def compose(
    *, contract: Mapping[str, Any], digest: str, facts: Sequence[PartyFacts], leaks: Sequence[str]
) -> dict[str, Any]:
    """The body every member arrives at from the same facts."""
    return {
        "format": FORMAT,
        "job": contract["job"],
        "contract": digest,
        "coordinator": contract["coordinator"],
        "program": contract["program"],
        "parameters": contract["parameters"],
        "protocol": contract["protocol"],
        "field": contract["field"],
        "outputs": contract["outputs"],
        "privacy": contract["privacy"],
        "leaks": list(leaks),
        "parties": [msgspec.to_builtins(f) for f in sorted(facts, key=lambda f: f.rank)],
    }


def sign_body(body: Mapping[str, Any], key: PartyKey) -> str:
    """A party's signature over a transcript, hexadecimal."""
    return key.sign(statement(body)).hex()


def commitment(array: np.ndarray[Any, Any], salt: bytes) -> str:
    """`sha256:` commitment to an array: its type, shape and bytes under a 32-byte salt."""
    plain = np.ascontiguousarray(array)
    head = f"{plain.dtype.str}{list(array.shape)}".encode()
    return "sha256:" + hashlib.sha256(salt + head + b"\0" + plain.tobytes()).hexdigest()


def read_transcript(document: Mapping[str, Any]) -> Transcript:
    """A transcript from its JSON document, verified. Raises `IntegrityError`."""
    try:
        body, signatures = document["transcript"], document["signatures"]
        found = msgspec.convert({"body": body, "signatures": signatures}, Transcript)
        found.verify()
    except (KeyError, TypeError, msgspec.ValidationError):
        raise IntegrityError("the document is not a transcript of a joint job") from None
    if "digest" in document and document["digest"] != found.digest:
        raise IntegrityError("the transcript's digest is not that of its body")
    return found


__all__ = ["PartyFacts", "Transcript", "commitment", "compose", "key_id", "read_transcript", "sign_body"]
