"""Trees of any family as plain arrays, and the scorer that runs them in the compiled kernel (`_kernel.c`).

A family's reader (LightGBM, XGBoost, ONNX) writes `Trees`; `compile_trees` turns thresholds into ranks and
columns, and the kernel builds its tables. What the kernel computes, and why it is exact, is said there;
tests/models_trees/test_shap.py holds it against sums over all coalitions.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import ModelError
from fiduciary.models._scorer import F64, Link

AS_IS, NARROW, FLUSH = range(3)
PLAIN, ZERO, NAN, CATEGORY, CATEGORY_RIGHT = range(5)
"""How a split reads missing values: as 0.0, also near-zero values are missing, NaN is missing; or it asks for
membership in a set of categories whose members go left (LightGBM, NaN right) or right (XGBoost, NaN by default)."""

MAX_FEATURES = 4_096
MAX_TREES = 20_000
MAX_NODES = 4_000_000
MAX_DEPTH = 900
MAX_CATEGORY = 1 << 20
TABLE_BYTES = 256 << 20
"""Memory for tables of one model; trees beyond it are computed edge by edge, exactly too."""
TABLE_BITS = 7
"""Bits of the index of a one-line table: 8 KiB each; up to 10 bits took more memory and no less time."""


@dataclass
class Trees:
    """Trees as lists of nodes, each tree's root first. Branches are positions in the same tree; a leaf has
    feature -1. `cover` is the weight of training rows that reached the node; `value` matters on leaves."""

    features: int
    base: float = 0.0
    strict: bool = False
    """Go left when x < threshold; otherwise when x <= threshold."""
    reading: int = AS_IS
    """How inputs are read: `AS_IS`; `NARROW`, rounded to float32 (XGBoost, ONNX); `FLUSH`, |x| <= 1e-35 as 0.0, as
    LightGBM does to every row before it looks at a split."""
    starts: list[int] = field(default_factory=lambda: [0])
    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    left_if_missing: list[bool] = field(default_factory=list)
    categories: list[frozenset[int] | None] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    cover: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 1 <= self.features <= MAX_FEATURES:
            raise ModelError(f"the model reads {self.features} features; 1 to {MAX_FEATURES} are possible")

    def leaf(self, value: float, cover: float) -> None:
        """Append a leaf."""
        self._append(-1, 0.0, PLAIN, False, None, -1, -1, value, cover)

    def split(
        self,
        feature: int,
        threshold: float,
        left: int,
        right: int,
        cover: float,
        *,
        kind: int = PLAIN,
        left_if_missing: bool = False,
        categories: frozenset[int] | None = None,
    ) -> None:
        """Append a split; `left` and `right` are positions in its tree."""
        if not 0 <= feature < self.features:
            raise ModelError(f"a split reads feature {feature}; the model has {self.features}")
        self._append(feature, threshold, kind, left_if_missing, categories, left, right, 0.0, cover)

    def end_tree(self) -> None:
        """Close the tree that was appended."""
        self.starts.append(len(self.feature))
        if len(self.starts) - 1 > MAX_TREES or len(self.feature) > MAX_NODES:
            raise ModelError(f"the model has more than {MAX_TREES} trees or {MAX_NODES} nodes")

    def _append(self, *node: Any) -> None:
        columns: tuple[list[Any], ...] = (
            self.feature,
            self.threshold,
            self.kind,
            self.left_if_missing,
            self.categories,
            self.left,
            self.right,
            self.value,
            self.cover,
        )
        for column, item in zip(columns, node, strict=True):
            column.append(item)


@dataclass(frozen=True)
class Ranked:
    """Trees as arrays, parents before children, thresholds as ranks: what the kernel runs and a search reads."""

    features: int
    base: float
    strict: bool
    reading: int
    starts: NDArray[np.int32]
    feature: NDArray[np.int32]
    column: NDArray[np.int32]
    """How a node reads its feature: a row of `columns`; -1 on a leaf."""
    rank: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: F64
    columns: NDArray[np.int32]
    """Per column: feature, kind, left if missing, first word and number of words of a set of categories."""
    words: NDArray[np.uint32]
    cuts: F64
    """Distinct thresholds, feature by feature, ascending."""
    cuts_at: NDArray[np.int64]

    def thresholds(self, feature: int) -> F64:
        """Distinct thresholds of a feature, ascending."""
        return self.cuts[self.cuts_at[feature] : self.cuts_at[feature + 1]]


def rank_trees(trees: Trees) -> tuple[Ranked, F64]:
    """Arrays of the trees, and each node's cover. Raises `ModelError` when they are not trees."""
    order, starts, left, right = parents_first(trees)
    feature = np.array(trees.feature, np.int32)[order]
    threshold = np.array(trees.threshold, np.float64)[order]
    cover = np.array(trees.cover, np.float64)[order]
    kind = np.array(trees.kind, np.int32)[order]
    default = np.array(trees.left_if_missing, bool)[order]
    column, columns, words = _columns(trees, order, feature, kind, default)
    cuts, cuts_at, rank = _ranks(trees, feature, threshold, kind)
    value = np.array(trees.value, np.float64)[order]
    ranked = Ranked(
        trees.features, trees.base, trees.strict, trees.reading,
        starts, feature, column, rank, left, right, value, columns, words, cuts, cuts_at,
    )  # fmt: skip
    return ranked, cover


def compile_trees(
    ranked: Ranked, cover: F64, *, table_bytes: int = TABLE_BYTES, table_bits: int = TABLE_BITS
) -> Any:
    """The kernel's ensemble. Raises `ModelError` when the arrays pass a limit."""
    _kernel: Any = importlib.import_module("fiduciary.models._kernel")
    r = ranked
    try:
        return _kernel.Ensemble(
            features=r.features,
            base=r.base,
            strict=r.strict,
            reading=r.reading,
            table_bytes=table_bytes,
            table_bits=table_bits,
            arrays=(
                r.starts, r.feature, r.column, r.rank, r.left, r.right, r.value, cover,
                r.columns, r.words, r.cuts, r.cuts_at,
            ),
        )  # fmt: skip
    except ValueError as error:
        raise ModelError(f"the model's trees cannot be used: {error}") from None


def parents_first(
    trees: Trees,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Order of nodes with parents before children, and the branches in that order. Refuses what is no tree."""
    total = len(trees.feature)
    order = np.empty(total, np.int64)
    left = np.full(total, -1, np.int32)
    right = np.full(total, -1, np.int32)
    feature, lefts, rights = trees.feature, trees.left, trees.right
    for number, start in enumerate(trees.starts[:-1]):
        size = trees.starts[number + 1] - start
        if size < 1:
            raise ModelError(f"tree {number} has no nodes")
        at = start
        seen = bytearray(size)
        stack = [(0, -1, 0, 0)]
        while stack:
            node, parent, side, depth = stack.pop()
            if at - start >= size or not 0 <= node < size or seen[node] or depth > MAX_DEPTH:
                raise ModelError(
                    f"tree {number} is not a tree of {size} nodes, or is deeper than {MAX_DEPTH} splits"
                )
            seen[node] = 1
            if parent >= 0:
                (right if side else left)[parent] = at
            order[at] = start + node
            if feature[start + node] >= 0:
                stack.append((rights[start + node], at, 1, depth + 1))
                stack.append((lefts[start + node], at, 0, depth + 1))
            at += 1
        if at - start != size:
            raise ModelError(f"tree {number} has {size} nodes, {at - start} of them reachable")
    return order, np.array(trees.starts, np.int32), left, right


def _columns(
    trees: Trees, order: NDArray[np.int64], feature: NDArray[np.int32], kind: NDArray[np.int32], default: Any
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint32]]:
    """Each node's column, the columns (feature, kind, left if missing, first word, words) and category bits."""
    keys: list[tuple[Any, ...] | None] = []
    for at, source in enumerate(order.tolist()):
        if feature[at] < 0:
            keys.append(None)
            continue
        members = trees.categories[source]
        side = bool(default[at]) and kind[at] not in (PLAIN, CATEGORY)
        keys.append(
            (int(feature[at]), int(kind[at]), side, tuple(sorted(members)) if members is not None else ())
        )
    known = sorted({key for key in keys if key is not None})
    words: list[int] = []
    columns: list[tuple[int, int, int, int, int]] = []
    for f, k, side, members in known:
        if members and not 0 <= members[0] <= members[-1] < MAX_CATEGORY:
            raise ModelError(f"feature {f} has a category outside 0 to {MAX_CATEGORY - 1}")
        bits = [0] * (members[-1] // 32 + 1 if members else 0)
        for member in members:
            bits[member // 32] |= 1 << (member % 32)
        columns.append((f, k, side, len(words), len(bits)))
        words.extend(bits)
    number = {key: i for i, key in enumerate(known)}
    column = np.array([-1 if key is None else number[key] for key in keys], np.int32)
    return column, np.array(columns, np.int32).reshape(-1, 5), np.array(words, np.uint32)


def _ranks(
    trees: Trees, feature: NDArray[np.int32], threshold: F64, kind: NDArray[np.int32]
) -> tuple[F64, NDArray[np.int64], NDArray[np.int32]]:
    """All distinct thresholds by feature, where each feature's begin, and every node's rank among its own."""
    rank = np.zeros(len(feature), np.int32)
    cuts: list[F64] = []
    at = [0]
    numeric = (feature >= 0) & (kind < CATEGORY)
    if np.isnan(threshold[numeric]).any():
        raise ModelError("a split's threshold is not a number")
    for f in range(trees.features):
        mine = numeric & (feature == f)
        values = np.unique(threshold[mine])
        rank[mine] = np.searchsorted(values, threshold[mine])
        cuts.append(values)
        at.append(at[-1] + len(values))
    return np.concatenate(cuts), np.array(at, np.int64), rank


class TreeScorer:
    """A compiled ensemble as a scorer: margins in tree order, Shapley values exact, see `_kernel.c`.

    Safe to use from many threads; batches of 4 rows and more release the interpreter lock.
    """

    def __init__(self, family: str, link: Link, trees: Trees, **limits: int) -> None:
        self.family = family
        self.link: Link = link
        self.features = trees.features
        self.ranked, cover = rank_trees(trees)
        self.kernel = compile_trees(self.ranked, cover, **limits)
        self.bias: float = self.kernel.bias

    def score(self, rows: F64) -> F64:
        """Margins, shape (n,)."""
        rows = self._rows(rows)
        margins = np.empty(len(rows))
        self.kernel.score(rows, margins)
        return margins

    def explain(self, rows: F64) -> tuple[F64, F64]:
        """Margins (n,) and contributions (n, features); bias + contributions = margin up to rounding."""
        rows = self._rows(rows)
        margins, contributions = np.empty(len(rows)), np.empty(rows.shape)
        self.kernel.explain(rows, margins, contributions)
        return margins, contributions

    def _rows(self, rows: F64) -> F64:
        rows = np.ascontiguousarray(rows, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.features:
            raise ModelError(f"rows have shape {rows.shape}, the model reads (n, {self.features})")
        return rows
