"""Party keys: files only the owner reads, signatures that hold, public keys that are points of full order."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fiduciary.errors import ConfigError, ConflictError, IntegrityError, NotFoundError
from fiduciary.identity import PartyKey, check_public, key_id


def test_a_key_survives_its_file(tmp_path: Path) -> None:
    key = PartyKey.generate()
    for name, password in (("plain.pem", None), ("locked.pem", b"correct horse")):
        key.save(tmp_path / "keys" / name, password)
        again = PartyKey.load(tmp_path / "keys" / name, password)
        assert (again.public, again.key_id) == (key.public, key.key_id)
        assert (tmp_path / "keys" / name).stat().st_mode & 0o777 == 0o600
    assert key.key_id == key_id(key.public) and len(key.key_id) == 16 and len(key.public) == 32
    assert b"ENCRYPTED" in (tmp_path / "keys" / "locked.pem").read_bytes()


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    PartyKey.generate().save(tmp_path / "a.pem")
    before = (tmp_path / "a.pem").read_bytes()
    with pytest.raises(ConflictError, match="never overwritten"):
        PartyKey.generate().save(tmp_path / "a.pem")
    assert (tmp_path / "a.pem").read_bytes() == before


def test_a_key_others_can_read_is_refused(tmp_path: Path) -> None:
    PartyKey.generate().save(tmp_path / "a.pem")
    os.chmod(tmp_path / "a.pem", 0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        PartyKey.load(tmp_path / "a.pem")


def test_wrong_files_and_passwords(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        PartyKey.load(tmp_path / "none.pem")
    PartyKey.generate().save(tmp_path / "locked.pem", b"right")
    with pytest.raises(ConfigError, match="give its password"):
        PartyKey.load(tmp_path / "locked.pem")
    with pytest.raises(ConfigError, match="password is another"):
        PartyKey.load(tmp_path / "locked.pem", b"wrong")
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    (tmp_path / "ec.pem").write_bytes(pem)
    os.chmod(tmp_path / "ec.pem", 0o600)
    with pytest.raises(ConfigError, match="Ed25519 is needed"):
        PartyKey.load(tmp_path / "ec.pem")
    (tmp_path / "ec.pem").write_bytes(b"x" * 100_000)
    with pytest.raises(ConfigError, match="not a key file"):
        PartyKey.load(tmp_path / "ec.pem")


def test_a_signature_holds_for_its_bytes_and_key_only() -> None:
    key, other = PartyKey.generate(), PartyKey.generate()
    signature = key.sign(b"statement")
    assert PartyKey.verify(key.public, signature, b"statement") is True
    for public, mark, data in (
        (other.public, signature, b"statement"),
        (key.public, signature, b"statemenT"),
        (key.public, signature[:-1] + bytes([signature[-1] ^ 1]), b"statement"),
        (key.public, signature[:63], b"statement"),
        (key.public[:31], signature, b"statement"),
    ):
        with pytest.raises(IntegrityError):
            PartyKey.verify(public, mark, data)


def test_rfc_8032_vector() -> None:
    """RFC 8032, 7.1, test 2."""
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert PartyKey.verify(public, signature, b"\x72")


def test_a_point_of_small_order_is_no_key() -> None:
    """Under the neutral point, the signature (neutral point, 0) fits every message."""
    neutral = b"\x01" + b"\x00" * 31
    forged = neutral + b"\x00" * 32
    Ed25519PublicKey.from_public_bytes(neutral).verify(forged, b"any message")
    for public in (neutral, neutral[:31] + b"\x80", b"\x00" * 32):
        with pytest.raises(IntegrityError, match="small order"):
            PartyKey.verify(public, forged, b"any message")
        with pytest.raises(IntegrityError):
            check_public(public)


def test_the_private_half_stays_inside() -> None:
    key = PartyKey.generate()
    assert repr(key) == f"PartyKey({key.key_id})"
    with pytest.raises(TypeError, match="never serialised"):
        pickle.dumps(key)
