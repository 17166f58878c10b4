"""When a clock of a pack runs out: ISO 8601 durations by the calendar, in UTC.

Months and years move the date and keep the time of day; where the month has no such day its last day counts (31
January + P1M is 28 or 29 February: the period of Regulation (EEC, Euratom) No 1182/71, Article 3(2)(c)). Then days,
then hours, minutes and seconds are added exactly. Nothing is moved for Saturdays or holidays: the earlier end is the
safe one.
"""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta

from fiduciary.errors import UsageError
from fiduciary.rules import parse_duration

NANO = 10**9
DAY_NS = 86_400 * NANO
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def due(start_ns: int, duration: str) -> int:
    """Nanoseconds since 1970 at which a duration that began at `start_ns` is over. Raises `UsageError`."""
    months, days, seconds = parse_duration(duration)
    whole, rest = divmod(start_ns, NANO)
    start = EPOCH + timedelta(seconds=whole)
    try:
        end = _add_months(start, months) + timedelta(days=days, seconds=seconds)
    except (OverflowError, ValueError):
        raise UsageError(f"a clock of {duration} ends after the year 9999") from None
    return int((end - EPOCH) / timedelta(seconds=1)) * NANO + rest


def _add_months(start: datetime, months: int) -> datetime:
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return start.replace(year=year, month=month + 1, day=min(start.day, last))


def when(time_ns: int) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return (EPOCH + timedelta(seconds=time_ns // NANO)).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(nanoseconds: int) -> str:
    """A length of time for people: `3 d 4 h`, `2 h 10 min`, `45 s`."""
    seconds = abs(nanoseconds) // NANO
    days, seconds = divmod(seconds, 86_400)
    hours, seconds = divmod(seconds, 3_600)
    minutes, seconds = divmod(seconds, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"
