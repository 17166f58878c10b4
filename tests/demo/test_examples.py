"""The examples as a newcomer runs them: what should be refused is refused, and in this order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "credit" / "run.py"
STEPS = (
    "regb-6-effects",
    "stop it: gdpr-35",
    "somebody else must approve it",
    "rule gdpr-35 could not be judged",
    "dpia is filed by vera",
    "somebody else must approve it",
    "credit@1 is approved by vera",
    "decline: 0",
    '"referred_by": "gdpr-22"',
    "the same again, bit for bit",
    "VERIFIED: everything in this folder holds.",
    "NOT VERIFIED.",
)


def run_example(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FIDUCIARY_")}
    command = [sys.executable, str(SCRIPT), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)


@pytest.mark.slow
def test_credit_is_red_then_green_then_served_and_proved(tmp_path: Path) -> None:
    done = run_example("--out", str(tmp_path / "credit"))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    at = 0
    for step in STEPS:
        at = done.stdout.index(step, at) + len(step)
    assert "Traceback" not in done.stdout + done.stderr


def test_a_folder_that_is_no_example_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    assert run_example("--out", str(tmp_path)).returncode == 2
    assert (tmp_path / "thesis.txt").read_text() == "precious"
