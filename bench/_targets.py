"""The servers of the benchmark: how each is started, what it is sent, where the score stands."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import _model
import _ours
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "_peers"
JSON = MappingProxyType({"Content-Type": "application/json"})
PEER_NAMES = (
    "mlserver", "mlserver+httptools", "kserve", "mlflow", "mlflow+httptools", "fastapi", "fastapi-explained",
)  # fmt: skip
NOTHING: Mapping[str, str] = MappingProxyType({})


class Target(NamedTuple):
    """One server to measure."""

    name: str
    does: str
    """What comes with the score."""
    path: str
    bodies: list[bytes]
    score: Callable[[bytes], float]
    """The score in an answer."""
    expected: np.ndarray
    """float64[rows]: the score every body must get."""
    command: Callable[[list[int]], list[str]]
    """The command line, given three free ports; the first is the one to drive."""
    packages: tuple[str, ...]
    """Packages whose versions are worth stating; looked up in the server's own environment."""
    env: Mapping[str, str] = NOTHING
    headers: Mapping[str, str] = JSON
    home: _ours.Home | None = None
    """Ours: where its ledger lies, to be counted and verified afterwards."""


def targets(folder: Path, work: _model.Workload, wanted: Callable[[str], bool]) -> list[Target]:
    """The wanted servers, in the order of the table. Ours first."""
    names = [v.name for v in _ours.VARIANTS if wanted(v.name)]
    return [_our(folder, work, name) for name in names] + [t for t in _peers(folder, work) if wanted(t.name)]


def _our(folder: Path, work: _model.Workload, name: str) -> Target:
    variant = next(v for v in _ours.VARIANTS if v.name == name)
    home = _ours.make_home(folder / name, work, variant)
    return Target(
        name=name,
        does=variant.does,
        path=home.path,
        bodies=home.bodies,
        score=home.score,
        expected=home.expected,
        command=lambda ports: home.command(ports[0], variant.workers),
        packages=("fiduciary", "lightgbm", "uvloop", "httptools"),
        headers=home.headers,
        home=home,
    )


def _peers(folder: Path, work: _model.Workload) -> list[Target]:
    v2 = ("/v2/models/credit/infer", [_model.v2_body(row) for row in work.rows], _v2_score, work.scores)
    flow = ("/invocations", [_model.mlflow_body(row) for row in work.rows], _mlflow_score, work.scores)
    plain = ("/score", [_model.list_body(row) for row in work.rows], _hand_score, work.scores)
    faster = {"PYTHONPATH": str(folder / "faster")}
    quiet = {"UVICORN_ACCESS_LOG": "false", "UVICORN_LOG_LEVEL": "error"}
    model = str(work.model)

    def mlserver(name: str) -> Callable[[list[int]], list[str]]:
        return lambda ports: _mlserver(folder / name, work.model, ports)

    def mlflow(ports: list[int]) -> list[str]:
        _faster_http(folder / "faster")
        serve = [
            _program("mlflow", "mlflow"),
            "models",
            "serve",
            "-m",
            str(_mlflow_model(folder, work.model)),
        ]
        return [*serve, "-h", "127.0.0.1", "-p", str(ports[0]), "--env-manager", "local", "--workers", "1"]

    def script(peer: str, file: str, *first: str) -> Callable[[list[int]], list[str]]:
        return lambda ports: [_program(peer, "python"), str(PEERS / file), *first, str(ports[0]), model]

    mlserver_has = ("mlserver", "mlserver-lightgbm", "lightgbm", "uvicorn")
    mlflow_has = ("mlflow", "lightgbm", "uvicorn")
    kserve_has = ("kserve", "lightgbm", "uvicorn")
    by_hand = ("fastapi", "lightgbm", "uvicorn")
    hand = "fastapi_server.py"
    return [
        Target("mlserver", "score", *v2, mlserver("mlserver"), mlserver_has),
        Target("mlserver+httptools", "score", *v2, mlserver("mlserver+httptools"), mlserver_has, faster),
        Target("kserve", "score", *v2, script("kserve", "kserve_server.py"), kserve_has),
        Target("mlflow", "score", *flow, mlflow, mlflow_has, quiet),
        Target("mlflow+httptools", "score", *flow, mlflow, mlflow_has, {**quiet, **faster}),
        Target("fastapi", "score", *plain, script("fastapi", hand, "bare"), by_hand),
        Target("fastapi-explained", "score, SHAP", *plain, script("fastapi", hand, "explained"), by_hand),
    ]


def environment(peer: str) -> Path:
    """The bin folder of a peer's virtual environment."""
    folder = ROOT / ".venvs" / f"bench-{peer}" / "bin"
    if not (folder / "python").exists():
        raise SystemExit(f"the environment of {peer} is missing: make .venvs/bench-{peer}/.ready")
    return folder


def _program(peer: str, name: str) -> str:
    return str(environment(peer) / name)


def _faster_http(link: Path) -> None:
    """Link httptools and uvloop alone out of FastAPI's environment.

    MLServer and MLflow come without httptools (MLflow without uvloop too) and parse HTTP in plain Python. The
    `+httptools` servers show them at their best, not as they install.
    """
    link.mkdir(parents=True, exist_ok=True)
    site = next((environment("fastapi").parent / "lib").glob("python3.*/site-packages"))
    for package in ("httptools", "uvloop"):
        with contextlib.suppress(FileExistsError):
            (link / package).symlink_to(site / package)


def _mlserver(place: Path, model: Path, ports: list[int]) -> list[str]:
    _faster_http(place.parent / "faster")
    (place / "credit").mkdir(parents=True, exist_ok=True)
    addresses = {"host": "127.0.0.1", "http_port": ports[0], "grpc_port": ports[1], "metrics_port": ports[2]}
    settings = {**addresses, "parallel_workers": 0, "debug": False, "use_structured_logging": False}
    served = {"name": "credit", "implementation": "mlserver_lightgbm.LightGBMModel"}
    (place / "settings.json").write_text(json.dumps(settings))
    (place / "credit" / "model-settings.json").write_text(
        json.dumps({**served, "parameters": {"uri": str(model)}})
    )
    return [_program("mlserver", "mlserver"), "start", str(place)]


def _mlflow_model(folder: Path, model: Path) -> Path:
    place = folder / "mlflow-model"
    if not (place / "MLmodel").exists():
        shutil.rmtree(place, ignore_errors=True)
        save = [_program("mlflow", "python"), str(PEERS / "mlflow_save.py"), str(model), str(place)]
        done = subprocess.run(save, env=environ("mlflow"), cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"MLflow could not save the model: {done.stderr[-1000:]}")
    return place


def _v2_score(answer: bytes) -> float:
    return float(json.loads(answer)["outputs"][0]["data"][0])


def _mlflow_score(answer: bytes) -> float:
    return float(json.loads(answer)["predictions"][0])


def _hand_score(answer: bytes) -> float:
    return float(json.loads(answer)["score"])


def environ(name: str, more: Mapping[str, str] = NOTHING) -> dict[str, str]:
    """What a server runs under: one thread, no telemetry, its own environment first in the path."""
    peer = name.split("+")[0].split("-")[0]
    first = Path(sys.executable).parent if peer == "ours" else environment(peer)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FIDUCIARY_", "PYTHON", "UVICORN_"))}
    return {
        **kept,
        "PATH": f"{first}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        **more,
    }


def versions(target: Target) -> dict[str, str]:
    """Installed versions in the environment the target runs in."""
    program = (
        "import sys, json, importlib.metadata as m\n"
        "print(json.dumps({n: m.version(n) for n in sys.argv[1:]} | {'python': sys.version.split()[0]}))"
    )
    env = environ(target.name)
    python = shutil.which("python", path=env["PATH"]) or sys.executable
    command = [python, "-c", program, *target.packages]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    found: dict[str, str] = json.loads(done.stdout)
    return found
