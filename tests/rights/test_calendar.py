"""Calendar arithmetic of clocks, beside dateutil's relativedelta on random dates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiduciary.errors import UsageError
from fiduciary.rights import due, when


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("start", "duration", "end"),
    [
        ("2026-01-31T10:00:00+00:00", "P1M", "2026-02-28T10:00:00Z"),
        ("2028-01-31T10:00:00+00:00", "P1M", "2028-02-29T10:00:00Z"),
        ("2024-02-29T00:00:00+00:00", "P1Y", "2025-02-28T00:00:00Z"),
        ("2026-03-31T23:59:59+00:00", "P6M", "2026-09-30T23:59:59Z"),
        ("2026-11-30T00:00:00+00:00", "P3M", "2027-02-28T00:00:00Z"),
        ("2026-03-29T00:30:00+00:00", "PT4H", "2026-03-29T04:30:00Z"),  # no summer time in UTC
        ("2026-12-31T22:00:00+00:00", "PT72H", "2027-01-03T22:00:00Z"),
        ("2026-12-15T08:00:00+00:00", "P15D", "2026-12-30T08:00:00Z"),
        ("2026-01-31T00:00:00+00:00", "P1M1D", "2026-03-01T00:00:00Z"),
        ("2026-01-01T00:00:00+00:00", "P2W", "2026-01-15T00:00:00Z"),
    ],
)
def test_a_clock_ends_when_the_calendar_says(start: str, duration: str, end: str) -> None:
    assert when(due(at(start), duration)) == end


@given(st.datetimes(datetime(1970, 1, 2), datetime(2400, 1, 1)), st.integers(0, 60), st.integers(0, 400))
def test_it_agrees_with_relativedelta(start: datetime, months: int, days: int) -> None:
    relative = pytest.importorskip("dateutil.relativedelta")
    start = start.replace(tzinfo=UTC, microsecond=0)
    expected = start + relative.relativedelta(months=months) + timedelta(days=days)
    found = due(
        int((start - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 10**9 + 7, f"P{months}M{days}D"
    )
    assert when(found) == expected.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert found % 10**9 == 7


def test_wrong_durations_are_refused() -> None:
    for text in ("", "P", "1M", "PT", "P-1D", "P1.5D"):
        with pytest.raises(UsageError):
            due(0, text)
    with pytest.raises(UsageError, match="9999"):
        due(at("2026-01-01T00:00:00+00:00"), "P9999Y")
