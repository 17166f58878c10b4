"""ONNX models from scikit-learn: trees and linear models become ours, the rest is explained by all coalitions."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from skl2onnx import to_onnx
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from fiduciary.errors import ModelError
from fiduciary.models import Contract, Feature, load_scorer, probability
from fiduciary.models._onnx import import_onnx

RANDOM = np.random.default_rng(3)
X = np.round(RANDOM.normal(size=(400, 5)), 2).astype(np.float32).astype(float)
Y = (X[:, 0] * X[:, 1] + X[:, 2] > 0.2).astype(int)
CONTRACT = Contract(
    features=tuple(Feature(name=f"f{i}", type="number", minimum=-4, maximum=4) for i in range(5))
)

MODELS: dict[str, tuple[Any, str, str]] = {
    "gradient boosting": (GradientBoostingClassifier(n_estimators=20), "onnx", "logit"),
    "forest": (RandomForestClassifier(n_estimators=10, random_state=1), "onnx", "identity"),
    "tree": (DecisionTreeClassifier(max_depth=4), "onnx", "identity"),
    "regression": (ExtraTreesRegressor(n_estimators=5, random_state=1), "onnx", "identity"),
    "logistic": (make_pipeline(StandardScaler(), LogisticRegression()), "linear", "logit"),
    "linear": (make_pipeline(StandardScaler(), StandardScaler(), LinearRegression()), "linear", "identity"),
    "net": (MLPClassifier((6,), max_iter=200, random_state=1), "onnx", "identity"),
    "scaled net": (make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=50)), "onnx", "identity"),
}


def exported(path: Path, model: Any) -> Path:
    model.fit(X, Y)
    options = {"zipmap": False} if hasattr(model, "predict_proba") else None
    path.write_bytes(to_onnx(model, X[:1].astype(np.float32), options=options).SerializeToString())
    return path


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learn_models_agree(tmp_path: Path, name: str) -> None:
    model, family, link = MODELS[name]
    path = exported(tmp_path / "m.onnx", model)
    import_onnx(path, CONTRACT, tmp_path / "out", X)
    scorer = load_scorer(tmp_path / "out", CONTRACT)
    assert (scorer.family, scorer.link) == (family, link)
    rows = X[:20]
    margins, shares = scorer.explain(rows)
    theirs = model.predict_proba(rows)[:, 1] if hasattr(model, "predict_proba") else model.predict(rows)
    assert np.abs(probability(margins, scorer.link) - theirs.ravel()).max() < 1e-5
    assert np.abs(scorer.bias + shares.sum(1) - margins).max() < 1e-9
    for i in range(5):
        one, share = scorer.explain(rows[i : i + 1])
        assert one[0] == margins[i]
        assert share.tobytes() == shares[i : i + 1].tobytes()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_black_box_gets_the_mean_gain_over_all_orders(tmp_path: Path) -> None:
    path = exported(tmp_path / "m.onnx", MODELS["net"][0])
    grouped = Contract(
        features=tuple(
            Feature(name=f"f{i}", type="number", minimum=-4, maximum=4, group="pair" if i in (1, 3) else "")
            for i in range(5)
        )
    )
    import_onnx(path, grouped, tmp_path / "out", X)
    scorer: Any = load_scorer(tmp_path / "out", grouped)
    row = X[7]
    _, shares = scorer.explain(row[None])
    groups = [[0], [1, 3], [2], [4]]
    references = scorer._references

    def worth(known: tuple[int, ...]) -> float:
        mixed = references.copy()
        for k in known:
            mixed[:, groups[k]] = row[groups[k]]
        return float(np.mean(scorer.score(mixed)))

    for k, group in enumerate(groups):
        gains = []
        for order in itertools.permutations(range(4)):
            before = order[: order.index(k)]
            gains.append(worth((*before, k)) - worth(before))
        assert abs(math.fsum(gains) / len(gains) - shares[0, group[0]]) < 1e-6  # float32 inside the model
    assert shares[0, 3] == 0.0


def test_what_is_no_usable_model_is_refused(tmp_path: Path) -> None:
    path = exported(tmp_path / "m.onnx", DecisionTreeClassifier(max_depth=3))
    good = path.read_bytes()
    out = tmp_path / "out"

    def refused(change: Any, message: str) -> None:
        model = onnx.load_model_from_string(good)
        change(model)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match=message):
            import_onnx(path, CONTRACT, out, X)

    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(ModelError):
        import_onnx(path, CONTRACT, out, X)
    path.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ModelError, match="pickle"):
        import_onnx(path, CONTRACT, out, X)
    refused(lambda m: setattr(m.graph.node[0], "domain", "evil.ops"), "outside")
    refused(lambda m: m.graph.ClearField("node"), "no nodes")

    def tree_attribute(name: str, value: int) -> Any:
        def change(model: Any) -> None:
            node = next(n for n in model.graph.node if n.op_type.startswith("TreeEnsemble"))
            next(a for a in node.attribute if a.name == name).ints[0] = value

        return change

    refused(tree_attribute("nodes_featureids", 50), "feature 50")
    refused(tree_attribute("nodes_truenodeids", 5_000), "nowhere")
    refused(tree_attribute("nodes_truenodeids", 0), "not a tree")
    many = Contract(features=tuple(Feature(name=f"f{i}", type="number") for i in range(12)))
    wide = RANDOM.normal(size=(60, 12))
    net = MLPClassifier((2,), max_iter=5).fit(wide, Y[:60])
    path.write_bytes(to_onnx(net, wide[:1].astype(np.float32), options={"zipmap": False}).SerializeToString())
    with pytest.raises(ModelError, match="12 reason groups"):
        import_onnx(path, many, out, wide)


def test_three_classes_are_refused(tmp_path: Path) -> None:
    model = DecisionTreeClassifier(max_depth=3).fit(X, RANDOM.integers(0, 3, len(X)))
    path = tmp_path / "m.onnx"
    path.write_bytes(to_onnx(model, X[:1].astype(np.float32), options={"zipmap": False}).SerializeToString())
    with pytest.raises(ModelError, match="several outputs"):
        import_onnx(path, CONTRACT, tmp_path / "out", X)
