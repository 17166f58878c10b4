"""The program starts quickly because nothing heavy is imported before it is needed, and it answers in plain words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "numpy",
    "cryptography",
    "cedarpy",
    "uvicorn",
    "starlette",
    "msgspec",
    "lightgbm",
    "xgboost",
    "onnxruntime",
    "pyarrow",
    "grpc",
    "prometheus_client",
    "fiduciary.gate",
    "fiduciary.models",
    "fiduciary.ledger",
)
ASK = """
import json, sys
from fiduciary.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print("\\n@" + json.dumps([end.code, sorted(m for m in sys.modules)]))
"""


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FIDUCIARY_")}
    command = [sys.executable, "-c", ASK, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, env=environment)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = run(*arguments)
    code, modules = json.loads(done.stdout.rpartition("@")[2])
    assert code in (0, 2), done.stderr
    assert [name for name in HEAVY if name in modules] == []


def test_completion_imports_nothing_heavy() -> None:
    done = run("completion", "bash")
    code, modules = json.loads(done.stdout.rpartition("@")[2])
    assert code == 0 and "_FIDUCIARY_COMPLETE" in done.stdout
    assert [name for name in HEAVY if name in modules] == []


def test_an_unknown_command_names_a_near_one() -> None:
    done = run("relaese")
    assert json.loads(done.stdout.rpartition("@")[2])[0] == 2
    assert "relaese" in done.stderr and "release" in done.stderr and "Traceback" not in done.stderr
