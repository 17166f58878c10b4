"""Importing models: native files and MLflow directories in, pickles and surprises out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bank import USE_CASE, contract, rows, scorecard
from fiduciary.errors import ModelError
from fiduciary.models import Contract, Feature, load_scorer
from fiduciary.registry import build, import_model, read_bundle
from fiduciary.registry._mlmodel import read_mlmodel

MLMODEL = """artifact_path: model
flavors:
  lightgbm:
    code: null
    data: {data}
    lgb_version: 4.5.0
    model_class: lightgbm.basic.Booster
  python_function:
    data: {data}
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.lightgbm
    python_version: 3.10.11
mlflow_version: 2.16.2
model_size_bytes: 16722
signature:
  inputs: '[{{"type": "double", "name": "{first}", "required": true}}, {{"type": "double",
    "name": "late_payments", "required": true}}, {{"type": "long", "name": "hou''sing"}}]'
  outputs: '[{{"type": "tensor"}}]'
  params: null
utc_time_created: '2024-11-04 22:09:41.968097'
"""

PICKLED = """flavors:
  python_function:
    env:
      conda: conda.yaml
    loader_module: mlflow.sklearn
    model_path: model.pkl
    predict_fn: predict
  sklearn:
    code: null
    pickled_model: model.pkl
    serialization_format: cloudpickle
    sklearn_version: 1.5.0
mlflow_version: 2.16.2
"""


def numbers(n: int = 3) -> Contract:
    return Contract(
        features=tuple(Feature(name=f"x{i}", type="number", reason=f"Value {i}") for i in range(n))
    )


@pytest.fixture(scope="module")
def lightgbm_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lightgbm = pytest.importorskip("lightgbm")
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 3))
    y = (x[:, 0] + 0.5 * x[:, 1] + rng.normal(size=400) > 0).astype(int)
    parameters = {"objective": "binary", "verbose": -1, "num_leaves": 7, "num_threads": 1}
    data = lightgbm.Dataset(x, y, feature_name=["x0", "x1", "x2"])
    path = tmp_path_factory.mktemp("lgb") / "anything.dat"
    lightgbm.train(parameters, data, 10).save_model(path)
    return path


def test_a_lightgbm_file_is_recognised_by_its_content(lightgbm_file: Path, tmp_path: Path) -> None:
    imported = import_model(lightgbm_file, numbers(), tmp_path / "m")
    assert (imported.family, imported.inputs) == ("lightgbm", ("x0", "x1", "x2"))
    scorer = load_scorer(tmp_path / "m", numbers())
    assert scorer.link == "logit"
    x = np.random.default_rng(2).normal(size=(300, 3))
    folder = build(
        tmp_path / "out", tmp_path / "m", numbers(), USE_CASE, x, name="trees", version="1", approved=x
    )
    assert read_bundle(folder).manifest.family == "lightgbm"


@pytest.mark.parametrize("ending", ["json", "ubj"])
def test_xgboost_as_json_and_as_ubjson(tmp_path: Path, ending: str) -> None:
    xgboost = pytest.importorskip("xgboost")
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 3)).astype(np.float32).astype(np.float64)
    y = (x[:, 0] - x[:, 2] > 0).astype(int)
    names = ["x0", "x1", "x2"]
    parameters = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1}
    booster = xgboost.train(parameters, xgboost.DMatrix(x, y, feature_names=names), 10)
    booster.save_model(tmp_path / f"model.{ending}")
    imported = import_model(tmp_path / f"model.{ending}", numbers(), tmp_path / "m", x)
    assert imported.family == "xgboost"
    margins = booster.predict(xgboost.DMatrix(x, feature_names=names), output_margin=True)
    np.testing.assert_allclose(load_scorer(tmp_path / "m", numbers()).score(x), margins, atol=1e-5)


def test_inputs_in_another_order_are_refused(lightgbm_file: Path, tmp_path: Path) -> None:
    swapped = Contract(features=tuple(reversed(numbers().features)))
    with pytest.raises(ModelError, match="input 0 of the model is 'x0', the contract has 'x2'"):
        import_model(lightgbm_file, swapped, tmp_path / "m")
    with pytest.raises(ModelError, match="has 'nothing' there"):
        import_model(lightgbm_file, numbers(2), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_scorecard_as_file_and_as_directory(tmp_path: Path) -> None:
    scorecard().save(tmp_path / "card")
    for i, source in enumerate((tmp_path / "card", tmp_path / "card" / "scorecard.json")):
        assert import_model(source, contract(), tmp_path / f"m{i}").family == "scorecard"
        np.testing.assert_array_equal(
            load_scorer(tmp_path / f"m{i}", contract()).score(rows(9)), scorecard().score(rows(9))
        )


def test_an_explainable_boosting_machine(tmp_path: Path) -> None:
    interpret = pytest.importorskip("interpret.glassbox")
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 2))
    y = (x[:, 0] > 0).astype(int)
    ebm = interpret.ExplainableBoostingClassifier(
        feature_names=["x0", "x1"], interactions=0, max_rounds=20, outer_bags=1, n_jobs=1
    )
    ebm.fit(x, y)
    ebm.to_json(str(tmp_path / "ebm.json"))
    assert import_model(tmp_path / "ebm.json", numbers(2), tmp_path / "m").family == "additive"
    np.testing.assert_allclose(
        load_scorer(tmp_path / "m", numbers(2)).score(x), ebm.decision_function(x), rtol=0, atol=1e-9
    )


def mlflow(folder: Path, text: str, data: bytes = b"", name: str = "model.lgb") -> Path:
    folder.mkdir()
    (folder / "MLmodel").write_text(text)
    (folder / name).write_bytes(data)
    return folder


def test_an_mlflow_directory_with_a_native_model(lightgbm_file: Path, tmp_path: Path) -> None:
    folder = mlflow(tmp_path / "ml", MLMODEL.format(data="model.lgb", first="x"), lightgbm_file.read_bytes())
    assert import_model(folder, numbers(), tmp_path / "m").family == "lightgbm"
    model = read_mlmodel(folder)
    assert model.inputs == ("x", "late_payments", "hou'sing")
    assert model.flavors["python_function"]["env"] == {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}


def test_an_mlflow_directory_with_a_pickle_says_what_to_do_instead(tmp_path: Path) -> None:
    folder = mlflow(tmp_path / "ml", PICKLED, b"\x80\x04N.", "model.pkl")
    with pytest.raises(ModelError, match=r"skl2onnx.*\.onnx"):
        import_model(folder, contract(), tmp_path / "m")
    native_but_pickled = MLMODEL.format(data="model.pkl", first="x")
    other = mlflow(tmp_path / "ml2", native_but_pickled, b"\x80\x04N.", "model.pkl")
    with pytest.raises(ModelError, match="pickle"):
        import_model(other, contract(), tmp_path / "m")


@pytest.mark.parametrize("data", ["../secret.txt", "/etc/passwd", "a/../../b", "'../x'", "link.txt"])
def test_an_mlmodel_cannot_point_outside_its_directory(tmp_path: Path, data: str) -> None:
    (tmp_path / "secret.txt").write_text("tree\nsecret")
    folder = mlflow(tmp_path / "ml", MLMODEL.format(data=data, first="x"))
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(ModelError) as caught:
        import_model(folder, contract(), tmp_path / "m")
    assert "secret\n" not in str(caught.value)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "flavors: {}\n",
        "flavors:\n  lightgbm: &anchor\n    data: x\n",
        "flavors:\n  lightgbm: !!python/object/apply:os.system [ls]\n",
        "flavors:\n  lightgbm:\n    data: *x\n",
        "flavors:\n  lightgbm: {data: x}\n",
        "flavors:\n\tlightgbm:\n",
        "flavors:\n  lightgbm:\n    data: |\n      x\n",
        "flavors:\n  lightgbm:\n    data: 'never closed\n",
        "flavors:\n  lightgbm:\n    data: x\n    data: y\n",
        "flavors:\n  lightgbm:\n      data: x\n    code: y\n",
        "flavors:\n  lightgbm:\n    code: null\n",
        "flavors:\n  prophet:\n    data: x\n",
        "flavors:\n  a:\n    data: x\nflavors:\n  lightgbm:\n    data: y\n",
        "not yaml at all",
    ],
)
def test_an_mlmodel_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelError):
        import_model(mlflow(tmp_path / "ml", text), contract(), tmp_path / "m")


def test_the_reader_agrees_with_a_yaml_parser(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed; it is the oracle of this test")
    for text in (MLMODEL.format(data="model.lgb", first="x"), PICKLED):
        folder = mlflow(tmp_path / str(len(text)), text)
        theirs = yaml.safe_load(text)
        ours = read_mlmodel(folder)
        assert set(ours.flavors) == set(theirs["flavors"])
        for flavor, settings in theirs["flavors"].items():
            for key, value in settings.items():
                assert ours.flavors[flavor][key] == (value if isinstance(value, dict | None) else str(value))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[1]",
        b"binf\x00",
        b"\x00\x01\x02",
        b"\x08\x07",
        b'{"learner": 1}',
        b"PK\x03\x04",
        b"tree",
        b"{" * 9_999,
    ],
)
def test_unknown_formats_are_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(raw)
    with pytest.raises(ModelError):
        import_model(tmp_path / "model.bin", contract(), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_damaged_model_leaves_nothing_behind(tmp_path: Path) -> None:
    scorecard().save(tmp_path / "card")
    document = json.loads((tmp_path / "card" / "scorecard.json").read_text())
    document["features"][0]["weights"].pop()
    (tmp_path / "bad.json").write_text(json.dumps(document))
    with pytest.raises(ModelError):
        import_model(tmp_path / "bad.json", contract(), tmp_path / "m")
    assert not (tmp_path / "m").exists()
    import_model(tmp_path / "card", contract(), tmp_path / "m")
    with pytest.raises(ModelError, match="exists already"):
        import_model(tmp_path / "card", contract(), tmp_path / "m")
