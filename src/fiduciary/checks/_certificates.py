"""Certificates: a proof, row by row, that no allowed change turns the outcome, or a change that does.

Tree ensembles (LightGBM, XGBoost, ONNX) are searched exactly (`_reach.c`), on float64 and on the thresholds that the
serving kernel reads; scorecards have a closed form, with a budget a Pareto front of margin and cost; linear models
have corners (`_corners.py`). There are three answers. *certified*: proved for every reachable row. *attackable*: with
the changed row, which the serving scorer scores, the contract accepts, the budget pays for, and whose outcome turns.
*open*: neither, and never certified.

Why finitely many values are enough: between two thresholds a model does not change, so each reachable cell is stood
for by its value nearest to the row's own (the cheapest); `cells` lists them.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._attack import accepts
from fiduciary.checks._corners import Corner
from fiduciary.checks._goal import Goal
from fiduciary.checks._moves import ROOM, Moves
from fiduciary.checks._sample import F64
from fiduciary.errors import UsageError
from fiduciary.models import Feature, Scorecard, Scorer, probability
from fiduciary.models._linear import Linear
from fiduciary.models._trees import NARROW, Ranked, TreeScorer

Status = Literal["certified", "attackable", "open"]
STEPS = 20_000
"""Domains that the search may look at for one row before it answers `open`."""
MAX_STEPS = 100_000_000
MAX_FRONT = 200_000
"""Points of a scorecard's front of margin and cost before it answers `open`."""
MAX_WHOLE = 4_096
"""Up to so many whole numbers are simply listed."""
NEAR_ZERO = float(np.float32(1e-35))
_STATUS: tuple[Status, ...] = ("certified", "attackable", "open")
_WHY = {
    "steps": "the search ran out of steps",
    "much": "more than 64 features or unordered values may move",
    "refused": "what turns the outcome is not accepted by the contract (a relation), and nothing else was proved",
    "front": "too many combinations of cost and margin",
    "budget": "whole steps or categories under a budget: between what is reached and what is bounded",
}


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one row."""

    status: Status
    example: list[float] | None = None
    """attackable: the changed row, float64 in contract order, confirmed on the serving scorer."""
    cost: float = 0.0
    """attackable: what the change costs."""
    steps: int = 0
    """Domains looked at."""
    why: str = ""
    """open: what stood in the way."""


def certifiable(scorer: Scorer) -> bool:
    """Whether there are certificates for this kind of model."""
    return isinstance(scorer, TreeScorer | Scorecard | Linear)


class Certifier:
    """Certificates of one model under one goal and one set of moves. Safe to share between threads.

    Raises `UsageError` for a model that is neither trees, a scorecard nor linear.
    """

    def __init__(self, scorer: Scorer, moves: Moves, goal: Goal, *, steps: int = STEPS) -> None:
        if not 1 <= steps <= MAX_STEPS:
            raise UsageError(f"steps must be 1 to {MAX_STEPS}")
        self.scorer, self.moves, self.goal, self.steps = scorer, moves, goal, steps
        contract = moves.contract
        if scorer.features != len(contract.features):
            raise UsageError("the model and the contract have different features")
        self._rows = contract.compile()
        self._cut = goal.margin(scorer)
        self._known: dict[int, F64] = {}
        self._features = {i: contract.features[i] for i in moves.moves}
        self._search: Any = None
        self._moving: list[int] = []
        self._cuts: dict[int, tuple[F64, F64]] = {}
        if isinstance(scorer, TreeScorer):
            self._search = searcher(scorer.ranked)
            read = set(scorer.ranked.columns[:, 0].tolist())
            self._moving = [i for i in sorted(moves.moves) if i in read]
            self._cuts = {i: _beside(scorer.ranked, i) for i in self._moving}
        elif isinstance(scorer, Scorecard):
            self._moving = sorted(moves.moves)
            self._cuts = {}
            for i in self._moving:
                edges = np.array(scorer.card.features[i].edges)
                self._cuts[i] = np.nextafter(edges, -np.inf), edges
        elif not isinstance(scorer, Linear):
            raise UsageError(
                f"there are certificates for trees, scorecards and linear models; this is a {scorer.family} model"
            )

    def certify(self, row: F64) -> Certificate:
        """The certificate of one row (features,), which must be on the side that the goal starts from."""
        row = np.ascontiguousarray(row, np.float64)
        if isinstance(self.scorer, Linear):
            return self._corner(row)
        cells = {i: self.cells(i, float(row[i])) for i in self._moving if math.isfinite(row[i])}
        cells = {i: values for i, values in cells.items() if len(values) > 1}
        if self._search is not None:
            return self._search_trees(row, cells)
        return self._search_card(row, cells)

    def certify_all(self, rows: F64) -> list[Certificate]:
        """Certificates of rows (n, features)."""
        return [self.certify(row) for row in rows]

    def cells(self, i: int, x: float) -> F64:
        """The cheapest value of each cell that feature i can reach from x, in order; x is one of them."""
        feature, move = self._features[i], self.moves.moves[i]
        if feature.type in ("category", "boolean"):
            return self._classes(i, feature, x)
        low, high = move.range(feature, x)
        if low == high:
            return np.array([x])
        whole = feature.type == "integer"
        if whole and high - low < MAX_WHOLE:
            return np.arange(low, high + 1.0)
        below, above = self._cuts[i]
        down = below[np.searchsorted(below, low, "left") : np.searchsorted(below, x, "left")]
        up = above[np.searchsorted(above, x, "right") : np.searchsorted(above, high, "right")]
        parts: list[Any] = [[low], down, [x], up, [high]]
        if low <= 1e-34 and high >= -1e-34:  # LightGBM reads these as zero, or as missing
            near = [-np.nextafter(NEAR_ZERO, 1), -NEAR_ZERO, 0.0, NEAR_ZERO, np.nextafter(NEAR_ZERO, 1)]
            parts.append([v for v in near if low <= v <= high])
        values = np.concatenate(parts)
        if whole:
            values = np.concatenate([np.floor(values[values < x]), [x], np.ceil(values[values > x])])
            values = values[(values >= low) & (values <= high)]
        found: F64 = np.unique(values)
        return found

    def confirmed(self, before: F64, after: F64) -> bool:
        """On the serving scorer: is the changed row valid, allowed, and is its outcome turned?"""
        if not accepts(self._rows, after):
            return False
        score = probability(self.scorer.score(after[None, :]), self.scorer.link)
        return bool(self.goal.turned(score)[0]) and self.moves.allowed(before, after)

    def _search_trees(self, row: F64, cells: dict[int, F64]) -> Certificate:
        moves = self.moves
        features = list(cells)
        at = np.zeros(len(features) + 1, np.int32)
        at[1:] = np.cumsum([len(values) for values in cells.values()])
        if features:
            values = np.concatenate(list(cells.values()))
            costs = np.concatenate(
                [moves.moves[i].costs(self._features[i], float(row[i]), v) for i, v in cells.items()]
            )
        else:
            values = costs = np.zeros(0)
        starts = at.tolist()
        after = row.copy()

        def accept(picks: list[int]) -> bool:
            for k, i in enumerate(features):
                after[i] = values[starts[k] + picks[k]]
            return self.confirmed(row, after)

        status, steps, _, _, why = self._search.find(
            row,
            np.array(features, np.int32),
            at,
            values,
            costs,
            moves.budget,
            self._cut,
            1.0 if self.goal.below else -1.0,
            self.steps,
            accept,
        )
        if status == 1:
            return Certificate(
                status="attackable", example=after.tolist(), cost=moves.cost(row, after), steps=steps
            )
        return Certificate(status=_STATUS[status], steps=steps, why=_WHY.get(why, ""))

    def _search_card(self, row: F64, cells: dict[int, F64]) -> Certificate:
        """Feature by feature in contract order, keep what no other choice beats in both margin and cost.

        Adding a weight and rounding keeps the order of sums, so the least margin is found to the bit; without a
        budget one sum per feature is left: the closed form.
        """
        moves, card = self.moves, self.scorer
        assert isinstance(card, Scorecard)
        sign = 1.0 if self.goal.below else -1.0
        limit = moves.budget * ROOM
        margins, costs = np.array([card.bias]), np.zeros(1)
        steps = 1
        trail: list[tuple[int, NDArray[np.intp], F64]] = []
        for i, bins in enumerate(card.card.features):
            values = cells.get(i, row[i : i + 1])
            weights = _weights(bins, values)
            price = (
                moves.moves[i].costs(self._features[i], float(row[i]), values) if i in cells else np.zeros(1)
            )
            if len(values) == 1:
                margins = margins + weights
                continue
            grown = (margins[:, None] + weights[None, :]).ravel()
            paid = (costs[:, None] + price[None, :]).ravel()
            steps += len(grown)
            kept = _front(sign * grown, paid, limit)
            if len(kept) > MAX_FRONT:
                return Certificate(status="open", steps=steps, why=_WHY["front"])
            trail.append((i, kept // len(values), values[kept % len(values)]))
            margins, costs = grown[kept], paid[kept]
        order = np.argsort(sign * margins, kind="stable")
        turned = self.goal.turned(probability(margins, card.link))
        found = order[turned[order]]
        for k in found[:1_000].tolist():
            after, at = row.copy(), k
            for i, parents, values in reversed(trail):
                after[i] = values[at]
                at = int(parents[at])
            if self.confirmed(row, after):
                return Certificate(
                    status="attackable", example=after.tolist(), cost=moves.cost(row, after), steps=steps
                )
        if len(found):
            return Certificate(status="open", steps=steps, why=_WHY["refused"])
        return Certificate(status="certified", steps=steps)

    def _corner(self, row: F64) -> Certificate:
        assert isinstance(self.scorer, Linear)
        corner = Corner(self.scorer, self.moves, row, 1.0 if self.goal.below else -1.0)
        after = corner.reach()
        if self.confirmed(row, after):
            return Certificate(
                status="attackable", example=after.tolist(), cost=self.moves.cost(row, after), steps=1
            )
        turned = bool(self.goal.turned(probability(self.scorer.score(after[None, :]), self.scorer.link))[0])
        if turned:
            return Certificate(status="open", steps=1, why=_WHY["refused"])
        if (
            all(after[i] == value for i, value, *_ in corner.best)
            or corner.bound() >= corner.sign * self._cut
        ):
            return Certificate(status="certified", steps=1)
        return Certificate(status="open", steps=1, why=_WHY["budget"])

    def _classes(self, i: int, feature: Feature, x: float) -> F64:
        """One category for each way in which the model reads categories; x stands for its own."""
        known = self._known.get(i)
        if known is None:
            known = np.arange(2.0 if feature.type == "boolean" else float(len(feature.categories)))
            if self._search is not None:
                ranks = np.stack([np.frombuffer(r, np.int16) for r in self._search.ranks(i, known)], axis=1)
                _, first, group = np.unique(ranks, axis=0, return_index=True, return_inverse=True)
                known = known[first][group.ravel()]  # category -> the first of its class
            self._known[i] = known
        if not (0 <= x < len(known) and x == int(x)):
            return np.array([x])
        own = known[int(x)]
        return np.array([x, *np.unique(known[known != own])])


def searcher(ranked: Ranked) -> Any:
    """The compiled search over a model's trees."""
    module: Any = importlib.import_module("fiduciary.checks._reach")
    r = ranked
    arrays = (
        r.starts, r.feature, r.column, r.rank, r.left, r.right, r.value, r.columns, r.words, r.cuts, r.cuts_at,
    )  # fmt: skip
    return module.Search(features=r.features, base=r.base, strict=r.strict, reading=r.reading, arrays=arrays)


def counts(certificates: Iterable[Certificate]) -> dict[str, int]:
    """How many are certified, attackable and open."""
    found: dict[str, int] = dict.fromkeys(_STATUS, 0)
    for certificate in certificates:
        found[certificate.status] += 1
    return found


def _beside(ranked: Ranked, i: int) -> tuple[F64, F64]:
    """For each threshold of feature i the largest value on its left side and the smallest on its right."""
    cuts = ranked.thresholds(i)
    if ranked.reading == NARROW:  # values are rounded to float32: the sides meet half-way between two of them
        narrow = cuts.astype(np.float32)
        left = narrow if not ranked.strict else np.nextafter(narrow, np.float32(-np.inf))
        right = narrow if ranked.strict else np.nextafter(narrow, np.float32(np.inf))
        middle = (left.astype(np.float64) + right.astype(np.float64)) / 2.0
        falls_right = middle.astype(np.float32) == right
        return (
            np.where(falls_right, np.nextafter(middle, -np.inf), middle),
            np.where(falls_right, middle, np.nextafter(middle, np.inf)),
        )
    if ranked.strict:
        return np.nextafter(cuts, -np.inf), cuts
    return cuts, np.nextafter(cuts, np.inf)


def _weights(bins: Any, values: F64) -> F64:
    edges = bins.edges if bins.kind == "number" else [float(k) for k in range(1, len(bins.weights))]
    weights = np.array([*bins.weights, math.nan if bins.missing is None else bins.missing])
    found: F64 = weights[np.searchsorted(np.array([*edges, math.inf]), values, side="right")]
    return found


def _front(margins: F64, costs: F64, limit: float) -> NDArray[np.intp]:
    """Indexes of the points with cost <= limit that no other beats in both; without a limit the least margin."""
    if limit == math.inf:
        best = np.flatnonzero(margins == margins.min())
        return best[[int(np.argmin(costs[best]))]]
    allowed = np.flatnonzero(costs <= limit)
    order = allowed[np.lexsort((costs[allowed], margins[allowed]))]
    cheapest = np.minimum.accumulate(costs[order])
    first = np.ones(len(order), bool)
    first[1:] = costs[order][1:] < cheapest[:-1]
    return order[first]
