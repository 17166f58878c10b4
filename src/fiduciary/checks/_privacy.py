"""What a model tells about who trained it, and about itself.

*Membership*: can somebody who has a row and its outcome tell from the score whether the row was in the training data?
Two attacks: a threshold on the loss (Yeom et al., CSF 2018), and the loss against that of reference models which
never saw the row (difficulty calibration, Watson et al., ICLR 2022). An attack at chance on these samples is no proof
of privacy; one above chance is a leak that was found. Where the samples differ in more than membership (another year,
another product), that difference is measured with it.

*Extraction*: how closely can a caller rebuild the model from answers? A surrogate is trained on the answers to a
budget of queries. A scorecard needs no surrogate: its bins can be read off, and `recover_scorecard` counts queries.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._check import Check, Param, table
from fiduciary.checks._common import improper, quantile, unjudged
from fiduciary.checks._discrimination import auc_with_error
from fiduciary.checks._goal import Goal, goal_of
from fiduciary.checks._proportions import wilson
from fiduciary.checks._result import CheckResult, number, verdict
from fiduciary.checks._sample import F64, Sample, Subject
from fiduciary.checks._surrogate import fit_classifier, fit_regressor, recover_scorecard
from fiduciary.models import Contract, Scorecard, Scorer, probability, ranking

SMALLEST = 50
"""Rows on each side below which an attack is not judged."""
HELD = 1e-12


class _Attack(msgspec.Struct, frozen=True):
    auc: float
    interval: tuple[float, float] | None
    members: int
    others: int
    caught: dict[str, Any]
    """At each false positive rate: the true positive rate with its interval."""


def membership_inference(subject: Subject, **params: Any) -> CheckResult:
    """AUC of attacks that tell members of the training data from others by their scores."""
    name = "privacy.membership_inference"
    members, others = subject.development, subject.sample
    assert members is not None and others is not None
    if lacking := improper(members) or improper(others):
        return unjudged(name, lacking, unit="AUC")
    random = np.random.default_rng(subject.seed)
    members_at = _some(random, len(members), params["rows"])
    others_at = _some(random, len(others), params["rows"])
    if min(len(members_at), len(others_at)) < SMALLEST:
        return unjudged(name, f"at least {SMALLEST} rows of the training data and of others", unit="AUC")
    attacks: dict[str, _Attack] = {}
    inside, outside = _loss(members, members_at), _loss(others, others_at)
    if params["attack"] in ("loss", "both"):
        attacks["loss"] = _attack(-inside, -outside, params)
    if params["attack"] in ("reference", "both"):
        found = _reference(subject, members_at, others_at, inside, outside, params)
        if isinstance(found, str):
            return unjudged(name, found, unit="AUC")
        attacks["reference"] = found
    worst = max(attacks, key=lambda key: attacks[key].auc)
    value = attacks[worst].auc
    shown = ", ".join(f"{key} {a.auc:.3f}" for key, a in attacks.items())
    return CheckResult(
        name=name,
        ok=verdict(value, maximum=params["maximum"]),
        value=value,
        unit="AUC",
        interval=attacks[worst].interval,
        threshold=params["maximum"],
        detail=f"attack AUC: {shown} (0.5 is chance)",
        numbers={
            "worst": worst,
            "confidence": params["confidence"],
            **{
                key: {
                    "auc": number(a.auc),
                    "interval": None if a.interval is None else list(a.interval),
                    "members": a.members,
                    "others": a.others,
                    "true_positive_rate_at": a.caught,
                }
                for key, a in attacks.items()
            },
        },
    )


def extraction(subject: Subject, **params: Any) -> CheckResult:
    """How often a copy of the model, built from answers to a budget of queries, decides as the model does."""
    name = "privacy.extraction"
    sample, scorer, contract = subject.sample, subject.scorer, subject.contract
    assert sample is not None and scorer is not None and contract is not None
    if subject.use_case is None and params["approve_below"] is None:
        return unjudged(name, "a use case with cut-offs, or the parameter approve_below", unit="share")
    if len(sample) < 2 * SMALLEST:
        return unjudged(name, f"at least {2 * SMALLEST} rows in the sample", unit="share")
    goal = goal_of(subject.use_case, below=params["approve_below"])
    random = np.random.default_rng(subject.seed)
    order = random.permutation(len(sample))
    known, held = order[: len(order) // 2], order[len(order) // 2 :][:20_000]
    truth = probability(scorer.score(sample.rows[held]), scorer.link)
    budget = params["queries"]
    stages = sorted({max(budget // 16, SMALLEST), max(budget // 4, SMALLEST), budget})
    queries = _marginals(sample.rows[known], budget, random)
    answers = probability(scorer.score(queries), scorer.link)
    curve: dict[str, dict[str, float]] = {}
    agreed = np.zeros(len(held), bool)
    for stage in stages:
        copy, agreed = _copied(queries[:stage], answers[:stage], contract, sample.rows[held], goal, params)
        wanted = goal.turned(truth)
        agreed = agreed == wanted
        curve[str(stage)] = {"agreement": float(agreed.mean())}
        if copy is not None:
            curve[str(stage)]["score_correlation"] = number(_correlation(copy, truth)) or 0.0
    value = float(agreed.mean())
    low, high = wilson(int(agreed.sum()), len(held), params["confidence"])
    kept = float(max(goal.turned(truth).mean(), 1 - goal.turned(truth).mean()))
    numbers: dict[str, Any] = {
        "by_queries": curve,
        "always_one_answer": kept,
        "held_rows": len(held),
        "answers": params["answers"],
        "confidence": params["confidence"],
    }
    detail = (
        f"a copy from {budget} queries decides alike on {value:.1%} of rows (one answer for all: {kept:.1%})"
    )
    if isinstance(scorer, Scorecard) and params["answers"] == "score":
        numbers["scorecard"] = card = _card(scorer, contract, sample.rows[known], sample.rows[held], goal)
        detail += f"; {card['queries']} queries read off its bins, exact for {card['exact']:.1%} of rows"
        if card["queries"] <= budget and card["agreement"] > value:
            value = card["agreement"]
            low, high = wilson(round(value * len(held)), len(held), params["confidence"])
    return CheckResult(
        name=name,
        ok=verdict(value, maximum=params["maximum"]),
        value=value,
        unit="share",
        interval=(float(low), float(high)),
        threshold=params["maximum"],
        detail=detail,
        numbers=numbers,
    )


def _loss(sample: Sample, at: NDArray[np.intp]) -> F64:
    assert sample.outcomes is not None
    return _log_loss(sample.scores[at], sample.outcomes[at])


def _log_loss(scores: F64, outcomes: NDArray[np.bool_]) -> F64:
    held = np.clip(scores, HELD, 1.0 - HELD)
    found: F64 = -np.log(np.where(outcomes, held, 1.0 - held))
    return found


def _attack(inside: F64, outside: F64, params: dict[str, Any]) -> _Attack:
    """An attack that calls a row a member when its signal is high."""
    signal = np.concatenate([inside, outside])
    member = np.arange(len(signal)) < len(inside)
    area, error = auc_with_error(ranking(signal, member))
    half = quantile(0.5 + params["confidence"] / 2) * error
    interval = (max(area - half, 0.0), min(area + half, 1.0)) if math.isfinite(half) else None
    caught: dict[str, Any] = {}
    ordered = np.sort(outside)[::-1]
    for rate in (0.1, 0.01, 0.001):
        allowed = int(rate * len(outside))
        if not allowed:  # too few others to tell such a rate
            continue
        threshold = ordered[allowed] if allowed < len(ordered) else -np.inf
        hits, false = int((inside > threshold).sum()), int((outside > threshold).sum())
        low, high = wilson(hits, len(inside), params["confidence"])
        caught[str(rate)] = {
            "true_positive_rate": hits / len(inside),
            "interval": [float(low), float(high)],
            "false_positives": false,
        }
    return _Attack(area, interval, len(inside), len(outside), caught)


def _reference(
    subject: Subject,
    members_at: NDArray[np.intp],
    others_at: NDArray[np.intp],
    inside: F64,
    outside: F64,
    params: dict[str, Any],
) -> _Attack | str:
    """Loss under a reference model minus loss under the model; no reference ever saw the rows that it judges.

    Two references, each of one half of the others. Every row is judged by one of them: others by the one of the other
    half, members by turns. (A mean of two for members alone would vary less, and that would be told, not membership.)
    """
    members, others = subject.development, subject.sample
    assert members is not None and others is not None and others.outcomes is not None
    assert members.outcomes is not None
    contract = subject.contract
    halves = others_at[::2], others_at[1::2]
    if any(len(np.unique(others.outcomes[half])) < 2 for half in halves):
        return "both outcomes in each half of the sample"
    models = [
        fit_classifier(
            others.rows[half], others.outcomes[half], contract, rounds=params["rounds"], seed=subject.seed
        )
        for half in halves
    ]
    rows, outcomes = members.rows[members_at], members.outcomes[members_at]
    references = [_log_loss(model(rows), outcomes) for model in models]
    easy = np.where(np.arange(len(inside)) % 2 == 0, references[0], references[1]) - inside
    hard = np.empty(len(outside))
    for k, model in ((0, models[1]), (1, models[0])):
        half = halves[k]
        hard[k::2] = _log_loss(model(others.rows[half]), others.outcomes[half]) - outside[k::2]
    return _attack(easy, hard, params)


def _some(random: np.random.Generator, n: int, most: int) -> NDArray[np.intp]:
    return np.sort(random.permutation(n)[:most])


def _marginals(rows: F64, n: int, random: np.random.Generator) -> F64:
    """Queries of somebody who knows what values occur, and not how they occur together; half of them real rows."""
    drawn = np.stack([column[random.integers(0, len(rows), n)] for column in rows.T], axis=1)
    real = random.random(n) < 0.5
    drawn[real] = rows[random.integers(0, len(rows), int(real.sum()))]
    return np.ascontiguousarray(drawn)


def _copied(
    queries: F64, answers: F64, contract: Contract, held: F64, goal: Goal, params: dict[str, Any]
) -> tuple[F64 | None, NDArray[np.bool_]]:
    """The copy's scores (None when it learnt decisions) and its decisions on held rows."""
    if params["answers"] == "score":
        scores = fit_regressor(queries, answers, contract, rounds=params["rounds"])(held)
        return scores, goal.turned(scores)
    decided = goal.turned(answers)
    if decided.all() or not decided.any():
        return None, np.full(len(held), bool(decided[0]))
    return None, fit_classifier(queries, decided, contract, rounds=params["rounds"], seed=0)(held) >= 0.5


def _correlation(a: F64, b: F64) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def _card(scorer: Scorer, contract: Contract, known: F64, held: F64, goal: Goal) -> dict[str, Any]:
    def ask(rows: F64) -> F64:
        return probability(scorer.score(rows), scorer.link)

    copy = recover_scorecard(ask, contract, known, scorer.link)
    truth, mine = scorer.score(held), copy.margins(held)
    exact = np.abs(truth - mine) <= 1e-9
    alike = goal.turned(probability(truth, scorer.link)) == goal.turned(probability(mine, scorer.link))
    return {
        "queries": copy.queries,
        "exact": float(exact.mean()),
        "agreement": float(alike.mean()),
        "bins_found": copy.bins,
    }


CHECKS = table(
    (
        Check(
            "privacy.membership_inference",
            "metric",
            membership_inference,
            {
                "maximum": Param(float, None, "largest AUC of an attack", 0.5, 1.0),
                "attack": Param(
                    str, "both", "which attacks are tried", choices=("loss", "reference", "both")
                ),
                "rows": Param(int, 20_000, "at most so many rows of each side", SMALLEST, 1_000_000),
                "rounds": Param(int, 100, "trees of a reference model", 1, 2_000),
                "confidence": Param(float, 0.95, "level of the interval", 0.5, 0.999),
            },
            unit="AUC",
            source="Yeom et al. (CSF 2018); Watson et al. (ICLR 2022); low rates: Carlini et al. (S&P 2022)",
            needs=("sample.outcomes", "development.outcomes"),
            summary="how well members of the training data can be told from others by their scores",
            heavy=True,
        ),
        Check(
            "privacy.extraction",
            "metric",
            extraction,
            {
                "maximum": Param(float, None, "largest share of equal decisions", 0.0, 1.0),
                "queries": Param(int, 2_000, "answers that the attacker gets", SMALLEST, 1_000_000),
                "answers": Param(str, "score", "what an answer holds", choices=("score", "decision")),
                "approve_below": Param(
                    float, None, "cut-off below which a score is approved; else the use case's"
                ),
                "rounds": Param(int, 200, "trees of the surrogate", 1, 2_000),
                "confidence": Param(float, 0.95, "level of the interval", 0.5, 0.999),
            },
            unit="share",
            source="Tramer et al. (USENIX Security 2016); AI Act (EU) 2024/1689 Art. 15(5)",
            needs=("sample", "scorer", "contract"),
            summary="how closely a caller can rebuild the model from a budget of answers",
            heavy=True,
        ),
    )
)
