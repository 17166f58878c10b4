"""The tree and its proofs against RFC 6962's recursive definition, all small sizes, many large."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.errors import IntegrityError
from fiduciary.ledger import _merkle
from fiduciary.ledger._merkle import Tree

LEAVES = [_merkle.leaf_hash(index.to_bytes(4, "big")) for index in range(70_000)]


def _definition(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + _definition(hashes[:k]) + _definition(hashes[k:])).digest()


def _path_definition(index: int, hashes: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1."""
    if len(hashes) == 1:
        return []
    k = 1 << (len(hashes) - 1).bit_length() - 1
    if index < k:
        return [*_path_definition(index, hashes[:k]), _definition(hashes[k:])]
    return [*_path_definition(index - k, hashes[k:]), _definition(hashes[:k])]


def _subproof_definition(old: int, hashes: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962, section 2.1.2."""
    if old == len(hashes):
        return [] if whole else [_definition(hashes)]
    k = 1 << (len(hashes) - 1).bit_length() - 1
    if old <= k:
        return [*_subproof_definition(old, hashes[:k], whole), _definition(hashes[k:])]
    return [*_subproof_definition(old - k, hashes[k:], False), _definition(hashes[:k])]


def _tree(size: int, step: int = 61) -> Tree:
    tree = Tree()
    for at in range(0, size, step):
        tree.append_many(LEAVES[at : min(at + step, size)])
    return tree


@pytest.fixture(scope="module")
def large() -> Tree:
    return _tree(len(LEAVES), 512)


def test_known_roots_of_certificate_transparency() -> None:
    inputs = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    tree = Tree()
    assert tree.root() == _merkle.EMPTY_ROOT
    tree.append_many(_merkle.leaf_hashes(bytes.fromhex(text) for text in inputs))
    assert tree.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_every_small_tree_equals_the_definition() -> None:
    tree = Tree()
    for size in range(1, 41):
        assert tree.append(LEAVES[size - 1]) == size - 1
        hashes = LEAVES[:size]
        assert tree.root() == _definition(hashes)
        for index in range(size):
            assert tree.inclusion(index) == _path_definition(index, hashes)
        for old in range(1, size + 1):
            assert tree.consistency(old) == _subproof_definition(old, hashes, True)


@pytest.mark.parametrize("size", [255, 256, 257, 511, 513, 65_535, 65_536, 65_537, 69_999])
def test_sizes_around_tiles(large: Tree, size: int) -> None:
    root = _definition(LEAVES[:size])
    assert large.root(size) == root == _tree(size).root()
    for index in {0, 1, 254, 255, 256, size // 2, size - 2, size - 1}:
        if index < size:
            assert large.leaf(index) == LEAVES[index]
            _merkle.verify_inclusion(LEAVES[index], index, size, large.inclusion(index, size), root)
    for old in {1, 2, 255, 256, 257, size // 3, size // 2, size - 1}:
        if old <= size:
            _merkle.verify_consistency(old, size, large.root(old), root, large.consistency(old, size))


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_any_grouping_gives_the_same_tree(data: st.DataObject) -> None:
    groups = data.draw(st.lists(st.integers(0, 600), max_size=8))
    tree, at = Tree(), 0
    for group in groups:
        tree.append_many(LEAVES[at : at + group] if group % 2 else b"".join(LEAVES[at : at + group]))
        at += group
    assert tree.size == at
    assert tree.root() == _definition(LEAVES[:at])


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_a_changed_proof_is_refused(large: Tree, data: st.DataObject) -> None:
    size = data.draw(st.integers(2, large.size))
    index = data.draw(st.integers(0, size - 1))
    path, root = large.inclusion(index, size), large.root(size)
    _merkle.verify_inclusion(LEAVES[index], index, size, path, root)
    place, bit = data.draw(st.integers(0, len(path) - 1)), data.draw(st.integers(0, 255))
    wrong = bytearray(path[place])
    wrong[bit // 8] ^= 1 << bit % 8
    other = data.draw(st.integers(0, size - 1).filter(lambda other: other != index))
    attempts = [
        (index, size, [*path[:place], bytes(wrong), *path[place + 1 :]]),
        (index, size, path[:place] + path[place + 1 :]),
        (index, size, [*path, root]),
        (index, size, [root, *path]),
        (other, size, path),
        (size, size, path),
        (-1, size, path),
    ]
    for claimed, claimed_size, hashes in attempts:
        with pytest.raises(IntegrityError):
            _merkle.verify_inclusion(LEAVES[index], claimed, claimed_size, hashes, root)


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_a_changed_consistency_proof_is_refused(large: Tree, data: st.DataObject) -> None:
    size = data.draw(st.integers(2, large.size))
    old = data.draw(st.integers(1, size - 1))
    proof, old_root, root = large.consistency(old, size), large.root(old), large.root(size)
    _merkle.verify_consistency(old, size, old_root, root, proof)
    place, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
    wrong = bytearray(proof[place])
    wrong[bit // 8] ^= 1 << bit % 8
    attempts = [
        (old_root, root, [*proof[:place], bytes(wrong), *proof[place + 1 :]]),
        (old_root, root, proof[:place] + proof[place + 1 :]),
        (old_root, root, [*proof, root]),
        (old_root, root, []),
        (root, old_root, proof),
        (root, root, proof),
        (old_root, old_root, proof),
    ]
    for first, second, hashes in attempts:
        with pytest.raises(IntegrityError):
            _merkle.verify_consistency(old, size, first, second, hashes)


@given(data=st.data())
@settings(deadline=None, max_examples=200)
def test_subtree_proofs(large: Tree, data: st.DataObject) -> None:
    """Any aligned block of the tree, also a ragged one at its right edge, against the definition."""
    size = data.draw(st.integers(1, 700))
    width = 1 << data.draw(st.integers(0, 9))
    start = data.draw(st.integers(0, (size - 1) // width)) * width
    end = data.draw(st.integers(start + 1, min(start + width, size)))
    subtree = _definition(LEAVES[start:end])
    index = data.draw(st.integers(start, end - 1))
    path = _path_definition(index - start, LEAVES[start:end])
    _merkle.verify_subtree_inclusion(LEAVES[index], index, start, end, path, subtree)
    if start == 0:
        proof = large.consistency(end, size)
        _merkle.verify_subtree_consistency(start, end, size, subtree, large.root(size), proof)


class _Store:
    """Full tiles of a tree, as a disk would hold them, with a count of reads."""

    def __init__(self, tree: Tree) -> None:
        self.tree, self.reads, self.spoil = tree, 0, False

    def fetch(self, level: int, index: int) -> bytes:
        self.reads += 1
        tile = bytearray(self.tree.tile(level, index))
        tile[77] ^= self.spoil
        return bytes(tile)


@pytest.mark.parametrize("size", [1, 255, 256, 300, 65_535, 65_536, 65_792, 70_000])
def test_resumed_tree_is_the_same_tree(large: Tree, size: int) -> None:
    store = _Store(large)
    tree = Tree.resume(size, large.tile, store.fetch)
    assert tree.root() == large.root(size)
    for index in {0, size // 2, size - 1}:
        assert tree.inclusion(index) == large.inclusion(index, size)
    tree.append_many(LEAVES[:1000])
    direct = _tree(size)
    direct.append_many(LEAVES[:1000])
    assert tree.root() == direct.root()


def test_forgotten_tiles_are_read_back_and_checked(large: Tree) -> None:
    store = _Store(large)
    tree = Tree(store.fetch)
    tree.append_many(LEAVES)
    tree.forget(69_000)
    assert tree.root() == large.root()
    assert store.reads <= 1
    assert tree.inclusion(5) == large.inclusion(5)
    assert tree.tile(0, 7) == large.tile(0, 7)
    store.spoil = True
    assert tree.inclusion(5) == large.inclusion(5), "already authenticated"
    with pytest.raises(IntegrityError, match="tile 0/40"):
        tree.inclusion(40 * 256 + 3)
    with pytest.raises(ValueError, match="cannot forget"):
        large.forget(1)


def test_limits() -> None:
    tree = _tree(300)
    for call in (
        lambda: tree.leaf(300),
        lambda: tree.leaf(-1),
        lambda: tree.root(301),
        lambda: tree.inclusion(299, 299),
        lambda: tree.inclusion(0, 0),
        lambda: tree.consistency(301),
        lambda: tree.tile(0, 1, 45),
        lambda: tree.tile(0, 1, 0),
        lambda: tree.tile(2, 0, 1),
        lambda: tree.tile(0, -1, 1),
    ):
        with pytest.raises(IndexError):
            call()
    for hashes in ([b"short"], b"x" * 33, [b"x" * 32, b"x" * 31]):
        with pytest.raises(ValueError, match="32 bytes"):
            tree.append_many(hashes)
    assert tree.size == 300
    assert tree.tile(0, 1, 44) == b"".join(LEAVES[256:300])
    assert tree.consistency(0) == tree.consistency(300) == []


@given(data=st.data())
@settings(deadline=None, max_examples=200)
def test_a_run_of_neighbours_is_proved_by_what_lies_beside_it(large: Tree, data: st.DataObject) -> None:
    """Range and outer subtrees give the root; with an entry of the range left out, they do not."""
    size = data.draw(st.integers(1, 3_000))
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    beside = large.beside(start, end, size)

    def root(leaves: list[bytes], low: int, high: int, outside: list[bytes]) -> bytes:
        if high <= start or low >= end:
            return outside.pop(0)
        if high - low == 1:
            return leaves[low - start]
        middle = low + (1 << (high - low - 1).bit_length() - 1)
        left = root(leaves, low, middle, outside)
        return _merkle.node_hash(left, root(leaves, middle, high, outside))

    rest = list(beside)
    assert root(LEAVES[start:end], 0, size, rest) == large.root(size)
    assert rest == []
    assert len(beside) <= 2 * size.bit_length()
    if end - start > 1:
        shifted = [*LEAVES[start + 1 : end], LEAVES[end]]
        assert root(shifted, 0, size, list(beside)) != large.root(size)
    with pytest.raises(IndexError):
        large.beside(end, start, size)
