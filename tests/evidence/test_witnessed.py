"""An evidence folder says up to where a witness vouched for each log, and a key of that witness checks it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evidence_bank import LENDING, EvidenceBank
from fiduciary.config import Settings
from fiduciary.evidence import Scope, cut
from fiduciary.evidence import _verify_folder as offline
from fiduciary.ledger import Checkpoint, WitnessHome
from fiduciary.ledger._checkpoint import add_signatures
from fiduciary.ledger._keys import Signer


class Story:
    """A bank whose logs were cosigned in the middle, a folder cut at the end, and its witness."""

    def __init__(self, folder: Path) -> None:
        self.bank = bank = EvidenceBank(folder)
        bank.live()
        found = bank.decide(LENDING, "gate-0", 30)
        bank.ledger.heads()
        self.witness = WitnessHome(Settings(home=folder / "other", tenant="bravo", region="eu"))
        (folder / "other" / "keys").mkdir(parents=True)
        self.signers: tuple[Signer, ...] = self.witness.keys(create=True)
        ours = WitnessHome(bank.settings)
        ours.accept([signer.verifier.encode() for signer in self.signers])
        self.sizes = {}
        for log in ("control", "gate-0"):
            self.witness.trust(bank.ledger.keys(log).texts)
            ours.post(bank.ledger, log, self.witness.name, folder / "exchange")
            self.witness.serve(folder / "exchange", folder / "exchange")
            head = ours.collect(bank.ledger, log, self.witness.name, folder / "exchange")
            assert head is not None
            self.sizes[log] = head.size
        found += bank.decide(LENDING, "gate-0", 45)
        self.folder = folder / "evidence"
        scope = Scope("decisions", decisions=(found[3], found[50]))
        cut(bank.ledger, bank.registry, scope, self.folder, by="olga")

    @property
    def key(self) -> str:
        return self.signers[0].verifier.encode()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    made = Story(tmp_path_factory.mktemp("story"))
    made.bank.ledger.close()
    return made


@pytest.fixture
def folder(story: Story, tmp_path: Path) -> Path:
    return Path(shutil.copytree(story.folder, tmp_path / "folder"))


def seal(folder: Path) -> None:
    """List what lies in the folder now, as its maker can."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for path in folder.rglob("*.txt"):
        file = {"sha256": offline.file_digest(path), "size": path.stat().st_size}
        manifest["files"][path.relative_to(folder).as_posix()] = file
    manifest["files"] = {n: f for n, f in manifest["files"].items() if (folder / n).exists()}
    (folder / "manifest.json").write_text(offline.json_text(manifest))


def verdict(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = offline.main([str(folder), "--json", *words])
    return code, json.loads(capsys.readouterr().out)


def test_the_witnessed_size_and_time_are_told(story: Story) -> None:
    command = [sys.executable, "-I", str(story.folder / "verify.py"), "--json", "--witness-key", story.key]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["holds"]["cosignatures of the witnesses you named"] == 2
    notes = "\n".join(found["notes"])
    assert (
        f"log gate-0: bravo.eu/witness cosigned its first {story.sizes['gate-0']} of 75 records, 20" in notes
    )
    assert f"log control: bravo.eu/witness cosigned its first {story.sizes['control']} of " in notes


def test_without_a_witness_key_the_cosigned_head_must_still_be_a_beginning_of_the_log(
    story: Story, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict(folder, capsys)[0] == 0
    path = folder / "checkpoints" / "gate-0.cosigned.txt"
    other = Checkpoint(story.bank.ledger.origin("gate-0"), story.sizes["gate-0"], b"\x07" * 32)
    path.write_bytes(story.bank.ledger.keys("gate-0").sign(other.size, other.root, 1_800_000_000 * 10**9))
    seal(folder)
    code, found = verdict(folder, capsys)
    assert code == 1
    assert "cosigned head of log gate-0: the log is not the one of 30 records that was cosigned" in str(found)


def test_a_log_rewritten_with_its_own_keys_does_not_pass_the_witness(
    story: Story, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The maker of the folder holds the log's keys: what he cannot make is the cosignature on another history."""
    path = folder / "checkpoints" / "gate-0.cosigned.txt"
    whole = path.read_bytes()
    keys, current = story.bank.ledger.keys("gate-0"), folder / "checkpoints" / "gate-0.txt"
    _, size, root = offline.open_checkpoint(current.read_text(), keys.texts[0])
    path.write_bytes(keys.sign(size, root, 10**18))
    seal(folder)
    code, found = verdict(folder, capsys, "--witness-key", story.key)
    assert code == 1
    assert "it has no valid cosignature of bravo.eu/witness" in str(found["problems"])

    stolen = story.signers[0].sign(whole.decode().rpartition("\n\n")[0] + "\n", 1_700_000_000)
    path.write_bytes(add_signatures(keys.sign(size, root, 10**18), [stolen]))
    seal(folder)
    assert verdict(folder, capsys, "--witness-key", story.key)[0] == 1

    path.unlink()
    seal(folder)
    code, found = verdict(folder, capsys, "--witness-key", story.key)
    assert code == 1
    assert "log gate-0: the folder holds no head of it that a witness cosigned" in str(found["problems"])


def test_a_changed_time_and_a_wrong_key_are_refused(
    story: Story, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "checkpoints" / "control.cosigned.txt"
    name = f"\u2014 {story.witness.name} "
    lines = path.read_text().split("\n")
    for at, line in enumerate(lines):
        if line.startswith(name):
            raw = bytearray(base64.b64decode(line.removeprefix(name)))
            raw[11] ^= 1  # the last byte of the time
            lines[at] = name + base64.b64encode(raw).decode()
    path.write_text("\n".join(lines))
    seal(folder)
    code, found = verdict(folder, capsys, "--witness-key", story.key)
    assert code == 1
    assert "cosigned head of log control: it has no valid cosignature" in str(found["problems"])
    for wrong in (story.signers[1].verifier.encode(), story.bank.ledger.keys("control").texts[0], "x"):
        code, found = verdict(folder, capsys, "--witness-key", wrong)
        assert code == 2
        assert "is not a witness key" in found["error"]
