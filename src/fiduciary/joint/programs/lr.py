"""Logistic regression over columns of different owners: Newton's method with a fixed, whitened Hessian.

Each owner centres and whitens its own columns in the clear, so that its block of the bounding Hessian
X'X/4n + P/n (Boehning and Lindsay 1988) is the identity; only the cross blocks are secret, formed column by column.
Where the design is wide the cross blocks are left out and momentum makes up for them. The sigmoid is a polynomial of
degree 9; one bit says whether a margin left its interval, and if one did the passes start again with the engine's
own sigmoid.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _design, _logit, _spu

PROGRAM = {
    "id": "fiduciary.lr.newton@1",
    "summary": "logistic regression over columns of different owners",
    "protocols": ["aby3", "cheetah"],
    "outputs": {
        "weights": "one weight a design column, owners by rank",
        "intercept": "the intercept",
        "design": "JSON as bytes: how each owner's columns become design columns, and how training went",
    },
    "leaks": [
        "every party: the number of rows, of each owner's design columns (so: of its bins), and of passes",
        "every party, one bit a pass: whether the steps are small enough to stop, or too large to go on",
        "every party, one bit: whether a margin left the interval of the fast sigmoid",
        "receivers: the model, with means and deviations or bin edges and texts of every owner's columns",
    ],
}
LEAST_PASSES = 3
"""Passes before the steps are looked at."""
WIDE = 80
"""Above this many design columns the cross blocks are left out."""
LIMIT = 64.0
"""Whitened weights and intercept beyond this count as divergence."""


def run(ctx: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Train. `params` are those of the estimator (`SecureLogisticRegression`), all public."""
    owners = [p for p in ctx.parties if params["features"].get(p)]
    holder, label = params["label"]
    options = {k: params[k] for k in ("design", "bins", "tails", "min_rows", "l2", "smoothing")}
    ctx.progress("preparing", 0, 1)
    described: list[dict[str, Any]] = []
    mine: dict[str, Any] = {}
    told: dict[str, Any] = {"rows": None, "width": 0}
    if ctx.me in owners:
        described, matrix, penalty = _design.design(params["features"][ctx.me], ctx.inputs, options)
        matrix, reach = _bounded(matrix, params, len(owners))
        means = np.zeros(matrix.shape[1]) if params["privacy"] else matrix.mean(0)
        to_white = _design.whiten(matrix - means, penalty)
        rows = len(matrix)
        white = (matrix - means) @ to_white
        mine = {
            "z": white,
            "m": to_white,
            "p": to_white.T @ penalty @ to_white / rows,
            "means": means,
        }
        told = {
            "rows": rows,
            "width": matrix.shape[1],
            "reach": reach,
            "safe": bool(np.abs(white).max() < 4096.0),
        }
    if ctx.me == holder:
        mine.update(_logit.labels(ctx.inputs, label, params))
        told["rows"] = len(mine["y"]) if told["rows"] in (None, len(mine["y"])) else -1
    facts = ctx.gather(told)
    counts = {f["rows"] for f in facts if f["rows"] is not None}
    if len(counts) != 1 or -1 in counts:
        raise _spu.ProgramFailure("the parties bring different numbers of rows; align them first")
    if not all(f.get("safe", True) for f in facts):
        raise _spu.ProgramFailure(
            "an owner's columns are almost dependent and would leave the fixed-point range"
        )
    n = counts.pop()
    sizes = {p: facts[ctx.parties.index(p)]["width"] for p in owners}
    weighted = bool(params["weight"]) or params["balanced"]
    _share(ctx, owners, holder, sizes, mine, n, weighted)
    passes, sigmoid = _train(ctx, owners, sizes, n, weighted, params)
    noise = _noise(ctx, params, sum(sizes.values()))
    ctx.run(
        _finish(tuple(sizes[p] for p in owners), noise),
        [*[f"m_{p}" for p in owners], "u", "b", *([f"e_{p}" for p in ctx.parties] if noise else [])],
        ["w"],
        key=(tuple(sizes[p] for p in owners), noise),
    )
    found = ctx.reveal("w", ctx.receivers)
    tells = ctx.tell(
        {"described": described, "means": mine.get("means", np.zeros(0)).tolist()}, ctx.receivers
    )
    if found is None:
        return {}
    weights = np.asarray(found, np.float64).ravel()
    means = np.concatenate([np.asarray(tells[ctx.parties.index(p)]["means"], np.float64) for p in owners])
    scale = params["privacy"]["row_norm"] if params["privacy"] else 1.0
    weights[:-1] = weights[:-1] / scale
    document = {
        "owners": owners,
        "features": {p: tells[ctx.parties.index(p)]["described"] for p in owners},
        "passes": passes,
        "sigmoid": sigmoid,
        "rows": n,
    }
    import json

    return {
        "weights": weights[:-1],
        "intercept": np.array(weights[-1] - float(means @ weights[:-1])),
        "design": np.frombuffer(json.dumps(document).encode(), np.uint8).copy(),
    }


def _share(
    ctx: Any,
    owners: list[str],
    holder: str,
    sizes: dict[str, int],
    mine: dict[str, Any],
    n: int,
    weighted: bool,
) -> None:
    for i, p in enumerate(owners):
        ctx.progress("sharing", i, len(owners) + 1)
        d = sizes[p]
        me = ctx.me == p
        ctx.share(f"z_{p}", p, mine["z"] if me else None, (n, d))
        ctx.share(f"m_{p}", p, mine["m"] if me else None, (d, d))
        ctx.share(f"p_{p}", p, mine["p"] if me else None, (d, d))
    ctx.progress("sharing", len(owners), len(owners) + 1)
    me = ctx.me == holder
    for name in ("y", *(["s"] if weighted else [])):
        ctx.share(name, holder, mine[name][:, None] if me else None, (n, 1))
    for name in ("b0", "gain", "rest", "z0"):
        ctx.share(name, holder, np.full((1, 1), mine[name]) if me else None, (1, 1))
    total = sum(sizes.values())
    ctx.share("u0", holder, np.zeros((total, 1)) if me else None, (total, 1))


def _train(
    ctx: Any, owners: list[str], sizes: dict[str, int], n: int, weighted: bool, params: dict[str, Any]
) -> tuple[int, str]:
    widths = tuple(sizes[p] for p in owners)
    wide = sum(widths) > WIDE
    penalised = bool(params["privacy"])
    shape = (widths, wide, n, penalised, float(params["l2"]))
    ctx.progress("training", 0, params["max_iter"])
    ctx.run(
        _begin(*shape[:3]),
        [*[f"z_{p}" for p in owners], *[f"p_{p}" for p in owners], "gain", "rest"],
        ["Z", "H", "P"],
        key=shape,
    )
    ctx.drop(*[f"z_{p}" for p in owners], *[f"p_{p}" for p in owners])
    state = ["u", "v", "b", "vb"]
    rows = ["y", *(["s"] if weighted else [])]
    plans = ["fast", "exact"] if params["sigmoid"] == "auto" else [params["sigmoid"]]
    passes = 0
    for plan in plans:
        stage = (*shape, plan, weighted, float(params["tol"]))
        current = ["u0", "u0", "b0", "z0"]  # an exact plan begins again: the fast passes may have gone astray
        moving = trouble = True
        for k in range(params["max_iter"]):
            ctx.run(
                _step(*stage), ["Z", "H", "P", "gain", "rest", *rows, *current], [*state, "bits"], key=stage
            )
            current = state
            passes += 1
            ctx.progress("training", k + 1, params["max_iter"])
            if k < LEAST_PASSES - 1 and k + 1 < params["max_iter"]:
                continue
            moving, trouble = ctx.bits("bits")
            if trouble or not moving:
                break
        if trouble:
            if plan == plans[-1]:
                raise _spu.ProgramFailure(
                    "training diverged: the weights left the range that fixed-point numbers can hold; scale or cap "
                    "the columns, raise l2, or train on bins"
                )
            continue
        if plan == "fast":
            ctx.run(_beyond, ["Z", "u", "b"], ["bits"])
            if ctx.bits("bits")[0]:
                if plan == plans[-1]:
                    raise _spu.ProgramFailure(
                        "a margin left the interval of the fast sigmoid; use sigmoid='auto'"
                    )
                continue
        return passes, plan
    raise _spu.ProgramFailure("training did not end")


# -- circuits ---------------------------------------------------------------------------------------------------


def _power(n: int) -> float:
    """1 / n down to its power of two, which fixed-point numbers hold exactly; the rest is a secret near 1.

    A secret, because XLA would fold two constants into one of too few bits.
    """
    return float(2.0 ** -int(np.floor(np.log2(n))))


def _begin(widths: tuple[int, ...], wide: bool, n: int) -> Any:
    power = _power(n)
    total, parts = sum(widths), len(widths)

    def begin(*values: Any) -> Any:
        import jax.numpy as jnp

        z, p, gain, rest = values[:parts], values[parts : 2 * parts], values[-2], values[-1]
        joined = jnp.concatenate(z, 1)
        penalty = _blocks(p, widths)
        if wide or parts == 1:
            return joined, gain * (1.0 / parts), penalty
        rows: list[list[Any]] = [[None] * parts for _ in range(parts)]
        for i in range(parts):
            rows[i][i] = jnp.eye(widths[i], dtype=jnp.float32)
            for j in range(i + 1, parts):
                # Column by column: the engine's product of two matrices is far slower than products with a vector.
                cross = jnp.concatenate([z[i].T @ z[j][:, k : k + 1] for k in range(widths[j])], 1)
                rows[i][j] = cross * power * (rest * 0.25)
                rows[j][i] = rows[i][j].T
        hessian = jnp.concatenate([jnp.concatenate(r, 1) for r in rows], 0)
        eye = jnp.eye(total, dtype=jnp.float32)
        inverse = eye * (1.0 / parts)
        for _ in range(8):  # Newton-Schulz: eigenvalues lie in (0, parts)
            inverse = inverse @ (2.0 * eye - hessian @ inverse)
        return joined, inverse * gain, penalty

    return begin


def _blocks(parts: Any, widths: tuple[int, ...]) -> Any:
    import jax.numpy as jnp

    rows = []
    for i, part in enumerate(parts):
        row = [part if i == j else jnp.zeros((widths[i], w), jnp.float32) for j, w in enumerate(widths)]
        rows.append(jnp.concatenate(row, 1))
    return jnp.concatenate(rows, 0)


def _step(*stage: Any) -> Any:
    widths, wide, n, penalised, l2, kind, weighted, tolerance = stage
    power = _power(n)
    rate, keep = (1.0, 0.6) if wide else (1.4, 0.2)
    ahead = keep if wide else 0.0  # Nesterov looks ahead; with a good Hessian the heavy ball suffices

    def step(Z: Any, H: Any, P: Any, gain: Any, rest: Any, y: Any, *more: Any) -> Any:
        import jax.numpy as jnp

        s = more[0] if weighted else None
        u, v, b, vb = more[-4:]
        at, at_b = (u + ahead * v, b + ahead * vb) if ahead else (u, b)
        z = Z @ at + at_b
        p = _logit.sigmoid(z, kind)
        r = (p - y) * s if weighted else p - y
        gradient = (Z.T @ r) * power * rest + P @ at
        direction = H * gradient if wide or len(widths) == 1 else H @ gradient
        v = keep * v - rate * direction
        slope = jnp.sum(r, keepdims=True) * power * rest
        if penalised:
            slope = slope + at_b * (l2 / n)
        vb = keep * vb - (rate * 4.0) * (slope * gain)
        u, b = u + v, b + vb
        far = (
            jnp.abs(jnp.concatenate([v, vb, u * (tolerance / LIMIT), b * (tolerance / LIMIT)], 0)) > tolerance
        )
        half = far.shape[0] // 2
        bits = jnp.stack(
            [jnp.sum(far[:half].astype(jnp.int64)) > 0, jnp.sum(far[half:].astype(jnp.int64)) > 0]
        )
        return u, v, b, vb, bits

    return step


def _beyond(Z: Any, u: Any, b: Any) -> Any:
    return _logit.beyond(Z @ u + b)


def _finish(widths: tuple[int, ...], noise: int) -> Any:
    def finish(*values: Any) -> Any:
        import jax.numpy as jnp

        parts = len(widths)
        u, b = values[parts], values[parts + 1]
        found, at = [], 0
        for m, w in zip(values[:parts], widths, strict=True):
            found.append(m @ u[at : at + w])
            at += w
        joined = jnp.concatenate([*found, b], 0)
        for e in values[parts + 2 :]:
            joined = joined + e
        return joined

    return finish


# -- differential privacy -----------------------------------------------------------------------------------------


def _bounded(matrix: Any, params: dict[str, Any], owners: int) -> tuple[Any, float]:
    """Under privacy: rows cut to an equal part of the squared norm 1 (the intercept's 1 has its own part)."""
    if not params["privacy"]:
        return matrix, 0.0
    bound = 1.0 / np.sqrt(owners)
    matrix = matrix / params["privacy"]["row_norm"]
    norm = np.sqrt((matrix * matrix).sum(1))
    return matrix * np.minimum(1.0, bound / np.maximum(norm, 1e-12))[:, None], bound


def _noise(ctx: Any, params: dict[str, Any], width: int) -> int:
    """Every party shares Gaussian noise of the full scale: one honest party's draw is enough. Returns how many."""
    if not params["privacy"]:
        return 0
    import secrets

    sigma = float(params["privacy"]["sigma"])
    source = np.random.Generator(np.random.Philox(key=secrets.randbits(128)))
    for p in ctx.parties:
        drawn = source.normal(0.0, sigma, (width + 1, 1)) if p == ctx.me else None
        ctx.share(f"e_{p}", p, drawn, (width + 1, 1))
    return len(ctx.parties)
