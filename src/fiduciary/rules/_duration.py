"""ISO 8601 durations of packs (P25M, PT72H, P7Y): read strictly, and compared by a stated rule of thumb."""

from __future__ import annotations

import re

from fiduciary.errors import UsageError

_DATE = r"(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?"
_TIME = r"(?:T(?=\d)(?:(\d{1,5})H)?(?:(\d{1,5})M)?(?:(\d{1,6})S)?)?"
_FORM = re.compile(r"P(?=\d|T\d)" + _DATE + _TIME)
DAY = 86_400


def parse_duration(text: str, where: str = "") -> tuple[int, int, int]:
    """(months, days, seconds) of a duration. Raises `UsageError`. Months stay months: clocks go by the calendar."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{text[:40]!r} is no ISO 8601 duration such as P25M, P30D or PT72H", where=where or None
        )
    years, months, weeks, days, hours, minutes, seconds = (int(g or 0) for g in match.groups())
    return 12 * years + months, 7 * weeks + days, 3600 * hours + 60 * minutes + seconds


def least_days(text: str) -> int:
    """A duration in days when it is a minimum: a month counts 31, a year 366, and a broken day a whole one."""
    months, days, seconds = parse_duration(text)
    years, rest = divmod(months, 12)
    return 366 * years + 31 * rest + days + -(-seconds // DAY)


def most_days(text: str) -> int:
    """A duration in days when it is a maximum: a month counts 28, a year 365, and a broken day none."""
    months, days, seconds = parse_duration(text)
    years, rest = divmod(months, 12)
    return 365 * years + 28 * rest + days + seconds // DAY
