"""Rows are accepted exactly when one obvious reference accepts them, with the same numbers."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.errors import ContractError
from fiduciary.models import Contract, Feature, Relation

CONTRACT = Contract(
    features=(
        Feature(name="income", type="number", minimum=0, maximum=1e6),
        Feature(name="age", type="integer", minimum=18, maximum=120),
        Feature(name="o'dd/nä~me", type="integer", missing="allowed"),
        Feature(name="owner", type="boolean"),
        Feature(name="joint", type="boolean", missing="allowed"),
        Feature(name="job", type="category", categories=["clerk", "chef é", "", 'qu"ote']),
        Feature(name="region", type="category", categories=["null", "EU"], missing="allowed"),
        Feature(name="balance", type="number", missing="allowed"),
        Feature(name="years", type="number", minimum=0, missing="allowed"),
    ),
    relations=(
        Relation(left="years", op="<=", right="age", message="years of service cannot exceed the age"),
        Relation(left="income", op="!=", right=13, message="13 stands for not asked"),
    ),
)
COMPILED = CONTRACT.compile()


class Refused(Exception):
    """The reference does not accept this row."""


def reference(raw: bytes) -> list[float]:
    """What a contract means, as plainly as it can be written."""

    def constant(_: str) -> float:
        raise Refused("not JSON")

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise Refused("a name came twice")
        return dict(pairs)

    try:
        row = json.loads(raw.decode(), object_pairs_hook=members, parse_constant=constant)
    except ValueError:
        raise Refused("not JSON") from None
    if not isinstance(row, dict) or not set(row) <= set(CONTRACT.names):
        raise Refused("unknown names")
    values: list[float] = []
    for feature in CONTRACT.features:
        value = row.get(feature.name)
        if value is None:
            if feature.missing != "allowed":
                raise Refused("missing")
            values.append(math.nan)
        elif feature.type == "category":
            if not isinstance(value, str) or value not in feature.categories:
                raise Refused("category")
            values.append(float(feature.categories.index(value)))
        elif feature.type == "boolean":
            if not isinstance(value, bool):
                raise Refused("boolean")
            values.append(1.0 if value else 0.0)
        else:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise Refused("number")
            if abs(value) > 1.7976931348623157e308:
                raise Refused("not finite")
            number = float(value)
            if feature.type == "integer" and (number != int(number) or abs(number) >= 2**53):
                raise Refused("whole")
            if feature.minimum is not None and number < feature.minimum:
                raise Refused("minimum")
            if feature.maximum is not None and number > feature.maximum:
                raise Refused("maximum")
            values.append(number)
    by_name = dict(zip(CONTRACT.names, values, strict=True))
    if by_name["years"] > by_name["age"] or by_name["income"] == 13:
        raise Refused("relation")
    return values


def same(a: list[float], b: list[float]) -> bool:
    return np.array(a).tobytes() == np.array(b).tobytes()


GOOD: dict[str, st.SearchStrategy[str]] = {
    "income": st.one_of(st.integers(0, 10**6), st.floats(0, 1e6)).map(json.dumps),
    "age": st.one_of(st.integers(18, 120), st.integers(18, 120).map(float)).map(json.dumps),
    "o'dd/nä~me": st.one_of(st.none(), st.integers(-(2**53) + 1, 2**53 - 1)).map(json.dumps),
    "owner": st.booleans().map(json.dumps),
    "joint": st.one_of(st.none(), st.booleans()).map(json.dumps),
    "job": st.tuples(st.sampled_from(["clerk", "chef é", "", 'qu"ote']), st.booleans()).map(
        lambda pair: json.dumps(pair[0], ensure_ascii=pair[1])
    ),
    "region": st.sampled_from(["null", '"null"', '"EU"', '"\\u0045U"']),
    "balance": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)).map(json.dumps),
    "years": st.one_of(st.none(), st.floats(0, 18)).map(json.dumps),
}
WRONG = st.sampled_from(
    ["null", "true", '"x"', '""', "NaN", "Infinity", "-Infinity", "1e309", "-1e309", "1e400", "9" * 400, "-1",
     "13", "0.5", "1e3", "121", "9007199254740992", "9007199254740993", "[]", "{}", '{"a":1,"a":2}', "[[1]]",
     "01", "+1", "1.", "-0", "-0.0", "5e-324", "18.0000000000000001", "", " ", "1,", '"\\ud800"', "1e-400"]
)  # fmt: skip
NAMES = st.one_of(
    st.sampled_from([*CONTRACT.names, "unknown", "Income", "income ", ""]),
    st.text(max_size=4),
)


@st.composite
def rows(draw: st.DrawFn) -> bytes:
    """Mostly right rows, with a few things done to them."""
    members = [
        (json.dumps(name, ensure_ascii=draw(st.booleans())), draw(good)) for name, good in GOOD.items()
    ]
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(members) - 1)) if members else 0
        action = draw(st.sampled_from(["wrong", "drop", "add", "duplicate", "escape"]))
        if action == "add" or not members:
            members.insert(at, (json.dumps(draw(NAMES)), draw(WRONG)))
        elif action == "wrong":
            members[at] = (members[at][0], draw(WRONG))
        elif action == "drop":
            members.pop(at)
        elif action == "duplicate":
            name = members[at][0]
            members.append((name, draw(st.one_of(st.just(members[at][1]), WRONG))))
        else:
            name = json.loads(members[at][0])
            members[at] = ("".join(['"', *(f"\\u{ord(c):04x}" for c in name), '"']), members[at][1])
    members = draw(st.permutations(members))
    gap = draw(st.sampled_from(["", " ", "\n\t "]))
    text = "{" + gap + ("," + gap).join(f"{name}:{gap}{value}" for name, value in members) + gap + "}"
    return text.encode("utf-8", "surrogatepass")


@settings(max_examples=1_500, deadline=None)
@given(rows())
def test_decode_agrees_with_the_reference(raw: bytes) -> None:
    try:
        expected = reference(raw)
    except Refused:
        with pytest.raises(ContractError) as caught:
            COMPILED.decode(raw, "/features")
        assert caught.value.where is not None and caught.value.where.startswith("/features")
    else:
        assert same(COMPILED.decode(raw), expected)


@settings(max_examples=400, deadline=None)
@given(rows())
def test_encode_and_table_agree_with_decode(raw: bytes) -> None:
    """The three doors have the same rules; table() sees a batch in which this row is the third."""
    try:
        row = json.loads(raw, object_pairs_hook=lambda pairs: dict(pairs) if unique(pairs) else {"twice": 1})
    except ValueError:
        return
    if not isinstance(row, dict) or any(value != value for value in row.values()):
        return  # a NaN in a column means missing; in a row it is refused
    good = {"income": 5, "age": 40, "owner": True, "job": "clerk"}
    batch = [good, good, row, good]
    columns = {}
    for name in sorted(set(CONTRACT.names) | set(row)):
        columns[name] = np.empty(len(batch), dtype=object)
        columns[name][:] = [each.get(name) for each in batch]
    try:
        expected = COMPILED.encode(row, "/x")
    except ContractError as refused:
        with pytest.raises(ContractError):
            COMPILED.decode(json.dumps(row).encode() if "twice" not in row else raw)
        with pytest.raises(ContractError) as caught:
            COMPILED.table(columns)
        assert caught.value.detail == refused.detail
        assert caught.value.where in (refused.where.replace("/x", "/2", 1), "")  # "": an unknown column
    else:
        assert same(COMPILED.decode(json.dumps(row).encode()), expected)
        table = COMPILED.table(columns)
        assert table.shape == (4, len(CONTRACT.names)) and same(table[2].tolist(), expected)


def unique(pairs: list[tuple[str, Any]]) -> bool:
    return len({name for name, _ in pairs}) == len(pairs)


@settings(max_examples=300, deadline=None)
@given(rows())
def test_named_values_come_back(raw: bytes) -> None:
    try:
        row = COMPILED.decode(raw)
    except ContractError:
        return
    named = COMPILED.decode_row(row)
    assert same(COMPILED.encode(named), row)
    assert same(COMPILED.decode(json.dumps(named).encode()), row)


SECRET = "Jane Doe 1977 DE89370400440532013000"


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CONTRACT.names), st.booleans())
def test_no_message_repeats_a_value_or_an_unknown_name(name: str, as_name: bool) -> None:
    row: dict[str, Any] = {"income": 5, "age": 40, "owner": True, "job": "clerk"}
    if as_name:
        row[SECRET] = 1
    else:
        row[name] = SECRET
    with pytest.raises(ContractError) as caught:
        COMPILED.decode(json.dumps(row).encode(), "/features")
    assert SECRET not in json.dumps(caught.value.problem())
    row.pop(SECRET, None)
    row[name] = 7193771.25
    try:
        COMPILED.decode(json.dumps(row).encode())
    except ContractError as error:
        assert "7193771" not in json.dumps(error.problem())
