"""The keys that sign one log's checkpoints: Ed25519, and ML-DSA-44 beside it, both under the log's origin."""

from __future__ import annotations

from pathlib import Path

from fiduciary.errors import ConfigError
from fiduciary.ledger._checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from fiduciary.ledger._keys import KeyType, Signer, Verifier


class LogKeys:
    """Signs (with the private keys at hand) and believes checkpoints of one origin; both signatures are
    needed."""

    def __init__(self, origin: str, signers: tuple[Signer, ...], verifiers: tuple[Verifier, ...]) -> None:
        self.origin = origin
        self._signers = signers
        self.verifiers = verifiers

    @classmethod
    def at(cls, folder: Path, name: str, origin: str, *, create: bool = False) -> LogKeys:
        """The keys `log-<name>.ed25519` and `log-<name>.mldsa44` in a key folder; made if allowed and
        missing.

        Raises `ConfigError` if they are missing, readable by others, or of another origin.
        """
        signers = []
        for suffix, kind in (("ed25519", KeyType.ED25519), ("mldsa44", KeyType.COSIGN_ML_DSA_44)):
            path = folder / f"log-{name}.{suffix}"
            if create and not path.exists():
                Signer.generate(origin, kind).save(path)
            signer = Signer.load(path)
            if signer.name != origin or signer.kind is not kind:
                raise ConfigError(
                    f"{path} is a key of {signer.name!r}, needed is the {suffix} key of {origin!r}"
                )
            signers.append(signer)
        return cls(origin, tuple(signers), tuple(signer.verifier for signer in signers))

    @classmethod
    def public(cls, origin: str, texts: list[str]) -> LogKeys:
        """Keys to verify with, from their text forms (`Verifier.encode`)."""
        return cls(origin, (), tuple(Verifier.decode(text) for text in texts))

    @property
    def texts(self) -> list[str]:
        """The public keys as text, to be handed to auditors and written into the control log."""
        return [verifier.encode() for verifier in self.verifiers]

    def sign(self, size: int, root: bytes, time_ns: int) -> bytes:
        """A signed checkpoint."""
        return sign_checkpoint(Checkpoint(self.origin, size, root), self._signers, time_ns // 10**9)

    def open(self, note: bytes) -> Checkpoint:
        """Believe a checkpoint, or raise `IntegrityError`."""
        return open_checkpoint(note, self.origin, self.verifiers)
