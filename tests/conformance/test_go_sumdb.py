"""The Go project's own log packages (golang.org/x/mod/sumdb) read, prove and doubt logs written here."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fiduciary.ledger._checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from fiduciary.ledger._keys import KeyType, Signer
from fiduciary.ledger._merkle import Tree, leaf_hashes
from fiduciary.ledger._proof import Proof
from fiduciary.ledger._tiles import Tiles

SOURCE = Path(__file__).parent / "go"
GOPATH = Path("/usr/share/gocode")
ORIGIN = "acme.eu/gate-0"
LOG = Signer(ORIGIN, KeyType.ED25519, b"\x01" * 32)
SIGNERS = (
    LOG,
    Signer(ORIGIN, KeyType.COSIGN_ML_DSA_44, b"\x02" * 32),
    Signer("witness.example/w1", KeyType.COSIGN_ED25519, b"\x03" * 32),
)
ENTRIES = [b"decision %d " % index * (index % 7) for index in range(70_000)]
NOW = 1_700_000_000


@pytest.fixture(scope="module")
def logcheck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program, built against the packages' own source; skipped where there is no Go."""
    if shutil.which("go") is None or not (GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.skip("needs Go and golang.org/x/mod: apt-get install golang-go golang-golang-x-mod-dev")
    binary = tmp_path_factory.mktemp("go") / "logcheck"
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": str(GOPATH),
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    environment.setdefault("GOCACHE", str(tmp_path_factory.mktemp("gocache")))
    subprocess.run(["go", "build", "-o", binary, "."], cwd=SOURCE, env=environment, check=True)
    return binary


@pytest.fixture(scope="module")
def tree() -> Tree:
    tree = Tree()
    tree.append_many(leaf_hashes(ENTRIES))
    return tree


def _write(folder: Path, tree: Tree, size: int) -> Tiles:
    tiles = Tiles(folder)
    half = size // 2
    tiles.publish(tree, 0, half, lambda start, end: ENTRIES[start:end])
    tiles.publish(tree, half, size, lambda start, end: ENTRIES[start:end])
    tiles.write_checkpoint(sign_checkpoint(Checkpoint(ORIGIN, size, tree.root(size)), SIGNERS, NOW))
    return tiles


def _verify(logcheck: Path, folder: Path, origin: str = ORIGIN) -> subprocess.CompletedProcess[str]:
    command = [logcheck, "verify", folder, origin, LOG.verifier.encode()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 1000, 65_536, 70_000])
def test_go_verifies_our_log(logcheck: Path, tree: Tree, tmp_path: Path, size: int) -> None:
    _write(tmp_path, tree, size)
    result = _verify(logcheck, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{size} {base64.b64encode(tree.root(size)).decode()}\n"
    assert _verify(logcheck, tmp_path, "acme.us/gate-0").returncode != 0


def test_go_refuses_our_log_with_any_file_changed(logcheck: Path, tree: Tree, tmp_path: Path) -> None:
    """One bit in every file that belongs to the signed tree, and every one of them missing."""
    size = 1000
    tiles = _write(tmp_path, tree, size)
    whole = Tiles(tmp_path / "once")
    whole.publish(tree, 0, size, lambda start, end: ENTRIES[start:end])
    needed = [path.relative_to(whole.folder) for path in whole.folder.rglob("*") if path.is_file()]
    shutil.rmtree(whole.folder)
    assert len(needed) == 9
    for name in (*needed, Path("checkpoint")):
        path = tiles.folder / name
        data = path.read_bytes()
        # In the checkpoint, only the text and the log's own line: cosignatures are not known to Go's reader.
        end = data.index(b"\n", data.index(b"\n\n") + 2) if name.name == "checkpoint" else len(data)
        for at in (0, end // 2, end - 1):
            changed = bytearray(data)
            changed[at] ^= 1
            path.write_bytes(changed)
            assert _verify(logcheck, tmp_path).returncode != 0, f"{name} changed at {at}"
        path.unlink()
        assert _verify(logcheck, tmp_path).returncode != 0, f"{name} missing"
        path.write_bytes(data)
    assert _verify(logcheck, tmp_path).returncode == 0


def test_go_checks_our_proof_texts(logcheck: Path, tree: Tree, tmp_path: Path) -> None:
    size = 69_999
    checkpoint = sign_checkpoint(Checkpoint(ORIGIN, size, tree.root(size)), SIGNERS, NOW)
    proof, entry = tmp_path / "x.tlog-proof", tmp_path / "entry"
    for index in (0, 255, 256, 40_000, size - 1):
        proof.write_bytes(Proof.of(tree, index, checkpoint, size).encode())
        for content, holds in ((ENTRIES[index], True), (ENTRIES[index] + b"!", False)):
            entry.write_bytes(content)
            command = [logcheck, "proof", proof, entry, LOG.verifier.encode()]
            assert (subprocess.run(command, capture_output=True, check=False).returncode == 0) is holds


def test_we_open_what_go_signs_with_our_key_file(logcheck: Path) -> None:
    head = Checkpoint(ORIGIN, 7, bytes(range(32)))
    result = subprocess.run(
        [logcheck, "sign", LOG.encode()], input=head.text.encode(), capture_output=True, check=True
    )
    assert open_checkpoint(result.stdout, ORIGIN, [LOG.verifier]) == head
    assert result.stdout == sign_checkpoint(head, [LOG], NOW), "Ed25519 is deterministic: the same bytes"
