"""Tiles, bundles and proof texts: the standard's own examples, growth in any steps, and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.errors import FiduciaryError, IntegrityError, LimitError, NotFoundError
from fiduciary.ledger._checkpoint import Checkpoint, sign_checkpoint
from fiduciary.ledger._keys import KeyType, Signer
from fiduciary.ledger._merkle import Tree, leaf_hash, leaf_hashes
from fiduciary.ledger._proof import MAX_EXTRA_BYTES, Proof
from fiduciary.ledger._tiles import Tiles, decode_bundle, encode_bundle, tile_path

ORIGIN = "acme.eu/gate-0"
LOG = Signer(ORIGIN, KeyType.ED25519, b"\x01" * 32)
LOG_PQ = Signer(ORIGIN, KeyType.COSIGN_ML_DSA_44, b"\x02" * 32)
WITNESS = Signer("witness.example/w1", KeyType.COSIGN_ML_DSA_44, b"\x03" * 32)
KEYS = (LOG.verifier, LOG_PQ.verifier)
ENTRIES = [b"entry %d " % index * (index % 5) for index in range(70_000)]


def _read(start: int, end: int) -> list[bytes]:
    return ENTRIES[start:end]


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tree() -> Tree:
    tree = Tree()
    tree.append_many(leaf_hashes(ENTRIES))
    return tree


def test_paths() -> None:
    assert tile_path(0, 0) == "tile/0/000"
    assert tile_path(3, 1234067) == "tile/3/x001/x234/067"
    assert tile_path("entries", 1000, 17) == "tile/entries/x001/000.p/17"
    for level, index, width in (
        (64, 0, 256),
        (-1, 0, 256),
        ("data", 0, 256),
        (0, -1, 256),
        (0, 0, 0),
        (0, 0, 257),
    ):
        with pytest.raises(ValueError, match="tile"):
            tile_path(level, index, width)


def test_the_standards_example_of_70000_entries(tree: Tree, tmp_path: Path) -> None:
    """273 full tiles and one of width 112 at level 0; one full and one of 17 at level 1; one of 1."""
    tiles = Tiles(tmp_path)
    tiles.publish(tree, 0, 70_000, _read)
    files = _files(tmp_path)
    hashes = {f for f in files if not f.startswith("tile/entries/")}
    expected = {f"tile/0/{n:03d}" for n in range(273)} | {
        "tile/0/273.p/112",
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    }
    assert hashes == expected
    assert {f.replace("/entries/", "/0/") for f in files - hashes} == {f for f in expected if "/0/" in f}
    assert [entry for bundle in tiles.all_entries(70_000) for entry in bundle] == ENTRIES
    assert (tmp_path / "tile/0/000").stat().st_size == 8192

    resumed = Tree.resume(70_000, tiles.tile, tiles.tile)
    assert resumed.root() == tree.root()
    assert resumed.inclusion(12_345) == tree.inclusion(12_345)


@given(steps=st.lists(st.integers(0, 700), min_size=1, max_size=6))
@settings(deadline=None, max_examples=25)
def test_growth_in_any_steps_leaves_every_checkpointed_tree_readable(
    tmp_path_factory: pytest.TempPathFactory, tree: Tree, steps: list[int]
) -> None:
    tiles = Tiles(tmp_path_factory.mktemp("log"))
    published = [0]
    for step in steps:
        tiles.publish(tree, published[-1], published[-1] + step, _read)
        published.append(published[-1] + step)
    for size in published:
        assert Tree.resume(size, tiles.tile, tiles.tile).root() == tree.root(size)
        assert sum(len(bundle) for bundle in tiles.all_entries(size)) == size
    once = Tiles(tmp_path_factory.mktemp("once"))
    once.publish(tree, 0, published[-1], _read)
    assert _files(once.folder) <= _files(tiles.folder)
    for name in _files(once.folder):
        assert (once.folder / name).read_bytes() == (tiles.folder / name).read_bytes()


def test_partial_tiles_go_when_the_full_tile_is_there(tree: Tree, tmp_path: Path) -> None:
    tiles = Tiles(tmp_path)
    tiles.publish(tree, 0, 3, _read)
    tiles.publish(tree, 3, 200, _read)
    assert {"tile/0/000.p/3", "tile/0/000.p/200", "tile/entries/000.p/3"} <= _files(tmp_path)
    tiles.publish(tree, 200, 256, _read)
    assert _files(tmp_path) == {"tile/0/000", "tile/entries/000", "tile/1/000.p/1"}
    assert tiles.tile(0, 0, 200) == tree.tile(0, 0, 200), "from the full tile"
    assert tiles.entries(0, 3) == ENTRIES[:3]


def test_damaged_files_are_refused(tree: Tree, tmp_path: Path) -> None:
    tiles = Tiles(tmp_path)
    tiles.publish(tree, 0, 300, _read)
    with pytest.raises(NotFoundError):
        tiles.tile(0, 2)
    with pytest.raises(NotFoundError):
        tiles.read_checkpoint()
    for name in ("tile/0/000", "tile/entries/000", "tile/0/001.p/44"):
        whole = (tmp_path / name).read_bytes()
        for changed in (whole[:-1], whole + b"\0", b""):
            (tmp_path / name).write_bytes(changed)
            with pytest.raises(FiduciaryError):
                if "entries" in name:
                    tiles.entries(0)
                else:
                    tiles.tile(0, int("001" in name), 44 if "001" in name else 256)
        (tmp_path / name).write_bytes(whole)
    flipped = bytearray((tmp_path / "tile/0/000").read_bytes())
    flipped[100] ^= 1
    (tmp_path / "tile/0/000").write_bytes(flipped)
    resumed = Tree.resume(300, tiles.tile, tiles.tile)
    assert resumed.root() == tree.root(300), "the right edge does not need that tile"
    with pytest.raises(IntegrityError, match="tile 0/0"):
        resumed.inclusion(5)


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_bundles(entries: list[bytes]) -> None:
    data = encode_bundle(entries)
    assert decode_bundle(data, len(entries)) == entries
    for wrong in (data[:-1], data + b"\0", data + b"\0\0"):
        if wrong != data:
            with pytest.raises(IntegrityError):
                decode_bundle(wrong, len(entries))


def test_bundle_limits() -> None:
    assert len(encode_bundle([b"x" * 65_535])) == 65_537
    with pytest.raises(LimitError, match="65535"):
        encode_bundle([b"x" * 65_536])
    with pytest.raises(LimitError, match="256"):
        encode_bundle([b""] * 257)


def test_proof_text_there_and_back(tree: Tree) -> None:
    size = 69_000
    checkpoint = sign_checkpoint(
        Checkpoint(ORIGIN, size, tree.root(size)), (LOG, LOG_PQ, WITNESS), 1_700_000_000
    )
    for index in (0, 255, 256, 12_345, size - 1):
        proof = Proof.of(tree, index, checkpoint, size)
        text = proof.encode()
        assert text.startswith(b"c2sp.org/tlog-proof@v1\nindex %d\n" % index)
        assert Proof.parse(text) == proof
        found = Proof.parse(text).verify(ENTRIES[index], ORIGIN, KEYS, [WITNESS.verifier], quorum=1)
        assert found.size == size
        for entry, origin, keys, quorum in (
            (ENTRIES[index] + b"x", ORIGIN, KEYS, 0),
            (ENTRIES[index], "acme.eu/gate-1", KEYS, 0),
            (
                ENTRIES[index],
                ORIGIN,
                [WITNESS.verifier, Signer.generate("other", KeyType.ED25519).verifier],
                0,
            ),
            (ENTRIES[index], ORIGIN, KEYS, 2),
        ):
            with pytest.raises(IntegrityError):
                Proof.parse(text).verify(entry, origin, keys, [WITNESS.verifier], quorum)
    extra = Proof(0, (), checkpoint, b"for the application")
    assert Proof.parse(extra.encode()) == extra


def test_a_changed_proof_text_is_refused(tree: Tree) -> None:
    checkpoint = sign_checkpoint(Checkpoint(ORIGIN, 1000, tree.root(1000)), (LOG,), 1_700_000_000)
    text = Proof.of(tree, 700, checkpoint, 1000).encode()
    for at in range(len(text)):
        changed = bytearray(text)
        changed[at] ^= 1
        with pytest.raises(FiduciaryError):
            Proof.parse(bytes(changed)).verify(ENTRIES[700], ORIGIN, [LOG.verifier])


def test_proof_texts_that_are_refused() -> None:
    good = Proof(3, (leaf_hash(b""),) * 2, b"x\n\n").encode()
    for wrong in (
        b"",
        good.replace(b"@v1", b"@v2"),
        good.replace(b"index 3", b"index 03"),
        good.replace(b"index 3\n", b""),
        good.replace(b"index 3", b"extra \nindex 3"),
        good.replace(b"index 3", b"extra AB==\nindex 3"),
        good.replace(b"\n\n", b"\n"),
        good.replace(b"index 3", b"index 3\nAAAA"),
        good.replace(b"index 3", b"index 3\n" + b"\n".join([b"A" * 43 + b"="] * 62)),
        good + b"x" * 2_000_000,
    ):
        with pytest.raises(FiduciaryError):
            Proof.parse(wrong)
    with pytest.raises(LimitError):
        Proof(0, (), b"", b"x" * (MAX_EXTRA_BYTES + 1)).encode()
