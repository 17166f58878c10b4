"""A model as a linear map of columns, so that a machine can score ciphertexts with one product.

The client turns a row into columns: numbers as they are, or 0/1 indicators of the bin, cell or leaf that the row
falls into. The server keeps one weight a column. What the client learns of the model is therefore its shape (bin
edges, categories, the splits of trees), and what stays with the server is every weight, leaf value and the constant.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import LimitError, ModelError
from fiduciary.models import Contract, Scorer
from fiduciary.models._additive import Additive, AdditiveFile
from fiduciary.models._additive import Term as AdditiveTerm
from fiduciary.models._linear import Linear
from fiduciary.models._linear import Term as LinearTerm
from fiduciary.models._scorecard import Bins, Scorecard
from fiduciary.models._shap import goes_left
from fiduciary.models._trees import Trees

F64 = NDArray[np.float64]

MAX_COLUMNS = 512
"""Most columns of an encrypted model: one ciphertext each in the packed form."""


class Axis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One feature cut into cells. A number lies in cell `first` + how many edges are <= x."""

    feature: int
    edges: list[float] = []
    codes: list[int] = []
    """Categories and booleans: the cell of each code, instead of edges."""
    first: int = 0
    """The cell below the first edge."""
    size: int
    missing: int = -1
    """The cell of a missing value; -1: missing values are not taken."""

    def cells(self, rows: F64) -> NDArray[np.int64]:
        """The cell of each row, shape (n,)."""
        x = rows[:, self.feature]
        absent = np.isnan(x)
        if self.missing < 0 and absent.any():
            raise ModelError("a row lacks a value that the model needs")
        filled = np.where(absent, 0.0, x)
        if self.codes:
            found = np.array(self.codes, np.int64)[filled.astype(np.int64)]
        else:
            found = self.first + np.searchsorted(np.array(self.edges), filled, side="right").astype(np.int64)
        return np.where(absent, self.missing, found)


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, array_like=True):
    """One node of a tree: a leaf has feature -1 and says which column it is."""

    feature: int
    threshold: float
    kind: int
    left_if_missing: bool
    categories: list[int]
    left: int
    right: int
    column: int


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Some columns: a number, the cells of one axis or of two crossed, or the leaves of a tree."""

    kind: Literal["constant", "number", "cells", "leaves"]
    feature: int = -1
    center: float = 0.0
    axes: list[Axis] = []
    nodes: list[Node] = []
    size: int = 1


class Encoding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a client needs to turn rows into columns; holds no weight."""

    version: Literal[1] = 1
    features: int
    strict: bool = False
    reading: int = 0
    parts: list[Part]

    @property
    def columns(self) -> int:
        """How many columns a row becomes."""
        return sum(part.size for part in self.parts)

    def encode(self, rows: F64) -> F64:
        """Columns (n, columns) of rows (n, features) in contract order. Raises `ModelError`."""
        rows = np.asarray(rows, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.features:
            raise ModelError(f"rows have shape {rows.shape}, the model reads (n, {self.features})")
        found = np.zeros((len(rows), self.columns))
        every = np.arange(len(rows))
        at = 0
        for part in self.parts:
            if part.kind == "constant":
                found[:, at] = 1.0
            elif part.kind == "number":
                x = rows[:, part.feature]
                if not np.isfinite(x).all():
                    raise ModelError("a row lacks a value that the model needs")
                found[:, at] = x - part.center
            elif part.kind == "cells":
                cell = part.axes[0].cells(rows)
                if len(part.axes) == 2:
                    cell = cell * part.axes[1].size + part.axes[1].cells(rows)
                found[every, at + cell] = 1.0
            else:
                trees = self._trees(part)
                for i, row in enumerate(rows.tolist()):
                    node = 0
                    while part.nodes[node].feature >= 0:
                        left = goes_left(trees, node, row[part.nodes[node].feature])
                        node = part.nodes[node].left if left else part.nodes[node].right
                    found[i, at + part.nodes[node].column] = 1.0
            at += part.size
        return found

    def _trees(self, part: Part) -> Trees:
        trees = Trees(self.features, strict=self.strict, reading=self.reading)
        for n in part.nodes:
            if n.feature < 0:
                trees.leaf(0.0, 0.0)
            else:
                trees.split(
                    n.feature, n.threshold, n.left, n.right, 0.0, kind=n.kind,
                    left_if_missing=n.left_if_missing, categories=frozenset(n.categories) or None,
                )  # fmt: skip
        trees.end_tree()
        return trees


def encoding_of(scorer: Scorer, contract: Contract, trees: Trees | None = None) -> tuple[Encoding, F64]:
    """The client's encoding and the server's weights (columns,) of a scorer.

    `encoding.encode(rows) @ weights` is the margin, to 1e-9 (tests/joint_he/test_encoding.py). Families: linear,
    scorecard, additive, and, with their `trees`, small tree models of up to 512 leaves in all. Raises `LimitError`
    for a larger model, `ModelError` for another family.
    """
    constant, strict, reading = float(scorer.bias), False, 0
    pairs: list[tuple[Part, list[float]]]
    if trees is not None:
        constant, strict, reading = float(trees.base), trees.strict, trees.reading
        _check_size(1 + sum(1 for f in trees.feature if f < 0))
        bounds = zip(trees.starts[:-1], trees.starts[1:], strict=True)
        pairs = [_leaves(trees, start, end) for start, end in bounds]
    elif isinstance(scorer, Scorecard):
        pairs = [_bins(j, bins) for j, bins in enumerate(scorer.card.features)]
    elif isinstance(scorer, Linear):
        pairs = [_term(j, term) for j, term in enumerate(scorer.file.terms)]
    elif isinstance(scorer, Additive):
        pairs = [_table(scorer.model, term, contract) for term in scorer.model.terms]
    else:
        raise ModelError(
            f"a {scorer.family} model cannot be scored on ciphertexts; linear models, scorecards, additive models "
            "and small tree models can"
        )
    encoding = Encoding(
        features=scorer.features,
        strict=strict,
        reading=reading,
        parts=[Part(kind="constant"), *[part for part, _ in pairs]],
    )
    _check_size(encoding.columns)
    return encoding, np.array([constant, *[w for _, weights in pairs for w in weights]], np.float64)


def _bins(j: int, bins: Bins) -> tuple[Part, list[float]]:
    weights = [*bins.weights, *([] if bins.missing is None else [bins.missing])]
    codes = [] if bins.kind == "number" else list(range(len(bins.weights)))
    missing = -1 if bins.missing is None else len(bins.weights)
    axis = Axis(feature=j, edges=bins.edges, codes=codes, size=len(weights), missing=missing)
    return Part(kind="cells", axes=[axis], size=len(weights)), weights


def _term(j: int, term: LinearTerm) -> tuple[Part, list[float]]:
    if not term.categories:
        if term.missing is not None:
            raise ModelError(
                f"the number {term.name!r} may be missing; encrypted scoring takes such a feature as bins"
            )
        return Part(kind="number", feature=j, center=term.center), [term.weight]
    weights = [*term.categories, *([] if term.missing is None else [term.missing])]
    missing = -1 if term.missing is None else len(weights) - 1
    axis = Axis(feature=j, codes=list(range(len(term.categories))), size=len(weights), missing=missing)
    return Part(kind="cells", axes=[axis], size=len(weights)), weights


def _table(model: AdditiveFile, term: AdditiveTerm, contract: Contract) -> tuple[Part, list[float]]:
    axes = []
    for k in term.axes:
        axis = model.axes[k]
        feature = contract.names.index(axis.feature)
        axes.append(
            Axis(feature=feature, edges=axis.cuts, codes=axis.codes, first=1, size=axis.size, missing=0)
        )
    size = axes[0].size
    if len(axes) == 2:
        axes[1] = msgspec.structs.replace(axes[1], size=term.columns)
        size *= term.columns
    weights = [*term.scores, *[0.0] * size][:size]
    return Part(kind="cells", axes=axes, size=size), weights


def _leaves(trees: Trees, start: int, end: int) -> tuple[Part, list[float]]:
    nodes: list[Node] = []
    values: list[float] = []
    for i in range(start, end):
        leaf = trees.feature[i] < 0
        nodes.append(
            Node(
                feature=trees.feature[i],
                threshold=trees.threshold[i],
                kind=trees.kind[i],
                left_if_missing=bool(trees.left_if_missing[i]),
                categories=sorted(trees.categories[i] or ()),
                left=trees.left[i],
                right=trees.right[i],
                column=len(values) if leaf else -1,
            )
        )
        if leaf:
            values.append(trees.value[i])
    return Part(kind="leaves", nodes=nodes, size=len(values)), values


def _check_size(columns: int) -> None:
    if columns > MAX_COLUMNS:
        raise LimitError(f"the model becomes {columns} encrypted columns; at most {MAX_COLUMNS} are possible")
