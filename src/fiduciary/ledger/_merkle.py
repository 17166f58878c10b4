"""Merkle tree of an append-only log (RFC 6962, section 2.1), kept as 256-wide tiles.

A leaf is SHA-256(0x00 || entry), an interior node SHA-256(0x01 || left || right), and the tree over n leaves
splits at the largest power of two below n. A node over a complete, aligned block of 2^h leaves never changes
once its leaves are there; a root or a proof is a handful of such nodes. `Tree` stores them in tiles (C2SP
tlog-tiles: level L, index i covers the nodes of height 8L .. 8L+7 over 256 hashes), so that what is kept in
memory, written to disk and read by an auditor is the same thing.

The verify functions know no tree: they take hashes and raise. Inclusion and consistency are the special case
`start = 0` of the subtree proofs of draft-ietf-plants-merkle-tree-certs, section 4, and are implemented that
way: one algorithm to get right. `tests/ledger_maths/test_merkle_vectors.py` runs every proof published by
transparency-dev/merkle, good and bad, against them; `test_merkle_properties.py` compares with the RFC's
definition; `tests/conformance` has Go's sumdb/tlog read and check a log of ours.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Sequence

from fiduciary.errors import IntegrityError

_sha256 = hashlib.sha256

HASH_SIZE = 32
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
EMPTY_ROOT = _sha256(b"").digest()

FetchTile = Callable[[int, int], bytes]
"""`fetch(level, index)` returns the 8,192 bytes of a full tile that the tree no longer holds in memory."""

# Where the nodes of height k (0..7) start within one tile's 510 stored hashes: 256, 128, ... 2 of them.
_ROW = tuple(sum(TILE_WIDTH >> j for j in range(k)) * HASH_SIZE for k in range(TILE_HEIGHT))
_FETCHED_TILES = 256
_PAIR = struct.Struct("64s")


def leaf_hash(entry: bytes) -> bytes:
    """Hash of one log entry: SHA-256(0x00 || entry)."""
    return _sha256(b"\x00" + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> bytes:
    """Leaf hashes of many entries, one after the other in one byte string (what `Tree.append_many` takes)."""
    sha = _sha256
    return b"".join([sha(b"\x00" + entry).digest() for entry in entries])


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an interior node: SHA-256(0x01 || left || right)."""
    return _sha256(b"\x01" + left + right).digest()


def _pair_up(hashes: bytes) -> bytes:
    """The parents of an even number of hashes. The one hot loop: a pair is adjacent already, take it whole."""
    sha = _sha256
    return b"".join([sha(b"\x01" + pair).digest() for (pair,) in _PAIR.iter_unpack(hashes)])


def tile_nodes(tile: bytes) -> bytes:
    """All 511 nodes of a full tile (8,192 bytes), row by row from the bottom; the last is its root."""
    if len(tile) != TILE_WIDTH * HASH_SIZE:
        raise IntegrityError(f"a full tile has {TILE_WIDTH * HASH_SIZE} bytes, this one has {len(tile)}")
    rows = [tile]
    while len(rows[-1]) > HASH_SIZE:
        rows.append(_pair_up(rows[-1]))
    return b"".join(rows)


class _Level:
    """One tile level: full tiles by index, and the rows of the partial tile at the right edge."""

    __slots__ = ("full", "rows", "width")

    def __init__(self) -> None:
        self.width = 0  # hashes appended at this level since the beginning
        self.full: dict[int, bytes] = {}
        self.rows = [bytearray() for _ in range(TILE_HEIGHT)]

    def append(self, hashes: bytes) -> bytes:
        """Append hashes; return the roots of the tiles this completed."""
        roots = b""
        at = 0
        while at < len(hashes):
            room = (TILE_WIDTH - self.width % TILE_WIDTH) * HASH_SIZE
            chunk = hashes[at : at + room]
            at += len(chunk)
            self.rows[0] += chunk
            self._complete_pairs()
            if len(chunk) == room:
                nodes = b"".join(self.rows)
                roots += _pair_up(nodes[-64:])
                self.full[self.width // TILE_WIDTH] = nodes
                self.rows = [bytearray() for _ in range(TILE_HEIGHT)]
            self.width += len(chunk) // HASH_SIZE
        return roots

    def _complete_pairs(self) -> None:
        for below, row in zip(self.rows, self.rows[1:], strict=False):
            ready = bytes(below[2 * len(row) : len(below) & ~63])
            if not ready:
                break
            row += _pair_up(ready)


class Tree:
    """An append-only Merkle tree with proofs for every size it has had.

    One thread appends; other threads may read with an explicit `size` that the writer has published. With
    `fetch`, full tiles may be forgotten (`forget`) and are read back, and authenticated against the level
    above, when a proof needs them; memory is then bounded by what is kept.
    """

    __slots__ = ("_fetch", "_fetched", "_levels", "_size")

    def __init__(self, fetch: FetchTile | None = None) -> None:
        self._levels = [_Level()]
        self._size = 0
        self._fetch = fetch
        self._fetched: dict[tuple[int, int], bytes] = {}

    @classmethod
    def resume(cls, size: int, partial: Callable[[int, int, int], bytes], fetch: FetchTile) -> Tree:
        """A tree of `size` leaves from its right edge only: at most one partial tile a level is read.

        `partial(level, index, width)` returns `width` * 32 bytes. Nothing is believed yet: compare `root()`
        with a signed checkpoint; a tile fetched later is checked against hashes that this root commits to.
        """
        tree = cls(fetch)
        level, count = 0, size
        while count:
            if level == len(tree._levels):
                tree._levels.append(_Level())
            edge = tree._levels[level]
            edge.width = count - count % TILE_WIDTH
            if width := count % TILE_WIDTH:
                hashes = partial(level, count // TILE_WIDTH, width)
                if len(hashes) != width * HASH_SIZE:
                    raise IntegrityError(
                        f"partial tile {level}/{count // TILE_WIDTH} should have {width * HASH_SIZE} bytes, "
                        f"it has {len(hashes)}"
                    )
                edge.append(hashes)
            level, count = level + 1, count // TILE_WIDTH
        tree._size = size
        return tree

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    def append_many(self, hashes: bytes | Sequence[bytes]) -> None:
        """Append leaf hashes: a sequence of 32-byte strings, or all of them in one byte string."""
        joined = hashes if isinstance(hashes, bytes) else b"".join(hashes)
        count = len(joined) // HASH_SIZE
        if len(joined) % HASH_SIZE or (not isinstance(hashes, bytes) and count != len(hashes)):
            raise ValueError("every leaf hash must have 32 bytes")
        level = 0
        while joined:
            if level == len(self._levels):
                self._levels.append(_Level())
            joined = self._levels[level].append(joined)
            level += 1
        self._size += count  # last: a reader that takes `size` must find every node of that size

    def append(self, hashed: bytes) -> int:
        """Append one leaf hash; return its index."""
        self.append_many((hashed,))
        return self._size - 1

    def leaf(self, index: int) -> bytes:
        """The leaf hash at `index` (0-based)."""
        self._check(index < self._size and index >= 0, f"leaf {index}", self._size)
        return self._node(0, index)

    def root(self, size: int | None = None) -> bytes:
        """The root over the first `size` leaves (default: all)."""
        size = self._at(size)
        return self._span(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """Proof that leaf `index` is in the tree of `size` leaves: at most 64 hashes, lowest first."""
        size = self._at(size)
        self._check(0 <= index < size, f"leaf {index}", size)
        return self._path(index, size, 0)

    def consistency(self, old: int, size: int | None = None) -> list[bytes]:
        """Proof that the tree of `old` leaves is a prefix of that of `size`; empty if `old` is 0 or all."""
        size = self._at(size)
        self._check(0 <= old <= size, f"a tree of {old} leaves", size)
        if old in (0, size):
            return []
        # The old tree's last complete block is where both trees still agree; its path is the proof. When that
        # block is the whole old tree, its hash is the old root, which the verifier has.
        height = (old & -old).bit_length() - 1
        seed = [] if old == 1 << height else [self._node(height, (old >> height) - 1)]
        return seed + self._path(old - 1, size, height)

    def beside(self, start: int, end: int, size: int | None = None) -> list[bytes]:
        """Roots of the maximal subtrees outside leaves [start, end), from left to right.

        With the leaf hashes of the range they give the root over `size` leaves, so one short list proves a
        whole run of neighbours, and that none between them is left out.
        """
        size = self._at(size)
        self._check(0 <= start < end <= size, f"the range [{start}, {end})", size)
        found: list[bytes] = []
        pending = [(0, size)]
        while pending:
            low, high = pending.pop()
            if high <= start or low >= end:
                found.append(self._span(low, high))
            elif high - low > 1:
                middle = low + (1 << ((high - low - 1).bit_length() - 1))
                pending += [(middle, high), (low, middle)]
        return found

    def tile(self, level: int, index: int, width: int = TILE_WIDTH) -> bytes:
        """The first `width` (1..256) hashes of a tile, `width` * 32 bytes."""
        edge = self._levels[level] if 0 <= level < len(self._levels) else _Level()
        first = index * TILE_WIDTH
        if not (first >= 0 and 1 <= width <= TILE_WIDTH and first + width <= edge.width):
            raise IndexError(f"tile {level}/{index} of width {width} is not in a tree of {self._size} leaves")
        if first + TILE_WIDTH > edge.width:
            return bytes(edge.rows[0][: width * HASH_SIZE])
        return self._full(level, index)[: width * HASH_SIZE]

    def forget(self, before: int) -> None:
        """Drop from memory the full tiles that cover only leaves below `before`; `fetch` must have them."""
        if self._fetch is None:
            raise ValueError("a tree without `fetch` cannot forget tiles")
        for level, edge in enumerate(self._levels):
            keep = before >> (TILE_HEIGHT * (level + 1))
            for index in [index for index in edge.full if index < keep]:
                del edge.full[index]

    def _at(self, size: int | None) -> int:
        if size is None:
            return self._size
        self._check(0 <= size <= self._size, f"a tree of {size} leaves", self._size)
        return size

    @staticmethod
    def _check(holds: bool, what: str, size: int) -> None:
        if not holds:
            raise IndexError(f"{what} is not within a tree of {size} leaves")

    def _path(self, index: int, size: int, height: int) -> list[bytes]:
        """Siblings of leaf `index` in the tree of `size` leaves, from `height` up.

        Below `split` both index and the last leaf lie in complete blocks; at `split` the right sibling may be
        the ragged edge; above it only left siblings exist.
        """
        node = self._node
        split = (index ^ (size - 1)).bit_length() - 1
        path = [node(h, (index >> h) ^ 1) for h in range(height, split)]
        if split >= height:
            path.append(self._span((index >> split ^ 1) << split, size))
        for h in range(max(split + 1, height), index.bit_length()):
            if index >> h & 1:
                path.append(node(h, (index >> h) - 1))
        return path

    def _span(self, start: int, end: int) -> bytes:
        """Root over leaves [start, end), start aligned to a power of two that is not below the length."""
        length = end - start
        height = (length & -length).bit_length() - 1
        found = self._node(height, (end >> height) - 1)
        for h in range(height + 1, length.bit_length()):
            if length >> h & 1:
                found = node_hash(self._node(h, (end >> h) - 1), found)
        return found

    def _node(self, height: int, index: int) -> bytes:
        """The node over the complete block [index * 2^height, (index + 1) * 2^height)."""
        level, row = divmod(height, TILE_HEIGHT)
        tile, place = divmod(index, TILE_WIDTH >> row)
        edge = self._levels[level]
        rows = edge.rows  # before `full`: the writer files a full tile first and starts new rows second
        nodes = edge.full.get(tile)
        if nodes is None:
            if (tile + 1) * TILE_WIDTH > edge.width:
                return bytes(rows[row][place * HASH_SIZE : (place + 1) * HASH_SIZE])
            nodes = self._full(level, tile)
        at = _ROW[row] + place * HASH_SIZE
        return nodes[at : at + HASH_SIZE]

    def _full(self, level: int, index: int) -> bytes:
        """All nodes of a full tile below its root, from memory or fetched and authenticated."""
        nodes = self._levels[level].full.get(index) or self._fetched.get((level, index))
        if nodes is None:
            if self._fetch is None:
                raise IndexError(f"tile {level}/{index} is not held and cannot be fetched")
            nodes = tile_nodes(self._fetch(level, index))
            if nodes[-HASH_SIZE:] != self._node(TILE_HEIGHT * (level + 1), index):
                raise IntegrityError(f"tile {level}/{index} does not have the root that the tree commits to")
            if len(self._fetched) >= _FETCHED_TILES:
                self._fetched = {}
            self._fetched[level, index] = nodes
        return nodes


def verify_inclusion(hashed: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check that leaf hash `hashed` is leaf `index` of the tree of `size` leaves with this root.

    Raises `IntegrityError`. Source: RFC 9162, section 2.1.3.2.
    """
    verify_subtree_inclusion(hashed, index, 0, size, path, root)


def verify_consistency(old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of `old` leaves is a prefix of the tree of `size` leaves.

    Raises `IntegrityError`; also for `old` = 0, of which a proof can say nothing: compare the old root with
    `EMPTY_ROOT` instead. Source: RFC 9162, section 2.1.4.2.
    """
    if old <= 0:
        raise IntegrityError(f"a consistency proof starts from at least 1 leaf, not {old}")
    verify_subtree_consistency(0, old, size, old_root, root, proof)


def verify_subtree_inclusion(
    hashed: bytes, index: int, start: int, end: int, path: Sequence[bytes], root: bytes
) -> None:
    """Check that leaf hash `hashed` is leaf `index` under the subtree over leaves [start, end).

    Raises `IntegrityError`. Source: draft-ietf-plants-merkle-tree-certs, section 4.3.2.
    """
    _require_subtree(start, end)
    if not start <= index < end:
        raise IntegrityError(f"leaf {index} cannot be under leaves {start} to {end}")
    _require_hashes((hashed, *path))
    place, last, found = index - start, end - start - 1, hashed
    for sibling in path:
        if last == 0:
            raise IntegrityError(f"the inclusion proof of leaf {index} is too long: {len(path)} hashes")
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1:  # skip the levels where this node has no right sibling
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise IntegrityError(f"the inclusion proof of leaf {index} is too short: {len(path)} hashes")
    if found != root:
        raise IntegrityError(f"the inclusion proof of leaf {index} leads to another root than the given one")


def verify_subtree_consistency(
    start: int, end: int, size: int, subtree_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the subtree over leaves [start, end) is part of the tree of `size` leaves.

    Raises `IntegrityError`. Source: draft-ietf-plants-merkle-tree-certs, section 4.4.3; the empty subtree is
    part of every tree.
    """
    if not 0 <= start <= end <= size:
        raise IntegrityError(f"leaves {start} to {end} cannot be part of a tree of {size} leaves")
    if start == end:
        if subtree_root != EMPTY_ROOT or proof:
            raise IntegrityError("the empty subtree has the empty root and an empty proof")
        return
    _require_subtree(start, end)
    first, last, edge = start, end - 1, size - 1
    while first != last and (last & 1 or last == edge):
        first, last, edge = first >> 1, last >> 1, edge >> 1
    rest = iter(proof)
    if first == last:
        seed = subtree_root
        if proof:
            _require_hashes((seed,))
    else:
        seed = next(rest, b"")
    _require_hashes(proof if first == last else (seed, *proof))
    part = whole = seed
    for sibling in rest:
        if edge == 0:
            raise IntegrityError(f"the consistency proof is too long: {len(proof)} hashes")
        if last & 1 or last == edge:
            if first < last:
                part = node_hash(sibling, part)
            whole = node_hash(sibling, whole)
            while not last & 1:
                first, last, edge = first >> 1, last >> 1, edge >> 1
        else:
            whole = node_hash(whole, sibling)
        first, last, edge = first >> 1, last >> 1, edge >> 1
    if edge != 0:
        raise IntegrityError(f"the consistency proof is too short: {len(proof)} hashes")
    if part != subtree_root:
        raise IntegrityError(f"the consistency proof leads to another root over leaves {start} to {end}")
    if whole != root:
        raise IntegrityError(f"the consistency proof leads to another root over {size} leaves")


def _require_subtree(start: int, end: int) -> None:
    length = end - start
    if start < 0 or length <= 0 or start & ((1 << (length - 1).bit_length()) - 1):
        raise IntegrityError(f"no subtree covers leaves {start} to {end}")


def _require_hashes(hashes: Sequence[bytes]) -> None:
    for hashed in hashes:
        if len(hashed) != HASH_SIZE:
            raise IntegrityError(f"a hash has {HASH_SIZE} bytes, this proof has one of {len(hashed)}")
