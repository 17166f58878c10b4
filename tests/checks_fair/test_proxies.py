"""What a feature gives away of a protected attribute, against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency, rankdata
from sklearn.metrics import mutual_info_score, roc_auc_score

from fiduciary.checks import Sample, Subject, run_check
from fiduciary.checks._proxies import average_ranks, information
from fiduciary.models import Contract, Feature


def sample(n: int = 3_000) -> Sample:
    rng = np.random.default_rng(4)
    race = rng.choice(["a", "b", "c"], n, p=[0.6, 0.25, 0.15])
    close = np.round(rng.normal(size=n) + 1.2 * (race == "b"), 1)
    far = rng.normal(size=n)
    area = np.where(
        rng.random(n) < 0.7, np.select([race == "a", race == "b"], [2, 0], 1), rng.integers(0, 4, n)
    )
    outcome = rng.random(n) < 0.3
    through = outcome + 0.3 * rng.normal(size=n)  # speaks of the outcome only
    close[rng.random(n) < 0.1] = np.nan
    return Sample(
        rows=np.column_stack([close, far, area, through]).astype(float),
        names=("close", "far", "area", "through"),
        scores=rng.random(n),
        outcomes=outcome,
        groups={"race": race.astype(object)},
    )


CONTRACT = Contract(
    features=(
        Feature(name="close", type="number", missing="allowed"),
        Feature(name="far", type="number"),
        Feature(name="area", type="category", categories=["n", "e", "s", "w"]),
        Feature(name="through", type="number"),
    )
)


def test_auc_information_and_tests_equal_the_libraries() -> None:
    made = sample()
    found = run_check("fairness.proxy", Subject(sample=made, contract=CONTRACT), {"given": "nothing"})
    lines = {line["feature"]: line for line in found.numbers["attributes"]["race"]["features"]}
    race = made.groups["race"]
    for name, column in (("close", 0), ("far", 1), ("through", 3)):
        x = made.rows[:, column]
        known = ~np.isnan(x)
        areas = [roc_auc_score(race[known] == g, x[known]) for g in ("a", "b", "c")]
        assert lines[name]["auc"] == pytest.approx(max(max(a, 1 - a) for a in areas), abs=1e-12)
    area = made.rows[:, 2].astype(int)
    shares = [np.array([(race[area == k] == g).mean() for k in range(4)])[area] for g in ("a", "b", "c")]
    best = max(roc_auc_score(race == g, share) for g, share in zip("abc", shares, strict=True))
    assert lines["area"]["auc"] == pytest.approx(best, abs=1e-12)
    p = np.unique(race, return_counts=True)[1] / len(race)
    entropy = -(p * np.log(p)).sum()
    assert lines["area"]["information"] == pytest.approx(mutual_info_score(race, area) / entropy, abs=1e-12)
    table = np.array([[((race == g) & (area == k)).sum() for g in "abc"] for k in range(4)])
    statistic = chi2_contingency(table, correction=False, lambda_="log-likelihood")
    assert lines["area"]["p"] == pytest.approx(statistic.pvalue, abs=1e-12)
    assert lines["close"]["p"] < 1e-6 < lines["far"]["p"]
    assert found.value == max(line["auc"] for line in lines.values())
    assert run_check("fairness.proxy", Subject(sample=made, contract=CONTRACT), {"maximum": 0.6}).ok is False


def test_conditional_information_sees_through_the_outcome() -> None:
    rng = np.random.default_rng(6)
    n = 20_000
    outcome = rng.random(n) < 0.4
    group = np.where(rng.random(n) < np.where(outcome, 0.8, 0.2), "a", "b").astype(object)
    through = np.where(outcome, 1.0, 0.0) * (
        rng.random(n) < 0.9
    )  # depends on the group through the outcome only
    own = np.where(group == "a", 1.0, 0.0) * (rng.random(n) < 0.5)
    made = Sample(
        rows=np.column_stack([through, own]), names=("through", "own"), scores=rng.random(n), outcomes=outcome,
        groups={"g": group},
    )  # fmt: skip
    found = run_check("fairness.proxy", Subject(sample=made), {"given": "outcome"})
    lines = {line["feature"]: line for line in found.numbers["attributes"]["g"]["features"]}
    assert lines["through"]["information"] > 0.1 and lines["through"]["information_given"] < 0.002
    strata = [outcome == value for value in (False, True)]
    weighted = sum(s.mean() * mutual_info_score(group[s], own[s]) for s in strata)
    entropies = []
    for s in strata:
        p = np.unique(group[s], return_counts=True)[1] / s.sum()
        entropies.append(-(p * np.log(p)).sum() * s.mean())
    assert lines["own"]["information_given"] == pytest.approx(weighted / sum(entropies), abs=1e-12)


def test_all_features_together_tell_what_none_tells_alone() -> None:
    rng = np.random.default_rng(9)
    n = 6_000
    x = rng.normal(size=(n, 12))
    group = np.where(x.sum(axis=1) + 2 * rng.normal(size=n) > 0, "a", "b").astype(object)
    made = Sample(rows=x, names=tuple(map(str, range(12))), scores=rng.random(n), groups={"g": group})
    found = run_check("fairness.proxy", Subject(sample=made), {})
    together = found.numbers["attributes"]["g"]["together"]
    assert found.value is not None and found.value < 0.7
    truth = roc_auc_score(group == "a", x.sum(axis=1))
    assert together["a"] == pytest.approx(truth, abs=0.02) and together["a"] == pytest.approx(together["b"])


def test_a_feature_that_says_nothing_is_near_one_half_out_of_sample() -> None:
    rng = np.random.default_rng(10)
    made = Sample(
        rows=rng.normal(size=(4_000, 8)), names=tuple("abcdefgh"), scores=rng.random(4_000),
        groups={"g": rng.choice(["x", "y"], 4_000).astype(object)},
    )  # fmt: skip
    found = run_check("fairness.proxy", Subject(sample=made), {})
    assert found.numbers["attributes"]["g"]["together"]["x"] == pytest.approx(0.5, abs=0.03)


def test_ranks_and_information_of_small_tables() -> None:
    values = np.array([3.0, 1.0, 3.0, 2.0, 1.0, 1.0])
    assert average_ranks(values).tolist() == rankdata(values).tolist()
    assert information(np.zeros((2, 2))) == (0.0, 0.0)
    bits, entropy = information(np.array([[5.0, 0.0], [0.0, 5.0]]))
    assert bits == pytest.approx(np.log(2)) == pytest.approx(entropy)
