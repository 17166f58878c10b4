"""Models that an attacker would fit: references, copies, and the bins of a scorecard read off its answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._sample import F64
from fiduciary.errors import MissingExtraError
from fiduciary.models import Contract
from fiduciary.models._scorer import Link

Predict = Callable[[F64], F64]
GRID = 64
"""Values of a column that are asked first; between two neighbours that differ the edge is halved."""
SAME = 1e-10
"""Log-odds closer than this are one bin."""
PRECISION = 1e-12
"""Of the spread of a column: how closely an edge is looked for."""


def fit_classifier(
    rows: F64, events: NDArray[np.bool_], contract: Contract | None, *, rounds: int, seed: int
) -> Predict:
    """Boosted trees on rows (n, features) and events (n,): predicts probabilities. Raises `MissingExtraError`."""
    return _fit("binary", rows, events.astype(np.float64), contract, rounds, seed)


def fit_regressor(
    rows: F64, values: F64, contract: Contract | None, *, rounds: int, seed: int = 0
) -> Predict:
    """Boosted trees on rows (n, features) and values (n,). Raises `MissingExtraError`."""
    return _fit("regression", rows, values, contract, rounds, seed)


def _fit(
    objective: str, rows: F64, target: F64, contract: Contract | None, rounds: int, seed: int
) -> Predict:
    try:
        import lightgbm
    except ImportError:
        raise MissingExtraError("fitting an attacker's model needs: pip install 'fiduciary[trees]'") from None
    features = contract.features if contract is not None else ()
    categories = [i for i, feature in enumerate(features) if feature.type in ("category", "boolean")]
    settings = {
        "objective": objective,
        "num_leaves": 31,
        "learning_rate": 0.06,
        "min_data_in_leaf": max(min(20, len(rows) // 20), 1),
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": seed,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(rows, target, categorical_feature=categories, params=settings)
    booster = lightgbm.train(settings, data, rounds)

    def predict(wanted: F64) -> F64:
        found: F64 = np.asarray(booster.predict(wanted, num_threads=1), dtype=np.float64)
        return found

    return predict


class Recovered(msgspec.Struct, frozen=True, eq=False):
    """A scorecard rebuilt from answers: per feature, edges and what each bin adds to the margin of one base row."""

    base: float
    steps: list[tuple[F64, F64]]
    """Per feature: edges (k - 1,) and differences to the base (k,); a category's edges lie between its codes."""
    missing: list[float]
    queries: int
    bins: int

    def margins(self, rows: F64) -> F64:
        """Margins of rows (n, features) as the copy has them."""
        total: F64 = np.full(len(rows), self.base)
        for j, (edges, values) in enumerate(self.steps):
            column = rows[:, j]
            found = values[np.searchsorted(edges, column, side="right")]
            total += np.where(np.isnan(column), self.missing[j], found)
        return total


def recover_scorecard(ask: Predict, contract: Contract, rows: F64, link: Link) -> Recovered:
    """Read off an additive model of bins by changing one field of one row at a time.

    `ask` gives scores of rows (n, features); `rows` are rows that the attacker has. Each column is asked at up to
    `GRID` of its values, and the interval between two different answers is halved until the edge is known to
    `PRECISION`. Bins between two equal answers stay unseen; `queries` counts every row asked.
    """
    count = 0

    def margins(wanted: F64) -> F64:
        nonlocal count
        count += len(wanted)
        scores = ask(np.ascontiguousarray(wanted))
        if link == "identity":
            return scores
        held = np.clip(scores, 1e-300, 1.0 - 2**-53)
        found: F64 = np.log(held) - np.log1p(-held)
        return found

    complete = np.flatnonzero(~np.isnan(rows).any(axis=1))
    base_row = rows[complete[0] if len(complete) else 0]
    base = float(margins(base_row[None, :])[0])

    def at(j: int, values: F64) -> F64:
        wanted = np.repeat(base_row[None, :], len(values), axis=0)
        wanted[:, j] = values
        found: F64 = margins(wanted) - base
        return found

    steps: list[tuple[F64, F64]] = []
    missing: list[float] = []
    bins = 0
    for j, feature in enumerate(contract.features):
        missing.append(float(at(j, np.array([np.nan]))[0]) if feature.missing == "allowed" else 0.0)
        if feature.type in ("category", "boolean"):
            codes = np.arange(2.0 if feature.type == "boolean" else float(len(feature.categories)))
            values = at(j, codes)
            steps.append((codes[1:], values))
        else:
            steps.append(_edges(partial(at, j), _grid(rows[:, j]), feature.type == "integer"))
        bins += len(steps[-1][1])
    return Recovered(base, steps, missing, count, bins)


def _grid(column: F64) -> F64:
    """Values to ask first: the most frequent ones, and others spread evenly over the rest."""
    values, often = np.unique(column[~np.isnan(column)], return_counts=True)
    if len(values) > GRID:
        spread = np.linspace(0, len(values) - 1, GRID // 2).astype(int)
        frequent = np.argsort(-often, kind="stable")[: GRID // 2]
        values = values[np.union1d(spread, frequent)]
    return values if len(values) else np.zeros(1)


def _plainest(a: float, b: float) -> float:
    """The number in (a, b] with the fewest decimals: people choose edges."""
    for digits in range(17):
        found = round(b, digits)
        if a < found <= b:
            return found
    return b


def _edges(ask: Predict, grid: F64, whole: bool) -> tuple[F64, F64]:
    values = ask(grid)
    edges: list[float] = []
    kept = [float(values[0])]
    stack = [
        (float(a), float(x), float(b), float(y))
        for a, x, b, y in zip(grid[:-1], values[:-1], grid[1:], values[1:], strict=True)
    ]
    stack.reverse()
    close = 0.0 if whole else PRECISION * float(grid[-1] - grid[0])
    while stack:
        a, x, b, y = stack.pop()
        if abs(x - y) <= SAME:
            continue
        middle = math.floor((a + b) / 2) if whole else a + (b - a) / 2
        if middle in (a, b) or b - a <= close:
            edges.append(_plainest(a, b))
            kept.append(y)
            continue
        z = float(ask(np.array([middle]))[0])
        stack.append((float(middle), z, b, y))
        stack.append((a, x, float(middle), z))
    return np.array(edges), np.array(kept)
