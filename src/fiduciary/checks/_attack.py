"""A greedy attack within the contract: coordinate by coordinate, whatever helps most and may be paid for.

It needs nothing but answers of the model, so it works on every family, and it trains hardened models. What it finds
is real (valid, allowed, scored by the serving scorer); what it does not find proves nothing: for that there are
certificates (`_certificates.py`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._goal import Goal
from fiduciary.checks._moves import ROOM, Move, Moves, limits
from fiduciary.checks._sample import F64
from fiduciary.errors import ContractError
from fiduciary.models import CompiledContract, Contract, Feature, Scorer, probability

FRACTIONS = (1.0, 0.5, 0.25, 0.75, 0.1)
"""Shares of the allowed distance that are tried, down and up."""
MAX_CATEGORIES = 50
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}


class Attacked(msgspec.Struct, frozen=True, eq=False):
    """What an attack on n rows came to."""

    rows: F64
    """(n, features): the best rows found; each is valid and allowed."""
    turned: NDArray[np.bool_]
    """(n,) whose outcome turned."""
    queries: int
    """How many rows the model was asked for."""


def attack(scorer: Scorer, rows: F64, moves: Moves, goal: Goal, *, sweeps: int = 2) -> Attacked:
    """Move rows (n, features) towards the goal within the moves; stops at a row once its outcome turns."""
    before = np.ascontiguousarray(rows, np.float64)
    now = before.copy()
    n = len(now)
    sign = 1.0 if goal.below else -1.0
    margins = scorer.score(now)
    queries = n
    paid = np.zeros((n, len(moves.moves)))
    turned = goal.turned(probability(margins, scorer.link))
    for _ in range(sweeps):
        gained = False
        for k, (i, move) in enumerate(moves.moves.items()):
            for values in _tries(moves.contract.features[i], move, before[:, i]):
                changed = now.copy()
                changed[:, i] = values
                cost = _costs(moves.contract.features[i], move, before[:, i], values)
                total = paid.copy()
                total[:, k] = cost
                may = ~turned & ~np.isnan(values) & (values != now[:, i])
                may &= total.sum(axis=1) <= moves.budget * ROOM
                may &= satisfied(moves.contract, changed)
                at = np.flatnonzero(may)
                if not len(at):
                    continue
                found = scorer.score(changed[at])
                queries += len(at)
                better = at[sign * found < sign * margins[at]]
                now[better, i] = values[better]
                paid[better, k] = cost[better]
                margins[at] = np.where(sign * found < sign * margins[at], found, margins[at])
                turned = goal.turned(probability(margins, scorer.link))
                gained |= len(better) > 0
        if not gained:
            break
    compiled = moves.contract.compile()
    for j in np.flatnonzero(turned):  # the last word: allowed to the bit, and accepted by the contract
        turned[j] = moves.allowed(before[j], now[j]) and accepts(compiled, now[j])
    return Attacked(now, turned, queries)


def satisfied(contract: Contract, rows: F64) -> NDArray[np.bool_]:
    """Which rows (n, features) keep the contract's relations."""
    index = {name: i for i, name in enumerate(contract.names)}
    fine = np.ones(len(rows), bool)
    for relation in contract.relations:
        left = rows[:, index[relation.left]]
        right = (
            rows[:, index[relation.right]]
            if isinstance(relation.right, str)
            else np.full(len(rows), float(relation.right))
        )
        fine &= np.isnan(left) | np.isnan(right) | _OPERATORS[relation.op](left, right)
    return fine


def accepts(compiled: CompiledContract, row: F64) -> bool:
    """Whether a compiled contract accepts a row of model inputs and reads the same from it."""
    try:
        again = compiled.encode(compiled.decode_row(row.tolist()))
    except (
        ContractError,
        IndexError,
        ValueError,
        OverflowError,
    ):  # a code or number that stands for no value
        return False
    return bool(np.array_equal(again, row, equal_nan=True))


def _tries(feature: Feature, move: Move, x: F64) -> list[F64]:
    """Values to try for a column, one array (n,) a try; NaN where it may not move."""
    if feature.type in ("category", "boolean"):
        size = 2 if feature.type == "boolean" else min(len(feature.categories), MAX_CATEGORIES)
        return [np.where(np.isnan(x), np.nan, float(code)) for code in range(size)]
    share = move.relative * np.abs(x)
    least, most = limits(feature)
    low, high = np.maximum(x - (move.down + share), least), np.minimum(x + (move.up + share), most)
    tries: list[F64] = []
    for fraction in FRACTIONS:
        for end in (low, high):
            value = end if fraction == 1.0 else x + fraction * (end - x)
            if feature.type == "integer":
                value = np.where(end < x, np.ceil(value), np.floor(value))
            tries.append(np.where((value >= low) & (value <= high), value, np.nan))
    return tries


def _costs(feature: Feature, move: Move, x: F64, values: F64) -> F64:
    if feature.type in ("category", "boolean"):
        return np.where(values == x, 0.0, 1.0 if move.cost is None else move.cost)
    distance = np.abs(values - x)
    if move.cost is not None:
        return distance * move.cost
    allowed = np.where(values < x, move.down, move.up) + move.relative * np.abs(x)
    found: F64 = np.divide(distance, allowed, out=np.zeros_like(distance), where=distance > 0)
    return found
