"""A fresh bank with a rights desk for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rights_bank import RightsBank


@pytest.fixture(scope="session")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> RightsBank:
    """Made once; its ledger is closed."""
    made = RightsBank(tmp_path_factory.mktemp("pattern"))
    made.ledger.close()
    return made


@pytest.fixture
def bank(tmp_path: Path, pattern: RightsBank) -> Iterator[RightsBank]:
    made = pattern.copied(tmp_path)
    yield made
    made.ledger.close()
