"""Linear and logistic regression: margin = intercept + one term per feature; each term is its exact contribution.

`linear.json` names the features in contract order. A number or boolean has a weight and a center: its term is
weight * (x - center), exactly 0 at the center. A category has one weight per category. A feature that may be missing
says what a missing value adds. Terms are added in feature order, in float64 (tests/models_trees/test_linear.py).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from fiduciary.errors import ModelError
from fiduciary.models._contract import Contract
from fiduciary.models._scorer import F64, Link
from fiduciary.models._shap import write_model

FILE = "linear.json"
MAX_BYTES = 16 << 20
LARGEST = 1e100


class Term(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one feature adds: weight * (x - center), or a category's weight; `missing` when it is NaN."""

    name: str
    weight: float = 0.0
    center: float = 0.0
    categories: list[float] = []
    missing: float | None = None


class LinearFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`linear.json`."""

    version: Literal[1] = 1
    link: Link
    intercept: float
    terms: list[Term]


class Linear:
    """A linear scorer. Raises `ModelError` when the file and the contract do not agree."""

    family = "linear"

    def __init__(self, file: LinearFile, contract: Contract) -> None:
        _check(file, contract)
        self.file = file
        self.link: Link = file.link
        self.features = len(file.terms)
        self.bias = file.intercept
        self._weights = np.array([term.weight for term in file.terms])
        self._centers = np.array([term.center for term in file.terms])
        self._missing = np.array([math.nan if term.missing is None else term.missing for term in file.terms])
        self._sets = [(i, np.array(term.categories)) for i, term in enumerate(file.terms) if term.categories]

    def score(self, rows: F64) -> F64:
        """Margins, shape (n,)."""
        return self.explain(rows)[0]

    def explain(self, rows: F64) -> tuple[F64, F64]:
        """Margins (n,) and terms (n, features); bias + terms = margin."""
        rows = np.asarray(rows, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.features:
            raise ModelError(f"rows have shape {rows.shape}, the model reads (n, {self.features})")
        terms: F64 = (rows - self._centers) * self._weights
        for i, weights in self._sets:
            codes = np.nan_to_num(rows[:, i], nan=0.0)
            if not ((codes >= 0) & (codes < len(weights)) & (codes == np.floor(codes))).all():
                raise ModelError(f"{self.file.terms[i].name!r} has a code that is no category of the model")
            terms[:, i] = weights[codes.astype(np.int64)]
        terms = np.where(np.isnan(rows), self._missing, terms)
        margins = np.full(len(rows), self.bias)
        for i in range(self.features):
            margins += terms[:, i]
        return margins, np.ascontiguousarray(terms)

    def save(self, directory: Path | str) -> None:
        """Write `linear.json` and `model.json` into a directory (made if absent)."""
        document = msgspec.json.format(msgspec.json.encode(self.file), indent=1) + b"\n"
        write_model(Path(directory), {"version": 1, "family": "linear", "file": FILE}, FILE, document)


def load(directory: Path, spec: dict[str, Any], contract: Contract) -> Linear:
    """Load `linear.json`. Raises `ModelError` when absent, damaged or of another contract."""
    if spec.get("version") != 1:
        raise ModelError(f"model.json of a linear model has version 1, not {spec.get('version')!r}")
    path = directory / FILE
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{FILE} is larger than {MAX_BYTES} bytes")
        file = msgspec.json.decode(path.read_bytes(), type=LinearFile)
    except OSError as error:
        raise ModelError(f"{FILE} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{FILE} is not a linear model: {error}") from None
    return Linear(file, contract)


def import_linear(
    weights: F64, intercept: float, contract: Contract, directory: Path | str, *, link: Link = "logit"
) -> Linear:
    """Write a linear model over number and boolean features; weights (features,) on the raw scale."""
    weights = np.asarray(weights, np.float64)
    if weights.shape != (len(contract.features),):
        raise ModelError(
            f"{len(contract.features)} weights are needed, not an array of shape {weights.shape}"
        )
    terms = [Term(name=name, weight=float(w)) for name, w in zip(contract.names, weights, strict=True)]
    scorer = Linear(LinearFile(link=link, intercept=float(intercept), terms=terms), contract)
    scorer.save(directory)
    return scorer


def _check(file: LinearFile, contract: Contract) -> None:
    if tuple(term.name for term in file.terms) != contract.names:
        raise ModelError("the linear model's features are not the contract's, in the same order")
    for term, feature in zip(file.terms, contract.features, strict=True):
        numbers = [term.weight, term.center, *term.categories, term.missing or 0.0]
        if not all(math.isfinite(x) and abs(x) <= LARGEST for x in numbers):
            raise ModelError(f"the numbers of {term.name!r} must be finite, at most {LARGEST:g} in size")
        if len(term.categories) != (len(feature.categories) if feature.type == "category" else 0):
            raise ModelError(
                f"{term.name!r} needs one weight per category of the contract, and none otherwise"
            )
        if (term.missing is None) != (feature.missing == "forbidden"):
            raise ModelError(
                f"{term.name!r} needs a term for missing exactly when the contract allows missing"
            )
    if not math.isfinite(file.intercept) or abs(file.intercept) > LARGEST:
        raise ModelError("the intercept must be a finite number")
