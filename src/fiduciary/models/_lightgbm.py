"""LightGBM's text model, read without LightGBM: splits, missing types, category sets, counts.

Follows `Tree::ToString`, `Tree::NumericalDecision` and `Tree::CategoricalDecision` of LightGBM 4
(include/LightGBM/tree.h). Margins are bit for bit those of LightGBM's raw prediction, Shapley values those of
`pred_contrib` up to its rounding (tests/models_trees/test_lightgbm.py). `Reference` is LightGBM itself, called
through its C API: the judge of every import.
"""

from __future__ import annotations

import ctypes
import threading
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
    largest,
    require,
    write_model,
)
from fiduciary.models._trees import CATEGORY, FLUSH, MAX_CATEGORY, NAN, PLAIN, ZERO, Trees, TreeScorer

FILE = "model.txt"
MAX_BYTES = 512 << 20
LINKS: dict[str, Link] = {
    "binary": "logit",
    "cross_entropy": "logit",
    "regression": "identity",
    "regression_l1": "identity",
    "huber": "identity",
    "fair": "identity",
    "quantile": "identity",
    "mape": "identity",
}


def load(directory: Path, spec: dict[str, Any], contract: Contract) -> TreeScorer:
    """Load `model.txt`. Raises `ModelError` when absent, damaged, or of a kind that is not supported."""
    if spec.get("version") != 1:
        raise ModelError(f"model.json of a LightGBM model has version 1, not {spec.get('version')!r}")
    trees, link = parse(_read(directory / FILE))
    return TreeScorer("lightgbm", link, trees)


def parse(text: str) -> tuple[Trees, Link]:
    """LightGBM's model text -> trees and link. Raises `ModelError` naming the tree and what is wrong."""
    head, *blocks = text.split("\n\nTree=")
    if not head.startswith("tree\n"):
        raise ModelError("not LightGBM's text model: it begins with the line 'tree'")
    header = _fields(head)
    if header.get("num_class") != "1" or header.get("num_tree_per_iteration") != "1":
        raise ModelError(
            f"the model has {header.get('num_class')} classes; one output is supported: train a binary or "
            "regression objective"
        )
    if "average_output" in head.splitlines():
        raise ModelError("the model averages its trees (random forest); boosted trees are supported")
    link = _link(header.get("objective", ""))
    try:
        features = int(header["max_feature_idx"]) + 1
    except (KeyError, ValueError):
        raise ModelError("the model does not say max_feature_idx") from None
    trees = Trees(features, reading=FLUSH)
    for number, block in enumerate(blocks):
        try:
            _tree(trees, _fields(block.split("\n\n", 1)[0]))
        except (KeyError, ValueError, IndexError) as error:
            raise ModelError(
                f"tree {number} of the model is damaged: {type(error).__name__} {error}"
            ) from None
        except ModelError as error:
            raise ModelError(f"tree {number}: {error.detail}") from None
    if "end of trees" not in text:
        raise ModelError("the model text is cut off: it has no line 'end of trees'")
    sizes = header.get("tree_sizes", "").split()
    if len(sizes) != len(blocks):
        raise ModelError(f"the model names {len(sizes)} trees and holds {len(blocks)}")
    return trees, link


def _link(objective: str) -> Link:
    name, *options = objective.split() or [""]
    link = LINKS.get(name)
    if link is None or "sqrt" in options:
        raise ModelError(
            f"objective {objective!r} is not supported; supported are {', '.join(LINKS)} (regression without sqrt)"
        )
    for option in options:
        if option.startswith("sigmoid:") and float(option.partition(":")[2]) != 1.0:
            raise ModelError(
                "the objective's sigmoid is not 1, so margins are not log-odds: train with sigmoid=1"
            )
    return link


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in block.splitlines())
    return {key: value for key, equals, value in pairs if equals}


def _tree(trees: Trees, f: dict[str, str]) -> None:
    if f.get("is_linear", "0") != "0":
        raise ModelError("linear_tree models are not supported: train with linear_tree=false")
    leaves = int(f["num_leaves"])
    values = [float(v) for v in f["leaf_value"].split()]
    if leaves == 1:
        trees.leaf(values[0], 1.0)
        trees.end_tree()
        return
    counts = [float(v) for v in f["leaf_count"].split()]
    splits = leaves - 1
    names = ("split_feature", "decision_type", "left_child", "right_child")
    feature, decision, left, right = ([int(v) for v in f[name].split()] for name in names)
    threshold = [float(v) for v in f["threshold"].split()]
    cover = [float(v) for v in f["internal_count"].split()]
    lists: list[list[Any]] = [feature, decision, left, right, threshold, cover]
    if leaves < 1 or {len(x) for x in lists} != {splits} or {len(values), len(counts)} != {leaves}:
        raise ModelError("its lists differ in length")
    boundaries = [int(v) for v in f.get("cat_boundaries", "").split()]
    words = [int(v) for v in f.get("cat_threshold", "").split()]
    for i in range(splits):
        kids = [k if k >= 0 else splits + ~k for k in (left[i], right[i])]
        missing = (decision[i] >> 2) & 3
        if missing > 2:
            raise ModelError(f"split {i} has an unknown missing type")
        categories: frozenset[int] | None = None
        kind = (PLAIN, ZERO, NAN)[missing]
        if decision[i] & 1:
            kind = CATEGORY
            at = int(threshold[i])
            if not 0 <= at < len(boundaries) - 1:
                raise ModelError(f"split {i} names no set of categories")
            categories = _members(words[boundaries[at] : boundaries[at + 1]])
        trees.split(
            feature[i],
            threshold[i],
            kids[0],
            kids[1],
            cover[i],
            kind=kind,
            left_if_missing=bool(decision[i] & 2),
            categories=categories,
        )
    for value, count in zip(values, counts, strict=True):
        trees.leaf(value, count)
    trees.end_tree()


def _members(words: list[int]) -> frozenset[int]:
    if len(words) * 32 > MAX_CATEGORY or not all(0 <= word < 1 << 32 for word in words):
        raise ModelError("a set of categories is too large")
    return frozenset(32 * i + b for i, word in enumerate(words) for b in range(32) if word >> b & 1)


def import_lightgbm(
    file: Path | str, contract: Contract, directory: Path | str, rows: F64 | None = None
) -> ImportReport:
    """Check a LightGBM text model and write it as a model directory (`model.json`, `model.txt`).

    Checked on `rows` (n, features) or on rows drawn from the contract: margins bit for bit LightGBM's, Shapley
    values to 1e-7 of LightGBM's and 1e-9 of the plain reference. Raises `ModelError` with the numbers otherwise.
    """
    file = Path(file)
    refuse_pickle(file)
    text = _read(file)
    trees, link = parse(text)
    check_names(contract, _fields(text.split("\n\n", 1)[0]).get("feature_names", "").split(), "Column_")
    scorer = TreeScorer("lightgbm", link, trees)
    found = checked_rows(contract, rows, lambda: draw_rows(contract, trees))
    judge = Reference(file)
    few = found[:200]
    report = check_trees(
        scorer,
        trees,
        few,
        judge.margins(few),
        judge.contributions(few)[:, :-1],
        margin_tolerance=0.0,
        contribution_tolerance=1e-7,
    )
    difference = largest(scorer.score(found), judge.margins(found))
    require("margins differ from LightGBM's", difference, 0.0)
    report = msgspec.structs.replace(report, rows=len(found))
    spec = {"version": 1, "family": "lightgbm", "file": FILE, "checked": msgspec.to_builtins(report)}
    write_model(Path(directory), spec, FILE, text.encode())
    return report


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path.name} is larger than {MAX_BYTES} bytes")
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ModelError(f"{path.name} is not LightGBM's text format") from None


class Reference:
    """LightGBM's own prediction of a model file through its C API, one thread, one handle per calling thread.

    `margins` is the raw score, `contributions` LightGBM's SHAP values with the expected value last. Used to check
    an import; needs the `trees` extra.
    """

    RAW, CONTRIBUTIONS = 1, 3

    def __init__(self, path: Path | str) -> None:
        try:
            import lightgbm.libpath
        except ImportError:
            raise MissingExtraError(
                "LightGBM is needed to check a LightGBM model: pip install 'fiduciary[trees]'"
            ) from None
        self._library = ctypes.CDLL(str(lightgbm.libpath._find_lib_path()[0]))
        self._library.LGBM_GetLastError.restype = ctypes.c_char_p
        self._path = str(path).encode()
        self._local = threading.local()

    def margins(self, rows: F64) -> F64:
        """Raw scores, shape (n,)."""
        return self._predict(rows, self.RAW)[:, 0]

    def contributions(self, rows: F64) -> F64:
        """SHAP values and expected value, shape (n, features + 1)."""
        return self._predict(rows, self.CONTRIBUTIONS)

    def one(self, row: F64, kind: int = RAW) -> F64:
        """One row through the single-row fast path; the result is overwritten by the next call of this thread."""
        handles = self._handles()
        if kind not in handles.fast:
            config = ctypes.c_void_p()
            self._call(
                "LGBM_BoosterPredictForMatSingleRowFastInit",
                *(handles.booster, kind, 0, -1, 1, handles.features, b"num_threads=1", ctypes.byref(config)),
            )
            handles.fast[kind] = (config, np.empty(handles.features + 1 if kind == self.CONTRIBUTIONS else 1))
        config, out = handles.fast[kind]
        row = np.ascontiguousarray(row, np.float64)
        if row.shape != (handles.features,):
            raise ModelError(f"the model reads {handles.features} features, the row has shape {row.shape}")
        length = ctypes.c_int64()
        data, result = ctypes.c_void_p(row.ctypes.data), ctypes.c_void_p(out.ctypes.data)
        self._call("LGBM_BoosterPredictForMatSingleRowFast", config, data, ctypes.byref(length), result)
        found: F64 = out
        return found

    def _predict(self, rows: F64, kind: int) -> F64:
        handles = self._handles()
        rows = np.ascontiguousarray(rows, np.float64)
        if rows.ndim != 2 or rows.shape[1] != handles.features:
            raise ModelError(f"the model reads {handles.features} features, the rows have shape {rows.shape}")
        out = np.empty((len(rows), handles.features + 1 if kind == self.CONTRIBUTIONS else 1))
        length = ctypes.c_int64()
        self._call(
            "LGBM_BoosterPredictForMat",
            *(
                handles.booster,
                ctypes.c_void_p(rows.ctypes.data),
                1,
                len(rows),
                handles.features,
                1,
                kind,
                0,
                -1,
            ),
            *(b"num_threads=1", ctypes.byref(length), ctypes.c_void_p(out.ctypes.data)),
        )
        return out

    def _handles(self) -> Any:
        local = self._local
        if not hasattr(local, "booster"):
            booster, iterations, features = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
            self._call(
                "LGBM_BoosterCreateFromModelfile", self._path, ctypes.byref(iterations), ctypes.byref(booster)
            )
            self._call("LGBM_BoosterGetNumFeature", booster, ctypes.byref(features))
            local.booster, local.features, local.fast = booster, features.value, {}
        return local

    def _call(self, name: str, *arguments: Any) -> None:
        if getattr(self._library, name)(*arguments):
            raise ModelError(f"LightGBM refused the model: {self._library.LGBM_GetLastError().decode()}")
