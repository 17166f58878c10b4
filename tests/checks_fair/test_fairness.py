"""Fairness figures equal Fairlearn's, hold on real lending data, and clear no group that is too small."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    demographic_parity_ratio,
    equal_opportunity_difference,
    equalized_odds_difference,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.checks import CATALOGUE, CheckResult, Sample, Subject, battery, run_check
from fiduciary.errors import UsageError
from fiduciary.models import (
    Contract,
    Feature,
    events_of,
    infer_contract,
    probability,
    read_table,
    split_rows,
    train_scorecard,
)

CASE = {"approve_below": 0.3, "decline_from": 0.45, "adverse": "high"}
NAMES = [name for name, check in CATALOGUE.items() if name.startswith("fairness.") and not check.heavy]


def sample(n: int = 3_000, seed: int = 0, groups: int = 3, **more: Any) -> Sample:
    rng = np.random.default_rng(seed)
    race = rng.choice([f"r{i}" for i in range(groups)], n)
    sex = rng.choice(["f", "m"], n)
    rows = rng.normal(size=(n, 5))
    margins = rows[:, 0] - 1.0 + 0.5 * (race == "r1")
    scores = 1 / (1 + np.exp(-margins))
    given: dict[str, Any] = {
        "rows": rows,
        "names": tuple("abcde"),
        "scores": scores,
        "outcomes": rng.random(n) < scores,
        "groups": {"race": race.astype(object), "sex": sex.astype(object)},
    }
    return Sample(**(given | more))


def subject(made: Sample | None = None, **more: Any) -> Subject:
    return Subject(sample=made or sample(), use_case=CASE, **more)


def check(name: str, about: Subject, **params: Any) -> CheckResult:
    return run_check(f"fairness.{name}", about, params)


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_rates_ratios_and_odds_equal_fairlearn(seed: int, groups: int) -> None:
    made = sample(400, seed, groups)
    about = subject(made)
    good, approved = ~made.outcomes, made.scores < 0.3  # Fairlearn's 1: a good risk, an approval
    for attribute, labels in made.groups.items():
        params: dict[str, Any] = {"attributes": [attribute], "minimum_rows": 1}
        told = {"sensitive_features": labels}
        air = check("adverse_impact_ratio", about, **params)
        assert air.value == pytest.approx(demographic_parity_ratio(good, approved, **told), abs=1e-12)
        lines = air.numbers["attributes"][attribute]["groups"]
        frame = MetricFrame(
            metrics={"rate": selection_rate, "tpr": true_positive_rate, "fpr": false_positive_rate},
            y_true=good,
            y_pred=approved,
            sensitive_features=labels,
        )
        assert {line["group"]: line["rate"] for line in lines} == pytest.approx(
            frame.by_group["rate"].to_dict()
        )
        rates = [line["rate"] for line in lines]
        assert max(rates) - min(rates) == pytest.approx(demographic_parity_difference(good, approved, **told))
        odds = check("equalised_odds", about, **params)
        assert odds.value == pytest.approx(equalized_odds_difference(good, approved, **told), abs=1e-12)
        by_group = odds.numbers["attributes"][attribute]
        for side, metric in (("good", "tpr"), ("bad", "fpr")):
            found = {line["group"]: line["rate"] for line in by_group[side]["groups"]}
            assert found == pytest.approx(frame.by_group[metric].to_dict())
        opportunity = check("equal_opportunity", about, **params)
        assert opportunity.value == pytest.approx(
            equal_opportunity_difference(good, approved, **told), abs=1e-12
        )


def test_the_standardised_mean_difference_is_in_standard_deviations_and_worse_is_positive() -> None:
    made = sample(2_000)
    race, s = made.groups["race"], made.scores
    found = check(
        "standardised_mean_difference", subject(made), reference={"race": "r0"}, attributes=["race"]
    )
    means = {g: s[race == g].mean() for g in np.unique(race)}
    worst = max(("r1", "r2"), key=lambda g: means[g])
    assert found.value == pytest.approx((means[worst] - means["r0"]) / s.std(ddof=1), abs=1e-12)
    pooled = check(
        "standardised_mean_difference",
        subject(made),
        reference={"race": "r0"},
        attributes=["race"],
        spread="pooled",
    )
    a, b = s[race == worst], s[race == "r0"]
    by = np.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / (len(a) + len(b) - 2))
    assert pooled.value == pytest.approx((a.mean() - b.mean()) / by, abs=1e-12)
    low = Subject(sample=made, use_case={"approve_below": 0.5, "decline_from": 0.3, "adverse": "low"})
    turned = check("standardised_mean_difference", low, reference={"race": worst}, attributes=["race"])
    assert (
        turned.value is not None and turned.value > 0
    )  # where low scores are bad, the others are the worse off


def test_calibration_within_groups_counts_events_against_scores() -> None:
    made = sample(4_000)
    race = made.groups["race"]
    tilted = Sample(
        rows=made.rows,
        names=made.names,
        scores=made.scores,
        outcomes=np.where(race == "r2", made.outcomes & (np.arange(4_000) % 2 == 0), made.outcomes),
        groups={"race": race},
    )
    found = check("calibration_within_groups", subject(tilted), maximum=0.05)
    assert found.ok is False
    lines = {line["group"]: line for line in found.numbers["attributes"]["race"]["groups"]}
    for group, line in lines.items():
        inside = race == group
        gap = float(tilted.outcomes[inside].mean() - tilted.scores[inside].mean())
        assert line["gap"] == pytest.approx(gap, abs=1e-12)
        variance = (tilted.scores[inside] * (1 - tilted.scores[inside])).sum()
        assert line["z"] == pytest.approx(gap * inside.sum() / np.sqrt(variance))
        assert sum(band["rows"] for band in line["bands"]) == inside.sum()
    assert found.value == pytest.approx(max(abs(line["gap"]) for line in lines.values()))
    assert abs(lines["r2"]["z"]) > 5 > 3 > abs(lines["r0"]["z"])


def test_four_fifths_is_a_screen_and_never_a_pass() -> None:
    made = sample(6_000)
    fair = Sample(
        rows=made.rows,
        names=made.names,
        scores=made.scores,
        decisions=np.tile(np.array(["approve", "decline"], dtype=object), 3_000),
        groups=made.groups,
    )
    about = Subject(sample=fair)
    screened = check("adverse_impact_ratio", about)
    assert screened.value is not None and screened.value > 0.9
    assert screened.ok is None and "clears nobody" in screened.lacking
    assert check("adverse_impact_ratio", about, judge="bound").ok is True
    assert check("adverse_impact_ratio", about, minimum=0.9999).ok is False
    undecided = check("adverse_impact_ratio", about, judge="bound", minimum=screened.value - 1e-6)
    assert undecided.ok is None and "interval" in undecided.lacking


@pytest.mark.parametrize(
    "name", ["adverse_impact_ratio", "equal_opportunity", "significance", "intersection"]
)
def test_a_small_group_is_named_and_never_cleared(name: str) -> None:
    made = sample(4_000, 1)
    race = made.groups["race"].copy()
    race[:7] = "few"
    few = Sample(
        rows=made.rows,
        names=made.names,
        scores=made.scores,
        decisions=np.tile(np.array(["approve", "approve", "decline", "approve"], dtype=object), 1_000),
        outcomes=made.outcomes,
        groups={"race": race, "sex": made.groups["sex"]},
    )
    passing: dict[str, dict[str, Any]] = {
        "adverse_impact_ratio": {"judge": "bound", "minimum": 0.5},
        "equal_opportunity": {"maximum": 0.5},
        "significance": {"alpha": 1e-9},
        "intersection": {"minimum": 0.3},
    }
    found = check(name, Subject(sample=few), **passing[name])
    assert found.ok is None and "few" in found.lacking
    without = Sample(**{
        f: getattr(few, f) for f in ("rows", "names", "scores", "decisions", "outcomes")
    } | {"groups": {"race": np.where(race == "few", None, race), "sex": few.groups["sex"]}})  # fmt: skip
    cleared = check(name, Subject(sample=without), **passing[name])
    assert cleared.ok is True
    tables = cleared.numbers.get("attributes")
    if tables:
        assert tables["race"]["unknown"] == 7


@pytest.mark.parametrize("name", ["adverse_impact_ratio", "standardised_mean_difference", "significance"])
def test_nothing_is_judged_against_a_reference_group_of_few_rows(name: str) -> None:
    made = sample(1_000, 2)
    race = made.groups["race"].copy()
    race[:5] = "few"
    moved = Sample(rows=made.rows, names=made.names, scores=made.scores, groups={"race": race})
    found = check(name, subject(moved), reference={"race": "few"})
    assert found.ok is None and found.value is None and "few" in found.lacking


def test_significance_takes_the_exact_test_where_cells_are_small() -> None:
    labels = np.array(["a"] * 12 + ["b"] * 200, dtype=object)
    decided = np.array(
        (["approve"] * 2 + ["decline"] * 10) + (["approve"] * 150 + ["decline"] * 50), dtype=object
    )
    made = Sample(
        rows=np.zeros((212, 1)), names=("x",), scores=np.zeros(212), decisions=decided, groups={"g": labels}
    )
    found = check("significance", Subject(sample=made), minimum_rows=10, alpha=0.05)
    line = found.numbers["attributes"]["g"]["groups"][0]
    assert line["test"] == "mid-p" and line["p"] == line["p_mid"] < line["p_fisher"]
    assert found.ok is False and found.value == line["p_mid"]


def test_crossed_groups_show_harm_that_single_attributes_hide() -> None:
    # a & f and b & m are approved half the time, the other two always: each attribute alone looks fair
    n = 4_000
    race = np.tile(np.array(["a", "a", "b", "b"], dtype=object), n // 4)
    sex = np.tile(np.array(["f", "m", "f", "m"], dtype=object), n // 4)
    harmed = (race == "a") == (sex == "f")
    decided = np.where(harmed & (np.arange(n) % 8 < 4), "decline", "approve").astype(object)
    made = Sample(
        rows=np.zeros((n, 1)), names=("x",), scores=np.zeros(n), decisions=decided,
        groups={"race": race, "sex": sex},
    )  # fmt: skip
    about = Subject(sample=made)
    alone = check("adverse_impact_ratio", about)
    assert alone.value is not None and alone.value > 0.95
    crossed = check("intersection", about)
    assert crossed.ok is False and crossed.value == pytest.approx(0.5, abs=0.03)
    cells = {cell["group"]: cell for cell in crossed.numbers["cells"]}
    assert cells["a & f"]["p_holm"] >= cells["a & f"]["p"]
    assert len(cells) == 3 and crossed.numbers["references"]["race & sex"] in ("a & m", "b & f")


def test_intersections_control_chance_findings() -> None:
    rng = np.random.default_rng(8)
    alarms = 0
    for _ in range(60):
        groups = {a: rng.integers(0, 4, 3_000).astype(str).astype(object) for a in "pqr"}
        decided = np.where(rng.random(3_000) < 0.6, "approve", "decline").astype(object)
        made = Sample(
            rows=np.zeros((3_000, 1)), names=("x",), scores=np.zeros(3_000), decisions=decided, groups=groups
        )
        # a minimum of 1: only the adjusted p stands between chance and an alarm. The reference is the luckiest
        # cell, which a fixed one is not; so it is given.
        found = check(
            "intersection", Subject(sample=made), minimum=1.0, reference={"p": "0", "q": "0", "r": "0"}
        )
        alarms += found.ok is False
    assert alarms <= 8  # 5 % family-wise: 3 expected


def test_outcomes_show_each_group_as_it_is() -> None:
    made = sample(3_000, exposure=np.arange(3_000.0))
    found = check("outcomes", subject(made))
    approve, decline = made.scores < 0.3, made.scores >= 0.45
    for line in found.numbers["attributes"]["race"]["groups"]:
        inside = made.groups["race"] == line["group"]
        assert line["approve"] == pytest.approx(approve[inside].mean())
        assert line["decline"] == pytest.approx(decline[inside].mean())
        assert line["approve"] + line["refer"] + line["decline"] == pytest.approx(1.0)
        assert line["event_rate_approved"] == pytest.approx(made.outcomes[inside & approve].mean())
        assert line["mean_exposure"] == pytest.approx(made.exposure[inside].mean())
        assert line["approve_interval"][0] <= line["approve"] <= line["approve_interval"][1]


def test_another_use_case_on_the_same_sample_is_another_result() -> None:
    made = sample(500)
    found = set()
    for cut in (0.1, 0.2, 0.3, 0.4):
        about = Subject(sample=made, use_case={"approve_below": cut, "decline_from": cut})
        found.add(check("outcomes", about).numbers["favourable"])
    assert len(found) == 4 and max(found) == pytest.approx((made.scores < 0.4).mean())


def test_recorded_decisions_go_before_cut_offs_and_without_either_nothing_is_judged() -> None:
    made = sample(500)
    flipped = np.where(made.scores < 0.3, "decline", "approve").astype(object)
    recorded = Sample(
        rows=made.rows, names=made.names, scores=made.scores, decisions=flipped, groups=made.groups
    )
    by_cut = check("outcomes", subject(made)).numbers["favourable"]
    assert check("outcomes", subject(recorded)).numbers["favourable"] == pytest.approx(1 - by_cut)
    for name in ("adverse_impact_ratio", "significance", "outcomes", "marginal_effect", "intersection"):
        found = check(name, Subject(sample=made))
        assert found.ok is None and "cut-offs" in found.lacking


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("adverse_impact_ratio", {"attributes": ["age"]}, "no protected attribute 'age'"),
        ("adverse_impact_ratio", {"reference": {"race": "r9"}}, "no rows in the sample"),
        ("adverse_impact_ratio", {"judge": "pass"}, "must be one of"),
        ("marginal_effect", {"controls": ["income"]}, "no feature of the sample"),
        ("marginal_effect", {"controls": ["a"], "at": {"b": 1}}, "not one of the controls"),
        ("marginal_effect", {"controls": ["a"], "at": {"a": "x"}}, "not a number"),
    ],
)
def test_wrong_parameters_are_refused(name: str, params: dict[str, Any], words: str) -> None:
    made = sample(200)
    twice = Sample(
        rows=np.column_stack([made.rows[:, :1], made.rows[:, :1]]), names=("a", "copy"), scores=made.scores,
        groups=made.groups,
    )  # fmt: skip
    with pytest.raises(UsageError, match=words):
        check(name, subject(twice), **params)


def test_a_regression_that_cannot_be_fitted_judges_nothing_and_says_why() -> None:
    made = sample(200)
    twice = Sample(
        rows=np.column_stack([made.rows[:, :1], made.rows[:, :1]]), names=("a", "copy"), scores=made.scores,
        groups=made.groups,
    )  # fmt: skip
    found = check("marginal_effect", subject(twice), controls=["a", "copy"], maximum=1.0)
    assert found.ok is None and "linearly dependent" in found.lacking
    always = Sample(
        rows=made.rows, names=made.names, scores=np.where(made.groups["race"] == "r1", 0.0, made.scores),
        groups={"race": made.groups["race"]},
    )  # fmt: skip
    found = check("marginal_effect", subject(always), model="logit", reference={"race": "r0"}, maximum=1.0)
    assert found.ok is None and "take the linear model" in found.lacking
    assert check("marginal_effect", subject(always), reference={"race": "r0"}, maximum=1.0).ok is True


def test_too_many_groups_are_refused() -> None:
    made = Sample(
        rows=np.zeros((500, 1)), names=("x",), scores=np.zeros(500),
        groups={"age": np.arange(500).astype(str).astype(object)},
    )  # fmt: skip
    with pytest.raises(UsageError, match="band its values"):
        check("outcomes", subject(made))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_odd_samples_give_results_and_never_a_traceback(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 40))
    labels = st.sampled_from(["a", "b", "", None, float("nan"), "a & b"])
    score = st.one_of(st.floats(0, 1), st.just(float("nan")))
    made = Sample(
        rows=np.array(data.draw(st.lists(st.lists(score, min_size=2, max_size=2), min_size=n, max_size=n))),
        names=("x", "y"),
        scores=np.array(data.draw(st.lists(score, min_size=n, max_size=n))),
        outcomes=np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n))),
        groups={
            name: np.array(data.draw(st.lists(labels, min_size=n, max_size=n)), dtype=object) for name in "gh"
        },
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for result in battery(subject(made), NAMES, {name: {"minimum_rows": 1} for name in NAMES}):
            assert result.value is None or np.isfinite(result.value)
            assert result.ok is not True


def test_the_order_of_rows_and_the_names_of_groups_do_not_matter() -> None:
    made = sample(1_500, 5)
    order = np.random.default_rng(0).permutation(1_500)
    new = {"r0": "zeta", "r1": "alpha", "r2": "mid"}
    moved = Sample(
        rows=made.rows[order],
        names=made.names,
        scores=made.scores[order],
        outcomes=made.outcomes[order],
        groups={
            "race": np.array([new[g] for g in made.groups["race"][order]], dtype=object),
            "sex": made.groups["sex"][order],
        },
    )
    skipped = {"fairness.proxy"}  # its joint figure is over a shuffled half
    for a, b in zip(battery(subject(made), NAMES), battery(subject(moved), NAMES), strict=True):
        if a.name not in skipped:
            assert (a.ok, a.value) == (b.ok, pytest.approx(b.value, abs=1e-9)), a.name


def test_all_fairness_checks_are_quick() -> None:
    made = sample(30_000)
    age = np.random.default_rng(1).choice(["<25", "25-61", ">61"], 30_000).astype(object)
    rows = np.random.default_rng(2).normal(size=(30_000, 20))
    spent = []
    for _ in range(3):
        fresh = Sample(
            rows=rows, names=tuple(f"f{i}" for i in range(20)), scores=made.scores, outcomes=made.outcomes,
            groups=made.groups | {"age": age},
        )  # fmt: skip
        start = time.process_time()
        battery(subject(fresh), NAMES)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.5  # 0.14 s when nothing else runs


# --- Real data -------------------------------------------------------------------------------------------------


def scored(shared_data: Path, name: str, target: str, positive: str | None, share: float) -> tuple[Any, ...]:
    """A scorecard without protected inputs, its test part, and the cut-off that the validation part gives."""
    columns = read_table(shared_data / f"{name}.parquet")
    contract: Contract = infer_contract(columns, target).contract
    kept = tuple(f for f in contract.features if not f.protected and f.name not in ("afam", "single"))
    contract = Contract(features=kept)
    rows = contract.compile().table(columns, ignore_unknown=True)
    events = events_of(columns[target], positive)
    a, b, c = split_rows(name, len(events))
    card, _ = train_scorecard(rows[a], events[a], contract)
    cut = float(np.quantile(probability(card.score(rows[b]), "logit"), share))
    return columns, card, rows, events, c, cut, contract


def test_the_boston_lenders_screen_fires_although_race_is_no_input(shared_data: Path) -> None:
    columns, card, rows, events, part, cut, contract = scored(
        shared_data, "hmda_boston_1990", "deny", "yes", 0.85
    )
    assert "afam" not in contract.names
    scores = probability(card.score(rows[part]), "logit")
    race = np.where(columns["afam"][part] == "yes", "black", "other").astype(object)
    about = Subject(
        sample=Sample(
            rows=rows[part],
            names=contract.names,
            scores=scores,
            outcomes=events[part] > 0,
            groups={"race": race},
        ),
        use_case={"approve_below": cut, "decline_from": cut},
        contract=contract,
    )
    approved = scores < cut
    rates = {g: approved[race == g].mean() for g in ("black", "other")}
    air = check("adverse_impact_ratio", about)
    assert air.value == pytest.approx(rates["black"] / rates["other"], abs=1e-12)
    assert 0.65 <= air.value <= 0.80  # a scorecard of another library gave 0.760 on these rows
    assert air.ok is False
    assert check("significance", about, alpha=0.01).ok is False
    assert check("marginal_effect", about).value == pytest.approx(rates["other"] - rates["black"], abs=1e-9)


def test_german_credit_by_sex_says_how_little_178_rows_say(shared_data: Path) -> None:
    columns, card, rows, events, part, cut, contract = scored(
        shared_data, "german_credit", "class", "2", 0.70
    )
    sex = np.where(columns["personal_status_sex"][part] == "A92", "f", "m").astype(object)
    about = Subject(
        sample=Sample(
            rows=rows[part], names=contract.names, outcomes=events[part] > 0, groups={"sex": sex},
            scores=probability(card.score(rows[part]), "logit"),
        ),
        use_case={"approve_below": cut, "decline_from": cut},
    )  # fmt: skip
    air = check("adverse_impact_ratio", about)
    # other libraries' models gave 0.911 and 0.900 on these 178 rows: the interval must hold both, it is that wide
    assert air.interval is not None and air.interval[0] < 0.900 < 0.911 < air.interval[1]
    assert check("adverse_impact_ratio", about, judge="bound").ok is not True


def test_census_incomes_by_race_and_sex_equal_the_yardsticks(shared_data: Path) -> None:
    """The label itself, income above the line, by group on a part of the census: counted by hand here."""
    columns = read_table(shared_data / "acs_income_2018_part.parquet")
    part = np.arange(0, 332_900, 11)
    white = np.asarray(columns["rac1p"])[part]
    race = np.select([white == 0, white == 1, white == 5], ["white", "black", "asian"], "other").astype(
        object
    )
    sex = np.where(np.asarray(columns["sex"])[part] == 1, "m", "f").astype(object)
    above = np.asarray(columns["pincp"])[part] == 1
    x = np.column_stack(
        [np.asarray(columns[name], dtype=float)[part] for name in ("schl", "wkhp", "occp", "relp")]
    )
    made = Sample(
        rows=x, names=("schl", "wkhp", "occp", "relp"), scores=np.where(above, 0.0, 1.0),
        groups={"race": race, "sex": sex},
    )  # fmt: skip
    about = Subject(sample=made, use_case={"approve_below": 0.5, "decline_from": 0.5})
    air = check("adverse_impact_ratio", about)
    rates = {g: above[race == g].mean() for g in ("white", "black", "asian", "other")}
    assert air.value == pytest.approx(min(rates.values()) / max(rates.values()), abs=1e-12)
    assert air.ok is False
    crossed = check("intersection", about)
    assert crossed.value is not None and crossed.value < air.value and crossed.ok is False
    proxies = check("proxy", about, given="nothing")
    features = {line["feature"]: line for line in proxies.numbers["attributes"]["sex"]["features"]}
    assert max(features, key=lambda name: features[name]["information"]) == "occp"  # occupation tells sex
    together = proxies.numbers["attributes"]["sex"]["together"]["f"]
    assert together > features["wkhp"]["auc"] - 0.02


def test_a_scorecard_on_census_incomes_gives_the_published_group_rates(shared_data: Path) -> None:
    """Group rates of another library's scorecard on the same 66,361 test rows, 37 % selected, ours on less data."""
    columns = read_table(shared_data / "acs_income_2018_part.parquet")
    a, b, part = split_rows("acs_income", 332_900)
    features, values = [], []
    for name in ("agep", "cow", "schl", "occp", "wkhp"):
        column = np.asarray(columns[name])
        if name in ("cow", "occp"):
            kinds, codes = np.unique(column, return_inverse=True)
            features.append(Feature(name=name, type="category", categories=[str(k) for k in kinds]))
            values.append(codes.astype(float))
        else:
            features.append(Feature(name=name, type="number"))
            values.append(column.astype(float))
    rows, events = np.column_stack(values), np.asarray(columns["pincp"], dtype=float)
    card, _ = train_scorecard(rows[a[::8]], events[a[::8]], Contract(features=tuple(features)))
    cut = float(np.quantile(probability(card.score(rows[b[::4]]), "logit"), 0.63))
    codes = np.asarray(columns["rac1p"])[part]
    about = Subject(
        sample=Sample(
            rows=rows[part],
            names=tuple(f.name for f in features),
            scores=probability(card.score(rows[part]), "logit"),
            groups={
                "race": np.select(
                    [codes == 0, codes == 1, codes == 5], ["white", "black", "asian"], "other"
                ).astype(object),
                "sex": np.where(np.asarray(columns["sex"])[part] == 1, "m", "f").astype(object),
            },
        ),
        # a high score is the favourable one here
        use_case={"approve_below": cut, "decline_from": cut, "adverse": "low"},
    )
    air = check("adverse_impact_ratio", about)
    published = {"asian": 0.470, "black": 0.257, "other": 0.203, "white": 0.390, "f": 0.306, "m": 0.429}
    for entry in air.numbers["attributes"].values():
        for line in entry["groups"]:
            assert line["rate"] == pytest.approx(published[line["group"]], abs=0.016), line["group"]
    assert air.value == pytest.approx(0.432, abs=0.02) and air.ok is False  # race; by sex 0.712
    smd = check("standardised_mean_difference", about)
    assert smd.value is not None and smd.value > 0.3
