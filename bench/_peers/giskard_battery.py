"""A Giskard scan on the benchmark's table, offline and in its own environment: prints one line of JSON."""

import json
import os
import sys
import time
import warnings

os.environ["GSK_DISABLE_ANALYTICS"] = "true"
warnings.filterwarnings("ignore")

import giskard  # noqa: E402
import pandas as pd  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402


def main() -> None:
    train, test = pd.read_csv(sys.argv[1]), pd.read_csv(sys.argv[2])
    features = [c for c in train.columns if c != "bad"]
    model = LogisticRegression(max_iter=500).fit(train[features], train["bad"])
    wrapped = giskard.Model(
        model=lambda table: model.predict_proba(table[features]),
        model_type="classification",
        classification_labels=[0, 1],
        feature_names=features,
    )
    dataset = giskard.Dataset(test, target="bad", cat_columns=[])
    wall, cpu = time.perf_counter(), time.process_time()
    report = giskard.scan(wrapped, dataset, verbose=False)
    answer = {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "done": len(report.issues),
        "failed": [],
        "slowest": [],
        "version": giskard.__version__,
    }
    print("\n" + json.dumps(answer))


main()
