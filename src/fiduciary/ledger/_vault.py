"""Subjects' pseudonyms and keys, and how one of them is destroyed for good.

No key is stored per subject. A subject's point is a 64-bit place among the leaves of a tree of keys
(Goldreich, Goldwasser, Micali 1986): every node gives its four children by hashing, so the root gives all. To
erase a subject is to *puncture* the tree (Boneh and Waters 2013; Kiayias et al. 2013): the node above the
leaf is replaced by the siblings along the path, which give every other leaf as before and that one never
again. A decision costs no write here, and an erasure costs 96 nodes of 41 bytes at most.

The node file is sealed under a key-encryption key (KEK) in another place, and every erasure replaces that
KEK, so an older copy of the node file cannot be opened. Against whom this holds, and the tests that show it,
is said in docs/ledger.md.

An erased person who comes back gets a new pseudonym: generations are tried in order until one is not
punctured.
"""

from __future__ import annotations

import bisect
import fcntl
import hashlib
import hmac
import os
import struct
import threading
import time
from array import array
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fiduciary.errors import ConflictError, GoneError, IntegrityError, LimitError, NotFoundError, UsageError
from fiduciary.ledger._epoch import Epoch
from fiduciary.ledger._files import Files

MAGIC = b"FDVAULT1"
DEPTH = 32
TOP = 8
"""Levels from the root whose nodes are remembered (at most 4^8 of them)."""
CHILDREN = (b"\x00", b"\x01", b"\x02", b"\x03")
_STEPS = [tuple(CHILDREN[byte >> shift & 3] for shift in (6, 4, 2, 0)) for byte in range(256)]
"""The four steps that each byte of a point stands for."""
TOP_LIMIT = 65_536
CACHE_LIMIT = 50_000
MAX_GENERATIONS = 64
MAX_SUBJECT_CHARACTERS = 1_024
_NODE = struct.Struct(">QB32s")

_sha = hashlib.sha256


def point_of(pseudonym: bytes) -> int:
    """The place of a pseudonym among the 2^64 leaves."""
    return int.from_bytes(_sha(pseudonym).digest()[:8], "big")


class _State:
    """One version of the vault's content with what was derived from it. Never changed once in use, so a
    thread that still derives from an old version cannot leave a destroyed key in the caches of the new
    one."""

    __slots__ = ("depths", "keys", "pseudonym_key", "pseudonyms", "secrets", "starts", "tops")

    def __init__(
        self, pseudonym_key: bytes, starts: array[int], depths: bytearray, secrets: bytearray
    ) -> None:
        self.pseudonym_key = pseudonym_key
        self.starts = starts
        self.depths = depths
        self.secrets = secrets
        self.tops: dict[int, bytes] = {}
        self.keys: dict[bytes, AESGCM] = {}
        self.pseudonyms: dict[str, bytes] = {}

    @classmethod
    def parse(cls, plain: bytes) -> _State:
        starts, depths, secrets = array("Q"), bytearray(), bytearray()
        for start, depth, secret in _NODE.iter_unpack(plain[32:]):
            starts.append(start)
            depths.append(depth)
            secrets += secret
        return cls(plain[:32], starts, depths, secrets)

    def dump(self) -> bytes:
        return self.pseudonym_key + b"".join(
            _NODE.pack(start, self.depths[k], bytes(self.secrets[32 * k : 32 * k + 32]))
            for k, start in enumerate(self.starts)
        )

    def copy(self) -> _State:
        return _State(self.pseudonym_key, self.starts[:], self.depths[:], self.secrets[:])

    def covering(self, point: int) -> int | None:
        """Place of the node that still gives the leaf at `point`; none after erasure."""
        place = bisect.bisect_right(self.starts, point) - 1
        if place < 0 or point - self.starts[place] >= 1 << (2 * (DEPTH - self.depths[place])):
            return None
        return place

    def derive(self, pseudonym: bytes) -> bytes:
        """A subject's 32-byte key: down from the nearest node held, then bound to the pseudonym."""
        place_bytes = _sha(pseudonym).digest()[:8]
        point = int.from_bytes(place_bytes, "big")
        path: tuple[bytes, ...] = ()
        for byte in place_bytes:
            path += _STEPS[byte]
        node = self.tops.get(point >> 48)
        if node is not None:
            depth = TOP
        else:
            place = self.covering(point)
            if place is None:
                raise GoneError("the subject was erased; nothing can be sealed or read under this pseudonym")
            depth = self.depths[place]
            node = bytes(self.secrets[32 * place : 32 * place + 32])
            if depth <= TOP:
                for child in path[depth:TOP]:
                    node = _sha(node + child).digest()
                depth = TOP
                if len(self.tops) >= TOP_LIMIT:
                    self.tops.clear()
                self.tops[point >> 48] = node
        for child in path[depth:]:
            node = _sha(node + child).digest()
        return _sha(node + pseudonym).digest()

    def puncture(self, point: int) -> bool:
        """Replace the node above `point` by its siblings on the way down; false if it was gone already."""
        place = self.covering(point)
        if place is None:
            return False
        depth = self.depths[place]
        node = bytes(self.secrets[32 * place : 32 * place + 32])
        start = self.starts[place]
        siblings: list[tuple[int, int, bytes]] = []
        while depth < DEPTH:
            depth += 1
            shift = 2 * (DEPTH - depth)
            chosen = point >> shift & 3
            for k in range(4):
                if k != chosen:
                    siblings.append((start + (k << shift), depth, _sha(node + CHILDREN[k]).digest()))
            node = _sha(node + CHILDREN[chosen]).digest()
            start += chosen << shift
        siblings.sort()
        self.starts[place : place + 1] = array("Q", [s for s, _, _ in siblings])
        self.depths[place : place + 1] = bytes(d for _, d, _ in siblings)
        self.secrets[32 * place : 32 * place + 32] = b"".join(secret for _, _, secret in siblings)
        return True


class Vault:
    """The pseudonym key and the punctured tree of one home.

    `folder` holds `nodes` (sealed); `kek_path` is the file of the key that seals it. With an `epoch` the
    vault follows what other processes do to it. One process changes it at a time: see `VaultLock`.
    """

    def __init__(
        self, folder: Path, kek_path: Path, files: Files | None = None, epoch: Epoch | None = None
    ) -> None:
        self._folder = Path(folder)
        self._kek_path = Path(kek_path)
        self._files = files or Files()
        self._epoch = epoch
        self._seen = -1
        self._stamp: tuple[int, int] | None = None
        self._state = _State(b"", array("Q"), bytearray(), bytearray())
        self._change = threading.RLock()
        self.version = 0
        """Changes whenever the content does."""

    # Making and opening.

    @classmethod
    def create(
        cls, folder: Path, kek_path: Path, files: Files | None = None, epoch: Epoch | None = None
    ) -> Vault:
        """A new vault with fresh keys; raises `ConflictError` if there is one."""
        vault = cls(folder, kek_path, files, epoch)
        if vault._path.exists() or vault._kek_path.exists():
            raise ConflictError(f"there is already a vault in {folder} or a vault key at {kek_path}")
        vault._files.ensure_directory(vault._folder)
        vault._files.ensure_directory(vault._kek_path.parent)
        vault._state = _State(os.urandom(32), array("Q", [0]), bytearray(1), bytearray(os.urandom(32)))
        kek = os.urandom(32)
        vault._files.replace(vault._kek_path, kek)
        vault._files.replace(vault._path, _seal(vault._state.dump(), kek))
        vault._stamp = vault._on_disk()
        return vault

    @classmethod
    def open(
        cls,
        folder: Path,
        kek_path: Path,
        files: Files | None = None,
        epoch: Epoch | None = None,
        *,
        writable: bool = True,
    ) -> Vault:
        """Open a vault; `writable` also finishes a replacement of the KEK that a crash interrupted.

        Raises `NotFoundError`, or `IntegrityError` if the node file does not open under the KEK: it is
        damaged, or one of the two is an older copy.
        """
        vault = cls(folder, kek_path, files, epoch)
        vault._load(writable)
        return vault

    @property
    def _path(self) -> Path:
        return self._folder / "nodes"

    @property
    def _new_kek_path(self) -> Path:
        return self._kek_path.with_name(self._kek_path.name + ".next")

    @property
    def nodes(self) -> int:
        """Nodes held: one, and at most 95 more for each erasure."""
        return len(self._state.starts)

    def _load(self, writable: bool) -> None:
        seen = self._epoch.value if self._epoch is not None else 0
        stamp = self._on_disk()
        if not self._path.exists():
            raise NotFoundError(f"there is no vault in {self._folder}")
        data = self._path.read_bytes()
        present = _read_kek(self._kek_path)
        following = _read_kek(self._new_kek_path)
        plain = _unseal(data, present)
        if plain is None:
            plain = _unseal(data, following)
            if plain is not None and writable:
                self._finish_replacement()
        elif following is not None and writable:
            self._files.destroy(self._new_kek_path)
        if plain is None:
            raise IntegrityError(
                f"{self._path} does not open under the key at {self._kek_path}: one of the two is "
                "damaged or an older copy (an erasure replaces the key, so a vault restored from before "
                "one stays shut)"
            )
        self._state = _State.parse(plain)
        self.version += 1
        self._stamp = stamp
        self._seen = seen

    def _on_disk(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def follow(self) -> bool:
        """Read the node file again if another process has replaced it; says whether it had."""
        if self._epoch is None or self._epoch.value == self._seen:
            return False
        with self._change:
            seen = self._epoch.value
            if self._on_disk() == self._stamp:
                self._seen = seen
                return False
            for attempt in range(5):
                try:
                    self._load(writable=False)
                    return True
                except IntegrityError:  # between the renames of a replacement; look again
                    if attempt == 4:
                        raise
                    time.sleep(0.01)
        return True

    def reload(self) -> None:
        """Read the node file again; the caller alone may change it."""
        with self._change:
            self._load(writable=True)

    # Use.

    def pseudonym(self, subject_id: str) -> bytes:
        """The 16-byte pseudonym of a subject: keyed, so nobody without the vault can guess it from a name."""
        if self._epoch is not None and self._epoch.value != self._seen:
            self.follow()
        state = self._state
        found = state.pseudonyms.get(subject_id)
        if found is None:
            found = self._generations(state, subject_id)[-1]
            if len(state.pseudonyms) >= CACHE_LIMIT:
                state.pseudonyms.clear()
            state.pseudonyms[subject_id] = found
        return found

    def generations(self, subject_id: str) -> list[bytes]:
        """All pseudonyms the subject has had: the erased ones in order, then the present one."""
        self.follow()
        return self._generations(self._state, subject_id)

    def _generations(self, state: _State, subject_id: str) -> list[bytes]:
        if not 1 <= len(subject_id) <= MAX_SUBJECT_CHARACTERS:
            raise UsageError(f"a subject id has 1 to {MAX_SUBJECT_CHARACTERS} characters")
        name = subject_id.encode()
        found = []
        for generation in range(MAX_GENERATIONS):
            pseudonym = hmac.digest(state.pseudonym_key, bytes((generation,)) + name, "sha256")[:16]
            found.append(pseudonym)
            if state.covering(point_of(pseudonym)) is not None:
                return found
        raise LimitError(
            f"this subject has been erased {MAX_GENERATIONS} times; no further pseudonym is given"
        )

    def key(self, pseudonym: bytes) -> AESGCM:
        """The subject's key. Raises `GoneError` if the subject was erased.

        Does not look at the epoch: call `follow` once before a group of calls.
        """
        state = self._state
        found = state.keys.get(pseudonym)
        if found is None:
            found = AESGCM(state.derive(pseudonym))
            if len(state.keys) >= CACHE_LIMIT:
                state.keys.clear()
            state.keys[pseudonym] = found
        return found

    def erased(self, point: int) -> bool:
        """Is the key at this point gone?"""
        return self._state.covering(point) is None

    # Erasure.

    def erase(self, *points: int) -> int:
        """Puncture the tree at these points and replace the KEK; returns how many were not yet gone.

        Durable when it returns. The order is: new KEK written; nodes rewritten under it; old KEK overwritten,
        then replaced. A crash in between leaves a vault that opens, before or after the puncture.
        """
        with self._change:
            state = self._state.copy()
            fresh = sum(state.puncture(point) for point in points)
            if fresh:
                kek = os.urandom(32)
                self._files.replace(self._new_kek_path, kek)
                self._files.replace(self._path, _seal(state.dump(), kek))
                self._state = state
                self.version += 1
                self._finish_replacement()
                self._stamp = self._on_disk()
            return fresh

    def _finish_replacement(self) -> None:
        self._files.destroy(self._kek_path)
        self._files.rename(self._new_kek_path, self._kek_path)
        self._files.sync_directory(self._kek_path.parent)


class VaultLock:
    """Sealing shares it, erasing has it alone, in all threads and processes of a home.

    One object belongs to one thread. Groups follow each other closely, so an eraser would wait for ever
    behind sharers that come and go; hence a turnstile, held while waiting, that every sharer passes through
    first.
    """

    def __init__(self, folder: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._turnstile = os.open(folder / "turnstile", flags, 0o600)
        self._lock = os.open(folder / "lock", flags, 0o600)

    def close(self) -> None:
        for fd in (self._turnstile, self._lock):
            if fd >= 0:
                os.close(fd)
        self._turnstile = self._lock = -1

    def share(self) -> None:
        fcntl.flock(self._turnstile, fcntl.LOCK_SH)
        fcntl.flock(self._turnstile, fcntl.LOCK_UN)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def own(self) -> None:
        fcntl.flock(self._turnstile, fcntl.LOCK_EX)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def release(self) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        fcntl.flock(self._turnstile, fcntl.LOCK_UN)


def _seal(plain: bytes, kek: bytes) -> bytes:
    nonce = os.urandom(12)
    return MAGIC + nonce + AESGCM(kek).encrypt(nonce, plain, MAGIC)


def _read_kek(path: Path) -> bytes | None:
    try:
        kek = path.read_bytes()
    except FileNotFoundError:
        return None
    return kek if len(kek) == 32 else None


def _unseal(data: bytes, kek: bytes | None) -> bytes | None:
    if kek is None or data[:8] != MAGIC or len(data) < 8 + 12 + 16 + 32:
        return None
    try:
        return AESGCM(kek).decrypt(data[8:20], data[20:], MAGIC)
    except InvalidTag:
        return None
