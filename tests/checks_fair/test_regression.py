"""Regressions equal statsmodels, and the published equations of Stock and Watson on the Boston mortgage data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.checks import Sample, Subject, run_check
from fiduciary.checks._regression import Model, effect, fit
from fiduciary.errors import UsageError
from fiduciary.models import read_table

PEERS = {"linear": sm.OLS, "logit": sm.Logit, "probit": sm.Probit}


def made(n: int = 800, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=n) * 1000.0, rng.random(n) < 0.3, rng.random(n) < 0.5]).astype(float)
    p = 1 / (1 + np.exp(-(0.4 + x[:, 0] / 900 - 0.9 * x[:, 1])))
    return x, (rng.random(n) < p).astype(float)


def peer(model: Model, x: np.ndarray, y: np.ndarray, kind: str) -> Any:
    extra = {} if model == "linear" else {"method": "newton", "tol": 1e-13, "disp": 0, "maxiter": 100}
    return PEERS[model](y, sm.add_constant(x)).fit(cov_type=kind, **extra)


@pytest.mark.parametrize("model", ["linear", "logit", "probit"])
@pytest.mark.parametrize("robust", [True, False])
def test_coefficients_and_errors_equal_statsmodels(model: Model, robust: bool) -> None:
    x, y = made()
    theirs = peer(model, x, y, "HC1" if robust else "nonrobust")
    ours = fit(x, y, model, robust=robust)
    tolerance = 1e-9 if model == "linear" else 1e-6
    assert ours.coefficients == pytest.approx(theirs.params, rel=tolerance)
    # of logit and probit statsmodels gives the plain sandwich, without n / (n - k)
    factor = np.sqrt(len(y) / (len(y) - 4)) if robust and model != "linear" else 1.0
    assert ours.errors == pytest.approx(theirs.bse * factor, rel=tolerance)
    if model != "linear":
        assert ours.log_likelihood == pytest.approx(theirs.llf, rel=1e-10)


@pytest.mark.parametrize("model", ["logit", "probit"])
def test_average_effects_equal_statsmodels(model: Model) -> None:
    x, y = made(seed=2)
    theirs = peer(model, x, y, "nonrobust").get_margeff(at="overall", dummy=True)
    ours = fit(x, y, model, robust=False)
    full = np.column_stack([np.ones(len(x)), x])
    for column in (2, 3):
        found = effect(ours, full, column)
        assert found.value == pytest.approx(theirs.margeff[column - 1], rel=1e-6)
        assert found.error == pytest.approx(theirs.margeff_se[column - 1], rel=1e-5)
        assert found.interval == pytest.approx(theirs.conf_int()[column - 1], rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_without_controls_the_effect_is_the_difference_in_rates(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = (rng.random(200) < 0.4).astype(float)
    y = (rng.random(200) < 0.3 + 0.2 * group).astype(float)
    expected = y[group == 1].mean() - y[group == 0].mean()
    models: tuple[Model, ...] = ("linear", "logit", "probit")
    for model in models:
        found = fit(group[:, None], y, model)
        full = np.column_stack([np.ones(200), group])
        assert effect(found, full, 1).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("columns", "outcome", "model", "words"),
    [
        (np.ones((20, 1)), np.tile([0.0, 1.0], 10), "linear", "linearly dependent"),
        (np.zeros((20, 1)), np.tile([0.0, 1.0], 10), "linear", "zero in every row"),
        (np.arange(3.0)[:, None], np.array([0.0, 1.0, 1.0]), "linear", None),
        (np.arange(2.0)[:, None], np.array([0.0, 1.0]), "linear", "more than 2 rows"),
        (np.arange(20.0)[:, None], (np.arange(20) > 9).astype(float), "logit", "separates"),
        (np.arange(20.0)[:, None], (np.arange(20) > 9).astype(float), "probit", "separates"),
        ((np.arange(40.0) < 5)[:, None], np.r_[np.zeros(5), np.tile([0, 1], 17), 1], "logit", "separates"),
        (np.arange(20.0)[:, None], np.ones(20), "logit", "both outcomes"),
        (np.arange(20.0)[:, None], np.full(20, 0.5), "probit", "0 and 1"),
        (np.full((20, 1), np.nan), np.ones(20), "linear", "finite"),
    ],
)
def test_what_cannot_be_fitted_is_said(
    columns: np.ndarray, outcome: np.ndarray, model: Model, words: str | None
) -> None:
    if words is None:
        assert fit(columns, outcome, model).rows == 3
        return
    with pytest.raises(UsageError, match=words):
        fit(columns, outcome, model)


# --- Stock and Watson, Introduction to Econometrics, chapter 11 ----------------------------------------------


@pytest.fixture(scope="module")
def boston(shared_data: Path) -> Subject:
    columns = read_table(shared_data / "hmda_boston_1990.parquet")
    denied = columns["deny"] == "yes"
    group = np.where(columns["afam"] == "yes", "black", "other").astype(object)
    return Subject(
        sample=Sample(
            rows=np.column_stack([columns["pirat"]]),
            names=("pirat",),
            scores=np.zeros(len(denied)),
            decisions=np.where(denied, "decline", "approve").astype(object),
            groups={"race": group},
            reference={"race": "other"},
        )
    )


@pytest.mark.parametrize(
    ("model", "alone", "with_race"),
    [
        # equations 11.1 and 11.3, 11.7 and 11.8, 11.10; errors in brackets in the book
        ("linear", [(-0.080, 0.032), (0.604, 0.098)], [(-0.091, 0.029), (0.559, 0.089), (0.177, 0.025)]),
        ("probit", [(-2.19, 0.16), (2.97, 0.47)], [(-2.26, 0.16), (2.74, 0.44), (0.71, 0.083)]),
        ("logit", None, [(-4.13, 0.35), (5.37, 0.96), (1.27, 0.15)]),
    ],
)
def test_the_published_equations_come_out(
    boston: Subject,
    model: Model,
    alone: list[tuple[float, float]] | None,
    with_race: list[tuple[float, float]],
) -> None:
    sample = boston.sample
    assert sample is not None
    assert len(sample) == 2_380
    denied = (sample.decisions == "decline").astype(float)

    def agrees(found: float, published: float) -> bool:
        digits = len(f"{published}".split(".")[1])
        return abs(found - published) <= 0.5001 * 10**-digits + 0.005 * (digits == 2)

    if alone is not None:
        found = fit(sample.rows, denied, model)
        for b, se, (pb, pse) in zip(found.coefficients, found.errors, alone, strict=True):
            assert agrees(b, pb) and agrees(se, pse), (b, se, pb, pse)
    result = run_check("fairness.marginal_effect", boston, {"model": model, "controls": ["pirat"]})
    table = result.numbers["attributes"]["race"]
    names = ("constant", "pirat", "race=black")
    for name, (pb, pse) in zip(names, with_race, strict=True):
        b, se = table["coefficients"][name], table["errors"][name]
        assert agrees(b, pb) and agrees(se, pse), (name, b, se)


@pytest.mark.parametrize(
    ("model", "published", "within"), [("probit", 0.158, 0.0005), ("logit", 0.148, 0.0015)]
)
def test_the_published_effect_of_race_comes_out(
    boston: Subject, model: str, published: float, within: float
) -> None:
    # The book gives 15.8 and 14.8 percentage points at a payment to income ratio of 0.3; for the logit it
    # subtracts two shares rounded to three digits, unrounded it is 14.9.
    params = {"model": model, "controls": ["pirat"], "at": {"pirat": 0.3}}
    result = run_check("fairness.marginal_effect", boston, params)
    assert result.value == pytest.approx(published, abs=within)
    assert result.interval is not None and result.interval[0] < result.value < result.interval[1]
