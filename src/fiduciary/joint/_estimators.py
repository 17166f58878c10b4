"""Estimators a data scientist knows, over columns that stay with their owners.

    with LocalFederation(["bank", "telco", "regulator"]) as federation:
        model = SecureScorecard().fit(federation, columns, label="telco.default")
    model.predict_proba(joined_columns)

The same object trains on this machine and between organisations: it knows `Engine` only. `get_params`,
`set_params` and scikit-learn's `clone` work; scikit-learn itself is not needed.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import JointError, UsageError
from fiduciary.joint._engine import Engine, Progress, RunResult
from fiduciary.joint._estimator_models import (
    Design,
    linear_model,
    read_design,
    rows_of,
    scorecard_model,
    tree_model,
)
from fiduciary.joint._transcript import Transcript
from fiduciary.models import Contract, Points, Scorer, probability

F64 = NDArray[np.float64]
Tell = Callable[[Progress], None]
CONTRACT_FILE = "contract.json"
TRAINING_FILE = "training.json"


class Privacy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Differential privacy of the released weights: output perturbation with Gaussian noise (Chaudhuri et al. 2011;
    Balle and Wang 2018 for its scale), drawn by every party and added before anything is revealed.

    It holds for adding or removing one row, for the minimum that training converged to; `l2` must be large enough
    for the noise to be small. `row_norm`: rows are cut to this Euclidean norm of the design.
    """

    epsilon: float
    delta: float = 1e-5
    row_norm: float = 5.0

    def __post_init__(self) -> None:
        if not (0 < self.epsilon <= 100 and 0 < self.delta < 0.1 and 0 < self.row_norm <= 1000):
            raise UsageError("privacy needs 0 < epsilon <= 100, 0 < delta < 0.1 and 0 < row_norm <= 1000")


class SecureEstimator:
    """What the estimators share. Attributes that end in _ exist after `fit`."""

    program: ClassVar[str]
    kind: ClassVar[str]
    rows_program: ClassVar[str]
    transcript_: Transcript
    result_: RunResult
    design_: Design
    contract_: Contract
    scorer_: Scorer
    classes_: NDArray[np.int64]

    # -- scikit-learn's manners --------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments and their values."""
        return {
            name: getattr(self, name)
            for name in inspect.signature(type(self).__init__).parameters
            if name != "self"
        }

    def set_params(self, **params: Any) -> Self:
        """Change arguments. Raises `UsageError` for an unknown name."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise UsageError(
                    f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(known)}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_params().items())})"

    # -- training ----------------------------------------------------------------------------------------------

    def fit(
        self,
        federation: Engine,
        columns: Mapping[str, Mapping[str, Any]],
        *,
        label: str,
        features: Mapping[str, Sequence[str]] | None = None,
        weight: str | None = None,
        receivers: Sequence[str] | None = None,
        on_progress: Tell | None = None,
    ) -> Self:
        """Train. `columns`: party -> its own columns (n,), of the parties of this machine; rows are aligned.

        `label`, `weight`: "party.column" (0 and 1, 1 is the event; weights are not negative and of the same party).
        Where owners hold different rows of the same columns, label and weight are "*.column", and `features` may be
        {"*": names}: only sums over all owners are opened then, whatever the number of rows.
        `features`: party -> names; left out: all its columns but label and weight. `receivers`: who learns the
        model; left out: the label's party. Raises `UsageError` for what cannot be trained, `JointError` when the
        job ends without a result.
        """
        if label.startswith("*."):
            return self._fit_rows(federation, columns, label[2:], features, weight, receivers, on_progress)
        holder, target = _place(label, "label", federation)
        weighting = _place(weight, "weight", federation) if weight else None
        if weighting and weighting[0] != holder:
            raise UsageError(f"weights must lie with the label, at {holder}, not at {weighting[0]}")
        taken = {target} | ({weighting[1]} if weighting else set())
        chosen = {
            p: [str(n) for n in names]
            for p, names in (
                features
                or {p: [n for n in c if not (p == holder and n in taken)] for p, c in columns.items()}
            ).items()
            if names
        }
        _check_features(federation, columns, chosen, holder, taken)
        params = self._validated(sum(len(v) for v in chosen.values()))
        params |= {
            "features": chosen,
            "label": [holder, target],
            "weight": weighting[1] if weighting else None,
        }
        privacy = getattr(self, "privacy", None)
        result = federation.run(
            self.program,
            params,
            columns,
            list(receivers) if receivers is not None else [holder],
            privacy={"epsilon": privacy.epsilon, "delta": privacy.delta} if privacy else None,
            on_progress=on_progress,
        )
        return self._keep(result)

    def _fit_rows(
        self,
        federation: Engine,
        columns: Mapping[str, Mapping[str, Any]],
        label: str,
        features: Mapping[str, Sequence[str]] | None,
        weight: str | None,
        receivers: Sequence[str] | None,
        on_progress: Tell | None,
    ) -> Self:
        if not hasattr(type(self), "rows_program"):
            raise UsageError(f"{type(self).__name__} takes columns of different owners, not rows")
        if getattr(self, "privacy", None) is not None:
            raise UsageError(
                "privacy is for columns of different owners; sums of rows are opened without noise"
            )
        if weight is not None and not weight.startswith("*."):
            raise UsageError('where owners hold different rows, weight is written "*.column"')
        weighting = weight[2:] if weight else None
        owners = [p for p in federation.parties if columns.get(p)]
        if features:
            names = [str(n) for n in features.get("*", next(iter(features.values())))]
        else:
            names = [n for n in columns[owners[0]] if n not in (label, weighting)] if owners else []
        for p in owners:
            if absent := [
                n for n in [*names, label, *([weighting] if weighting else [])] if n not in columns[p]
            ]:
                raise UsageError(f"{p} has no column {', '.join(map(repr, absent[:5]))}")
        if not owners or not names or label in names:
            raise UsageError(
                "rows of different owners need owners, features, and a label that is none of them"
            )
        params = self._validated(len(names))
        params |= {"names": names, "owners": owners, "label": label, "weight": weighting}
        to = list(receivers) if receivers is not None else owners
        return self._keep(federation.run(self.rows_program, params, columns, to, on_progress=on_progress))

    def _keep(self, result: RunResult) -> Self:
        self.result_, self.transcript_ = result, result.transcript
        if "design" in result.outputs:
            self.design_ = read_design(result.outputs)
            self.classes_ = np.array([0, 1])
            self.scorer_, self.contract_ = self._model(self.design_, result.outputs)
        return self

    def _validated(self, features: int) -> dict[str, Any]:
        raise NotImplementedError

    def _model(self, design: Design, outputs: Mapping[str, Any]) -> tuple[Scorer, Contract]:
        raise NotImplementedError

    # -- after training ----------------------------------------------------------------------------------------

    def _fitted(self) -> None:
        if not hasattr(self, "scorer_"):
            raise JointError("the model was not fitted, or was not revealed to a party of this machine")

    def rows(self, columns: Mapping[str, Any]) -> F64:
        """Rows (n, features) in the model's order, from columns by name (or party -> columns)."""
        self._fitted()
        merged: dict[str, Any] = {}
        for name, value in columns.items():
            if isinstance(value, Mapping):
                merged |= {f"{name}.{inner}": v for inner, v in value.items()} | dict(value)
            else:
                merged[name] = value
        return rows_of(self.design_.in_order(), merged)

    def decision_function(self, columns: Mapping[str, Any]) -> F64:
        """Log-odds of the event (n,)."""
        return self.scorer_.score(self.rows(columns))

    def predict_proba(self, columns: Mapping[str, Any]) -> F64:
        """Probabilities (n, 2): no event, event."""
        p = probability(self.decision_function(columns), "logit")
        return np.stack([1.0 - p, p], 1)

    def predict(self, columns: Mapping[str, Any]) -> NDArray[np.int64]:
        """1 where the event is likelier than not (n,)."""
        return (self.decision_function(columns) > 0).astype(np.int64)

    def provenance(self) -> dict[str, Any]:
        """What a validator reads: protocol, parties, what was revealed, budget, and the signed transcript."""
        self._fitted()
        body = self.transcript_.body
        return {
            "kind": "joint",
            "estimator": type(self).__name__,
            "parameters": {k: _plain(v) for k, v in self.get_params().items()},
            "program": body["program"],
            "protocol": body["protocol"],
            "parties": [p["name"] for p in body["parties"]],
            "rows": self.design_.rows,
            "passes": self.design_.passes,
            "sigmoid": self.design_.sigmoid,
            "revealed_to": body["outputs"],
            "leaks": body["leaks"],
            "privacy": body["privacy"],
            "sent_bytes": self.transcript_.sent_bytes,
            "seconds": self.transcript_.seconds,
            "transcript": self.transcript_.document(),
        }

    def save(self, directory: Path | str) -> Path:
        """Write a model folder for `fiduciary release build`: the model, `contract.json` and `training.json`."""
        self._fitted()
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        self._write(folder)
        (folder / CONTRACT_FILE).write_bytes(self.contract_.to_json())
        (folder / TRAINING_FILE).write_bytes(
            msgspec.json.format(msgspec.json.encode(self.provenance()), indent=1)
        )
        return folder

    def _write(self, folder: Path) -> None:
        self.scorer_.save(folder)  # type: ignore[attr-defined]


class SecureLogisticRegression(SecureEstimator):
    """Logistic regression on standardised columns; `l2` is scikit-learn's 1 / C.

    `class_weight`: None or "balanced". `sigmoid`: "auto" takes a fast polynomial and begins again with the exact
    one when a margin leaves its interval; "exact" takes that at once. `tol`: largest step (in standard deviations
    of the margin, over two) at which training stops.
    """

    program = "fiduciary.lr.newton@1"
    rows_program = "fiduciary.lr.rows@1"
    kind = "linear"
    design = "standard"

    def __init__(
        self,
        l2: float = 1.0,
        max_iter: int = 20,
        tol: float = 1e-3,
        class_weight: str | None = None,
        sigmoid: str = "auto",
        min_rows: int = 20,
        privacy: Privacy | None = None,
    ) -> None:
        self.l2, self.max_iter, self.tol, self.class_weight = l2, max_iter, tol, class_weight
        self.sigmoid, self.min_rows, self.privacy = sigmoid, min_rows, privacy

    def _validated(self, features: int) -> dict[str, Any]:
        _within(self, "l2", 1e-6, 1e6)
        _whole(self, "max_iter", 3, 500)
        _within(self, "tol", 1e-4, 1.0)
        _whole(self, "min_rows", 1, 10_000_000)
        _choice(self, "class_weight", (None, "balanced"))
        _choice(self, "sigmoid", ("auto", "fast", "exact"))
        privacy = None
        if self.privacy is not None:
            if not isinstance(self.privacy, Privacy):
                raise UsageError("privacy is a Privacy(epsilon=..., delta=..., row_norm=...)")
            if self.class_weight:
                raise UsageError(
                    "privacy cannot be promised with class weights: the noise does not cover them"
                )
            privacy = {"sigma": self._sigma(), "row_norm": self.privacy.row_norm}
        return {
            "design": self.design,
            "bins": getattr(self, "bins", 2),
            "tails": list(getattr(self, "tails", ())),
            "min_rows": self.min_rows,
            "l2": float(self.l2),
            "smoothing": float(getattr(self, "smoothing", 0.0)),
            "max_iter": self.max_iter,
            "tol": float(self.tol),
            "sigmoid": self.sigmoid,
            "balanced": self.class_weight == "balanced",
            "privacy": privacy,
        }

    def _sigma(self) -> float:
        """Noise on the weights of rows of norm 1 (and the intercept's 1): gradient <= sqrt(2), curvature l2."""
        assert self.privacy is not None
        return gaussian_sigma(math.sqrt(2.0) / self.l2, self.privacy.epsilon, self.privacy.delta)

    def _model(self, design: Design, outputs: Mapping[str, Any]) -> tuple[Scorer, Contract]:
        weights = np.asarray(outputs["weights"], np.float64)
        model, contract = linear_model(design, weights, float(outputs["intercept"]))
        self.coef_, self.intercept_ = weights[None, :], np.array([float(outputs["intercept"])])
        return model, contract


class SecureScorecard(SecureLogisticRegression):
    """A scorecard: each owner cuts its own columns into bins (missing in a bin of its own), one weight a bin.

    `bins` quantile bins a column with extra cuts at the `tails`; `smoothing` penalises squared steps between
    neighbouring bins; `points` is the scale on which people read it.
    """

    kind = "scorecard"
    design = "bins"

    def __init__(
        self,
        bins: int = 20,
        tails: tuple[float, ...] = (0.01,),
        min_rows: int = 20,
        l2: float = 3.0,
        smoothing: float = 30.0,
        max_iter: int = 40,
        tol: float = 1e-3,
        class_weight: str | None = None,
        sigmoid: str = "auto",
        points: Points | None = None,
        privacy: Privacy | None = None,
    ) -> None:
        super().__init__(l2, max_iter, tol, class_weight, sigmoid, min_rows, privacy)
        self.bins, self.tails, self.smoothing, self.points = bins, tails, smoothing, points

    def _validated(self, features: int) -> dict[str, Any]:
        _whole(self, "bins", 2, 200)
        _within(self, "smoothing", 0.0, 1e6)
        if not all(0 < t < 0.5 for t in self.tails) or len(self.tails) > 8:
            raise UsageError("tails are at most 8 shares between 0 and 0.5")
        return super()._validated(features)

    def _model(self, design: Design, outputs: Mapping[str, Any]) -> tuple[Scorer, Contract]:
        weights = np.asarray(outputs["weights"], np.float64)
        return scorecard_model(design, weights, float(outputs["intercept"]), self.points or Points())


class SecureGradientBoosting(SecureEstimator):
    """Gradient boosted trees on quantile bins; every tree is full, `depth` levels deep.

    `l2` is added to a leaf's Hessian, `min_child_weight` the least Hessian on either side of a split. The model is a
    LightGBM text model, checked against LightGBM (the `trees` extra).
    """

    program = "fiduciary.gbdt@1"
    kind = "lightgbm"

    def __init__(
        self,
        n_estimators: int = 20,
        max_depth: int = 3,
        learning_rate: float = 0.3,
        bins: int = 8,
        l2: float = 1.0,
        min_child_weight: float = 1.0,
        min_rows: int = 20,
        class_weight: str | None = None,
        sigmoid: str = "auto",
    ) -> None:
        self.n_estimators, self.max_depth, self.learning_rate, self.bins = (
            n_estimators,
            max_depth,
            learning_rate,
            bins,
        )
        self.l2, self.min_child_weight, self.min_rows = l2, min_child_weight, min_rows
        self.class_weight, self.sigmoid = class_weight, sigmoid

    def _validated(self, features: int) -> dict[str, Any]:
        _whole(self, "n_estimators", 1, 1000)
        _whole(self, "max_depth", 1, 6)
        _within(self, "learning_rate", 0.01, 1.0)
        _whole(self, "bins", 2, 64)
        _within(self, "l2", 0.01, 1e4)
        _within(self, "min_child_weight", 0.0, 1e6)
        _whole(self, "min_rows", 1, 10_000_000)
        _choice(self, "class_weight", (None, "balanced"))
        _choice(self, "sigmoid", ("auto", "fast", "exact"))
        return {
            "trees": self.n_estimators,
            "depth": self.max_depth,
            "rate": float(self.learning_rate),
            "bins": self.bins,
            "l2": float(self.l2),
            "min_weight": float(self.min_child_weight),
            "min_rows": self.min_rows,
            "balanced": self.class_weight == "balanced",
            "sigmoid": self.sigmoid,
        }

    def _model(self, design: Design, outputs: Mapping[str, Any]) -> tuple[Scorer, Contract]:
        return tree_model(design, outputs)

    def _write(self, folder: Path) -> None:
        tree_model(self.design_, self.result_.outputs, folder)


def gaussian_sigma(sensitivity: float, epsilon: float, delta: float) -> float:
    """Least noise of the Gaussian mechanism for (epsilon, delta), by bisection of its exact delta.

    Balle and Wang, Improving the Gaussian Mechanism (2018), theorem 8.
    """

    def spent(sigma: float) -> float:
        a = sensitivity / (2 * sigma)
        b = epsilon * sigma / sensitivity
        tail = math.exp(min(epsilon, 700.0)) * _normal(-a - b)
        return _normal(a - b) - tail

    low, high = 0.0, sensitivity
    while spent(high) > delta:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if middle > 0 and spent(middle) <= delta:
            high = middle
        else:
            low = middle
    return high


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def _place(where: str, what: str, federation: Engine) -> tuple[str, str]:
    party, dot, column = where.partition(".")
    if not dot or not column or party not in federation.parties:
        raise UsageError(
            f"{what} is written party.column, with one of the parties {', '.join(federation.parties)}; not {where!r}"
        )
    return party, column


def _check_features(
    federation: Engine,
    columns: Mapping[str, Mapping[str, Any]],
    chosen: Mapping[str, Sequence[str]],
    holder: str,
    taken: set[str],
) -> None:
    if not chosen:
        raise UsageError("there is no feature to train on")
    for party, names in chosen.items():
        if party not in federation.parties:
            raise UsageError(f"{party} is no party of this federation")
        if len(set(names)) != len(names):
            raise UsageError(f"{party} names a feature twice")
        if party == holder and taken & set(names):
            raise UsageError("label and weight cannot be features")
        if party in columns and (absent := [n for n in names if n not in columns[party]]):
            raise UsageError(f"{party} has no column {', '.join(map(repr, absent[:5]))}")


def _within(owner: Any, name: str, low: float, high: float) -> None:
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UsageError(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")


def _whole(owner: Any, name: str, low: int, high: int) -> None:
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"{name} must be a whole number from {low} to {high}, not {value!r}")


def _choice(owner: Any, name: str, allowed: Sequence[Any]) -> None:
    value = getattr(owner, name)
    if value not in allowed:
        raise UsageError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else value


__all__ = [
    "Privacy",
    "SecureEstimator",
    "SecureGradientBoosting",
    "SecureLogisticRegression",
    "SecureScorecard",
]
