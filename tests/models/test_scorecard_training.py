"""Training: the optimum scikit-learn finds, bins that mean something, weights that keep their direction."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.errors import ModelError
from fiduciary.models import BinningOptions, Contract, Feature, ScorecardOptions, auc, ks, train_scorecard
from fiduciary.models._binning import _shortest_between, make_bins, raw_bins
from fiduciary.models._scorecard_training import fit

CONTRACT = Contract(
    features=(
        Feature(name="x", type="number", missing="allowed"),
        Feature(name="steps", type="integer"),
        Feature(name="flag", type="boolean"),
        Feature(name="kind", type="category", categories=["a", "b", "rare", "never", "rarer"]),
        Feature(name="spike", type="number"),
    )
)


def population(n: int = 4_000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    x[rng.random(n) < 0.07] = np.nan
    steps = rng.integers(0, 6, n).astype(float)
    flag = (rng.random(n) < 0.3).astype(float)
    kind = rng.choice([0.0, 1.0, 2.0, 4.0], n, p=[0.6, 0.393, 0.004, 0.003])
    spike = rng.exponential(size=n)
    margin = -1 + np.where(np.isnan(x), 1.5, x) - 0.3 * steps + flag + (kind == 1) + 3 * (spike > 5)
    return np.column_stack([x, steps, flag, kind, spike]), (rng.random(n) < 1 / (1 + np.exp(-margin))).astype(
        float
    )


ROWS, EVENTS = population()


@pytest.mark.parametrize("penalty", [0.5, 1.0, 10.0])
def test_weights_are_those_of_scikit_learn(penalty: float) -> None:
    from sklearn.linear_model import LogisticRegression

    cuts = [make_bins(f, ROWS[:, j], EVENTS, BinningOptions()) for j, f in enumerate(CONTRACT.features)]
    bins = [cut.groups[raw_bins(cut, ROWS[:, j])] for j, cut in enumerate(cuts)]
    intercept, weights, steps = fit(bins, EVENTS, [penalty * np.eye(c.labels) for c in cuts], lambda *_: None)
    ones = np.concatenate([np.eye(cut.labels)[b] for cut, b in zip(cuts, bins, strict=True)], axis=1)
    theirs = LogisticRegression(C=1 / penalty, tol=1e-12, max_iter=10_000, solver="newton-cholesky").fit(
        ones, EVENTS
    )
    assert steps < 12
    assert intercept == pytest.approx(theirs.intercept_[0], abs=1e-6)
    assert np.abs(np.concatenate(weights) - theirs.coef_[0]).max() <= 1e-6


def test_smoothed_weights_are_at_the_optimum() -> None:
    """The gradient of the stated objective, written out row by row and bin by bin, vanishes."""
    options = ScorecardOptions(penalty=2.0, smoothing=15.0)
    card, _ = train_scorecard(ROWS, EVENTS, CONTRACT, options)
    residual = 1 / (1 + np.exp(-card.score(ROWS))) - EVENTS
    assert residual.sum() == pytest.approx(0, abs=1e-8)
    for j in (0, 1, 4):
        bins = card.card.features[j]
        weights = np.array(bins.weights)
        found = np.searchsorted(np.array(bins.edges), ROWS[:, j], side="right")
        for k in range(len(weights)):
            gradient = residual[(found == k) & ~np.isnan(ROWS[:, j])].sum() + 2.0 * weights[k]
            if k > 0:
                gradient += 15.0 * (weights[k] - weights[k - 1])
            if k + 1 < len(weights):
                gradient -= 15.0 * (weights[k + 1] - weights[k])
            assert gradient == pytest.approx(0, abs=1e-8)


def test_the_card_scores_what_was_fitted_and_reports_it() -> None:
    other, outcome = population(seed=2)
    told: list[tuple[str, int, int]] = []
    card, report = train_scorecard(
        ROWS, EVENTS, CONTRACT, validation=(other, outcome), progress=lambda *step: told.append(step)
    )
    assert report.train.auc == auc(card.score(ROWS), EVENTS) > 0.75
    assert report.validation is not None and report.validation.auc > 0.75 and report.validation.rows == 4_000
    assert told[0] == ("binning", 0, 5) and told[-1][1] == told[-1][2]
    # log-odds are calibrated where they were fitted: the mean probability is the event rate
    assert (1 / (1 + np.exp(-card.score(ROWS)))).mean() == pytest.approx(EVENTS.mean(), abs=1e-9)
    by_name = {bins.name: bins for bins in card.card.features}
    rare, never = by_name["kind"].weights[2], by_name["kind"].weights[3]
    assert rare == by_name["kind"].weights[4]  # rare categories share a bin
    kinds = np.array(by_name["kind"].weights)[ROWS[:, 3].astype(int)]
    assert never == pytest.approx(kinds.mean())  # what was never seen is neutral
    assert any("kind" in line and "'never'" in line for line in report.warnings)
    assert by_name["x"].missing is not None and by_name["flag"].missing is None
    rows = [line for line in report.evidence if line.feature == "x"]
    assert sum(line.rows for line in rows) == len(ROWS) and rows[-1].bin == "missing"
    assert report.information_values["x"] > 0.1 > report.information_values["spike"] > 0
    assert sum(line.events for line in rows) == EVENTS.sum()


def test_training_gives_the_same_bits_again() -> None:
    first = train_scorecard(ROWS, EVENTS, CONTRACT)[0].card
    assert first == train_scorecard(ROWS.copy(), EVENTS.copy(), CONTRACT)[0].card


def test_tail_cuts_see_what_quantiles_cannot() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=20_000)
    events = ((x > 2.6) & (rng.random(20_000) < 0.8)).astype(float)
    contract = Contract(features=(Feature(name="x", type="number"),))
    rows = x.reshape(-1, 1)
    plain, tails = (
        train_scorecard(
            rows,
            events,
            contract,
            ScorecardOptions(binning=BinningOptions(tails=t), penalty=1.0, smoothing=0.0),
        )[1].train.log_loss
        for t in ((), (0.002, 0.005))
    )
    assert tails < 0.5 * plain


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, -1]), st.sampled_from(["quantile", "monotone"]))
def test_monotone_features_never_turn_back(seed: int, direction: int, method: str) -> None:
    rng = np.random.default_rng(seed)
    rows = np.column_stack([rng.normal(size=600), rng.integers(0, 9, 600), rng.integers(0, 2, 600)])
    rows[rng.random(600) < 0.1, 0] = np.nan
    chance = 1 / (1 + np.exp(np.sin(3 * np.nan_to_num(rows[:, 0])) + 0.3 * rows[:, 1] - 1))
    events = (rng.random(600) < chance).astype(float)
    contract = Contract(
        features=(
            Feature(name="a", type="number", monotone=direction, missing="allowed"),
            Feature(name="b", type="integer", monotone=direction),
            Feature(name="c", type="boolean", monotone=direction),
        )
    )
    options = ScorecardOptions(binning=BinningOptions(method=method))
    card, _ = train_scorecard(rows, events, contract, options)
    for bins in card.card.features:
        assert all(direction * (b - a) >= 0 for a, b in zip(bins.weights, bins.weights[1:], strict=False))
    grid = np.sort(rng.normal(size=50))
    probe = np.column_stack([grid, np.full(50, 3.0), np.zeros(50)])
    assert (direction * np.diff(card.score(probe)) >= 0).all()


def test_monotone_binning_finds_the_direction() -> None:
    options = ScorecardOptions(binning=BinningOptions(method="monotone", bins=20))
    card, _ = train_scorecard(ROWS, EVENTS, CONTRACT, options)
    by_name = {bins.name: bins.weights for bins in card.card.features}
    assert by_name["x"] == sorted(by_name["x"]) and len(by_name["x"]) > 4
    assert by_name["steps"] == sorted(by_name["steps"], reverse=True)


def digits(value: float) -> int:
    return len(Decimal(repr(value)).normalize().as_tuple().digits)


@settings(max_examples=300, deadline=None)
@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e9))
def test_short_edges_lie_where_they_must(high: float, gap: float) -> None:
    low = high - gap
    if low < high:
        edge = _shortest_between(low, high)
        assert low < edge <= high and digits(edge) <= digits(high)


def test_edges_are_readable_and_bins_are_not_empty() -> None:
    rng = np.random.default_rng(0)
    income = rng.lognormal(10, 1, 5_000)
    cut = make_bins(
        Feature(name="income", type="number"), income, np.zeros(5_000), BinningOptions(min_rows=40)
    )
    assert max(len(repr(edge)) for edge in cut.edges.tolist()) <= 8
    assert np.bincount(raw_bins(cut, income), minlength=len(cut.edges) + 1)[:-1].min() >= 40


@pytest.mark.parametrize(
    ("rows", "events", "message"),
    [
        (ROWS[:, :2], EVENTS, "needs rows"),
        (ROWS, EVENTS[:5], "needs rows"),
        (ROWS, np.zeros(len(ROWS)), "with the event"),
        (ROWS, np.ones(len(ROWS)), "with the event"),
        (ROWS, EVENTS * 2, "0 or 1"),
        (ROWS[:0], EVENTS[:0], "with the event"),
    ],
)
def test_nothing_to_learn_from_is_said(rows: np.ndarray, events: np.ndarray, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        train_scorecard(rows, events, CONTRACT)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_and_ks_are_those_of_the_definition(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([s for s, _ in pairs], float)
    events = np.array([e for _, e in pairs], float)
    bad, good = scores[events == 1], scores[events == 0]
    if not len(bad) or not len(good):
        assert np.isnan(auc(scores, events)) and np.isnan(ks(scores, events))
        return
    wins = sum((b > g) + 0.5 * (b == g) for b in bad for g in good)
    assert auc(scores, events) == pytest.approx(wins / (len(bad) * len(good)))
    steps = [abs((bad <= cut).mean() - (good <= cut).mean()) for cut in scores]
    assert ks(scores, events) == pytest.approx(max(steps))
