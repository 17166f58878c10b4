"""`fiduciary worker`, where no environment has been built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fiduciary.cli import main


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    said = capsys.readouterr()
    assert ended.value.code == code, said.out + said.err
    assert "Traceback" not in said.out + said.err
    return said.out + said.err


@pytest.fixture(autouse=True)
def nothing_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FIDUCIARY_WORKERS__FOLDER", str(tmp_path / "workers"))


def test_list_says_that_nothing_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "--json", "worker", "list"))
    assert {state["engine"] for state in found} == {"spu", "tenseal", "openfhe"}
    assert not any(state["state"] == "ready" for state in found)


def test_check_says_how_to_build_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert "fiduciary worker create spu" in run(capsys, "worker", "check", "spu", code=14)


def test_create_refuses_an_interpreter_that_is_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = run(capsys, "worker", "create", "openfhe", "--python", str(tmp_path / "nowhere"), code=2)
    assert "nowhere" in said
