"""XGBoost's JSON model, read without XGBoost: gbtree and dart boosters of one output.

Follows XGBoost's JSON schema (doc/model.schema) and `GetNextNode` of its predictor: inputs and thresholds are
float32, left when x < threshold, NaN takes the split's default branch, members of a category set go right. The
margin is the float64 sum of the float32 leaves, XGBoost's own is a float32 sum: they agree to about 1e-6, which is
checked at import. The constant is the log-odds of base_score, computed once at import and kept in `model.json`, so
that no machine's logarithm enters a replay.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fiduciary.errors import MissingExtraError, ModelError
from fiduciary.models._contract import Contract
from fiduciary.models._scorer import F64, Link, refuse_pickle
from fiduciary.models._shap import (
    ImportReport,
    check_names,
    check_trees,
    checked_rows,
    draw_rows,
    write_model,
)
from fiduciary.models._trees import CATEGORY_RIGHT, NAN, NARROW, Trees, TreeScorer

FILE = "trees.json"
MAX_BYTES = 512 << 20
MARGIN_TOLERANCE = 1e-5
CONTRIBUTION_TOLERANCE = 1e-4
"""XGBoost sums its Shapley values in float32, over all trees and path products."""
LINKS: dict[str, Link] = {
    "binary:logistic": "logit",
    "reg:logistic": "logit",
    "binary:logitraw": "logit",
    "reg:squarederror": "identity",
    "reg:absoluteerror": "identity",
    "reg:pseudohubererror": "identity",
}


def load(directory: Path, spec: dict[str, Any], contract: Contract) -> TreeScorer:
    """Load `trees.json`. Raises `ModelError` when absent, damaged, or of a kind that is not supported."""
    base = spec.get("base_margin")
    if spec.get("version") != 1 or not isinstance(base, float | int) or not math.isfinite(base):
        raise ModelError("model.json of an XGBoost model has version 1 and a finite base_margin")
    trees, link, _ = parse(_read(directory / FILE))
    trees.base = float(base)
    return TreeScorer("xgboost", link, trees)


def parse(document: bytes) -> tuple[Trees, Link, float]:
    """XGBoost's JSON -> trees (base 0), link, base margin. Raises `ModelError` naming what is wrong."""
    if document[:1] == b"{" and document[1:2] in (b"L", b"i", b"U", b"l", b"I", b"$", b"#"):
        raise ModelError(
            "this is XGBoost's binary JSON (UBJSON): save it as text with save_model('model.json')"
        )
    try:
        learner = msgspec.json.decode(document)["learner"]
        objective = learner["objective"]["name"]
        parameters = learner["learner_model_param"]
        booster = learner["gradient_booster"]
        name = booster["name"]
        drops = None
        if name == "dart":
            drops, booster = booster["weight_drop"], booster["gbtree"]
        if name not in ("gbtree", "dart"):
            raise ModelError(f"booster {name!r} is not supported; supported are gbtree and dart")
        link = LINKS.get(objective)
        if link is None:
            raise ModelError(f"objective {objective!r} is not supported; supported are {', '.join(LINKS)}")
        if int(parameters["num_class"]) > 1 or int(parameters.get("num_target", 1)) > 1:
            raise ModelError("the model has several outputs; one is supported")
        trees = Trees(int(parameters["num_feature"]), strict=True, reading=NARROW)
        for number, tree in enumerate(booster["model"]["trees"]):
            _tree(trees, tree, 1.0 if drops is None else float(np.float32(drops[number])))
        base = float(np.float32(str(parameters["base_score"]).strip("[]")))
        if link == "logit" and objective != "binary:logitraw":
            if not 0.0 < base < 1.0:
                raise ModelError(f"base_score {base} is no probability")
            base = math.log(base / (1.0 - base))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelError("not XGBoost's JSON model") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ModelError(f"the XGBoost model is damaged: {type(error).__name__} {error}") from None
    return trees, link, base


def _tree(trees: Trees, t: dict[str, Any], weight: float) -> None:
    if int(t["tree_param"].get("size_leaf_vector", 1)) > 1:
        raise ModelError("the model has leaves of several outputs; one is supported")
    n = int(t["tree_param"]["num_nodes"])
    left, right, feature = t["left_children"], t["right_children"], t["split_indices"]
    condition = np.array(t["split_conditions"], np.float32).astype(np.float64).tolist()
    default, cover = t["default_left"], t["sum_hessian"]
    types = t.get("split_type") or [0] * n
    if {len(x) for x in (left, right, feature, condition, default, cover, types)} != {n}:
        raise ModelError("the model is damaged: a tree's lists differ in length")
    sets: dict[int, frozenset[int]] = {}
    spans = (t.get("categories_nodes", []), t.get("categories_segments", []), t.get("categories_sizes", []))
    for node, begin, size in zip(*spans, strict=True):
        sets[node] = frozenset(int(c) for c in t["categories"][begin : begin + size])
    order = _reachable(left, right)
    place = {node: i for i, node in enumerate(order)}
    for i in order:
        if left[i] == -1:
            trees.leaf(condition[i] * weight, float(cover[i]))
            continue
        trees.split(
            feature[i],
            condition[i],
            place[left[i]],
            place[right[i]],
            float(cover[i]),
            kind=CATEGORY_RIGHT if types[i] == 1 else NAN,
            left_if_missing=bool(default[i]),
            categories=sets[i] if types[i] == 1 else None,
        )
    trees.end_tree()


def _reachable(left: list[int], right: list[int]) -> list[int]:
    """Nodes from the root; pruned nodes stay in XGBoost's lists but nothing leads to them."""
    order, seen = [0], {0}
    for node in order:
        if left[node] == -1:
            continue
        for kid in (left[node], right[node]):
            if not 0 < kid < len(left) or kid in seen:
                raise ModelError("the model is damaged: its nodes are not a tree")
            seen.add(kid)
            order.append(kid)
    return order


def import_xgboost(
    file: Path | str, contract: Contract, directory: Path | str, rows: F64 | None = None
) -> ImportReport:
    """Check an XGBoost model and write it as a model directory (`model.json`, `trees.json`; UBJSON becomes JSON).

    Checked on `rows` (n, features) or on rows drawn from the contract: margins within 1e-5 and Shapley values within
    1e-4 of XGBoost's float32 ones, 1e-9 of the plain float64 reference. Raises `ModelError` with the numbers.
    """
    try:
        import xgboost
    except ImportError:
        raise MissingExtraError(
            "XGBoost is needed to check an XGBoost model: pip install 'fiduciary[trees]'"
        ) from None
    file = Path(file)
    refuse_pickle(file)
    try:
        judge = xgboost.Booster({"nthread": 1}, model_file=str(file))
        document = bytes(judge.save_raw("json"))
    except xgboost.core.XGBoostError:
        raise ModelError(f"XGBoost cannot read {file.name}: save it with save_model('model.json')") from None
    trees, link, base = parse(document)
    trees.base = base
    default = [f"f{i}" for i in range(trees.features)]
    check_names(contract, judge.feature_names or default, "f")
    scorer = TreeScorer("xgboost", link, trees)
    found = checked_rows(contract, rows, lambda: draw_rows(contract, trees))
    matrix = xgboost.DMatrix(
        found,
        feature_names=judge.feature_names,
        feature_types=judge.feature_types,
        enable_categorical=True,
        nthread=1,
    )
    report = check_trees(
        scorer,
        trees,
        found,
        judge.predict(matrix, output_margin=True).astype(np.float64),
        judge.predict(matrix, pred_contribs=True)[:, :-1].astype(np.float64),
        margin_tolerance=MARGIN_TOLERANCE,
        contribution_tolerance=CONTRIBUTION_TOLERANCE,
    )
    spec = {"version": 1, "family": "xgboost", "file": FILE, "base_margin": base}
    write_model(Path(directory), spec | {"checked": msgspec.to_builtins(report)}, FILE, document)
    return report


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path.name} is larger than {MAX_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}") from None
