"""One bank with a past for all tests here, and folders cut from it once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from evidence_bank import Past


@pytest.fixture(scope="session")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    made = Past(tmp_path_factory.mktemp("past"))
    yield made
    made.bank.ledger.close()


@pytest.fixture(scope="session")
def whole_folder(past: Past, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All lending decisions of the period; not to be changed."""
    return past.cut(tmp_path_factory.mktemp("cut") / "period")


@pytest.fixture
def folder(whole_folder: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(whole_folder, tmp_path / "folder"))
