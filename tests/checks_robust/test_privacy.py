"""Privacy exposure against independent oracles: scikit-learn's ROC, models that leak and models that cannot."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from checks_robust.robust_models import contract, labels_of, rows_of, scorecard
from fiduciary.checks import Sample, Subject, run_check
from fiduciary.checks._surrogate import recover_scorecard
from fiduciary.models import probability
from fiduciary.models._lightgbm import parse
from fiduciary.models._trees import TreeScorer

USE_CASE = {"approve_below": 0.4, "decline_from": 0.6}


def fitted(rows: np.ndarray, events: np.ndarray, trees: int, leaves: int, least: int = 1) -> TreeScorer:
    settings = {
        "objective": "binary", "num_leaves": leaves, "min_data_in_leaf": least, "learning_rate": 0.2, "verbosity": -1,
        "num_threads": 1, "min_sum_hessian_in_leaf": 1e-9,
    }  # fmt: skip
    text = lightgbm.train(
        settings, lightgbm.Dataset(rows, events, categorical_feature=[2], params=settings), trees
    ).model_to_string()
    trees_, link = parse(text)
    return TreeScorer("lightgbm", link, trees_)


def sample(rows: np.ndarray, events: np.ndarray, scorer: Any) -> Sample:
    scores = np.full(len(rows), 0.3) if scorer is None else probability(scorer.score(rows), scorer.link)
    return Sample(rows=rows, names=contract().names, scores=scores, outcomes=events.astype(bool))


def subject(n: int, scorer_of: Any, noise: bool = False) -> Subject:
    x = rows_of(2 * n, 11)
    y = labels_of(x, 12)
    if noise:
        y = (np.random.default_rng(1).random(2 * n) < 0.4).astype(float)
    scorer = scorer_of(x[:n], y[:n])
    return Subject(
        development=sample(x[:n], y[:n], scorer), sample=sample(x[n:], y[n:], scorer), scorer=scorer,
        contract=contract(), use_case=USE_CASE,
    )  # fmt: skip


def test_a_model_that_learnt_noise_by_heart_is_found_out() -> None:
    leaky = subject(600, lambda x, y: fitted(x, y, 150, 31), noise=True)
    found = run_check("privacy.membership_inference", leaky, {"maximum": 0.6, "rounds": 30})
    assert found.ok is False and found.value is not None and found.value > 0.9
    caught = found.numbers["loss"]["true_positive_rate_at"]
    assert caught["0.1"]["interval"][0] > 0.8 and caught["0.01"]["interval"][0] > 0.01
    assert found.numbers["reference"]["auc"] > 0.7


def test_a_model_that_says_the_same_to_all_leaks_nothing() -> None:
    found = run_check("privacy.membership_inference", subject(1_500, lambda x, y: None), {"rounds": 30})
    for attack in ("loss", "reference"):  # neither finds members where there is nothing to find
        numbers = found.numbers[attack]
        assert numbers["interval"][0] <= 0.5 <= numbers["interval"][1]
        low, high = numbers["true_positive_rate_at"]["0.1"]["interval"]
        assert attack == "loss" or low <= 0.1 <= high


def test_attack_figures_are_those_of_scikit_learn() -> None:
    leaky = subject(600, lambda x, y: fitted(x, y, 30, 15))
    found = run_check("privacy.membership_inference", leaky, {"attack": "loss"}).numbers["loss"]
    signal, member = [], []
    for part, inside in ((leaky.development, 1), (leaky.sample, 0)):
        p = np.where(part.outcomes, part.scores, 1 - part.scores)
        signal.append(np.log(p))
        member.append(np.full(len(p), inside))
    signal, member = np.concatenate(signal), np.concatenate(member)
    assert found["auc"] == pytest.approx(roc_auc_score(member, signal), abs=1e-12)
    false, true, _ = roc_curve(member, signal, drop_intermediate=False)
    for rate in ("0.1", "0.01"):
        got = found["true_positive_rate_at"][rate]
        assert got["false_positives"] / 600 <= float(rate)
        assert got["true_positive_rate"] == pytest.approx(true[false <= float(rate) + 1e-12].max(), abs=1e-12)
    assert "0.001" not in found["true_positive_rate_at"]  # 600 others cannot tell one in a thousand


def test_too_little_to_judge_is_said() -> None:
    found = run_check("privacy.membership_inference", subject(20, lambda x, y: None))
    assert found.ok is None and "at least 50" in found.lacking


def test_more_queries_copy_better_and_decisions_tell_less() -> None:
    mine = subject(1_500, lambda x, y: fitted(x, y, 40, 15, 20))
    found = run_check("privacy.extraction", mine, {"queries": 1_600, "maximum": 0.5, "rounds": 60})
    curve = found.numbers["by_queries"]
    assert list(curve) == ["100", "400", "1600"] and found.ok is False
    assert curve["100"]["agreement"] < curve["1600"]["agreement"] == found.value
    assert found.value > found.numbers["always_one_answer"] + 0.1
    decided = run_check("privacy.extraction", mine, {"queries": 1_600, "answers": "decision", "rounds": 60})
    assert decided.value is not None and decided.value <= found.value + 0.02
    assert "score_correlation" not in decided.numbers["by_queries"]["100"]


def test_a_scorecard_is_read_off_exactly() -> None:
    card = scorecard(2)
    rows = rows_of(800, 5)
    asked = 0

    def ask(wanted: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += len(wanted)
        return probability(card.score(wanted), "logit")

    copy = recover_scorecard(ask, contract(), rows, "logit")
    assert copy.queries == asked < 2_000
    for bins, (edges, _) in zip(card.card.features, copy.steps, strict=True):
        if bins.kind == "number":
            assert edges.tolist() == (np.ceil(bins.edges).tolist() if bins.name == "months" else bins.edges)
    fresh = rows_of(2_000, 6)
    assert np.abs(copy.margins(fresh) - card.score(fresh)).max() < 1e-9
    mine = Subject(
        sample=sample(rows, labels_of(rows, 1), card), scorer=card, contract=contract(), use_case=USE_CASE
    )
    found = run_check("privacy.extraction", mine, {"queries": 3_000, "rounds": 30})
    assert found.value == 1.0 and found.numbers["scorecard"]["exact"] == 1.0
