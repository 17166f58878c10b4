"""LightGBM models: margins bit for bit LightGBM's, Shapley values those of pred_contrib."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiduciary.errors import ModelError
from fiduciary.models import load_scorer
from fiduciary.models._lightgbm import Reference, import_lightgbm, parse
from fiduciary.models._shap import draw_rows
from fiduciary.models._trees import TreeScorer
from tree_models import contract_of, messy_rows

Trained = Callable[..., Any]

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "depth 6": {"max_depth": 6, "num_leaves": 63},
    "deep chains": {"num_leaves": 120, "min_data_in_leaf": 2, "rounds": 8},
    "no missing type": {"use_missing": False},
    "zero as missing": {"zero_as_missing": True},
    "categories": {
        "categorical_feature": [0],
        "min_data_per_group": 5,
        "cat_smooth": 1,
        "max_cat_to_onehot": 4,
    },
    "one hot categories": {"categorical_feature": [0], "max_cat_to_onehot": 64, "min_data_per_group": 5},
    "regression from average": {"objective": "regression", "boost_from_average": True},
    "l1": {"objective": "regression_l1"},
    "dart": {"boosting": "dart"},
    "monotone": {"monotone_constraints": [1, -1, 0, 0, 0, 0, 0, 0]},
    "stumps": {"num_leaves": 2},
    "single leaves": {"min_data_in_leaf": 2_000, "rounds": 3},
}


def rows_for(scorer_rows: int, seed: int) -> np.ndarray:
    rows = messy_rows(scorer_rows, 8, seed)
    rows[0], rows[1], rows[2] = np.nan, 0.0, -0.0
    rows[3], rows[4] = np.inf, -np.inf
    rows[5, 0], rows[6, 0], rows[7, 0], rows[8, 0] = -0.5, 1e12, 1e-36, 39.9
    rows[9] = -1e-36
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_lightgbm_agrees(trained: Trained, tmp_path: Path, kind: str) -> None:
    path, booster = trained(**KINDS[kind])
    rows = np.concatenate([rows_for(2_000, 9), draw_rows(contract_of(8), parse(path.read_text())[0])])
    contract = contract_of(8)
    report = import_lightgbm(path, contract, tmp_path / "out", rows)
    assert report.margin_difference == 0.0
    scorer = load_scorer(tmp_path / "out", contract)
    assert scorer.score(rows).tobytes() == booster.predict(rows, raw_score=True).tobytes()
    margins, shares = scorer.explain(rows)
    theirs = booster.predict(rows[:300], pred_contrib=True)
    assert np.abs(shares[:300] - theirs[:, :-1]).max() < 1e-9
    assert abs(scorer.bias - theirs[0, -1]) < 1e-9
    assert np.abs(scorer.bias + shares.sum(1) - margins).max() < 1e-9


def test_margins_are_lightgbms_bits_on_many_rows(trained: Trained) -> None:
    path, booster = trained(max_depth=6, num_leaves=63, rounds=60)
    rows = messy_rows(100_000, 8, 77)
    scorer = TreeScorer("lightgbm", "logit", parse(path.read_text())[0])
    assert scorer.score(rows).tobytes() == booster.predict(rows, raw_score=True).tobytes()


def test_the_judges_fast_path_is_the_judge(trained: Trained) -> None:
    path, _ = trained()
    judge, rows = Reference(path), messy_rows(50, 8, 4)
    margins, shares = judge.margins(rows), judge.contributions(rows)
    for i, row in enumerate(rows):
        assert judge.one(row)[0] == margins[i]
        assert judge.one(row, Reference.CONTRIBUTIONS).tobytes() == shares[i].tobytes()
    with pytest.raises(ModelError, match="reads 8 features"):
        judge.margins(rows[:, :5])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"objective": "multiclass", "num_class": 3}, "3 classes"),
        ({"linear_tree": True}, "linear_tree"),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "random forest"),
        ({"objective": "poisson"}, "not supported"),
        ({"objective": "regression", "reg_sqrt": True}, "not supported"),
        ({"sigmoid": 2.0}, "sigmoid"),
    ],
)
def test_what_is_not_supported_is_refused(
    trained: Trained, tmp_path: Path, params: dict[str, Any], message: str
) -> None:
    x = np.abs(np.random.default_rng(0).normal(size=(500, 8)))
    if params.get("objective") in ("multiclass", "poisson"):
        import lightgbm

        path = tmp_path / "model.txt"
        target = np.random.default_rng(1).integers(0, 3, 500)
        settings = {"verbose": -1, "num_threads": 1} | params
        lightgbm.train(settings, lightgbm.Dataset(x, target), 2).save_model(str(path))
    else:
        path, _ = trained(x=x, rounds=3, **params)
    with pytest.raises(ModelError, match=message):
        import_lightgbm(path, contract_of(8), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damage_is_refused(trained: Trained, tmp_path: Path) -> None:
    path, _ = trained(rounds=3)
    text = path.read_text()
    damages = [
        text[: len(text) // 2],
        text.replace("left_child=1", "left_child=0", 1),
        text.replace("left_child=1", "left_child=9999", 1),
        text.replace("split_feature=", "split_feature=70 ", 1),
        text.replace("leaf_value=", "leaf_value=nan ", 1),
        text.replace("threshold=", "threshold=x", 1),
        text.replace("max_feature_idx=7", "max_feature_idx=99999999"),
        "ubj" + text,
    ]
    for damage in damages:
        path.write_text(damage)
        with pytest.raises(ModelError):
            import_lightgbm(path, contract_of(8), tmp_path / "out")


def test_every_cut_of_the_text_is_refused(trained: Trained) -> None:
    path, _ = trained(rounds=2, num_leaves=4)
    text = path.read_text()
    end = text.index("end of trees")
    for cut in range(0, end, 7):
        with pytest.raises(ModelError):
            parse(text[:cut])


def test_a_pickle_and_other_names_are_refused(trained: Trained, tmp_path: Path) -> None:
    import pickle

    path, _ = trained(rounds=2)
    (tmp_path / "a.txt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelError, match="pickle"):
        import_lightgbm(tmp_path / "a.txt", contract_of(8), tmp_path / "out")
    named = tmp_path / "named.txt"
    named.write_text(path.read_text().replace("Column_0", "income"))
    with pytest.raises(ModelError, match="feature 0"):
        import_lightgbm(named, contract_of(8), tmp_path / "out")
    with pytest.raises(ModelError, match="8 features"):
        import_lightgbm(path, contract_of(7), tmp_path / "out")
