"""Fairness checks on one thread: all ten on a release's sample, and rates by group against Fairlearn.

Times are process CPU time, the median of rounds that take turns. The same rates are asked of both: favourable
outcomes of all, of good and of bad risks, by group. Fairlearn is measured with labels as text and as numbers, since
text slows it down. Run: make bench-fairness
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate

from fiduciary.checks import CATALOGUE, Sample, Subject, battery, run_check

ROUNDS = 5
CASE = {"approve_below": 0.3, "decline_from": 0.45, "adverse": "high"}
METRICS = {"rate": selection_rate, "good": true_positive_rate, "bad": false_positive_rate}


def main() -> None:
    names = [name for name, check in CATALOGUE.items() if name.startswith("fairness.") and not check.heavy]
    whole = [spent(lambda: battery(portfolio(30_000, 20), names)) for _ in range(ROUNDS)]
    made = statistics.median(spent(lambda: portfolio(30_000, 20)) for _ in range(ROUNDS))
    took = statistics.median(whole) - made
    print(f"{len(names)} fairness checks, 30,000 rows, 20 features, 3 attributes: {took:.3f} s")
    for rows in (30_000, 300_000):
        times: dict[str, list[float]] = {"ours": [], "Fairlearn, text": [], "Fairlearn, numbers": []}
        for _ in range(ROUNDS):
            about = portfolio(rows, 1)
            assert about.sample is not None and about.sample.outcomes is not None
            good, approved = ~about.sample.outcomes, about.sample.scores < CASE["approve_below"]
            labels = about.sample.groups["race"]
            codes = np.unique(labels.astype(str), return_inverse=True)[1]
            found: dict[str, Any] = {}

            def ours(about: Subject = about, found: dict[str, Any] = found) -> None:
                params = {"attributes": ["race"], "minimum_rows": 1}
                found["rate"] = run_check("fairness.adverse_impact_ratio", about, params)
                found["odds"] = run_check("fairness.equalised_odds", about, params)

            def theirs(groups: Any, good: Any = good, approved: Any = approved) -> Any:
                return MetricFrame(
                    metrics=METRICS, y_true=good, y_pred=approved, sensitive_features=groups
                ).by_group

            times["ours"].append(spent(ours))
            times["Fairlearn, text"].append(spent(lambda labels=labels: theirs(labels)))
            times["Fairlearn, numbers"].append(spent(lambda codes=codes: theirs(codes)))
            frame = theirs(labels)
            lines = found["rate"].numbers["attributes"]["race"]["groups"]
            assert all(abs(line["rate"] - frame.loc[line["group"], "rate"]) < 1e-12 for line in lines)
        median = {name: statistics.median(values) for name, values in times.items()}
        print(f"rates of 5 groups, all, good and bad risks, {rows:,} rows:")
        for name, value in median.items():
            print(f"  {name:20s} {value * 1000:9.1f} ms  {value / median['ours']:7.1f} x")


def portfolio(rows: int, features: int) -> Subject:
    """A fresh subject each time: nothing is remembered from the round before."""
    rng = np.random.default_rng(1)
    scores = 1 / (1 + np.exp(1.0 - rng.normal(size=rows)))
    groups = {
        "race": rng.choice(["asian", "black", "hispanic", "other", "white"], rows).astype(object),
        "sex": rng.choice(["f", "m"], rows).astype(object),
        "age": rng.choice(["<25", "25-61", ">61"], rows).astype(object),
    }
    sample = Sample(
        rows=rng.normal(size=(rows, features)),
        names=tuple(f"f{i}" for i in range(features)),
        scores=scores,
        outcomes=rng.random(rows) < scores,
        groups=groups,
    )
    return Subject(sample=sample, use_case=CASE)


def spent(work: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
