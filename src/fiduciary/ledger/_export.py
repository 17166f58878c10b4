"""Records as a Parquet file, for analysis and for an auditor's own tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiduciary.errors import MissingExtraError
from fiduciary.ledger._log import word_of

if TYPE_CHECKING:
    from fiduciary.ledger._ledger import Ledger, Record

ROWS_PER_GROUP = 10_000


def export(
    ledger: Ledger,
    path: Path,
    *,
    logs: list[str] | None = None,
    since: int | None = None,
    until: int | None = None,
    payloads: bool = True,
) -> int:
    """Write the records of all logs (or of `logs`) to a Parquet file; returns how many.

    Columns: log, index, time (UTC, ns), kind, release, rules, commitment (hex), use_case, retention, state,
    subject (pseudonym, hex), outcome, payload (JSON, with `payloads`). `since` is included, `until` is not;
    both are nanoseconds since 1970 UTC. Raises `MissingExtraError` without pyarrow.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("exports need pyarrow: pip install 'fiduciary[data]'") from None
    fields = [
        ("log", pa.dictionary(pa.int32(), pa.string())),
        ("index", pa.int64()),
        ("time", pa.timestamp("ns", tz="UTC")),
        ("kind", pa.dictionary(pa.int32(), pa.string())),
        ("release", pa.string()),
        ("rules", pa.string()),
        ("commitment", pa.string()),
        ("use_case", pa.dictionary(pa.int32(), pa.string())),
        ("retention", pa.dictionary(pa.int32(), pa.string())),
        ("state", pa.dictionary(pa.int32(), pa.string())),
        ("subject", pa.string()),
        ("outcome", pa.string()),
    ]
    if payloads:
        fields.append(("payload", pa.string()))
    schema = pa.schema(fields)
    written = 0
    temporary = path.with_name(f".{path.name}.tmp")
    with parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for rows in _batches(ledger, logs or ledger.logs(), since, until, payloads):
            columns = {name: [row[name] for row in rows] for name, _ in fields}
            arrays = [
                pa.array(columns[name], type=kind.value_type).dictionary_encode()
                if pa.types.is_dictionary(kind)
                else pa.array(columns[name], type=kind)
                for name, kind in fields
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            written += len(rows)
    temporary.replace(path)
    return written


def _batches(
    ledger: Ledger, logs: list[str], since: int | None, until: int | None, payloads: bool
) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for name in logs:
        for record in ledger.records(name):
            time_ns = record.header.time_ns
            if until is not None and time_ns >= until:
                break
            if since is not None and time_ns < since:
                continue
            rows.append(_row(record, payloads))
            if len(rows) == ROWS_PER_GROUP:
                yield rows
                rows = []
    if rows:
        yield rows


def _row(record: Record, payloads: bool) -> dict[str, Any]:
    header = record.header
    row: dict[str, Any] = {
        "log": record.log,
        "index": record.index,
        "time": header.time_ns,
        "kind": header.kind.name.lower(),
        "release": header.release.hex() or None,
        "rules": header.rules.hex() or None,
        "commitment": header.commitment.hex(),
        "use_case": header.use_case,
        "retention": header.retention,
        "state": record.state,
        "subject": record.subject.hex() if record.subject is not None else None,
        "outcome": word_of(record.payload) if record.payload is not None else None,
    }
    if payloads:
        row["payload"] = record.payload.decode() if record.payload is not None else None
    return row
