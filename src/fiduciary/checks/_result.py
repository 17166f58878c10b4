"""What a check says: one numbered result, the same shape for a metric, an approval or a clock."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np


class CheckResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of one check. `ok` is None for a number without a verdict, or without enough evidence.

    Nothing in it is personal: counts, shares and names of features, groups and grades only.
    """

    name: str
    """The check's name in the catalogue, "discrimination.auc"."""
    ok: bool | None
    value: float | None = None
    """The headline number; never NaN or infinite."""
    unit: str = ""
    """"", "share", "log-odds", "seconds", "days", "currency" ..."""
    interval: tuple[float, float] | None = None
    """Confidence interval of `value`."""
    threshold: float | None = None
    """What `value` was held against."""
    detail: str = ""
    """One plain line for people."""
    lacking: str = ""
    """What a person must add before this can be judged ("an approved DPIA")."""
    numbers: dict[str, Any] = {}
    """Further figures and tables; JSON values only, no NaN."""


def number(value: float) -> float | None:
    """A float for `CheckResult`: None in place of NaN and infinity, which JSON does not have."""
    value = float(value)
    return value if math.isfinite(value) else None


def numbers(values: Any) -> list[float | None]:
    """An array as a list for `CheckResult.numbers`, None in place of NaN and infinity."""
    return [v if math.isfinite(v) else None for v in map(float, values)]


def verdict(value: float, *, minimum: float | None = None, maximum: float | None = None) -> bool | None:
    """True when value is within the limits, None when there are none or the value is not a number."""
    if (minimum is None and maximum is None) or math.isnan(value):
        return None
    return (minimum is None or value >= minimum) and (maximum is None or value <= maximum)


def plain(result: CheckResult) -> CheckResult:
    """The same result with plain JSON values only: numpy scalars and arrays unwrapped, NaN and infinity as None."""
    bounds = tuple(map(float, result.interval)) if result.interval is not None else None
    return msgspec.structs.replace(
        result,
        ok=None if result.ok is None else bool(result.ok),
        value=None if result.value is None else number(result.value),
        interval=bounds if bounds is None or all(map(math.isfinite, bounds)) else None,
        threshold=None if result.threshold is None else number(result.threshold),
        numbers=_plain(result.numbers),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
