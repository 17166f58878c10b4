"""Notes, keys and checkpoints: strict reading, every kind of key, and what must be refused."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.errors import ConfigError, ConflictError, FiduciaryError, IntegrityError, LimitError
from fiduciary.ledger import _note
from fiduciary.ledger._checkpoint import Checkpoint, add_signatures, open_checkpoint, sign_checkpoint
from fiduciary.ledger._keys import KeyType, Signer, Verifier, signed_message
from fiduciary.ledger._merkle import EMPTY_ROOT

ORIGIN = "acme.eu/gate-0"
HEAD = Checkpoint(ORIGIN, 20852163, bytes(range(32)))
NOW = 1_700_000_000
LOG = Signer(ORIGIN, KeyType.ED25519, b"\x01" * 32)
LOG_PQ = Signer(ORIGIN, KeyType.COSIGN_ML_DSA_44, b"\x02" * 32)
WITNESS = Signer("witness.example/w1", KeyType.COSIGN_ED25519, b"\x03" * 32)
WITNESS_PQ = Signer("witness.example/w1", KeyType.COSIGN_ML_DSA_44, b"\x04" * 32)
SECOND = Signer("witness.example/w2", KeyType.COSIGN_ML_DSA_44, b"\x05" * 32)
EVERYONE = (LOG, LOG_PQ, WITNESS, WITNESS_PQ, SECOND)
SIGNED = sign_checkpoint(HEAD, EVERYONE, NOW)
KEYS = (LOG.verifier, LOG_PQ.verifier)
WITNESSES = (WITNESS.verifier, WITNESS_PQ.verifier, SECOND.verifier)


def test_the_standards_own_example() -> None:
    """The note in C2SP signed-note and the one in tlog-checkpoint are read and written back byte for byte."""
    note = (
        "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
        "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xM"
        "cXxj99ihAQwaqP3ZekRwNtIc=\n"
    ).encode()
    assert _note.Note.parse(note).encode() == note
    assert _note.Note.parse(note).text.endswith("\n\ned è subito sera.\n")
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    assert Checkpoint.parse(text).text == text


def test_signed_and_opened_by_every_kind_of_key() -> None:
    assert open_checkpoint(SIGNED, ORIGIN, KEYS, WITNESSES, quorum=2) == HEAD
    verified = _note.Note.parse(SIGNED).verified([signer.verifier for signer in EVERYONE])
    assert [v.time for v in verified] == [None, NOW, NOW, NOW, NOW]


def test_signed_messages_to_the_byte() -> None:
    assert signed_message(KeyType.ED25519, ORIGIN, HEAD.text, NOW) == HEAD.text.encode()
    assert signed_message(KeyType.COSIGN_ED25519, "w", HEAD.text, NOW) == (
        f"cosignature/v1\ntime {NOW}\n{ORIGIN}\n20852163\n".encode() + base64.b64encode(HEAD.root) + b"\n"
    )
    assert signed_message(KeyType.COSIGN_ML_DSA_44, "w1", HEAD.text, NOW) == (
        bytes.fromhex("737562747265652f76310a00")  # "subtree/v1", newline, zero: 12 bytes
        + bytes([2])
        + b"w1"
        + NOW.to_bytes(8, "big")
        + bytes([14])
        + b"acme.eu/gate-0"
        + bytes(8)
        + (20852163).to_bytes(8, "big")
        + bytes(range(32))
    )


@pytest.mark.parametrize("signer", EVERYONE, ids=lambda signer: f"{signer.name}-{signer.kind:#04x}")
def test_any_flipped_bit_is_refused(signer: Signer) -> None:
    data = sign_checkpoint(HEAD, [signer], NOW)
    for at in [*range(0, len(data), 1 + len(data) // 150), *range(len(HEAD.text.encode()))]:
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(FiduciaryError):
            open_checkpoint(bytes(changed), ORIGIN, [signer.verifier])


def test_what_a_checkpoint_must_have() -> None:
    only_classical = sign_checkpoint(HEAD, [LOG], NOW)
    assert open_checkpoint(only_classical, ORIGIN, [LOG.verifier]) == HEAD
    with pytest.raises(IntegrityError, match="lacks 1 of 2"):
        open_checkpoint(only_classical, ORIGIN, KEYS)
    with pytest.raises(IntegrityError, match=r"expected was 'acme\.us"):
        open_checkpoint(SIGNED, "acme.us/gate-0", KEYS)
    with pytest.raises(IntegrityError, match="2 witnesses cosigned the checkpoint, 3"):
        open_checkpoint(SIGNED, ORIGIN, KEYS, WITNESSES, quorum=3)
    with pytest.raises(IntegrityError, match="not signed by a known key"):
        open_checkpoint(sign_checkpoint(HEAD, [LOG, LOG_PQ], NOW), ORIGIN, KEYS, WITNESSES, quorum=1)
    with pytest.raises(ValueError, match="without a key"):
        open_checkpoint(SIGNED, ORIGIN, [])


def test_a_wrong_signature_of_a_known_witness_spoils_the_note() -> None:
    """Also where no witness is needed: someone forged it, or the witness signed something else."""
    other = sign_checkpoint(Checkpoint(ORIGIN, 7, bytes(32)), [SECOND], NOW)
    stolen = _note.Note.parse(other).signatures
    data = add_signatures(sign_checkpoint(HEAD, [LOG], NOW), stolen)
    assert open_checkpoint(data, ORIGIN, [LOG.verifier]) == HEAD, "an unknown key is ignored"
    with pytest.raises(IntegrityError, match="does not match"):
        open_checkpoint(data, ORIGIN, [LOG.verifier], [SECOND.verifier])


def test_a_cosignature_is_bound_to_its_time_and_its_name() -> None:
    line = SECOND.sign(HEAD.text, NOW)
    assert SECOND.verifier.verify(HEAD.text, line.value) == NOW
    with pytest.raises(IntegrityError):
        SECOND.verifier.verify(HEAD.text, (NOW + 1).to_bytes(8, "big") + line.value[8:])
    renamed = Signer("witness.example/w3", KeyType.COSIGN_ML_DSA_44, b"\x05" * 32)
    with pytest.raises(IntegrityError):
        renamed.verifier.verify(HEAD.text, line.value)
    with pytest.raises(IntegrityError, match="malformed"):
        SECOND.verifier.verify(HEAD.text, b"\xff" * 8 + line.value[8:])
    with pytest.raises(ValueError, match="POSIX"):
        SECOND.sign(HEAD.text, -1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n",
        "a\n1\n" + _note.encode_base64(bytes(32)),
        "a\n01\n" + _note.encode_base64(bytes(32)) + "\n",
        "a\n+1\n" + _note.encode_base64(bytes(32)) + "\n",
        "a\n-1\n" + _note.encode_base64(bytes(32)) + "\n",
        "a\n１\n" + _note.encode_base64(bytes(32)) + "\n",
        "a\n9223372036854775808\n" + _note.encode_base64(bytes(32)) + "\n",
        "a\n1\n" + _note.encode_base64(bytes(31)) + "\n",
        "a\n1\n" + _note.encode_base64(bytes(32)).replace("=", "") + "\n",
        "a\n1\n" + _note.encode_base64(bytes(32))[:-2] + "B=\n",
        "a\n0\n" + _note.encode_base64(bytes(32)) + "\n",
        "\n1\n" + _note.encode_base64(bytes(32)) + "\n",
        "a\n1\n" + _note.encode_base64(bytes(32)) + "\nextension\n",
        "a" * 256 + "\n1\n" + _note.encode_base64(bytes(32)) + "\n",
    ],
)
def test_checkpoints_that_are_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        Checkpoint.parse(text)


def test_the_empty_tree() -> None:
    empty = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert open_checkpoint(sign_checkpoint(empty, [LOG, LOG_PQ], NOW), ORIGIN, KEYS) == empty


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n\xe2\x80\x94 name AAAAAAA=",
        b"text\n\n- name AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 name  AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 na+me AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 na\xc2\xa0me AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 name AAAAAA==\n",
        b"text\n\n\xe2\x80\x94 name AAAA\n",
        b"te\x00xt\n\n\xe2\x80\x94 name AAAAAAA=\n",
        b"text\r\n\n\xe2\x80\x94 name AAAAAAA=\n",
        b"te\xffxt\n\n\xe2\x80\x94 name AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 name AAAAAAA=\n\xe2\x80\x94 name\n",
    ],
)
def test_notes_that_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        _note.Note.parse(data)


def test_limits() -> None:
    line = "— name AAAAAAA=\n"
    assert len(_note.Note.parse(("text\n\n" + line * 64).encode()).signatures) == 64
    with pytest.raises(LimitError, match="at most 64"):
        _note.Note.parse(("text\n\n" + line * 65).encode())
    with pytest.raises(LimitError, match="bytes"):
        _note.Note.parse(b"x" * (_note.MAX_NOTE_BYTES + 1))
    with pytest.raises(LimitError, match="at most 64"):
        add_signatures(("text\n\n" + line * 64).encode(), [SECOND.sign(HEAD.text, NOW)])


def test_a_newer_signature_of_the_same_key_replaces_the_older() -> None:
    newer = add_signatures(SIGNED, [SECOND.sign(HEAD.text, NOW + 60)])
    verified = _note.Note.parse(newer).verified(WITNESSES)
    assert [v.time for v in verified] == [NOW, NOW, NOW + 60]
    assert newer.startswith(SIGNED[: len(HEAD.text) + 1])


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_a_note_or_a_clear_refusal(data: bytes) -> None:
    for attempt in (data, HEAD.text.encode() + b"\n" + data, b"text\n\n\xe2\x80\x94 " + data):
        try:
            parsed = _note.Note.parse(attempt)
        except FiduciaryError:
            continue
        assert parsed.encode() == attempt


@pytest.mark.parametrize("kind", list(KeyType))
def test_keys_as_text_and_as_files(kind: KeyType, tmp_path: Path) -> None:
    signer = Signer.generate("acme.eu/gate-0", kind)
    public = signer.verifier.encode()
    assert Verifier.decode(public + "\n").encode() == public
    path = tmp_path / "key"
    signer.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer.load(path).encode() == signer.encode()
    Verifier.decode(public).verify(HEAD.text, Signer.load(path).sign(HEAD.text, NOW).value)
    assert signer.encode() not in repr(signer)
    with pytest.raises(ConflictError, match="never overwritten"):
        signer.save(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        Signer.load(path)
    with pytest.raises(ConfigError, match="no key file"):
        Signer.load(tmp_path / "none")


def test_wrong_key_texts_name_no_secret() -> None:
    secret = LOG.encode()
    public = LOG.verifier.encode()
    seed = secret.rsplit("+", 1)[1]
    wrong = [
        secret.replace("acme.eu", "acme.us"),
        secret[: -len(seed)] + _note.encode_base64(b"\x09" + os.urandom(32)),
        secret[: -len(seed)] + _note.encode_base64(b"\x01" + os.urandom(31)),
        secret[:-3],
        secret.removeprefix("PRIVATE+"),
        "",
    ]
    for text in wrong:
        with pytest.raises(ConfigError) as caught:
            Signer.decode(text)
        assert seed[:10] not in str(caught.value)
    for text in (public.replace("acme.eu", "acme.us"), public[:-4], "a+b", "a+00000000+", "+" + public):
        with pytest.raises(FiduciaryError):
            Verifier.decode(text)
