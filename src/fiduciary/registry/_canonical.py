"""One spelling for every JSON value, so that a digest or a signature of it means one thing.

RFC 8785 (JSON Canonicalization Scheme): members sorted by UTF-16 code units, no spaces, the shortest escapes,
numbers as ECMAScript prints them. Reading is strict: no duplicate names, no NaN or infinity, bounded size.
tests/registry/test_canonical.py holds it to the RFC's own vectors.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from fiduciary.errors import LimitError, MalformedRequestError

MAX_DEPTH = 32
MAX_SAFE_INTEGER = 2**53 - 1
"""RFC 8785 numbers are doubles; a larger integer would not survive every reader, so it is refused."""

_escape = json.encoder.encode_basestring


def canonical(value: Any) -> bytes:
    """The RFC 8785 bytes of a JSON value (dict, list or tuple, str, int, float, bool, None).

    Raises `MalformedRequestError` for anything that JSON cannot say: NaN, infinities, integers
    that are no exact double, lone surrogates, other types; `LimitError` for nesting deeper than 32.
    """
    parts: list[str] = []
    _write(value, parts, 0)
    try:
        return "".join(parts).encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedRequestError("a text holds half of a surrogate pair, which UTF-8 cannot say") from None


def _write(value: Any, parts: list[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise LimitError(f"the JSON value is nested deeper than {MAX_DEPTH}")
    if value is None:
        parts.append("null")
    elif value is True:
        parts.append("true")
    elif value is False:
        parts.append("false")
    elif isinstance(value, str):
        parts.append(_escape(value))
    elif isinstance(value, int):
        parts.append(_integer(value))
    elif isinstance(value, float):
        parts.append(number(value))
    elif isinstance(value, dict):
        _write_object(value, parts, depth)
    elif isinstance(value, list | tuple):
        parts.append("[")
        for i, item in enumerate(value):
            if i:
                parts.append(",")
            _write(item, parts, depth + 1)
        parts.append("]")
    else:
        raise MalformedRequestError(f"a {type(value).__name__} is not a JSON value")


def _write_object(value: dict[Any, Any], parts: list[str], depth: int) -> None:
    for name in value:
        if not isinstance(name, str):
            raise MalformedRequestError(f"a member name must be a text, not a {type(name).__name__}")
    parts.append("{")
    for i, name in enumerate(sorted(value, key=_utf16)):
        if i:
            parts.append(",")
        parts.append(_escape(name))
        parts.append(":")
        _write(value[name], parts, depth + 1)
    parts.append("}")


def _integer(value: int) -> str:
    text = str(int(value)) if value.bit_length() <= 1024 else ""
    if abs(value) <= MAX_SAFE_INTEGER:
        return text
    # A large whole double is printed without a point and reads back as an integer: that spelling is let through.
    if value.bit_length() < 1024 and number(float(value)) == text:
        return text
    raise MalformedRequestError(
        "an integer beyond 2**53 - 1 is not how a double is written; write it as a text"
    )


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")


def number(value: float) -> str:
    """A double as ECMAScript's Number::toString prints it: `1`, `0.1`, `1e-7`, `1e+21`."""
    if not math.isfinite(value):
        raise MalformedRequestError("NaN and infinities are not JSON numbers")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = int(exponent or 0) + len(whole) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"


def parse(raw: bytes, what: str, limit: int) -> Any:
    """Read strict JSON of at most `limit` bytes; `what` names it in errors.

    Raises `LimitError` (too long, too deep) or `MalformedRequestError` (not UTF-8, not JSON, a duplicate
    member name, NaN or an infinity).
    """
    if len(raw) > limit:
        raise LimitError(f"{what} has {len(raw)} bytes; at most {limit} are read")
    try:
        return json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
        )
    except RecursionError:
        raise LimitError(f"{what} is nested too deep") from None
    except UnicodeDecodeError:
        raise MalformedRequestError(f"{what} is not UTF-8") from None
    except _Refused as error:
        raise MalformedRequestError(f"{what}: {error}") from None
    except ValueError as error:
        raise MalformedRequestError(f"{what} is not JSON: {error}") from None


class _Refused(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Refused(f"the member {next(n for n in names if names.count(n) > 1)!r} stands twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused("a number is too large for a double")
    return value
