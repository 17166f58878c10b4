"""The outsider's check finds any changed, missing or foreign file, and any rewriting since an earlier visit."""

from __future__ import annotations

from pathlib import Path

import pytest

from fiduciary.errors import FiduciaryError, IntegrityError
from fiduciary.ledger._audit import audit
from fiduciary.ledger._checkpoint import Checkpoint, sign_checkpoint
from fiduciary.ledger._keys import KeyType, Signer
from fiduciary.ledger._merkle import Tree, leaf_hashes
from fiduciary.ledger._tiles import Tiles

ORIGIN = "acme.eu/gate-0"
LOG = Signer(ORIGIN, KeyType.ED25519, b"\x01" * 32)
KEYS = [LOG.verifier]
ENTRIES = [b"entry %d" % index for index in range(70_000)]


def _write(folder: Path, size: int, entries: list[bytes] = ENTRIES) -> Checkpoint:
    tree = Tree()
    tree.append_many(leaf_hashes(entries[:size]))
    tiles = Tiles(folder)
    tiles.publish(tree, 0, size, lambda start, end: entries[start:end])
    checkpoint = Checkpoint(ORIGIN, size, tree.root())
    tiles.write_checkpoint(sign_checkpoint(checkpoint, [LOG], 1_700_000_000))
    return checkpoint


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 65_536, 66_000, 70_000])
def test_an_honest_log(tmp_path: Path, size: int) -> None:
    expected = _write(tmp_path, size)
    assert audit(tmp_path, ORIGIN, KEYS) == expected


@pytest.mark.parametrize(("size", "files"), [(1_000, 10), (66_000, 4)])
def test_every_file_counts(tmp_path: Path, size: int, files: int) -> None:
    """One bit changed in, or the absence of, any file that the log published, is found."""
    _write(tmp_path, size)
    chosen = [path for path in tmp_path.rglob("*") if path.is_file()]
    if size > 1_000:  # there, the upper levels only
        chosen = [
            path for path in chosen if path.relative_to(tmp_path).parts[1:2] not in (("0",), ("entries",))
        ]
    assert len(chosen) == files
    for path in chosen:
        whole = path.read_bytes()
        for at in (0, len(whole) - 1):
            changed = bytearray(whole)
            changed[at] ^= 1
            path.write_bytes(changed)
            with pytest.raises(FiduciaryError):
                audit(tmp_path, ORIGIN, KEYS)
        path.unlink()
        with pytest.raises(FiduciaryError):
            audit(tmp_path, ORIGIN, KEYS)
        path.write_bytes(whole)
    audit(tmp_path, ORIGIN, KEYS)


def test_a_log_rewritten_since_an_earlier_visit(tmp_path: Path) -> None:
    """Every signature and tile is in order; only what the auditor remembers shows the lie."""
    earlier = _write(tmp_path / "then", 1000)
    _write(tmp_path / "now", 2000)
    audit(tmp_path / "now", ORIGIN, KEYS, since=earlier)
    rewritten = [*ENTRIES[:7], b"another", *ENTRIES[8:2000]]
    _write(tmp_path / "rewritten", 2000, rewritten)
    audit(tmp_path / "rewritten", ORIGIN, KEYS)
    with pytest.raises(IntegrityError, match="first 1000 entries are not those"):
        audit(tmp_path / "rewritten", ORIGIN, KEYS, since=earlier)
    _write(tmp_path / "cut", 999)
    with pytest.raises(IntegrityError, match="has 999 entries, it had 1000"):
        audit(tmp_path / "cut", ORIGIN, KEYS, since=earlier)
