"""Hardening boosted trees: monotone directions, training on attacked rows, both; and what each costs and brings.

The recipe: the contract's monotone directions forbid that a feature helps in the wrong direction; adversarial
training adds, each round, attacked copies of bad rows with their true label, so that the model unlearns what the
attack used. Every candidate is then measured alike: AUC on held-out rows, and the certified share of its declined
rows under one and the same box. Nobody chooses for the user: `front` marks candidates that no other beats in both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fiduciary.checks._attack import attack
from fiduciary.checks._certificates import STEPS, Certifier, counts
from fiduciary.checks._goal import Goal
from fiduciary.checks._moves import Moves
from fiduciary.checks._sample import F64
from fiduciary.errors import MissingExtraError, UsageError
from fiduciary.models import Contract, ImportReport, auc, auc_error, import_lightgbm, probability
from fiduciary.models._lightgbm import parse
from fiduciary.models._trees import TreeScorer

RECIPES = ("plain", "monotone", "adversarial", "monotone + adversarial")


class Candidate(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One hardened model with what it costs and what it withstands."""

    recipe: str
    model: str
    """LightGBM's text model."""
    cut: float
    """The cut-off that declines the given share of the training rows."""
    auc: float
    auc_error: float
    """Standard error of the AUC."""
    rows: int
    """Declined held-out rows that were certified or not."""
    certified: float
    """Shares of those rows."""
    attackable: float
    open: float
    attacked: float
    """Share that the greedy attack turns."""
    on_front: bool = False
    """No other candidate has a larger AUC and a larger certified share."""

    @property
    def scorer(self) -> TreeScorer:
        """The model, ready to score."""
        trees, link = parse(self.model)
        return TreeScorer("lightgbm", link, trees)

    def save(self, contract: Contract, directory: Path | str, rows: F64 | None = None) -> ImportReport:
        """Write it as a checked model directory, ready for `fiduciary release build`."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.txt"
            file.write_text(self.model, "utf-8")
            return import_lightgbm(file, contract, directory, rows)


def harden(
    rows: F64,
    events: F64,
    moves: Moves,
    *,
    held: tuple[F64, F64],
    recipes: Iterable[str] = RECIPES,
    declined: float = 0.3,
    trees: int = 120,
    leaves: int = 31,
    learning_rate: float = 0.08,
    rounds: int = 2,
    attacked_rows: int = 2_500,
    certified_rows: int = 500,
    steps: int = STEPS,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
) -> list[Candidate]:
    """Train LightGBM by each recipe on rows (n, features) and events (n,), and measure all on `held` rows and events.

    `moves` are what a person may change (`moves_of`); `declined` the share of training rows that the cut-off
    declines; `rounds` and `attacked_rows` the rounds of adversarial training and how many bad rows each attacks;
    `settings` further LightGBM parameters. One thread and one seed: the same input gives the same models. Raises
    `UsageError` for an unknown recipe or without both outcomes, `MissingExtraError` without LightGBM.
    """
    contract = moves.contract
    if len(np.unique(events)) != 2:
        raise UsageError("hardening needs rows with both outcomes, 0 and 1")
    if not 0.0 < declined < 1.0:
        raise UsageError("the declined share must be between 0 and 1")
    chosen = list(recipes)
    for recipe in chosen:
        if recipe not in RECIPES:
            raise UsageError(f"there is no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    base = {
        "objective": "binary",
        "num_leaves": leaves,
        "learning_rate": learning_rate,
        "min_data_in_leaf": 40,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": seed,
        "verbosity": -1,
        **(settings or {}),
    }
    candidates = []
    for recipe in chosen:
        mine = dict(base)
        if "monotone" in recipe:
            mine["monotone_constraints"] = [feature.monotone for feature in contract.features]
            mine["monotone_constraints_method"] = "intermediate"
        x, y = rows, events
        text, scorer = _fit(x, y, contract, mine, trees)
        if "adversarial" in recipe:
            random = np.random.default_rng(seed)
            bad = np.flatnonzero(events == 1)
            for _ in range(rounds):
                picked = random.choice(bad, min(attacked_rows, len(bad)), replace=False)
                goal = Goal(_cut(scorer, rows, declined))
                changed = attack(scorer, rows[picked], moves, goal, sweeps=1).rows
                x, y = np.vstack([x, changed]), np.concatenate([y, np.ones(len(picked))])
                text, scorer = _fit(x, y, contract, mine, trees)
        candidates.append(
            _measured(recipe, text, scorer, rows, held, moves, declined, certified_rows, steps, seed)
        )
    return front(candidates)


def front(candidates: list[Candidate]) -> list[Candidate]:
    """The same, with those marked that no other beats in both AUC and certified share."""
    marked = []
    for one in candidates:
        beaten = any(
            o.auc >= one.auc
            and o.certified >= one.certified
            and (o.auc, o.certified) != (one.auc, one.certified)
            for o in candidates
        )
        marked.append(msgspec.structs.replace(one, on_front=not beaten))
    return marked


def _measured(
    recipe: str,
    text: str,
    scorer: TreeScorer,
    rows: F64,
    held: tuple[F64, F64],
    moves: Moves,
    declined: float,
    certified_rows: int,
    steps: int,
    seed: int,
) -> Candidate:
    goal = Goal(_cut(scorer, rows, declined))
    scores = probability(scorer.score(held[0]), scorer.link)
    at = np.flatnonzero(goal.applies(scores))
    if len(at) > certified_rows:
        at = np.sort(np.random.default_rng(seed).choice(at, certified_rows, replace=False))
    if not len(at):
        raise UsageError("none of the held-out rows is declined")
    start = np.ascontiguousarray(held[0][at])
    found = counts(Certifier(scorer, moves, goal, steps=steps).certify_all(start))
    turned = attack(scorer, start, moves, goal).turned
    area = auc(scores, held[1])
    n = len(start)
    return Candidate(
        recipe=recipe,
        model=text,
        cut=goal.cut,
        auc=area,
        auc_error=auc_error(area, held[1]),
        rows=n,
        certified=found["certified"] / n,
        attackable=found["attackable"] / n,
        open=found["open"] / n,
        attacked=float(turned.mean()),
    )


def _cut(scorer: TreeScorer, rows: F64, declined: float) -> float:
    return float(np.quantile(probability(scorer.score(rows), scorer.link), 1.0 - declined))


def _fit(
    rows: F64, events: F64, contract: Contract, settings: dict[str, Any], trees: int
) -> tuple[str, TreeScorer]:
    try:
        import lightgbm
    except ImportError:
        raise MissingExtraError("hardening needs LightGBM: pip install 'fiduciary[trees]'") from None
    features = contract.features
    names = [f"Column_{i}" for i in range(len(features))]
    categories = [i for i, feature in enumerate(features) if feature.type in ("category", "boolean")]
    data = lightgbm.Dataset(rows, events, feature_name=names, categorical_feature=categories, params=settings)
    text: str = lightgbm.train(settings, data, trees).model_to_string()
    parsed, link = parse(text)
    return text, TreeScorer("lightgbm", link, parsed)
