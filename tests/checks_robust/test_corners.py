"""Certificates of linear models against mixed-integer optimisation (SciPy's HiGHS)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from checks_robust.robust_models import contract, rows_of
from fiduciary.checks import Certifier, Goal, Move, Moves
from fiduciary.models import probability
from fiduciary.models._linear import Linear, LinearFile, Term


def linear(seed: int) -> Linear:
    random = np.random.default_rng(seed)
    terms = []
    for feature in contract().features:
        weights = random.normal(size=len(feature.categories)).round(2).tolist()
        terms.append(
            Term(name=feature.name, weight=0.0 if weights else round(float(random.normal()), 2), center=0.5,
                 categories=weights, missing=0.2)
        )  # fmt: skip
    return Linear(LinearFile(link="logit", intercept=0.1, terms=terms), contract())


def optimum(scorer: Linear, moves: Moves, row: np.ndarray, sign: float) -> float:
    """Least sign * margin within box and budget: distances down and up (whole ones too), a binary a category."""
    gains, costs, tops, whole, groups = [], [], [], [], []
    for i, move in moves.moves.items():
        feature, x, term = contract().features[i], float(row[i]), scorer.file.terms[i]
        if math.isnan(x):
            continue
        if feature.type == "category":
            place = len(gains)
            for k, weight in enumerate(term.categories):
                if k != x:
                    gains.append(sign * (weight - term.categories[int(x)]))
                    costs.append(1.0 if move.cost is None else move.cost)
                    tops.append(1.0)
                    whole.append(1)
            groups.append(range(place, len(gains)))
            continue
        for way, reach, bound in ((-1.0, move.down, feature.minimum), (1.0, move.up, feature.maximum)):
            top = reach if bound is None else min(reach, abs(bound - x))
            gains.append(sign * way * term.weight)
            costs.append(move.cost if move.cost is not None else (1.0 / reach if reach else 0.0))
            tops.append(math.floor(top + 1e-9) if feature.type == "integer" else top)
            whole.append(int(feature.type == "integer"))
    margin = sign * float(scorer.score(row[None, :])[0])
    if not gains:
        return margin
    constraints = []
    if moves.budget < math.inf:
        constraints.append(LinearConstraint(np.array([costs]), -np.inf, moves.budget))
    for group in groups:
        one = np.zeros((1, len(gains)))
        one[0, list(group)] = 1.0
        constraints.append(LinearConstraint(one, 0.0, 1.0))
    found = milp(
        np.array(gains), constraints=constraints, integrality=whole, bounds=Bounds(0.0, np.array(tops))
    )
    assert found.success
    return margin + float(found.fun)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 5),
    number=st.integers(0, 10_000),
    budget=st.sampled_from([math.inf, 0.5, 1.0, 1.7, 2.6]),
    below=st.booleans(),
    whole=st.sampled_from([0, 2, 5]),
    housing=st.booleans(),
    gap=st.floats(-1.5, 0.5),
)
def test_answers_are_those_of_the_true_optimum(
    seed: int, number: int, budget: float, below: bool, whole: int, housing: bool, gap: float
) -> None:
    scorer, row = linear(seed), rows_of(1, number)[0]
    moves = {0: Move(0.8, 0.4), 4: Move(0.3, 0.6, 0.0, 1.5)}
    if whole:
        moves[1] = Move(whole, whole)
    if housing:
        moves[2] = Move(1.0, 1.0, 0.0, 0.7)
    allowed = Moves(contract(), moves, budget)
    sign = 1.0 if below else -1.0
    best = optimum(scorer, allowed, row, sign)
    cut = sign * (best - gap * 0.4)  # gap < 0: out of reach only if the optimum says so
    goal = Goal(float(probability(cut, "logit")), below=below)
    if goal.turned(probability(scorer.score(row[None, :]), "logit"))[0] or abs(gap) < 1e-6:
        return
    found = Certifier(scorer, allowed, goal).certify(row)
    reached = sign * cut > best
    assert found.status in (("attackable", "open") if reached else ("certified", "open"))
    if found.status == "open":
        assert budget < math.inf and (whole or housing) and "budget" in found.why
    if found.example is not None:
        after = np.array(found.example)
        assert allowed.allowed(row, after)
        assert goal.turned(probability(scorer.score(after[None, :]), "logit"))[0]


@pytest.mark.parametrize("below", [True, False])
def test_without_a_budget_no_row_stays_open_and_both_answers_occur(below: bool) -> None:
    scorer, rows = linear(1), rows_of(200, 6, 0.05)
    moves = Moves(contract(), {0: Move(0.3, 0.3), 1: Move(2, 2), 4: Move(0.2, 0.2)})
    scores = probability(scorer.score(rows), "logit")
    goal = Goal(float(np.median(scores)), below=below)
    seen = [Certifier(scorer, moves, goal).certify(row).status for row in rows[goal.applies(scores)]]
    assert set(seen) == {"certified", "attackable"}
