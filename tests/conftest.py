"""Fixtures shared by all tests: where real data lives, and a fresh home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_data_dir() -> Path | None:
    """The folder of real data sets, if this machine has one (FIDUCIARY_SHARED_DATA or ../shared/data)."""
    for candidate in (os.environ.get("FIDUCIARY_SHARED_DATA"), ROOT.parent / "shared" / "data"):
        if candidate and Path(candidate).is_dir():
            return Path(candidate)
    return None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets; the test is skipped where there is none."""
    found = shared_data_dir()
    if found is None:
        pytest.skip("no real data here: set FIDUCIARY_SHARED_DATA to the folder of data sets")
    return found
