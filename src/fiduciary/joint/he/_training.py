"""Train on ciphertexts: owners encrypt, a machine that holds no secret key trains, owners open the weights together.

Logistic regression by Newton steps with a fixed Hessian (Boehning and Lindsay, 1988): each owner whitens their own
columns in the clear, which makes the bound X'X / 4 a multiple of the identity for one owner and at most k times that
for k owners, so a plain gradient step of 4 / (k n) is the Newton step. The sigmoid is the least-squares cubic on
[-range, range]. `reference` is the same algorithm in the clear: the encrypted weights must equal it to the digits
that are kept. What the machine sees: sizes, the step, the number of iterations. What nobody proves: that it did them.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import JointError, LimitError, UsageError
from fiduciary.joint.he._process import run_training_command
from fiduciary.joint.he._threshold import join_secret, split_secret

F64 = NDArray[np.float64]
MAX_ROWS = 65_536
MAX_COLUMNS = 256
COMMAND_S = 3_600.0
RIDGE = 4.0
"""Over the number of rows, added to the diagonal of an owner's second moments: the bound of the Hessian with an L2
penalty of 1 (scikit-learn's C = 1). Nearly collinear columns are held back by it, and constant ones whiten."""
SCALE, SCALE_BOOTSTRAPPED = 50, 57
"""Bits of precision of a slot. A bootstrap at 50 bits keeps about three digits of a weight, at 57 about five."""
WIDER = 1.25
"""How far past the sigmoid's interval margins may lie before the result is refused."""


class TrainingReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the job went: for people, for the transcript and for a release's provenance."""

    engine: str
    owners: list[str]
    agree: int
    """How many owners must agree to open the weights."""
    rows: int
    columns: int
    iterations: int
    bootstraps: int
    ring: int
    depth: int
    step_seconds: list[float]
    bootstrap_seconds: list[float]
    cpu_seconds: dict[str, float]
    ciphertext_bytes: int
    peak_mib: int
    seconds: float
    revealed: list[str]

    @property
    def milliseconds_per_sample_iteration(self) -> float:
        """Time on the training machine, bootstraps included, per row and iteration."""
        total = sum(self.step_seconds) + sum(self.bootstrap_seconds)
        return 1e3 * total / (self.rows * self.iterations)


class Whitening(msgspec.Struct, frozen=True, kw_only=True):
    """What one owner does to their own columns, in the clear: center, scale, clip, decorrelate."""

    means: F64
    scales: F64
    clip: float
    mixing: F64
    """(columns, columns): whitened = standardised @ mixing."""

    @classmethod
    def of(cls, X: F64, clip: float, constant: bool) -> Whitening:
        """From an owner's rows (n, columns); `constant`: a column of ones is appended."""
        scales = X.std(axis=0)
        scales = np.where(scales > 1e-12, scales, 1.0)
        made = cls(means=X.mean(axis=0), scales=scales, clip=clip, mixing=np.eye(X.shape[1] + constant))
        Z = made.standardised(X)
        gram = Z.T @ Z / len(Z) + RIDGE / len(Z) * np.eye(Z.shape[1])
        return msgspec.structs.replace(made, mixing=np.linalg.inv(np.linalg.cholesky(gram)).T)

    def standardised(self, X: F64) -> F64:
        """Centered, scaled, clipped at `clip` standard deviations; with ones where the owner has the constant."""
        Z = np.clip((X - self.means) / self.scales, -self.clip, self.clip)
        return np.column_stack([Z, np.ones(len(Z))]) if len(self.mixing) > X.shape[1] else Z

    def whitened(self, X: F64) -> F64:
        """Rows with (nearly) the identity as their second moment."""
        white: F64 = self.standardised(X) @ self.mixing
        return white


def sigmoid_cubic(interval: float) -> tuple[float, float]:
    """c1, c3 of the least-squares cubic 1/2 + c1 z + c3 z^3 to the logistic function on [-interval, interval]."""
    z = np.linspace(-interval, interval, 4_001)
    basis = np.stack([z, z**3], axis=1)
    c1, c3 = np.linalg.lstsq(basis, 1 / (1 + np.exp(-z)) - 0.5, rcond=None)[0]
    return float(c1), float(c3)


def reference(X: F64, y: F64, *, step: float, iterations: int, sigmoid: tuple[float, float]) -> F64:
    """The same steps in the clear: weights (columns,) of whitened rows (n, columns) and labels (n,) 0 or 1."""
    w = np.zeros(X.shape[1])
    for _ in range(iterations):
        z = X @ w
        w = w + step * X.T @ (y - 0.5 - sigmoid[0] * z - sigmoid[1] * z**3)
    return w


class EncryptedLogisticRegression:
    """Logistic regression trained on ciphertexts, in the style of scikit-learn.

    `fit(X, y)` with one owner, or `fit({"bank": Xa, "telco": Xb}, y, label="bank")` with columns of several owners
    (row i of each is the same customer); all roles run as separate processes on this machine. `agree`: of several
    owners, how many can open the weights (all of them by default). `steps_per_bootstrap`: 0 trains on levels only
    (few iterations); 1 to 3 refreshes the weights that often, for as many iterations as asked (one owner only).
    `python`: interpreter of the OpenFHE environment. Raises `JointError` when margins leave the sigmoid's interval:
    a wrong model is never returned.
    """

    def __init__(
        self,
        *,
        max_iter: int = 6,
        sigmoid_range: float = 8.0,
        clip: float = 4.0,
        steps_per_bootstrap: int = 0,
        agree: int | None = None,
        python: Path | str = "python3.10",
    ) -> None:
        self.max_iter = max_iter
        self.sigmoid_range = sigmoid_range
        self.clip = clip
        self.steps_per_bootstrap = steps_per_bootstrap
        self.agree = agree
        self.python = python

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters by name."""
        names = ("max_iter", "sigmoid_range", "clip", "steps_per_bootstrap", "agree", "python")
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> EncryptedLogisticRegression:
        """Set parameters; returns itself. Raises `UsageError` for an unknown one."""
        for name, value in params.items():
            if name not in self.get_params():
                raise UsageError(f"there is no parameter {name!r}; there are {', '.join(self.get_params())}")
            setattr(self, name, value)
        return self

    def fit(
        self,
        X: F64 | Mapping[str, F64],
        y: F64,
        *,
        label: str = "",
        away: tuple[str, ...] = (),
        on_progress: Callable[[str], None] | None = None,
    ) -> EncryptedLogisticRegression:
        """Train. `away`: owners who are not there to open the weights; others stand in where `agree` allows it."""
        blocks = {"owner": np.asarray(X, np.float64)} if not isinstance(X, Mapping) else {
            str(k): np.asarray(v, np.float64) for k, v in X.items()
        }  # fmt: skip
        label = label or next(iter(blocks))
        y = np.asarray(y, np.float64)
        self._check(blocks, y, label)
        owners = list(blocks)
        agree = len(owners) if self.agree is None else self.agree
        if not set(away) <= set(owners):
            raise UsageError(f"those who are away must be owners: {', '.join(owners)}")
        if len(owners) - len(set(away)) < agree:
            raise JointError(
                f"{len(owners) - len(set(away))} owners are here to open the weights, and {agree} must agree"
            )
        self.whitenings_ = {
            name: Whitening.of(block, self.clip, name == label) for name, block in blocks.items()
        }
        white = {name: self.whitenings_[name].whitened(block) for name, block in blocks.items()}
        sizes = [w.shape[1] for w in white.values()]
        columns, rows = sum(sizes), len(y)
        if columns > MAX_COLUMNS:
            raise LimitError(f"{columns} columns; encrypted training takes at most {MAX_COLUMNS}")
        self.sigmoid_ = sigmoid_cubic(self.sigmoid_range)
        self.step_ = 4.0 / (len(owners) * rows)
        job = {
            "rows": rows,
            "columns": columns,
            "iterations": self.max_iter,
            "owners": owners,
            "steps_per_bootstrap": self.steps_per_bootstrap,
            "scale_bits": SCALE_BOOTSTRAPPED if self.steps_per_bootstrap else SCALE,
            "step": self.step_,
            "sigmoid": list(self.sigmoid_),
        }
        folder = Path(tempfile.mkdtemp(prefix="fiduciary-he-"))
        try:
            weights = self._run(folder, job, white, y, label, agree, away, on_progress)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        starts = np.cumsum([0, *sizes])
        self.weights_ = {name: weights[a:b] for name, a, b in zip(owners, starts, starts[1:], strict=False)}
        margins = sum((white[name] @ self.weights_[name] for name in owners), np.zeros(rows))
        widest = float(np.abs(margins).max())
        if not widest <= WIDER * self.sigmoid_range:
            raise JointError(
                f"margins reach {widest:.3g}, outside the sigmoid's interval of {self.sigmoid_range:g}: the model is "
                "refused; train with a larger sigmoid_range or fewer iterations"
            )
        self.widest_margin_ = widest
        self.label_ = label
        return self

    def decision_function(self, X: F64 | Mapping[str, F64]) -> F64:
        """Margins (n,)."""
        blocks = X if isinstance(X, Mapping) else {next(iter(self.weights_)): X}
        parts = [
            self.whitenings_[name].whitened(np.asarray(block, np.float64)) @ self.weights_[name]
            for name, block in blocks.items()
        ]
        total: F64 = np.sum(parts, axis=0)
        return total

    def predict_proba(self, X: F64 | Mapping[str, F64]) -> F64:
        """Probabilities (n, 2) of 0 and 1."""
        p = 1.0 / (1.0 + np.exp(-self.decision_function(X)))
        return np.column_stack([1.0 - p, p])

    # --- the job ---

    def _check(self, blocks: dict[str, F64], y: F64, label: str) -> None:
        if not blocks or label not in blocks:
            raise UsageError(f"the label's owner {label!r} is not among the owners {', '.join(blocks)}")
        for name, block in blocks.items():
            if block.ndim != 2 or not np.isfinite(block).all() or len(block) != len(y):
                raise UsageError(f"the rows of {name} must be finite numbers, as many as labels ({len(y)})")
            if not name.isidentifier() or len(name) > 40:
                raise UsageError(f"an owner's name is 1 to 40 letters, digits or _, not {name[:60]!r}")
        if y.ndim != 1 or not np.isin(y, (0.0, 1.0)).all() or len(np.unique(y)) != 2:
            raise UsageError("labels must be 0 and 1, both present")
        if not 8 <= len(y) <= MAX_ROWS:
            raise LimitError(f"{len(y)} rows; encrypted training takes 8 to {MAX_ROWS}")
        if not 1 <= self.max_iter <= 100 or not 0 <= self.steps_per_bootstrap <= 3:
            raise UsageError("max_iter is 1 to 100 and steps_per_bootstrap 0 to 3")
        if self.steps_per_bootstrap == 0 and self.max_iter > 10:
            raise UsageError("levels only reach 10 iterations; give steps_per_bootstrap for more")
        if not 2 <= self.sigmoid_range <= 20 or not 1 <= self.clip <= 1e6:
            raise UsageError("sigmoid_range is 2 to 20 and clip at least 1")
        if self.agree is not None and not 2 <= self.agree <= len(blocks):
            raise UsageError(f"agree is 2 to the number of owners ({len(blocks)}), not {self.agree}")

    def _run(
        self,
        folder: Path,
        job: dict[str, Any],
        white: dict[str, F64],
        y: F64,
        label: str,
        agree: int,
        away: tuple[str, ...],
        tell: Callable[[str], None] | None,
    ) -> F64:
        owners: list[str] = job["owners"]
        begun = time.perf_counter()
        (folder / "job.json").write_bytes(msgspec.json.encode(job))
        at = 0
        for name in owners:
            home = folder / f"owner-{name}"
            home.mkdir(mode=0o700)
            cells = np.zeros((job["rows"], job["columns"]))
            cells[:, at : at + white[name].shape[1]] = white[name]
            at += white[name].shape[1]
            np.save(home / "cells.npy", cells, allow_pickle=False)
        np.save(folder / f"owner-{label}" / "labels.npy", y, allow_pickle=False)
        cpu: dict[str, float] = {}
        peak = 0

        def run(*words: str) -> dict[str, Any]:
            nonlocal peak
            if tell is not None:
                tell(" ".join(words))
            said = run_training_command(
                Path(self.python), [words[0], str(folder), *words[1:]], timeout_s=COMMAND_S, tell=tell
            )
            cpu[words[0]] = cpu.get(words[0], 0.0) + said["cpu_seconds"]
            peak = max(peak, said["peak_mib"])
            return said

        made = [run("keys", name) for name in owners][-1]
        if len(owners) > 1:
            for name in owners:
                run("keys-finish", name)
        pieces = _seal_shares(folder, owners, agree) if agree < len(owners) else {}
        size = max(run("encrypt", name)["bytes"] for name in owners)
        hidden = _hide(folder, owners)  # the machine that trains has its own folder and nothing else
        trained = run("train")
        _unhide(hidden)
        for name in away:
            (folder / f"owner-{name}" / "secret").unlink()
        for name in owners:
            if name in away:
                _stand_in(folder, name, owners, agree, pieces, away)
            run("partial", name)
        if len(owners) > 1:
            run("fuse")
        self.report_ = TrainingReport(
            engine="openfhe-ckks",
            owners=owners,
            agree=agree,
            rows=job["rows"],
            columns=job["columns"],
            iterations=job["iterations"],
            bootstraps=len(trained["bootstraps"]),
            ring=made["ring"],
            depth=made["depth"],
            step_seconds=trained["steps"],
            bootstrap_seconds=trained["bootstraps"],
            cpu_seconds=cpu,
            ciphertext_bytes=size,
            peak_mib=peak,
            seconds=time.perf_counter() - begun,
            revealed=[
                "to the machine that trains: rows, columns, iterations, step, sigmoid",
                "to the owners: the rounded weights, and through them what a model tells of its rows",
            ],
        )
        weights: F64 = np.load(folder / "weights.npy", allow_pickle=False)
        return weights


def _seal_shares(folder: Path, owners: list[str], agree: int) -> dict[str, dict[int, int]]:
    """Seal each owner's secret key share for k of n; returns owner -> pieces, one for every owner."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    pieces = {}
    for name in owners:
        key, nonce = secrets.token_bytes(32), secrets.token_bytes(12)
        share = (folder / f"owner-{name}" / "secret").read_bytes()
        sealed = nonce + AESGCM(key).encrypt(nonce, share, name.encode())
        (folder / f"sealed-{name}").write_bytes(sealed)
        pieces[name] = split_secret(key, agree, len(owners))
    return pieces


def _stand_in(
    folder: Path,
    name: str,
    owners: list[str],
    agree: int,
    pieces: dict[str, dict[int, int]],
    away: tuple[str, ...],
) -> None:
    """Restore the share of an owner who is away from the pieces of those who are here."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    here = {i + 1: pieces.get(name, {}).get(i + 1, -1) for i, owner in enumerate(owners) if owner not in away}
    if not pieces or len(here) < agree:
        raise JointError(f"{name} is away, and {len(here)} owners are here of {agree} who must agree")
    sealed = (folder / f"sealed-{name}").read_bytes()
    share = AESGCM(join_secret(here, agree)).decrypt(sealed[:12], sealed[12:], name.encode())
    place = folder / f"owner-{name}" / "secret"
    place.touch(mode=0o600)
    place.write_bytes(share)


def _hide(folder: Path, owners: list[str]) -> list[tuple[Path, Path]]:
    """Move the owners' folders away while the machine trains, so that it could not read them by mistake."""
    aside = Path(tempfile.mkdtemp(prefix="fiduciary-owners-"))
    moved = []
    for name in owners:
        place = folder / f"owner-{name}"
        place.replace(aside / place.name)
        moved.append((place, aside / place.name))
    return moved


def _unhide(moved: list[tuple[Path, Path]]) -> None:
    for place, now in moved:
        now.replace(place)
    moved[0][1].parent.rmdir()
