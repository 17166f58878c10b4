"""Computing on ciphertexts: encrypted training and scoring, with times, memory and accuracy, beside the bare engines.

    make bench-joint-he                                     everything (about 15 minutes)
    make bench-joint-he BENCH_JOINT_HE="--only scoring"     or training

Training runs on a generated 30,000 x 23 table, breast cancer (scikit-learn's copy) and, where the folder of shared
data is there, German credit and 10,000 rows of the Taiwan default data. Times are of the machine that trains.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from conftest import shared_data_dir
from fiduciary.joint.he import ClientSide, EncryptedLogisticRegression, ServerSide, encoding_of
from fiduciary.joint.he._training import reference
from fiduciary.models import Contract, Feature, auc, import_linear, read_table, split_rows

F64 = np.ndarray[Any, Any]
BARE = """
import sys, time, json, numpy as np, tenseal as ts
c = ts.context(ts.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 60])
c.global_scale = 2**40; c.generate_galois_keys()
r = np.random.default_rng(0); X = r.normal(size=(4096, 23)); w = r.normal(size=23)
cs = [ts.ckks_vector(c, X[:, j]) for j in range(23)]; one = ts.ckks_vector(c, X[0])
def timed(f, n):
    t = []
    for _ in range(n):
        a = time.perf_counter(); f(); t.append(time.perf_counter() - a)
    return float(np.median(t))
def batch():
    z = cs[0] * float(w[0])
    for j in range(1, 23): z += cs[j] * float(w[j])
    return z + 0.5
print(json.dumps({"batch": timed(batch, 15), "row": timed(lambda: one.dot(w.tolist()) + 0.5, 31)}))
"""


def training_sets() -> list[tuple[str, F64, F64, F64, F64]]:
    """Name, training rows and labels, test rows and labels."""
    found = []
    X, y = make_classification(40_000, 23, n_informative=12, weights=[0.78], flip_y=0.05, random_state=7)
    found.append(("generated 30,000 x 23", X[:30_000], y[:30_000], X[30_000:], y[30_000:]))
    cancer = load_breast_cancer()
    train, _, test = split_rows("breast_cancer", len(cancer.target))
    y = (cancer.target == 0).astype(float)
    found.append(("breast_cancer", cancer.data[train], y[train], cancer.data[test], y[test]))
    data = shared_data_dir()
    if data is not None:
        for name, target, positive, skip, most in (
            ("german_credit", "class", 2, (), 10**9),
            ("taiwan_default", "default_next_month", 1, ("id", "sex", "marriage", "age"), 10_000),
        ):
            table = read_table(data / f"{name}.parquet")
            y = (np.asarray(table[target]).astype(int) == positive).astype(float)
            columns = []
            for column, values in table.items():
                if column in (target, *skip):
                    continue
                raw = np.asarray(values)
                if raw.dtype.kind in "OUS":
                    kinds = sorted(set(raw.tolist()))
                    columns += [(raw == kind).astype(float) for kind in kinds[1:]]
                else:
                    columns.append(raw.astype(float))
            X = np.column_stack(columns)
            train, _, test = split_rows(name, len(y))
            rows = np.flatnonzero(train)[:most] if train.dtype == bool else train[:most]
            found.append((f"{name} {len(rows):,} x {X.shape[1]}", X[rows], y[rows], X[test], y[test]))
    return found


def bench_training(python: Path, console: Console) -> list[dict[str, Any]]:
    results = []
    for name, X, y, Xt, yt in training_sets():
        for boot in (0, 2):
            model = EncryptedLogisticRegression(max_iter=6, steps_per_bootstrap=boot, python=python)
            with console.status(f"{name}, {'bootstrapped' if boot else 'levels only'}"):
                model.fit(X, y)
            white = model.whitenings_["owner"]
            clear = reference(
                white.whitened(X), y, step=model.step_, iterations=model.max_iter, sigmoid=model.sigmoid_
            )
            Z, Zt = white.standardised(X)[:, :-1], white.standardised(Xt)[:, :-1]
            best = LogisticRegression(C=1.0, max_iter=5_000).fit(Z, y)
            report = model.report_
            results.append(
                {
                    "set": name,
                    "mode": f"bootstrap every {boot}" if boot else "levels",
                    "ms_per_sample_iteration": report.milliseconds_per_sample_iteration,
                    "cpu_ms_per_sample_iteration": 1e3
                    * report.cpu_seconds["train"]
                    / (len(y) * model.max_iter),
                    "auc_encrypted": auc(model.decision_function(Xt), yt),
                    "auc_same_in_clear": auc(white.whitened(Xt) @ clear, yt),
                    "auc_converged": auc(best.decision_function(Zt), yt),
                    "weight_error": float(np.abs(model.weights_["owner"] - clear).max()),
                    "bootstrap_s": float(np.median(report.bootstrap_seconds)) if boot else 0.0,
                    "job_s": report.seconds,
                    "peak_mib": report.peak_mib,
                    "ring": report.ring,
                }
            )
    show(
        console,
        results,
        {
            "set": ("set", ""),
            "mode": ("mode", ""),
            "ms a sample-iteration": ("ms_per_sample_iteration", ".3f"),
            "CPU ms": ("cpu_ms_per_sample_iteration", ".3f"),
            "bootstrap s": ("bootstrap_s", ".1f"),
            "job s": ("job_s", ".0f"),
            "MiB": ("peak_mib", ""),
            "ring": ("ring", ""),
            "weight error": ("weight_error", ".1e"),
            "AUC encrypted": ("auc_encrypted", ".4f"),
            "in the clear": ("auc_same_in_clear", ".4f"),
            "converged": ("auc_converged", ".4f"),
        },
    )
    return results


def bench_scoring(python: Path, console: Console, folder: Path) -> dict[str, Any]:
    random = np.random.default_rng(0)
    terms = Contract(features=tuple(Feature(name=f"x{i}", type="number") for i in range(23)))
    scorer = import_linear(random.normal(size=23), 0.5, terms, folder)
    encoding, weights = encoding_of(scorer, terms)
    rows = random.normal(size=(4_096, 23))
    found: dict[str, Any] = {}
    bare = json.loads(
        subprocess.run([str(python), "-c", BARE], capture_output=True, check=True, text=True).stdout
    )
    for packing, n, repeats in (("columns", 4_096, 15), ("row", 1, 31)):
        with (
            ClientSide(encoding, "logit", python=python, packing=packing) as client,  # type: ignore[arg-type]
            ServerSide(weights, python=python) as server,
        ):
            server.load_keys(client.make_keys(), packing)  # type: ignore[arg-type]
            begun = time.perf_counter()
            sealed = client.encrypt(rows[:n])
            sealing = time.perf_counter() - begun
            samples = []
            for _ in range(repeats):
                begun = time.perf_counter()
                answer = server.score(sealed)
                samples.append(
                    [server.times["evaluate_s"], server.times["cpu_s"], time.perf_counter() - begun]
                )
            evaluate, cpu, whole = (float(x) for x in np.median(np.array(samples), axis=0))
            begun = time.perf_counter()
            margins = client.decrypt(answer, digits=12)
            opening = time.perf_counter() - begun
            found[packing] = {
                "rows": n,
                "encrypt_ms": 1e3 * sealing,
                "evaluate_ms": 1e3 * evaluate,
                "server_cpu_ms": 1e3 * cpu,
                "through_api_ms": 1e3 * whole,
                "decrypt_ms": 1e3 * opening,
                "bytes": sealed.bytes,
                "rows_per_s_evaluate": n / evaluate,
                "rows_per_s_through_api": n / whole,
                "error": float(np.abs(margins - scorer.score(rows[:n])).max()),
                "bare_engine_ms": 1e3 * bare["batch" if packing == "columns" else "row"],
            }
    show(
        console,
        [{"packing": packing, **r} for packing, r in found.items()],
        {
            "packing": ("packing", ""),
            "rows": ("rows", ","),
            "encrypt ms": ("encrypt_ms", ".1f"),
            "evaluate ms": ("evaluate_ms", ".2f"),
            "bare engine ms": ("bare_engine_ms", ".2f"),
            "through the API ms": ("through_api_ms", ".2f"),
            "decrypt ms": ("decrypt_ms", ".1f"),
            "rows/s evaluate": ("rows_per_s_evaluate", ",.0f"),
            "rows/s through the API": ("rows_per_s_through_api", ",.0f"),
            "bytes": ("bytes", ","),
            "error": ("error", ".0e"),
        },
    )
    return found


def show(console: Console, lines: list[dict[str, Any]], columns: dict[str, tuple[str, str]]) -> None:
    table = Table(*columns)
    for line in lines:
        table.add_row(*[format(line[key], how) for key, how in columns.values()])
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=Path, default=Path(".venvs"))
    parser.add_argument("--only", choices=["training", "scoring"])
    parser.add_argument("--out", type=Path, default=Path("bench/out/joint-he.json"))
    options = parser.parse_args()
    console = Console(width=200)
    load = os.getloadavg()
    console.print(f"{os.cpu_count()} cores, load before {load[0]:.1f} {load[1]:.1f} {load[2]:.1f}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    python = (options.workers / "worker-tenseal" / "bin" / "python").absolute()
    trainer = (options.workers / "worker-openfhe" / "bin" / "python").absolute()
    report: dict[str, Any] = {"load": load}
    if options.only != "training":
        report["scoring"] = bench_scoring(python, console, options.out.parent / "joint-he-model")
    if options.only != "scoring":
        report["training"] = bench_training(trainer, console)
    console.print(f"load after {os.getloadavg()[0]:.1f}")
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
