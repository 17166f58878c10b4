"""Certificates of linear models: the reachable margin that is nearest to the goal lies at a corner of the box.

Each term moves in one direction with its feature, and adding rounded terms keeps their order, so without a budget the
corner is exact to the bit. With a budget the best fractional choice (gain per cost, best first) bounds what whole
steps and categories can do: where even that turns nothing a row is certified, what the greedy choice reaches is a
counterexample, and between the two a row stays open.
"""

from __future__ import annotations

import math

import numpy as np

from fiduciary.checks._moves import ROOM, Moves
from fiduciary.checks._sample import F64
from fiduciary.models._linear import Linear

UNIT = 2.0**-52


class Corner:
    """One row's best corner under a goal: `sign` 1 wants the margin down, -1 up."""

    def __init__(self, scorer: Linear, moves: Moves, row: F64, sign: float) -> None:
        self.scorer, self.moves, self.row, self.sign = scorer, moves, row, sign
        self.margin, terms = scorer.explain(row[None, :])
        self.size = abs(scorer.bias) + float(np.abs(terms).sum())
        self.best: list[tuple[int, float, float, float]] = []
        """Feature, value at the corner, gain (>= 0) and cost."""
        for i, move in moves.moves.items():
            feature, x = moves.contract.features[i], float(row[i])
            if not math.isfinite(x):
                continue
            if feature.type == "category":
                values = np.arange(float(len(feature.categories)))
            elif feature.type == "boolean":
                values = np.array([0.0, 1.0])
            else:
                values = np.array(move.range(feature, x))
            rows = np.repeat(row[None, :], len(values), axis=0)
            rows[:, i] = values
            found = scorer.explain(rows)[1][:, i]
            at = int(np.argmin(sign * found))
            gain = sign * (float(terms[0, i]) - float(found[at]))
            self.size += float(np.abs(found).max())
            if gain > 0.0:
                cost = float(move.costs(feature, x, values[at : at + 1])[0])
                self.best.append((i, float(values[at]), gain, cost))
        self.best.sort(key=lambda b: b[2] / b[3] if b[3] > 0 else math.inf, reverse=True)

    def reach(self) -> F64:
        """The row that the greedy choice reaches: the corner itself when the budget pays for it."""
        after = self.row.copy()
        room = self.moves.budget
        for i, value, _, cost in self.best:
            feature, x = self.moves.contract.features[i], float(self.row[i])
            if cost <= room:
                after[i] = value
                room = max(room - cost, 0.0)
            elif feature.type in ("number", "integer"):
                part = x + room / cost * (value - x)
                after[i] = part if feature.type == "number" else math.trunc(part - x) + x
                room = max(room - float(self.moves.moves[i].costs(feature, x, after[i : i + 1])[0]), 0.0)
        return after

    def bound(self) -> float:
        """A margin, times sign, that no allowed change passes; rounding is on the safe side."""
        room, gain = self.moves.budget * ROOM, 0.0
        for _, _, mine, cost in self.best:
            if cost <= room:
                gain, room = gain + mine, room - cost
            else:
                gain += mine * room / cost
                break
        slack = 8.0 * (len(self.row) + 8) * UNIT * self.size
        return self.sign * float(self.margin[0]) - gain - slack
