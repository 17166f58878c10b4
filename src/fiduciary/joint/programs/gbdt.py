"""Gradient boosted trees over columns of different owners: no gradient, histogram or row's place is revealed.

Each owner cuts its own columns and shares, for every possible split, a 0/1 column "goes left". Gradient and Hessian
of a row travel in one ring element (two fields of 32 bits), so that one integer product with a 0/1 matrix forms
both histograms without truncation; a right child's histogram is its parent's minus its sibling's. Products go
column by column, where the engine is fast. Split choice and leaf values are computed on shares; the finished trees
are opened to the receivers.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from . import _design, _logit, _spu

PROGRAM = {
    "id": "fiduciary.gbdt@1",
    "summary": "gradient boosted trees over columns of different owners",
    "protocols": ["aby3", "cheetah"],
    "outputs": {
        "splits": "(trees, nodes): the chosen candidate of each inner node, level by level",
        "leaves": "(trees, leaves): what each leaf adds to the log-odds",
        "counts": "(trees, leaves): training rows in each leaf",
        "start": "the log-odds that every row starts from",
        "design": "JSON as bytes: every owner's candidates for splits",
    },
    "leaks": [
        "every party: the number of rows, of trees and of each owner's candidate splits",
        "every party, one bit: whether a margin left the interval of the fast sigmoid",
        "receivers: the trees, with the cut points of every owner's columns and the training rows of each leaf",
    ],
}
MAX_CANDIDATES = 2_048


def run(ctx: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Train. `params` are those of the estimator (`SecureGradientBoosting`), all public."""
    owners = [p for p in ctx.parties if params["features"].get(p)]
    holder, label = params["label"]
    described: list[dict[str, Any]] = []
    mine: dict[str, Any] = {}
    told: dict[str, Any] = {"rows": None, "width": 0}
    ctx.progress("preparing", 0, 1)
    if ctx.me in owners:
        described, sides = _candidates(params["features"][ctx.me], ctx.inputs, params)
        mine["s"] = sides
        told = {"rows": len(sides), "width": sides.shape[1]}
    if ctx.me == holder:
        mine.update(_labels(ctx.inputs, label, params))
        told["rows"] = len(mine["y"]) if told["rows"] in (None, len(mine["y"])) else -1
    facts = ctx.gather(told)
    counts = {f["rows"] for f in facts if f["rows"] is not None}
    if len(counts) != 1 or -1 in counts:
        raise _spu.ProgramFailure("the parties bring different numbers of rows; align them first")
    n = counts.pop()
    widths = [facts[ctx.parties.index(p)]["width"] for p in owners]
    if not 1 <= sum(widths) <= MAX_CANDIDATES:
        raise _spu.ProgramFailure(
            f"there are {sum(widths)} candidate splits; 1 to {MAX_CANDIDATES} are taken"
        )
    if n >= 1 << 24:
        raise _spu.ProgramFailure("trees take fewer than 2^24 rows")
    for i, p in enumerate(owners):
        ctx.progress("sharing", i, len(owners))
        ctx.share(f"s_{p}", p, mine["s"] if ctx.me == p else None, (n, widths[i]), np.int64)
    me = ctx.me == holder
    weighted = bool(params["weight"]) or params["balanced"]
    for name, shape in (("y", (n, 1)), ("f0", (1, 1)), *([("w", (n, 1))] if weighted else [])):
        ctx.share(name, holder, np.reshape(mine[name], shape) if me else None, shape)
    ctx.run(_join, [f"s_{p}" for p in owners], ["S", "T"])
    ctx.drop(*[f"s_{p}" for p in owners])
    sigmoid = _grow(ctx, params, n, weighted)
    found: dict[str, list[Any]] = {"split": [], "leaf": [], "count": []}
    for t in range(params["trees"]):
        for name in found:
            value = ctx.reveal(f"{name}{t}", ctx.receivers)
            found[name].append(None if value is None else np.asarray(value).ravel())
    start = ctx.reveal("f0", ctx.receivers)
    tells = ctx.tell({"described": described}, ctx.receivers)
    if start is None:
        return {}
    document = {
        "owners": owners,
        "features": {p: tells[ctx.parties.index(p)]["described"] for p in owners},
        "sigmoid": sigmoid,
        "rows": n,
    }
    return {
        "splits": np.stack(found["split"]).astype(np.int64),
        "leaves": np.stack(found["leaf"]).astype(np.float64),
        "counts": np.stack(found["count"]).astype(np.int64),
        "start": np.array(float(start.ravel()[0])),
        "design": np.frombuffer(json.dumps(document).encode(), np.uint8).copy(),
    }


def _candidates(
    names: list[str], inputs: dict[str, Any], params: dict[str, Any]
) -> tuple[list[dict[str, Any]], Any]:
    """Descriptions and the 0/1 matrix (n, candidates): 1 where the row goes left.

    A number goes left of edge e when x < e; a missing number goes right, and where some are missing the last
    candidate sends every known number left. A text's candidate sends that text left.
    """
    options = {"design": "bins", "bins": params["bins"], "tails": [], "min_rows": params["min_rows"]}
    described, parts = [], []
    for name in names:
        if name not in inputs:
            raise ValueError(f"there is no column {name}")
        found = _design.describe(name, inputs[name], options)
        at = _design.codes(found, inputs[name])
        if found["kind"] == "category":
            sides = at[:, None] == np.arange(len(found["categories"]))
        else:
            steps = np.arange(len(found["edges"]) + bool(found["missing"]))
            sides = at[:, None] <= steps
        described.append(found)
        parts.append(sides)
    return described, np.concatenate(parts, 1).astype(np.int64)


def _labels(inputs: dict[str, Any], label: str, params: dict[str, Any]) -> dict[str, Any]:
    found = _logit.labels(inputs, label, {**params, "privacy": None})
    return {"y": found["y"], "f0": found["b0"], "w": found["s"]}


def _grow(ctx: Any, params: dict[str, Any], n: int, weighted: bool) -> str:
    depth, trees = int(params["depth"]), int(params["trees"])
    plans = ["fast", "exact"] if params["sigmoid"] == "auto" else [params["sigmoid"]]
    for plan in plans:
        stage = (
            n,
            depth,
            float(params["l2"]),
            float(params["rate"]),
            float(params["min_weight"]),
            plan,
            weighted,
        )
        margin = ["f0"]
        for t in range(trees):
            ctx.progress("growing", t, trees)
            inputs = ["S", "T", "y", *(["w"] if weighted else []), *margin]
            ctx.run(
                _tree(*stage, t == 0),
                inputs,
                ["F", f"split{t}", f"leaf{t}", f"count{t}"],
                key=(stage, t == 0),
            )
            margin = ["F"]
        if plan == "exact":
            return plan
        ctx.run(_logit.beyond, ["F"], ["bits"])
        if not ctx.bits("bits")[0]:
            return plan
    raise _spu.ProgramFailure(
        "a margin left the interval of the fast sigmoid; use sigmoid='auto' or a lower rate"
    )


def _join(*parts: Any) -> Any:
    import jax.numpy as jnp

    joined = jnp.concatenate(parts, 1)
    return joined, joined.T


def _tree(
    n: int, depth: int, l2: float, rate: float, min_weight: float, plan: str, weighted: bool, first: bool
) -> Any:
    scale = 1 << min(14, 30 - int(np.ceil(np.log2(max(n, 2)))) - 1)
    shrink = 2.0 ** -max(0, int(np.ceil(np.log2(n))) - 8)

    shift = max(0, int(np.log2(scale / shrink)) - 14)
    unit = 2.0**shift * shrink / scale

    def tree(S: Any, T: Any, y: Any, *more: Any) -> Any:
        import jax.numpy as jnp

        ones = jnp.int64(1)
        F = more[-1]
        if first:
            F = F + y * 0.0
        p = _logit.sigmoid(F, plan)
        g, h = p - y, p * (1.0 - p)
        if weighted:
            g, h = g * more[0], h * more[0]

        def whole(v: Any) -> Any:
            return (v * float(scale) + 0.5).astype(jnp.int64)  # the engine's cast floors

        packed = whole(g) * jnp.int64(1 << 32) + whole(h)

        def unpack(v: Any) -> tuple[Any, Any]:
            high = jnp.right_shift(v + jnp.int64(1 << 31), 32)
            low = v - high * jnp.int64(1 << 32)
            # A constant below 2^-14 would have too few fixed-point bits: shift the rest away as integers.
            high, low = jnp.right_shift(high, shift), jnp.right_shift(low, shift)
            return high.astype(jnp.float32) * unit, low.astype(jnp.float32) * unit

        masks: list[Any] = [None]  # None: every row
        fields = [packed]
        histograms = [T @ packed]  # (candidates, 1) a node
        totals = [jnp.sum(packed, keepdims=True)]
        chosen, leaves = [], []
        for level in range(depth):
            left = jnp.concatenate(histograms, 1)
            total = jnp.concatenate(totals, 1)
            gl, hl = unpack(left)
            gt, ht = unpack(total)
            gr, hr = gt - gl, ht - hl
            gain = gl * gl / (hl + l2 * shrink) + gr * gr / (hr + l2 * shrink)
            enough = (hl > min_weight * shrink) & (hr > min_weight * shrink)
            gain = jnp.where(enough, gain, -1.0)
            best = jnp.argmax(gain, 0)
            chosen.append(best)
            one = (jnp.arange(left.shape[0])[:, None] == best[None, :]).astype(jnp.int64)
            picked = jnp.sum(one * left, 0, keepdims=True)  # totals of the left children
            masks2, fields2, histograms2, totals2 = [], [], [], []
            for i in range(len(fields)):
                bit = S @ one[:, i : i + 1]
                mine = bit if masks[i] is None else bit * masks[i]
                masks2 += [mine, (ones - mine) if masks[i] is None else masks[i] - mine]
                totals2 += [picked[:, i : i + 1], totals[i] - picked[:, i : i + 1]]
                if level + 1 < depth:
                    field = fields[i] * bit
                    fields2 += [field, fields[i] - field]
                    histogram = T @ field
                    histograms2 += [histogram, histograms[i] - histogram]
            masks, fields, histograms, totals = masks2, fields2, histograms2, totals2
        G, H = unpack(jnp.concatenate(totals, 1))
        # The rate comes after the division: XLA would fold it into the small constant of `unpack`.
        leaves = (G / (H + l2 * shrink)) * -rate
        units = whole(leaves)
        moved = jnp.concatenate(masks, 1) @ units.T
        F = F + moved.astype(jnp.float32) * (1.0 / scale)
        counts = jnp.concatenate([jnp.sum(m, keepdims=True) for m in masks], 1)
        return F, jnp.concatenate(chosen), units.astype(jnp.float32) * (1.0 / scale), counts

    return tree
