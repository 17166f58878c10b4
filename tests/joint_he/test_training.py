"""Encrypted training with the real engine: equal to the same algorithm in the clear, and opened by owners only."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from bank import contract, rows
from fiduciary.errors import JointError
from fiduciary.joint.he import EncryptedLogisticRegression, EncryptedScorecard
from fiduciary.joint.he import _training as training
from fiduciary.joint.he._process import run_training_command
from fiduciary.joint.he._training import reference
from fiduciary.models import auc
from joint_he_engines import engine, table


def clear(model: EncryptedLogisticRegression, blocks: dict[str, np.ndarray], y: np.ndarray) -> np.ndarray:
    white = np.column_stack([model.whitenings_[name].whitened(block) for name, block in blocks.items()])
    return reference(white, y, step=model.step_, iterations=model.max_iter, sigmoid=model.sigmoid_)


def test_levels_only_equals_the_clear_algorithm() -> None:
    X, y = table(900, 7)
    model = EncryptedLogisticRegression(max_iter=4, python=engine("openfhe")).fit(X, y)
    expected = clear(model, {"owner": X}, y)
    assert np.abs(model.weights_["owner"] - expected).max() < 2e-5  # what rounding to 5 places leaves
    assert model.report_.bootstraps == 0 and model.report_.depth == 13
    margins = model.whitenings_["owner"].whitened(X) @ expected
    assert round(auc(model.decision_function(X), y), 4) == round(auc(margins, y), 4)


def test_bootstrapping_equals_the_clear_algorithm() -> None:
    X, y = table(700, 3)
    model = EncryptedLogisticRegression(max_iter=5, steps_per_bootstrap=2, python=engine("openfhe")).fit(X, y)
    assert np.abs(model.weights_["owner"] - clear(model, {"owner": X}, y)).max() < 3e-4
    assert model.report_.bootstraps == 2


def test_two_of_three_owners_open_the_weights_and_one_cannot() -> None:
    X, y = table(400, 6)
    blocks = {"bank": X[:, :2], "telco": X[:, 2:4], "bureau": X[:, 4:]}
    model = EncryptedLogisticRegression(max_iter=2, agree=2, python=engine("openfhe"))
    model.fit(blocks, y, label="bank", away=("telco",))
    found = np.concatenate([model.weights_[name] for name in blocks])
    assert np.abs(found - clear(model, blocks, y)).max() < 2e-5
    with pytest.raises(JointError, match="2 must agree"):
        model.fit(blocks, y, label="bank", away=("telco", "bureau"))


def test_a_part_that_is_missing_opens_nothing(tmp_path: Path) -> None:
    """Without the second owner's part the fusion is refused, and with a foreign one it gives noise."""
    python = engine("openfhe")
    X, y = table(64, 2)
    job = {
        "rows": 64, "columns": 2, "iterations": 1, "owners": ["a", "b"], "steps_per_bootstrap": 0, "scale_bits": 50,
        "step": 4 / 64, "sigmoid": [0.15, -0.0016],
    }  # fmt: skip
    (tmp_path / "job.json").write_bytes(msgspec.json.encode(job))

    def run(*words: str) -> None:
        run_training_command(python, [words[0], str(tmp_path), *words[1:]], timeout_s=300)

    for name in "ab":
        (tmp_path / f"owner-{name}").mkdir()
        np.save(tmp_path / f"owner-{name}" / "cells.npy", X / X.std() if name == "a" else np.zeros((64, 2)))
    np.save(tmp_path / "owner-a" / "labels.npy", y)
    for command in ("keys", "keys-finish", "encrypt"):
        for name in "ab":
            run(command, name)
    run("train")
    run("partial", "a")
    with pytest.raises(JointError, match="missing: b"):
        run("fuse")
    (tmp_path / "part-b").write_bytes((tmp_path / "part-a").read_bytes())
    try:
        run("fuse")
    except JointError:
        return
    opened = np.load(tmp_path / "weights.npy")
    truth = 4 / 64 * (X / X.std()).T @ (y - 0.5)
    assert not np.abs(opened - truth).max() < 1.0


def test_the_training_machine_holds_no_secret_key_and_no_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Everything that lies before the training command is searched for the owners' numbers and keys."""
    X, y = table(300, 4)
    seen: list[str] = []
    real = training.run_training_command

    def watched(python: Path, words: list[str], **more: object) -> dict[str, object]:
        if words[0] == "train":
            folder = Path(words[1])
            names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
            assert not [n for n in names if "secret" in n or n.endswith(".npy") or n.startswith("owner-")], (
                names
            )
            plain = [np.float64(v).tobytes() for v in X[:50].ravel()]
            for name in names:
                raw = (folder / name).read_bytes()
                assert not any(v in raw for v in plain), name
            seen.extend(names)
        return real(python, words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "run_training_command", watched)
    EncryptedLogisticRegression(max_iter=2, python=engine("openfhe")).fit(X, y)
    assert "server/public" in seen and any(n.startswith("server/cells/") for n in seen)


def test_margins_that_leave_the_interval_are_refused() -> None:
    random = np.random.default_rng(1)
    X = random.normal(size=(200, 1))
    y = (X[:, 0] > 0).astype(float)
    X[0] = 1e5
    with pytest.raises(JointError, match="outside the sigmoid's interval"):
        EncryptedLogisticRegression(max_iter=3, sigmoid_range=2, clip=1e6, python=engine("openfhe")).fit(X, y)


def test_an_encrypted_scorecard_is_an_ordinary_scorecard(tmp_path: Path) -> None:
    given = rows(1_500)
    events = (np.random.default_rng(2).random(1_500) < 0.1 + 0.6 * given[:, 0]).astype(float)
    trainer = EncryptedScorecard(max_iter=3, python=engine("openfhe"))
    card = trainer.fit(given, events, contract())
    card.save(tmp_path)
    assert auc(card.score(given), events) > 0.6
    assert trainer.provenance()["revealed"]
