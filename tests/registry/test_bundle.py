"""Bundles: what is written is what is read, and nothing else may lie in the folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bank import USE_CASE, contract, rows, scorecard
from fiduciary.errors import FiduciaryError, LimitError, ModelError, ReleaseError
from fiduciary.identity import PartyKey
from fiduciary.registry import _bundle as bundles
from fiduciary.registry import build, canonical, read_bundle, sign
from fiduciary.registry._bundle import MANIFEST, check_path, digest_hex, make_manifest, read_manifest


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    scorecard().save(folder / "model")
    return build(folder / "out", folder / "model", contract(), USE_CASE, rows(), name="card", version="1")


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    target = tmp_path / built.name
    shutil.copytree(built, target)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


def test_the_same_inputs_give_the_same_digest(built: Path, tmp_path: Path) -> None:
    scorecard().save(tmp_path / "elsewhere")
    again = build(tmp_path, tmp_path / "elsewhere", contract(), USE_CASE, rows(), name="card", version="1")
    assert again.name == built.name
    assert read_bundle(again) == read_bundle(built)


def test_the_folder_is_named_by_the_digest_of_the_manifest(built: Path) -> None:
    bundle = read_bundle(built)
    assert bundle.digest == "sha256:" + built.name
    assert read_bundle(built, bundle.digest).manifest.name == "card"


def test_building_again_over_a_bundle_verifies_it(built: Path, tmp_path: Path) -> None:
    scorecard().save(tmp_path / "m")
    arguments = (tmp_path / "out", tmp_path / "m", contract(), USE_CASE, rows())
    first = build(*arguments, name="card", version="2")
    assert build(*arguments, name="card", version="2") == first
    (first / "card.md").chmod(0o644)
    (first / "card.md").write_text("another")
    with pytest.raises(ReleaseError):
        build(*arguments, name="card", version="2")


def test_every_changed_byte_is_found(copy: Path) -> None:
    listed = [path for path in copy.rglob("*") if path.is_file()]
    assert len(listed) == 10
    for path in listed:
        raw = bytearray(path.read_bytes())
        for position in {0, len(raw) // 2, len(raw) - 1}:
            raw[position] ^= 1
            path.write_bytes(raw)
            with pytest.raises(FiduciaryError):
                read_bundle(copy, "sha256:" + copy.name)
            raw[position] ^= 1
        path.write_bytes(raw)
    read_bundle(copy, "sha256:" + copy.name)


def test_a_file_more_or_less_is_found(copy: Path) -> None:
    (copy / "model" / "extra.bin").write_bytes(b"")
    with pytest.raises(ReleaseError, match="does not list"):
        read_bundle(copy)
    (copy / "model" / "extra.bin").unlink()
    (copy / "hidden").mkdir()
    with pytest.raises(ReleaseError, match="does not list"):
        read_bundle(copy)
    (copy / "hidden").rmdir()
    read_bundle(copy)
    (copy / "card.md").unlink()
    with pytest.raises(ReleaseError):
        read_bundle(copy)


@pytest.mark.parametrize("what", ["file", "folder", "signatures", "manifest", "top"])
def test_links_are_refused_even_to_the_right_bytes(copy: Path, tmp_path: Path, what: str) -> None:
    aside = tmp_path / "aside"
    target = {
        "file": copy / "card.md",
        "folder": copy / "model",
        "signatures": copy / "signatures",
        "manifest": copy / MANIFEST,
        "top": copy,
    }[what]
    if what == "signatures":
        aside.mkdir()
    else:
        target.rename(aside)
    target.symlink_to(aside)
    with pytest.raises(ReleaseError):
        read_bundle(copy)


def test_a_named_pipe_does_not_hang_the_reader(copy: Path) -> None:
    (copy / "card.md").unlink()
    os.mkfifo(copy / "card.md")
    with pytest.raises(ReleaseError):
        read_bundle(copy)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        ".hidden",
        "a/.hidden",
        "a\\b",
        "a b",
        "a\x00b",
        "\u00e9",
        "con:x",
        "manifest.json",
        "signatures/x",
        "a/b/c/d/e/f/g",
        "x" * 101,
        "~root",
        "-rf",
        "C:",
    ],
)
def test_paths_that_lead_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(ReleaseError):
        check_path(path)


@given(st.text(max_size=30))
def test_an_accepted_path_stays_inside(path: str) -> None:
    try:
        check_path(path)
    except ReleaseError:
        return
    inside = os.path.normpath(os.path.join("/top", path))
    assert inside == "/top/" + path


def good_files() -> dict[str, bytes]:
    return dict.fromkeys(bundles.REQUIRED, b"{}")


def test_a_manifest_must_be_canonical() -> None:
    _, raw = make_manifest(name="a", version="1", use_case="u", family="scorecard", files=good_files())
    assert read_manifest(raw).name == "a"
    for other in (raw + b"\n", raw.replace(b'":', b'": ', 1), raw.replace(b'"size":2', b'"size":2.0')):
        with pytest.raises(ReleaseError):
            read_manifest(other)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "fiduciary.release/2"},
        {"name": "Upper"},
        {"name": ""},
        {"version": "x" * 64},
        {"surprise": 1},
        {"files": {"../x": {"sha256": "0" * 64, "size": 1}}},
        {"files": {}},
    ],
)
def test_a_manifest_that_says_something_else_is_refused(change: dict[str, object]) -> None:
    _, raw = make_manifest(name="a", version="1", use_case="u", family="scorecard", files=good_files())
    document = bundles.parse(raw, "it", 1 << 20)
    with pytest.raises(ReleaseError):
        read_manifest(canonical({**document, **change}))


def test_limits_on_count_and_size() -> None:
    many = {f"model/f{i}": b"" for i in range(bundles.MAX_FILES)}
    with pytest.raises(LimitError):
        make_manifest(name="a", version="1", use_case="u", family="x", files={**good_files(), **many})
    _, raw = make_manifest(name="a", version="1", use_case="u", family="x", files=good_files())
    document = bundles.parse(raw, "it", 1 << 20)
    document["files"]["card.md"]["size"] = bundles.MAX_FILE_BYTES + 1
    with pytest.raises(LimitError):
        read_manifest(canonical(document))
    document["files"]["card.md"]["size"] = -1
    with pytest.raises(LimitError):
        read_manifest(canonical(document))


def test_names_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(ReleaseError, match="case"):
        make_manifest(
            name="a",
            version="1",
            use_case="u",
            family="x",
            files={**good_files(), "model/A": b"", "model/a": b""},
        )


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "sha256:",
        "sha256:" + "0" * 63,
        "sha256:" + "A" * 64,
        "md5:" + "0" * 64,
        "sha256:../../../../etc",
        "0" * 64,
    ],
)
def test_a_digest_is_never_a_path(digest: str) -> None:
    with pytest.raises(ReleaseError):
        digest_hex(digest)


def test_pickles_and_links_never_enter_a_bundle(tmp_path: Path) -> None:
    scorecard().save(tmp_path / "m")
    (tmp_path / "m" / "extra.pkl").write_bytes(b"\x80\x04N.")
    arguments = (tmp_path / "out", tmp_path / "m", contract(), USE_CASE, rows())
    with pytest.raises(ModelError, match="pickle"):
        build(*arguments, name="card", version="1")
    (tmp_path / "m" / "extra.pkl").unlink()
    (tmp_path / "m" / "link").symlink_to("/etc/passwd")
    with pytest.raises(ModelError, match="link"):
        build(*arguments, name="card", version="1")


def test_signatures_stand_beside_the_listed_files(copy: Path) -> None:
    first, second = PartyKey.generate(), PartyKey.generate()
    before = read_bundle(copy).digest
    sign(copy, first)
    sign(copy, first)
    sign(copy, second)
    bundle = read_bundle(copy)
    assert bundle.digest == before
    assert set(bundle.signatures) == {first.key_id, second.key_id}
    (copy / "signatures" / "notes.txt").write_text("x")
    with pytest.raises(ReleaseError, match="signature file"):
        read_bundle(copy)


def test_a_cut_off_that_approves_nobody_is_refused_at_build(tmp_path: Path) -> None:
    import msgspec

    scorecard().save(tmp_path / "m")
    strict = msgspec.structs.replace(USE_CASE, approve_below=0.0)
    with pytest.raises(ReleaseError, match="approves none"):
        build(tmp_path / "out", tmp_path / "m", contract(), strict, rows(), name="card", version="1")
