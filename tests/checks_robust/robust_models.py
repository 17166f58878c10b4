"""Small models of each family under a contract, and the plain statement of what a certificate proves."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import xgboost

from fiduciary.checks._goal import Goal
from fiduciary.checks._moves import Moves
from fiduciary.models import Contract, Feature, Relation, Scorer, probability
from fiduciary.models._lightgbm import parse as parse_lightgbm
from fiduciary.models._scorecard import Bins, Scorecard, ScorecardFile
from fiduciary.models._trees import NARROW, Trees, TreeScorer
from fiduciary.models._xgboost import parse as parse_xgboost

FEATURES = (
    Feature(name="amount", type="number", minimum=-3, maximum=3, missing="allowed", mutable=True),
    Feature(name="months", type="integer", minimum=0, maximum=20, missing="allowed", mutable=True),
    Feature(name="housing", type="category", categories=list("abcdef"), missing="allowed", mutable=True),
    Feature(name="score", type="number", missing="allowed"),
    Feature(name="near", type="number", missing="allowed", mutable=True),
)


def contract(*relations: Relation) -> Contract:
    return Contract(features=FEATURES, relations=relations)


def rows_of(n: int, seed: int, missing: float = 0.08) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = np.empty((n, 5))
    x[:, 0] = np.round(random.uniform(-3, 3, n), 1)
    x[:, 1] = random.integers(0, 21, n)
    x[:, 2] = random.integers(0, 6, n)
    x[:, 3] = random.normal(size=n)
    x[:, 4] = np.round(random.normal(size=n), 2) * (random.random(n) > 0.3)
    x[random.random(x.shape) < missing] = np.nan
    return x


def labels_of(x: np.ndarray, seed: int) -> np.ndarray:
    z = np.nan_to_num(x)
    noise = np.random.default_rng(seed).normal(size=len(x))
    signal = np.sin(2 * z[:, 0]) + 0.1 * z[:, 1] + np.isin(z[:, 2], (1, 4)) - z[:, 3] + z[:, 4] * z[:, 0]
    return (signal + 0.5 * noise > 1).astype(float)


def lightgbm_trees(path: Path, trees: int, leaves: int, seed: int, **more: Any) -> tuple[Trees, TreeScorer]:
    x = rows_of(1_500, seed)
    settings = {
        "objective": "binary", "verbose": -1, "num_threads": 1, "seed": seed, "num_leaves": leaves,
        "min_data_in_leaf": 15, "learning_rate": 0.2, "min_data_per_group": 5, "cat_smooth": 1,
        "max_cat_to_onehot": 2,
    } | more  # fmt: skip
    data = lightgbm.Dataset(x, labels_of(x, seed), categorical_feature=[2], params=settings)
    lightgbm.train(settings, data, trees).save_model(str(path))
    parsed, link = parse_lightgbm(path.read_text())
    return parsed, TreeScorer("lightgbm", link, parsed)


def narrow_trees(path: Path, trees: int, leaves: int, seed: int) -> tuple[Trees, TreeScorer]:
    """The same kind of trees as ONNX has them: inputs rounded to float32, left when x <= threshold."""
    parsed, _ = lightgbm_trees(path, trees, leaves, seed)
    parsed.threshold = [float(np.float32(t)) for t in parsed.threshold]
    parsed.reading = NARROW
    return parsed, TreeScorer("onnx", "logit", parsed)


def xgboost_trees(trees: int, depth: int, seed: int) -> tuple[Trees, TreeScorer]:
    x = rows_of(1_500, seed)
    kinds = ["q", "q", "c", "q", "q"]
    data = xgboost.DMatrix(x, labels_of(x, seed), feature_types=kinds, enable_categorical=True, nthread=1)
    settings = {"objective": "binary:logistic", "max_depth": depth, "eta": 0.3, "nthread": 1, "seed": seed}
    booster = xgboost.train(settings, data, trees)
    parsed, link, base = parse_xgboost(bytes(booster.save_raw("json")))
    parsed.base = base
    return parsed, TreeScorer("xgboost", link, parsed)


def scorecard(seed: int) -> Scorecard:
    random = np.random.default_rng(seed)
    edges = {
        "amount": [-1.5, -0.2, 0.0, 0.7, 2.1],
        "months": [2.0, 5.5, 9.0, 15.0],
        "score": [0.0],
        "near": [-0.5, 0.0, 1e-3],
    }
    bins = []
    for feature in FEATURES:
        kind = "number" if feature.type == "integer" else feature.type
        mine = edges.get(feature.name, [])
        size = len(feature.categories) or len(mine) + 1
        weights = random.normal(size=size).round(2).tolist()
        bins.append(
            Bins(
                name=feature.name,
                kind=kind,
                edges=mine,
                categories=feature.categories,
                weights=weights,
                missing=0.1,
            )
        )
    return Scorecard(ScorecardFile(intercept=-0.3, features=bins), contract())


def thresholds(model: Trees | Scorecard, feature: int) -> list[float]:
    """Every threshold of a feature, from the model's own parse; zero and LightGBM's zero band with it."""
    if isinstance(model, Scorecard):
        return [*model.card.features[feature].edges, 0.0]
    found = {
        t
        for f, t, c in zip(model.feature, model.threshold, model.categories, strict=True)
        if f == feature and c is None
    }
    return sorted({*found, 0.0, 1e-35, -1e-35})


def brute_force(model: Trees | Scorecard, scorer: Scorer, moves: Moves, goal: Goal, row: np.ndarray) -> bool:
    """Does an allowed row turn the outcome? By trying every threshold, its neighbours and the box's ends."""
    choices: list[list[float]] = []
    for i, feature in enumerate(moves.contract.features):
        x = float(row[i])
        move = moves.moves.get(i)
        if move is None or math.isnan(x):
            choices.append([x])
        elif feature.type == "category":
            choices.append([float(k) for k in range(len(feature.categories))])
        else:
            reach = move.relative * abs(x)
            low, high = x - (move.down + reach), x + (move.up + reach)
            low = max(low, -math.inf if feature.minimum is None else feature.minimum)
            high = min(high, math.inf if feature.maximum is None else feature.maximum)
            if feature.type == "integer":
                choices.append([float(k) for k in range(math.ceil(low), math.floor(high) + 1)])
                continue
            values = {x, low, high}
            for t in thresholds(model, i):
                narrow = np.float32(t)
                values |= {t, math.nextafter(t, math.inf), math.nextafter(t, -math.inf)}
                for side in (
                    np.float32(math.inf),
                    np.float32(-math.inf),
                ):  # where float32 rounds to the other side
                    middle = (float(narrow) + float(np.nextafter(narrow, side))) / 2
                    values |= {middle, math.nextafter(middle, math.inf), math.nextafter(middle, -math.inf)}
            choices.append(sorted(v for v in values if low <= v <= high))
    tried = np.array(list(itertools.product(*choices)))
    turned = goal.turned(probability(scorer.score(tried), scorer.link))
    return any(holds(moves.contract, row2) and moves.allowed(row, row2) for row2 in tried[turned])


def holds(contract: Contract, row: np.ndarray) -> bool:
    names = list(contract.names)
    tests = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}
    for relation in contract.relations:
        a = row[names.index(relation.left)]
        b = row[names.index(relation.right)] if isinstance(relation.right, str) else relation.right
        if not (np.isnan(a) or np.isnan(b)) and not tests[relation.op](a, b):
            return False
    return True
