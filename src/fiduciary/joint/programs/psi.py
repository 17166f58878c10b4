"""Private set intersection of two parties' identifiers, with the engine's own protocols (RR22, ECDH).

Each party brings `ids`, fixed-width hexadecimal texts that were normalised alike (and padded where sizes must not
show). A receiver learns the positions of its own rows that both have, in an order that both receivers share.
"""

from __future__ import annotations

import re
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

PROGRAM = {
    "id": "fiduciary.psi@1",
    "summary": "which customers two parties have in common",
    "protocols": ["rr22", "ecdh"],
    "outputs": {"rows": "positions of the common rows in the receiver's own table, in the shared order"},
    "leaks": [
        "each party: how many identifiers the other brings (with padding: the padded number)",
        "a receiver: which of its own identifiers the other has, and so the size of the intersection",
        "ecdh, party that is no receiver: nothing more; rr22: the same",
    ],
}


def run(ctx: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Intersect. `params`: {} (all choices are in the contract). Output `rows`: (m,) int64."""
    from spu import psi

    if len(ctx.parties) != 2:
        raise ValueError("an intersection is between two parties")
    ids = np.asarray(ctx.inputs["ids"])
    if ids.ndim != 1 or ids.dtype.kind != "S" or ids.dtype.itemsize != 32:
        raise ValueError("ids are texts of 32 hexadecimal digits")
    if not re.fullmatch(rb"[0-9a-f]*", ids.tobytes()):
        raise ValueError("ids are texts of 32 hexadecimal digits")
    receivers = [rank for rank, name in enumerate(ctx.parties) if name in ctx.receivers]
    source, result = Path(ctx.workdir) / "ids.csv", Path(ctx.workdir) / "common.csv"
    with source.open("wb") as file:
        file.write(b"id,row\n")
        file.write(b"".join(b"%s,%d\n" % (value, row) for row, value in enumerate(ids.tolist())))
    protocol = psi.PsiProtocolConfig(
        protocol=psi.PsiProtocol.PROTOCOL_RR22 if ctx.protocol == "rr22" else psi.PsiProtocol.PROTOCOL_ECDH,
        receiver_rank=receivers[0],
        broadcast_result=len(receivers) == 2,
    )
    if ctx.protocol == "ecdh":
        protocol.ecdh_params = psi.EcdhParams(curve=psi.EllipticCurveType.CURVE_25519)
    config = psi.PsiExecuteConfig(
        protocol_conf=protocol,
        input_params=psi.InputParams(
            type=psi.SourceType.SOURCE_TYPE_FILE_CSV, path=str(source), selected_keys=["id"], keys_unique=True
        ),
        output_params=psi.OutputParams(
            type=psi.SourceType.SOURCE_TYPE_FILE_CSV, path=str(result), disable_alignment=True
        ),
    )
    ctx.progress("intersecting", 0, 1)
    started = time.perf_counter()
    psi.psi_execute(config, ctx.link)
    ctx.engine_seconds = time.perf_counter() - started
    ctx.progress("intersecting", 1, 1)
    if ctx.rank not in receivers:
        return {}
    warnings.simplefilter("ignore")  # an empty intersection is no fault
    rows = np.loadtxt(result, np.int64, delimiter=",", quotechar='"', skiprows=1, usecols=1, ndmin=1)
    return {"rows": rows[np.argsort(ids[rows], kind="stable")]}
