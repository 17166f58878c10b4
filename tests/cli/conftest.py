"""One home for the tests of commands, made by commands."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from desk import Desk, make_home, record_decisions


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a live scorecard and twelve decisions; not to be changed."""
    files = tmp_path_factory.mktemp("desk")
    out, err = io.StringIO(), io.StringIO()

    def capture() -> tuple[str, str]:
        said = out.getvalue(), err.getvalue()
        for stream in (out, err):
            stream.seek(0)
            stream.truncate()
        return said

    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        make_home(Desk(files, capture))
    record_decisions(files / "home")
    yield files


@pytest.fixture
def desk(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    """A copy of it to work in."""
    files = Path(shutil.copytree(made, tmp_path / "desk"))
    return Desk(files, lambda: tuple(capsys.readouterr()))  # type: ignore[arg-type, return-value]
