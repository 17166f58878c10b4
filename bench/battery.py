"""The release battery beside ValidMind's tests and a Giskard scan, on one table in one run: `make bench-battery`.

30,000 rows of 20 features, 20,000 to develop and 10,000 to judge; a logistic regression scores them. Every tool runs
in its own process and environment on one thread; imports, fitting and reading the table are not counted. Ours runs
twice: on that split, and with 30,000 rows on both sides. The work is not equal: ValidMind draws figures and searches
for weak spots, a Giskard scan perturbs rows, and neither has the calibration, migration or back-test of a regulated
lender. The ratio says what waiting for a release gate costs, not whose arithmetic is faster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fiduciary.checks import CATALOGUE, Sample, Subject, battery

ROOT = Path(__file__).resolve().parent.parent
FEATURES, DEVELOP, JUDGE = 20, 20_000, 10_000
ROUNDS = 5
FAMILIES = ("discrimination", "calibration", "stability", "basel", "data", "performance", "fairness")
PEERS = ("validmind", "giskard")


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, true probabilities and outcomes of n rows."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(n, FEATURES))
    table[:, 0] = rng.integers(0, 6, n)
    weights = np.random.default_rng(0).normal(size=FEATURES) * 0.35
    truth = 1 / (1 + np.exp(-(table @ weights - 1.7)))
    return table, truth, rng.random(n) < truth


def sample(table: np.ndarray, scores: np.ndarray, outcomes: np.ndarray, seed: int) -> Sample:
    """Everything that the checks of a regulated lender read."""
    rng = np.random.default_rng(seed)
    n = len(scores)
    grades = np.digitize(scores, [0.02, 0.05, 0.1, 0.2, 0.4]).astype(str)
    return Sample(
        rows=table,
        names=tuple(f"x{j}" for j in range(FEATURES)),
        scores=scores,
        margins=np.log(scores / (1 - scores)),
        outcomes=outcomes,
        decisions=np.where(scores < 0.2, "approve", np.where(scores < 0.3, "refer", "decline")),
        groups={"sex": rng.choice(["f", "m"], n), "age": rng.choice(["<25", "25-61", ">=62"], n)},
        reference={"sex": "m", "age": "25-61"},
        grades=grades,
        previous_grades=np.where(rng.random(n) < 0.8, grades, np.roll(grades, 1)),
        keys=np.arange(n) + seed * 1_000_000,
        exposure=rng.uniform(1_000, 50_000, n),
        classes=rng.choice(["retail", "revolving"], n),
        lgd=rng.uniform(0.2, 0.6, n),
        realised_lgd=rng.uniform(0.1, 0.7, n),
        ccf=rng.uniform(0.2, 0.6, n),
        realised_ccf=rng.uniform(0.1, 0.7, n),
        overridden=rng.random(n) < 0.03,
    )


def ours(n: int, m: int) -> tuple[float, float, int, list[tuple[float, str]]]:
    """Wall and CPU seconds of the battery (median of rounds on fresh samples), checks, the three slowest."""
    params = {
        "basel.pd_floor": {"floors": {"retail": 0.0005, "revolving": 0.001}},
        "performance.declared": {"value": 0.75},
    }
    names = [name for name, check in CATALOGUE.items() if name.split(".")[0] in FAMILIES and not check.heavy]
    found = []
    for _ in range(ROUNDS):
        parts = [sample(*rows(size, seed), seed) for size, seed in ((n, 1), (m, 2))]
        subject = Subject(sample=parts[0], development=parts[1])
        wall, cpu = time.perf_counter(), time.process_time()
        results = battery(subject, names, params)
        found.append((time.process_time() - cpu, time.perf_counter() - wall))
    judged = sum(r.value is not None for r in results)
    slowest = []
    for name in names:
        begin = time.perf_counter()
        battery(subject, [name], params)
        slowest.append((time.perf_counter() - begin, name))
    found.sort()
    cpu, wall = found[len(found) // 2]
    return wall, cpu, judged, sorted(slowest)[-3:]


def peer(name: str, folder: Path) -> dict | None:
    """What the peer's own process measured, or None with a line that says why not."""
    python = ROOT / ".venvs" / f"bench-{name}" / "bin" / "python"
    if not python.exists():
        print(f"{name}: not installed ({python.relative_to(ROOT)} is absent; make bench-battery installs it)")
        return None
    command = [str(python), str(ROOT / "bench" / "_peers" / f"{name}_battery.py"), "train.csv", "test.csv"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=900)
    if done.returncode:
        print(f"{name}: failed: {done.stderr.strip().splitlines()[-1:]}")
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.reconfigure(line_buffering=True)
    print(f"load before: {os.getloadavg()[0]:.2f}")
    header = ",".join([*(f"x{j}" for j in range(FEATURES)), "bad"])
    for name, size, seed in (("train", DEVELOP, 2), ("test", JUDGE, 1)):
        table, _, outcomes = rows(size, seed)
        stacked = np.column_stack([table, outcomes])
        formats = ["%.9g"] * FEATURES + ["%d"]
        np.savetxt(folder / f"{name}.csv", stacked, delimiter=",", header=header, comments="", fmt=formats)
    wall, cpu, judged, slowest = ours(JUDGE, DEVELOP)
    print(
        f"ours, {JUDGE:,} against {DEVELOP:,}: wall {wall:.3f} s, CPU {cpu:.3f} s, {judged} checks with a number"
    )
    large, large_cpu, judged, _ = ours(30_000, 30_000)
    print(
        f"ours, 30,000 against 30,000: wall {large:.3f} s, CPU {large_cpu:.3f} s, {judged} checks with a number"
    )
    print("  slowest: " + ", ".join(f"{name} {seconds * 1e3:.0f} ms" for seconds, name in slowest))
    for name in PEERS:
        theirs = peer(name, folder)
        if theirs is None:
            continue
        what = "tests" if name == "validmind" else "issues found in one scan"
        print(
            f"{name} {theirs['version']}: wall {theirs['wall']:.2f} s, CPU {theirs['cpu']:.2f} s, "
            f"{theirs['done']} {what}; "
            f"ratio to ours {theirs['wall'] / wall:.0f} (wall), {theirs['cpu'] / cpu:.0f} (CPU)"
        )
        for seconds, test in reversed(theirs["slowest"]):
            print(f"  {test} {seconds:.2f} s")
        for line in theirs["failed"]:
            print(f"  did not run: {line}")
    print(f"load after: {os.getloadavg()[0]:.2f}")
    print(f"bar: under 1 s of one core at 30,000 rows: {'holds' if large_cpu < 1 else 'MISSED'}")


if __name__ == "__main__":
    main()
