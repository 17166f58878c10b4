"""What a source declares of its data, and an institution of its estimates: the side that data is held against.

A data card is written once from a table that a person trusts (`describe` drafts it), and travels with the data; a
later copy that lost a column or was re-coded without a word no longer agrees with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._common import shown
from fiduciary.errors import LimitError, UsageError

ColumnType = Literal["number", "text", "boolean"]

MAX_CARD_BYTES = 16 << 20
MAX_COLUMNS = 4_096
MAX_VALUES = 100
"""A column of more distinct values than this is described by its range, not by its values."""


class CardColumn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One column as its source describes it."""

    name: str
    type: ColumnType
    values: dict[str, float] = {}
    """Each value that occurs, as text -> its share of the rows that have one; empty: too many to list."""
    minimum: float | None = None
    maximum: float | None = None
    missing: float = 0.0
    """Share of rows without a value."""
    mandatory: bool = False
    """No row may be without a value."""


class Lineage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a feature comes from, down to the column and the code that made it."""

    source: str
    """System of record."""
    table: str
    column: str
    transform: str = ""
    """"sha256:<hex>" of the code or query that made the feature; empty where the column is taken as it is."""


class DataCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the source says of a table."""

    columns: tuple[CardColumn, ...]
    rows: int | None = None
    target: str = ""
    """The column of the outcome."""
    positive: str = ""
    """Which value of the target is the adverse event, as text."""
    base_rate: float | None = None
    """Share of rows with the adverse event."""
    totals: dict[str, float] = {}
    """Column -> control total at the source."""
    lineage: dict[str, Lineage] = {}
    """Feature -> where it comes from."""
    population: dict[str, dict[str, float]] = {}
    """Attribute (a group, "segment", "period") -> label -> share in the population the model is for."""

    @classmethod
    def from_json(cls, document: bytes) -> DataCard:
        """Read a card. Raises `UsageError` saying what is wrong with it, `LimitError` when it is too large."""
        card: DataCard = _decode(document, _cards, "data card")
        return card


class Margin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A margin of conservatism on one parameter (EBA/GL/2017/16 sec. 4.4)."""

    parameter: Literal["pd", "lgd", "ccf"]
    category: Literal["A", "B", "C"]
    """A: data and method deficiencies; B: changes of standards or risk appetite; C: general estimation error."""
    margin: float
    """Added to the best estimate, share."""
    reason: str
    """The deficiency, and how the margin was set."""
    scope: str = ""
    """Grade, segment or portfolio it is for."""


class Declared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A performance figure that was declared to users, authorities or the approver."""

    value: float
    tolerance: float = 0.0


class Estimation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an institution declares of its estimates."""

    margins: tuple[Margin, ...] = ()
    default_definition: str = ""
    """Version of the default definition under which outcomes were labelled."""
    performance: dict[str, Declared] = {}
    """Metric ("auc", "gini", "brier", "base_rate") -> what was declared."""

    @classmethod
    def from_json(cls, document: bytes) -> Estimation:
        """Read a declaration. Raises `UsageError` saying what is wrong with it."""
        found: Estimation = _decode(document, _estimations, "declaration of estimates")
        return found


_cards = msgspec.json.Decoder(DataCard)
_estimations = msgspec.json.Decoder(Estimation)


def _decode(document: bytes, decoder: msgspec.json.Decoder[Any], what: str) -> Any:
    if len(document) > MAX_CARD_BYTES:
        raise LimitError(f"the {what} is larger than {MAX_CARD_BYTES} bytes")
    try:
        return decoder.decode(document)
    except msgspec.ValidationError as error:
        raise UsageError(f"the {what} is wrong: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the {what} is not valid JSON: {error}") from None


def column_type(column: NDArray[Any]) -> ColumnType:
    """What a column read from a file holds; one without any value counts as numbers."""
    if column.dtype.kind == "b":
        return "boolean"
    if column.dtype.kind in "iuf":
        return "number"
    kinds = {type(v) for v in column.tolist() if v is not None and v == v}
    if kinds and kinds <= {bool, np.bool_}:
        return "boolean"
    if all(issubclass(kind, (int, float, np.number)) for kind in kinds):
        return "number"
    return "text"


def shares_of(column: NDArray[Any], most: int = MAX_VALUES) -> tuple[dict[str, float] | None, float]:
    """Share of each value among the rows that have one (None: more than `most` values), and share missing."""
    n = len(column)
    if not n:
        return {}, 0.0
    if column.dtype.kind in "biuf":
        present = column[~np.isnan(column)] if column.dtype.kind == "f" else column
        values, counts = np.unique(present, return_counts=True)
        if len(values) > most:
            return None, 1.0 - len(present) / n
        pairs = [(shown(v), int(c)) for v, c in zip(values.tolist(), counts.tolist(), strict=True)]
        total = len(present)
    else:
        found: dict[str, int] = {}
        for value in column.tolist():
            text = shown(value)
            found[text] = found.get(text, 0) + 1
        total = n - found.pop("missing", 0)
        if len(found) > most:
            return None, 1.0 - total / n
        pairs = sorted(found.items())
    return {text: count / total for text, count in pairs}, 1.0 - total / n


def describe(
    columns: Mapping[str, NDArray[Any]], target: str = "", positive: str = "", *, totals: tuple[str, ...] = ()
) -> DataCard:
    """Draft the card of a table that a person trusts: types, values or ranges, missing shares, base rate.

    `totals`: columns whose sums are kept as control totals. Raises `UsageError` for a column that is not there or,
    named in `totals`, holds no numbers; `LimitError` for too many columns.
    """
    if len(columns) > MAX_COLUMNS:
        raise LimitError(f"a data card has at most {MAX_COLUMNS} columns")
    for name in (*totals, *((target,) if target else ())):
        if name not in columns:
            raise UsageError(f"there is no column {name!r} to describe")
    cards: list[CardColumn] = []
    for name, column in columns.items():
        kind = column_type(column)
        values, missing = shares_of(column)
        low = high = None
        if kind == "number":
            present = np.asarray(column, dtype=np.float64)
            present = present[np.isfinite(present)]
            if len(present):
                low, high = float(present.min()), float(present.max())
        cards.append(
            CardColumn(
                name=name,
                type=kind,
                values=values or {},
                minimum=low,
                maximum=high,
                missing=missing,
                mandatory=missing == 0.0,
            )
        )
    rate = None
    if target and positive:
        shares, _ = shares_of(columns[target])
        rate = (shares or {}).get(positive, 0.0)
    return DataCard(
        columns=tuple(cards),
        rows=len(next(iter(columns.values()))) if columns else 0,
        target=target,
        positive=positive,
        base_rate=rate,
        totals={name: control_total(columns[name], name) for name in totals},
    )


def control_total(column: NDArray[Any], name: str) -> float:
    """Sum of a column's values, correctly rounded, missing left out. Raises `UsageError` for text."""
    if column_type(column) != "number":
        raise UsageError(f"column {name!r} holds no numbers: it has no control total")
    return math.fsum(v for v in column.tolist() if v is not None and v == v)
