"""What every model family offers: a margin on an additive scale, and its exact split over the features.

For the logit link the margin is the log-odds of the target; for the identity link it is the value itself.
`explain` splits it so that bias + sum of contributions = margin (to 1e-9, tests/models/test_scorers.py), and
the bits of a row never depend on the rows beside it, so that a batch, a single request and a replay agree.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any, Literal, Protocol, overload, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import ModelError
from fiduciary.models._contract import Contract
from fiduciary.models._logistic import logistic, logistic_array

F64 = NDArray[np.float64]
Link = Literal["logit", "identity"]

MODEL_FILE = "model.json"
MAX_SPEC_BYTES = 1 << 20

FAMILIES = {
    "scorecard": "fiduciary.models._scorecard",
    "additive": "fiduciary.models._additive",
    "lightgbm": "fiduciary.models._lightgbm",
    "xgboost": "fiduciary.models._xgboost",
    "linear": "fiduciary.models._linear",
    "onnx": "fiduciary.models._onnx",
}
"""Family -> module with `load(directory, spec, contract) -> Scorer`. No other family can be served."""

PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".sav"})


@runtime_checkable
class Scorer(Protocol):
    """A loaded model. `rows` is float64 (n, features) in contract order, missing values are NaN."""

    family: str
    link: Link
    features: int
    bias: float
    """The margin when no feature contributes."""

    def score(self, rows: F64) -> F64:
        """Margins, shape (n,)."""
        ...

    def explain(self, rows: F64) -> tuple[F64, F64]:
        """Margins (n,) and contributions (n, features); the margins are bit for bit those of `score`."""
        ...


@overload
def probability(margin: float, link: Link) -> float: ...
@overload
def probability(margin: F64, link: Link) -> F64: ...
def probability(margin: float | F64, link: Link) -> float | F64:
    """The score that is compared with cut-offs: 1 / (1 + exp(-margin)) for logit, the margin for identity.

    A number and an array give the same bits (tests/decision/test_logistic.py).
    """
    if link == "identity":
        return margin
    if isinstance(margin, np.ndarray):
        return logistic_array(margin)
    return logistic(margin)


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Mean margin and mean contributions over the approved population, pinned in the release.

    Reasons are differences to it: margin - baseline.margin = sum of (contributions - baseline.contributions).
    """

    margin: float
    contributions: list[float]
    rows: int
    """How many rows the means were taken over."""
    description: str = ""
    """Which population, in words."""


def baseline_of(scorer: Scorer, rows: F64, description: str = "", *, chunk: int = 8_192) -> Baseline:
    """The baseline over a population: rows (n, features), n >= 1. Raises `ModelError` when it is empty.

    Means are correctly rounded sums (`math.fsum`) divided by n, so they do not depend on the order of rows.
    """
    n = len(rows)
    if n == 0:
        raise ModelError("a baseline needs at least one row of the approved population")
    margins: list[float] = []
    columns: list[list[float]] = [[] for _ in range(scorer.features)]
    for start in range(0, n, chunk):
        margin, contributions = scorer.explain(rows[start : start + chunk])
        margins.extend(margin.tolist())
        for column, values in zip(columns, contributions.T.tolist(), strict=True):
            column.extend(values)
    means = [math.fsum(column) / n for column in columns]
    mean = math.fsum(margins) / n
    if not all(map(math.isfinite, [mean, *means])):
        raise ModelError("the model gives a margin that is not finite on the approved population")
    return Baseline(margin=mean, contributions=means, rows=n, description=description)


def read_spec(directory: Path) -> dict[str, Any]:
    """`model.json` of a model directory. Raises `ModelError` when absent, too large or of no known family."""
    path = directory / MODEL_FILE
    try:
        if path.stat().st_size > MAX_SPEC_BYTES:
            raise ModelError(f"{MODEL_FILE} is larger than {MAX_SPEC_BYTES} bytes")
        spec = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"the model directory has no {MODEL_FILE}") from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelError(f"{MODEL_FILE} cannot be read as JSON") from None
    family = spec.get("family") if isinstance(spec, dict) else None
    if not isinstance(family, str) or family not in FAMILIES:
        raise ModelError(f"{MODEL_FILE} names no known family; known are {', '.join(FAMILIES)}")
    return dict(spec)


def load_scorer(directory: Path | str, contract: Contract) -> Scorer:
    """Load the model of a directory that holds `model.json` and the family's files.

    Raises `ModelError` when the files are absent, damaged, contradict the contract, or need a package that
    is not installed. Pickle is never read.
    """
    directory = Path(directory)
    spec = read_spec(directory)
    module = importlib.import_module(FAMILIES[spec["family"]])
    scorer: Scorer = module.load(directory, spec, contract)
    if scorer.features != len(contract.features):
        raise ModelError(
            f"the model reads {scorer.features} features, the contract names {len(contract.features)}"
        )
    return scorer


def refuse_pickle(path: Path | str) -> None:
    """Raise `ModelError` when a file is a pickle, by its name or by its first bytes.

    Loading a pickle runs whatever code it holds; no check of its content can make that safe.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except IsADirectoryError:
        return
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}") from None
    by_content = len(head) >= 2 and head[0] == 0x80 and head[1] <= 5  # PROTO opcode, protocol 2 and later
    if path.suffix.lower() in PICKLE_SUFFIXES or by_content:
        raise ModelError(
            f"{path.name} is a pickle, and loading a pickle runs the code it holds. Save the model in its "
            "own format instead: LightGBM save_model('model.txt'), XGBoost save_model('model.ubj'), "
            "scikit-learn through skl2onnx as 'model.onnx', interpret to_json('model.json')"
        )
