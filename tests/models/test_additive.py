"""An imported EBM predicts what interpret predicts, and its parts add up."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiduciary.errors import ModelError
from fiduciary.models import Additive, Contract, Feature, import_ebm, load_scorer, probability

CONTRACT = Contract(
    features=(
        Feature(name="a", type="number", missing="allowed"),
        Feature(name="b", type="integer"),
        Feature(name="c", type="category", categories=["z", "x", "y"]),
        Feature(name="d", type="number"),
        Feature(name="e", type="boolean"),
    )
)
ORDER = ["d", "c", "e", "b", "a"]
"""interpret sees the columns in another order: they are matched by name."""


def columns(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    a[rng.random(n) < 0.05] = np.nan
    return {
        "a": a,
        "b": rng.integers(0, 5, n),
        "c": rng.choice(["x", "y", "z"], n).astype(object),
        "d": rng.normal(size=n).round(2),
        "e": rng.random(n) < 0.4,
    }


def theirs(named: dict[str, np.ndarray]) -> np.ndarray:
    table = np.empty((len(named["a"]), 5), dtype=object)
    for j, name in enumerate(ORDER):
        table[:, j] = named[name]
    return table


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    """A classifier and a regressor of interpret, and the folder their JSON lies in."""
    from interpret.glassbox import ExplainableBoostingClassifier, ExplainableBoostingRegressor

    folder = tmp_path_factory.mktemp("ebm")
    named = columns(1_500)
    margin = np.nan_to_num(named["a"]) * named["d"] + (named["c"] == "x") + named["e"] * (named["b"] - 2.0)
    events = (np.random.default_rng(1).random(1_500) < 1 / (1 + np.exp(-margin))).astype(int)
    common: dict[str, Any] = {
        "interactions": 4, "outer_bags": 2, "max_rounds": 120, "n_jobs": 1, "feature_names": ORDER, "random_state": 3,
    }  # fmt: skip
    classifier, regressor = ExplainableBoostingClassifier(**common), ExplainableBoostingRegressor(**common)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier.fit(theirs(named), events)
        regressor.fit(theirs(named), margin)
        classifier.to_json(str(folder / "classifier.json"), detail="minimal")
        regressor.to_json(str(folder / "regressor.json"), detail="all")
    return classifier, regressor, folder


def probe() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows for comparison, cut points of the grid among them."""
    named = columns(3_000, seed=9)
    return named, CONTRACT.compile().table(named)


def test_a_classifier_predicts_what_interpret_predicts(fitted: tuple[Any, Any, Path], tmp_path: Path) -> None:
    classifier, _, folder = fitted
    scorer = import_ebm(folder / "classifier.json", CONTRACT, tmp_path)
    assert any(len(term.axes) == 2 for term in scorer.model.terms)
    cuts = [cut for axis in scorer.model.axes if axis.feature == "a" for cut in axis.cuts]
    named, _ = probe()
    named["a"][: len(cuts)] = cuts[:3_000]  # exactly on the cuts, where < and <= differ
    rows = CONTRACT.compile().table(named)
    scores = probability(scorer.score(rows), scorer.link)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = classifier.predict_proba(theirs(named))[:, 1]
    assert np.abs(scores - expected).max() <= 1e-12


def test_a_regressor_predicts_what_interpret_predicts(fitted: tuple[Any, Any, Path], tmp_path: Path) -> None:
    _, regressor, folder = fitted
    scorer = import_ebm(folder / "regressor.json", CONTRACT, tmp_path)
    named, rows = probe()
    assert scorer.link == "identity"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = regressor.predict(theirs(named))
    assert np.abs(scorer.score(rows) - expected).max() <= 1e-12


def test_parts_add_up_and_a_batch_has_the_bits_of_its_rows(
    fitted: tuple[Any, Any, Path], tmp_path: Path
) -> None:
    import_ebm(fitted[2] / "classifier.json", CONTRACT, tmp_path)
    scorer = load_scorer(tmp_path, CONTRACT)
    _, rows = probe()
    margins, contributions = scorer.explain(rows)
    assert margins.tobytes() == scorer.score(rows).tobytes()
    assert np.abs(scorer.bias + contributions.sum(axis=1) - margins).max() <= 1e-12
    for i in range(300):
        alone, split = scorer.explain(rows[i : i + 1])
        assert alone[0] == margins[i] and split[0].tobytes() == contributions[i].tobytes()
    assert scorer.explain(rows[:0])[1].shape == (0, 5)


def test_what_does_not_fit_is_said(fitted: tuple[Any, Any, Path], tmp_path: Path) -> None:
    document = json.loads((fitted[2] / "classifier.json").read_text())

    def attempt(message: str, contract: Contract = CONTRACT, **change: Any) -> None:
        path = tmp_path / "changed.json"
        path.write_text(json.dumps({"ebm": {**document["ebm"], **change}}))
        with pytest.raises(ModelError, match=message):
            import_ebm(path, contract, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    attempt("features are not the contract's", Contract(features=CONTRACT.features[:4]))
    attempt("never seen the category 'w'", Contract(features=(
        *CONTRACT.features[:2], Feature(name="c", type="category", categories=["x", "y", "z", "w"]),
        *CONTRACT.features[3:])))  # fmt: skip
    category = Feature(name="d", type="category", categories=["x"])
    swapped = Contract(features=(*CONTRACT.features[:3], category, CONTRACT.features[4]))
    attempt("as a number, the contract as a category", swapped)
    output = document["ebm"]["outputs"][0]
    attempt("two classes", outputs=[{**output, "link": "mlogit", "classes": [0, 1, 2]}])
    attempt("one output", outputs=[output, output])
    terms = document["ebm"]["terms"]
    attempt("larger interaction", terms=[{"term_features": ["a", "b", "d"], "scores": [[[0.0]]]}])
    attempt("must be finite", terms=[{**terms[0], "scores": ["nan"] * len(terms[0]["scores"])}])
    attempt("too small", terms=[{**terms[0], "scores": terms[0]["scores"][:3]}])
    attempt("not an EBM", terms=[{"term_features": ["zz"], "scores": []}])
    attempt("not an EBM", intercept=[])
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04\x95")
    with pytest.raises(ModelError, match="pickle"):
        import_ebm(tmp_path / "model.pkl", CONTRACT, tmp_path / "out")
    (tmp_path / "x.json").write_text("no json")
    with pytest.raises(ModelError, match="not JSON"):
        import_ebm(tmp_path / "x.json", CONTRACT, tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        {"intercept": float("nan")},
        {"axes": [{"feature": "zz", "cuts": []}]},
        {"axes": [{"feature": "a", "cuts": [1.0, 1.0]}]},
        {"axes": [{"feature": "c", "cuts": [1.0]}]},
        {"axes": [{"feature": "c", "codes": [1, 2]}]},
        {"axes": [{"feature": "c", "codes": [0, 1, 2]}]},
        {"terms": [{"axes": [5], "scores": [0.0] * 4}]},
        {"terms": [{"axes": [0, 0], "columns": 3, "scores": [0.0] * 9}]},
        {"terms": [{"axes": [0, 1], "columns": 0, "scores": [0.0] * 9}]},
        {"terms": [{"axes": [0, 1], "columns": 4, "scores": [0.0] * 13}]},
        {"terms": [{"axes": [0], "scores": [0.0, 1e300, 0.0]}]},
        {"terms": [{"axes": [], "scores": []}]},
    ],
)
def test_a_damaged_file_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    good = {
        "link": "logit", "intercept": 0.0,
        "axes": [{"feature": "a", "cuts": [0.5]}, {"feature": "c", "codes": [1, 2, 3]}],
        "terms": [{"axes": [0], "scores": [0.0] * 3}, {"axes": [0, 1], "columns": 4, "scores": [0.0] * 12}],
    }  # fmt: skip
    (tmp_path / "model.json").write_text('{"version": 1, "family": "additive"}')
    (tmp_path / "additive.json").write_text(json.dumps(good))
    assert isinstance(load_scorer(tmp_path, CONTRACT), Additive)
    (tmp_path / "additive.json").write_text(json.dumps({**good, **change}))
    with pytest.raises(ModelError):
        load_scorer(tmp_path, CONTRACT)
