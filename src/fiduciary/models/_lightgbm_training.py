"""Train a LightGBM classifier under a contract: its categories, its missing values, its monotone directions."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import MissingExtraError, ModelError
from fiduciary.models._contract import Contract

F64 = NDArray[np.float64]
EARLY_STOP = 50
"""Rounds without a better validation log-loss after which training stops."""


def train_lightgbm(
    rows: F64,
    events: F64,
    contract: Contract,
    directory: Path | str,
    *,
    validation: tuple[F64, F64],
    rounds: int = 500,
    depth: int = 6,
    learning_rate: float = 0.05,
    seed: int = 0,
) -> int:
    """Train on rows (n, features) and events (n,), stop early on `validation`, write a checked model directory.

    Returns the number of trees. One thread and a fixed seed: the same input gives the same file. Raises
    `MissingExtraError` without the `trees` extra, `ModelError` when there is nothing to learn from.
    """
    try:
        import lightgbm
    except ImportError:
        raise MissingExtraError("training LightGBM needs: pip install 'fiduciary[trees]'") from None
    from fiduciary.models._lightgbm import import_lightgbm

    if len(np.unique(events)) != 2:
        raise ModelError("the training rows need both outcomes, 0 and 1")
    features = contract.features
    parameters = {
        "objective": "binary",
        "max_depth": depth,
        "num_leaves": min(2**depth - 1, 31),
        "learning_rate": learning_rate,
        "min_data_in_leaf": 20,
        "lambda_l2": 1.0,
        "monotone_constraints": [feature.monotone for feature in features],
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": seed,
        "verbosity": -1,
    }
    categories = [i for i, feature in enumerate(features) if feature.type in ("category", "boolean")]
    names = [
        f"Column_{i}" for i in range(len(features))
    ]  # any text may be a feature's name; not so in LightGBM
    train = lightgbm.Dataset(rows, events, feature_name=names, categorical_feature=categories)
    held = lightgbm.Dataset(*validation, reference=train, feature_name=names, categorical_feature=categories)
    stop = lightgbm.early_stopping(EARLY_STOP, verbose=False)
    booster = lightgbm.train(parameters, train, rounds, valid_sets=[held], callbacks=[stop])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.txt"
        booster.save_model(str(file), num_iteration=booster.best_iteration)
        text = file.read_text("utf-8")
        for line in (
            "[data_filename",
            "[machine",
        ):  # nothing of the machine that trained it goes into the file
            text = "\n".join(kept for kept in text.split("\n") if not kept.startswith(line))
        file.write_text(text, "utf-8")
        import_lightgbm(file, contract, directory, rows[:2_000])
    return int(booster.best_iteration or booster.num_trees())
