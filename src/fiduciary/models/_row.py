"""Rows under a contract: JSON bytes, Python mappings and columns, checked and turned into model inputs.

The fast path is one call into a msgspec Struct that is compiled from the contract, and a count of quotes that
proves that no key came twice. Whatever it refuses is read again, slowly, only to say what was wrong. Both
paths are held to one obvious reference on random rows (tests/models/test_row_properties.py). Messages name
the field and what would be right, never the value that came.
"""

from __future__ import annotations

import difflib
import json
import math
import operator
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import ContractError
from fiduciary.models._contract import LARGEST_INTEGER, Contract, Feature, escape_pointer

F64 = NDArray[np.float64]
NAN = math.nan
MAX_ROW_BYTES = 1 << 20
SHOWN_CATEGORIES = 8

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}


class CompiledContract:
    """The checker of rows. Immutable after construction; safe to share between threads."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.names = contract.names
        features = contract.features
        self._index = {name: i for i, name in enumerate(self.names)}
        self._codes: list[dict[Any, float] | None] = [_codes(feature) for feature in features]
        self._bounds = [_bounds(feature) for feature in features]
        self._coded = [(i, codes) for i, codes in enumerate(self._codes) if codes is not None]
        self._optional = any(feature.missing == "allowed" for feature in features)
        self._strings = [i for i, feature in enumerate(features) if feature.type == "category"]
        # Every key and every text value brings two quotes, and nothing takes one away. All values are scalars
        # and all keys are known, so a row has this many quotes only when every key came once; escaped quotes
        # make it more and cost a second reading.
        self._quotes = 2 * (len(features) + len(self._strings))
        self._relations = [
            (
                _OPERATORS[relation.op],
                self._index[relation.left],
                self._index[relation.right] if isinstance(relation.right, str) else -1,
                NAN if isinstance(relation.right, str) else float(relation.right),
                relation,
            )
            for relation in contract.relations
        ]
        row_type = msgspec.defstruct(
            "Row",
            [_struct_field(i, feature) for i, feature in enumerate(features)],
            rename={f"f{i}": name for i, name in enumerate(self.names)},
            forbid_unknown_fields=True,
            kw_only=True,
            frozen=True,
            gc=False,
        )
        self._decode = msgspec.json.Decoder(row_type).decode
        self._astuple = msgspec.structs.astuple

    @property
    def features(self) -> int:
        """How many features a row has."""
        return len(self.names)

    def decode(self, raw: bytes, where: str = "") -> list[float]:
        """One row from the bytes of one JSON object: float64 values in contract order.

        Categories become their position, booleans 0 or 1, missing values NaN. Raises `ContractError` whose
        `where` is a JSON pointer under the prefix `where`.
        """
        if len(raw) > MAX_ROW_BYTES:
            raise ContractError(f"a row has at most {MAX_ROW_BYTES} bytes", where=where)
        try:
            values = self._astuple(self._decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._diagnose(raw, where)
        row: list[float] = list(values)
        for i, codes in self._coded:
            row[i] = codes[row[i]]
        quotes = self._quotes
        if self._optional:
            try:
                total = sum(row)
            except TypeError:  # null or left out among the numbers
                total = NAN
            if total != total:
                quotes = self._fill_missing(values, row)
        if raw.count(b'"') != quotes:
            self._refuse_duplicates(raw, where)
        if self._relations:
            self._check_relations(row, where)
        return row

    def encode(self, row: Mapping[str, Any], where: str = "") -> list[float]:
        """One row from Python values, under the same rules and with the same errors as `decode`."""
        for name in row:
            if name not in self._index:
                self._refuse_unknown(name, where)
        values = [
            self._value(i, feature, row[feature.name], where)
            if feature.name in row
            else self._absent(feature, where)
            for i, feature in enumerate(self.contract.features)
        ]
        self._check_relations(values, where)
        return values

    def decode_row(self, values: list[float]) -> dict[str, Any]:
        """The named values of a row of model inputs: texts, true/false, whole numbers, None for missing."""
        named: dict[str, Any] = {}
        for feature, value in zip(self.contract.features, values, strict=True):
            if value != value:
                named[feature.name] = None
            elif feature.type == "category":
                named[feature.name] = feature.categories[int(value)]
            elif feature.type == "boolean":
                named[feature.name] = value != 0.0
            elif feature.type == "integer":
                named[feature.name] = int(value)
            else:
                named[feature.name] = float(value)
        return named

    def table(
        self, columns: Mapping[str, NDArray[Any]], where: str = "", *, ignore_unknown: bool = False
    ) -> F64:
        """Many rows from columns of equal length: float64 (n, features), every value checked as in `decode`.

        A number column may have a float, integer or object dtype (None or NaN is missing); a category column
        holds texts; a boolean column has a bool dtype or objects. Extra columns are refused unless
        `ignore_unknown`. Raises `ContractError` at the first wrong value, `where` = prefix/row/feature.
        """
        if not ignore_unknown:
            for name in columns:
                if name not in self._index:
                    self._refuse_unknown(name, where)
        n = len(next(iter(columns.values()))) if columns else 0
        table: F64 = np.empty((n, len(self.names)), dtype=np.float64)
        for i, feature in enumerate(self.contract.features):
            column = columns.get(feature.name)
            if column is None:
                if feature.missing == "forbidden":
                    raise ContractError(
                        f"the column {feature.name} is missing", where=_join(where, feature.name)
                    )
                table[:, i] = NAN
                continue
            column = np.asarray(column)
            if column.shape != (n,):
                raise ContractError(
                    f"the column {feature.name} must have one dimension and {n} values",
                    where=_join(where, feature.name),
                )
            self._fill_column(table[:, i], i, feature, column, where)
        for compare, left, right, constant, relation in self._relations:
            other = table[:, right] if right >= 0 else np.full(n, constant)
            known = ~(np.isnan(table[:, left]) | np.isnan(other))
            wrong = known & ~compare(table[:, left], other)
            if wrong.any():
                place = f"{where}/{int(np.argmax(wrong))}"
                raise ContractError(relation.message, where=_join(place, relation.left))
        return table

    # --- slow paths: they only say what was wrong ---------------------------------------------------------

    def _fill_missing(self, values: tuple[Any, ...], row: list[float]) -> int:
        """Put NaN where a value is missing; return the number of quotes of a row without duplicates."""
        fields = len(values)
        for i, value in enumerate(values):
            if value is msgspec.UNSET:
                row[i] = NAN
                fields -= 1
            elif value is None:
                row[i] = NAN
        return 2 * (fields + sum(1 for i in self._strings if isinstance(values[i], str)))

    def _refuse_duplicates(self, raw: bytes, where: str) -> None:
        """Read the keys again where the count of quotes does not settle it (a duplicate, or \\")."""
        seen: set[str] = set()
        for name, _ in self._pairs(raw, where):
            if name in seen:
                raise ContractError(f"the field {name} came twice; give it once", where=_join(where, name))
            seen.add(name)

    def _diagnose(self, raw: bytes, where: str) -> NoReturn:
        seen: set[str] = set()
        pairs = self._pairs(raw, where)
        for name, _ in pairs:
            if name not in self._index:
                self._refuse_unknown(name, where)
            if name in seen:
                raise ContractError(f"the field {name} came twice; give it once", where=_join(where, name))
            seen.add(name)
        self.encode(dict(pairs), where)
        raise ContractError("the row does not satisfy the contract", where=where)

    def _pairs(self, raw: bytes, where: str) -> list[tuple[str, Any]]:
        try:
            found = json.loads(
                raw.decode("utf-8"), object_pairs_hook=_Pairs, parse_int=_integer, parse_constant=_constant
            )
        except (ValueError, RecursionError):
            raise ContractError("the row is not valid JSON (UTF-8, RFC 8259)", where=where) from None
        if not isinstance(found, _Pairs):
            raise ContractError("a row must be one JSON object of named values", where=where)
        return found

    def _refuse_unknown(self, name: object, where: str) -> NoReturn:
        # The unknown name itself is not repeated: it was written by the caller and may be anything.
        near = difflib.get_close_matches(str(name)[:128], self.names[:512], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ContractError(f"the row has a field that the contract does not know{hint}", where=where)

    def _absent(self, feature: Feature, where: str) -> float:
        if feature.missing == "allowed":
            return NAN
        raise ContractError(
            f"the field {feature.name} is missing; give {expected(feature)}", where=_join(where, feature.name)
        )

    def _value(self, i: int, feature: Feature, value: Any, where: str) -> float:
        """One value checked; the one place that knows every rule in words."""
        if isinstance(value, np.generic):
            value = value.item()
        if value is None:
            if feature.missing == "allowed":
                return NAN
            _refuse(feature, "is missing", where)
        codes = self._codes[i]
        if codes is not None:
            if feature.type == "boolean":
                if not isinstance(value, bool):
                    _refuse(feature, "has the wrong type", where)
            elif not isinstance(value, str):
                _refuse(feature, "has the wrong type", where)
            elif value not in codes:
                _refuse(feature, "is not an allowed category", where)
            return codes[value]
        if isinstance(value, bool) or not isinstance(value, int | float):
            _refuse(feature, "has the wrong type", where)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            _refuse(feature, "is not a finite number", where)
        minimum, maximum = self._bounds[i]
        if number < minimum:
            _refuse(feature, "is below the minimum", where)
        if number > maximum:
            _refuse(feature, "is above the maximum", where)
        if feature.type == "integer" and not number.is_integer():
            _refuse(feature, "is not a whole number", where)
        return number

    def _fill_column(self, target: F64, i: int, feature: Feature, column: NDArray[Any], where: str) -> None:
        kind = column.dtype.kind
        if feature.type in ("number", "integer") and kind in "iuf":
            target[:] = column
            minimum, maximum = self._bounds[i]
            missing = np.isnan(target)
            bad = ~missing & ~((target >= minimum) & (target <= maximum) & np.isfinite(target))
            if feature.type == "integer":
                with np.errstate(invalid="ignore"):
                    bad |= ~missing & (target != np.floor(target))
            if feature.missing == "forbidden":
                bad |= missing
            if bad.any():
                row = int(np.argmax(bad))
                value = None if missing[row] else column[row]
                self._value(i, feature, value, f"{where}/{row}")
                _refuse(feature, "is wrong", f"{where}/{row}")
            return
        if feature.type == "boolean" and kind == "b":
            target[:] = column
            return
        codes = self._codes[i]
        values = column.tolist()
        for row, value in enumerate(values):
            if codes is not None and value.__class__ in (str, bool):
                code = codes.get(value)
                if code is not None:
                    target[row] = code
                    continue
            if isinstance(value, float) and value != value:
                value = None
            target[row] = self._value(i, feature, value, f"{where}/{row}")

    def _check_relations(self, row: list[float], where: str) -> None:
        for compare, left, right, constant, relation in self._relations:
            a = row[left]
            b = row[right] if right >= 0 else constant
            if a == a and b == b and not compare(a, b):
                raise ContractError(relation.message, where=_join(where, relation.left))


def expected(feature: Feature) -> str:
    """What a field must hold, in words: `a whole number from 18 to 120 (years)`."""
    if feature.type == "boolean":
        text = "true or false"
    elif feature.type == "category":
        text = "one of " + ", ".join(map(repr, feature.categories[:SHOWN_CATEGORIES]))
        if len(feature.categories) > SHOWN_CATEGORIES:
            text += f" and {len(feature.categories) - SHOWN_CATEGORIES} more"
    else:
        text = "a whole number" if feature.type == "integer" else "a number"
        if feature.minimum is not None and feature.maximum is not None:
            text += f" from {feature.minimum} to {feature.maximum}"
        elif feature.minimum is not None:
            text += f" of at least {feature.minimum}"
        elif feature.maximum is not None:
            text += f" of at most {feature.maximum}"
        if feature.unit:
            text += f" ({feature.unit})"
    if feature.missing == "allowed":
        text += ", or null when unknown"
    return text


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object in order, duplicates kept."""


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 else float(digits)


def _constant(name: str) -> float:
    return {"NaN": NAN, "Infinity": math.inf, "-Infinity": -math.inf}[name]


def _join(where: str, name: str) -> str:
    return f"{where}/{escape_pointer(name)}"


def _refuse(feature: Feature, problem: str, where: str) -> NoReturn:
    raise ContractError(
        f"the field {feature.name} {problem}; give {expected(feature)}", where=_join(where, feature.name)
    )


def _codes(feature: Feature) -> dict[Any, float] | None:
    if feature.type == "boolean":
        codes: dict[Any, float] = {False: 0.0, True: 1.0}
    elif feature.type == "category":
        codes = {text: float(i) for i, text in enumerate(feature.categories)}
    else:
        return None
    if feature.missing == "allowed":
        codes[None] = NAN
        codes[msgspec.UNSET] = NAN
    return codes


def _bounds(feature: Feature) -> tuple[float, float]:
    widest = float(LARGEST_INTEGER) if feature.type == "integer" else math.inf
    minimum = -widest if feature.minimum is None else float(feature.minimum)
    maximum = widest if feature.maximum is None else float(feature.maximum)
    return minimum, maximum


def _struct_field(i: int, feature: Feature) -> Any:
    kind: Any
    if feature.type == "boolean":
        kind = bool
    elif feature.type == "category":
        kind = Literal[tuple(feature.categories)]
    else:
        minimum, maximum = _bounds(feature)
        meta = msgspec.Meta(
            ge=minimum if math.isfinite(minimum) else None,
            le=maximum if math.isfinite(maximum) else None,
            multiple_of=1.0 if feature.type == "integer" else None,
        )
        kind = Annotated[float, meta]
    if feature.missing == "allowed":
        return (f"f{i}", kind | None | msgspec.UnsetType, msgspec.UNSET)
    return (f"f{i}", kind)
