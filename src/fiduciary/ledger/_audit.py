"""An outsider's check of a published log: nothing but its folder and its public keys is needed or believed.

Every entry is read and hashed, the tree is built again, and all that was published is compared with it: each
tile file, byte for byte, and the signed checkpoint. Nothing is left to the log's cooperation. Memory stays
small: one bundle, and one tile a level. `tests/conformance` does the same with Go's packages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fiduciary.errors import IntegrityError
from fiduciary.ledger._checkpoint import Checkpoint, open_checkpoint
from fiduciary.ledger._merkle import TILE_WIDTH, Tree, leaf_hashes
from fiduciary.ledger._note import NoteVerifier
from fiduciary.ledger._tiles import Tiles


def audit(
    folder: Path,
    origin: str,
    log_keys: Sequence[NoteVerifier],
    witnesses: Sequence[NoteVerifier] = (),
    quorum: int = 0,
    since: Checkpoint | None = None,
) -> Checkpoint:
    """Check a whole log folder; return its verified checkpoint.

    Keys and quorum as for `open_checkpoint`. `since`: a checkpoint that the auditor kept from an earlier visit,
    of which this log must be a continuation. Raises `IntegrityError` naming what differs, `NotFoundError` naming
    what is not there.
    """
    tiles = Tiles(folder)
    checkpoint = open_checkpoint(tiles.read_checkpoint(), origin, log_keys, witnesses, quorum)
    size = checkpoint.size
    if since is not None and (since.origin != origin or since.size > size):
        raise IntegrityError(f"the log has {size} entries, it had {since.size} at an earlier visit")
    tree = Tree(tiles.tile)
    for bundle in tiles.all_entries(size):
        before = tree.size
        tree.append_many(leaf_hashes(bundle))
        _compare(tiles, tree, before, size)
        if since is not None and before < since.size <= tree.size and tree.root(since.size) != since.root:
            raise IntegrityError(f"the first {since.size} entries are not those of an earlier visit")
        tree.forget(tree.size)
    if tree.root() != checkpoint.root:
        raise IntegrityError(f"the {size} entries do not have the root that the log has signed")
    return checkpoint


def _compare(tiles: Tiles, tree: Tree, before: int, size: int) -> None:
    """Compare the files of the tiles that this bundle completed, or ended, with the tree."""
    level, after, total = 0, tree.size, size
    while total:
        index = before // TILE_WIDTH
        width = min(TILE_WIDTH, total - index * TILE_WIDTH)
        ended = before < after == index * TILE_WIDTH + width
        if ended and tiles.tile(level, index, width) != tree.tile(level, index, width):
            raise IntegrityError(f"tile {level}/{index} does not have the hashes of the log's entries")
        level, before, after, total = (
            level + 1,
            before // TILE_WIDTH,
            after // TILE_WIDTH,
            total // TILE_WIDTH,
        )
