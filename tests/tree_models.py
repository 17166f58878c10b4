"""Small trained models of many kinds, and contracts for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from fiduciary.models import Contract, Feature


def contract_of(features: int, **changes: Any) -> Contract:
    return Contract(
        features=tuple(
            Feature(name=f"f{i}", type="number", missing="allowed", **changes) for i in range(features)
        )
    )


def messy_rows(
    rows: int, features: int, seed: int, *, zeros: float = 0.1, missing: float = 0.1
) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, features))
    x[:, 0] = random.integers(0, 40, rows)
    x[:, 1] = np.round(x[:, 1], 1)
    x[random.random(x.shape) < zeros] = 0.0
    x[random.random(x.shape) < missing] = np.nan
    return x


def train_lightgbm(
    path: Path, rounds: int = 30, x: np.ndarray | None = None, **params: Any
) -> lightgbm.Booster:
    x = messy_rows(3_000, 8, 5) if x is None else x
    clean = np.nan_to_num(x)
    noise = np.random.default_rng(1).normal(size=len(x))
    signal = np.sin(clean[:, 0]) + clean[:, 1] * clean[:, 2] - np.isnan(x[:, 3]) + 0.3 * noise
    settings = {
        "objective": "binary",
        "verbose": -1,
        "num_threads": 1,
        "seed": 3,
        "deterministic": True,
    } | params
    target = signal if settings["objective"] != "binary" else (signal > 0).astype(float)
    categorical = settings.pop("categorical_feature", "auto")
    data = lightgbm.Dataset(x, target, categorical_feature=categorical, params=settings)
    booster = lightgbm.train(settings, data, rounds)
    booster.save_model(str(path))
    return booster
