"""An offline proof that an entry is in a log, as one text (C2SP tlog-proof v1).

Index, inclusion path, signed checkpoint with its cosignatures. Whoever holds the entry, the log's public keys
and the witnesses' can check it years later with no service: hash the entry, follow the path, compare with the
root that was signed. The `extra` field is carried for applications and is *not* authenticated.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fiduciary.errors import IntegrityError, LimitError
from fiduciary.ledger._checkpoint import MAX_SIZE, Checkpoint, open_checkpoint, parse_decimal
from fiduciary.ledger._merkle import HASH_SIZE, Tree, leaf_hash, verify_inclusion
from fiduciary.ledger._note import MAX_NOTE_BYTES, NoteVerifier, decode_base64, encode_base64

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PATH = 63
MAX_EXTRA_BYTES = 16 * 1024
MAX_PROOF_BYTES = MAX_NOTE_BYTES + 2 * MAX_EXTRA_BYTES


class Proof(msgspec.Struct, frozen=True):
    """Where an entry is, its inclusion path (32-byte hashes, lowest first), and the signed checkpoint."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes = b""

    @classmethod
    def of(cls, tree: Tree, index: int, checkpoint: bytes, size: int) -> Proof:
        """The proof of entry `index` in the tree of `size` leaves that `checkpoint` has signed."""
        return cls(index, tuple(tree.inclusion(index, size)), checkpoint)

    @classmethod
    def parse(cls, data: bytes) -> Proof:
        """Read a proof text. Raises `IntegrityError`, `LimitError`."""
        if len(data) > MAX_PROOF_BYTES:
            raise LimitError(f"a proof has at most {MAX_PROOF_BYTES} bytes, this one has {len(data)}")
        head, blank, checkpoint = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise IntegrityError("a proof's own lines must be ASCII") from None
        if not blank or lines.pop(0) != HEADER:
            raise IntegrityError(f"a proof must begin with {HEADER!r} and end with a checkpoint")
        extra = b""
        if lines and lines[0].startswith("extra "):
            extra = decode_base64(lines.pop(0)[len("extra ") :], "the extra data")
            if not extra:
                raise IntegrityError("a proof without extra data must leave the line out")
        if not lines or not lines[0].startswith("index "):
            raise IntegrityError("a proof must state its index")
        index = parse_decimal(lines.pop(0)[len("index ") :], "an index")
        path = tuple(decode_base64(line, "a hash of the proof") for line in lines)
        proof = cls(index, path, checkpoint, extra)
        proof._require()
        return proof

    def encode(self) -> bytes:
        """The proof as text, to be kept as `<name>.tlog-proof`."""
        self._require()
        lines = [HEADER]
        if self.extra:
            lines.append(f"extra {encode_base64(self.extra)}")
        lines.append(f"index {self.index}")
        lines += [encode_base64(hashed) for hashed in self.path]
        return "\n".join(lines).encode() + b"\n\n" + self.checkpoint

    def verify(
        self,
        entry: bytes,
        origin: str,
        log_keys: Sequence[NoteVerifier],
        witnesses: Sequence[NoteVerifier] = (),
        quorum: int = 0,
    ) -> Checkpoint:
        """Check that `entry` is in the log `origin` at `index`; return the checkpoint that commits to it.

        Keys and quorum as for `open_checkpoint`. Raises `IntegrityError`.
        """
        checkpoint = open_checkpoint(self.checkpoint, origin, log_keys, witnesses, quorum)
        verify_inclusion(leaf_hash(entry), self.index, checkpoint.size, self.path, checkpoint.root)
        return checkpoint

    def _require(self) -> None:
        if not 0 <= self.index < MAX_SIZE:
            raise IntegrityError(f"an index must be between 0 and 2^63 - 2, not {self.index}")
        if len(self.path) > MAX_PATH:
            raise LimitError(f"an inclusion path has at most {MAX_PATH} hashes, not {len(self.path)}")
        if any(len(hashed) != HASH_SIZE for hashed in self.path):
            raise IntegrityError(f"a hash of an inclusion path has {HASH_SIZE} bytes")
        if len(self.extra) > MAX_EXTRA_BYTES:
            raise LimitError(f"extra data has at most {MAX_EXTRA_BYTES} bytes")
