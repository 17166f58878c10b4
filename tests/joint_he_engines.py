"""Where the engines' environments are, when this run has them (`make test-joint-he` builds them)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest


def engine(name: str) -> Path:
    """The interpreter of a worker environment; the test is skipped where there is none."""
    python = Path(os.environ.get("FIDUCIARY_HE_WORKERS", "/nowhere")) / f"worker-{name}" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no {name} environment here: make test-joint-he builds it")
    return python.absolute()


def table(n: int = 4_000, columns: int = 12, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, columns)) @ random.normal(size=(columns, columns)) * 3 + 5
    w = random.normal(size=columns) / np.sqrt(columns) / X.std(axis=0)
    return X, (random.random(n) < 1 / (1 + np.exp(-(X - X.mean(axis=0)) @ w))).astype(float)
