"""Signed notes: a text, a blank line, and one line for each signature (C2SP signed-note v1).

A note is parsed strictly and believed only when a known key has signed it: signatures of unknown keys are
ignored, a wrong signature of a known key spoils the whole note. A key goes by its name and the first four
bytes of SHA-256(name || 0x0A || type || public key); that short hash chooses a key, it proves nothing.

Keys are not known here (see `_keys.py`); a verifier is anything with a name, a key hash and `verify`.
`tests/conformance` has Go's sumdb/note open notes written here and refuse changed ones.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Protocol

import msgspec

from fiduciary.errors import IntegrityError, LimitError

MAX_NOTE_BYTES = 512 * 1024
MAX_SIGNATURES = 64
MAX_NAME_BYTES = 255
DASH = "\N{EM DASH} "


class NoteSignature(msgspec.Struct, frozen=True):
    """One signature line: who, which key, and the bytes that the key's type defines."""

    name: str
    key_hash: bytes
    value: bytes

    @property
    def line(self) -> str:
        """The line as it stands in a note, with its newline."""
        return f"{DASH}{self.name} {encode_base64(self.key_hash + self.value)}\n"


class NoteVerifier(Protocol):
    """A public key that may have signed a note."""

    @property
    def name(self) -> str: ...

    @property
    def key_hash(self) -> bytes: ...

    def verify(self, text: str, value: bytes) -> int | None:
        """Check a signature; return the time it states (POSIX seconds) if its type has one.

        Raises `IntegrityError`.
        """
        ...


class NoteSigner(Protocol):
    """A private key that signs notes."""

    def sign(self, text: str, time: int) -> NoteSignature:
        """Sign the text; `time` (POSIX seconds) goes into signature types that state one."""
        ...


class Verified(msgspec.Struct, frozen=True):
    """A signature that a known key made, and the time it states (POSIX seconds), if any."""

    signature: NoteSignature
    time: int | None


class Note(msgspec.Struct, frozen=True):
    """A text with signatures, not yet believed."""

    text: str
    signatures: tuple[NoteSignature, ...]

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """Read a note. Raises `IntegrityError` when it is not one, `LimitError` when it is too large."""
        text, lines = split(data)
        return cls(text, parse_signatures(lines))

    def encode(self) -> bytes:
        """The note as bytes."""
        require_text(self.text)
        return (self.text + "\n" + "".join(signature.line for signature in self.signatures)).encode()

    def verified(self, verifiers: Sequence[NoteVerifier]) -> list[Verified]:
        """The signatures by these keys, each key once, in the order of `verifiers`.

        Raises `IntegrityError` if one of these keys has a line here that does not verify, or if none has a
        line.
        """
        found: list[Verified] = []
        for verifier in verifiers:
            own = [s for s in self.signatures if (s.name, s.key_hash) == (verifier.name, verifier.key_hash)]
            times = [verifier.verify(self.text, signature.value) for signature in own]
            if own:
                found.append(Verified(own[0], times[0]))
        if not found:
            names = ", ".join(sorted({verifier.name for verifier in verifiers})) or "nobody"
            raise IntegrityError(f"the note is not signed by a known key; known are keys of: {names}")
        return found


def sign_note(text: str, signers: Sequence[NoteSigner], time: int) -> bytes:
    """A note of `text` (which ends in a newline) signed by all `signers`."""
    if not signers:
        raise ValueError("a note needs at least one signature")
    require_text(text)
    return Note(text, tuple(signer.sign(text, time) for signer in signers)).encode()


def split(data: bytes) -> tuple[str, str]:
    """A note's text and its signature lines, unparsed, split at the last blank line."""
    if len(data) > MAX_NOTE_BYTES:
        raise LimitError(f"a note has at most {MAX_NOTE_BYTES} bytes, this one has {len(data)}")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError:
        raise IntegrityError("a note must be UTF-8") from None
    at = whole.rfind("\n\n")
    if at < 0:
        raise IntegrityError("a note needs a blank line between its text and its signatures")
    text = whole[: at + 1]
    require_text(text)
    return text, whole[at + 2 :]


def parse_signatures(lines: str) -> tuple[NoteSignature, ...]:
    """Read signature lines, at least one and at most 64. Raises `IntegrityError`, `LimitError`."""
    if not lines.endswith("\n"):
        raise IntegrityError("a note must end with a signature line and a newline")
    rows = lines[:-1].split("\n")
    if len(rows) > MAX_SIGNATURES:
        raise LimitError(f"a note has at most {MAX_SIGNATURES} signatures, this one has {len(rows)}")
    return tuple(_parse_line(row) for row in rows)


def _parse_line(row: str) -> NoteSignature:
    if not row.startswith(DASH) or row.count(" ") != 2:
        raise IntegrityError("a signature line must read: em dash, space, key name, space, base64")
    _, name, encoded = row.split(" ")
    require_name(name)
    value = decode_base64(encoded, "a signature")
    if len(value) < 5:
        raise IntegrityError("a signature must have a key hash of 4 bytes and at least one byte more")
    return NoteSignature(name, value[:4], value[4:])


def require_text(text: str) -> None:
    """Refuse a note text that is empty, does not end in a newline, or holds other control characters."""
    if not text.endswith("\n"):
        raise IntegrityError("a note's text must end with a newline")
    if any(character < " " and character != "\n" for character in text):
        raise IntegrityError("a note must not contain control characters other than newline")


def require_name(name: str) -> None:
    """Refuse a key name that is empty, too long, or holds a space, a plus or a control character."""
    if not name or len(name.encode()) > MAX_NAME_BYTES:
        raise IntegrityError(f"a key name must have 1 to {MAX_NAME_BYTES} bytes")
    if any(character.isspace() or character == "+" or character < " " for character in name):
        raise IntegrityError("a key name must not contain spaces, plus signs or control characters")


def encode_base64(data: bytes) -> str:
    """Standard base64 (RFC 4648, section 4)."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str, what: str) -> bytes:
    """Strict base64: one text for one value, so a note cannot be changed without a key noticing."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        data = None
    if data is None or encode_base64(data) != text:
        raise IntegrityError(f"{what} is not in canonical base64")
    return data
