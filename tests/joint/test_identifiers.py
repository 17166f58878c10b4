"""Identifiers are spelt alike, and what cannot be compared is told by position, never by value."""

from __future__ import annotations

import numpy as np
import pytest

from fiduciary.errors import UsageError
from fiduciary.joint import prepare_identifiers


def test_spellings_of_one_customer_meet() -> None:
    rules = ["unicode", "trim", "case", "separators", "zeros"]
    left = prepare_identifiers(["DE-12 345", "００7", "Straße"], rules=rules).ids
    right = prepare_identifiers([" de12345 ", 7, "STRASSE"], rules=rules).ids
    assert np.array_equal(left, right) and left.dtype == "S32"


def test_the_report_counts_and_places_but_never_repeats() -> None:
    values = ["a", "A ", "", None, float("nan"), b"\xff", "x" * 300, "b", 1.5, "c\x00d"]
    with pytest.raises(UsageError) as caught:
        prepare_identifiers(values)
    text = caught.value.detail
    assert "2 stand more than once" in text and "3 are empty" in text and "3 are not UTF-8" in text
    assert "xxx" not in text
    first = prepare_identifiers(values, keep="first")
    assert first.rows.tolist() == [0, 7]
    assert {m.kind: m.count for m in first.mismatches} == {
        "empty": 3,
        "encoding": 3,
        "length": 1,
        "duplicate": 2,
    }
    assert prepare_identifiers(values, keep="none").rows.tolist() == [7]


def test_padding_hides_the_size_and_is_not_told_from_the_rest() -> None:
    padded = prepare_identifiers(["a", "b"], pad_to=10)
    assert len(padded.ids) == 10 and sorted(padded.rows.tolist()) == [-1] * 8 + [0, 1]
    assert padded.ids.tolist() == sorted(padded.ids.tolist())
    again = prepare_identifiers(["a", "b"], pad_to=10)
    assert len(set(padded.ids.tolist()) & set(again.ids.tolist())) == 2
    with pytest.raises(UsageError, match="less than"):
        prepare_identifiers(["a", "b"], pad_to=1)


@pytest.mark.parametrize("wrong", [{"rules": ["soundex"]}, {"keep": "all"}])
def test_unknown_choices_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        prepare_identifiers(["a"], **wrong)
