"""Evasion and bad input: how many outcomes can be turned by moving what people can move, and what gets in at all.

AI Act Article 15(5) asks that a system withstand attempts to change its output by exploiting it. `certified_rate`
proves row by row what no allowed change can turn, `attack` tries, `input_validation` throws malformed and impossible
rows at the compiled contract.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from fiduciary.checks._attack import attack
from fiduciary.checks._certificates import MAX_STEPS, STEPS, Certifier, certifiable, counts
from fiduciary.checks._check import Check, Param, table
from fiduciary.checks._common import unjudged
from fiduciary.checks._goal import Goal, goal_of, reverse
from fiduciary.checks._inputs import run_suite
from fiduciary.checks._moves import Moves, moves_of
from fiduciary.checks._proportions import wilson
from fiduciary.checks._result import CheckResult, verdict
from fiduciary.checks._sample import F64, Subject
from fiduciary.models import Scorer, probability

SOURCE = "AI Act (EU) 2024/1689 Art. 15(5)"


class _Question(msgspec.Struct, frozen=True, eq=False):
    scorer: Scorer
    goal: Goal
    moves: Moves
    rows: F64
    """Those that are attacked."""
    eligible: int
    """Rows on the side where the attack starts."""


def certified_rate(subject: Subject, **params: Any) -> CheckResult:
    """Share of rows for which no allowed change of mutable features turns the outcome, proved exactly."""
    name = "robustness.certified_rate"
    question = _question(subject, params)
    if isinstance(question, str):
        return unjudged(name, question, unit="share")
    if not certifiable(question.scorer):
        return unjudged(
            name,
            "a model with certificates: trees (LightGBM, XGBoost, ONNX), a scorecard or linear",
            unit="share",
        )
    judge = Certifier(question.scorer, question.moves, question.goal, steps=params["steps"])
    found = judge.certify_all(question.rows)
    n, by = len(found), counts(found)
    value = by["certified"] / n
    names = question.moves.contract.names
    used = np.zeros(len(names), dtype=np.intp)
    for row, certificate in zip(question.rows, found, strict=True):
        if certificate.example is not None:
            used += (np.array(certificate.example) != row) & ~np.isnan(row)
    costs = [c.cost for c in found if c.status == "attackable"]
    said = f"{by['certified']} of {n} outcomes certified, {by['attackable']} can be turned, {by['open']} open"
    return CheckResult(
        name=name,
        ok=verdict(value, minimum=params["minimum"]),
        value=value,
        unit="share",
        interval=_interval(by["certified"], n, params["confidence"]),
        threshold=params["minimum"],
        detail=f"{said} (box: {_said(question.moves)})",
        numbers={
            **by,
            "rows": n,
            "eligible": question.eligible,
            "open_reasons": sorted({c.why for c in found if c.why}),
            "steps_largest": max(c.steps for c in found),
            "cost_median": float(np.median(costs)) if costs else None,
            "moved": {names[i]: int(used[i]) for i in np.argsort(-used).tolist() if used[i]},
            "moves": _moves_table(question.moves),
            "budget": params["budget"],
            "cut": question.goal.cut,
            "confidence": params["confidence"],
        },
    )


def attack_rate(subject: Subject, **params: Any) -> CheckResult:
    """Share of rows whose outcome a greedy attack turns within the contract, the box and the budget."""
    name = "robustness.attack"
    question = _question(subject, params)
    if isinstance(question, str):
        return unjudged(name, question, unit="share")
    found = attack(question.scorer, question.rows, question.moves, question.goal, sweeps=params["sweeps"])
    n, turned = len(found.turned), int(found.turned.sum())
    value = turned / n
    names = question.moves.contract.names
    moved = (found.rows != question.rows) & ~np.isnan(question.rows) & found.turned[:, None]
    used = moved.sum(axis=0)
    return CheckResult(
        name=name,
        ok=verdict(value, maximum=params["maximum"]),
        value=value,
        unit="share",
        interval=_interval(turned, n, params["confidence"]),
        threshold=params["maximum"],
        detail=f"{turned} of {n} outcomes turned by a greedy attack; a lower bound, not a proof "
        f"(box: {_said(question.moves)})",
        numbers={
            "turned": turned,
            "rows": n,
            "eligible": question.eligible,
            "queries_per_row": found.queries / n,
            "moved": {names[i]: int(used[i]) for i in np.argsort(-used).tolist() if used[i]},
            "moves": _moves_table(question.moves),
            "budget": params["budget"],
            "cut": question.goal.cut,
            "confidence": params["confidence"],
        },
    )


def input_validation(subject: Subject, **params: Any) -> CheckResult:
    """Whether the compiled contract refuses every hostile row of a generated suite, and no valid one."""
    name = "robustness.input_validation"
    contract = subject.contract
    assert contract is not None
    rows = None if subject.sample is None else subject.sample.rows
    suite = run_suite(contract, rows, seed=subject.seed, rows_per_case=params["rows"])
    if suite is None:
        return unjudged(name, "a sample with a row that the contract accepts", unit="share")
    value = suite.refused / suite.hostile
    wrong = sorted({*suite.accepted, *suite.crashed, *suite.turned_away})
    return CheckResult(
        name=name,
        ok=not wrong,
        value=value,
        unit="share",
        threshold=1.0,
        detail=f"{suite.refused} of {suite.hostile} hostile rows refused, {suite.valid_accepted} of {suite.valid} "
        f"valid rows accepted" + (f"; wrong: {', '.join(wrong[:5])}" if wrong else ""),
        numbers={
            "hostile": suite.hostile,
            "refused": suite.refused,
            "valid": suite.valid,
            "valid_accepted": suite.valid_accepted,
            "cases": suite.cases,
            "accepted_wrongly": sorted(suite.accepted),
            "crashed": sorted(suite.crashed),
            "refused_wrongly": sorted(suite.turned_away),
        },
    )


def _question(subject: Subject, params: dict[str, Any]) -> _Question | str:
    """What is asked of which rows; or in words what is lacking."""
    sample, scorer, contract = subject.sample, subject.scorer, subject.contract
    assert sample is not None and scorer is not None and contract is not None
    if subject.use_case is None and params["approve_below"] is None:
        return "a use case with cut-offs, or the parameter approve_below"
    goal = goal_of(subject.use_case, below=params["approve_below"])
    if params["direction"] == "from-approval":
        goal = reverse(goal)
    if not any(feature.mutable for feature in contract.features):
        return "features that the contract calls mutable"
    population = sample if subject.development is None else subject.development
    moves = moves_of(
        contract,
        population=population.rows,
        step=params["step"],
        box=params["box"],
        costs=params["costs"],
        budget=params["budget"],
    )
    scores = probability(scorer.score(sample.rows), scorer.link)
    at = np.flatnonzero(goal.applies(scores))
    if not len(at):
        return (
            "rows that are approved"
            if params["direction"] == "from-approval"
            else "rows that are not approved"
        )
    chosen = at
    if len(at) > params["rows"]:
        chosen = np.sort(np.random.default_rng(subject.seed).choice(at, params["rows"], replace=False))
    return _Question(scorer, goal, moves, np.ascontiguousarray(sample.rows[chosen]), len(at))


def _interval(count: int, n: int, confidence: float) -> tuple[float, float]:
    low, high = wilson(count, n, confidence)
    return float(low), float(high)


def _said(moves: Moves) -> str:
    many = f"{len(moves.moves)} features may move"
    return many if moves.budget == np.inf else f"{many}, total cost at most {moves.budget:g}"


def _moves_table(moves: Moves) -> dict[str, dict[str, float]]:
    names = moves.contract.names
    return {
        names[i]: {
            key: value
            for key, value in (("down", m.down), ("up", m.up), ("relative", m.relative), ("cost", m.cost))
            if value is not None
        }
        for i, m in moves.moves.items()
    }


_PARAMS = {
    "step": Param(float, 0.1, "how far a mutable number may move, in standard deviations", 0.0, 100.0),
    "box": Param(dict, {}, "feature -> distance, or a table of absolute, relative, down, up; overrides step"),
    "costs": Param(dict, {}, "feature -> cost of a unit of distance, or of a change of category"),
    "budget": Param(float, None, "what all changes of a row may cost together", 0.0),
    "approve_below": Param(float, None, "cut-off below which a score is approved; else the use case's"),
    "direction": Param(
        str,
        "to-approval",
        "what is attacked: rows not approved, or approved ones",
        choices=("to-approval", "from-approval"),
    ),
    "rows": Param(int, 500, "at most so many rows, drawn with the subject's seed", 1, 1_000_000),
    "confidence": Param(float, 0.95, "level of the interval", 0.5, 0.999),
}

CHECKS = table(
    (
        Check(
            "robustness.certified_rate",
            "metric",
            certified_rate,
            {
                "minimum": Param(float, None, "smallest certified share", 0.0, 1.0),
                **_PARAMS,
                "steps": Param(int, STEPS, "domains searched per row before it stays open", 1, MAX_STEPS),
            },
            unit="share",
            source=SOURCE + "; method: exact search over reachable cells",
            needs=("sample", "scorer", "contract"),
            summary="share of outcomes that no allowed change of mutable features can turn, proved row by row",
            heavy=True,
        ),
        Check(
            "robustness.attack",
            "metric",
            attack_rate,
            {
                "maximum": Param(float, None, "largest share that may be turned", 0.0, 1.0),
                **_PARAMS,
                "sweeps": Param(int, 2, "times that all features are tried", 1, 20),
            },
            unit="share",
            source=SOURCE,
            needs=("sample", "scorer", "contract"),
            summary="share of outcomes that a greedy attack turns within contract, box and budget",
            heavy=True,
        ),
        Check(
            "robustness.input_validation",
            "metric",
            input_validation,
            {"rows": Param(int, 5, "valid rows that each hostile change is made to", 1, 1_000)},
            unit="share",
            source=SOURCE,
            needs=("contract",),
            summary="malformed, out-of-range and missing input is refused, valid input is not",
        ),
    )
)
