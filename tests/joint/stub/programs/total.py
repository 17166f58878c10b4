"""Adds up every party's numbers (in the clear: a stub), with faults that tests ask for."""

from __future__ import annotations

import os
import time

import numpy as np

from . import _spu

PROGRAM = {
    "id": "stub.total@1",
    "summary": "the sum of all numbers",
    "protocols": ["aby3", "cheetah"],
    "outputs": {"total": "the sum"},
    "leaks": ["this stub hides nothing"],
}


def run(ctx, params):
    mine = float(sum(np.sum(a) for a in ctx.inputs.values()))
    steps = params.get("steps", 3)
    fault = params.get("fault", {}).get(ctx.me)
    total = 0.0
    for step in range(steps):
        ctx.progress("adding", step, steps)
        if step == 1 and fault == "raise":
            raise _spu.ProgramFailure("the sum passed its range")
        if step == 1 and fault == "exit":
            os._exit(9)
        if step == 1 and fault == "sleep":
            time.sleep(600)
        if step == 1 and fault == "garbage":
            os.write(3, b"x" * 100)
        if step == 1 and fault == "lie":
            ctx.link.claims = (ctx.rank + 1) % len(ctx.parties)
        time.sleep(params.get("pause", 0.0))
        for other in range(len(ctx.parties)):
            if other != ctx.rank:
                ctx.link.send(other, repr(mine).encode() + b" " * params.get("padding", 0))
        total = mine + sum(
            float(ctx.link.recv(other)) for other in range(len(ctx.parties)) if other != ctx.rank
        )
        ctx.rounds += 1
    if fault == "tell":
        return {"total": np.array([total])}
    return {"total": np.array([total])} if ctx.me in ctx.receivers else {}
