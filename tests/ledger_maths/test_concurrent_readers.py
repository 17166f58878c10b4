"""One writer, many readers: whoever takes a published size gets a whole tree, in memory and on disk."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fiduciary.ledger import _merkle
from fiduciary.ledger._checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from fiduciary.ledger._keys import KeyType, Signer
from fiduciary.ledger._merkle import Tree, leaf_hash, verify_inclusion
from fiduciary.ledger._tiles import Tiles

ORIGIN = "acme.eu/gate-0"
LOG = Signer(ORIGIN, KeyType.ED25519, b"\x01" * 32)
ENTRIES = [b"entry %d" % index for index in range(1_500)]


def test_readers_in_memory_and_on_disk_while_the_log_grows(tmp_path: Path) -> None:
    tiles = Tiles(tmp_path)
    tree = Tree(tiles.tile)
    published: list[tuple[int, bytes]] = []
    done = threading.Event()
    problems: list[BaseException] = []
    checked = [0, 0]

    def in_memory() -> None:
        while not done.is_set():
            if published:
                size, root = random.choice(published)
                index = random.randrange(size)
                verify_inclusion(leaf_hash(ENTRIES[index]), index, size, tree.inclusion(index, size), root)
                checked[0] += 1

    def on_disk() -> None:
        while not done.is_set():
            if published:
                head = open_checkpoint(Tiles(tmp_path).read_checkpoint(), ORIGIN, [LOG.verifier])
                found = Tree.resume(head.size, tiles.tile, tiles.tile)
                assert found.root() == head.root
                index = random.randrange(head.size)
                verify_inclusion(
                    leaf_hash(ENTRIES[index]), index, head.size, found.inclusion(index), head.root
                )
                checked[1] += 1

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            problems.append(error)

    readers = [threading.Thread(target=guarded, args=(work,)) for work in (in_memory, in_memory, on_disk)]
    for reader in readers:
        reader.start()
    at = 0
    while at < len(ENTRIES) and not problems:
        step = random.choice((1, 3, 64, 100))
        tree.append_many([leaf_hash(entry) for entry in ENTRIES[at : at + step]])
        tiles.publish(tree, at, tree.size, lambda start, end: ENTRIES[start:end])
        head = Checkpoint(ORIGIN, tree.size, tree.root())
        tiles.write_checkpoint(sign_checkpoint(head, [LOG], 1_700_000_000))
        published.append((head.size, head.root))
        tree.forget(tree.size - 300)
        at = tree.size
    done.set()
    for reader in readers:
        reader.join()
    assert not problems, problems[0]
    assert min(checked) > 0


def test_a_proof_in_a_million_is_looked_up_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 hashes, 640 bytes, and no hashing but along the ragged right edge."""
    tree = Tree()
    tree.append_many(bytes(range(32)) * (1 << 20))
    size = (1 << 20) - 12_345
    calls = 0
    real = _merkle.node_hash

    def counting(left: bytes, right: bytes) -> bytes:
        nonlocal calls
        calls += 1
        return real(left, right)

    monkeypatch.setattr(_merkle, "node_hash", counting)
    monkeypatch.setattr(_merkle, "_pair_up", None)
    for index in (0, 12_345, 600_000, size - 1):
        calls = 0
        path = tree.inclusion(index, size)
        assert len(path) <= 20
        assert len(b"".join(path)) <= 1024
        assert calls <= 20
