"""Exact Shapley values of one row: our kernel against LightGBM's and XGBoost's own, on one thread.

Times are thread CPU time, median of rounds that take turns, so that a busy machine weighs on all alike.
Run: make bench-shap. `shap` is measured too if it is installed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import xgboost
from _model import DEPTH, TREES, workload

from fiduciary.models._lightgbm import Reference, parse
from fiduciary.models._shap import reference_contributions
from fiduciary.models._trees import TreeScorer

ROUNDS = 15


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    work = workload(folder)
    rows = work.population
    trees, link = parse(work.model.read_text())
    begin = time.process_time()
    ours = TreeScorer("lightgbm", link, trees)
    built = time.process_time() - begin
    facts = ours.kernel.facts()
    print(f"{TREES} trees, depth {DEPTH}, {work.leaves} leaves; built in {built:.2f} s of CPU: {facts}")

    judge = Reference(work.model)
    margins, shares = ours.explain(rows)
    theirs = judge.contributions(rows[:500])[:, :-1]
    plain = [reference_contributions(trees, row)[1] for row in rows[:5].tolist()]
    print(
        f"margins equal to LightGBM's, bit for bit, of {len(rows)}: {int((margins == judge.margins(rows)).sum())}"
    )
    print(
        f"largest difference to LightGBM's pred_contrib, 500 rows: {np.abs(shares[:500] - theirs).max():.1e}"
    )
    print(f"largest difference to the plain reference, 5 rows: {np.abs(shares[:5] - plain).max():.1e}")
    print(f"largest |bias + contributions - margin|: {np.abs(ours.bias + shares.sum(1) - margins).max():.1e}")

    kernel = ours.kernel
    by_edges = TreeScorer("lightgbm", link, trees, table_bytes=0)
    cases: dict[str, tuple[Callable[[np.ndarray], object], int, int]] = {}
    for n in (1, 8, 32, 64):
        margin, share = np.empty(n), np.empty((n, rows.shape[1]))

        def score(x: np.ndarray, margin: np.ndarray = margin) -> None:
            kernel.score(x, margin)

        def explain(x: np.ndarray, margin: np.ndarray = margin, share: np.ndarray = share) -> None:
            kernel.explain(x, margin, share)

        cases[f"ours, score, batch of {n}"] = score, n, max(200 // n, 4)
        cases[f"ours, score and explain, batch of {n}"] = explain, n, max(200 // n, 4)
    cases["ours without tables, explain, one row"] = by_edges.explain, 1, 10
    cases["LightGBM C API, score, one row (fast path)"] = lambda x: judge.one(x[0]), 1, 100
    cases["LightGBM C API, explain, one row (fast path)"] = (
        lambda x: judge.one(x[0], judge.CONTRIBUTIONS),
        1,
        4,
    )
    data = xgboost.DMatrix(rows, work.labels, nthread=1)
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": DEPTH, "eta": 0.05, "nthread": 1}, data, TREES
    )
    cases["XGBoost, explain, one row"] = (
        lambda x: booster.predict(xgboost.DMatrix(x, nthread=1), pred_contribs=True),
        1,
        3,
    )
    try:
        import shap

        explainer = shap.TreeExplainer(lightgbm.Booster(model_file=str(work.model)))
        cases["shap.TreeExplainer, one row"] = explainer.shap_values, 1, 2
    except ImportError:
        print("shap is not installed: not measured")
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(ROUNDS):
        for name, (call, n, repeats) in cases.items():
            at = number * 701 % 10_000
            call(rows[at : at + n])
            begin = time.thread_time()
            for i in range(repeats):
                call(rows[at + i * n : at + (i + 1) * n])
            times[name].append((time.thread_time() - begin) / repeats / n * 1e6)
    for name, found in times.items():
        print(f"{name:52s} {statistics.median(found):9.1f} us a row  (least {min(found):.1f})")


if __name__ == "__main__":
    main()
