"""The workload every server gets: one LightGBM model (30 features, 200 trees, depth 6) and the rows sent.

Synthetic and seeded, so a fresh clone makes the same model. Rows are rounded to five decimals, so that every
server reads exactly the same numbers from its own JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FEATURES, TREES, DEPTH = 30, 200, 6
POPULATION = 20_000
SENT = 2_048
"""Different rows (and applicants) sent in turn: no server may live off a cache of answers."""


class Workload(NamedTuple):
    """The model file, its population, and the rows to send with the scores they must get."""

    model: Path
    names: list[str]
    population: NDArray[np.float64]
    """float64[20000, 30]: what the model was trained on."""
    labels: NDArray[np.int64]
    rows: NDArray[np.float64]
    """float64[2048, 30]: what is sent, one row a request."""
    scores: NDArray[np.float64]
    """float64[2048]: LightGBM's own probability for each sent row."""
    leaves: int


def workload(folder: Path) -> Workload:
    """Train the model into `folder` (or read it back if it is there)."""
    import lightgbm
    from sklearn.datasets import make_classification  # type: ignore[import-untyped]

    folder.mkdir(parents=True, exist_ok=True)
    names = [f"f{i:02d}" for i in range(FEATURES)]
    x, y = make_classification(n_samples=POPULATION, n_features=FEATURES, n_informative=18, random_state=7)
    x = np.round(x, 5)
    path = folder / "model.txt"
    if not path.exists():
        params = {
            "objective": "binary",
            "num_leaves": 63,
            "max_depth": DEPTH,
            "learning_rate": 0.05,
            "seed": 7,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbose": -1,
        }
        data = lightgbm.Dataset(x, y, feature_name=names)
        lightgbm.train(params, data, TREES).save_model(str(path))
    booster = lightgbm.Booster(model_file=str(path))
    leaves = sum(tree["num_leaves"] for tree in booster.dump_model()["tree_info"])
    if booster.num_trees() != TREES or booster.num_feature() != FEATURES:
        raise SystemExit(f"{path} is not the benchmark's model: remove {folder} and start again")
    rows = x[:SENT]
    return Workload(path, names, x, y, rows, booster.predict(rows, num_threads=1), leaves)


def write_bodies(path: Path, bodies: list[bytes]) -> Path:
    """One JSON body a line, as the load generator reads them."""
    if any(b"\n" in body for body in bodies):
        raise ValueError("a body must fit one line")
    path.write_bytes(b"\n".join(bodies) + b"\n")
    return path


def v2_body(row: NDArray[np.float64]) -> bytes:
    """Open Inference Protocol V2: one tensor of one row."""
    tensor = {"name": "x", "shape": [1, len(row)], "datatype": "FP64", "data": row.tolist()}
    return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()


def mlflow_body(row: NDArray[np.float64]) -> bytes:
    """MLflow's scoring protocol: one row in TensorFlow-serving style."""
    return json.dumps({"inputs": [row.tolist()]}, separators=(",", ":")).encode()


def list_body(row: NDArray[np.float64]) -> bytes:
    """What a service written by hand takes: a list of numbers."""
    return json.dumps({"x": row.tolist()}, separators=(",", ":")).encode()
