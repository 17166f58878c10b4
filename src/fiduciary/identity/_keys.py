"""Signing keys of parties: Ed25519 (RFC 8032), in files that only their owner can read."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from fiduciary.errors import ConfigError, ConflictError, IntegrityError, NotFoundError

FILE_LIMIT = 16 * 1024

_SMALL_ORDER = frozenset(
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)
"""Points of order 1, 2, 4 and 8 (the sign bit cleared): under them one signature fits every message."""


def check_public(public: bytes) -> bytes:
    """The 32 raw bytes of a usable Ed25519 public key. Raises `IntegrityError` for any other."""
    if len(public) != 32:
        raise IntegrityError(f"an Ed25519 public key has 32 bytes, not {len(public)}")
    if public[:31] + bytes([public[31] & 0x7F]) in _SMALL_ORDER:
        raise IntegrityError("the public key is a point of small order, for which anybody can sign")
    return public


def key_id(public: bytes) -> str:
    """Short name of a public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def write_private(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Write a file that only its owner can read, durably. Raises `ConflictError` rather than overwrite."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.new") if replace else path
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except FileExistsError:
        raise ConflictError(f"{draft} exists already; keys are never overwritten") from None
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if replace:
        draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_private(path: Path) -> bytes:
    """Read a key file. Raises `NotFoundError`, or `ConfigError` when others than the owner can read it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(FILE_LIMIT + 1)
    except FileNotFoundError:
        raise NotFoundError(f"there is no key file {path}") from None
    except OSError as error:
        raise ConfigError(f"the key file {path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode) or len(content) > FILE_LIMIT:
        raise ConfigError(f"{path} is not a key file")
    if os.name == "posix" and mode & 0o077:
        raise ConfigError(
            f"the key file {path} can be read by others (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}"
        )
    return content


class PartyKey:
    """The Ed25519 signing key of a person or a service.

    `public` is the raw 32 bytes, `key_id` the first 16 hex digits of their SHA-256. The private half never
    appears in a message, a `repr` or a pickle.
    """

    __slots__ = ("_private", "key_id", "public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public: bytes = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key_id = key_id(self.public)

    @classmethod
    def generate(cls) -> PartyKey:
        """A new key from the system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path | str, password: bytes | None = None) -> PartyKey:
        """Read a PKCS #8 PEM file, encrypted or not.

        Raises `NotFoundError` when there is none, `ConfigError` when it is readable by others, needs another
        password, or is not an Ed25519 key.
        """
        path = Path(path)
        content = read_private(path)
        try:
            private = load_pem_private_key(content, password)
        except TypeError:
            state = "is encrypted: give its password" if password is None else "is not encrypted"
            raise ConfigError(f"the key file {path} {state}") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigError(f"the key file {path} is damaged, or the password is another") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigError(f"the key file {path} holds another kind of key; Ed25519 is needed")
        return cls(private)

    def save(self, path: Path | str, password: bytes | None = None) -> None:
        """Write the key to a new file of mode 0600. Raises `ConflictError` when the file exists."""
        lock: KeySerializationEncryption = BestAvailableEncryption(password) if password else NoEncryption()
        write_private(Path(path), self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))

    def sign(self, data: bytes) -> bytes:
        """The 64-byte signature of `data`. Separate domains: sign statements that say what they are."""
        return self._private.sign(data)

    @staticmethod
    def verify(public: bytes, signature: bytes, data: bytes) -> bool:
        """True when `signature` over `data` is by the key `public`. Raises `IntegrityError` otherwise.

        It never returns False, so that a caller who forgets to look at the answer is still protected.
        """
        try:
            Ed25519PublicKey.from_public_bytes(check_public(public)).verify(signature, data)
        except (InvalidSignature, ValueError):
            raise IntegrityError(f"the signature is not by key {key_id(public)} over these bytes") from None
        return True

    def __repr__(self) -> str:
        return f"PartyKey({self.key_id})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a signing key is never serialised")
