"""Reading a JSON body into its type, with the same words for what is wrong at every door."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from fiduciary.errors import LimitError, MalformedRequestError

T = TypeVar("T")


def parse(decode: Callable[[bytes], T], body: bytes) -> T:
    """The body as `decode` (a msgspec decoder's) reads it. Never repeats what was sent.

    Raises `MalformedRequestError`, or `LimitError` when it is nested too deeply.
    """
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise MalformedRequestError(f"the request does not have the right form: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MalformedRequestError("the body is not valid JSON in UTF-8") from None
    except RecursionError:
        raise LimitError("the body is nested too deeply") from None


def refuse_duplicates(body: bytes) -> None:
    """Read the body slowly and raise `MalformedRequestError` if a key of the envelope comes twice."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        document = dict(found)
        if len(document) != len(found):
            raise MalformedRequestError("a key comes twice in one object")
        return document

    try:
        json.loads(body, object_pairs_hook=pairs, parse_int=float)
    except RecursionError:
        raise LimitError("the body is nested too deeply") from None
    except ValueError:
        raise MalformedRequestError("the body is not valid JSON in UTF-8") from None
