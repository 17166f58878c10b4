"""ValidMind's tests on the benchmark's table, offline and in its own environment: prints one line of JSON."""

import json
import os
import sys
import time
import warnings

os.environ["VALIDMIND_LLM_DESCRIPTIONS_ENABLED"] = "0"
warnings.filterwarnings("ignore")

import pandas as pd  # noqa: E402
import validmind as vm  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from validmind.tests import run_test  # noqa: E402

DATA = "validmind.data_validation."
MODEL = "validmind.model_validation."
ON_DATA = [
    "ClassImbalance", "DatasetDescription", "DescriptiveStatistics", "Duplicates", "HighCardinality",
    "HighPearsonCorrelation", "IQROutliersTable", "MissingValues", "PearsonCorrelationMatrix", "Skewness",
    "TabularNumericalHistograms", "TooManyZeroValues", "UniqueRows",
]  # fmt: skip
ON_MODEL = [
    "sklearn.CalibrationCurve", "sklearn.ClassifierPerformance", "sklearn.ConfusionMatrix",
    "sklearn.MinimumAccuracy", "sklearn.MinimumF1Score", "sklearn.MinimumROCAUCScore",
    "sklearn.PermutationFeatureImportance", "sklearn.PrecisionRecallCurve", "sklearn.ROCCurve",
    "statsmodels.PredictionProbabilitiesHistogram", "statsmodels.CumulativePredictionProbabilities",
    "FeaturesAUC", "CalibrationByDecile",
]  # fmt: skip
ON_BOTH = [
    "sklearn.PopulationStabilityIndex", "sklearn.TrainingTestDegradation", "sklearn.OverfitDiagnosis",
    "sklearn.WeakspotsDiagnosis",
]  # fmt: skip


def main() -> None:
    train, test = pd.read_csv(sys.argv[1]), pd.read_csv(sys.argv[2])
    features = [c for c in train.columns if c != "bad"]
    model = LogisticRegression(max_iter=500).fit(train[features], train["bad"])
    ours = vm.init_model(model, input_id="model", __log=False)
    sets = []
    for name, table in (("train", train), ("test", test)):
        dataset = vm.init_dataset(dataset=table, input_id=name, target_column="bad", __log=False)
        dataset.assign_predictions(
            model=ours,
            prediction_values=model.predict(table[features]).tolist(),
            prediction_probabilities=model.predict_proba(table[features])[:, 1].tolist(),
        )
        sets.append(dataset)
    jobs = [(DATA + name, {"dataset": sets[1]}) for name in ON_DATA]
    jobs += [(MODEL + name, {"dataset": sets[1], "model": ours}) for name in ON_MODEL]
    jobs += [(MODEL + name, {"datasets": sets, "model": ours}) for name in ON_BOTH]
    done, failed, slowest = 0, [], []
    wall, cpu = time.perf_counter(), time.process_time()
    for name, inputs in jobs:
        begin = time.perf_counter()
        try:
            run_test(name, inputs=inputs, show=False, generate_description=False)
            done += 1
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}")
        slowest.append([time.perf_counter() - begin, name])
    answer = {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "done": done,
        "failed": failed,
        "slowest": sorted(slowest)[-3:],
        "version": vm.__version__,
    }
    print("\n" + json.dumps(answer))


main()
