"""Export a release as an OpenSSF Model Signing bundle, for tools that know that format and not ours.

Shape: OpenSSF Model Signing specification v1.0, as the reference implementation `model-signing` 1.1.1 writes
it: a Sigstore bundle (`application/vnd.dev.sigstore.bundle.v0.3+json`) whose DSSE envelope holds an in-toto
Statement v1 with predicate type `https://model_signing/signature/v1.0`, one resource per file (SHA-256, path
order), and as subject digest the SHA-256 of the files' raw digests one after another. The `publicKey` method
is used; its hint is the SHA-256 of the PEM text of the public key.

The reference implementation verifies elliptic-curve keys only (P-256, P-384, P-521), so an export that is to
be verified there is signed with one; an Ed25519 party key gives the same shape for verifiers that take it. The
export covers every listed file and manifest.json; `signatures/` is named in `ignore_paths`.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiduciary.errors import UsageError
from fiduciary.identity import PartyKey
from fiduciary.registry._bundle import MANIFEST, SIGNATURES, read_bundle, write_durable
from fiduciary.registry._canonical import canonical
from fiduciary.registry._dsse import pae

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
IN_TOTO = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"


def model_signing_statement(folder: Path) -> dict[str, Any]:
    """The in-toto statement of a verified bundle folder. Raises `ReleaseError`, `LimitError`."""
    bundle = read_bundle(folder)
    digests = {path: file.sha256 for path, file in bundle.manifest.files.items()}
    digests[MANIFEST] = bundle.digest.removeprefix("sha256:")
    # The reference sorts PurePosixPath objects, which compare segment by segment.
    paths = sorted(digests, key=lambda path: path.split("/"))
    root = hashlib.sha256(b"".join(bytes.fromhex(digests[path]) for path in paths)).hexdigest()
    return {
        "_type": STATEMENT,
        "subject": [{"name": folder.name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [SIGNATURES],
            },
            "resources": [{"name": p, "algorithm": "sha256", "digest": digests[p]} for p in paths],
        },
    }


def export_model_signing(folder: Path, key: PartyKey | EllipticCurvePrivateKey, target: Path) -> Path:
    """Write the signing bundle of a release to `target`, a new file outside its folder; returns `target`.

    Raises `ReleaseError` when the release does not verify, `UsageError` for a wrong key or place.
    """
    if target.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{target} lies inside the release, where nothing may be added; choose another place"
        )
    if target.exists():
        raise UsageError(f"{target} exists already")
    payload = canonical(model_signing_statement(folder))
    signature, hint = _sign(key, pae(IN_TOTO, payload))
    document = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode("ascii"),
            "payloadType": IN_TOTO,
            "signatures": [{"sig": base64.b64encode(signature).decode("ascii"), "keyid": ""}],
        },
    }
    write_durable(target, canonical(document), 0o644)
    return target


def _sign(key: PartyKey | EllipticCurvePrivateKey, data: bytes) -> tuple[bytes, str]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    by_size: dict[int, hashes.HashAlgorithm] = {
        256: hashes.SHA256(),
        384: hashes.SHA384(),
        521: hashes.SHA512(),
    }
    if isinstance(key, PartyKey):
        signature = key.sign(data)
        public: Any = Ed25519PublicKey.from_public_bytes(key.public)
    elif isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size in by_size:
        signature = key.sign(data, ec.ECDSA(by_size[key.key_size]))
        public = key.public_key()
    else:
        raise UsageError("a model-signing export takes an Ed25519 party key or a P-256, P-384 or P-521 key")
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return signature, hashlib.sha256(pem).hexdigest()
