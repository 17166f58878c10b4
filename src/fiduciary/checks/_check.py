"""A check: a named pure function of a subject and parameters, with what people must know about it.

A module of checks exports `CHECKS`, a dict of these by name; `_catalogue.py` merges them. A rule pack names a
check and gives its parameters as data, so the vocabulary is closed and every parameter is typed here.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, Literal

import msgspec

from fiduciary.checks._result import CheckResult
from fiduciary.errors import MissingExtraError, UsageError

Kind = Literal[
    "metric",
    "approval",
    "inventory",
    "reason",
    "access-config",
    "retention",
    "clock",
    "refusal",
    "document",
    "oversight",
    "data",
    "ledger",
    "drill",
]
Stage = Literal["release", "serve", "watch", "evidence"]
ParamType = type[float] | type[int] | type[str] | type[bool] | type[list[Any]] | type[dict[str, Any]]

WATCHED: tuple[Stage, ...] = ("release", "watch")
"""Stages of a check that is also run on a schedule."""

MAX_PARAM_ITEMS = 10_000
MAX_PARAM_TEXT = 10_000

_WORDS = {float: "a number", int: "a whole number", str: "a text", bool: "true or false", list: "a list"}


class Param(msgspec.Struct, frozen=True):
    """One parameter of a check. `default` None: not given, and then the check passes no verdict on it."""

    type: Any
    """float, int, str, bool, list or dict (a table: text -> JSON value)."""
    default: Any
    meaning: str
    low: float | None = None
    """Smallest value allowed; for a list or dict, fewest entries."""
    high: float | None = None
    choices: tuple[Any, ...] = ()
    """Allowed values (for a list: of each entry); empty: any."""


class Check(msgspec.Struct, frozen=True):
    """A named check. `run(subject, **params)` is pure and returns a result under the same name."""

    name: str
    kind: Kind
    run: Callable[..., CheckResult]
    params: Mapping[str, Param] = {}
    stages: tuple[Stage, ...] = ("release",)
    unit: str = ""
    source: str = ""
    """The paper, article or standard that defines it."""
    needs: tuple[str, ...] = ()
    """Parts of the subject it cannot do without, as paths ("sample.outcomes"); absent -> ok None, lacking."""
    summary: str = ""
    """One plain line: what it computes."""
    heavy: bool = False
    """Takes seconds or more (it fits models or searches); `battery` runs it only when it is named."""


def table(checks: Iterable[Check]) -> dict[str, Check]:
    """A module's `CHECKS` from its checks."""
    return {check.name: check for check in checks}


def arguments(check: Check, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """All parameters with defaults filled in. Raises `UsageError` for an unknown or ill-typed one."""
    given = given or {}
    for name in given:
        if name not in check.params:
            known = ", ".join(check.params) or "none"
            raise UsageError(f"check {check.name} has no parameter {name!r}; known: {known}")
    return {
        name: _value(check.name, name, param, given[name]) if name in given else _default(param)
        for name, param in check.params.items()
    }


def _default(param: Param) -> Any:
    return list(param.default) if param.type is list and param.default is not None else param.default


def _value(check: str, name: str, param: Param, value: Any) -> Any:
    where = f"parameter {name!r} of check {check}"
    if value is None:
        if param.default is None:
            return None
        raise UsageError(f"{where} must be {_WORDS.get(param.type, 'a table')}, not null")
    if param.type is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise UsageError(f"{where} is too large") from None
    if param.type is list and isinstance(value, tuple):
        value = list(value)
    if not isinstance(value, param.type) or (isinstance(value, bool) and param.type is not bool):
        raise UsageError(f"{where} must be {_WORDS.get(param.type, 'a table')}")
    size = value if isinstance(value, (int, float)) else len(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where} must be a finite number")
    if isinstance(value, (list, dict)) and len(value) > MAX_PARAM_ITEMS:
        raise UsageError(f"{where} has more than {MAX_PARAM_ITEMS} entries")
    if isinstance(value, str) and len(value) > MAX_PARAM_TEXT:
        raise UsageError(f"{where} is longer than {MAX_PARAM_TEXT} characters")
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise UsageError(f"{where} must be a table whose keys are texts")
    if param.low is not None and size < param.low:
        raise UsageError(f"{where} must be at least {param.low:g}")
    if param.high is not None and size > param.high:
        raise UsageError(f"{where} must be at most {param.high:g}")
    if param.choices:
        for item in value if isinstance(value, list) else [value]:
            if item not in param.choices:
                raise UsageError(f"{where} must be one of {', '.join(map(str, param.choices))}")
    return value


def scipy(module: str) -> ModuleType:
    """A module of SciPy, "stats" or "special", loaded when first needed.

    Raises `MissingExtraError` when the optional packages of `checks` are not installed.
    """
    try:
        return importlib.import_module(f"scipy.{module}")
    except ImportError:
        raise MissingExtraError(
            "this check needs SciPy; install it with: pip install 'fiduciary[checks]'"
        ) from None
