"""What would have changed the result: the least costly change of what the person can change (C-203/22, 27 Feb 2025).

Only features that the contract calls mutable move, never a protected one; values stay in the contract's ranges,
categories and whole numbers, and all its relations hold. A change costs one, plus the distance as a share of the
feature's range (a category or boolean: a whole range), so few changes come before small ones.

Scorecards are exact: the margin only depends on bins, so branch and bound over the candidate values of each bin
(the nearest to the present value, and the nearest to every relation's other side) finds the optimum, or proves that
there is none, within a limit of steps. Other models are searched: candidate values from the model's own thresholds,
all single changes, all pairs of the cheapest, then a greedy widening. What is suggested was scored by the serving
scorer and decided by the use case's cut-offs; what is not found by search is called not found, not impossible.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.decision import Decider, outcomes
from fiduciary.errors import ContractError
from fiduciary.models import Feature, Scorecard, probability

F64 = NDArray[np.float64]

MAX_STEPS = 200_000
MAX_CANDIDATES = 64
MAX_PAIRED = 400
MAX_CHANGES = 6
CHANGE_COST = 1.0
UNREADABLE_COST = 0.001
"""What a value of more than six digits costs beside, so that 0.2999 is told and not 0.29999999999999993."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One feature, from what it was to what would have been enough."""

    feature: str
    description: str
    unit: str
    before: Any
    after: Any


class Counterfactual(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: `found` with changes, `none` (proved that there is none), or `not_found` (searched, not proved)."""

    answer: Literal["found", "none", "not_found"]
    target: str
    changes: list[Change] = []
    score: float | None = None
    """Of the changed row, by the serving scorer."""
    cost: float | None = None
    exact: bool = False
    """No cheaper change exists (scorecards, unless the limit of steps was met)."""
    note: str = ""


class _Option(msgspec.Struct, frozen=True):
    value: float
    cost: float
    gain: float


TARGET = "approve"


def counterfactual(decider: Decider, features: bytes) -> Counterfactual:
    """The least change of a recorded row (JSON object) that is approved under the decider's cut-offs.

    Raises `ContractError` for a row that the release would not take.
    """
    target = TARGET
    release = decider.release
    row = release.compiled.decode(features)
    movable = [
        i for i, feature in enumerate(release.contract.features) if feature.mutable and not feature.protected
    ]
    if not movable:
        return Counterfactual(
            answer="none",
            target=target,
            exact=True,
            note="the contract of this model names nothing that the person can change",
        )
    search = _Search(decider, row, movable, target)
    if search.reaches([row])[0]:
        return Counterfactual(
            answer="found", target=target, cost=0.0, exact=True, note="it was approved as it is"
        )
    if isinstance(release.scorer, Scorecard):
        return search.exact()
    return search.heuristic()


class _Search:
    def __init__(self, decider: Decider, row: list[float], movable: list[int], target: str) -> None:
        self.decider = decider
        self.release = decider.release
        self.row = row
        self.movable = movable
        self.target = target
        self.features = self.release.contract.features
        self.steps = 0

    # What a row gives, by the engine that serves.

    def reaches(self, rows: Sequence[Sequence[float]]) -> list[bool]:
        """Per row: does it give the target, and does the contract take it?"""
        if not rows:
            return []
        matrix = np.array(rows, dtype=np.float64)
        scores = probability(self.release.scorer.score(matrix), self.release.scorer.link).tolist()
        found = outcomes(self.decider.use_case, scores)
        return [o == self.target and self.lawful(r) for o, r in zip(found, rows, strict=True)]

    def lawful(self, row: Sequence[float]) -> bool:
        try:
            named = self.release.compiled.decode_row(list(row))
            self.release.compiled.encode({k: v for k, v in named.items() if v is not None})
        except ContractError:
            return False
        return True

    # Candidates.

    def candidates(self, i: int, thresholds: Sequence[float]) -> list[float]:
        """Values that a feature may take: the nearest on each side of every threshold; every category."""
        feature, now = self.features[i], self.row[i]
        if feature.type == "category":
            values = [float(k) for k in range(len(feature.categories))]
        elif feature.type == "boolean":
            values = [0.0, 1.0]
        else:
            low, high = _bounds(feature)
            values = [v for t in thresholds for v in _beside(feature, t)]
            values += [v for v in (low, high) if math.isfinite(v)]
            values = [v for v in values if low <= v <= high]
        wrong_way = feature.monotone * (1 if self.decider.use_case.adverse == "high" else -1)
        return sorted({v for v in values if v != now and not (v - now) * wrong_way > 0})

    def _related(self, i: int) -> list[float]:
        """Values at which relations bind: present values, constants and edges of all that is tied to the feature."""
        names = self.release.contract.names
        relations = self.release.contract.relations
        tied, grown = {names[i]}, True
        while grown:
            grown = False
            for r in relations:
                sides = {r.left, r.right} if isinstance(r.right, str) else {r.left}
                if sides & tied and not sides <= tied:
                    tied |= sides
                    grown = True
        if len(tied) == 1 and not self._in_relation(i):
            return []
        found = [float(r.right) for r in relations if r.left in tied and not isinstance(r.right, str)]
        for name in sorted(tied - {names[i]}):
            j = names.index(name)
            found += [] if math.isnan(self.row[j]) else [self.row[j]]
            card = self.release.scorer
            found += card.card.features[j].edges if isinstance(card, Scorecard) else _thresholds(card, j)
        return found

    def cost(self, i: int, value: float) -> float:
        feature, now = self.features[i], self.row[i]
        if feature.type in ("category", "boolean") or math.isnan(now):
            return CHANGE_COST + 1.0
        low, high = _bounds(feature)
        width = high - low if math.isfinite(high - low) and high > low else max(abs(now), 1.0)
        return CHANGE_COST + abs(value - now) / width + (0.0 if _readable(value) else UNREADABLE_COST)

    # Scorecards: exact.

    def exact(self) -> Counterfactual:
        card = self.release.scorer
        assert isinstance(card, Scorecard)
        margin, weights = card.explain(np.array([self.row]))
        sign = -1.0 if self.decider.use_case.adverse == "high" else 1.0
        options: list[tuple[int, list[_Option]]] = []
        for i in self.movable:
            bins = card.card.features[i]
            values = self.candidates(i, [*bins.edges, *self._related(i)])
            if not values:
                continue
            rows = np.tile(np.array(self.row), (len(values), 1))
            rows[:, i] = values
            gains = (card.explain(rows)[1][:, i] - weights[0, i]) * sign
            own = [
                _Option(v, self.cost(i, v), float(g))
                for v, g in zip(values, gains.tolist(), strict=True)
                if g > 0 or self._in_relation(i)
            ]
            if own:
                options.append((i, _undominated(own) if not self._in_relation(i) else sorted_by_cost(own)))
        options.sort(key=lambda o: -max(x.gain for x in o[1]))
        best: list[Any] = [math.inf, None]
        rest = [0.0] * (len(options) + 1)
        for k in range(len(options) - 1, -1, -1):
            rest[k] = rest[k + 1] + max(0.0, max(x.gain for x in options[k][1]))
        need = self._need(float(margin[0]), sign)

        def walk(k: int, row: list[float], cost: float, gain: float) -> None:
            self.steps += 1
            if self.steps > MAX_STEPS or cost >= best[0]:
                return
            if gain >= need - 1e-9 and cost > 0 and self.reaches([row])[0]:
                best[0], best[1] = cost, list(row)
                return
            if k == len(options) or gain + rest[k] < need - 1e-9:
                return
            i, own = options[k]
            for option in own:
                if cost + option.cost < best[0]:
                    row[i] = option.value
                    walk(k + 1, row, cost + option.cost, gain + option.gain)
                    row[i] = self.row[i]
            walk(k + 1, row, cost, gain)

        walk(0, list(self.row), 0.0, 0.0)
        complete = self.steps <= MAX_STEPS
        if best[1] is None:
            return self._nothing(proved=complete)
        return self._answer(best[1], best[0], exact=complete)

    def _in_relation(self, i: int) -> bool:
        name = self.release.contract.names[i]
        return any(name in (r.left, r.right) for r in self.release.contract.relations)

    def _need(self, margin: float, sign: float) -> float:
        """How far the margin must move at least, on the additive scale; the engine has the last word."""
        use = self.decider.use_case
        edge = use.approve_below
        if self.release.scorer.link == "logit":
            if not 0.0 < edge < 1.0:
                return 0.0
            edge = math.log(edge / (1.0 - edge))
        return max(0.0, sign * (edge - margin))

    # Other models: searched.

    def heuristic(self) -> Counterfactual:
        singles: list[tuple[float, int, float]] = []
        for i in self.movable:
            values = self.candidates(i, [*_thresholds(self.release.scorer, i), *self._related(i)])
            feature = self.features[i]
            if len(values) < 8 and feature.type in ("number", "integer"):
                values = sorted({*values, *self._grid(i)})
            singles += [(self.cost(i, v), i, v) for v in _thinned(values, self.row[i])]
        singles.sort()
        rows = [self._with([(i, v)]) for _, i, v in singles]
        hits = self.reaches(rows)
        best = min(
            ((cost, row) for (cost, _, _), row, hit in zip(singles, rows, hits, strict=True) if hit),
            default=None,
            key=lambda found: found[0],
        )
        if best is None:
            best = self._pairs(singles) or self._greedy(singles)
        if best is None:
            return self._nothing(proved=False)
        return self._answer(best[1], best[0], exact=False)

    def _pairs(self, singles: list[tuple[float, int, float]]) -> tuple[float, list[float]] | None:
        margins = self._favour([self._with([(i, v)]) for _, i, v in singles])
        base = self._favour([self.row])[0]
        useful = [s for s, m in zip(singles, margins, strict=True) if m > base][:MAX_PAIRED]
        pairs = sorted(
            (a[0] + b[0], (a[1], a[2]), (b[1], b[2]))
            for a, b in itertools.combinations(useful, 2)
            if a[1] != b[1]
        )[:20_000]
        for start in range(0, len(pairs), 2_000):
            block = pairs[start : start + 2_000]
            rows = [self._with([a, b]) for _, a, b in block]
            for (cost, _, _), row, hit in zip(block, rows, self.reaches(rows), strict=True):
                if hit:
                    return cost, row
        return None

    def _greedy(self, singles: list[tuple[float, int, float]]) -> tuple[float, list[float]] | None:
        """Change by change, the one that moves the score most for its cost; then drop what was not needed."""
        chosen: dict[int, float] = {}
        for _ in range(MAX_CHANGES):
            rows, options = [], []
            for cost, i, v in singles:
                if i not in chosen:
                    options.append((cost, i, v))
                    rows.append(self._with([*chosen.items(), (i, v)]))
            if not rows:
                return None
            favour = self._favour(rows)
            base = self._favour([self._with(list(chosen.items()))])[0]
            k = max(range(len(rows)), key=lambda j: (favour[j] - base) / options[j][0])
            if favour[k] <= base:
                return None
            chosen[options[k][1]] = options[k][2]
            if self.reaches([self._with(list(chosen.items()))])[0]:
                for i in sorted(chosen, key=lambda j: -self.cost(j, chosen[j])):
                    without = [(j, v) for j, v in chosen.items() if j != i]
                    if without and self.reaches([self._with(without)])[0]:
                        del chosen[i]
                return sum(self.cost(i, v) for i, v in chosen.items()), self._with(list(chosen.items()))
        return None

    def _favour(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """How far each row's margin lies on the person's side."""
        if not rows:
            return []
        margins = self.release.scorer.score(np.array(rows, dtype=np.float64))
        found: list[float] = (-margins if self.decider.use_case.adverse == "high" else margins).tolist()
        return found

    def _grid(self, i: int) -> list[float]:
        feature, now = self.features[i], self.row[i]
        low, high = _bounds(feature)
        low = low if math.isfinite(low) else (now if not math.isnan(now) else 0.0) - 10 * max(abs(now), 1.0)
        high = (
            high if math.isfinite(high) else (now if not math.isnan(now) else 0.0) + 10 * max(abs(now), 1.0)
        )
        if math.isnan(low) or math.isnan(high):
            return []
        values = np.linspace(low, high, MAX_CANDIDATES)
        if feature.type == "integer":
            values = np.round(values)
        return [v for v in values.tolist() if v != now]

    def _with(self, changes: Sequence[tuple[int, float]]) -> list[float]:
        row = list(self.row)
        for i, value in changes:
            row[i] = value
        return row

    # Answers.

    def _answer(self, row: list[float], cost: float, *, exact: bool) -> Counterfactual:
        before, after = self.release.compiled.decode_row(self.row), self.release.compiled.decode_row(row)
        score = float(probability(self.release.scorer.score(np.array([row])), self.release.scorer.link)[0])
        changes = [
            Change(
                feature=self.features[i].name,
                description=self.features[i].description,
                unit=self.features[i].unit,
                before=before[self.features[i].name],
                after=after[self.features[i].name],
            )
            for i in self.movable
            if not _same(row[i], self.row[i])
        ]
        return Counterfactual(
            answer="found", target=self.target, changes=changes, score=score, cost=cost, exact=exact
        )

    def _nothing(self, *, proved: bool) -> Counterfactual:
        note = (
            "no change of what the person can change would have given this result"
            if proved
            else "no such change was found; that is not proof that there is none"
        )
        return Counterfactual(
            answer="none" if proved else "not_found", target=self.target, exact=proved, note=note
        )


def sorted_by_cost(options: list[_Option]) -> list[_Option]:
    """Cheapest first."""
    return sorted(options, key=lambda o: (o.cost, -o.gain, o.value))


def _undominated(options: list[_Option]) -> list[_Option]:
    """Without options that cost as much as another and gain no more."""
    kept: list[_Option] = []
    for option in sorted_by_cost(options):
        if not kept or option.gain > kept[-1].gain:
            kept.append(option)
    return kept


def _thinned(values: list[float], now: float) -> list[float]:
    """At most `MAX_CANDIDATES` values: the nearest ones first, the far ones evenly."""
    if len(values) <= MAX_CANDIDATES:
        return values
    ordered = sorted(values, key=lambda v: abs(v - now) if not math.isnan(now) else abs(v))
    near, far = ordered[: MAX_CANDIDATES // 2], ordered[MAX_CANDIDATES // 2 :]
    step = -(-len(far) // (MAX_CANDIDATES // 2))
    return sorted([*near, *far[::step], ordered[-1]])


def _beside(feature: Feature, threshold: float) -> list[float]:
    """The values next to a threshold on both sides that a person can have, and itself."""
    if feature.type == "integer":
        whole = math.floor(threshold)
        return [float(whole - 1), float(whole), float(whole + 1)]
    return [float(np.nextafter(threshold, -math.inf)), threshold, *_rounder(threshold)]


def _rounder(threshold: float) -> list[float]:
    """Values just below and above a threshold that people can read: at most five digits."""
    if threshold == 0 or not math.isfinite(threshold):
        return [-0.001, 0.001]
    digits = 4 - math.floor(math.log10(abs(threshold)))
    step = 10.0**-digits
    low, high = math.floor(threshold / step), math.ceil(threshold / step)
    return [
        round((low - (low * step >= threshold)) * step, digits),
        round((high + (high * step <= threshold)) * step, digits),
    ]


def _readable(value: float) -> bool:
    return value == 0 or float(f"{value:.6g}") == value


def _bounds(feature: Feature) -> tuple[float, float]:
    low = -math.inf if feature.minimum is None else float(feature.minimum)
    high = math.inf if feature.maximum is None else float(feature.maximum)
    return low, high


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _thresholds(scorer: Any, i: int) -> list[float]:
    """Where a model's answer can change along a feature, as far as the model tells."""
    model = getattr(scorer, "model", None)
    axes = getattr(model, "axes", None)
    if axes is not None:
        index = [axis for axis, place in zip(axes, scorer._axes, strict=True) if place[0] == i]
        return [cut for axis in index for cut in axis.cuts]
    ranked = getattr(scorer, "ranked", None)
    return [] if ranked is None else [float(t) for t in ranked.thresholds(i) if math.isfinite(t)]


def as_json(answer: Counterfactual) -> dict[str, Any]:
    """JSON values."""
    found: dict[str, Any] = json.loads(msgspec.json.encode(answer))
    return found
