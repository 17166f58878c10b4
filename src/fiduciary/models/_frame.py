"""Reading rows from files (CSV, Parquet) into columns, and drafting a contract from them."""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import LimitError, MissingExtraError, UsageError
from fiduciary.models._contract import LARGEST_INTEGER, Contract, Feature
from fiduciary.models._reasons import vague

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Columns = dict[str, NDArray[Any]]

MISSING_TEXTS = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL"})
MAX_COLUMNS = 4_096
MAX_ROWS = 20_000_000
DELIMITERS = ",;\t|"
MAX_DRAFT_CATEGORIES = 100

NOT_AN_INPUT = re.compile(
    r"(^|_)(sex|gender|race|ethnic\w*|religio\w*|marital\w*|marriage|married|nationality|pregnan\w*|disab\w*)"
    r"(_|$)"
)
"""Names of characteristics that a draft leaves out: to use one must be a person's decision."""
PROTECTED = re.compile(r"(^|_)(age|foreign\w*|citizen\w*|birth\w*)(_|$)")
"""Names that a draft keeps and marks as protected."""
IDENTIFIER = re.compile(r"(^|_)(id|uuid|guid|number|no|nr|key)$")


class DraftContract(msgspec.Struct, frozen=True):
    """A contract drafted from data: to be read and completed by a person before it is used."""

    contract: Contract
    left_out: dict[str, str]
    """Columns that are not inputs, and why."""


def read_table(path: Path | str, contract: Contract | None = None) -> Columns:
    """Columns of a CSV (`.csv`, `.tsv`, UTF-8, one header line) or Parquet file (`.parquet`, `.pq`).

    Numbers become float64 or int64 (missing: NaN), true/false bool, all else objects of text (missing: None).
    With a contract, a column that it calls a category is read as text whatever it looks like. Raises
    `UsageError` naming the file and line, `MissingExtraError` when Parquet needs the `data` extra.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    texts = {f.name for f in contract.features if f.type == "category"} if contract else set()
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        columns = _read_csv(path, texts)
    elif path.suffix.lower() in (".parquet", ".pq"):
        columns = _read_parquet(path, texts)
    else:
        raise UsageError(f"{path.name} is neither .csv, .tsv nor .parquet")
    return columns


def events_of(column: NDArray[Any], positive: str | None = None) -> F64:
    """The target as 0 and 1, (n,). `positive` names the value that is the event; needed unless 0/1 or bool.

    Raises `UsageError` when a value is missing or there are not exactly two values.
    """
    values = column.tolist()
    if any(v is None or v != v for v in values):
        raise UsageError("the target has missing values; leave those rows out")
    kinds = sorted(set(map(_shown, values)))
    if len(kinds) != 2:
        raise UsageError(f"the target must have two values, this one has {len(kinds)}")
    if positive is None:
        positive = {("0", "1"): "1", ("false", "true"): "true"}.get((kinds[0], kinds[1]))
        if positive is None:
            raise UsageError(f"say which value of the target is the event: {kinds[0]} or {kinds[1]}")
    if positive not in kinds:
        raise UsageError(f"the target has the values {kinds[0]} and {kinds[1]}, not {positive}")
    return np.array([1.0 if _shown(v) == positive else 0.0 for v in values])


def split_rows(name: str, n: int) -> tuple[I64, I64, I64]:
    """Row numbers for training (60 %), validation (20 %) and test (20 %), repeatable in any language.

    Row i goes by the first 8 hex digits of SHA-256("name:i") mod 100: below 60, 60 to 79, the rest.
    """
    heads = (hashlib.sha256(f"{name}:{i}".encode()).hexdigest()[:8] for i in range(n))
    shares = np.array([int(head, 16) % 100 for head in heads])
    rows = np.arange(n)
    return rows[shares < 60], rows[(shares >= 60) & (shares < 80)], rows[shares >= 80]


def infer_contract(
    columns: Mapping[str, NDArray[Any]], target: str, *, include: Collection[str] = ()
) -> DraftContract:
    """Draft a contract: every column but the target, in the file's order.

    Ranges are drafted ten times wider than the data, to catch a wrong unit and not a new customer. Columns
    that look like identifiers, free text or a protected characteristic are left out unless `include` names
    them.
    """
    if target not in columns:
        raise UsageError(f"there is no column {target!r}; there are {', '.join(list(columns)[:20])}")
    features: list[Feature] = []
    left_out: dict[str, str] = {}
    for name, column in columns.items():
        if name == target:
            continue
        why = None if name in include else _why_not(name, column)
        if why is None:
            features.append(_draft(name, column))
        else:
            left_out[name] = why
    if not features:
        raise UsageError("no column is left that could be an input")
    return DraftContract(Contract(features=tuple(features)), left_out)


def _why_not(name: str, column: NDArray[Any]) -> str | None:
    if NOT_AN_INPUT.search(name.lower()):
        return "a protected characteristic by its name"
    if column.dtype.kind == "O":
        texts = {v for v in column.tolist() if v is not None}
        if not texts:
            return "it has no values"
        if any(not isinstance(v, str | bool) for v in texts):
            return "its values are neither numbers, texts nor true/false"
        if len(texts) > MAX_DRAFT_CATEGORIES:
            return f"{len(texts)} different texts: an identifier or free text"
        return None
    if column.dtype.kind == "f" and np.isnan(column).all():
        return "it has no values"
    whole = column.dtype.kind in "iu" or (column.dtype.kind == "f" and (column == np.floor(column)).all())
    if whole and len(column) > 50 and len(np.unique(column)) == len(column):
        consecutive = float(column.max() - column.min()) == len(column) - 1
        if consecutive or IDENTIFIER.search(name.lower()):
            return "every value is different: an identifier"
    return None


def _draft(name: str, column: NDArray[Any]) -> Feature:
    words = re.sub(r"[_\-.]+", " ", name).strip() or name
    values = column.tolist()
    missing = any(v is None or v != v for v in values)
    reason = words[0].upper() + words[1:]
    common: dict[str, Any] = {
        "name": name,
        "missing": "allowed" if missing else "forbidden",
        "reason": "" if vague(reason) else reason,
        "protected": bool(PROTECTED.search(name.lower())),
        "origin": "drafted from data",
    }
    if column.dtype.kind == "b" or all(v is None or isinstance(v, bool) for v in values):
        return Feature(type="boolean", **common)
    if column.dtype.kind == "O":
        return Feature(type="category", categories=sorted({v for v in values if v is not None}), **common)
    known = np.asarray(column[~np.isnan(column)] if missing else column, dtype=np.float64)
    whole = bool((known == np.floor(known)).all()) and float(np.abs(known).max()) <= LARGEST_INTEGER
    wide = _round_up(10.0 * max(float(np.abs(known).max()), 1.0))
    return Feature(
        type="integer" if whole else "number",
        minimum=0 if known.min() >= 0 else -min(int(wide), LARGEST_INTEGER),
        maximum=min(int(wide), LARGEST_INTEGER),
        **common,
    )


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1.0, 2.0, 5.0, 10.0) if power * step >= value)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


# --- CSV ---------------------------------------------------------------------------------------------------


def _read_csv(path: Path, texts: Collection[str]) -> Columns:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            first = file.readline(1 << 20)
            file.seek(0)
            reader = csv.reader(file, delimiter=max(DELIMITERS, key=first.count), strict=True)
            header = next(reader, [])
            _check_header(header, path)
            cells: list[list[str]] = [[] for _ in header]
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise UsageError(
                        f"{path.name} line {reader.line_num}: {len(row)} values, the header has {len(header)}"
                    )
                if len(cells[0]) >= MAX_ROWS:
                    raise LimitError(f"{path.name} has more than {MAX_ROWS} rows")
                for cell, value in zip(cells, row, strict=True):
                    cell.append(value)
        except csv.Error as error:
            raise UsageError(f"{path.name} line {reader.line_num}: {error}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{path.name} is not UTF-8 text") from None
    if not cells[0]:
        raise UsageError(f"{path.name} has a header and no rows")
    return {name: _typed(values, name in texts) for name, values in zip(header, cells, strict=True)}


def _check_header(header: list[str], path: Path) -> None:
    if not header or len(header) > MAX_COLUMNS:
        raise UsageError(f"{path.name} must begin with a header line of 1 to {MAX_COLUMNS} names")
    if "" in header or len(set(header)) != len(header):
        raise UsageError(f"{path.name}: the names in the header must be there and differ")


def _typed(cells: list[str], as_text: bool) -> NDArray[Any]:
    values = [None if cell in MISSING_TEXTS else cell for cell in cells]
    known = [v for v in values if v is not None]
    if not as_text and known:
        lowered = {v.lower() for v in set(known)} if len(set(known)) <= 6 else set()
        if lowered and lowered <= {"true", "false"}:
            flags = [None if v is None else v.lower() == "true" for v in values]
            return np.array(flags, dtype=bool if len(known) == len(values) else object)
        if not any(_code_like(v) for v in known):
            try:
                numbers = np.array(["nan" if v is None else v for v in values]).astype(np.float64)
            except ValueError:
                pass
            else:
                if np.isfinite(numbers).sum() == len(known):
                    return numbers
    return np.array(values, dtype=object)


def _code_like(text: str) -> bool:
    """`007` is a code and not the number 7; `1_000` is not a number that others would read."""
    digits = text.strip().lstrip("+-")
    return (len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()) or "_" in text


# --- Parquet -----------------------------------------------------------------------------------------------


def _read_parquet(path: Path, texts: Collection[str]) -> Columns:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("Parquet files need pyarrow: pip install 'fiduciary[data]'") from None
    try:
        file = pq.ParquetFile(path)
        if file.metadata.num_rows > MAX_ROWS:
            raise LimitError(f"{path.name} has more than {MAX_ROWS} rows")
        table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path.name} is not a readable Parquet file ({type(error).__name__})") from None
    _check_header(list(table.column_names), path)
    if not table.num_rows:
        raise UsageError(f"{path.name} has no rows")
    columns: Columns = {}
    for name in table.column_names:
        column = table.column(name)
        kind = column.type
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
            kind = column.type
        if pa.types.is_decimal(kind):
            column = column.cast(pa.float64())
            kind = column.type
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if number and name not in texts:
            if pa.types.is_integer(kind) and not column.null_count:
                columns[name] = column.to_numpy()
            else:
                columns[name] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        elif pa.types.is_boolean(kind) and not column.null_count:
            columns[name] = np.array(column.to_pylist(), dtype=bool)
        elif pa.types.is_boolean(kind):
            columns[name] = np.array(column.to_pylist(), dtype=object)
        else:
            cells = [None if v is None or v != v else _shown(v) for v in column.to_pylist()]
            columns[name] = np.array(cells, dtype=object)
    return columns
