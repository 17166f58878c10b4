"""What an imported tree model must pass: parity with its own library, and Shapley values against the definition.

`reference_contributions` is the slow, plain statement of what `_kernel.c` computes: it compares raw thresholds,
walks every leaf and weighs coalitions by factorials; it shares no code and no method with the kernel. It is itself
held against the sum over all coalitions in tests/models_trees/test_shap.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fiduciary.errors import ModelError
from fiduciary.models._contract import Contract
from fiduciary.models._scorer import F64, MODEL_FILE, Scorer
from fiduciary.models._trees import CATEGORY, CATEGORY_RIGHT, FLUSH, NAN, NARROW, ZERO, Trees, TreeScorer

DRAWN_ROWS = 1_000
REFERENCE_ROWS = 3
ADDITIVITY = 1e-9
"""Largest difference between a margin and bias + contributions, and to the reference; in
units of the largest margin."""
NEAR_ZERO = float(np.float32(1e-35))


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an import was checked on; kept in `model.json`. Differences are the largest seen, on the margin scale."""

    rows: int
    margin_difference: float
    """To the library's own prediction."""
    contribution_difference: float | None
    """To the library's own Shapley values, where it has them."""
    reference_difference: float
    """To the plain reference, on the first rows."""
    additivity_difference: float


def draw_rows(
    contract: Contract, trees: Trees | None, count: int = DRAWN_ROWS, seed: int = 20_260_101
) -> F64:
    """Rows (count, features) within the contract's ranges, where missing is allowed also NaN; every second row has
    half of its numbers exactly on a threshold of the model or one unit in the last place beside it."""
    random = np.random.default_rng(seed)
    rows = np.empty((count, len(contract.features)))
    for i, feature in enumerate(contract.features):
        cuts = _cuts(trees, i)
        if feature.type == "category":
            rows[:, i] = random.integers(0, max(len(feature.categories), 1), count)
        elif feature.type == "boolean":
            rows[:, i] = random.integers(0, 2, count)
        else:
            span = (float(cuts.min()), float(cuts.max())) if len(cuts) else (0.0, 1.0)
            low = span[0] - 1.0 if feature.minimum is None else float(feature.minimum)
            high = span[1] + 1.0 if feature.maximum is None else float(feature.maximum)
            rows[:, i] = random.uniform(min(low, high), max(low, high), count)
            if len(cuts):
                edge = random.choice(cuts, count)
                step = random.integers(-1, 2, count)
                towards = np.where(step > 0, np.inf, -np.inf)
                edge = np.where(step == 0, edge, np.nextafter(edge, towards))
                if trees is not None and trees.reading == NARROW:
                    beside = np.nextafter(edge.astype(np.float32), towards.astype(np.float32))
                    edge = np.where(step == 0, edge, beside)
                on_edge = (np.arange(count) % 2 == 1) & (random.random(count) < 0.5)
                rows[on_edge, i] = edge[on_edge]
            if feature.type == "integer":
                rows[:, i] = np.rint(rows[:, i])
        if feature.missing == "allowed":
            rows[random.random(count) < 0.1, i] = np.nan
    return rows


def _cuts(trees: Trees | None, feature: int) -> F64:
    if trees is None:
        return np.empty(0)
    nodes = zip(trees.feature, trees.threshold, trees.kind, strict=True)
    found = {t for f, t, kind in nodes if f == feature and kind < CATEGORY and abs(t) < 1e290}
    return np.array(sorted(found))


def goes_left(trees: Trees, node: int, value: float) -> bool:
    """One split, decided on the raw threshold as the model's own library does."""
    kind, default = trees.kind[node], bool(trees.left_if_missing[node])
    if trees.reading == NARROW:
        value = float(np.float32(value))
    elif trees.reading == FLUSH and -NEAR_ZERO <= value <= NEAR_ZERO:
        value = 0.0
    if kind >= CATEGORY:
        members = trees.categories[node] or frozenset()
        if kind == CATEGORY_RIGHT:
            return default if value != value else not (-1 < value < 2**31 and int(value) in members)
        return value == value and -1 < value < 2**31 and int(value) in members
    if value != value:
        if kind == NAN:
            return default
        value = 0.0
    if kind == ZERO and -NEAR_ZERO <= value <= NEAR_ZERO:
        return default
    return value < trees.threshold[node] if trees.strict else value <= trees.threshold[node]


def reference_contributions(trees: Trees, row: Sequence[float]) -> tuple[float, list[float]]:
    """Margin and Shapley values of one row, leaf by leaf with factorial weights; slow and plain."""
    margin, phi = trees.base, [0.0] * trees.features
    for start, end in itertools.pairwise(trees.starts):
        stack: list[tuple[int, dict[int, tuple[float, float]]]] = [(start, {})]
        while stack:
            node, path = stack.pop()
            if node >= end:
                raise ModelError("a branch leads outside its tree")
            f = trees.feature[node]
            if f < 0:
                if all(hot for hot, _ in path.values()):
                    margin += trees.value[node]
                _add_leaf(phi, trees.value[node], path)
                continue
            left = goes_left(trees, node, row[f])
            for side, kid in ((True, trees.left[node]), (False, trees.right[node])):
                hot, share = path.get(f, (1.0, 1.0))
                above = trees.cover[node]
                part = trees.cover[start + kid] / above if above > 0 else 0.5
                stack.append((start + kid, path | {f: (hot * (side == left), share * part)}))
    return margin, phi


def _add_leaf(phi: list[float], value: float, path: dict[int, tuple[float, float]]) -> None:
    d = len(path)
    for feature, (hot, share) in path.items():
        sizes = [1.0]  # sizes[k]: sum over coalitions of k others of the shares of the rest
        for other, (hot2, share2) in path.items():
            if other != feature:
                grown = [0.0] * (len(sizes) + 1)
                for k, weight in enumerate(sizes):
                    grown[k] += weight * share2
                    grown[k + 1] += weight * hot2
                sizes = grown
        total = sum(s / math.comb(d - 1, k) for k, s in enumerate(sizes)) / d
        phi[feature] += value * (hot - share) * total


def check_trees(
    scorer: TreeScorer,
    trees: Trees,
    rows: F64,
    margins: F64,
    contributions: F64 | None,
    *,
    margin_tolerance: float,
    contribution_tolerance: float,
) -> ImportReport:
    """Hold a scorer against its library's margins (n,) and Shapley values (n, features) and the plain reference.

    Raises `ModelError` with the numbers when a difference is larger than its tolerance (times the margins' size).
    """
    got, shares = scorer.explain(rows)
    size = max(1.0, float(np.abs(margins).max(initial=0.0)))
    margin_difference = largest(got, margins)
    additivity = largest(scorer.bias + shares.sum(axis=1), got)
    to_library = None if contributions is None else largest(shares, contributions)
    to_reference = 0.0
    for i in range(min(REFERENCE_ROWS, len(rows))):
        margin, phi = reference_contributions(trees, rows[i].tolist())
        to_reference = max(to_reference, abs(margin - got[i]), largest(shares[i], np.array(phi)))
    require("margins differ from the library's", margin_difference, margin_tolerance * size)
    if to_library is not None:
        require("Shapley values differ from the library's", to_library, contribution_tolerance * size)
    require("Shapley values differ from the reference", to_reference, ADDITIVITY * size)
    require("contributions do not add up to the margin", additivity, ADDITIVITY * size)
    require_same_bits(scorer, rows)
    return ImportReport(
        rows=len(rows),
        margin_difference=margin_difference,
        contribution_difference=to_library,
        reference_difference=to_reference,
        additivity_difference=additivity,
    )


def require_same_bits(scorer: Scorer, rows: F64, singles: int = 40) -> None:
    """A row alone, in a batch, scored and explained: the same bits, or `ModelError`."""
    margins, shares = scorer.explain(rows)
    same = scorer.score(rows).tobytes() == margins.tobytes()
    for i in range(min(singles, len(rows))):
        one, share = scorer.explain(rows[i : i + 1])
        alone = scorer.score(rows[i : i + 1])
        same &= one.tobytes() == alone.tobytes() == margins[i : i + 1].tobytes()
        same &= share.tobytes() == shares[i : i + 1].tobytes()
    if not same:
        raise ModelError("a row gives other bits alone than in a batch; replay would not hold")


def largest(a: F64, b: F64) -> float:
    """Largest absolute difference; infinite when a value is not a number."""
    if a.shape != b.shape:
        raise ModelError(f"shapes differ: {a.shape} and {b.shape}")
    difference = np.abs(a - b)
    return math.inf if np.isnan(difference).any() else float(difference.max(initial=0.0))


def require(what: str, difference: float, tolerance: float) -> None:
    """Raise `ModelError` with both numbers unless difference <= tolerance."""
    if not difference <= tolerance:
        raise ModelError(f"the import failed: {what} by {difference:.3g}, at most {tolerance:.3g} is allowed")


def checked_rows(contract: Contract, rows: F64 | None, draw: Callable[[], F64]) -> F64:
    """The given rows, or drawn ones; their width must be the contract's. Raises `ModelError`."""
    found = draw() if rows is None else np.ascontiguousarray(rows, np.float64)
    if found.ndim != 2 or found.shape[1] != len(contract.features) or not len(found):
        raise ModelError(f"check rows must be (n, {len(contract.features)}) with n >= 1, not {found.shape}")
    return found


def check_names(contract: Contract, names: Sequence[str], defaults: str) -> None:
    """The model's feature names, if it has its own, must be the contract's in order. Raises `ModelError`."""
    if len(names) != len(contract.features):
        raise ModelError(
            f"the model reads {len(names)} features, the contract names {len(contract.features)}"
        )
    if all(name == f"{defaults}{i}" for i, name in enumerate(names)):
        return
    for i, (mine, theirs) in enumerate(zip(names, contract.names, strict=True)):
        if mine != theirs and mine != "_".join(theirs.split()):
            raise ModelError(
                f"feature {i} of the model is {mine!r}, of the contract {theirs!r}; the order must be the same"
            )


def write_model(directory: Path, spec: dict[str, Any], file: str, content: bytes) -> None:
    """Write the model's file and then `model.json` into a directory (made if absent)."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / file).write_bytes(content)
    (directory / MODEL_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n")
