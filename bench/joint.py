"""Joint training on this machine beside plaintext: whole jobs of three processes over pinned mutual TLS, interleaved.

    make bench-joint           a generated 30,000 x 23 table; ABY3; the first turn of each warms and is not counted

Prints wall and CPU seconds, bytes and rounds over all parties, peak memory of a worker, AUC and the plaintext AUC.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from fiduciary.joint import LocalFederation
from fiduciary.joint._estimators import SecureGradientBoosting, SecureLogisticRegression, SecureScorecard
from fiduciary.models import auc

PARTIES = ["bank", "telco", "regulator"]
ROWS, TEST, TURNS = 30_000, 10_000, 3


def main(folder: Path) -> None:
    X, y = make_classification(
        ROWS + TEST, 23, n_informative=12, n_redundant=0, weights=[0.78], flip_y=0.05, random_state=7
    )
    y = y.astype(float)
    names = [f"x{i}" for i in range(23)]
    train = {n: X[:ROWS, i] for i, n in enumerate(names)}
    test = {n: X[ROWS:, i] for i, n in enumerate(names)}
    columns = {
        "bank": {n: train[n] for n in names[:11]},
        "telco": {**{n: train[n] for n in names[11:]}, "y": y[:ROWS]},
    }
    halves = {
        "bank": {**{n: train[n][::2] for n in names}, "y": y[:ROWS:2]},
        "telco": {**{n: train[n][1::2] for n in names}, "y": y[1:ROWS:2]},
    }
    mean, spread = X[:ROWS].mean(0), X[:ROWS].std(0)
    Z, Zt = (X[:ROWS] - mean) / spread, (X[ROWS:] - mean) / spread

    def linear() -> float:
        return auc(LogisticRegression(max_iter=2_000).fit(Z, y[:ROWS]).decision_function(Zt), y[ROWS:])

    def trees() -> float:
        peer = HistGradientBoostingClassifier(
            max_iter=4, max_depth=3, max_bins=8, learning_rate=0.3, early_stopping=False
        ).fit(X[:ROWS], y[:ROWS])
        return auc(peer.decision_function(X[ROWS:]), y[ROWS:])

    jobs: dict[str, tuple[Callable[[], Any], dict[str, Any], str, Callable[[], float]]] = {
        "logistic regression, columns split": (SecureLogisticRegression, columns, "telco.y", linear),
        "scorecard, columns split": (SecureScorecard, columns, "telco.y", linear),
        "boosted trees (4), columns split": (
            lambda: SecureGradientBoosting(n_estimators=4), columns, "telco.y", trees,
        ),
        "logistic regression, rows split": (SecureLogisticRegression, halves, "*.y", linear),
    }  # fmt: skip
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in jobs}
    plain: dict[str, list[float]] = {name: [] for name in jobs}
    scores: dict[str, tuple[float, float]] = {}
    console = Console(width=180)
    load = os.getloadavg()
    with LocalFederation(PARTIES) as federation:
        for turn in range(TURNS + 1):
            for name, (make, given, label, peer) in jobs.items():
                model = make()
                begun = time.perf_counter()
                model.fit(federation, given, label=label)
                wall = time.perf_counter() - begun
                begun = time.perf_counter()
                wanted = peer()
                if turn:
                    plain[name].append(time.perf_counter() - begun)
                    measures = model.result_.measures.values()
                    taken[name].append(
                        {
                            "wall_s": wall,
                            "cpu_s": sum(float(m.get("cpu_seconds", 0.0)) for m in measures),
                            "mb": model.transcript_.sent_bytes / 1e6,
                            "rounds": float(model.transcript_.rounds),
                            "rss_mib": max(float(m.get("peak_rss_bytes", 0)) for m in measures) / 2**20,
                        }
                    )
                scores[name] = (auc(model.decision_function(test), y[ROWS:]), wanted)
    report = {
        name: {
            **{k: statistics.median(r[k] for r in rows) for k in rows[0]},
            "plain_s": statistics.median(plain[name]),
            "auc": scores[name][0],
            "plain_auc": scores[name][1],
        }
        for name, rows in taken.items()
    }
    heads = {
        "wall s": ("wall_s", ".2f"), "CPU s, all parties": ("cpu_s", ".1f"), "MB, all parties": ("mb", ".1f"),
        "rounds": ("rounds", ".0f"), "worker MiB": ("rss_mib", ".0f"), "AUC": ("auc", ".4f"),
        "plaintext AUC": ("plain_auc", ".4f"), "plaintext s": ("plain_s", ".2f"),
    }  # fmt: skip
    table = Table("job (30,000 x 23, ABY3)", *heads)
    for name, row in report.items():
        table.add_row(name, *[format(row[key], how) for key, how in heads.values()])
    console.print(f"load before {load[0]:.1f}, median of {TURNS} interleaved turns")
    console.print(table)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "joint.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "bench/out/joint"))
