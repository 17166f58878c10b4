"""What every family promises: one margin, contributions that add up, the same bits in any batch, no pickle."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fiduciary.errors import ModelError
from fiduciary.models import (
    FAMILIES,
    Baseline,
    Contract,
    Feature,
    Scorecard,
    Scorer,
    load_scorer,
    probability,
    refuse_pickle,
)
from fiduciary.models._scorecard import Bins, ScorecardFile

CONTRACT = Contract(features=(Feature(name="x", type="number"),))
CARD = ScorecardFile(
    intercept=0.1, features=[Bins(name="x", kind="number", edges=[0.0], weights=[-1.0, 1.0])]
)


def test_a_saved_model_is_a_scorer_again(tmp_path: Path) -> None:
    Scorecard(CARD, CONTRACT).save(tmp_path)
    scorer = load_scorer(tmp_path, CONTRACT)
    assert isinstance(scorer, Scorer) and scorer.family == "scorecard" and scorer.features == 1
    assert scorer.score(np.array([[-1.0], [0.0]])).tolist() == [0.1 - 1.0, 0.1 + 1.0]


@pytest.mark.parametrize(
    "spec",
    ["", "[]", "{}", '{"family": "forest"}', '{"family": ["scorecard"]}', '{"family": "os"}', "[" * 100_000,
     '{"family": "scorecard"}', '{"family": "scorecard", "version": 2}'],
)  # fmt: skip
def test_a_model_of_no_known_family_or_version_is_refused(spec: str, tmp_path: Path) -> None:
    Scorecard(CARD, CONTRACT).save(tmp_path)
    (tmp_path / "model.json").write_text(spec)
    with pytest.raises(ModelError):
        load_scorer(tmp_path, CONTRACT)
    with pytest.raises(ModelError, match=r"no model\.json"):
        load_scorer(tmp_path / "absent", CONTRACT)


def test_the_families_are_fixed_in_the_code() -> None:
    assert set(FAMILIES) == {"scorecard", "additive", "lightgbm", "xgboost", "linear", "onnx"}
    assert all(module.startswith("fiduciary.models._") for module in FAMILIES.values())


class Bomb:
    """Unpickling this would write a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("/tmp/fiduciary-pickle-was-loaded"),))


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib", "model.bin", "model.txt", "model.onnx"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_refused_by_name_or_content(name: str, protocol: int, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pickle.Pickler(buffer, protocol).dump(Bomb())
    (tmp_path / name).write_bytes(buffer.getvalue())
    with pytest.raises(ModelError, match="is a pickle, and loading a pickle runs the code it holds"):
        refuse_pickle(tmp_path / name)
    assert not Path("/tmp/fiduciary-pickle-was-loaded").exists()
    (tmp_path / "model.txt").write_text("tree\nversion=v4\n")
    refuse_pickle(tmp_path / "model.txt")


def test_no_code_of_this_room_can_unpickle() -> None:
    room = Path(sys.modules["fiduciary.models"].__file__ or "").parent
    for path in room.glob("*.py"):
        text = path.read_text()
        assert not any(f"import {word}" in text for word in ("pickle", "joblib", "dill", "cloudpickle")), path
        assert "allow_pickle=True" not in text and "eval(" not in text and "exec(" not in text, path


def test_probability_is_one_function() -> None:
    margins = np.random.default_rng(0).normal(0, 5, 1_000)
    assert [probability(m, "logit") for m in margins.tolist()] == probability(margins, "logit").tolist()
    assert probability(3.5, "identity") == 3.5 and probability(margins, "identity") is margins


def test_a_baseline_comes_back_from_json() -> None:
    import msgspec

    baseline = Baseline(
        margin=-1.2345678901234567, contributions=[0.1, -2e-17], rows=7, description="approved"
    )
    assert msgspec.json.decode(msgspec.json.encode(baseline), type=Baseline) == baseline


def test_the_room_imports_no_heavy_package() -> None:
    heavy = {
        "lightgbm",
        "xgboost",
        "onnx",
        "onnxruntime",
        "pyarrow",
        "sklearn",
        "interpret",
        "scipy",
        "pandas",
    }
    code = "import sys, fiduciary.models; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split())
