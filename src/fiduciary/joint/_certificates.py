"""A certificate per party and job: self-signed, short-lived, and believed only where the contract names it.

No authority can issue one, so none can be stolen or talked into it: a link is good when the other end proves the
very certificate that the party at that rank signed into the contract.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fiduciary.errors import IntegrityError
from fiduciary.identity._keys import write_private


def make_certificate(party: str, job: str, expires: float, now: float) -> tuple[str, bytes]:
    """A new P-256 key and its certificate, valid to `expires`: (certificate PEM, private key PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, party),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, job),
        ]
    )
    begin = datetime.fromtimestamp(now, UTC) - timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(datetime.fromtimestamp(expires, UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(party)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM).decode(), private


def save_certificate(folder: Path, certificate: str, private: bytes) -> tuple[Path, Path]:
    """Write certificate and key (0600) for the relay; returns both paths."""
    write_private(folder / "link.key", private, replace=True)
    (folder / "link.crt").write_text(certificate, "ascii")
    return folder / "link.crt", folder / "link.key"


def fingerprint(certificate: str) -> str:
    """SHA-256 of a PEM certificate's DER bytes, hexadecimal. Raises `IntegrityError`."""
    try:
        parsed = x509.load_pem_x509_certificate(certificate.encode("ascii"))
    except (ValueError, UnicodeEncodeError):
        raise IntegrityError("a party's certificate in the contract cannot be read") from None
    return hashlib.sha256(parsed.public_bytes(Encoding.DER)).hexdigest()
