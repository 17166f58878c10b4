"""What the search for alternatives tries, and how each is fitted.

Nothing here sees the selection or the hold-out part. Features are dropped in order of how much they tell about the
group and move the score; declared monotone directions are kept by every candidate.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._boosted_refit import penalised_lightgbm
from fiduciary.checks._groups import Grouping, ordered
from fiduciary.checks._proxies import information
from fiduciary.checks._refits import penalised_scorecard, resampled, rescaled_additive, term_columns
from fiduciary.errors import ModelError
from fiduciary.models import (
    BinningOptions,
    Contract,
    ScorecardOptions,
    Scorer,
    load_scorer,
    train_lightgbm,
    train_scorecard,
)
from fiduciary.models._additive import Additive

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SINGLES = 8
STRENGTHS = (0.5, 1.0, 1.5, 2.0)
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
ROUNDS = 200
LEARNING_RATE = 0.05
SLICES = 10


class LabelledRows(msgspec.Struct, frozen=True, eq=False):
    """Rows (n, features) in contract order, events (n,) of 0 and 1, and group labels (n,) by attribute."""

    rows: F64
    events: F64
    groups: dict[str, NDArray[Any]]

    def take(self, places: I64) -> LabelledRows:
        """Some of the rows."""
        return LabelledRows(
            self.rows[places], self.events[places], {k: v[places] for k, v in self.groups.items()}
        )


class Workshop(msgspec.Struct, frozen=True, eq=False):
    """What every recipe of one search is fitted with."""

    train: LabelledRows
    groups: list[Grouping]
    """Of the training rows, one an attribute."""
    contract: Contract
    family: str
    scorer: Scorer | None
    folder: Path
    """Where files may be written meanwhile."""
    seed: int
    minimum_rows: int


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to try."""

    name: str
    kind: str
    """baseline, drop, shape, reweight, penalty, variant or cut-off."""
    change: dict[str, Any] = {}
    dropped: tuple[str, ...] = ()
    group_aware: bool = False
    reweight: float = 0.0
    penalty: float = 0.0
    attribute: str = ""
    """Whose groups reweighting and penalty look at."""
    bins: int = 20
    monotone: bool = False
    depth: int = 4
    seed: int = 0


class Fitted(msgspec.Struct, frozen=True, eq=False):
    """A model, the contract it reads, and which of the full contract's columns those are."""

    scorer: Any
    contract: Contract
    columns: I64

    def score(self, rows: F64) -> F64:
        """Margins of rows in the full contract's order."""
        found: F64 = self.scorer.score(np.ascontiguousarray(rows[:, self.columns]))
        return found


def recipes(shop: Workshop, base: Fitted) -> Iterator[Recipe]:
    """What is tried, in order: the likeliest first, so that a small budget is well spent."""
    train, groups, contract, family = shop.train, shop.groups, shop.contract, shop.family
    minimum_rows = shop.minimum_rows
    worst = max(groups, key=lambda g: _gap(base, train, g, minimum_rows)).attribute
    ranked = _ranked(base, train, groups, contract)
    strengths = [] if family == "additive" else list(STRENGTHS)
    penalties = list(PENALTIES)
    for strength in penalties:
        yield Recipe(
            name=f"penalty {strength:g} on {worst}", kind="penalty", penalty=strength, attribute=worst,
            group_aware=True, change={"penalty": strength, "attribute": worst},
        )  # fmt: skip
    for strength in strengths:
        yield Recipe(
            name=f"reweighted {strength:g} by {worst}", kind="reweight", reweight=strength, attribute=worst,
            group_aware=True, change={"reweight": strength, "attribute": worst},
        )  # fmt: skip
    protected = tuple(f.name for f in contract.features if f.protected)
    sets: list[tuple[str, ...]] = [(name,) for name in ranked[:SINGLES]]
    sets += [tuple(ranked[:k]) for k in (2, 3, 5)]
    if protected:
        sets.insert(0, protected)
    by_group: dict[str, list[str]] = {}
    for feature in contract.features:
        if feature.group:
            by_group.setdefault(feature.group, []).append(feature.name)
    first = {name: i for i, name in enumerate(ranked)}
    named = sorted(by_group.items(), key=lambda item: min(first[name] for name in item[1]))
    sets += [tuple(members) for _, members in named[:3]]
    for dropped in dict.fromkeys(tuple(sorted(s, key=contract.names.index)) for s in sets):
        if dropped and len(dropped) < len(contract.features):
            yield Recipe(
                name=f"without {', '.join(dropped)}", kind="drop", dropped=dropped,
                change={"dropped": list(dropped)},
            )  # fmt: skip
    if family == "scorecard":
        yield Recipe(name="monotone bins", kind="shape", monotone=True, change={"monotone": True})
        for bins in (10, 5, 3):
            yield Recipe(name=f"{bins} bins", kind="shape", bins=bins, change={"bins": bins})
    elif family == "lightgbm":
        yield Recipe(name="monotone numbers", kind="shape", monotone=True, change={"monotone": True})
        for depth in (2, 3, 5, 6):
            yield Recipe(name=f"depth {depth}", kind="shape", depth=depth, change={"depth": depth})
        for seed in (1, 2, 3):
            yield Recipe(name=f"seed {seed}", kind="variant", seed=seed, change={"seed": seed})
    for dropped_one in ranked[:2]:  # two ways at once
        if len(contract.features) > 1:
            for strength in strengths[1::2]:
                yield Recipe(
                    name=f"without {dropped_one}, reweighted {strength:g} by {worst}", kind="reweight",
                    dropped=(dropped_one,), reweight=strength, attribute=worst, group_aware=True,
                    change={"dropped": [dropped_one], "reweight": strength, "attribute": worst},
                )  # fmt: skip
            for strength in penalties[1::2]:
                yield Recipe(
                    name=f"without {dropped_one}, penalty {strength:g} on {worst}", kind="penalty",
                    dropped=(dropped_one,), penalty=strength, attribute=worst, group_aware=True,
                    change={"dropped": [dropped_one], "penalty": strength, "attribute": worst},
                )  # fmt: skip


def fit_recipe(shop: Workshop, recipe: Recipe) -> Fitted:
    """Fit one recipe on the training rows.

    Raises `ModelError` when there is nothing to learn from, or the refit breaks a declared direction.
    """
    train, groups, contract, seed = shop.train, shop.groups, shop.contract, shop.seed
    if shop.family == "additive":
        return _additive(shop, recipe)
    columns = np.array(
        [i for i, f in enumerate(contract.features) if f.name not in recipe.dropped], dtype=np.int64
    )
    smaller = Contract(features=tuple(contract.features[i] for i in columns))
    x = np.ascontiguousarray(train.rows[:, columns])
    grouping = next((g for g in groups if g.attribute == recipe.attribute), groups[0])
    picked = np.arange(len(x))
    if recipe.reweight:
        picked = resampled(grouping, train.events, recipe.reweight, seed)
    if shop.family == "scorecard":
        binning = BinningOptions(bins=recipe.bins, method="monotone" if recipe.monotone else "quantile")
        card, _ = train_scorecard(x[picked], train.events[picked], smaller, ScorecardOptions(binning=binning))
        if recipe.penalty:
            card = penalised_scorecard(
                card, x, train.events, smaller, grouping, recipe.penalty, shop.minimum_rows
            )
        return Fitted(card, smaller, columns)
    shaped = _monotone(smaller, x, train.events) if recipe.monotone else smaller
    directory = shop.folder / "model"
    fitted, stop = _early_stop(len(x), seed + 1_000 * recipe.seed)
    inner = picked[np.isin(picked, fitted)]
    if recipe.penalty:
        part = ordered(grouping.attribute, grouping.labels, grouping.codes[inner])
        penalised_lightgbm(
            x[inner], train.events[inner], shaped, directory, grouping=part, strength=recipe.penalty,
            validation=(x[stop], train.events[stop]), rounds=ROUNDS, depth=recipe.depth,
            learning_rate=LEARNING_RATE, seed=seed, minimum_rows=shop.minimum_rows,
        )  # fmt: skip
    else:
        train_lightgbm(
            x[inner], train.events[inner], shaped, directory, validation=(x[stop], train.events[stop]),
            rounds=ROUNDS, depth=recipe.depth, learning_rate=LEARNING_RATE, seed=seed + recipe.seed,
        )  # fmt: skip
    return Fitted(load_scorer(directory, shaped), smaller, columns)


def _additive(shop: Workshop, recipe: Recipe) -> Fitted:
    everything = np.arange(len(shop.contract.features))
    scorer, train = shop.scorer, shop.train
    if not isinstance(scorer, Additive):
        raise ModelError("a search over an additive model needs that model")
    if recipe.kind == "baseline":
        return Fitted(scorer, shop.contract, everything)
    grouping = next((g for g in shop.groups if g.attribute == recipe.attribute), shop.groups[0])
    columns = term_columns(scorer, train.rows, shop.contract)
    model = rescaled_additive(
        scorer, columns, train.events, shop.contract, grouping, recipe.penalty, frozenset(recipe.dropped),
        shop.minimum_rows,
    )  # fmt: skip
    return Fitted(model, shop.contract, everything)


def _early_stop(n: int, seed: int) -> tuple[I64, I64]:
    """Training rows to fit on and, one in five, to stop early by."""
    order = np.random.default_rng([seed, 17]).permutation(n)
    return np.sort(order[n // 5 :]), np.sort(order[: n // 5])


def _monotone(contract: Contract, rows: F64, events: F64) -> Contract:
    """Every number without a declared direction gets the one in which its rank leans."""
    features = []
    for j, feature in enumerate(contract.features):
        if feature.type in ("number", "integer") and not feature.monotone:
            known = ~np.isnan(rows[:, j])
            ranks = np.unique(rows[known, j], return_inverse=True)[1].astype(np.float64)
            lean = (
                float(((ranks - ranks.mean()) * (events[known] - events[known].mean())).sum())
                if known.any()
                else 0.0
            )
            feature = msgspec.structs.replace(feature, monotone=1 if lean > 0 else -1 if lean < 0 else 0)
        features.append(feature)
    return Contract(features=tuple(features), relations=())


def _gap(base: Fitted, train: LabelledRows, grouping: Grouping, minimum_rows: int) -> float:
    margins = base.score(train.rows)
    judged = grouping.rows >= minimum_rows
    if judged.sum() < 2:
        return 0.0
    means = (grouping.total(margins) / np.maximum(grouping.rows, 1))[judged]
    return float(means.max() - means.min())


def _ranked(base: Fitted, train: LabelledRows, groups: list[Grouping], contract: Contract) -> list[str]:
    """Feature names, first those that tell most about a group and move the score most."""
    contributions = base.scorer.explain(np.ascontiguousarray(train.rows[:, base.columns]))[1]
    moved = np.abs(contributions - contributions.mean(axis=0)).mean(axis=0)
    told = []
    for j in range(len(contract.features)):
        column = train.rows[:, j]
        known = column[~np.isnan(column)]
        cuts = np.unique(np.quantile(known, np.arange(1, SLICES) / SLICES)) if len(known) else known
        place = np.searchsorted(cuts, column, side="right")
        best = 0.0
        for grouping in groups:
            inside = grouping.codes >= 0
            table = np.zeros((len(cuts) + 2, len(grouping.labels)))
            np.add.at(table, (place[inside], grouping.codes[inside]), 1.0)
            bits, entropy = information(table)
            best = max(best, bits / entropy if entropy > 0 else 0.0)
        told.append(best)
    strength = np.array(told) * moved
    return [contract.names[j] for j in np.argsort(-strength, kind="stable")]
