"""From what a joint program revealed to an ordinary model: linear, scorecard or trees, with its feature contract.

The margins of these models are those of the joint model (tests/joint_estimators/test_models.py), so a jointly
trained model is released, checked, served and explained like any other.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import JointError
from fiduciary.models import Contract, Feature, Points, Scorecard, Scorer, load_scorer
from fiduciary.models._lightgbm import import_lightgbm
from fiduciary.models._linear import Linear, LinearFile, Term
from fiduciary.models._scorecard import Bins, ScorecardFile

F64 = NDArray[np.float64]

OTHER = "(other)"
"""The category of every text that training saw too rarely to name."""


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """How one column of an owner became design columns or candidate splits."""

    name: str
    kind: str
    owner: str = ""
    center: float = 0.0
    scale: float = 1.0
    median: float = 0.0
    missing: bool = False
    edges: list[float] = []
    categories: list[str] = []

    @property
    def width(self) -> int:
        """Design columns."""
        if self.kind == "number":
            return 1 + self.missing
        return len(self.categories if self.kind == "category" else self.edges) + 1 + self.missing


class Design(msgspec.Struct, frozen=True, kw_only=True):
    """What a program says of its design and of how training went."""

    owners: list[str]
    features: dict[str, list[Described]]
    rows: int
    sigmoid: str = ""
    passes: int = 0

    def in_order(self) -> list[Described]:
        """All features, owners by rank, under names that differ."""
        names = [f.name for owner in self.owners for f in self.features[owner]]
        return [
            msgspec.structs.replace(
                f, owner=owner, name=f.name if names.count(f.name) == 1 else f"{owner}.{f.name}"
            )
            for owner in self.owners
            for f in self.features[owner]
        ]


def read_design(outputs: Mapping[str, Any]) -> Design:
    """The design of a finished job. Raises `JointError` when this side was no receiver or it is damaged."""
    if "design" not in outputs:
        raise JointError("the model was not revealed to a party of this machine")
    try:
        return msgspec.json.decode(np.asarray(outputs["design"], np.uint8).tobytes(), type=Design)
    except msgspec.DecodeError as error:
        raise JointError(f"the description of the joint model is damaged: {error}") from None


def contract_of(features: Sequence[Described]) -> Contract:
    """The contract that rows of this model satisfy; people add units, reasons and purposes."""
    made = []
    for f in features:
        if f.kind == "category":
            made.append(
                Feature(name=f.name, type="category", categories=[*f.categories, OTHER], origin=f.owner)
            )
        else:
            missing = "allowed" if f.missing else "forbidden"
            made.append(Feature(name=f.name, type="number", missing=missing, origin=f.owner))  # type: ignore[arg-type]
    return Contract(features=tuple(made))


def rows_of(features: Sequence[Described], columns: Mapping[str, Any]) -> F64:
    """Rows (n, features) as the model reads them. Raises `JointError` naming a column that is absent."""
    made = []
    for f in features:
        key = f.name if f.name in columns else f.name.removeprefix(f"{f.owner}.")
        if key not in columns:
            raise JointError(f"the column {f.name!r} is missing")
        column = np.asarray(columns[key])
        if f.kind == "category":
            known = {text: float(i) for i, text in enumerate(f.categories)}
            made.append(np.array([known.get(str(t), float(len(known))) for t in column.astype("U").tolist()]))
        else:
            made.append(column.astype(np.float64))
    if len({len(c) for c in made}) > 1:
        raise JointError("the columns have different numbers of rows")
    return np.ascontiguousarray(np.stack(made, 1))


def weights_by_feature(features: Sequence[Described], weights: F64) -> list[list[float]]:
    """The flat weights, feature by feature. Raises `JointError` when they do not fit."""
    if weights.shape != (sum(f.width for f in features),) or not np.isfinite(weights).all():
        raise JointError("the joint model's weights do not fit its design")
    found, at = [], 0
    for f in features:
        found.append([float(w) for w in weights[at : at + f.width]])
        at += f.width
    return found


def linear_model(design: Design, weights: F64, intercept: float) -> tuple[Linear, Contract]:
    """A linear model on raw values: terms are weight * (x - center), a missing number is its median and indicator."""
    features = design.in_order()
    contract = contract_of(features)
    terms = []
    for f, w in zip(features, weights_by_feature(features, weights), strict=True):
        if f.kind == "category":
            terms.append(Term(name=f.name, categories=w))
            continue
        slope = w[0] / f.scale
        missing = slope * (f.median - f.center) + w[1] if f.missing else None
        terms.append(Term(name=f.name, weight=slope, center=f.center, missing=missing))
    return Linear(LinearFile(link="logit", intercept=intercept, terms=terms), contract), contract


def scorecard_model(
    design: Design, weights: F64, intercept: float, points: Points
) -> tuple[Scorecard, Contract]:
    """A scorecard: every bin's weight is the weight of its 0/1 column."""
    features = design.in_order()
    contract = contract_of(features)
    bins = []
    for f, w in zip(features, weights_by_feature(features, weights), strict=True):
        if f.kind == "category":
            bins.append(Bins(name=f.name, kind="category", categories=[*f.categories, OTHER], weights=w))
        else:
            missing = w[-1] if f.missing else None
            known = w[:-1] if f.missing else w
            bins.append(Bins(name=f.name, kind="number", edges=f.edges, weights=known, missing=missing))
    return Scorecard(ScorecardFile(intercept=intercept, features=bins, points=points), contract), contract


# -- trees --------------------------------------------------------------------------------------------------------


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate: rows with x < threshold (or of this category) go left."""

    feature: int
    threshold: float = 0.0
    category: int = -1
    missing: bool = False


def splits_of(features: Sequence[Described]) -> list[Split]:
    """Every candidate in the order of the program's 0/1 columns."""
    found = []
    for j, f in enumerate(features):
        if f.kind == "category":
            found += [Split(feature=j, category=c) for c in range(len(f.categories))]
            continue
        found += [Split(feature=j, threshold=e, missing=f.missing) for e in f.edges]
        if f.missing:
            found.append(Split(feature=j, threshold=math.inf, missing=True))
    return found


def tree_margins(features: Sequence[Described], outputs: Mapping[str, Any], rows: F64) -> F64:
    """Margins of the revealed trees by plain look-up: the oracle of the written model."""
    chosen = splits_of(features)
    sides = np.stack([_left(s, rows[:, s.feature]) for s in chosen], 1)
    margins = np.full(len(rows), float(outputs["start"]))
    every = np.arange(len(rows))
    for splits, leaves in zip(outputs["splits"], outputs["leaves"], strict=True):
        node = np.zeros(len(rows), np.int64)
        first = 0
        for level in range(round(math.log2(len(leaves)))):
            left = sides[every, np.asarray(splits)[first + node]]
            node = 2 * node + ~left
            first += 1 << level
        margins += np.asarray(leaves, np.float64)[node]
    return margins


def _left(split: Split, column: F64) -> NDArray[np.bool_]:
    if split.category >= 0:
        return np.asarray(column == split.category)
    found: NDArray[np.bool_] = column < split.threshold  # NaN goes right
    return found


def tree_model(
    design: Design, outputs: Mapping[str, Any], directory: Path | str | None = None, rows: F64 | None = None
) -> tuple[Scorer, Contract]:
    """The revealed trees as a LightGBM text model, checked against LightGBM itself; needs the `trees` extra."""
    features = design.in_order()
    contract = contract_of(features)
    text = tree_text(features, outputs)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.txt"
        file.write_text(text, "utf-8")
        target = Path(directory) if directory is not None else Path(folder) / "model"
        import_lightgbm(file, contract, target, rows)
        return load_scorer(target, contract), contract


def tree_text(features: Sequence[Described], outputs: Mapping[str, Any]) -> str:
    """LightGBM's text format of the revealed trees. Raises `JointError` when they contradict the design."""
    candidates = splits_of(features)
    splits, leaves = np.asarray(outputs["splits"]), np.asarray(outputs["leaves"], np.float64)
    counts = np.asarray(outputs["counts"])
    if (
        splits.ndim != 2
        or leaves.shape != (len(splits), splits.shape[1] + 1)
        or counts.shape != leaves.shape
        or splits.min(initial=0) < 0
        or splits.max(initial=0) >= len(candidates)
        or not np.isfinite(leaves).all()
    ):
        raise JointError("the revealed trees contradict their design")
    blocks = []
    for t in range(len(splits)):
        values = leaves[t] + (float(outputs["start"]) if t == 0 else 0.0)
        blocks.append(
            f"Tree={t}\n" + _tree_block([candidates[i] for i in splits[t]], values, counts[t]) + "\n\n"
        )
    names = " ".join(f"Column_{i}" for i in range(len(features)))
    head = [
        "tree",
        "version=v4",
        "num_class=1",
        "num_tree_per_iteration=1",
        "label_index=0",
        f"max_feature_idx={len(features) - 1}",
        "objective=binary sigmoid:1",
        f"feature_names={names}",
        "feature_infos=" + " ".join(["none"] * len(features)),
        "tree_sizes=" + " ".join(str(len(b.encode())) for b in blocks),
    ]
    return "\n".join(head) + "\n\n" + "".join(blocks) + "end of trees\n\nparameters:\nend of parameters\n"


def _tree_block(splits: list[Split], values: F64, counts: NDArray[Any]) -> str:
    """One tree; a split that no training row takes on one side gives way to its other side."""
    inner: list[dict[str, Any]] = []
    ends: list[tuple[float, int]] = []
    sets: list[int] = []

    def build(node: int) -> tuple[int, int] | None:
        """(reference, rows) below a heap position; None when no row is there."""
        if node >= len(splits):
            at = node - len(splits)
            if counts[at] <= 0:
                return None
            ends.append((float(values[at]), int(counts[at])))
            return ~(len(ends) - 1), int(counts[at])
        place = len(inner)
        inner.append({})
        left, right = build(2 * node + 1), build(2 * node + 2)
        if left is None or right is None:
            # Only positions after `place` were taken, all by the side that is kept: close the gap.
            inner.pop(place)
            kept = left or right
            for entry in inner[place:]:
                for side in ("left", "right"):
                    if entry and entry[side] > place:
                        entry[side] -= 1
            return None if kept is None else (kept[0] - 1 if kept[0] > place else kept[0], kept[1])
        inner[place] = {"split": splits[node], "left": left[0], "right": right[0], "rows": left[1] + right[1]}
        return place, left[1] + right[1]

    if build(0) is None:
        raise JointError("a revealed tree holds no training row")
    lines = [f"num_leaves={len(ends)}"]
    if not inner:
        return "\n".join([*lines, "num_cat=0", f"leaf_value={ends[0][0]!r}", "is_linear=0", "shrinkage=1"])
    thresholds, decisions, words = [], [], []
    for entry in inner:
        split = entry["split"]
        if split.category >= 0:
            thresholds.append(str(len(sets)))
            decisions.append("1")
            bits = [0] * (split.category // 32 + 1)
            bits[-1] = 1 << (split.category % 32)
            sets.append(len(bits))
            words += bits
        else:
            # x < e is x <= the number just below e, which is how LightGBM asks
            below = math.nextafter(split.threshold, -math.inf)
            thresholds.append(repr(below))
            decisions.append("8" if split.missing else "0")
    lists: dict[str, list[Any]] = {
        "split_feature": [e["split"].feature for e in inner],
        "split_gain": [0] * len(inner),
        "threshold": thresholds,
        "decision_type": decisions,
        "left_child": [e["left"] for e in inner],
        "right_child": [e["right"] for e in inner],
        "leaf_value": [repr(v) for v, _ in ends],
        "leaf_weight": [c for _, c in ends],
        "leaf_count": [c for _, c in ends],
        "internal_value": [0] * len(inner),
        "internal_weight": [e["rows"] for e in inner],
        "internal_count": [e["rows"] for e in inner],
    }
    lines.append(f"num_cat={len(sets)}")
    lines += [f"{name}=" + " ".join(map(str, items)) for name, items in lists.items()]
    if sets:
        starts = np.concatenate([[0], np.cumsum(sets)]).tolist()
        lines.append("cat_boundaries=" + " ".join(map(str, starts)))
        lines.append("cat_threshold=" + " ".join(map(str, words)))
    return "\n".join([*lines, "is_linear=0", "shrinkage=1"])


__all__ = ["Described", "Design", "contract_of", "linear_model", "read_design", "scorecard_model"]
