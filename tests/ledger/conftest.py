"""A fresh small ledger for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fiduciary.config import Settings
from fiduciary.ledger import Ledger
from ledger_home import small_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return small_settings(tmp_path / "home")


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    with Ledger.create(settings) as opened:
        yield opened
