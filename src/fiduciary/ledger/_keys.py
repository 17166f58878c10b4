"""Keys that sign a log's notes: Ed25519, and Ed25519 or ML-DSA-44 cosignatures.

| type | key | signs | source |
|---|---|---|---|
| 0x01 | Ed25519 | the note's text | C2SP signed-note v1 |
| 0x04 | Ed25519 | `cosignature/v1`, a time, the text | C2SP tlog-cosignature, Ed25519 |
| 0x06 | ML-DSA-44 | a `cosigned_message` of name, time, origin, size, root | the same, ML-DSA-44 |

A log signs its checkpoints with 0x01 and 0x06; a witness cosigns with 0x06, and with 0x04 where a reader
needs it. A public key is written `<name>+<key hash>+<base64 of type and key>`, a private one as Go's
sumdb/note does, `PRIVATE+KEY+<name>+<key hash>+<base64 of type and 32-byte seed>`; a private key never
appears in a message.
"""

from __future__ import annotations

import enum
import hashlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from fiduciary.errors import ConfigError, ConflictError, IntegrityError
from fiduciary.ledger._checkpoint import MAX_SIZE, Checkpoint
from fiduciary.ledger._note import NoteSignature, decode_base64, encode_base64, require_name

SEED_BYTES = 32
_PRIVATE = "PRIVATE+KEY+"


class KeyType(enum.IntEnum):
    """The type byte of C2SP signed-note; it fixes algorithm and signed message."""

    ED25519 = 0x01
    COSIGN_ED25519 = 0x04
    COSIGN_ML_DSA_44 = 0x06


_PUBLIC_BYTES = {KeyType.ED25519: 32, KeyType.COSIGN_ED25519: 32, KeyType.COSIGN_ML_DSA_44: 1312}
_SIGNATURE_BYTES = {KeyType.ED25519: 64, KeyType.COSIGN_ED25519: 64, KeyType.COSIGN_ML_DSA_44: 2420}


def key_hash(name: str, kind: KeyType, public: bytes) -> bytes:
    """The four bytes that stand for a key in a signature line."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def signed_message(kind: KeyType, name: str, text: str, time: int) -> bytes:
    """What a key of this type signs for a text. Raises `IntegrityError` if the text has no such form."""
    if kind is KeyType.ED25519:
        return text.encode()
    checkpoint = Checkpoint.parse(text)
    if kind is KeyType.COSIGN_ED25519:
        return f"cosignature/v1\ntime {time}\n{text}".encode()
    cosigner, origin = name.encode(), checkpoint.origin.encode()
    return b"".join(
        (
            b"subtree/v1\n\x00",
            bytes([len(cosigner)]) + cosigner,
            time.to_bytes(8, "big"),
            bytes([len(origin)]) + origin,
            (0).to_bytes(8, "big"),  # first leaf: a checkpoint covers the tree from its beginning
            checkpoint.size.to_bytes(8, "big"),
            checkpoint.root,
        )
    )


class Verifier:
    """A public key under a name (`NoteVerifier`)."""

    __slots__ = ("_public", "key_hash", "kind", "name")

    def __init__(self, name: str, kind: KeyType, public: bytes) -> None:
        require_name(name)
        if len(public) != _PUBLIC_BYTES[kind]:
            raise IntegrityError(
                f"a public key of type {kind:#04x} has {_PUBLIC_BYTES[kind]} bytes, not {len(public)}"
            )
        self.name = name
        self.kind = kind
        self._public = public
        self.key_hash = key_hash(name, kind, public)

    @classmethod
    def decode(cls, text: str) -> Verifier:
        """Read `<name>+<key hash>+<base64>`. Raises `ConfigError`."""
        name, kind, public, claimed = _decode(text.strip(), "public")
        verifier = cls(name, kind, public)
        if verifier.key_hash.hex() != claimed:
            raise ConfigError(f"the public key of {name!r} does not have the key hash written beside it")
        return verifier

    def encode(self) -> str:
        """`<name>+<key hash>+<base64>`, to be handed to auditors."""
        return f"{self.name}+{self.key_hash.hex()}+{encode_base64(bytes([self.kind]) + self._public)}"

    def verify(self, text: str, value: bytes) -> int | None:
        """Check a signature line's value over a note's text; return the time it states, if its type has one.

        Raises `IntegrityError`.
        """
        time = None
        signature = value
        if self.kind is not KeyType.ED25519:
            time, signature = int.from_bytes(value[:8], "big"), value[8:]
        if len(signature) != _SIGNATURE_BYTES[self.kind] or (time or 0) > MAX_SIZE:
            raise IntegrityError(f"the signature of {self.name!r} is malformed")
        message = signed_message(self.kind, self.name, text, time or 0)
        if not verify_signature(self.kind, self._public, message, signature):
            raise IntegrityError(f"the signature of {self.name!r} does not match the text")
        return time


def verify_signature(kind: KeyType, public: bytes, message: bytes, signature: bytes) -> bool:
    """The bare signature check that every note goes through (Wycheproof's vectors run against it)."""
    key: Ed25519PublicKey | MLDSA44PublicKey
    if kind is KeyType.COSIGN_ML_DSA_44:
        key = MLDSA44PublicKey.from_public_bytes(public)
    else:
        key = Ed25519PublicKey.from_public_bytes(public)
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


class Signer:
    """A private key under a name (`NoteSigner`). Its text form is a secret; its `repr` is not."""

    __slots__ = ("_key", "_seed", "kind", "name", "verifier")

    def __init__(self, name: str, kind: KeyType, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ConfigError(f"the seed of a private key has {SEED_BYTES} bytes")
        self._key: Ed25519PrivateKey | MLDSA44PrivateKey
        if kind is KeyType.COSIGN_ML_DSA_44:
            self._key = MLDSA44PrivateKey.from_seed_bytes(seed)
        else:
            self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._seed = seed
        self.name = name
        self.kind = kind
        self.verifier = Verifier(name, kind, self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str, kind: KeyType) -> Signer:
        """A new key from the operating system's randomness."""
        return cls(name, kind, secrets.token_bytes(SEED_BYTES))

    @classmethod
    def decode(cls, text: str) -> Signer:
        """Read `PRIVATE+KEY+<name>+<key hash>+<base64>`. Raises `ConfigError`."""
        text = text.strip()
        if not text.startswith(_PRIVATE):
            raise ConfigError(f"a private key must begin with {_PRIVATE}")
        name, kind, seed, claimed = _decode(text[len(_PRIVATE) :], "private")
        signer = cls(name, kind, seed)
        if signer.verifier.key_hash.hex() != claimed:
            raise ConfigError(f"the private key of {name!r} does not have the key hash written beside it")
        return signer

    def encode(self) -> str:
        """`PRIVATE+KEY+<name>+<key hash>+<base64>`: a secret."""
        encoded = encode_base64(bytes([self.kind]) + self._seed)
        return f"{_PRIVATE}{self.name}+{self.verifier.key_hash.hex()}+{encoded}"

    @classmethod
    def load(cls, path: Path) -> Signer:
        """Read a key file. Raises `ConfigError` also when others than its owner may read it."""
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(4096).decode("ascii", "replace")
        except FileNotFoundError:
            raise ConfigError(f"there is no key file {path}") from None
        if mode & 0o077:
            raise ConfigError(f"key file {path} may be read by others: chmod 600 {path}")
        return cls.decode(text)

    def save(self, path: Path) -> None:
        """Write a new key file (mode 0600), durably. Raises `ConflictError` if the file exists."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ConflictError(f"key file {path} exists; a key is never overwritten") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(self.encode().encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def sign(self, text: str, time: int) -> NoteSignature:
        """Sign a note's text; a cosignature states `time` (POSIX seconds)."""
        if not 0 <= time <= MAX_SIZE:
            raise ValueError("a signature's time must be POSIX seconds, from 0")
        value = self._key.sign(signed_message(self.kind, self.name, text, time))
        if self.kind is not KeyType.ED25519:
            value = time.to_bytes(8, "big") + value
        return NoteSignature(self.name, self.verifier.key_hash, value)

    def __repr__(self) -> str:
        return f"Signer({self.name!r}, {self.kind!r})"


def _decode(text: str, what: str) -> tuple[str, KeyType, bytes, str]:
    parts = text.split("+", 2)
    if len(parts) != 3 or len(parts[1]) != 8:
        raise ConfigError(f"a {what} key must read <name>+<key hash in 8 hex digits>+<base64>")
    name, claimed, encoded = parts
    try:
        data = decode_base64(encoded, f"the {what} key of {name!r}")
        kind = KeyType(data[0])
    except (IntegrityError, IndexError, ValueError):
        raise ConfigError(f"the {what} key of {name!r} is not of a known type") from None
    return name, kind, data[1:], claimed
