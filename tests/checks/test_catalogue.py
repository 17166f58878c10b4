"""The catalogue: a closed vocabulary, typed parameters, plain results, and a start without SciPy."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, get_args

import msgspec
import numpy as np
import pytest

from fiduciary.checks import CATALOGUE, Kind, Sample, Stage, Subject, battery, run_check
from fiduciary.checks._check import arguments, scipy
from fiduciary.errors import MissingExtraError, UsageError

CORE = {
    "discrimination": {"auc", "gini", "ks", "cap", "average_precision"},
    "calibration": {"binomial", "jeffreys", "hosmer_lemeshow", "spiegelhalter", "slope", "brier"},
    "stability": {"psi", "csi", "migration", "concentration"},
    "basel": {
        "pd_floor",
        "lgd_floor",
        "lgd_backtest",
        "ccf_backtest",
        "margin_of_conservatism",
        "override_rate",
        "default_definition",
    },
    "data": {
        "schema",
        "base_rate",
        "leakage",
        "duplicates",
        "missingness_shift",
        "recoding",
        "disjoint",
        "control_totals",
        "completeness",
        "lineage",
        "representative",
    },
    "performance": {"declared"},
}


def sample(n: int = 60, score: float | None = None) -> Sample:
    rng = np.random.default_rng(0)
    scores = rng.random(n) if score is None else np.full(n, score)
    return Sample(
        rows=rng.normal(size=(n, 3)),
        names=("a", "b", "c"),
        scores=scores,
        outcomes=rng.random(n) < scores,
        groups={"sex": np.where(np.arange(n) % 2, "f", "m")},
        decisions=np.where(scores > 0.5, "decline", "approve"),
        grades=np.where(scores > 0.5, "B", "A"),
        previous_grades=np.where(scores > 0.6, "B", "A"),
        lgd=scores,
        realised_lgd=scores,
        ccf=scores,
        realised_ccf=scores,
        overridden=np.zeros(n, dtype=bool),
        keys=np.arange(n),
    )


def test_every_name_of_the_vocabulary_is_there() -> None:
    for family, names in CORE.items():
        assert {n.split(".")[1] for n in CATALOGUE if n.startswith(family + ".")} >= names


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_check_is_described_and_its_defaults_fit_their_types(name: str) -> None:
    check = CATALOGUE[name]
    assert check.name == name and check.summary and check.source
    assert check.kind in get_args(Kind) and check.stages and set(check.stages) <= set(get_args(Stage))
    assert all(param.meaning for param in check.params.values())
    defaults = {
        key: param.default
        for key, param in check.params.items()
        if param.default is not None and param.default not in ([], (), {}, "")
    }  # an empty list or text stands for "not given", whatever must be given
    assert arguments(check, defaults) == arguments(check, {})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "subject",
    [
        Subject(),
        Subject(sample=sample(), development=sample()),
        Subject(sample=sample(0), development=sample(0)),
        Subject(sample=sample(1), development=sample(2)),
        Subject(sample=sample(10, 0.0), development=sample(10, 1.0)),
        Subject(sample=sample(10, np.nan), development=sample(10, np.nan)),
    ],
    ids=["nothing", "whole", "empty", "one row", "certain", "no scores"],
)
@pytest.mark.parametrize("name", sorted(n for n in CATALOGUE if n.split(".")[0] in CORE))
def test_any_subject_gives_a_plain_result_without_a_warning(name: str, subject: Subject) -> None:
    result = run_check(name, subject)
    assert result.name == name and result.detail
    assert result.ok is not None or result.lacking or result.value is not None
    json.dumps(msgspec.to_builtins(result), allow_nan=False)
    msgspec.json.encode(result)


@pytest.mark.parametrize(
    "params",
    [
        {"maximun": 0.1},
        {"maximum": "0.1"},
        {"maximum": True},
        {"maximum": float("nan")},
        {"maximum": -1},
        {"bins": 1},
        {"bins": 2.5},
        {"bins": None},
        {"by": "colour"},
        {"maximum": 10**400},
    ],
)
def test_a_wrong_parameter_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="parameter"):
        run_check("stability.psi", Subject(), params)


def test_an_unknown_check_is_refused() -> None:
    with pytest.raises(UsageError, match="no check"):
        run_check("discrimination.auk", Subject())
    with pytest.raises(UsageError, match="no check"):
        battery(Subject(), params={"auc": {}})


@pytest.mark.parametrize(
    "change",
    [
        {"scores": np.zeros(3)},
        {"outcomes": np.zeros(60)},
        {"grades": np.zeros(2)},
        {"groups": {"sex": np.zeros(1)}},
        {"names": ("a",)},
        {"contributions": np.zeros((60, 1))},
    ],
)
def test_a_sample_of_wrong_shape_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        msgspec.structs.replace(sample(), **change)


def test_battery_runs_what_the_subject_has_and_sorts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from fiduciary.checks import _sample

    calls: list[int] = []
    original = _sample.ranking

    def counted(*args: Any) -> Any:
        calls.append(1)
        return original(*args)

    monkeypatch.setattr(_sample, "ranking", counted)
    subject = Subject(sample=sample())
    names = [n for n in CATALOGUE if n.startswith(("discrimination.", "calibration."))]
    results = battery(subject, names)
    assert [r.name for r in results] == names and len(calls) == 1
    chosen = {r.name for r in battery(subject)}
    assert "discrimination.auc" in chosen and "stability.psi" not in chosen
    assert not any(CATALOGUE[n].heavy for n in chosen)


def test_without_scipy_checks_start_and_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(MissingExtraError, match=r"fiduciary\[checks\]"):
        scipy("special")
    code = "import fiduciary.checks, sys; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
