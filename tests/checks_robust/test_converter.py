"""The search reads the trees as the serving scorer does: equal bits on every feature, threshold and neighbour.

`make test-robustness` raises the number of rows to 100,000 a model (FIDUCIARY_ROBUST_ROWS).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from checks_robust.robust_models import contract, lightgbm_trees, rows_of, xgboost_trees
from fiduciary.checks._certificates import searcher
from fiduciary.models._shap import draw_rows, reference_contributions
from fiduciary.models._trees import Trees, TreeScorer

ROWS = int(os.environ.get("FIDUCIARY_ROBUST_ROWS", "6000"))


def searched(scorer: TreeScorer, rows: np.ndarray) -> np.ndarray:
    margins = np.empty(len(rows))
    searcher(scorer.ranked).score(np.ascontiguousarray(rows), margins)
    return margins


def hard_rows(trees: Trees, n: int) -> np.ndarray:
    """Numbers on a threshold or one unit in the last place beside it; zeros, missing, extremes."""
    random = np.random.default_rng(8)
    rows = np.concatenate([draw_rows(contract(), trees, n // 3), rows_of(n - n // 3, 9)])
    for f in range(trees.features):
        cuts = np.array(
            [
                t
                for g, t, c in zip(trees.feature, trees.threshold, trees.categories, strict=True)
                if g == f and c is None
            ]
        )
        if not len(cuts):
            continue
        edge = random.choice(cuts, n)
        step = random.integers(-1, 2, n)
        towards = np.where(step > 0, np.inf, -np.inf)
        beside = np.nextafter(edge, towards)
        narrow = np.nextafter(edge.astype(np.float32), towards.astype(np.float32)).astype(np.float64)
        wide = np.where(random.random(n) < 0.5, beside, (narrow + edge) / 2)
        edge = np.where(step == 0, edge, wide)
        at = random.random(n) < 0.7
        rows[at, f] = edge[at]
    odd = np.array([0.0, -0.0, 1e-35, -1e-35, 1e-36, 1e300, -1e300, np.nan, 5e-324, -0.5, 3.7])
    at = random.random(rows.shape) < 0.02
    rows[at] = random.choice(odd, int(at.sum()))
    return rows


@pytest.mark.parametrize("kind", ["lightgbm", "zero is missing", "no missing", "xgboost", "deep"])
def test_the_search_scores_every_row_as_the_server_does(kind: str, tmp_path: Path) -> None:
    if kind == "xgboost":
        trees, scorer = xgboost_trees(40, 5, 3)
    elif kind == "deep":
        trees, scorer = lightgbm_trees(tmp_path / "m.txt", 120, 31, 4)
    else:
        more = {
            "lightgbm": {},
            "zero is missing": {"zero_as_missing": True},
            "no missing": {"use_missing": False},
        }
        trees, scorer = lightgbm_trees(tmp_path / "m.txt", 30, 15, 3, **more[kind])
    rows = hard_rows(trees, ROWS)
    assert len(rows) == ROWS
    mine, theirs = searched(scorer, rows), scorer.score(rows)
    assert int((mine.view(np.int64) != theirs.view(np.int64)).sum()) == 0
    for i in range(0, ROWS, ROWS // 20):  # and both as the plain reading of the trees says
        assert abs(reference_contributions(trees, rows[i].tolist())[0] - mine[i]) < 1e-9


def test_a_changed_threshold_would_be_seen(tmp_path: Path) -> None:
    """The comparison can fail: one threshold rounded to float32 already gives other margins on such rows."""
    trees, scorer = lightgbm_trees(tmp_path / "m.txt", 30, 15, 3)
    rows = hard_rows(trees, 6_000)
    trees.threshold = [float(np.float32(t)) for t in trees.threshold]
    rounded = TreeScorer("lightgbm", "logit", trees)
    assert (searched(rounded, rows) != scorer.score(rows)).any()


def test_arrays_that_are_no_trees_are_refused(tmp_path: Path) -> None:
    import dataclasses

    _, scorer = lightgbm_trees(tmp_path / "m.txt", 3, 5, 3)
    ranked = scorer.ranked
    for changes in (
        {"left": np.zeros_like(ranked.left)},
        {"column": np.full_like(ranked.column, 99)},
        {"value": ranked.value[:-1]},
        {"cuts_at": ranked.cuts_at[::-1].copy()},
    ):
        with pytest.raises(ValueError):
            searcher(dataclasses.replace(ranked, **changes))
