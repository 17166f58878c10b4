"""An owner's own columns as a design matrix, made in the clear by their owner and described for the receivers.

`standard`: numbers are centred and scaled, a missing number is the median and a column of its own; `bins`: numbers
become 0/1 columns, one a quantile bin, one for missing. Texts become 0/1 columns in both; rare ones share a bin.
A number x lies in bin k when k of the edges are <= x, as in the scorecards of this product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

F64 = np.ndarray[Any, np.dtype[np.float64]]

MAX_WIDTH = 2_048
LARGEST = 1_000.0
"""Standard deviations from the mean beyond which a number would endanger the fixed-point range."""


def edges_of(column: F64, bins: int, tails: list[float], min_rows: int) -> F64:
    """Strictly increasing cuts: quantiles, merged from the left until every bin has `min_rows` rows."""
    known = np.sort(column[~np.isnan(column)])
    if not len(known):
        return np.zeros(0)
    inner = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    shares = np.unique(np.concatenate([inner, tails, 1.0 - np.asarray(tails)]))
    wanted = np.unique(np.quantile(known, shares, method="closest_observation"))
    kept: list[float] = []
    before = 0
    for edge in wanted.tolist():
        below = int(np.searchsorted(known, edge, side="left"))
        if below - before >= min_rows and len(known) - below >= min_rows:
            kept.append(edge)
            before = below
    return np.array(kept)


def describe(name: str, column: np.ndarray[Any, Any], options: dict[str, Any]) -> dict[str, Any]:
    """How this column enters the model: JSON values only."""
    if column.ndim != 1:
        raise ValueError(f"column {name} has {column.ndim} dimensions; 1 is needed")
    if column.dtype.kind in "SU":
        texts, counts = np.unique(column.astype("U"), return_counts=True)
        kept = [
            t for t, c in zip(texts.tolist(), counts.tolist(), strict=True) if c >= options["min_rows"] and t
        ]
        return {"name": name, "kind": "category", "categories": kept}
    values = column.astype(np.float64)
    known = values[~np.isnan(values)]
    if np.isinf(values).any() or not len(known):
        raise ValueError(f"column {name} has infinite values or no values")
    missing = bool(len(known) < len(values))
    if options["design"] == "bins":
        cuts = edges_of(values, options["bins"], options["tails"], options["min_rows"])
        return {"name": name, "kind": "bins", "edges": cuts.tolist(), "missing": missing}
    median = float(np.median(known))
    filled = np.where(np.isnan(values), median, values)
    scale = float(filled.std())
    if not scale > 0:
        scale = 1.0
    center = float(filled.mean())
    if float(np.abs(filled - center).max()) / scale > LARGEST:
        raise ValueError(
            f"column {name} has a value over {LARGEST:g} standard deviations from its mean; cap it, or train on bins"
        )
    return {
        "name": name,
        "kind": "number",
        "center": center,
        "scale": scale,
        "median": median,
        "missing": missing,
    }


def width(found: dict[str, Any]) -> int:
    """Columns of the design that a described feature takes."""
    if found["kind"] == "bins":
        return len(found["edges"]) + 1 + bool(found["missing"])
    if found["kind"] == "category":
        return len(found["categories"]) + 1
    return 1 + bool(found["missing"])


def codes(found: dict[str, Any], column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Which 0/1 column each row falls in, for bins and categories; the last is missing (or another text)."""
    if found["kind"] == "category":
        known = np.array(found["categories"], dtype="U")
        texts = column.astype("U")
        at = np.searchsorted(known, texts) if len(known) else np.zeros(len(texts), np.int64)
        at = np.minimum(at, max(len(known) - 1, 0))
        hit = known[at] == texts if len(known) else np.zeros(len(texts), bool)
        return np.where(hit, at, len(known))
    values = column.astype(np.float64)
    at = np.searchsorted(np.asarray(found["edges"], np.float64), values, side="right")
    return np.where(np.isnan(values), len(found["edges"]) + 1, at)


def columns_of(found: dict[str, Any], column: np.ndarray[Any, Any]) -> F64:
    """The design columns (n, width) of a described feature."""
    if found["kind"] == "number":
        values = column.astype(np.float64)
        gone = np.isnan(values)
        made = (np.where(gone, found["median"], values) - found["center"]) / found["scale"]
        return np.stack([made, gone.astype(np.float64)], 1) if found["missing"] else made[:, None]
    size = width(found)
    made = np.zeros((len(column), size))
    at = codes(found, column)
    if at.max(initial=0) >= size:
        raise ValueError(f"column {found['name']} misses a value where none was missing before")
    made[np.arange(len(column)), at] = 1.0
    return made


def design(
    names: list[str], inputs: dict[str, np.ndarray[Any, Any]], options: dict[str, Any]
) -> tuple[list[dict[str, Any]], F64, F64]:
    """Descriptions, the design matrix (n, d) and the penalty (d, d) of one owner's features."""
    described, parts, penalties = [], [], []
    for name in names:
        if name not in inputs:
            raise ValueError(f"there is no column {name}")
        found = describe(name, inputs[name], options)
        described.append(found)
        parts.append(columns_of(found, inputs[name]))
        size = width(found)
        penalty = options["l2"] * np.eye(size)
        if found["kind"] == "bins" and options["smoothing"] > 0 and len(found["edges"]):
            steps = np.diff(np.eye(len(found["edges"]) + 1), axis=0)
            ordered = len(found["edges"]) + 1
            penalty[:ordered, :ordered] += options["smoothing"] * steps.T @ steps
        penalties.append(penalty)
    total = sum(p.shape[1] for p in parts)
    if total > MAX_WIDTH:
        raise ValueError(f"{total} design columns at one owner; at most {MAX_WIDTH}")
    joined = np.zeros((total, total))
    at = 0
    for penalty in penalties:
        joined[at : at + len(penalty), at : at + len(penalty)] = penalty
        at += len(penalty)
    return described, np.concatenate(parts, 1), joined


def whiten(centred: F64, penalty: F64) -> F64:
    """M (d, d) with M'(X'X / 4n + P / n)M = I up to a floor: the owner's own block of the bounding Hessian."""
    rows = len(centred)
    block = centred.T @ centred / (4.0 * rows) + penalty / rows
    values, vectors = np.linalg.eigh(block)
    floor = 1e-4 * max(float(values.max()), 1e-12)
    return vectors / np.sqrt(np.maximum(values, floor))  # type: ignore[no-any-return]
