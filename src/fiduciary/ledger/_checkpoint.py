"""Checkpoints: the signed head of a log, as a note of three lines (C2SP tlog-checkpoint v1).

Origin, tree size, root hash. Extension lines are refused: ML-DSA-44 cosignatures do not cover them, and the
standard advises against them. `open_checkpoint` is the one way to believe a checkpoint: *all* the log's keys
that the caller names must have signed it, and at least `quorum` witnesses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from fiduciary.errors import IntegrityError, LimitError
from fiduciary.ledger._merkle import EMPTY_ROOT, HASH_SIZE
from fiduciary.ledger._note import (
    MAX_NAME_BYTES,
    MAX_SIGNATURES,
    Note,
    NoteSignature,
    NoteSigner,
    NoteVerifier,
    decode_base64,
    encode_base64,
    sign_note,
    split,
)

MAX_SIZE = (1 << 63) - 1
_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z")


class Checkpoint(msgspec.Struct, frozen=True):
    """The head of a log: its name, its number of leaves and its root hash (32 bytes)."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The three lines that are signed. Raises `IntegrityError` if a field has no such form."""
        _require(self)
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read the three lines. Raises `IntegrityError`."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise IntegrityError("a checkpoint must have exactly three lines: origin, size, root hash")
        checkpoint = cls(lines[0], parse_decimal(lines[1], "a tree size"), decode_base64(lines[2], "a root"))
        _require(checkpoint)
        return checkpoint


def parse_decimal(text: str, what: str) -> int:
    """A whole number from 0 to 2^63 - 1 with no leading zero. Raises `IntegrityError`."""
    if not _DECIMAL.match(text) or int(text) > MAX_SIZE:
        raise IntegrityError(f"{what} must be a decimal number without leading zeroes, below 2^63")
    return int(text)


def _require(checkpoint: Checkpoint) -> None:
    origin = checkpoint.origin
    if not origin or len(origin.encode()) > MAX_NAME_BYTES or any(character < " " for character in origin):
        raise IntegrityError(f"an origin must be one line of 1 to {MAX_NAME_BYTES} bytes")
    if not 0 <= checkpoint.size <= MAX_SIZE:
        raise IntegrityError(f"a tree size must be between 0 and 2^63 - 1, not {checkpoint.size}")
    if len(checkpoint.root) != HASH_SIZE:
        raise IntegrityError(f"a root hash has {HASH_SIZE} bytes, this one has {len(checkpoint.root)}")
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise IntegrityError("an empty tree must have the root hash of the empty tree")


def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[NoteSigner], time: int) -> bytes:
    """The checkpoint as a note signed by all `signers` at `time` (POSIX seconds)."""
    return sign_note(checkpoint.text, signers, time)


def open_checkpoint(
    data: bytes,
    origin: str,
    log_keys: Sequence[NoteVerifier],
    witnesses: Sequence[NoteVerifier] = (),
    quorum: int = 0,
) -> Checkpoint:
    """Verify a signed checkpoint and return it.

    `log_keys`: keys of the log that must *all* have signed (name the ML-DSA-44 key too, and a forger of
    Ed25519 does not get through). `witnesses`: known witnesses, of whose names at least `quorum` must have
    cosigned; a witness with two keys counts once. Raises `IntegrityError` naming what was missing.
    """
    if not log_keys:
        raise ValueError("a checkpoint cannot be verified without a key of its log")
    note = Note.parse(data)
    signed = {(v.signature.name, v.signature.key_hash) for v in note.verified(log_keys)}
    missing = [key.name for key in log_keys if (key.name, key.key_hash) not in signed]
    if missing:
        raise IntegrityError(f"the checkpoint lacks {len(missing)} of {len(log_keys)} signatures of its log")
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != origin:
        raise IntegrityError(f"the checkpoint is of log {checkpoint.origin!r}, expected was {origin!r}")
    if quorum > 0:
        names = {v.signature.name for v in note.verified(witnesses)}
        if len(names) < quorum:
            raise IntegrityError(f"{len(names)} witnesses cosigned the checkpoint, {quorum} are needed")
    elif any((s.name, s.key_hash) in {(w.name, w.key_hash) for w in witnesses} for s in note.signatures):
        note.verified(witnesses)  # not needed, but a wrong line of a known witness is an alarm all the same
    return checkpoint


def add_signatures(data: bytes, signatures: Sequence[NoteSignature]) -> bytes:
    """The note with more signature lines; a line of the same key replaces the older one.

    The caller has verified them. What is there already is kept byte for byte.
    """
    text, _ = split(data)
    note = Note.parse(data)
    newer = {(s.name, s.key_hash) for s in signatures}
    kept = [s for s in note.signatures if (s.name, s.key_hash) not in newer]
    if len(kept) + len(signatures) > MAX_SIGNATURES:
        raise LimitError(f"a note has at most {MAX_SIGNATURES} signatures")
    return Note(text, (*kept, *signatures)).encode()
