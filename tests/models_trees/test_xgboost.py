"""XGBoost models: parity with XGBoost's own float32 prediction, exact by the plain reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from fiduciary.errors import ModelError
from fiduciary.models import load_scorer
from fiduciary.models._shap import draw_rows
from fiduciary.models._xgboost import import_xgboost, parse
from tree_models import contract_of, messy_rows

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deep": {"max_depth": 11, "rounds": 8, "min_child_weight": 0},
    "dart": {"booster": "dart", "rate_drop": 0.3},
    "regression": {"objective": "reg:squarederror"},
    "lossguide": {"grow_policy": "lossguide", "max_leaves": 40, "max_depth": 0},
    "parallel trees": {"num_parallel_tree": 3, "subsample": 0.5, "rounds": 5},
    "categories": {"categorical": True, "max_cat_to_onehot": 3},
    "one hot categories": {"categorical": True, "max_cat_to_onehot": 100},
    "raw": {"objective": "binary:logitraw"},
}


def train(path: Path, categorical: bool = False, rounds: int = 25, **params: Any) -> xgboost.Booster:
    x = messy_rows(2_000, 8, 5)
    y = (np.sin(np.nan_to_num(x[:, 0])) + np.nan_to_num(x[:, 1] * x[:, 2]) - np.isnan(x[:, 3]) > 0).astype(
        float
    )
    types = ["c" if categorical and i == 0 else "q" for i in range(8)]
    data = xgboost.DMatrix(x, y, feature_types=types, enable_categorical=True)
    settings = {"objective": "binary:logistic", "nthread": 1, "max_depth": 6, "seed": 2} | params
    booster = xgboost.train(settings, data, rounds)
    booster.save_model(path)
    return booster


@pytest.mark.parametrize("kind", KINDS)
def test_xgboost_agrees(tmp_path: Path, kind: str) -> None:
    path, contract = tmp_path / "model.json", contract_of(8)
    train(path, **KINDS[kind])
    rows = np.concatenate([messy_rows(500, 8, 3), draw_rows(contract, parse(path.read_bytes())[0], 500)])
    if KINDS[kind].get("categorical"):
        rows[:, 0] = messy_rows(len(rows), 8, 4)[:, 0]
    report = import_xgboost(path, contract, tmp_path / "out", rows)
    assert report.margin_difference < 1e-5
    assert report.reference_difference < 1e-9
    scorer = load_scorer(tmp_path / "out", contract)
    margins, shares = scorer.explain(rows)
    assert np.abs(scorer.bias + shares.sum(1) - margins).max() < 1e-9
    assert scorer.score(rows).tobytes() == margins.tobytes()


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path, contract = tmp_path / "model.json", contract_of(8)
    booster = train(path, rounds=2)
    document = json.loads(path.read_bytes())
    booster.save_model(tmp_path / "model.ubj")
    with pytest.raises(ModelError, match="UBJSON"):
        parse((tmp_path / "model.ubj").read_bytes())
    import_xgboost(tmp_path / "model.ubj", contract, tmp_path / "binary")
    import_xgboost(path, contract, tmp_path / "text")
    rows = messy_rows(50, 8, 1)
    binary, text = (load_scorer(tmp_path / name, contract) for name in ("binary", "text"))
    assert binary.explain(rows)[1].tobytes() == text.explain(rows)[1].tobytes()
    (tmp_path / "other.json").write_text('{"learner": 1}')
    with pytest.raises(ModelError, match="cannot read"):
        import_xgboost(tmp_path / "other.json", contract, tmp_path / "out")

    def damaged(change: Any) -> bytes:
        copy = json.loads(json.dumps(document))
        change(copy["learner"])
        return json.dumps(copy).encode()

    def tree(learner: Any) -> Any:
        return learner["gradient_booster"]["model"]["trees"][0]

    changes: list[Any] = [
        lambda m: m["objective"].update(name="multi:softprob"),
        lambda m: m["gradient_booster"].update(name="gblinear"),
        lambda m: m["learner_model_param"].update(num_class="3"),
        lambda m: m["learner_model_param"].update(num_feature="100000000"),
        lambda m: m["learner_model_param"].update(base_score="2"),
        lambda m: tree(m)["left_children"].__setitem__(0, 0),
        lambda m: tree(m)["left_children"].__setitem__(0, 10**9),
        lambda m: tree(m)["split_indices"].__setitem__(0, 99),
        lambda m: tree(m)["split_conditions"].pop(),
        lambda m: m.pop("gradient_booster"),
    ]
    for change in changes:
        with pytest.raises(ModelError):
            parse(damaged(change))
    for cut in range(0, path.stat().st_size, 997):
        with pytest.raises(ModelError):
            parse(path.read_bytes()[:cut])
