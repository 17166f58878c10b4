"""A fresh bank with a rights desk for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rights_bank import RightsBank


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[RightsBank]:
    made = RightsBank(tmp_path)
    yield made
    made.ledger.close()
