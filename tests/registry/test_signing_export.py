"""The OpenSSF model-signing export: its shape by hand, and the reference verifier where it is installed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bank import USE_CASE, contract, rows, scorecard
from fiduciary.errors import ReleaseError, UsageError
from fiduciary.identity import PartyKey
from fiduciary.registry import build, export_model_signing, pae, sign


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scorecard().save(tmp_path / "m")
    made = build(tmp_path / "out", tmp_path / "m", contract(), USE_CASE, rows(200), name="card", version="1")
    sign(made, PartyKey.generate())
    return made


def test_the_statement_covers_every_file(folder: Path, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    document = json.loads(export_model_signing(folder, key, tmp_path / "model.sig").read_bytes())
    envelope = document["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    key.public_key().verify(
        base64.b64decode(envelope["signatures"][0]["sig"]),
        pae("application/vnd.in-toto+json", payload),
        ec.ECDSA(hashes.SHA256()),
    )
    statement = json.loads(payload)
    listed = {r["name"]: r["digest"] for r in statement["predicate"]["resources"]}
    there = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "signatures" not in path.parts
    }
    assert listed == there
    joined = b"".join(bytes.fromhex(r["digest"]) for r in statement["predicate"]["resources"])
    assert statement["subject"] == [
        {"name": folder.name, "digest": {"sha256": hashlib.sha256(joined).hexdigest()}}
    ]
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert document["verificationMaterial"]["publicKey"]["hint"] == hashlib.sha256(pem).hexdigest()


def test_a_party_key_signs_the_same_shape(folder: Path, tmp_path: Path) -> None:
    key = PartyKey.generate()
    envelope = json.loads(export_model_signing(folder, key, tmp_path / "model.sig").read_bytes())[
        "dsseEnvelope"
    ]
    data = pae("application/vnd.in-toto+json", base64.b64decode(envelope["payload"]))
    assert PartyKey.verify(key.public, base64.b64decode(envelope["signatures"][0]["sig"]), data)


def test_wrong_keys_places_and_bundles_are_refused(folder: Path, tmp_path: Path) -> None:
    key = PartyKey.generate()
    with pytest.raises(UsageError, match="inside the release"):
        export_model_signing(folder, key, folder / "signatures" / "model.sig")
    with pytest.raises(UsageError, match="P-256"):
        export_model_signing(folder, rsa.generate_private_key(65537, 2048), tmp_path / "x")  # type: ignore[arg-type]
    export_model_signing(folder, key, tmp_path / "model.sig")
    with pytest.raises(UsageError, match="exists"):
        export_model_signing(folder, key, tmp_path / "model.sig")
    (folder / "card.md").chmod(0o644)
    (folder / "card.md").write_text("changed")
    with pytest.raises(ReleaseError):
        export_model_signing(folder, key, tmp_path / "other.sig")


def test_the_reference_implementation_verifies_the_export(folder: Path, tmp_path: Path) -> None:
    tool = os.environ.get("FIDUCIARY_MODEL_SIGNING") or shutil.which("model_signing")
    if not tool:
        pytest.skip(
            "model-signing is not installed (pip install model-signing, or FIDUCIARY_MODEL_SIGNING=PATH)"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    signature = export_model_signing(folder, key, tmp_path / "model.sig")
    public = tmp_path / "public.pem"
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    command = [tool, "verify", "key", str(folder), "--signature", str(signature), "--public_key", str(public)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "card.md").chmod(0o644)
    (folder / "card.md").write_text("changed")
    assert subprocess.run(command, capture_output=True, timeout=120).returncode != 0
