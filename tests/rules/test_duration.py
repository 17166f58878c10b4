"""ISO 8601 durations, and days that are never fewer than asked for nor more than allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiduciary.errors import UsageError
from fiduciary.rules import least_days, most_days, parse_duration


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("P25M", (25, 0, 0)),
        ("P7Y", (84, 0, 0)),
        ("PT72H", (0, 0, 259_200)),
        ("P1Y2M3W4DT5H6M7S", (14, 25, 18_367)),
    ],
)
def test_read(text: str, parts: tuple[int, int, int]) -> None:
    assert parse_duration(text) == parts


@pytest.mark.parametrize("text", ["", "P", "PT", "25M", "P-1D", "P1.5D", "P1DT", "p1d", "P1D ", "P1H"])
def test_refused(text: str) -> None:
    with pytest.raises(UsageError, match="ISO 8601"):
        parse_duration(text)


@given(st.integers(0, 40), st.integers(0, 24), st.integers(0, 400))
def test_a_minimum_is_never_shorter_than_a_maximum_of_the_same_words(y: int, m: int, d: int) -> None:
    text = f"P{y}Y{m}M{d}D"
    assert least_days(text) >= most_days(text) >= d
