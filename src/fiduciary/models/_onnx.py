"""ONNX models: tree ensembles and linear models become ours, with exact reasons; anything else runs in ONNX
Runtime.

Recognised (ai.onnx.ml: TreeEnsembleClassifier and TreeEnsembleRegressor, LinearClassifier and LinearRegressor,
behind nothing but Cast, Identity and, for linear models, Scaler): converted, and held against ONNX Runtime to
1e-5 at import. Trees in ONNX carry no counts of training rows, so the branch shares that path-dependent Shapley
values need are counted on the rows given at import (the approved population) and kept in `covers.json`.

Anything else is a *black box*: the margin is its probability or value, and reasons are interventional Shapley
values over at most 10 reason groups against pinned reference rows, by all coalitions: v(S) is the mean output
over reference rows with the groups of S taken from the person's row. They add up to the output minus the mean
reference output. A group's value stands at its first feature. Rows are run one at a time and coalitions in
batches of one fixed shape that hold one row's coalitions only, so a row's bits do not depend on the rows beside
it. They do depend on ONNX Runtime's version and on the processor's kind: replay a black box where it was
served. Tests: tests/models_trees/test_onnx.py.
"""

from __future__ import annotations

import importlib
import itertools
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fiduciary.errors import MissingExtraError, ModelError
from fiduciary.models._contract import Contract
from fiduciary.models._linear import Linear, LinearFile, Term
from fiduciary.models._logistic import logistic_array
from fiduciary.models._scorer import F64, Link, Scorer, refuse_pickle
from fiduciary.models._shap import (
    ADDITIVITY,
    ImportReport,
    check_trees,
    checked_rows,
    draw_rows,
    goes_left,
    largest,
    require,
    require_same_bits,
    write_model,
)
from fiduciary.models._trees import NAN, NARROW, PLAIN, Trees, TreeScorer, parents_first

FILE, COVERS, REFERENCES = "model.onnx", "covers.json", "references.json"
MAX_BYTES = 256 << 20
MAX_GROUPS = 10
MAX_REFERENCES = 32
MAX_EVALUATIONS = 1 << 15
"""Coalitions times reference rows for one explanation."""
BATCH = 256
PARITY = 1e-5
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


class BlackBox:
    """Any ONNX model of one output, explained over groups of features by all coalitions."""

    family = "onnx"
    link: Link = "identity"

    def __init__(self, model: bytes, contract: Contract, references: F64) -> None:
        self.features = len(contract.features)
        self._groups = groups_of(contract)
        if (
            references.ndim != 2
            or references.shape[1] != self.features
            or not 1 <= len(references) <= MAX_REFERENCES
        ):
            raise ModelError(f"1 to {MAX_REFERENCES} reference rows of {self.features} features are needed")
        if len(references) << len(self._groups) > MAX_EVALUATIONS:
            raise ModelError(
                f"{len(self._groups)} groups and {len(references)} reference rows need more than {MAX_EVALUATIONS} "
                "evaluations for one explanation: use fewer of either"
            )
        self._session = Session(model, self.features)
        self._references = references
        self.bias = _mean(self._session.singles(references))
        members = np.zeros((1 << len(self._groups), self.features), bool)
        for k, group in enumerate(self._groups):
            members[np.ix_(np.arange(len(members)) >> k & 1 == 1, group)] = True
        self._members = members

    def score(self, rows: F64) -> F64:
        """Outputs, shape (n,)."""
        return self._session.singles(self._rows(rows))

    def explain(self, rows: F64) -> tuple[F64, F64]:
        """Outputs (n,) and contributions (n, features), each group's at its first feature."""
        rows = self._rows(rows)
        margins, contributions = self._session.singles(rows), np.zeros(rows.shape)
        for i, row in enumerate(rows):
            worth = self._worth(row)
            worth[0], worth[-1] = self.bias, float(margins[i])
            for k, group in enumerate(self._groups):
                contributions[i, group[0]] = shapley(worth, len(self._groups), k)
        return margins, contributions

    def _worth(self, row: F64) -> list[float]:
        """v(S) for all coalitions; bit k of the position says whether group k is taken from the row."""
        mixed = np.where(self._members[:, None, :], row, self._references[None, :, :])
        outputs = self._session.fixed(mixed.reshape(-1, self.features))
        return [_mean(part) for part in outputs.reshape(len(self._members), -1)]

    def _rows(self, rows: F64) -> F64:
        rows = np.ascontiguousarray(rows, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.features:
            raise ModelError(f"rows have shape {rows.shape}, the model reads (n, {self.features})")
        return rows


class Session:
    """ONNX Runtime on one thread: one matrix of inputs, one number a row."""

    def __init__(self, model: bytes, features: int) -> None:
        runtime = _module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no common class of errors
            raise ModelError(f"ONNX Runtime refuses the model: {type(error).__name__}") from None
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        types = {"tensor(float)": np.float32, "tensor(double)": np.float64}
        if len(inputs) != 1 or inputs[0].type not in types:
            raise ModelError("the ONNX model must have one input, a matrix of float or double")
        shape = inputs[0].shape
        if len(shape) != 2 or (shape[1] not in (features, None) and not isinstance(shape[1], str)):
            raise ModelError(
                f"the ONNX model's input has shape {shape}, the contract names {features} features"
            )
        self._features, self._input, self._type = features, inputs[0].name, types[inputs[0].type]
        floats = [o.name for o in outputs if o.type in types]
        if len(floats) != 1:
            raise ModelError(
                "the ONNX model must have one float output (a value or probabilities); scikit-learn: "
                "to_onnx(model, x, options={'zipmap': False})"
            )
        self._output = floats

    def run(self, rows: F64) -> F64:
        """One number a row: the value, or the probability of the second of two classes."""
        try:
            found = self._session.run(self._output, {self._input: rows.astype(self._type)})[0]
        except Exception as error:
            raise ModelError(f"ONNX Runtime failed on the model: {type(error).__name__}") from None
        found = np.asarray(found, np.float64).reshape(len(rows), -1)
        if found.shape[1] not in (1, 2) or not np.isfinite(found).all():
            raise ModelError(f"the ONNX model gave {found.shape[1]} outputs a row, or one that is not finite")
        return np.ascontiguousarray(found[:, -1])

    def singles(self, rows: F64) -> F64:
        """Each row alone."""
        return np.array([self.run(rows[i : i + 1])[0] for i in range(len(rows))], np.float64)

    def fixed(self, rows: F64) -> F64:
        """All rows in batches of one fixed shape, the last filled up with its own first row."""
        outputs = []
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            full = np.concatenate([part, np.repeat(part[:1], BATCH - len(part), axis=0)])
            outputs.append(self.run(full)[: len(part)])
        return np.concatenate(outputs)


def shapley(worth: list[float], players: int, player: int) -> float:
    """Shapley value of one player from the worth of all 2^players coalitions (bit k: player k takes part)."""
    total = 0.0
    for coalition in range(1 << players):
        if not coalition >> player & 1:
            weight = 1.0 / (players * math.comb(players - 1, coalition.bit_count()))
            total += weight * (worth[coalition | 1 << player] - worth[coalition])
    return total


def groups_of(contract: Contract) -> list[list[int]]:
    """Features by reason group, in contract order. Raises `ModelError` beyond the limit."""
    groups: dict[str, list[int]] = {}
    for i, feature in enumerate(contract.features):
        groups.setdefault(
            f"group {feature.group}" if feature.group else f"feature {feature.name}", []
        ).append(i)
    if len(groups) > MAX_GROUPS:
        raise ModelError(
            f"the contract has {len(groups)} reason groups; a black-box model can be explained exactly over at most "
            f"{MAX_GROUPS}: give related features one group"
        )
    return list(groups.values())


def load(directory: Path, spec: dict[str, Any], contract: Contract) -> Scorer:
    """Load `model.onnx` as trees or as a black box. Raises `ModelError` when damaged or of another contract."""
    form, model = spec.get("form"), _read(directory / FILE)
    if spec.get("version") != 1 or form not in ("trees", "black box"):
        raise ModelError("model.json of an ONNX model has version 1 and the form 'trees' or 'black box'")
    graph = _graph(model)
    try:
        if form == "black box":
            rows = msgspec.json.decode(_read(directory / REFERENCES), type=list[list[float | None]])
            return BlackBox(model, contract, np.array(rows, np.float64))
        covers = msgspec.json.decode(_read(directory / COVERS), type=list[float])
    except (msgspec.DecodeError, ValueError, UnicodeDecodeError):
        raise ModelError(f"{REFERENCES} or {COVERS} of the ONNX model is damaged") from None
    found = _core(graph)
    if found is None or not found[0].op_type.startswith("TreeEnsemble"):
        raise ModelError("the ONNX model holds no tree ensemble")
    trees, link = read_trees(found[0], len(contract.features))
    if len(covers) != len(trees.cover) or not all(map(math.isfinite, covers)):
        raise ModelError(f"{COVERS} must have {len(trees.cover)} finite counts")
    trees.cover = covers
    return TreeScorer("onnx", link, trees)


def import_onnx(
    file: Path | str, contract: Contract, directory: Path | str, rows: F64 | None = None
) -> ImportReport:
    """Check an ONNX model and write it as a model directory, as trees, as a linear model or as a black box.

    `rows` (n, features) stand for the approved population: branch shares and reference rows are taken from them;
    without them rows are drawn from the contract. Raises `ModelError` with the numbers when a check fails.
    """
    file, directory = Path(file), Path(directory)
    refuse_pickle(file)
    model = _read(file)
    core = _core(_graph(model))
    if core is None:
        return _import_black_box(model, contract, directory, rows)
    node, scalers = core
    if node.op_type.startswith("Linear"):
        return _import_linear(model, node, scalers, contract, directory, rows)
    trees, link = read_trees(node, len(contract.features))
    found = checked_rows(contract, rows, lambda: draw_rows(contract, trees))
    count_covers(trees, found)
    scorer = TreeScorer("onnx", link, trees)
    edges = draw_rows(contract, trees, 300)
    probe = np.concatenate([found[:1_000], edges])
    margins = scorer.score(probe)
    shown = logistic_array(margins) if link == "logit" else margins
    theirs = Session(model, trees.features).run(probe)
    difference = largest(shown, theirs)
    require("outputs differ from ONNX Runtime's", difference, PARITY * max(1.0, float(np.abs(theirs).max())))
    report = check_trees(
        scorer, trees, probe, margins, None, margin_tolerance=0.0, contribution_tolerance=0.0
    )
    report = msgspec.structs.replace(report, margin_difference=difference)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / COVERS).write_bytes(msgspec.json.encode(trees.cover) + b"\n")
    spec = {"version": 1, "family": "onnx", "form": "trees", "file": FILE, "covers": COVERS}
    write_model(directory, spec | {"checked": msgspec.to_builtins(report)}, FILE, model)
    return report


def _import_black_box(model: bytes, contract: Contract, directory: Path, rows: F64 | None) -> ImportReport:
    found = checked_rows(contract, rows, lambda: draw_rows(contract, None))
    most = min(MAX_REFERENCES, MAX_EVALUATIONS >> len(groups_of(contract)), len(found))
    references = found[np.linspace(0, len(found) - 1, most).astype(int)]
    scorer = BlackBox(model, contract, references)
    few = found[:5]
    margins, shares = scorer.explain(few)
    additivity = largest(scorer.bias + shares.sum(axis=1), margins)
    require("contributions do not add up to the output", additivity, ADDITIVITY)
    require_same_bits(scorer, few)
    directory.mkdir(parents=True, exist_ok=True)
    values = [[None if math.isnan(x) else x for x in row] for row in references.tolist()]
    (directory / REFERENCES).write_bytes(msgspec.json.encode(values) + b"\n")
    report = ImportReport(
        rows=len(few),
        margin_difference=0.0,
        contribution_difference=None,
        reference_difference=0.0,
        additivity_difference=additivity,
    )
    spec = {"version": 1, "family": "onnx", "form": "black box", "file": FILE, "references": REFERENCES}
    write_model(directory, spec | {"checked": msgspec.to_builtins(report)}, FILE, model)
    return report


def _import_linear(
    model: bytes, node: Any, scalers: list[Any], contract: Contract, directory: Path, rows: F64 | None
) -> ImportReport:
    features = len(contract.features)
    attributes = _attributes(node)
    weights = np.array(attributes["coefficients"], np.float64)
    intercepts = attributes.get("intercepts") or [0.0]
    if len(weights) == 2 * features:  # two classes, the second is the positive one
        weights, intercepts = weights[features:], intercepts[-1:]
    classifier = node.op_type == "LinearClassifier"
    if len(weights) != features or (classifier and attributes.get("post_transform") != "LOGISTIC"):
        raise ModelError(
            "the ONNX linear model must have one output; a classifier two classes and a logistic link"
        )
    centers = np.zeros(features)
    for scaler in reversed(scalers):
        scale = np.broadcast_to(np.array(scaler["scale"], np.float64), features)
        offset = np.broadcast_to(np.array(scaler["offset"], np.float64), features)
        weights, centers = (
            weights * scale,
            offset + np.divide(centers, scale, out=np.zeros(features), where=scale != 0),
        )
    terms = []
    for feature, weight, center in zip(contract.features, weights.tolist(), centers.tolist(), strict=True):
        if feature.missing == "allowed":
            raise ModelError(f"a linear ONNX model has no answer when {feature.name!r} is missing")
        codes = [weight * (k - center) for k in range(len(feature.categories))]
        term = Term(name=feature.name, categories=codes) if codes else None
        terms.append(term or Term(name=feature.name, weight=weight, center=center))
    link: Link = "logit" if classifier else "identity"
    scorer = Linear(LinearFile(link=link, intercept=float(intercepts[0]), terms=terms), contract)
    found = checked_rows(contract, rows, lambda: draw_rows(contract, None))
    margins, shares = scorer.explain(found)
    theirs = Session(model, features).run(found)
    shown = logistic_array(margins) if classifier else margins
    difference = largest(shown, theirs)
    require("outputs differ from ONNX Runtime's", difference, PARITY * max(1.0, float(np.abs(theirs).max())))
    require_same_bits(scorer, found)
    scorer.save(directory)
    return ImportReport(
        rows=len(found),
        margin_difference=difference,
        contribution_difference=None,
        reference_difference=0.0,
        additivity_difference=largest(scorer.bias + shares.sum(axis=1), margins),
    )


def read_trees(node: Any, features: int) -> tuple[Trees, Link]:
    """A TreeEnsemble node -> trees (covers 1 until counted) and link. Raises `ModelError` when it is no such tree."""
    a = _attributes(node)
    classifier = node.op_type == "TreeEnsembleClassifier"
    if a.get("aggregate_function", "SUM") != "SUM":
        raise ModelError("the ONNX trees are not summed; only sums are supported")
    transform = a.get("post_transform", "NONE")
    if transform not in (("NONE", "LOGISTIC") if classifier else ("NONE",)):
        raise ModelError(f"post_transform {transform} of the ONNX trees is not supported")
    prefix = "class" if classifier else "target"
    targets = set(a[f"{prefix}_ids"])
    if len(targets) > 2 or (not classifier and len(targets) > 1):
        raise ModelError("the ONNX trees have several outputs; one is supported")
    wanted = max(targets)
    bases = a.get("base_values") or [0.0]
    weights: dict[tuple[int, int], float] = {}
    for tree, leaf, target, weight in zip(
        a[f"{prefix}_treeids"],
        a[f"{prefix}_nodeids"],
        a[f"{prefix}_ids"],
        a[f"{prefix}_weights"],
        strict=True,
    ):
        if target == wanted:
            weights[tree, leaf] = weights.get((tree, leaf), 0.0) + weight
    modes = [m.decode() if isinstance(m, bytes) else m for m in a["nodes_modes"]]
    if not set(modes) <= {"LEAF", "BRANCH_LEQ", "BRANCH_LT"} or {"BRANCH_LEQ", "BRANCH_LT"} <= set(modes):
        raise ModelError(
            f"the ONNX trees split by {sorted(set(modes))}; BRANCH_LEQ or BRANCH_LT are supported"
        )
    missing = a.get("nodes_missing_value_tracks_true") or [0] * len(modes)
    trees = Trees(features, base=float(bases[-1]), strict="BRANCH_LT" in modes, reading=NARROW)
    rows = list(
        zip(
            a["nodes_treeids"],
            a["nodes_nodeids"],
            modes,
            a["nodes_featureids"],
            a["nodes_values"],
            a["nodes_truenodeids"],
            a["nodes_falsenodeids"],
            missing,
            strict=True,
        )
    )
    for tree, group in itertools.groupby(rows, key=lambda row: row[0]):
        nodes = list(group)
        place = {row[1]: i for i, row in enumerate(nodes)}
        for _, name, mode, feature, value, true, false, track in nodes:
            if mode == "LEAF":
                trees.leaf(weights.get((tree, name), 0.0), 1.0)
            elif true not in place or false not in place:
                raise ModelError("a branch of the ONNX trees leads nowhere")
            else:
                # NaN compares false, so it goes to the false branch unless it tracks true.
                trees.split(
                    feature, value, place[true], place[false], 1.0, kind=NAN, left_if_missing=bool(track)
                )
        trees.end_tree()
    return trees, "logit" if transform == "LOGISTIC" else "identity"


def count_covers(trees: Trees, rows: F64) -> None:
    """Set every node's cover to the number of rows (n, features) that reach it."""
    parents_first(trees)  # refuses circles, in which the walk below would never end
    cover = [0.0] * len(trees.cover)
    for start in trees.starts[:-1]:
        stack = [(start, np.arange(len(rows)))]
        while stack:
            node, here = stack.pop()
            cover[node] = float(len(here))
            f = trees.feature[node]
            if f >= 0:
                x = rows[here, f]
                narrow = x.astype(np.float32).astype(np.float64)
                left = narrow < trees.threshold[node] if trees.strict else narrow <= trees.threshold[node]
                left = np.where(np.isnan(x), trees.kind[node] != PLAIN and trees.left_if_missing[node], left)
                if len(here) and bool(left[0]) != goes_left(trees, node, float(x[0])):
                    raise ModelError("counting rows disagrees with the trees")
                stack.append((start + trees.left[node], here[left]))
                stack.append((start + trees.right[node], here[~left]))
    trees.cover = cover


def _core(graph: Any) -> tuple[Any, list[dict[str, Any]]] | None:
    """The tree or linear node that reads the input directly, and the scalers before it; None: a black box."""
    if len(graph.input) != 1:
        return None
    name = graph.input[0].name
    scalers: list[dict[str, Any]] = []
    for _ in range(len(graph.node)):
        readers = [node for node in graph.node if name in node.input]
        if len(readers) != 1:
            return None
        node = readers[0]
        if node.op_type in ("TreeEnsembleClassifier", "TreeEnsembleRegressor"):
            return (node, []) if not scalers else None
        if node.op_type in ("LinearClassifier", "LinearRegressor"):
            return node, scalers
        if node.op_type == "Scaler":
            scalers.append(_attributes(node))
        elif node.op_type not in ("Identity", "Cast"):
            return None
        name = node.output[0]
    return None


def _attributes(node: Any) -> dict[str, Any]:
    helper = _module("onnx.helper")
    found = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        found[attribute.name] = value.decode() if isinstance(value, bytes) else value
        if attribute.name.endswith("_as_tensor"):
            raise ModelError("ONNX trees or weights in double tensors are not supported")
    return found


def _graph(model: bytes) -> Any:
    onnx = _module("onnx")
    try:
        proto = onnx.load_model_from_string(model)
    except Exception:  # protobuf's DecodeError is not importable from onnx
        raise ModelError("not an ONNX model") from None
    if not proto.graph.node:
        raise ModelError("the ONNX model has no nodes")
    if any(entry.domain not in DOMAINS for entry in (*proto.opset_import, *proto.graph.node)):
        raise ModelError(f"the ONNX model uses operators outside {', '.join(d for d in DOMAINS if d)}")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer):
        raise ModelError("the ONNX model keeps weights in other files: save it as one file")
    return proto.graph


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(f"{name} is needed for ONNX models: pip install 'fiduciary[onnx]'") from None


def _mean(values: F64) -> float:
    return math.fsum(values.tolist()) / len(values)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path.name} is larger than {MAX_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}") from None
