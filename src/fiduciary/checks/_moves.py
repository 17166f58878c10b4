"""What a person may change about a row, how far, and what it costs: the box and the budget of an attack.

Only features that the contract calls mutable move. A number moves within [x - down, x + up] and the contract's
range, an integer in whole steps; a category or boolean changes to any other value. A missing value stays missing,
and none is withheld. A change costs its distance in units of the allowed distance (a change of category: 1), unless
other costs are given; all changes of a row together cost at most the budget.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from fiduciary.checks._sample import F64
from fiduciary.errors import UsageError
from fiduciary.models import Contract, Feature
from fiduciary.models._contract import LARGEST_INTEGER

ROOM = 1.0 + 1e-12
"""A total cost counts as within the budget up to this factor: costs are sums of rounded quotients."""


class Move(msgspec.Struct, frozen=True):
    """How one feature may move; unbounded distances are infinite."""

    down: float = 0.0
    up: float = 0.0
    relative: float = 0.0
    """Further allowed distance either way, as a share of |x|."""
    cost: float | None = None
    """Per unit of distance (a category or boolean: per change); None: 1 for the whole allowed distance."""

    def range(self, feature: Feature, x: float) -> tuple[float, float]:
        """Lowest and highest value that a number may take from x, contract included; x itself always may."""
        share = self.relative * abs(x) if self.relative else 0.0
        least, most = limits(feature)
        low, high = max(x - (self.down + share), least), min(x + (self.up + share), most)
        if feature.type == "integer":
            low, high = np.ceil(low), np.floor(high)
        return min(low, x), max(high, x)

    def costs(self, feature: Feature, x: float, values: F64) -> F64:
        """What it costs to change x to each of the values."""
        if feature.type in ("category", "boolean"):
            return np.where(values == x, 0.0, 1.0 if self.cost is None else self.cost)
        distance = np.abs(values - x)
        if self.cost is not None:
            return distance * self.cost
        share = self.relative * abs(x)
        allowed = np.where(values < x, self.down, self.up) + share
        found: F64 = np.divide(distance, allowed, out=np.zeros_like(distance), where=distance > 0)
        return found


def limits(feature: Feature) -> tuple[float, float]:
    """Lowest and highest number that the contract accepts for a feature."""
    widest = float(LARGEST_INTEGER) if feature.type == "integer" else sys.float_info.max
    least = -widest if feature.minimum is None else float(feature.minimum)
    most = widest if feature.maximum is None else float(feature.maximum)
    return least, most


class Moves(msgspec.Struct, frozen=True):
    """All moves of a contract, by feature number, and what they may cost together."""

    contract: Contract
    moves: dict[int, Move]
    budget: float = math.inf

    def cost(self, before: F64, after: F64) -> float:
        """Total cost of a changed row, added in contract order; infinite when it leaves the box."""
        total = 0.0
        features = self.contract.features
        for i in np.flatnonzero((before != after) & ~(np.isnan(before) & np.isnan(after))).tolist():
            move, x, y = self.moves.get(i), float(before[i]), float(after[i])
            if move is None or x != x or y != y:
                return math.inf
            if features[i].type in ("number", "integer"):
                low, high = move.range(features[i], x)
                if not low <= y <= high:
                    return math.inf
            total += float(move.costs(features[i], x, np.array([y]))[0])
        return total

    def allowed(self, before: F64, after: F64) -> bool:
        """Whether the change stays in the box and within the budget."""
        return self.cost(before, after) <= self.budget * ROOM


def moves_of(
    contract: Contract,
    *,
    population: F64 | None = None,
    step: float = 0.1,
    box: Mapping[str, Any] | None = None,
    costs: Mapping[str, Any] | None = None,
    budget: float | None = None,
) -> Moves:
    """The moves of a contract's mutable features.

    A number may move by `step` standard deviations of `population` (n, features; missing values left out), unless
    `box` says otherwise: feature -> a distance, or a table of `absolute`, `relative` (a share of the value), `down`,
    `up`; 0 keeps it where it is. `costs`: feature -> cost of a unit of distance, or of a change of category.
    Raises `UsageError` for an unknown or immutable feature and for what is not a number of at least 0.
    """
    box, costs = dict(box or {}), dict(costs or {})
    mutable = {feature.name: i for i, feature in enumerate(contract.features) if feature.mutable}
    for what, given in (("box", box), ("costs", costs)):
        for name in given:
            if name not in mutable:
                why = "is not mutable in the contract" if name in contract.names else "is not in the contract"
                raise UsageError(f"{what} names {name!r}, which {why}")
    moves: dict[int, Move] = {}
    for name, i in mutable.items():
        feature = contract.features[i]
        cost = None if name not in costs else _number("costs", name, costs[name])
        if name in box:
            move = _move(feature, box[name], cost)
        elif feature.type in ("category", "boolean"):
            move = Move(1.0, 1.0, 0.0, cost)
        else:
            distance = step * _spread(population, i)
            move = Move(distance, distance, 0.0, cost)
        if move.down or move.up or move.relative:
            moves[i] = move
    return Moves(contract, moves, math.inf if budget is None else budget)


def _move(feature: Feature, given: Any, cost: float | None) -> Move:
    name = feature.name
    if isinstance(given, Mapping):
        known = ("absolute", "relative", "down", "up")
        for key in given:
            if key not in known:
                raise UsageError(f"box of {name!r} knows {', '.join(known)}, not {str(key)[:40]!r}")
        values = {key: _number("box", name, value) for key, value in given.items()}
        distance = values.get("absolute", 0.0)
        return Move(
            values.get("down", distance), values.get("up", distance), values.get("relative", 0.0), cost
        )
    distance = _number("box", name, given)
    return Move(distance, distance, 0.0, cost)


def _number(what: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise UsageError(f"{what} of {name!r} must be a finite number of at least 0")
    return float(value)


def _spread(population: F64 | None, i: int) -> float:
    if population is None:
        raise UsageError(
            "steps in standard deviations need a population; give one, or a box for every feature"
        )
    column = population[:, i]
    column = column[~np.isnan(column)]
    return float(np.std(column)) if len(column) else 0.0
