"""The search for alternatives finds one that is there, finds none where there is none, and keeps its log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from fiduciary.checks import Sample, Subject, run_check
from fiduciary.checks._boosted_refit import penalised_lightgbm
from fiduciary.checks._candidates import LabelledRows
from fiduciary.checks._groups import make_grouping
from fiduciary.checks._refits import (
    RIDGE,
    penalised_scorecard,
    resampled,
    rescaled_additive,
    term_columns,
)
from fiduciary.checks._search import (
    Candidate,
    Measures,
    SearchOptions,
    cut_for,
    frontier,
    search_alternatives,
)
from fiduciary.errors import ModelError, UsageError
from fiduciary.models import (
    Contract,
    Feature,
    auc,
    events_of,
    infer_contract,
    load_scorer,
    probability,
    read_table,
    train_lightgbm,
    train_scorecard,
)
from fiduciary.models._additive import Additive, AdditiveFile, Axis, Term

CONTRACT = Contract(
    features=tuple(Feature(name=n, type="number") for n in ("income", "area", "debt", "noise"))
)


def portfolio(n: int = 4_000, seed: int = 0, unfair: float = 1.0) -> LabelledRows:
    """`area` says nothing of the risk that income does not say, and much of the group."""
    rng = np.random.default_rng(seed)
    group = rng.random(n) < 0.35
    income, debt, noise = rng.normal(size=n), rng.normal(size=n), rng.normal(size=n)
    area = 0.8 * income + unfair * 1.5 * group + rng.normal(size=n) * 0.6
    margin = -1.2 + 1.2 * income + 0.7 * debt
    events = (rng.random(n) < 1 / (1 + np.exp(-margin))).astype(float)
    # biased labels: some of the group's good risks were marked bad, so that a model learns from area
    events = np.where(group & (rng.random(n) < 0.25 * unfair), 1.0, events)
    labels = np.where(group, "b", "a").astype(object)
    return LabelledRows(np.column_stack([income, area, debt, noise]), events, {"g": labels})


def search(part: LabelledRows, **more: Any) -> Any:
    options = SearchOptions(
        **({"candidates": 24, "bootstraps": 100, "accuracy_loss": 0.02} | more.pop("options", {}))
    )
    return search_alternatives(part, CONTRACT, approval=more.pop("approval", 0.7), options=options, **more)


def test_an_alternative_that_is_there_is_found_and_measured_on_rows_nobody_chose_by() -> None:
    part = portfolio()
    found = search(part)
    assert found.best is not None and found.change["ratio"] > 0.1
    assert found.change["ratio_interval"][0] > 0.0
    assert found.change["auc"] > -0.03
    assert found.rows == {"train": 2_400, "selection": 800, "hold_out": 800}
    best = next(c for c in found.candidates if c.name == found.best)
    assert best.hold_out.ratio - found.baseline.hold_out.ratio == pytest.approx(found.change["ratio"])
    assert best.hold_out.auc - found.baseline.hold_out.auc == pytest.approx(found.change["auc"])
    # what is said of the hold-out, counted by hand
    order = np.random.default_rng([0, 3]).permutation(4_000)
    held = part.take(np.sort(order[3_200:]))
    approved = found.fitted["baseline"].score(held.rows) < found.baseline.cut
    rates = [approved[held.groups["g"] == g].mean() for g in ("a", "b")]
    assert found.baseline.hold_out.ratio == pytest.approx(min(rates) / max(rates))
    assert found.baseline.hold_out.bad_rate == pytest.approx(held.events[approved].mean())


def test_where_groups_are_alike_nothing_is_gained() -> None:
    found = search(portfolio(seed=3, unfair=0.0))
    assert found.baseline.hold_out.ratio > 0.85
    assert not found.change or found.change["ratio_interval"][0] < 0.02


def test_the_same_seed_gives_the_same_log_and_the_log_is_json() -> None:
    part = portfolio(2_000)
    one, two = search(part, options={"candidates": 8}), search(part, options={"candidates": 8})
    assert one.log == two.log and one.change == two.change and one.frontier == two.frontier
    assert json.loads(json.dumps(one.log)) == one.log
    other = search(part, seed=1, options={"candidates": 8})
    assert other.log != one.log
    assert one.stopped == "count" and len([c for c in one.candidates if c.kind != "cut-off"]) == 8
    names = [line["name"] for line in one.log]
    assert len(set(names)) == len(names) and names[0] == "baseline"


def test_candidates_approve_as_many_as_the_baseline() -> None:
    found = search(portfolio(), options={"candidates": 12, "bootstraps": 0})
    for candidate in (found.baseline, *found.candidates):
        if candidate.error:
            continue
        wanted = candidate.change.get("approval", 0.7)
        assert abs(candidate.selection.approval - wanted) <= 0.01
        assert abs(candidate.hold_out.approval - wanted) <= 0.07
        assert abs(wanted - 0.7) <= 0.02 + 1e-9


def test_group_labels_are_never_an_input() -> None:
    part = portfolio(2_000)
    found = search(part, options={"candidates": 14})
    for model in found.fitted.values():
        assert set(model.contract.names) <= set(CONTRACT.names)
        assert model.scorer.features == len(model.columns) <= 4
    # with other labels on the hold-out, every model gives the same margins and AUC
    rng = np.random.default_rng(5)
    held = portfolio(1_000, 9)
    turned = LabelledRows(held.rows, held.events, {"g": rng.permutation(held.groups["g"])})
    a, b = (search(part, hold_out=h, options={"candidates": 6}) for h in (held, turned))
    assert [c.hold_out.auc for c in a.candidates] == [c.hold_out.auc for c in b.candidates]
    assert [c.hold_out.ratio for c in a.candidates] != [c.hold_out.ratio for c in b.candidates]
    with pytest.raises(UsageError, match="both an input and a protected attribute"):
        search(LabelledRows(part.rows, part.events, {"area": part.groups["g"]}))


def test_counsel_can_forbid_training_with_groups() -> None:
    found = search(portfolio(2_000), options={"group_aware": False})
    assert found.candidates and not any(
        c.group_aware or c.kind in ("penalty", "reweight") for c in found.candidates
    )


def test_declared_directions_are_kept_by_every_candidate() -> None:
    features = (
        Feature(name="income", type="number", monotone=1), *CONTRACT.features[1:2],
        Feature(name="debt", type="number", monotone=1), CONTRACT.features[3],
    )  # fmt: skip
    found = search_alternatives(
        portfolio(2_000), Contract(features=features), approval=0.7, options=SearchOptions(bootstraps=0)
    )
    checked = 0
    for model in found.fitted.values():
        for j, name in enumerate(model.contract.names):
            if name in ("income", "debt"):
                ladder = np.zeros((200, len(model.columns)))
                ladder[:, j] = np.linspace(-3, 3, 200)
                assert (np.diff(model.scorer.score(ladder)) >= -1e-9).all()
                checked += 1
    assert checked > 20


def test_lightgbm_and_additive_models_are_searched_too(tmp_path: Path) -> None:
    part = portfolio(1_500)
    boosted = search(part, family="lightgbm", options={"candidates": 4})
    assert sum(not c.error for c in boosted.candidates) >= 4
    axes = [Axis(feature=name, cuts=[-1.0, 0.0, 1.0]) for name in CONTRACT.names]
    terms = [
        Term(axes=[0], scores=[0.0, -1.2, -0.5, 0.4, 1.3]),
        Term(axes=[1], scores=[0.0, -0.9, -0.3, 0.4, 0.9]),
        Term(axes=[2], scores=[0.0, -0.6, -0.2, 0.3, 0.8]),
        Term(axes=[0, 1], columns=5, scores=[0.0] * 6 + [0.2, 0.1, 0.0, -0.1] * 4 + [0.0] * 3),
    ]
    model = Additive(AdditiveFile(link="logit", intercept=-1.0, axes=axes, terms=terms), CONTRACT)
    found = search(part, family="additive", scorer=model)
    penalised = [c for c in found.candidates if c.kind == "penalty" and not c.error]
    gaps = [c.selection.difference for c in penalised[:6]]
    assert gaps[-1] < gaps[3] < gaps[0] and gaps[-1] < 0.7 * gaps[0]
    without = next(c for c in found.candidates if c.change.get("dropped") == ["area"] and c.kind == "drop")
    scorer = found.fitted[without.name].scorer
    moved = part.rows.copy()
    moved[:, 1] += 5.0
    assert (scorer.score(moved) == scorer.score(part.rows)).all()  # the pair went too
    with pytest.raises(UsageError, match="needs that model"):
        search(part, family="additive")


# --- Refits ------------------------------------------------------------------------------------------------


def test_without_a_penalty_the_refit_is_the_trained_card() -> None:
    part = portfolio(2_000)
    card, _ = train_scorecard(part.rows, part.events, CONTRACT)
    grouping = make_grouping("g", part.groups["g"])
    again = penalised_scorecard(card, part.rows, part.events, CONTRACT, grouping, 0.0)
    assert again.score(part.rows) == pytest.approx(card.score(part.rows), abs=1e-6)


def test_a_stronger_penalty_closes_the_gap_in_mean_margins() -> None:
    part = portfolio(2_000)
    card, _ = train_scorecard(part.rows, part.events, CONTRACT)
    grouping = make_grouping("g", part.groups["g"])
    inside = part.groups["g"] == "b"
    gaps = []
    for strength in (0.0, 0.1, 1.0, 10.0, 1_000.0):
        margins = penalised_scorecard(card, part.rows, part.events, CONTRACT, grouping, strength).score(
            part.rows
        )
        gaps.append(abs(margins[inside].mean() - margins[~inside].mean()))
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 0.01 < 0.3 < gaps[0]


def test_the_rescaled_additive_model_minimises_what_it_says() -> None:
    part = portfolio(1_000)
    axes = [Axis(feature=name, cuts=[0.0]) for name in CONTRACT.names]
    terms = [Term(axes=[j], scores=[0.0, -0.5, 0.5]) for j in range(3)]
    model = Additive(AdditiveFile(link="logit", intercept=-1.0, axes=axes, terms=terms), CONTRACT)
    columns = term_columns(model, part.rows, CONTRACT)
    assert model.bias + columns.sum(axis=1) == pytest.approx(model.score(part.rows), abs=1e-12)
    grouping = make_grouping("g", part.groups["g"])
    ours = rescaled_additive(model, columns, part.events, CONTRACT, grouping, 0.2)
    inside = part.groups["g"] == "b"

    def loss(w: np.ndarray) -> float:
        m = w[0] + columns @ w[1:]
        gap = m[inside].mean() - m[~inside].mean()
        fit = (np.logaddexp(0, m) - part.events * m).sum()
        # two groups, each against the rest: the shares add up to one
        return float(fit + 0.5 * RIDGE * ((w[1:] - 1) ** 2).sum() + 0.5 * 0.2 * len(m) * gap**2)

    best = minimize(loss, [0.0, 1.0, 1.0, 1.0], method="BFGS", options={"gtol": 1e-6})
    scales = [term.scores[2] / 0.5 for term in ours.model.terms]
    assert [ours.bias, *scales] == pytest.approx(best.x, abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1_000), st.sampled_from([0.5, 1.0, 2.0]))
def test_reweighting_makes_group_and_outcome_independent(seed: int, strength: float) -> None:
    rng = np.random.default_rng(seed)
    group = rng.random(3_000) < 0.3
    events = (rng.random(3_000) < np.where(group, 0.5, 0.2)).astype(float)
    labels = np.where(group, "b", "a").astype(object)
    picked = resampled(make_grouping("g", labels), events, strength, seed)
    assert len(picked) == pytest.approx(3_000, abs=1)

    def gap(places: np.ndarray) -> float:
        e, g = events[places], group[places]
        return float(e[g].mean() - e[~g].mean())

    before, after = gap(np.arange(3_000)), gap(picked)
    if strength == 1.0:
        assert abs(after) < 0.01
    elif strength < 1.0:
        assert 0 < after < before
    else:
        assert after < 0.01
    assert (resampled(make_grouping("g", labels), events, 0.0, seed) == np.arange(3_000)).all()


def test_penalised_trees_are_ordinary_trees_with_a_smaller_gap(tmp_path: Path) -> None:
    part, held = portfolio(3_000), portfolio(1_500, 5)
    grouping = make_grouping("g", part.groups["g"])
    told: dict[str, Any] = {
        "validation": (held.rows, held.events),
        "rounds": 80,
        "depth": 3,
        "learning_rate": 0.1,
    }
    train_lightgbm(part.rows, part.events, CONTRACT, tmp_path / "plain", **told)
    plain = load_scorer(tmp_path / "plain", CONTRACT).score(held.rows)
    inside = held.groups["g"] == "b"
    gaps, areas = [], []
    for strength in (0.0, 0.3, 3.0):
        folder = tmp_path / str(strength)
        penalised_lightgbm(
            part.rows, part.events, CONTRACT, folder, grouping=grouping, strength=strength, seed=0, **told
        )
        margins = load_scorer(folder, CONTRACT).score(held.rows)
        gaps.append(abs(float(margins[inside].mean() - margins[~inside].mean())))
        areas.append(auc(margins, held.events))
        if strength == 0.0:  # the same trees as without a penalty, up to LightGBM's float32 gradients
            assert np.corrcoef(margins, plain)[0, 1] > 0.995
            assert abs(margins.mean() - plain.mean()) < 0.05
    assert gaps[0] > 2 * gaps[1] > 2 * gaps[2]
    assert areas[0] > areas[2] > 0.6
    single = np.unique(part.events[:1])
    with pytest.raises(ModelError, match="both outcomes"):
        penalised_lightgbm(
            part.rows, np.full(3_000, single[0]), CONTRACT, tmp_path / "x", grouping=grouping, strength=1.0, seed=0,
            **told,
        )  # fmt: skip


# --- The frontier, cut-offs, the check ---------------------------------------------------------------------------


def candidate(name: str, auc: float, ratio: float | None) -> Candidate:
    seen = Measures(
        auc=auc, ks=0.0, brier=0.0, approval=0.5, bad_rate=0.1, ratio=ratio, difference=None, rates={}
    )
    return Candidate(name=name, kind="drop", selection=seen, hold_out=seen)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_the_frontier_holds_those_that_nobody_beats(points: list[tuple[int, int]]) -> None:
    candidates = [candidate(str(i), a / 6, r / 6) for i, (a, r) in enumerate(points)]
    found = frontier([*candidates, candidate("unknown", 2.0, None)])
    unbeaten = {p for p in points if not any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points)}
    assert {points[int(name)] for name in found} == unbeaten
    assert len(found) == len(unbeaten)


def test_a_cut_off_approves_the_share_asked_for_or_says_that_none_does() -> None:
    margins = np.random.default_rng(0).normal(size=1_001)
    for share in (0.01, 0.5, 0.993):
        assert (margins < cut_for(margins, share)).mean() == pytest.approx(share, abs=0.001)
    with pytest.raises(ModelError, match="too many rows have the same score"):
        cut_for(np.repeat([0.0, 1.0], 50), 0.7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"approval": 1.0}, "between 0 and 1"),
        ({"family": "onnx"}, "not 'onnx'"),
        ({"options": {"candidates": 0}}, "1 to 1000 candidates"),
        ({"options": {"bootstraps": 10**9}}, "10000 bootstraps"),
    ],
)
def test_a_search_has_limits(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        search(portfolio(600), **change)
    part = portfolio(600)
    with pytest.raises(UsageError, match="with the event and without"):
        search(LabelledRows(part.rows, np.zeros(600), part.groups))
    with pytest.raises(UsageError, match="at least one protected attribute"):
        search(LabelledRows(part.rows, part.events, {}))


def test_the_check_finds_the_alternative_and_lists_all_that_was_tried() -> None:
    part = portfolio(6_000)
    card, _ = train_scorecard(part.rows, part.events, CONTRACT)
    scores = probability(card.score(part.rows), "logit")
    cut = float(np.quantile(scores, 0.7))
    made = Sample(
        rows=part.rows, names=CONTRACT.names, scores=scores, outcomes=part.events > 0, groups=part.groups
    )
    about = Subject(
        development=made, contract=CONTRACT, scorer=card, use_case={"approve_below": cut, "decline_from": cut}
    )
    name = "fairness.less_discriminatory_alternative"
    found = run_check(name, about, {"candidates": 20, "accuracy_loss": 0.02})
    assert found.ok is False and found.numbers["best"] in found.detail
    assert found.numbers["log"][0]["name"] == "baseline"
    assert json.loads(json.dumps(msgspec.to_builtins(found)))
    strict = run_check(name, about, {"candidates": 20, "accuracy_loss": 0.0, "gain": 0.9})
    assert strict.ok is True and "none found among" in strict.detail
    lacking = run_check(name, msgspec.structs.replace(about, use_case={"tier": "high"}))
    assert lacking.ok is None and "cut-offs" in lacking.lacking


def test_on_boston_mortgages_a_search_improves_the_ratio_out_of_sample(shared_data: Path) -> None:
    columns = read_table(shared_data / "hmda_boston_1990.parquet")
    drafted = infer_contract(columns, "deny").contract
    contract = Contract(features=tuple(f for f in drafted.features if f.name not in ("afam", "single")))
    rows = contract.compile().table(columns, ignore_unknown=True)
    race = np.where(columns["afam"] == "yes", "black", "other").astype(object)
    part = LabelledRows(rows, events_of(columns["deny"], "yes"), {"race": race})
    options = SearchOptions(accuracy_loss=0.01, bootstraps=100)
    found = search_alternatives(part, contract, approval=0.85, options=options)
    assert found.baseline.hold_out.ratio < 0.8  # race is no input, and the screen fires all the same
    assert found.change["ratio"] > 0.02 and found.change["auc"] > -0.02
    strong = next(c for c in found.candidates if c.name == "penalty 1 on race")
    assert strong.hold_out.ratio > found.baseline.hold_out.ratio + 0.1
    assert strong.hold_out.auc < found.baseline.hold_out.auc  # and this is what it costs
