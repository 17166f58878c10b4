"""The record's bytes are the documented ones, and every byte of them counts."""

from __future__ import annotations

import hmac
import re
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.errors import FiduciaryError, IntegrityError, LimitError, UsageError
from fiduciary.ledger import Entry, Kind, decode_header, open_body
from fiduciary.ledger._merkle import leaf_hash
from fiduciary.ledger._record import check_entry, commitment, encode, parse_id
from fiduciary.ledger._segment import encode_frame

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "formats" / "record.md"
KEY = bytes(range(32))
RANDOM = bytes(range(100, 128))


def vectors() -> dict[str, str]:
    """The `name = hex` lines of the format's page."""
    text = DOCUMENT.read_text("utf-8")
    return dict(re.findall(r"^([a-z-]+) = ([0-9a-f]+)$", text, re.MULTILINE))


def plain_entry() -> Entry:
    return Entry(Kind.EVENT, b'{"event":"usecase.defined"}', use_case="credit-line")


def sealed_entry() -> Entry:
    return Entry(
        Kind.DECISION,
        b'{"outcome":"approve"}',
        subject=bytes(range(200, 216)),
        release=bytes(range(32)),
        use_case="credit-line",
        rules=bytes(range(32, 64)),
        retention="credit",
    )


def test_the_documented_vectors_are_what_the_code_writes() -> None:
    known = vectors()
    header, body = encode(plain_entry(), 7, 1_700_000_000_000_000_000, None, RANDOM)
    assert (header.hex(), body.hex()) == (known["plain-header"], known["plain-body"])
    assert leaf_hash(header).hex() == known["plain-leaf"]
    header, body = encode(sealed_entry(), 8, 1_700_000_000_000_000_001, AESGCM(KEY), RANDOM)
    assert (header.hex(), body.hex()) == (known["sealed-header"], known["sealed-body"])
    assert leaf_hash(header).hex() == known["sealed-leaf"]
    frame = encode_frame(0x01020304, 8, 7, header, body, bytes(range(200, 216)))
    assert frame.hex() == known["sealed-frame"]


def test_a_record_is_read_back_as_it_was_given() -> None:
    entry = sealed_entry()
    header_bytes, body = encode(entry, 8, 99, AESGCM(KEY))
    header = decode_header(header_bytes)
    assert (header.index, header.time_ns, header.kind, header.sealed) == (8, 99, Kind.DECISION, True)
    assert (header.release, header.rules) == (entry.release, entry.rules)
    assert (header.use_case, header.retention) == (entry.use_case, entry.retention)
    assert open_body(header, header_bytes, body, AESGCM(KEY)) == entry.payload


def test_nothing_personal_is_in_the_header() -> None:
    entry = sealed_entry()
    header, _ = encode(entry, 8, 99, AESGCM(KEY))
    assert entry.subject is not None
    assert entry.subject not in header
    assert b"approve" not in header
    again, _ = encode(entry, 8, 99, AESGCM(KEY))
    assert header != again, "the same payload must not be recognisable by its header"


@given(
    payload=st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=20), max_size=5),
    index=st.integers(0, 2**63 - 1),
    time_ns=st.integers(0, 2**63 - 1),
    use_case=st.text(max_size=63).filter(lambda t: "\ud800" not in t),
    sealed=st.booleans(),
)
def test_any_entry_comes_back(
    payload: dict[str, object], index: int, time_ns: int, use_case: str, sealed: bool
) -> None:
    raw = msgspec.json.encode(payload)
    key = AESGCM(KEY) if sealed else None
    entry = Entry(Kind.DECISION, raw, subject=bytes(15) + b"x" if sealed else None, use_case=use_case)
    check_entry(entry, 1 << 20)
    header_bytes, body = encode(entry, index, time_ns, key)
    header = decode_header(header_bytes)
    assert (header.index, header.time_ns, header.use_case) == (index, time_ns, use_case)
    assert open_body(header, header_bytes, body, key) == raw


@settings(max_examples=300)
@given(place=st.integers(min_value=0), bit=st.integers(0, 7), data=st.data())
def test_any_flipped_bit_is_noticed(place: int, bit: int, data: st.DataObject) -> None:
    header_bytes, body = encode(sealed_entry(), 8, 99, AESGCM(KEY), RANDOM)
    whole = bytearray(header_bytes + body)
    whole[place % len(whole)] ^= 1 << bit
    changed_header, changed_body = bytes(whole[: len(header_bytes)]), bytes(whole[len(header_bytes) :])
    with pytest.raises(FiduciaryError):
        open_body(decode_header(changed_header), changed_header, changed_body, AESGCM(KEY))


def test_a_body_under_another_header_or_key_does_not_open() -> None:
    entry = sealed_entry()
    header_bytes, body = encode(entry, 8, 99, AESGCM(KEY), RANDOM)
    header = decode_header(header_bytes)
    with pytest.raises(IntegrityError, match="does not open"):
        open_body(header, header_bytes, body, AESGCM(bytes(32)))
    moved = msgspec.structs.replace(header, index=9)
    other, _ = encode(entry, 9, 99, AESGCM(KEY), RANDOM)
    with pytest.raises(IntegrityError):
        open_body(moved, other[:-32] + header_bytes[-32:], body, AESGCM(KEY))


@pytest.mark.parametrize("cut", [0, 1, 10, 33, 150])
def test_a_short_or_long_header_is_refused(cut: int) -> None:
    header, _ = encode(plain_entry(), 7, 99, None, RANDOM)
    with pytest.raises(IntegrityError):
        decode_header(header[:cut])
    with pytest.raises(IntegrityError):
        decode_header(header + b"\0" * (cut + 1))


def test_entries_that_could_not_be_recorded_are_refused_before_they_are_queued() -> None:
    good = sealed_entry()
    check_entry(good, 100)
    with pytest.raises(LimitError):
        check_entry(good, 10)
    wrong: list[dict[str, object]] = [
        {"payload": b"[]"},
        {"payload": b""},
        {"subject": b"short"},
        {"subject": bytes(16)},
        {"release": b"x"},
        {"rules": bytes(31)},
        {"use_case": "x" * 64},
        {"retention": ""},
    ]
    for change in wrong:
        with pytest.raises(UsageError):
            check_entry(msgspec.structs.replace(good, **change), 100)


def test_record_ids() -> None:
    assert parse_id("gate-0.17") == ("gate-0", 17)
    for text in ("", "17", "gate.", ".1", "gate.-1", "gate.x", "gate.1e3", "gate." + "9" * 30, "gate.²"):
        with pytest.raises(UsageError):
            parse_id(text)


@given(salt=st.binary(min_size=16, max_size=16), payload=st.binary(max_size=300))
def test_the_commitment_is_hmac_sha256(salt: bytes, payload: bytes) -> None:
    assert commitment(salt, payload) == hmac.digest(salt, payload, "sha256")
