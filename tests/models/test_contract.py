"""A contract says what a row must be; a wrong contract, row or number is refused with its place."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiduciary.errors import ContractError
from fiduciary.models import Contract, Feature, Relation, expected

AGE = Feature(name="age", type="integer", minimum=18, maximum=120, unit="years")
JOB = Feature(name="job", type="category", categories=["a", "b"])


def contract(*features: Feature, relations: tuple[Relation, ...] = ()) -> Contract:
    return Contract(features=features, relations=relations)


def refusal(raw: str | bytes, *features: Feature, relations: tuple[Relation, ...] = ()) -> ContractError:
    compiled = contract(*features, relations=relations).compile()
    with pytest.raises(ContractError) as caught:
        compiled.decode(raw.encode() if isinstance(raw, str) else raw, "/features")
    return caught.value


@pytest.mark.parametrize(
    ("raw", "where", "message"),
    [
        ('{"age":17}', "/age", "is below the minimum; give a whole number from 18 to 120 (years)"),
        ('{"age":121}', "/age", "is above the maximum"),
        ('{"age":18.5}', "/age", "is not a whole number"),
        ('{"age":"40"}', "/age", "has the wrong type"),
        ('{"age":true}', "/age", "has the wrong type"),
        ('{"age":null}', "/age", "is missing; give"),
        ('{"age":NaN}', "/age", "is not a finite number"),
        ('{"age":Infinity}', "/age", "is not a finite number"),
        ('{"age":1e309}', "/age", "is not a finite number"),
        ('{"age":' + "9" * 5000 + "}", "/age", "is not a finite number"),
        ('{"age":[40]}', "/age", "has the wrong type"),
        ('{"age":40,"age":40}', "/age", "came twice"),
        ('{"age":40,"\\u0061ge":40}', "/age", "came twice"),
        ("{}", "/age", "is missing"),
        ('{"age":40,"aeg":1}', "", "does not know; did you mean age?"),
        ("[40]", "", "must be one JSON object"),
        ("40", "", "must be one JSON object"),
        ('{"age":40', "", "not valid JSON"),
        ('{"age":40}{"age":40}', "", "not valid JSON"),
        ("", "", "not valid JSON"),
        (b'{"age":40,"\xff":1}', "", "not valid JSON"),
        (b'\xef\xbb\xbf{"age":40}', "", "not valid JSON"),
        ('{"age":40}'.encode("utf-16"), "", "not valid JSON"),
        ('{"age":' + "[" * 100_000 + "]" * 100_000 + "}", "", "not valid JSON"),
    ],
)
def test_a_wrong_row_is_refused_with_its_place(raw: str | bytes, where: str, message: str) -> None:
    error = refusal(raw, AGE)
    assert error.where == "/features" + where
    assert message in error.detail


def test_a_wrong_category_names_the_allowed_ones() -> None:
    error = refusal('{"job":"c"}', JOB)
    assert "one of 'a', 'b'" in error.detail and error.where == "/features/job"


def test_the_pointer_is_escaped() -> None:
    assert refusal("{}", Feature(name="a/b~c", type="number")).where == "/features/a~1b~0c"


def test_relations_are_applied_when_both_sides_are_known() -> None:
    years = Feature(name="years", type="number", missing="allowed")
    rule = Relation(left="years", op="<=", right="age", message="years cannot exceed age")
    error = refusal('{"age":20,"years":21}', AGE, years, relations=(rule,))
    assert error.detail == "years cannot exceed age" and error.where == "/features/years"
    compiled = contract(AGE, years, relations=(rule,)).compile()
    assert compiled.decode(b'{"age":20,"years":20}') == [20.0, 20.0]
    assert compiled.decode(b'{"age":20,"years":null}')[0] == 20.0
    with pytest.raises(ContractError) as caught:
        compiled.table({"age": np.array([20, 20]), "years": np.array([np.nan, 21.0])})
    assert caught.value.where == "/1/years"


def test_a_duplicate_is_found_beside_a_field_left_out() -> None:
    """Counting quotes alone would be fooled: one optional field absent, another twice."""
    optional = [Feature(name=f"f{i}", type="number", missing="allowed") for i in range(4)]
    assert "twice" in refusal('{"f0":1,"f1":2,"f2":3,"f0":1}', *optional).detail
    cat = Feature(name="c", type="category", categories=["x"], missing="allowed")
    assert "twice" in refusal('{"c":null,"f0":1,"f0":1}', cat, optional[0]).detail
    assert "twice" in refusal('{"c":"x","c":null}', cat, optional[0]).detail


def test_a_huge_row_is_refused_fast() -> None:
    started = time.perf_counter()
    assert "at most" in refusal(b'{"age":40' + b" " * (2 << 20) + b"}", AGE).detail
    many = "{" + ",".join(f'"k{i}":{i}' for i in range(60_000)) + "}"
    assert "does not know" in refusal(many, AGE).detail
    assert time.perf_counter() - started < 5.0


def test_columns_of_every_dtype() -> None:
    number = Feature(name="x", type="number", missing="allowed", maximum=100)
    flag = Feature(name="f", type="boolean")
    compiled = contract(number, flag, JOB).compile()
    flags, jobs = np.array([True, False]), np.array(["a", "b"])
    wanted = [[1.0, 1.0, 0.0], [2.0, 0.0, 1.0]]
    for x in (
        np.array([1, 2]),
        np.array([1.0, 2.0], np.float32),
        np.array([1, 2.0], object),
        np.array([1, 2], "u1"),
    ):
        assert compiled.table({"x": x, "f": flags, "job": jobs}).tolist() == wanted
    table = compiled.table({"f": flags.astype(object), "job": jobs.astype(object)})
    assert np.isnan(table[:, 0]).all()
    for name, column, row in [
        ("x", np.array([1.0, np.inf]), 1),
        ("x", np.array([101, 2]), 0),
        ("x", np.array(["1", "2"]), 0),
        ("x", np.array([1 + 0j, 2]), 0),
        ("x", np.array([1, 2], "datetime64[s]"), 0),
        ("f", np.array([1, 0]), 0),
        ("job", np.array(["a", "c"]), 1),
        ("job", np.array(["a", None], object), 1),
        ("job", np.array([0, 1]), 0),
    ]:
        columns = {"x": np.array([1, 2]), "f": flags, "job": jobs, name: column}
        with pytest.raises(ContractError) as caught:
            compiled.table(columns, "/rows")
        assert caught.value.where == f"/rows/{row}/{name}"
    with pytest.raises(ContractError):
        compiled.table({"x": np.array([1, 2]), "f": flags[:1], "job": jobs})
    with pytest.raises(ContractError):
        compiled.table({"x": np.array([1, 2]), "f": flags, "job": jobs, "y": flags})
    assert compiled.table({"f": flags, "job": jobs, "y": flags}, ignore_unknown=True).shape == (2, 3)


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({"features": []}, "/features"),
        ({"features": [{"name": "", "type": "number"}]}, "/features/0/name"),
        ({"features": [{"name": 'a"b', "type": "number"}]}, "/features/0/name"),
        ({"features": [{"name": "a\\b", "type": "number"}]}, "/features/0/name"),
        ({"features": [{"name": "a\n", "type": "number"}]}, "/features/0/name"),
        ({"features": [{"name": "a" * 129, "type": "number"}]}, "/features/0/name"),
        ({"features": [{"name": "a", "type": "number"}, {"name": "a", "type": "number"}]}, "/features/1"),
        ({"features": [{"name": "a", "type": "number", "minimum": 2, "maximum": 1}]}, "/features/0"),
        ({"features": [{"name": "a", "type": "integer", "minimum": 0.5}]}, "/features/0/minimum"),
        ({"features": [{"name": "a", "type": "integer", "maximum": 2**53}]}, "/features/0/maximum"),
        ({"features": [{"name": "a", "type": "number", "maximum": 10**400}]}, "/features/0/maximum"),
        ({"features": [{"name": "a", "type": "number", "maximum": 2**53 + 1}]}, "/features/0/maximum"),
        ({"features": [{"name": "a", "type": "boolean", "minimum": 0}]}, "/features/0/minimum"),
        ({"features": [{"name": "a", "type": "category"}]}, "/features/0/categories"),
        ({"features": [{"name": "a", "type": "category", "categories": ["", ""]}]}, "/features/0/categories"),
        ({"features": [{"name": "a", "type": "number", "categories": ["x"]}]}, "/features/0/categories"),
        ({"features": [{"name": "a", "type": "category", "categories": ["x"], "monotone": 1}]},
         "/features/0/monotone"),
        ({"features": [{"name": "a", "type": "number"}, {"name": "b", "type": "number", "group": "a"}]},
         "/features/1/group"),
        ({"features": [{"name": "a", "type": "number", "reason": "x" * 2_001}]}, "/features/0/reason"),
        ({"features": [{"name": "a", "type": "number"}],
          "relations": [{"left": "a", "op": "<", "right": "b", "message": "m"}]}, "/relations/0/right"),
        ({"features": [{"name": "a", "type": "number"}],
          "relations": [{"left": "a", "op": "<", "right": 1, "message": " "}]}, "/relations/0"),
        ({"features": [{"name": "a", "type": "category", "categories": ["x"]}],
          "relations": [{"left": "a", "op": "<", "right": 1, "message": "m"}]}, "/relations/0/left"),
        ({"features": [{"name": "a", "type": "text"}]}, None),
        ({"features": [{"name": "a", "type": "number", "min": 1}]}, None),
        ({"version": 2, "features": [{"name": "a", "type": "number"}]}, None),
        ([], None),
    ],
)  # fmt: skip
def test_a_wrong_contract_is_refused_with_its_place(document: Any, where: str | None) -> None:
    with pytest.raises(ContractError) as caught:
        Contract.from_json(json.dumps(document).encode())
    assert caught.value.where == where


def test_a_contract_comes_back_from_its_file(tmp_path: Path) -> None:
    original = contract(AGE, JOB, relations=(Relation(left="age", op=">", right=17.5, message="of age"),))
    (tmp_path / "contract.json").write_bytes(original.to_json())
    again = Contract.load(tmp_path / "contract.json")
    assert again == original and again.digest == original.digest and len(again.digest) == 32
    assert contract(JOB, AGE).digest != original.digest
    for wrong in (b"{", b"\xff\xfe", b'{"features":[{"name":"\xff","type":"number"}]}'):
        with pytest.raises(ContractError):
            Contract.from_json(wrong)
    with pytest.raises(ContractError, match="cannot be read"):
        Contract.load(tmp_path / "absent.json")


def test_the_example_of_the_documentation_is_a_contract() -> None:
    page = Path(__file__).parents[2] / "docs" / "contract.md"
    example = page.read_text().split("```json")[1].split("```")[0]
    compiled = Contract.from_json(example.encode()).compile()
    row = {"age": 40, "income": None, "years_employed": 2.5, "housing": "rent"}
    assert compiled.decode_row(compiled.encode(row)) == row
    with pytest.raises(ContractError, match="years_employed cannot exceed age"):
        compiled.encode({**row, "years_employed": 41})


def test_expectations_in_words() -> None:
    assert expected(AGE) == "a whole number from 18 to 120 (years)"
    assert expected(Feature(name="x", type="number", missing="allowed")) == "a number, or null when unknown"
    assert expected(Feature(name="x", type="number", minimum=0)) == "a number of at least 0"
    assert expected(Feature(name="x", type="number", maximum=0)) == "a number of at most 0"
    assert expected(Feature(name="x", type="boolean")) == "true or false"
    many = Feature(name="x", type="category", categories=[str(i) for i in range(20)])
    assert expected(many).endswith("'7' and 12 more")
