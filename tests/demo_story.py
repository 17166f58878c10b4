"""Running `fiduciary demo credit` as a newcomer would, and what it must have told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def run_demo(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FIDUCIARY_")}
    return subprocess.run(
        [sys.executable, "-m", "fiduciary", "demo", "credit", *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=280,
        check=False,
    )


def area(folder: Path, family: str) -> float:
    return float(json.loads((folder / family / "training.json").read_text())["test"]["auc"])


STEPS = (
    "somebody else must approve it",
    "credit@1 is approved by vera",
    "the same again, bit for bit",
    "VERIFIED: everything in this folder holds.",
    "NOT VERIFIED.",
    "credit@2 is suspended",
    "no approved release is live",
    "is gone for good",
    "0 differ",
    "everything holds",
)


def assert_told(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    at = 0
    for step in STEPS:
        at = done.stdout.index(step, at)
    assert "Traceback" not in done.stdout + done.stderr
