"""What is recorded: a header that may be published, and a body that may be destroyed.

The header is the Merkle leaf's data. It says when, what kind, under which release, rules, use case and
retention class, and commits to the payload: an HMAC under a salt that lives only inside the body, and the
SHA-256 of the body as stored. It holds nothing personal, so it can stay for ever while the body goes. The
body is the payload behind its salt, sealed with AES-256-GCM under the subject's key where there is a subject.
The bytes are described, with fixed vectors, in docs/formats/record.md; tests/ledger/test_record.py holds both
to each other.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import os
import struct
from typing import TYPE_CHECKING

import msgspec
from cryptography.exceptions import InvalidTag

from fiduciary.errors import IntegrityError, LimitError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"FDH1"
SALT_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
RANDOM_BYTES = SALT_BYTES + NONCE_BYTES
SEALED = 1
ZERO_DIGEST = bytes(32)

_FIXED = struct.Struct(">4sBBQQ32s32s32sIB")
"""magic, kind, flags, index, time_ns, commitment, release, rules, body length, length of the use case"""
FIXED_BYTES = _FIXED.size
MAX_NAME_BYTES = 255
_sha256 = hashlib.sha256
_INNER = bytes(k ^ 0x36 for k in range(256))
_OUTER = bytes(k ^ 0x5C for k in range(256))
_INNER_REST = b"\x36" * (64 - SALT_BYTES)
_OUTER_REST = b"\x5c" * (64 - SALT_BYTES)
HEADER_MAX = FIXED_BYTES + 2 * (MAX_NAME_BYTES + 1) + 32


class Kind(enum.IntEnum):
    """What a record is: a served outcome, or anything else that happened."""

    DECISION = 0
    EVENT = 1


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What is to be recorded.

    `payload` is a JSON object in UTF-8. Its top-level `outcome` (a decision's) or `event` (an event's) is
    indexed. `subject` is a 16-byte pseudonym from `Vault.pseudonym`; with it the payload is sealed under that
    subject's key. `release` and `rules` are 32-byte digests or empty. `retention` names a retention class.
    """

    kind: Kind
    payload: bytes
    subject: bytes | None = None
    release: bytes = b""
    use_case: str = ""
    rules: bytes = b""
    retention: str = "standard"


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """Where and when an entry was recorded; given out only after the bytes are durable."""

    log: str
    index: int
    time_ns: int

    @property
    def id(self) -> str:
        """The record's name, e.g. `gate-0.1729`."""
        return f"{self.log}.{self.index}"


class Header(msgspec.Struct, frozen=True, gc=False):
    """The decoded header. Times are nanoseconds since 1970 UTC and never go backwards within a log."""

    kind: Kind
    sealed: bool
    index: int
    time_ns: int
    commitment: bytes
    release: bytes
    rules: bytes
    body_length: int
    use_case: str
    retention: str
    body_digest: bytes


def parse_id(record_id: str) -> tuple[str, int]:
    """Split `gate-0.1729` into log name and index; raises `UsageError`."""
    log, dot, number = record_id.rpartition(".")
    if not dot or not log or not (number.isascii() and number.isdigit()) or len(number) > 19:
        raise UsageError(f"a record id is LOG.INDEX, such as gate-0.1729, not {record_id[:80]!r}")
    return log, int(number)


def check_entry(entry: Entry, max_payload: int) -> None:
    """Refuse, before anything is queued, what could not be recorded."""
    size = len(entry.payload)
    if size > max_payload:
        raise LimitError(f"the payload has {size} bytes; the limit is {max_payload}")
    if size < 2 or entry.payload[0] != 0x7B:
        raise UsageError("a payload must be a JSON object in UTF-8")
    if entry.subject is not None and (len(entry.subject) != 16 or entry.subject == bytes(16)):
        raise UsageError("a subject must be a 16-byte pseudonym from the vault")
    if len(entry.release) not in (0, 32) or len(entry.rules) not in (0, 32):
        raise UsageError("release and rules must be 32-byte digests or empty")
    if len(entry.use_case) > 63 or not 1 <= len(entry.retention) <= 63:
        raise UsageError("a use case has at most 63 characters and a retention class 1 to 63")


def commitment(salt: bytes, payload: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104) under a 16-byte key: `hmac.digest` at half its cost, held to it by the tests."""
    inner = _sha256(salt.translate(_INNER) + _INNER_REST + payload).digest()
    return _sha256(salt.translate(_OUTER) + _OUTER_REST + inner).digest()


def encode(
    entry: Entry, index: int, time_ns: int, key: AESGCM | None, random: bytes | None = None
) -> tuple[bytes, bytes]:
    """Header and body bytes of one record. `key` is the subject's when the entry has a subject.

    `random` (28 bytes: salt, nonce) exists for the vectors; left out, it comes from the system.
    """
    if random is None:
        random = os.urandom(SALT_BYTES + NONCE_BYTES)
    salt = random[:SALT_BYTES]
    salted = salt + entry.payload
    use_case = entry.use_case.encode()
    retention = entry.retention.encode()
    sealed = key is not None
    bound = (
        _FIXED.pack(
            MAGIC,
            entry.kind,
            SEALED if sealed else 0,
            index,
            time_ns,
            commitment(salt, entry.payload),
            entry.release or ZERO_DIGEST,
            entry.rules or ZERO_DIGEST,
            len(salted) + (NONCE_BYTES + TAG_BYTES if sealed else 0),
            len(use_case),
        )
        + use_case
        + bytes((len(retention),))
        + retention
    )
    if key is not None:
        nonce = random[SALT_BYTES:]
        body = nonce + key.encrypt(nonce, salted, bound)
    else:
        body = salted
    return bound + _sha256(body).digest(), body


def decode_header(data: bytes) -> Header:
    """Parse header bytes; raises `IntegrityError` unless they are exactly one canonical header."""
    if not FIXED_BYTES + 33 <= len(data) <= HEADER_MAX:
        raise IntegrityError(f"a record header has {FIXED_BYTES + 33} to {HEADER_MAX} bytes, not {len(data)}")
    magic, kind, flags, index, time_ns, commitment, release, rules, length, n = _FIXED.unpack_from(data)
    if magic != MAGIC or kind > 1 or flags > 1:
        raise IntegrityError("not a record header of version 1")
    end = FIXED_BYTES + n
    if end >= len(data) - 32 or end + 1 + data[end] + 32 != len(data):
        raise IntegrityError("the lengths inside a record header do not add up")
    try:
        use_case = data[FIXED_BYTES:end].decode()
        retention = data[end + 1 : -32].decode()
    except UnicodeDecodeError:
        raise IntegrityError("a name in a record header is not UTF-8") from None
    return Header(
        kind=Kind(kind),
        sealed=flags == SEALED,
        index=index,
        time_ns=time_ns,
        commitment=commitment,
        release=b"" if release == ZERO_DIGEST else release,
        rules=b"" if rules == ZERO_DIGEST else rules,
        body_length=length,
        use_case=use_case,
        retention=retention,
        body_digest=data[-32:],
    )


def open_body(header: Header, header_bytes: bytes, body: bytes, key: AESGCM | None) -> bytes:
    """The payload of a record, after every check; `IntegrityError` if any byte is not the recorded one."""
    return open_salted(header, header_bytes, body, key)[1]


def open_salted(header: Header, header_bytes: bytes, body: bytes, key: AESGCM | None) -> tuple[bytes, bytes]:
    """Salt and payload of a record, checked as in `open_body`.

    Whoever is given both can check the payload against the header's commitment without any key.
    """
    name = f"record {header.index}"
    if len(body) != header.body_length or hashlib.sha256(body).digest() != header.body_digest:
        raise IntegrityError(f"the stored body of {name} is not the one its header commits to")
    if header.sealed:
        if key is None:
            raise UsageError(f"{name} is sealed: the subject's key is needed")
        try:
            salted = key.decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], header_bytes[:-32])
        except InvalidTag:
            raise IntegrityError(f"the sealed body of {name} does not open under its subject's key") from None
    else:
        salted = body
    salt, payload = salted[:SALT_BYTES], salted[SALT_BYTES:]
    if not hmac.compare_digest(hmac.digest(salt, payload, "sha256"), header.commitment):
        raise IntegrityError(f"the payload of {name} is not the one its header commits to")
    return salt, payload
