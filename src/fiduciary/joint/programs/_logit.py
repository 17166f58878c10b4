"""The logistic part that programs share: labels with their weights, and a sigmoid made of few products."""

from __future__ import annotations

from typing import Any

import numpy as np

RANGE = 9.0
"""The fast sigmoid holds for margins within this."""
DEGREE = 9


def polynomial(degree: int) -> tuple[float, ...]:
    """Odd coefficients in z / RANGE of the sigmoid minus a half, least squares with most weight near 0."""
    t = np.linspace(-RANGE, RANGE, 4001)
    weight = np.sqrt(np.exp(-t * t / 9.0) + 0.003)
    powers = np.stack([(t / RANGE) ** k for k in range(1, degree + 1, 2)], 1)
    wanted = 1.0 / (1.0 + np.exp(-t)) - 0.5
    found = np.linalg.lstsq(powers * weight[:, None], wanted * weight, rcond=None)[0]
    return tuple(float(c) for c in found)


def sigmoid(z: Any, kind: str) -> Any:
    """`exact`: the engine's own. `fast`: an odd polynomial, within |z| <= RANGE only; the caller must check that."""
    import jax

    if kind == "exact":
        return jax.nn.sigmoid(z)
    odd = polynomial(DEGREE)
    x = z * (1.0 / RANGE)
    t = x * x
    h: Any = odd[-1]
    for c in odd[-2::-1]:
        h = c + t * h
    return 0.5 + x * h


def beyond(z: Any) -> Any:
    """One bit: does any margin lie outside the interval of the fast sigmoid?"""
    import jax.numpy as jnp

    return jnp.stack([jnp.sum((z * z > RANGE * RANGE).astype(jnp.int64)) > 0])


def labels(inputs: dict[str, Any], label: str, params: dict[str, Any]) -> dict[str, Any]:
    """The holder's own label and row weights (mean 1), checked; where to start; how much the Hessian overstates."""
    y = np.asarray(inputs[label], np.float64).ravel()
    if not np.isin(y, (0.0, 1.0)).all() or not 0 < y.sum() < len(y):
        raise ValueError("the label must be 0 and 1, with both present")
    weight = np.ones(len(y))
    if params["weight"]:
        weight = np.asarray(inputs[params["weight"]], np.float64).ravel()
        if (
            weight.shape != y.shape
            or not np.isfinite(weight).all()
            or (weight < 0).any()
            or not weight.sum() > 0
        ):
            raise ValueError("sample weights must be one finite number a row, none below 0")
    if params["balanced"]:
        share = float(weight @ y / weight.sum())
        weight = weight * np.where(y > 0, 0.5 / share, 0.5 / (1.0 - share))
    weight = weight * (len(y) / weight.sum())
    share = float(weight @ y / weight.sum())
    private = params["privacy"] is not None
    return {
        "y": y,
        "s": weight,
        "b0": 0.0 if private else float(np.log(share / (1.0 - share))),
        "z0": 0.0,
        "rest": 1.0 / (len(y) * 2.0 ** -int(np.floor(np.log2(len(y))))),
        "gain": 1.0 if private else 0.25 / min(0.25, 1.5 * share * (1.0 - share)),
    }
