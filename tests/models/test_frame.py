"""Files become columns, columns a draft contract; what cannot be read is said with its line."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiduciary.errors import UsageError
from fiduciary.models import Contract, Feature, events_of, infer_contract, read_table, split_rows


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_csv_columns_have_the_types_of_their_cells(tmp_path: Path) -> None:
    file = write(
        tmp_path / "rows.csv",
        'amount;whole;flag;sparse;code;job;gap\n1.5;1;true;TRUE;007;clerk;NA\n-2e3;2;false;;008;"a;b";3\n',
        "utf-8-sig",
    )
    columns = read_table(file)
    assert columns["amount"].tolist() == [1.5, -2000.0] and columns["whole"].tolist() == [1.0, 2.0]
    assert columns["flag"].dtype == bool and columns["sparse"].tolist() == [True, None]
    assert columns["code"].tolist() == ["007", "008"]  # a code, not the number 7
    assert columns["job"].tolist() == ["clerk", "a;b"]
    assert np.isnan(columns["gap"][0]) and columns["gap"][1] == 3.0
    for text in ("1e999", "1_000", "inf", "12a"):
        kept = read_table(write(tmp_path / "odd.csv", f"x,y\n{text},1\n2,1\n"))["x"]
        assert kept.tolist() == [text, "2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header line"),
        ("a,b\n", "no rows"),
        ("a,a\n1,2\n", "differ"),
        ("a,\n1,2\n", "be there"),
        ("a,b\n1,2\n1\n", "line 3: 1 values, the header has 2"),
        ('a,b\n1,"2\n', "line"),
    ],
)
def test_a_csv_that_is_not_one_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_table(write(tmp_path / "rows.csv", text))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(UsageError, match="neither"):
        read_table(write(tmp_path / "rows.pkl", "x"))
    with pytest.raises(UsageError, match="UTF-8"):
        read_table(write(tmp_path / "rows.csv", "a\nä\n", "latin-1"))
    with pytest.raises(UsageError, match="not a readable Parquet"):
        read_table(write(tmp_path / "rows.parquet", "PAR1 and so on"))


def test_parquet_columns_have_the_types_of_their_schema(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "whole": pa.array([1, 2], pa.int32()),
            "gap": pa.array([1, None], pa.int64()),
            "small": pa.array([0.5, None], pa.float32()),
            "money": pa.array([decimal.Decimal("1.25"), decimal.Decimal("2")]),
            "flag": [True, False],
            "sparse": [None, False],
            "text": pa.array(["x", None]).dictionary_encode(),
            "day": [datetime.date(2026, 5, 3), None],
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    columns = read_table(tmp_path / "rows.parquet")
    assert columns["whole"].tolist() == [1, 2] and columns["gap"][0] == 1.0 and np.isnan(columns["gap"][1])
    assert columns["small"][0] == 0.5 and columns["money"].tolist() == [1.25, 2.0]
    assert columns["flag"].dtype == bool and columns["sparse"].tolist() == [None, False]
    assert columns["text"].tolist() == ["x", None] and columns["day"].tolist() == ["2026-05-03", None]
    contract = Contract(
        features=(
            Feature(name="whole", type="category", categories=["1", "2"]),
            Feature(name="gap", type="category", categories=["1"], missing="allowed"),
        )
    )
    again = read_table(tmp_path / "rows.parquet", contract)
    assert again["whole"].tolist() == ["1", "2"] and again["gap"].tolist() == ["1", None]
    assert contract.compile().table(again, ignore_unknown=True).shape == (2, 2)


def test_a_draft_accepts_its_own_data_and_leaves_people_out() -> None:
    n = 200
    rng = np.random.default_rng(0)
    columns: dict[str, np.ndarray[Any, Any]] = {
        "customer_id": rng.permutation(n) * 7,
        "row": np.arange(n),
        "sex": rng.choice(["m", "f"], n).astype(object),
        "personal_status_sex": rng.choice(["a", "b"], n).astype(object),
        "age": rng.integers(18, 80, n),
        "balance": rng.normal(0, 900, n).round(2),
        "income": np.where(rng.random(n) < 0.1, np.nan, rng.exponential(3e4, n)),
        "job": rng.choice(["b", "a", None], n).astype(object),
        "owner": rng.random(n) < 0.5,
        "rating": rng.integers(1, 9, n),
        "note": np.array([f"free text {i}" for i in range(n)], dtype=object),
        "empty": np.full(n, np.nan),
        "bad": rng.integers(0, 2, n),
    }
    draft = infer_contract(columns, "bad")
    assert set(draft.left_out) == {"customer_id", "row", "sex", "personal_status_sex", "note", "empty"}
    assert "protected" in draft.left_out["sex"] and "identifier" in draft.left_out["customer_id"]
    by_name = {feature.name: feature for feature in draft.contract.features}
    assert list(by_name) == ["age", "balance", "income", "job", "owner", "rating"]
    assert by_name["age"].type == "integer" and by_name["age"].protected and by_name["age"].minimum == 0
    assert by_name["balance"].type == "number" and by_name["balance"].minimum < 0
    assert by_name["income"].missing == "allowed" and by_name["job"].categories == ["a", "b"]
    assert by_name["owner"].type == "boolean" and by_name["owner"].missing == "forbidden"
    assert by_name["income"].reason == "Income" and by_name["rating"].reason == ""  # vague: to be written
    assert Contract.from_json(draft.contract.to_json()) == draft.contract
    rows = draft.contract.compile().table(columns, ignore_unknown=True)
    assert rows.shape == (n, 6)
    assert "sex" in [f.name for f in infer_contract(columns, "bad", include=["sex"]).contract.features]
    with pytest.raises(UsageError, match="no column 'good'"):
        infer_contract(columns, "good")
    with pytest.raises(UsageError, match="no column is left"):
        infer_contract({"bad": columns["bad"], "sex": columns["sex"]}, "bad")


def test_a_target_has_two_values_and_a_named_event() -> None:
    assert events_of(np.array([0, 1, 1])).tolist() == [0, 1, 1]
    assert events_of(np.array([True, False])).tolist() == [1, 0]
    assert events_of(np.array([1.0, 2.0]), "2").tolist() == [0, 1]
    assert events_of(np.array(["good", "bad"], object), "bad").tolist() == [0, 1]
    for column, positive, message in [
        (np.array([1, 2]), None, "which value"),
        (np.array([1, 2]), "3", "not 3"),
        (np.array([0, 1, 2]), None, "two values"),
        (np.array([0.0, np.nan]), None, "missing"),
        (np.array(["a", None], object), None, "missing"),
    ]:
        with pytest.raises(UsageError, match=message):
            events_of(column, positive)


def test_the_split_is_by_name_and_row_number() -> None:
    train, validation, test = split_rows("taiwan_default", 30_000)
    assert (len(train), len(validation), len(test)) == (17_995, 6_075, 5_930)
    assert sorted([*train, *validation, *test]) == list(range(30_000))
