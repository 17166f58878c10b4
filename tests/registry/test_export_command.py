"""`fiduciary release export` signs a proposed release for tools of the OpenSSF format, and nothing else."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from bank import DEVELOPER, Bank
from fiduciary.cli import main
from fiduciary.identity import PartyKey
from fiduciary.registry import pae


def test_a_release_is_exported_under_a_party_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bank = Bank(tmp_path)
    home = bank.settings.home
    digest = bank.proposed()
    bank.ledger.close()
    (home / "fiduciary.toml").write_text('tenant = "acme"\nregion = "eu"\n')
    (home / "keys" / "parties").mkdir(mode=0o700)
    bank.key(DEVELOPER).save(home / "keys" / "parties" / f"{DEVELOPER}.key")
    out = tmp_path / "model.sig"

    def export(*words: str) -> int:
        with pytest.raises(SystemExit) as done:
            main(["--home", str(home), "release", "export", *words, "--out", str(out)])
        return int(done.value.code or 0)

    assert export("credit-scorecard@1.0.0", "--key", "nobody") == 5
    assert not out.exists()
    assert export("credit-scorecard@1.0.0", "--key", DEVELOPER) == 0
    envelope = json.loads(out.read_bytes())["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    assert PartyKey.verify(bank.key(DEVELOPER).public, signature, pae(envelope["payloadType"], payload))
    statement = json.loads(payload)
    resources = {r["name"]: r["digest"] for r in statement["predicate"]["resources"]}
    assert f"sha256:{resources['manifest.json']}" == digest
    assert export("credit-scorecard@1.0.0", "--key", DEVELOPER) == 2, "nothing is overwritten"
    folder = bank.registry.release_dir(digest)
    (folder / "card.md").chmod(0o644)
    (folder / "card.md").write_text("changed")
    out.unlink()
    assert export("credit-scorecard@1.0.0", "--key", DEVELOPER) == 11
    assert not out.exists()
    assert "Traceback" not in capsys.readouterr().err
