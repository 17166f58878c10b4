"""What an attack wants: another outcome. Cut-offs on scores, turned into cut-offs on margins for a search."""

from __future__ import annotations

import math
import struct
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._sample import F64
from fiduciary.errors import UsageError
from fiduciary.models import Scorer, probability

NEIGHBOURS = 16
"""Margins beside the cut-off that are left to the serving engine: the logistic function may step in its last bits."""


class Goal(msgspec.Struct, frozen=True):
    """An outcome is turned when the score gets to the other side of one cut-off.

    `below`: rows at or above the cut-off want below it; otherwise rows below it want at or above it. `strict` False
    moves the cut-off itself to the lower side (score <= cut-off counts as below).
    """

    cut: float
    below: bool = True
    strict: bool = True

    def turned(self, scores: F64) -> NDArray[np.bool_]:
        """Which scores are on the wanted side; a score that is not a number is on neither."""
        low = scores < self.cut if self.strict else scores <= self.cut
        return low if self.below else ~low & ~np.isnan(scores)

    def applies(self, scores: F64) -> NDArray[np.bool_]:
        """Which scores are on the side that an attack starts from."""
        return ~self.turned(scores) & ~np.isnan(scores)

    def margin(self, scorer: Scorer) -> float:
        """A margin m such that whatever is wanted lies at margins < m (`below`) or > m, to the safe side."""
        cut = self.cut
        if scorer.link == "logit":
            cut = _logit_cut(self)
        for _ in range(NEIGHBOURS):
            cut = math.nextafter(cut, math.inf if self.below else -math.inf)
        return cut


def goal_of(use_case: dict[str, Any] | None, *, below: float | None = None) -> Goal:
    """The goal "be approved" of a use case document, or of a plain cut-off (approved below it).

    Raises `UsageError` without either.
    """
    if below is not None:
        return Goal(below)
    if use_case is None:
        raise UsageError("give the cut-off below which a score is approved")
    cut = float(use_case["approve_below"])
    if use_case.get("adverse", "high") == "high":
        return Goal(cut)
    return Goal(cut, below=False, strict=False)


def reverse(goal: Goal) -> Goal:
    """The same cut-off, wanted the other way round."""
    return Goal(goal.cut, not goal.below, goal.strict)


def _logit_cut(goal: Goal) -> float:
    """The smallest margin whose probability is not on the low side, by halving the float64 numbers."""
    low, high = _order(-750.0), _order(750.0)
    while high - low > 1:
        middle = (low + high) // 2
        p = probability(_float(middle), "logit")
        if p < goal.cut or (not goal.strict and p == goal.cut):
            low = middle
        else:
            high = middle
    return _float(high)


def _order(x: float) -> int:
    bits: int = struct.unpack("<q", struct.pack("<d", x))[0]
    return bits if bits >= 0 else -(bits & 0x7FFF_FFFF_FFFF_FFFF)


def _float(order: int) -> float:
    bits = order if order >= 0 else (-order) | (1 << 63)
    value: float = struct.unpack("<d", struct.pack("<Q", bits))[0]
    return value
