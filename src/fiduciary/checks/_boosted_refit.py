"""Boosted trees under a penalty on the difference of mean margins between groups (see `_refits.py`).

The penalty enters through the gradient, so trees are grown against log-loss and disparity at once. The saved model is
an ordinary LightGBM file: it reads no group, and passes the import's checks like any other.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._groups import Grouping
from fiduciary.errors import MissingExtraError, ModelError
from fiduciary.models import Contract, import_lightgbm, probability

F64 = NDArray[np.float64]
EARLY_STOP = 30
OBJECTIVE = "objective=binary sigmoid:1"
LEAST_CURVATURE = 1e-6


def penalised_lightgbm(
    rows: F64,
    events: F64,
    contract: Contract,
    directory: Path,
    *,
    grouping: Grouping,
    strength: float,
    validation: tuple[F64, F64],
    rounds: int,
    depth: int,
    learning_rate: float,
    seed: int,
    minimum_rows: int = 30,
) -> None:
    """Train on rows (n, features), events (n,) and the rows' grouping; write a checked model directory.

    Stops early by log-loss on `validation`. Raises `MissingExtraError` without the `trees` extra, `ModelError` when
    there is nothing to learn from.
    """
    try:
        import lightgbm
    except ImportError:
        raise MissingExtraError("training LightGBM needs: pip install 'fiduciary[trees]'") from None
    if len(np.unique(events)) != 2:
        raise ModelError("the training rows need both outcomes, 0 and 1")
    share = float(events.mean())
    start = float(np.log(share / (1.0 - share)))
    sides = _sides(grouping, minimum_rows)
    n = len(events)

    def objective(margins: F64, _: Any) -> tuple[F64, F64]:
        score = probability(margins + start, "logit")
        gradient, curvature = score - events, np.maximum(score * (1.0 - score), LEAST_CURVATURE)
        for weight, side in sides:
            gap = float(side @ margins)
            gradient = gradient + strength * n * weight * gap * side
            # rows of a group move together: a diagonal that bounds the whole matrix, so that no step goes too far
            curvature = curvature + strength * n * weight * np.abs(side) * float(np.abs(side).sum())
        return gradient, curvature

    def loss(margins: F64, data: Any) -> tuple[str, float, bool]:
        shifted, wanted = margins + start, data.get_label()
        return "log-loss", float((np.logaddexp(0.0, shifted) - wanted * shifted).mean()), False

    features = contract.features
    categories = [i for i, feature in enumerate(features) if feature.type in ("category", "boolean")]
    names = [f"Column_{i}" for i in range(len(features))]
    told = {"feature_name": names, "categorical_feature": categories}
    train = lightgbm.Dataset(rows, events, **told)
    held = lightgbm.Dataset(*validation, reference=train, **told)
    parameters = {
        "objective": objective,
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
    stop = lightgbm.early_stopping(EARLY_STOP, verbose=False)
    booster = lightgbm.train(parameters, train, rounds, valid_sets=[held], feval=loss, callbacks=[stop])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.txt"
        text = booster.model_to_string(num_iteration=booster.best_iteration)
        file.write_text(_with_start(text, start), "utf-8")
        import_lightgbm(file, contract, directory, rows[:2_000])


def _sides(grouping: Grouping, minimum_rows: int) -> list[tuple[float, F64]]:
    """For each group with enough rows its share and the vector whose product with margins is its gap to the rest."""
    known = grouping.codes >= 0
    n = int(known.sum())
    sides = []
    for g, rows in enumerate(grouping.rows.tolist()):
        if minimum_rows <= rows < n:
            inside = grouping.codes == g
            sides.append((rows / n, np.where(inside, 1.0 / rows, np.where(known, -1.0 / (n - rows), 0.0))))
    return sides


def _with_start(text: str, start: float) -> str:
    """The saved model as one of log-odds: its objective named, the start added to the first tree's leaves."""
    lines = [line for line in text.split("\n") if not line.startswith(("objective=", "[objective:"))]
    lines.insert(_line(lines, "feature_names="), OBJECTIVE)
    place = _line(lines, "leaf_value=", lines.index("Tree=0"))
    leaves = lines[place].removeprefix("leaf_value=").split()
    shifted = "leaf_value=" + " ".join(repr(float(leaf) + start) for leaf in leaves)
    sizes_at = _line(lines, "tree_sizes=")
    sizes = lines[sizes_at].removeprefix("tree_sizes=").split()
    sizes[0] = str(int(sizes[0]) + len(shifted) - len(lines[place]))
    lines[sizes_at] = "tree_sizes=" + " ".join(sizes)
    lines[place] = shifted
    return "\n".join(lines)


def _line(lines: list[str], beginning: str, after: int = 0) -> int:
    return next(i for i in range(after, len(lines)) if lines[i].startswith(beginning))
