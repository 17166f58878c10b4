"""A generated suite of hostile rows for a contract: what must be refused, at each of its three doors.

Each case takes rows that the contract accepts and breaks one thing: the bytes (not JSON, cut off, doubled keys), a
type, a range, a category, a missing value, a relation. Whatever is not refused with a `ContractError` is a finding,
and so is a valid row that is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from fiduciary.checks._attack import satisfied
from fiduciary.checks._sample import F64
from fiduciary.errors import ContractError
from fiduciary.models import CompiledContract, Contract, Feature

DRAWS = 2_000
SUITE_CELLS = 40_000
"""Wide contracts: a value is broken in as many features as keep features x columns below this, at least 16."""
Row = dict[str, Any]


class Suite(msgspec.Struct, frozen=True):
    """What came of a run: counts, and the names of cases that went wrong."""

    hostile: int
    refused: int
    valid: int
    valid_accepted: int
    cases: dict[str, int]
    """Case -> how many rows of it were refused."""
    accepted: set[str]
    crashed: set[str]
    turned_away: set[str]


def run_suite(contract: Contract, rows: F64 | None, *, seed: int = 0, rows_per_case: int = 5) -> Suite | None:
    """Throw the suite at `contract.compile()`; None when no valid row can be had to begin with.

    Valid rows are taken from `rows` (n, features), or drawn within the contract.
    """
    compiled = contract.compile()
    random = np.random.default_rng(seed)
    valid = _valid(contract, compiled, rows, random, rows_per_case)
    if not valid:
        return None
    cases: dict[str, int] = {}
    accepted: set[str] = set()
    crashed: set[str] = set()
    turned_away: set[str] = set()
    hostile = refused = good = 0
    doors: dict[str, Callable[[Any], Any]] = {
        "bytes": compiled.decode,
        "values": compiled.encode,
        "columns": compiled.table,
    }
    for row in valid:
        if _accepts(compiled, row):
            good += 1
        else:
            turned_away.add("a valid row")
        for case, door, value in _hostile(contract, row):
            hostile += 1
            name = f"{case} ({door})"
            try:
                doors[door](value)
            except ContractError:
                refused += 1
                cases[name] = cases.get(name, 0) + 1
            except Exception:
                crashed.add(name)
            else:
                accepted.add(name)
    return Suite(
        hostile, refused, len(valid), good, dict(sorted(cases.items())), accepted, crashed, turned_away
    )


def _accepts(compiled: CompiledContract, row: Row) -> bool:
    """The three doors take a valid row and read the same values from it."""
    try:
        read = compiled.decode(json.dumps(row).encode())
        said = compiled.encode(row)
        columns = {name: np.array([value], dtype=object) for name, value in row.items()}
        column = compiled.table(columns)[0]
    except ContractError:
        return False
    return np.array_equal(read, said, equal_nan=True) and np.array_equal(read, column, equal_nan=True)


def _valid(
    contract: Contract, compiled: CompiledContract, rows: F64 | None, random: np.random.Generator, most: int
) -> list[Row]:
    found: list[Row] = []
    if rows is not None and len(rows):
        order: F64 = rows[random.permutation(len(rows))[:DRAWS]]
    else:
        order = np.stack([_draw(feature, random) for feature in contract.features], axis=1)
        order = order[satisfied(contract, order)]
    for values in order:
        if np.isnan(values).any() and any(
            f.missing == "forbidden" and np.isnan(v) for f, v in zip(contract.features, values, strict=True)
        ):
            continue
        try:
            named = compiled.decode_row(values.tolist())
            compiled.encode(named)
        except (ContractError, IndexError, ValueError, OverflowError):
            continue
        found.append(named)
        if len(found) == most:
            break
    return found


def _draw(feature: Feature, random: np.random.Generator) -> F64:
    if feature.type == "category":
        return random.integers(0, len(feature.categories), DRAWS).astype(float)
    if feature.type == "boolean":
        return random.integers(0, 2, DRAWS).astype(float)
    low = -1000.0 if feature.minimum is None else float(feature.minimum)
    high = 1000.0 if feature.maximum is None else float(feature.maximum)
    low, high = min(low, high - 1.0) if feature.minimum is None else low, max(low, high)
    values = low + random.random(DRAWS) * (high - low)
    if feature.type == "integer":
        values = np.rint(values)
    found: F64 = np.clip(values, low, high)
    return found


def _hostile(contract: Contract, row: Row) -> Iterator[tuple[str, str, Any]]:
    """(case, door, what to give to it)."""
    text = json.dumps(row)
    raw = text.encode()
    first = contract.features[0].name
    doubled = "{" + json.dumps(first) + ":" + json.dumps(row[first]) + "," + text[1:]
    for case, value in (
        ("no bytes", b""),
        ("not JSON", b"row=1"),
        ("cut off", raw[:-1]),
        ("a list", b"[" + raw + b"]"),
        ("a number", b"1"),
        ("a text", b'"row"'),
        ("null", b"null"),
        ("text after the row", raw + b"x"),
        ("two rows", raw + raw),
        ("a byte order mark", b"\xef\xbb\xbf" + raw),
        ("not UTF-8", raw[:-1] + b',"\xff":1}'),
        ("deeply nested", b'{"a":' * 5_000),
        ("a field twice", doubled.encode()),
        ("larger than a row may be", raw[:-1] + b" " * (1 << 20) + b"}"),
    ):
        yield case, "bytes", value
    yield from _both("an unknown field", {**row, "\u0000unknown": 1})
    if any(feature.missing == "forbidden" for feature in contract.features):
        yield "no fields", "values", {}
    for feature in contract.features[: max(SUITE_CELLS // len(contract.features), 16)]:
        yield from _wrong_values(feature, row)
    yield from _broken_relations(contract, row)


def _both(case: str, row: Row) -> Iterator[tuple[str, str, Any]]:
    yield case, "values", row
    yield case, "bytes", json.dumps(row).encode()
    yield case, "columns", {name: _column(value) for name, value in row.items()}


def _column(value: Any) -> Any:
    cell = np.empty(1, dtype=object)
    cell[0] = value
    return cell


def _wrong_values(feature: Feature, row: Row) -> Iterator[tuple[str, str, Any]]:
    name = feature.name
    wrong: list[tuple[str, Any]] = [("a nested list", [1]), ("a nested object", {"a": 1})]
    if feature.missing == "forbidden":
        absent = {key: value for key, value in row.items() if key != name}
        yield "a missing field", "values", absent
        yield "a missing field", "bytes", json.dumps(absent).encode()
        if absent:
            yield "a missing field", "columns", {key: _column(value) for key, value in absent.items()}
        wrong.append(("null where a value is due", None))
    if feature.type == "category":
        wrong += [
            ("an unknown category", "\u0000" + feature.categories[0]),
            ("a number for a category", 0),
            ("true for a category", True),
        ]
    elif feature.type == "boolean":
        wrong += [("1 for true", 1), ("a text for true", "true")]
    else:
        wrong += [("a text for a number", "1"), ("true for a number", True)]
        if feature.minimum is not None:
            under = float(feature.minimum)
            wrong.append(("below the minimum", math.nextafter(under, -math.inf)))
            wrong.append(("far below the minimum", under - max(1.0, abs(under))))
        if feature.maximum is not None:
            over = float(feature.maximum)
            wrong.append(("above the maximum", math.nextafter(over, math.inf)))
            wrong.append(("far above the maximum", over + max(1.0, abs(over))))
        if feature.type == "integer":
            wrong += [("not a whole number", 0.5), ("beyond 2**53", 2**53), ("beyond 2**53", -(2**53))]
        wrong += [("a number without end", 10**400)]
        for case, literal in (("NaN", b"NaN"), ("infinity", b"Infinity"), ("1e999", b"1e999")):
            yield case, "bytes", _with(row, name, literal)
        yield "infinity", "values", {**row, name: math.inf}
        yield "minus infinity", "values", {**row, name: -math.inf}
        yield (
            "infinity",
            "columns",
            {k: np.array([math.inf]) if k == name else _column(v) for k, v in row.items()},
        )
        yield "NaN", "values", {**row, name: math.nan}
        if feature.missing == "forbidden":
            nan = np.array([math.nan])
            yield "NaN", "columns", {k: nan if k == name else _column(v) for k, v in row.items()}
    for case, value in wrong:
        if case == "a number without end":
            yield case, "bytes", _with(row, name, b"1" + b"0" * 400)
            continue
        yield from _both(case, {**row, name: value})


def _with(row: Row, name: str, literal: bytes) -> bytes:
    pairs = (
        json.dumps(key).encode() + b":" + (literal if key == name else json.dumps(value).encode())
        for key, value in row.items()
    )
    return b"{" + b",".join(pairs) + b"}"


def _broken_relations(contract: Contract, row: Row) -> Iterator[tuple[str, str, Any]]:
    """Rows that break one relation and nothing else, where one side alone can be moved to do so."""
    features = {feature.name: feature for feature in contract.features}
    compiled = contract.compile()
    for relation in contract.relations:
        other = row[relation.right] if isinstance(relation.right, str) else relation.right
        if other is None or row[relation.left] is None:
            continue
        feature = features[relation.left]
        for value in (other, float(other) - 1.0, float(other) + 1.0, feature.minimum, feature.maximum):
            if value is None or feature.type == "boolean":
                continue
            broken = {**row, relation.left: int(value) if feature.type == "integer" else float(value)}
            alone = Contract(features=contract.features)
            try:
                values = alone.compile().encode(broken)
            except ContractError:
                continue
            if not satisfied(contract, np.array([values]))[0] and len(compiled.names) == len(values):
                yield from _both("a broken relation", broken)
                break
