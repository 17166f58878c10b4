"""Refits that weigh a group's disadvantage against accuracy. Groups shape the training, and are never an input.

Two ways. Reweighting (Kamiran and Calders, Knowledge and Information Systems 33, 2012): rows are drawn so that
group and outcome become independent, which any trainer can use. A penalty (after Zafar et al., Fairness
Constraints, 2017): the summed log-loss gets half of strength * n * the squared difference of mean margins between a
group and the rest, which stays convex; it is fitted for scorecards over their bins and for additive models over
their terms.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._groups import Grouping
from fiduciary.errors import ModelError
from fiduciary.models import Contract, Scorecard, probability
from fiduciary.models._additive import Additive, AdditiveFile
from fiduciary.models._scorecard import Bins, ScorecardFile
from fiduciary.models._scorecard_training import _derivatives

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

RIDGE = 3.0
SMOOTHING = 30.0
MAX_STEPS = 60
STEP_TOLERANCE = 1e-8
MAX_WEIGHT = 20.0


def resampled(grouping: Grouping, events: F64, strength: float, seed: int) -> I64:
    """Row numbers (n,), some more than once and some never, in which group and outcome are (nearly) independent.

    Each row counts P(group) P(outcome) / P(group, outcome), to the power of `strength`: 0 changes nothing, above 1
    goes further. Copies are drawn systematically, so that each row has its weight rounded up or down.
    """
    n = len(events)
    cell = (grouping.codes + 1) * 2 + events.astype(np.int64)
    joint = np.bincount(cell, minlength=2 * (len(grouping.labels) + 1)).reshape(-1, 2) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True) / joint
    ratio[0] = 1.0  # whose group is unknown keeps its weight
    weights = np.clip(
        np.nan_to_num(ratio, nan=1.0, posinf=1.0).ravel()[cell] ** strength, 1 / MAX_WEIGHT, MAX_WEIGHT
    )
    order = np.random.default_rng([seed, 11]).permutation(n)
    order = order[
        np.argsort(cell[order], kind="stable")
    ]  # cell by cell: each gets its weight, give or take one row
    edges = np.concatenate([[0.0], np.cumsum(weights[order])]) * (n / weights.sum())
    copies = np.diff(np.floor(edges + 0.5).astype(np.int64))
    return np.sort(np.repeat(order, copies))


def gap_directions(columns: F64, grouping: Grouping, minimum_rows: int) -> list[tuple[float, F64]]:
    """For each group with enough rows its share of the rows, and its mean of columns less that of the rest."""
    known = grouping.codes >= 0
    total, n = columns[known].sum(axis=0), int(known.sum())
    found = []
    for g, rows in enumerate(grouping.rows.tolist()):
        if minimum_rows <= rows < n:
            inside = columns[grouping.codes == g].sum(axis=0)
            found.append((rows / n, inside / rows - (total - inside) / (n - rows)))
    return found


def penalised_scorecard(
    card: Scorecard, rows: F64, events: F64, contract: Contract, grouping: Grouping, strength: float,
    minimum_rows: int = 30,
) -> Scorecard:  # fmt: skip
    """The card's bins with new weights under the penalty. Raises `ModelError` when a declared direction turns."""
    bins = [_bin_numbers(feature, rows[:, j]) for j, feature in enumerate(card.card.features)]
    sizes = [len(f.weights) + 1 for f in card.card.features]
    starts = np.concatenate([[1], 1 + np.cumsum(sizes)]).astype(np.int64)
    k = int(starts[-1])
    ridge = np.zeros((k, k))
    for j, feature in enumerate(card.card.features):
        block = RIDGE * np.eye(sizes[j])
        if feature.kind == "number" and sizes[j] > 2:
            steps = np.diff(np.eye(sizes[j] - 1), axis=0)
            block[:-1, :-1] += SMOOTHING * steps.T @ steps
        ridge[starts[j] : starts[j + 1], starts[j] : starts[j + 1]] = block
    n = len(events)
    for share, direction in _one_hot_gaps(bins, sizes, starts, grouping, minimum_rows):
        ridge += strength * n * share * np.outer(direction, direction)

    def margins(w: F64) -> F64:
        found = np.full(n, w[0])
        for j, b in enumerate(bins):
            found += w[starts[j] : starts[j + 1]][b]
        return found

    def derivatives(w: F64, score: F64) -> tuple[F64, F64]:
        return _derivatives(bins, sizes, starts, score - events, score * (1.0 - score))

    weights = _newton(np.zeros(k), events, ridge, margins, derivatives)
    features = []
    for j, feature in enumerate(card.card.features):
        found = weights[starts[j] : starts[j + 1]].tolist()
        declared = contract.features[j].monotone
        if declared and feature.kind == "number" and (np.diff(found[:-1]) * declared < -1e-12).any():
            raise ModelError(f"the refit turns against the declared direction of {feature.name!r}")
        missing = None if feature.missing is None else found[-1]
        features.append(msgspec.structs.replace(feature, weights=found[:-1], missing=missing))
    document = ScorecardFile(intercept=float(weights[0]), features=features, points=card.card.points)
    return Scorecard(document, contract)


def term_columns(model: Additive, rows: F64, contract: Contract) -> F64:
    """What each term of an additive model adds to the margin, (n, terms)."""
    columns = np.empty((len(rows), len(model.model.terms)))
    for t, term in enumerate(model.model.terms):
        alone = AdditiveFile(link=model.link, intercept=0.0, axes=model.model.axes, terms=[term])
        columns[:, t] = Additive(alone, contract).score(rows)
    return columns


def rescaled_additive(
    model: Additive, columns: F64, events: F64, contract: Contract, grouping: Grouping, strength: float,
    dropped: frozenset[str] = frozenset(), minimum_rows: int = 30,
) -> Additive:  # fmt: skip
    """The model's terms, each scaled by a number that is fitted under the penalty and is never below 0.

    `columns` are `term_columns` of the training rows. Terms of a dropped feature get 0.
    """
    terms = model.model.terms
    names = [[model.model.axes[a].feature for a in term.axes] for term in terms]
    kept = np.array([not dropped.intersection(of) for of in names])
    n = len(events)
    gaps = gap_directions(columns, grouping, minimum_rows) if strength else []
    while True:
        used = np.flatnonzero(kept)
        x = np.column_stack([np.ones(n), columns[:, used]])
        ridge = np.diag([0.0, *([RIDGE] * len(used))])
        pull = np.concatenate([[0.0], np.full(len(used), RIDGE)])  # towards 1: the model as it is
        for share, direction in gaps:
            d = np.concatenate([[0.0], direction[used]])
            ridge += strength * n * share * np.outer(d, d)
        start = np.concatenate([[model.bias], np.ones(len(used))])

        def margins(w: F64, x: F64 = x) -> F64:
            return np.asarray(x @ w)

        def derivatives(w: F64, score: F64, x: F64 = x) -> tuple[F64, F64]:
            return x.T @ (score - events), (x * (score * (1.0 - score))[:, None]).T @ x

        weights = _newton(start, events, ridge, margins, derivatives, pull)
        negative = used[weights[1:] < 0.0]
        if not len(negative):
            break
        kept[negative] = False
    scale = np.zeros(len(terms))
    scale[used] = weights[1:]
    changed = [
        msgspec.structs.replace(term, scores=[s * float(scale[t]) for s in term.scores])
        for t, term in enumerate(terms)
    ]
    document = AdditiveFile(
        link=model.link, intercept=float(weights[0]), axes=model.model.axes, terms=changed
    )
    return Additive(document, contract)


def _newton(
    start: F64, events: F64, ridge: F64, margins: object, derivatives: object, pull: F64 | None = None
) -> F64:
    """Minimise summed log-loss + w'Rw / 2 - pull'w from a start, by Newton's method with halved steps."""
    assert callable(margins) and callable(derivatives)
    pull = np.zeros(len(start)) if pull is None else pull

    def loss(w: F64, m: F64) -> float:
        return float((np.logaddexp(0.0, m) - events * m).sum() + 0.5 * w @ ridge @ w - pull @ w)

    weights = start
    now = margins(weights)
    best = loss(weights, now)
    for _ in range(MAX_STEPS):
        score = probability(now, "logit")
        gradient, curvature = derivatives(weights, score)
        curvature = curvature + ridge + 1e-9 * np.eye(len(weights))
        move = np.linalg.solve(curvature, gradient + ridge @ weights - pull)
        size = 1.0
        while True:
            trial = weights - size * move
            moved = margins(trial)
            value = loss(trial, moved)
            if value <= best + 1e-12 * abs(best) or size < 1e-6:
                break
            size *= 0.5
        weights, now, best = trial, moved, value
        if float(np.abs(size * move).max()) <= STEP_TOLERANCE:
            return weights
    raise ModelError(f"the refit did not settle in {MAX_STEPS} steps")


def _bin_numbers(feature: Bins, column: F64) -> I64:
    """The bin of each value; missing values have the number after the last bin."""
    steps = feature.edges if feature.kind == "number" else [float(k) for k in range(1, len(feature.weights))]
    found: I64 = np.searchsorted(np.array(steps), column, side="right").astype(np.int64)
    found[np.isnan(column)] = len(feature.weights)
    return found


def _one_hot_gaps(
    bins: list[I64], sizes: list[int], starts: I64, grouping: Grouping, minimum_rows: int
) -> list[tuple[float, F64]]:
    """`gap_directions` over 0/1 columns of the bins, by counting, the intercept first (it has no gap)."""
    known = grouping.codes >= 0
    n, k = int(known.sum()), len(grouping.labels)
    counts = np.zeros((k, int(starts[-1])))
    for j, b in enumerate(bins):
        table = np.bincount(grouping.codes[known] * sizes[j] + b[known], minlength=k * sizes[j])
        counts[:, starts[j] : starts[j + 1]] = table.reshape(k, sizes[j])
    total = counts.sum(axis=0)
    return [
        (rows / n, counts[g] / rows - (total - counts[g]) / (n - rows))
        for g, rows in enumerate(grouping.rows.tolist())
        if minimum_rows <= rows < n
    ]
