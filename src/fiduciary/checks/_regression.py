"""Linear, logit and probit regressions with robust errors, and the effect of one column on the outcome.

The linear probability model by least squares; logit and probit by Newton's method on the log-likelihood.
Robust errors are White's sandwich times n / (n - k) (HC1: MacKinnon and White, Journal of Econometrics 29,
1985). Effects are discrete changes of a 0/1 column, averaged over the rows or at stated values, with errors by
the delta method. Coefficients and errors equal statsmodels' (tests/checks_fair/test_regression.py), and the
equations 11.1 to 11.10 of Stock and Watson, Introduction to Econometrics, on the Boston mortgage data.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._check import scipy
from fiduciary.errors import UsageError

F64 = NDArray[np.float64]
Model = Literal["linear", "logit", "probit"]

MAX_COLUMNS = 512
MAX_STEPS = 100
STEP_TOLERANCE = 1e-12
LARGEST_MARGIN = 500.0
TOO_MANY = "a regression has at most {} columns, this one {}; name fewer controls"


class Regression(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted regression of a 0/1 (or numeric) outcome on columns."""

    model: Model
    names: tuple[str, ...]
    """Names of the columns; the first is the constant when `constant` was asked for."""
    coefficients: F64
    """(k,)."""
    covariance: F64
    """(k, k), robust (HC1) unless `robust` was False."""
    rows: int
    steps: int
    log_likelihood: float | None
    """None for the linear model."""

    @property
    def errors(self) -> F64:
        """Standard errors (k,)."""
        found: F64 = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        return found

    def predict(self, columns: F64) -> F64:
        """The outcome (a probability) of columns (m, k)."""
        return _mean(self.model, columns @ self.coefficients)


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """The change of the outcome when a 0/1 column goes from 0 to 1."""

    value: float
    error: float
    z: float
    p: float
    interval: tuple[float, float]


def fit(
    columns: F64,
    outcome: F64,
    model: Model = "linear",
    *,
    names: tuple[str, ...] = (),
    constant: bool = True,
    robust: bool = True,
) -> Regression:
    """Fit outcome (n,) on columns (n, k).

    `constant` puts a column of ones before the others. Raises `UsageError` when columns are linearly dependent, there
    are too few rows, or a column separates the outcomes perfectly (logit, probit).
    """
    x = np.asarray(columns, dtype=np.float64)
    if x.ndim != 2:
        raise UsageError("a regression needs columns of shape (n, k)")
    if constant:
        x = np.column_stack([np.ones(len(x)), x])
    y = np.asarray(outcome, dtype=np.float64)
    n, k = x.shape
    labels = (("constant",) if constant else ()) + (names or tuple(f"x{i}" for i in range(k - constant)))
    if len(labels) != k or y.shape != (n,):
        raise UsageError("a regression needs one name a column and one outcome a row")
    if k > MAX_COLUMNS:
        raise UsageError(TOO_MANY.format(MAX_COLUMNS, k))
    if n <= k:
        raise UsageError(f"a regression on {k} columns needs more than {k} rows, not {n}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UsageError("a regression needs finite numbers")
    scale = np.sqrt((x * x).mean(axis=0))
    if not scale.all():
        raise UsageError(f"column {labels[int(np.argmin(scale))]!r} is zero in every row")
    x = x / scale  # so that columns of any unit are equally well conditioned
    if np.linalg.matrix_rank(x.T @ x, tol=1e-11 * n, hermitian=True) < k:
        raise UsageError(f"the columns {', '.join(labels)[:200]} are linearly dependent; leave one out")
    if model == "linear":
        weights, scores, curvature, steps, likelihood = _least_squares(x, y)
    else:
        weights, scores, curvature, steps, likelihood = _newton(x, y, model)
    bread = np.linalg.inv(curvature)
    if robust:
        covariance = bread @ (scores.T @ scores) @ bread * (n / (n - k))
    elif model == "linear":
        residual = y - x @ weights
        covariance = bread * float(residual @ residual) / (n - k)
    else:
        covariance = bread
    return Regression(
        model=model,
        names=labels,
        coefficients=weights / scale,
        covariance=covariance / np.outer(scale, scale),
        rows=n,
        steps=steps,
        log_likelihood=likelihood,
    )


def effect(
    regression: Regression, columns: F64, column: int, level: float = 0.95, *, others: tuple[int, ...] = ()
) -> Effect:
    """The average over columns (m, k) of the outcome with `column` 1 minus the outcome with it 0.

    `columns` holds the constant too, where the regression has one. `others` are the further 0/1 columns of the
    same attribute: they are 0 on both sides, so that the comparison is with the reference group.
    """
    base = np.array(columns, dtype=np.float64)
    base[:, [column, *others]] = 0.0
    changed = base.copy()
    changed[:, column] = 1.0
    value = float((regression.predict(changed) - regression.predict(base)).mean())
    gradient = _slope(regression, changed) - _slope(regression, base)
    error = math.sqrt(max(float(gradient @ regression.covariance @ gradient), 0.0))
    special = scipy("special")
    z = value / error if error else math.nan
    half = float(special.ndtri(0.5 + level / 2.0)) * error
    p = 2.0 * float(special.ndtr(-abs(z))) if error else math.nan
    return Effect(value=value, error=error, z=z, p=p, interval=(value - half, value + half))


def _least_squares(x: F64, y: F64) -> tuple[F64, F64, F64, int, float | None]:
    q, r = np.linalg.qr(x)
    weights = np.linalg.solve(r, q.T @ y)
    residual = y - x @ weights
    return weights, x * residual[:, None], x.T @ x, 1, None


def _newton(x: F64, y: F64, model: Model) -> tuple[F64, F64, F64, int, float | None]:
    if not np.isin(y, (0.0, 1.0)).all():
        raise UsageError(f"a {model} needs outcomes of 0 and 1")
    if y.min() == y.max():
        raise UsageError(f"a {model} needs both outcomes; every row has the same")
    sign = 2.0 * y - 1.0
    weights = np.zeros(x.shape[1])
    best = _loss(model, sign * (x @ weights))
    steps = 0
    while steps < MAX_STEPS:
        steps += 1
        first, second = _parts(model, sign * (x @ weights))
        gradient = x.T @ (sign * first)
        curvature = (x * second[:, None]).T @ x
        try:
            move = np.linalg.solve(curvature, gradient)
        except np.linalg.LinAlgError:
            raise UsageError(SEPARATED.format(model)) from None
        size = 1.0
        while True:
            trial = weights + size * move
            value = _loss(model, sign * (x @ trial))
            if value <= best + 1e-13 * abs(best) or size < 1e-8:
                break
            size *= 0.5
        weights, best = trial, value
        if np.abs(x @ weights).max() > LARGEST_MARGIN or not np.isfinite(weights).all():
            raise UsageError(SEPARATED.format(model))
        if np.abs(size * move).max() <= STEP_TOLERANCE * (1.0 + np.abs(weights).max()):
            break
    else:
        raise UsageError(SEPARATED.format(model))
    first, second = _parts(model, sign * (x @ weights))
    if float(second.max()) < 1e-8:
        raise UsageError(SEPARATED.format(model))
    curvature = (x * second[:, None]).T @ x
    return weights, x * (sign * first)[:, None], curvature, steps, -best


SEPARATED = "the {} did not settle: some column separates the outcomes perfectly; take the linear model"


def _loss(model: Model, margin: F64) -> float:
    """Negative log-likelihood of signed margins: positive where the model is on the right side."""
    if model == "logit":
        return float(np.logaddexp(0.0, -margin).sum())
    return float(-scipy("special").log_ndtr(margin).sum())


def _parts(model: Model, margin: F64) -> tuple[F64, F64]:
    """First derivative of the log-likelihood and minus the second, by signed margin."""
    if model == "logit":
        wrong = scipy("special").expit(-margin)
        return wrong, wrong * (1.0 - wrong)
    log_density = -0.5 * margin * margin - 0.5 * math.log(2.0 * math.pi)
    mills = np.exp(log_density - scipy("special").log_ndtr(margin))
    return mills, mills * (mills + margin)


def _mean(model: Model, margin: F64) -> F64:
    if model == "linear":
        return margin
    special = scipy("special")
    found: F64 = special.expit(margin) if model == "logit" else special.ndtr(margin)
    return found


def _slope(regression: Regression, columns: F64) -> F64:
    """Mean derivative of the outcome by the coefficients (k,)."""
    margin = columns @ regression.coefficients
    if regression.model == "linear":
        density = np.ones(len(columns))
    elif regression.model == "logit":
        score = scipy("special").expit(margin)
        density = score * (1.0 - score)
    else:
        density = np.exp(-0.5 * margin * margin) / math.sqrt(2.0 * math.pi)
    found: F64 = density @ columns / len(columns)
    return found
