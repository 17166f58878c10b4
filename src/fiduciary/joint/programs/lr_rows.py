"""Logistic regression over rows of different owners: only sums over all owners are ever opened.

Each owner computes gradient and Hessian of its own rows in the clear, as whole numbers; the engine adds them on
shares; the sums are opened to every party, which then takes the same Newton step. Costs do not depend on the number
of rows. With two data owners each can subtract its own part from a sum and so learns the other's sums.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from . import _design, _spu

PROGRAM = {
    "id": "fiduciary.lr.rows@1",
    "summary": "logistic regression over rows of different owners",
    "protocols": ["aby3", "cheetah"],
    "outputs": {
        "weights": "one weight a design column",
        "intercept": "the intercept",
        "design": "JSON as bytes: how columns become design columns, and how training went",
    },
    "leaks": [
        "every party: for each column the sum and the sum of squares over all owners, and its order of magnitude",
        "every party: the first owner's bin edges and texts, where columns are binned",
        "every party, each pass: the weights, and gradient and Hessian summed over all owners; with two data owners "
        "each learns the other's sums",
    ],
}
MAX_WIDTH = 512


def run(ctx: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Train. `params` are those of the estimator, all public; every owner has the same columns."""
    names, label = list(params["names"]), params["label"]
    owners = [p for p in ctx.parties if p in params["owners"]]
    mine = ctx.me in owners
    y = np.zeros(0)
    weight = np.zeros(0)
    if mine:
        y = np.asarray(ctx.inputs[label], np.float64).ravel()
        if not np.isin(y, (0.0, 1.0)).all() or not len(y):
            raise ValueError("the label must be 0 and 1")
        weight = np.ones(len(y))
        if params["weight"]:
            weight = np.asarray(ctx.inputs[params["weight"]], np.float64).ravel()
            if weight.shape != y.shape or not np.isfinite(weight).all() or (weight < 0).any():
                raise ValueError("sample weights must be one finite number a row, none below 0")
    described = _agree(ctx, params, names, owners, mine)
    events = _sum(ctx, owners, np.array([weight @ y, weight.sum(), len(y)]) if mine else None, 3, 2**20)
    total = float(events[1])
    if not 0 < events[0] < total:
        raise _spu.ProgramFailure("the owners together need rows with the event and rows without it")
    if params["balanced"] and mine:
        share = float(events[0]) / total
        weight = weight * np.where(y > 0, 0.5 / share, 0.5 / (1.0 - share))
    parts = [_design.columns_of(f, np.asarray(ctx.inputs[f["name"]])) for f in described] if mine else []
    x = np.concatenate([*parts, np.ones((len(y), 1))], 1) if mine else np.zeros((0, 0))
    penalty = _penalty(described, params)
    d = len(penalty)
    if d > MAX_WIDTH:
        raise _spu.ProgramFailure(f"{d} design columns; at most {MAX_WIDTH} where rows have different owners")
    w = np.zeros(d)
    w[-1] = np.log(events[0] / (total - events[0])) if not params["balanced"] else 0.0
    upper = np.triu_indices(d)
    for k in range(params["max_iter"]):
        ctx.progress("training", k, params["max_iter"])
        local = None
        if mine:
            p = 1.0 / (1.0 + np.exp(-np.clip(x @ w, -40, 40)))
            hessian = (x * (weight * p * (1.0 - p))[:, None]).T @ x
            local = np.concatenate([x.T @ (weight * (p - y)), hessian[upper]])
        found = _sum(ctx, owners, local, d + len(upper[0]), 2**20)
        gradient = found[:d] + penalty @ w
        hessian = np.zeros((d, d))
        hessian[upper] = found[d:]
        hessian = np.triu(hessian) + np.triu(hessian, 1).T + penalty
        hessian[np.diag_indices(d)] += 1e-6
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        w = w - step
        if not np.isfinite(w).all() or np.abs(w).max() > 1e4:
            raise _spu.ProgramFailure("training diverged; raise l2 or train on bins")
        if np.abs(step).max() < params["tol"]:
            break
    if ctx.me not in ctx.receivers:
        return {}
    document = {
        "owners": [owners[0]],
        "features": {owners[0]: described},
        "rows": int(events[2]),
        "passes": k + 1,
        "sigmoid": "clear",
    }
    return {
        "weights": w[:-1],
        "intercept": np.array(w[-1]),
        "design": np.frombuffer(json.dumps(document).encode(), np.uint8).copy(),
    }


def _agree(
    ctx: Any, params: dict[str, Any], names: list[str], owners: list[str], mine: bool
) -> list[dict[str, Any]]:
    """Descriptions that hold for every owner's rows."""
    options = {k: params[k] for k in ("design", "bins", "tails", "min_rows")}
    told: Any = None
    if mine:
        told = [_design.describe(n, np.asarray(ctx.inputs[n]), options) for n in names]
    facts = ctx.gather([_public(f) for f in told] if told else None)
    first = facts[ctx.parties.index(owners[0])]
    described: list[dict[str, Any]] = []
    for i in range(len(names)):
        kinds = {facts[ctx.parties.index(p)][i]["kind"] for p in owners}
        if len(kinds) != 1:
            raise _spu.ProgramFailure(f"the owners bring different types for column {names[i]}")
        found = dict(first[i])
        found["missing"] = any(facts[ctx.parties.index(p)][i].get("missing", False) for p in owners)
        described.append(found)
    numbers = [i for i, f in enumerate(described) if f["kind"] == "number"]
    if not numbers:
        return described
    sizes = [max(facts[ctx.parties.index(p)][i]["size"] for p in owners) for i in numbers]
    unit = np.array([2.0**s for s in sizes])
    local = None
    if mine:
        z = np.stack([np.asarray(ctx.inputs[names[i]], np.float64) for i in numbers], 1) / unit
        known = ~np.isnan(z)
        z0 = np.where(known, z, 0.0)
        local = np.concatenate([known.sum(0), z0.sum(0), (z0 * z0).sum(0)])
    k = len(numbers)
    sums = _sum(ctx, owners, local, 3 * k, 2**36)
    count = np.maximum(sums[:k], 1.0)
    mean = sums[k : 2 * k] / count
    spread = np.sqrt(np.maximum(sums[2 * k :] / count - mean**2, 0.0))
    for at, i in enumerate(numbers):
        scale = float(spread[at] * unit[at])
        center = float(mean[at] * unit[at])
        described[i] |= {"center": center, "scale": scale if scale > 0 else 1.0, "median": center}
        described[i].pop("size", None)
    return described


def _public(found: dict[str, Any]) -> dict[str, Any]:
    """Of a number only its order of magnitude is told; edges and texts of bins are."""
    if found["kind"] != "number":
        return found
    largest = max(abs(found["center"]) + found["scale"], 1e-30)
    size = int(np.ceil(np.log2(largest)))
    return {"name": found["name"], "kind": "number", "missing": found["missing"], "size": size}


def _penalty(described: list[dict[str, Any]], params: dict[str, Any]) -> Any:
    sizes = [_design.width(f) for f in described]
    penalty = np.zeros((sum(sizes) + 1, sum(sizes) + 1))
    at = 0
    for found, size in zip(described, sizes, strict=True):
        block = params["l2"] * np.eye(size)
        if found["kind"] == "bins" and params["smoothing"] > 0 and found["edges"]:
            ordered = len(found["edges"]) + 1
            steps = np.diff(np.eye(ordered), axis=0)
            block[:ordered, :ordered] += params["smoothing"] * steps.T @ steps
        penalty[at : at + size, at : at + size] = block
        at += size
    return penalty


def _sum(ctx: Any, owners: list[str], local: Any, size: int, scale: int) -> Any:
    """The owners' sum of `local` (size,), as whole numbers of 1 / scale; opened to every party."""
    whole = None
    if local is not None:
        if not np.isfinite(local).all() or np.abs(local).max(initial=0.0) * scale >= 2**61 / len(owners):
            raise ValueError("a sum leaves the range of the ring; scale or cap the columns")
        whole = np.rint(local * scale).astype(np.int64)
    for p in owners:
        ctx.share(f"part_{p}", p, whole if p == ctx.me else None, (size,), np.int64)
    ctx.run(_add, [f"part_{p}" for p in owners], ["sum"])
    return np.asarray(ctx.publish("sum"), np.float64) / scale


def _add(*parts: Any) -> Any:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
