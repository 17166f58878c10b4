"""A log as files that anyone can check with standard tools (C2SP tlog-tiles).

    checkpoint                 the signed head
    tile/<L>/<N>[.p/<W>]       hashes of the tree: 256 of them, or the first W
    tile/entries/<N>[.p/<W>]   the same 256 entries, each behind its length in two bytes

<N> is written in groups of three digits, all but the last behind an `x`: 1234067 is `x001/x234/067`. Partial
tiles stay until the full one is there: a reader of an older checkpoint finds what it commits to.

Files are derived from the log's segments: each is written whole and moved into place, the checkpoint last, so
a reader never finds a checkpoint whose tiles are missing. They are not flushed to the disk here; after a
power loss the owner publishes again from the segments.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fiduciary.errors import IntegrityError, LimitError, NotFoundError
from fiduciary.ledger._merkle import HASH_SIZE, TILE_WIDTH, Tree
from fiduciary.ledger._note import MAX_NOTE_BYTES

MAX_ENTRY_BYTES = 65_535
MAX_BUNDLE_BYTES = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
MAX_LEVEL = 63
ENTRIES = "entries"
CHECKPOINT = "checkpoint"

ReadEntries = Callable[[int, int], Sequence[bytes]]
"""`read(start, end)` returns the entries with index start .. end-1."""


def tile_path(level: int | str, index: int, width: int = TILE_WIDTH) -> str:
    """The path of a tile (`level` 0..63) or an entry bundle (`level` "entries") below the log's folder."""
    if not (level == ENTRIES or (isinstance(level, int) and 0 <= level <= MAX_LEVEL)):
        raise ValueError(f"a tile level must be 0 to {MAX_LEVEL} or {ENTRIES!r}, not {level!r}")
    if index < 0 or not 1 <= width <= TILE_WIDTH:
        raise ValueError(f"no tile has index {index} and width {width}")
    groups = f"{index % 1000:03d}"
    while index := index // 1000:
        groups = f"x{index % 1000:03d}/{groups}"
    return f"tile/{level}/{groups}" + (f".p/{width}" if width < TILE_WIDTH else "")


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Entries behind their two-byte big-endian lengths. Raises `LimitError`: 256 entries of 65,535 bytes."""
    if len(entries) > TILE_WIDTH:
        raise LimitError(f"a bundle has at most {TILE_WIDTH} entries, not {len(entries)}")
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise LimitError(f"an entry has at most {MAX_ENTRY_BYTES} bytes, this one has {len(entry)}")
        parts += (len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)


def decode_bundle(data: bytes, width: int) -> list[bytes]:
    """Exactly `width` entries of a bundle. Raises `IntegrityError` if it holds fewer, more or half a one."""
    entries: list[bytes] = []
    at, total = 0, len(data)
    while at + 1 < total and len(entries) < width:
        start = at + 2
        at = start + (data[at] << 8 | data[at + 1])
        entries.append(data[start:at])
    if len(entries) != width or at != total:  # a cut entry leaves `at` beyond the end
        raise IntegrityError(f"the bundle does not hold exactly {width} entries")
    return entries


class Tiles:
    """The tile files of one log folder. One process writes, any number read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: set[Path] = set()

    def publish(self, tree: Tree, old: int, new: int, entries: ReadEntries) -> None:
        """Write every tile and bundle that grew between the trees of `old` and `new` leaves.

        `old` is the size published before (0 to write all again); call `write_checkpoint` afterwards.
        """
        if not 0 <= old <= new <= tree.size:
            raise ValueError(f"cannot publish from {old} to {new} leaves of a tree of {tree.size}")
        for index, width in _grown(old, new):
            first = index * TILE_WIDTH
            bundle = entries(first, first + width)
            if len(bundle) != width:
                raise ValueError(f"expected {width} entries from {first}, got {len(bundle)}")
            self._write(ENTRIES, index, width, encode_bundle(bundle))
        level = 0
        while new:
            for index, width in _grown(old, new):
                self._write(level, index, width, tree.tile(level, index, width))
            level, old, new = level + 1, old // TILE_WIDTH, new // TILE_WIDTH

    def tile(self, level: int, index: int, width: int = TILE_WIDTH) -> bytes:
        """The first `width` hashes of a tile, from the partial or the full file; not authenticated.

        `Tree.resume` takes this as `partial` and, with two arguments, as `fetch`. Raises `NotFoundError` when
        it is not published, `IntegrityError` when the file has a wrong length.
        """
        data, found = self._read(level, index, width, TILE_WIDTH * HASH_SIZE)
        if len(data) != found * HASH_SIZE:
            raise IntegrityError(
                f"tile {level}/{index} should have {found * HASH_SIZE} bytes, it has {len(data)}"
            )
        return data[: width * HASH_SIZE]

    def entries(self, index: int, width: int = TILE_WIDTH) -> list[bytes]:
        """The first `width` entries of a bundle; not authenticated. Raises like `tile`."""
        data, found = self._read(ENTRIES, index, width, MAX_BUNDLE_BYTES)
        return decode_bundle(data, found)[:width]

    def all_entries(self, size: int) -> Iterator[list[bytes]]:
        """The entries of a log of `size` leaves, bundle by bundle."""
        for index, width in _grown(0, size):
            yield self.entries(index, width)

    def write_checkpoint(self, data: bytes) -> None:
        """Replace the signed checkpoint."""
        self._replace(self.folder / CHECKPOINT, data)

    def read_checkpoint(self, name: str = CHECKPOINT) -> bytes:
        """The signed checkpoint (or another note of the folder), not verified. Raises `NotFoundError`."""
        return _read_limited(self.folder / name, MAX_NOTE_BYTES)

    def _write(self, level: int | str, index: int, width: int, data: bytes) -> None:
        path = self.folder / tile_path(level, index, width)
        self._replace(path, data)
        if width == TILE_WIDTH:
            partial = path.with_name(path.name + ".p")
            if partial.exists():
                shutil.rmtree(partial)
                self._made.discard(partial)

    def _replace(self, path: Path, data: bytes) -> None:
        parent = path.parent
        if parent not in self._made:
            parent.mkdir(parents=True, exist_ok=True)
            self._made.add(parent)
        # A dot-file beside the target: same file system, never a path of the standard.
        temporary = parent / f".{path.name}.new"
        temporary.write_bytes(data)
        temporary.replace(path)

    def _read(self, level: int | str, index: int, width: int, limit: int) -> tuple[bytes, int]:
        if width < TILE_WIDTH:
            try:
                return _read_limited(self.folder / tile_path(level, index, width), limit), width
            except NotFoundError:
                pass  # a partial tile may be gone once the full one is there
        return _read_limited(self.folder / tile_path(level, index), limit), TILE_WIDTH


def _grown(old: int, new: int) -> Iterator[tuple[int, int]]:
    """Index and width of each tile of one level that has more hashes at size `new` than at `old`."""
    for index in range(old // TILE_WIDTH, -(-new // TILE_WIDTH)):
        width = min(TILE_WIDTH, new - index * TILE_WIDTH)
        if index * TILE_WIDTH + width > old:
            yield index, width


def _read_limited(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{path.name} is not published in {path.parent}") from None
    if len(data) > limit:
        raise LimitError(f"{path} has more than {limit} bytes")
    return data
