"""A punctured key is gone, everything else stays, and older copies of the vault stay shut."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.errors import ConflictError, GoneError, IntegrityError, LimitError, NotFoundError, UsageError
from fiduciary.ledger import Epoch, Vault
from fiduciary.ledger._vault import DEPTH, point_of


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.create(tmp_path / "vault", tmp_path / "keys" / "kek")


def reopen(vault: Vault) -> Vault:
    return Vault.open(vault._folder, vault._kek_path)


def opens(vault: Vault, pseudonym: bytes) -> bytes:
    return vault.key(pseudonym).encrypt(bytes(12), b"text", b"")


def test_pseudonyms_are_stable_keyed_and_differ(vault: Vault, tmp_path: Path) -> None:
    other = Vault.create(tmp_path / "other", tmp_path / "other-kek")
    assert vault.pseudonym("anna") == reopen(vault).pseudonym("anna")
    assert vault.pseudonym("anna") != vault.pseudonym("anna ")
    assert vault.pseudonym("anna") != other.pseudonym("anna")
    for wrong in ("", "x" * 1025):
        with pytest.raises(UsageError):
            vault.pseudonym(wrong)


def test_erasing_one_subject_leaves_all_others(vault: Vault) -> None:
    names = [f"person-{k}" for k in range(300)]
    pseudonyms = {name: vault.pseudonym(name) for name in names}
    before = {name: opens(vault, p) for name, p in pseudonyms.items()}
    gone = names[::7]
    for name in gone:
        assert vault.erase(point_of(pseudonyms[name])) == 1
        assert vault.erase(point_of(pseudonyms[name])) == 0
    for opened in (vault, reopen(vault)):
        for name in names:
            if name in gone:
                with pytest.raises(GoneError):
                    opened.key(pseudonyms[name])
            else:
                assert opens(opened, pseudonyms[name]) == before[name]
    assert vault.nodes <= 1 + 3 * DEPTH * len(gone)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6, unique=True), st.integers(0, 2**64 - 1))
def test_exactly_the_erased_points_are_not_covered(points: list[int], other: int) -> None:
    from array import array

    from fiduciary.ledger._vault import _State

    state = _State(bytes(32), array("Q", [0]), bytearray(1), bytearray(32))
    for point in points:
        assert state.puncture(point)
        assert not state.puncture(point)
    for point in [*points, other, *(p ^ 1 for p in points), *(p ^ (1 << 63) for p in points)]:
        assert (state.covering(point) is None) == (point in points)
    spans = sorted(zip(state.starts, state.depths, strict=True))
    covered = sum(1 << (2 * (DEPTH - depth)) for _, depth in spans)
    assert covered == 2**64 - len(points)


def test_an_erased_subject_who_comes_back_gets_another_pseudonym(vault: Vault) -> None:
    first = vault.pseudonym("anna")
    vault.erase(point_of(first))
    second = vault.pseudonym("anna")
    assert second != first
    assert vault.generations("anna") == [first, second]
    opens(vault, second)
    with pytest.raises(GoneError):
        vault.key(first)


def test_an_endlessly_erased_subject_meets_a_limit(vault: Vault) -> None:
    for _ in range(64):
        vault.erase(point_of(vault.pseudonym("anna")))
    with pytest.raises(LimitError):
        vault.pseudonym("anna")


def test_a_restored_vault_does_not_open(vault: Vault, tmp_path: Path) -> None:
    shutil.copytree(vault._folder, tmp_path / "backup")
    vault.erase(point_of(vault.pseudonym("anna")))
    shutil.rmtree(vault._folder)
    shutil.copytree(tmp_path / "backup", vault._folder)
    with pytest.raises(IntegrityError, match="older copy"):
        reopen(vault)


def test_the_old_key_is_nowhere_on_the_disk(vault: Vault, tmp_path: Path) -> None:
    old = vault._kek_path.read_bytes()
    vault.erase(point_of(vault.pseudonym("anna")))
    assert vault._kek_path.read_bytes() != old
    assert not any(old in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_any_flipped_bit_in_the_node_file_is_noticed(vault: Vault) -> None:
    path = vault._folder / "nodes"
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(IntegrityError):
            reopen(vault)


def test_a_missing_or_second_vault_is_refused(vault: Vault, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Vault.open(tmp_path / "nothing", tmp_path / "kek")
    with pytest.raises(ConflictError):
        Vault.create(vault._folder, tmp_path / "another-kek")


def test_another_process_follows_by_the_epoch(tmp_path: Path) -> None:
    epoch = Epoch(tmp_path / "epoch")
    one = Vault.create(tmp_path / "vault", tmp_path / "kek", epoch=epoch)
    two = Vault.open(tmp_path / "vault", tmp_path / "kek", epoch=Epoch(tmp_path / "epoch"))
    pseudonym = two.pseudonym("anna")
    opens(two, pseudonym)
    one.erase(point_of(pseudonym))
    epoch.bump()
    assert two.follow()
    with pytest.raises(GoneError):
        two.key(pseudonym)
    assert two.pseudonym("anna") == one.pseudonym("anna") != pseudonym


def test_the_epoch_counts_for_everybody(tmp_path: Path) -> None:
    one, two = Epoch(tmp_path / "epoch"), Epoch(tmp_path / "epoch")
    assert one.value == two.value == 0
    assert one.bump() == 1
    assert two.value == 1
    two.bump()
    assert one.value == 2
