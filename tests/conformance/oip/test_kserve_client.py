"""The `kserve` client, REST and gRPC, against our V2 doors; and the same checks against MLServer with the same model,
so that the checks themselves are known to be passable. Both servers must give the same scores.

The client and MLServer live in environments of their own: `make test-conformance-oip` sets them up.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bank import DEVELOPER, OPERATOR, USE_CASE, VALIDATOR, Bank
from door import OpenGate
from fiduciary.models import Contract, Feature
from fiduciary.registry import build

ROOT = Path(__file__).resolve().parents[3]
CLIENT = ROOT / ".venvs" / "bench-kserve" / "bin" / "python"
MLSERVER = ROOT / ".venvs" / "bench-mlserver" / "bin" / "mlserver"
FEATURES = 5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not CLIENT.exists() or not MLSERVER.exists(), reason="needs environments: make test-conformance-oip"
    ),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LightGBM model with numeric features, as text."""
    import lightgbm

    rng = np.random.default_rng(5)
    rows = rng.normal(size=(2_000, FEATURES))
    target = (rng.random(2_000) < 1 / (1 + np.exp(2 - rows[:, 0] - rows[:, 1] * rows[:, 2]))).astype(float)
    data = lightgbm.Dataset(rows, target, feature_name=[f"f{i}" for i in range(FEATURES)])
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 30)
    path = tmp_path_factory.mktemp("model") / "model.bst"
    booster.save_model(path)
    return path


@pytest.fixture(scope="module")
def rows() -> list[list[float]]:
    found: list[list[float]] = np.random.default_rng(6).normal(size=(7, FEATURES)).tolist()
    return found


def client(
    folder: Path, rest: int, grpc: int, name: str, output: str, rows: list[list[float]], token: str
) -> Any:
    asked = folder / "asked.json"
    headers = {"Authorization": f"Bearer {token}"}
    asked.write_text(json.dumps({"rows": rows, "headers": headers, "health_in_json": output == "score"}))
    run = subprocess.run(
        [
            CLIENT, Path(__file__).with_name("v2_client.py"),
            f"http://127.0.0.1:{rest}", f"127.0.0.1:{grpc}", name, "rows", output, asked,
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[OpenGate]:
    from fiduciary.models._lightgbm import import_lightgbm

    folder = tmp_path_factory.mktemp("gate")
    contract = Contract(
        features=tuple(
            Feature(name=f"f{i}", type="number", reason=f"Figure {i} of the file stands out")
            for i in range(FEATURES)
        )
    )
    import_lightgbm(model, contract, folder / "model")
    bank = Bank(folder)
    population = np.random.default_rng(7).normal(size=(500, FEATURES))
    bundle = build(
        folder / "built",
        folder / "model",
        contract,
        USE_CASE,
        population,
        name="m",
        version="1",
        provenance={},
    )
    digest = bank.registry.propose(bundle, by=DEVELOPER, key=bank.key(DEVELOPER))
    bank.registry.check(digest, by=DEVELOPER, key=bank.key(DEVELOPER))
    bank.registry.approve(digest, by=VALIDATOR, key=bank.key(VALIDATOR))
    bank.registry.promote(digest, by=OPERATOR, key=bank.key(OPERATOR))
    gate = OpenGate(folder, bank=bank, grpc_port=0)
    yield gate
    gate.close()


@contextlib.contextmanager
def mlserver(folder: Path, model: Path) -> Iterator[tuple[int, int]]:
    """MLServer with the model; its REST and gRPC ports."""
    ports = []
    with contextlib.ExitStack() as held:
        for _ in range(3):
            taken = held.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))
            ports.append(taken.getsockname()[1])
    rest, grpc, metrics = ports
    (folder / "settings.json").write_text(
        json.dumps(
            {
                "http_port": rest,
                "grpc_port": grpc,
                "metrics_port": metrics,
                "host": "127.0.0.1",
                "parallel_workers": 0,
            }
        )
    )
    (folder / "model-settings.json").write_text(
        json.dumps(
            {
                "name": USE_CASE.name,
                "implementation": "mlserver_lightgbm.LightGBMModel",
                "parameters": {"uri": str(model)},
            }
        )
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([MLSERVER, "start", folder], stdout=log, stderr=log, cwd=folder)
        try:
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(OSError):
                    ready = f"http://127.0.0.1:{rest}/v2/models/{USE_CASE.name}/ready"
                    if urllib.request.urlopen(ready, timeout=2).status == 200:
                        break
                assert time.monotonic() < deadline and process.poll() is None, (folder / "log").read_text()[
                    -2000:
                ]
                time.sleep(0.2)
            yield rest, grpc
        finally:
            process.terminate()
            process.wait(20)


def test_the_kserve_client_works_with_us_and_with_mlserver_and_gets_the_same_scores(
    tmp_path: Path, ours: OpenGate, model: Path, rows: list[list[float]]
) -> None:
    grpc = ours.addresses.grpc_port
    assert grpc is not None
    from_us = client(tmp_path, ours.addresses.port, grpc, USE_CASE.name, "score", rows, ours.token)
    assert from_us["rest"] == from_us["grpc"] == from_us["raw"]
    assert [record.outcome != "refused" for record in ours.records()] == [True] * 21
    with mlserver(tmp_path, model) as (rest, theirs):
        from_them = client(tmp_path, rest, theirs, USE_CASE.name, "predict", rows, "unused")
    assert from_them["rest"] == from_them["grpc"] == from_them["raw"]
    assert from_us["rest"] == pytest.approx(from_them["rest"], abs=1e-9)


def test_the_kserve_client_is_refused_without_a_token(
    tmp_path: Path, ours: OpenGate, rows: list[list[float]]
) -> None:
    grpc = ours.addresses.grpc_port
    assert grpc is not None
    with pytest.raises(AssertionError, match="401"):
        client(tmp_path, ours.addresses.port, grpc, USE_CASE.name, "score", rows, "nonsense")
