"""The decisions as a table for analysts; the verifier reads decisions.jsonl, which is the proved content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COLUMNS = (
    "id",
    "time",
    "use_case",
    "outcome",
    "score",
    "margin",
    "baseline",
    "release",
    "rules",
    "caller",
    "subject",
)


def write_decisions(path: Path, decisions: list[dict[str, Any]]) -> bool:
    """Write Parquet where pyarrow is installed (the `data` extra); else leave it out and return False."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return False
    floats = {"score", "margin", "baseline"}
    arrays = {
        name: pa.array([d.get(name) for d in decisions], pa.float64() if name in floats else pa.string())
        for name in COLUMNS
    }
    for name in ("features", "reasons"):
        texts = [json.dumps(d[name], ensure_ascii=False) if name in d else None for d in decisions]
        arrays[name] = pa.array(texts, pa.string())
    pq.write_table(pa.table(arrays), path, compression="zstd")
    return True
