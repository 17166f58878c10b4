"""Fixtures for tree models: train one into a temporary folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import pytest

from tree_models import train_lightgbm


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., tuple[Path, lightgbm.Booster]]:
    def make(**params: Any) -> tuple[Path, lightgbm.Booster]:
        path = tmp_path / "model.txt"
        return path, train_lightgbm(path, **params)

    return make
