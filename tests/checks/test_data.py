"""Data checks: what they catch, on made-up tables and on the two corruptions that public copies really had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.checks import DataCard, Lineage, Sample, Subject, describe, run_check
from fiduciary.checks._data import row_hashes
from fiduciary.errors import UsageError
from fiduciary.models import read_table

Columns = dict[str, np.ndarray[Any, Any]]


def sample_of(rows: object, **more: object) -> Sample:
    table = np.asarray(rows, dtype=np.float64)
    names = tuple(f"x{j}" for j in range(table.shape[1]))
    return Sample(rows=table, names=names, scores=np.full(len(table), 0.5), **more)


def portfolio(n: int = 400) -> Columns:
    rng = np.random.default_rng(0)
    return {
        "income": rng.integers(1_000, 9_000, n).astype(np.float64),
        "housing": np.array(["rent", "own", "free"], dtype=object)[rng.integers(0, 3, n)],
        "late": rng.integers(0, 4, n),
        "bad": (rng.random(n) < 0.25).astype(np.int64),
    }


def failing(table: Columns, card: DataCard) -> set[str]:
    names = ("schema", "base_rate", "recoding", "control_totals", "completeness")
    results = [run_check(f"data.{name}", Subject(table=table, card=card)) for name in names]
    return {r.name.removeprefix("data.") for r in results if r.ok is not True}


def test_a_table_agrees_with_its_own_card_and_corruptions_do_not() -> None:
    table = portfolio()
    card = describe(table, "bad", "1", totals=("income",))
    assert DataCard.from_json(msgspec.json.encode(card)) == card
    assert failing(table, card) == set()
    assert failing({k: v for k, v in table.items() if k != "late"}, card) == {
        "schema",
        "recoding",
        "completeness",
    }
    assert failing({**table, "late": table["late"].astype(str).astype(object)}, card) == {
        "schema",
        "recoding",
    }
    assert failing({**table, "bad": 1 - table["bad"]}, card) == {"base_rate", "recoding"}
    assert failing({**table, "income": table["income"] / 1000}, card) == {"control_totals"}
    assert failing({**table, "income": table["income"] * 100}, card) == {"control_totals", "recoding"}
    assert failing({k: v[:200] for k, v in table.items()}, card) >= {"control_totals", "completeness"}
    gaps = {**table, "housing": np.where(np.arange(400) < 40, None, table["housing"])}
    assert failing(gaps, card) == {"completeness"}
    relabelled = {**table, "housing": np.where(table["housing"] == "own", "OWN", table["housing"])}
    assert failing(relabelled, card) == {"recoding"}


def test_another_draw_of_the_same_population_is_not_a_recoding() -> None:
    table = portfolio(4000)
    card = describe({k: v[:2000] for k, v in table.items()}, "bad", "1")
    later = {k: v[2000:] for k, v in table.items()}
    assert failing(later, card) <= {"base_rate", "control_totals"}
    assert run_check("data.recoding", Subject(table=later, card=card)).ok is True


def test_german_credit_with_its_class_recoded(shared_data: Path) -> None:
    """The real corruption: a public copy where class 2 (bad) had become 0 without a word."""
    table = read_table(shared_data / "german_credit.parquet")
    card = describe(table, "class", "2", totals=("age",))
    assert card.base_rate == pytest.approx(0.3)
    assert failing(table, card) == set()
    recoded = {**table, "class": np.where(table["class"] == 2, 0, table["class"])}
    assert failing(recoded, card) == {"base_rate", "recoding"}
    rate = run_check("data.base_rate", Subject(table=recoded, card=card))
    assert rate.value == 0 and "does not occur" in rate.detail and "0, 1" in rate.detail


def test_taiwan_without_payment_status_and_with_sex_as_text(shared_data: Path) -> None:
    """The real corruption: a public copy that lacked the six PAY columns and spelt sex out."""
    table = read_table(shared_data / "taiwan_default.parquet")
    card = describe(table, "default_next_month", "1", totals=("limit_bal",))
    assert failing(table, card) == set()
    status = [f"pay_{i}" for i in (0, 2, 3, 4, 5, 6)]
    lost = {k: v for k, v in table.items() if k not in status}
    lost["sex"] = np.where(lost["sex"] == 2, "female", "male").astype(object)
    assert failing(lost, card) == {"schema", "recoding", "completeness"}
    schema = run_check("data.schema", Subject(table=lost, card=card))
    assert schema.numbers["absent"] == status
    assert schema.numbers["retyped"] == ["sex (number became text)"]
    assert schema.value == 7
    kept = {**table, "sex": lost["sex"]}
    assert failing(kept, card) == {"schema", "recoding"}


def test_leakage_finds_a_copy_of_the_target_under_any_coding() -> None:
    rng = np.random.default_rng(2)
    y = rng.random(500) < 0.3
    clean = rng.normal(size=(500, 2)) + 0.5 * y[:, None]

    def judge(column: np.ndarray) -> Any:
        return run_check(
            "data.leakage", Subject(sample=sample_of(np.column_stack([clean, column]), outcomes=y))
        )

    assert judge(rng.normal(size=500)).ok is True
    scattered = np.where(y, rng.choice([1.0, 5.0, 9.0], 500), rng.choice([3.0, 7.0], 500))
    for copy in (y * 1.0, -1.0 * y, np.where(y, np.nan, 1.0), scattered, y + rng.normal(0, 0.1, 500)):
        result = judge(copy)
        assert result.ok is False and "x2" in result.detail
    constant = sample_of(np.zeros((4, 1)), outcomes=np.array([True] * 4))
    assert run_check("data.leakage", Subject(sample=constant)).ok is None


def test_duplicates_by_content_and_by_key() -> None:
    rows = np.array([[1.0, np.nan], [1.0, np.nan], [0.0, 2.0], [-0.0, 2.0], [3.0, 4.0]])
    result = run_check("data.duplicates", Subject(sample=sample_of(rows)), {"maximum": 0.3})
    assert (result.ok, result.numbers["by_content"]) == (False, 2)
    told = sample_of(rows, outcomes=np.array([True, False, True, True, False]))
    assert run_check("data.duplicates", Subject(sample=told)).numbers["by_content"] == 1
    keyed = sample_of(rows, keys=np.arange(5))
    assert run_check("data.duplicates", Subject(sample=keyed)).ok is True


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2), st.booleans()), min_size=1, max_size=30))
def test_hashes_are_equal_when_rows_are(values: list[tuple[int, int, bool]]) -> None:
    rows = np.array([[a, np.nan if gone else b] for a, b, gone in values], dtype=np.float64)
    hashes = row_hashes(rows)
    for i in range(len(rows)):
        for j in range(len(rows)):
            assert (hashes[i] == hashes[j]) == np.array_equal(rows[i], rows[j], equal_nan=True)


def test_missingness_shift() -> None:
    rng = np.random.default_rng(3)
    before, now = rng.normal(size=(400, 2)), rng.normal(size=(300, 2))
    now[:60, 1] = np.nan
    subject = Subject(sample=sample_of(now), development=sample_of(before))
    result = run_check("data.missingness_shift", subject)
    assert result.ok is False and result.value == pytest.approx(0.2) and "x1" in result.detail
    from statsmodels.stats.proportion import proportions_ztest

    p = proportions_ztest([60, 0], [300, 400])[1]
    assert result.numbers["features"]["x1"]["p_value"] == pytest.approx(p, abs=1e-12)


def test_disjoint() -> None:
    def part(keys: list[Any]) -> Sample:
        return sample_of(np.arange(len(keys), dtype=float)[:, None], keys=np.array(keys, dtype=object))

    apart = Subject(development=part(["a", "b"]), sample=part(["c", "d"]), test=part(["e"]))
    assert run_check("data.disjoint", apart).ok is True
    mixed = Subject(development=part(["a", "b"]), sample=part(["b", "d"]), test=part(["a"]))
    result = run_check("data.disjoint", mixed)
    assert (result.ok, result.value) == (False, 2)
    assert "b" not in result.detail.split()
    blank = Subject(development=part(["a", None]), sample=part(["c"]))
    assert run_check("data.disjoint", blank).ok is None
    assert run_check("data.disjoint", Subject(development=part(["a"]))).ok is None


def test_lineage() -> None:
    sample = sample_of(np.zeros((1, 2)))
    whole = Lineage(source="core", table="loans", column="amount", transform="sha256:" + "0" * 64)
    bare = Lineage(source="core", table="", column="amount")
    odd = Lineage(source="core", table="loans", column="amount", transform="v2")

    def judge(**lineage: Lineage) -> Any:
        return run_check("data.lineage", Subject(sample=sample, card=DataCard(columns=(), lineage=lineage)))

    assert judge(x0=whole, x1=whole).ok is True
    assert judge(x0=whole).numbers["absent"] == ["x1"]
    assert judge(x0=bare, x1=odd).numbers["incomplete"] == ["x0", "x1"]


def test_representative() -> None:
    development = sample_of(np.zeros((100, 1)), groups={"sex": np.array(["f"] * 50 + ["m"] * 50)})
    same = DataCard(columns=(), population={"sex": {"f": 0.52, "m": 0.48}})
    assert run_check("data.representative", Subject(development=development, card=same)).ok is True
    other = DataCard(columns=(), population={"sex": {"f": 0.5, "m": 0.45, "x": 0.05}})
    result = run_check("data.representative", Subject(development=development, card=other))
    assert result.ok is False and result.numbers["under_represented"] == ["sex x"]
    assert run_check("data.representative", Subject(development=development)).ok is None


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"[]", b'{"columns": [{"name": "a"}]}', b'{"columns": [], "rate": 1}', b"[" * 100_000],
)
def test_a_bad_card_is_refused_in_words(document: bytes) -> None:
    with pytest.raises(UsageError, match="data card"):
        DataCard.from_json(document)
