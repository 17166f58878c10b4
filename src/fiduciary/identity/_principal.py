"""Who is asking, for what: the three frozen values a policy decision reads.

They are frozen because decisions are cached under them: a value that could change after it was hashed would
be answered for with somebody else's decision. `Resource` and `Context` keep their attributes as canonical
JSON, in which `true`, `1` and `"1"` stay apart (as Python dictionary keys, `True` and `1` are the same).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from fiduciary.errors import UsageError

ROLES = ("developer", "validator", "operator", "officer", "auditor", "application")
"""Roles of the default policies. A token may carry others: they mean what your policies say, else nothing."""

ACTIONS = (
    "decide",
    "replay",
    "read_record",
    "build_release",
    "sign_release",
    "approve_release",
    "promote_release",
    "suspend_release",
    "retire_release",
    "define_use_case",
    "enrol_party",
    "revoke_token",
    "erase_subject",
    "hold_records",
    "cut_evidence",
    "read_ledger",
    "read_metrics",
)
"""Everything that can be allowed or refused; the policy schema lists the same names."""

ATTRIBUTES_LIMIT = 16 * 1024
"""Largest canonical JSON of one resource's attributes or one context, bytes."""


class Principal(msgspec.Struct, frozen=True, cache_hash=True, gc=False):
    """An authenticated caller, as its token says. Hashed once; equal when every field is equal."""

    subject: str
    roles: tuple[str, ...] = ()
    department: str = ""
    region: str = ""
    kind: Literal["person", "service"] = "person"
    issuer: str = ""
    token_id: str = ""
    """`jti` of the token, or `sha256:` and 32 hex digits of the token's digest where it has none."""
    expires: int = 0
    """End of the token, Unix seconds."""
    issued: int = 0
    """`iat` of the token, Unix seconds; 0 where it has none."""
    one_time: bool = False
    """True when the token was for one use and this is it."""


def canonical(attributes: Mapping[str, Any], what: str) -> bytes:
    """Attributes as sorted JSON: strings, booleans, 64-bit integers and lists of strings only.

    Raises `UsageError` naming the attribute. Nested objects are refused: Cedar reads some of them as
    references to entities (`__entity`) or as function calls (`__extn`), and no attribute may become either.
    """
    for name, value in attributes.items():
        if type(value) is int:
            good = -(2**63) <= value < 2**63
        elif type(value) in (list, tuple):
            good = all(type(item) is str for item in value)
        else:
            good = type(value) in (str, bool)
        if type(name) is not str or not good:
            raise UsageError(
                f"attribute {name!r} of {what} must be a string, boolean, 64-bit integer or list of strings"
            )
    try:
        text = msgspec.json.encode(dict(attributes), order="sorted")
    except UnicodeEncodeError:
        raise UsageError(f"an attribute of {what} is not valid Unicode text") from None
    if len(text) > ATTRIBUTES_LIMIT:
        raise UsageError(f"the attributes of {what} are larger than {ATTRIBUTES_LIMIT} bytes")
    return text


class Context:
    """Circumstances of a request (`region`, `department`, `purpose`, `door`), frozen.

    Raises `UsageError` for values other than strings, booleans, 64-bit integers and lists of strings.
    """

    __slots__ = ("key", "text")
    text: bytes
    key: str

    def __init__(self, attributes: Mapping[str, Any] | None = None) -> None:
        text = canonical(attributes or {}, "the context")
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "key", text.decode())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a context is frozen: {name} cannot be set")

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and self.key == other.key

    def __repr__(self) -> str:
        return f"Context({self.key})"


class Resource:
    """What is acted on: a kind of the policy schema ("UseCase", "Release", ...), an id, and attributes.

    Frozen: make a new one when an attribute changes. Raises `UsageError` like `Context`.
    """

    __slots__ = ("id", "key", "kind", "text")
    kind: str
    id: str
    text: bytes
    key: str
    """Kind, id and attributes as one text: equal keys, equal resources."""

    def __init__(self, kind: str, id: str = "", attrs: Mapping[str, Any] | None = None) -> None:
        text = canonical(attrs or {}, f"the {kind}")
        key = json.dumps([kind, id]) + text.decode()
        for name, value in (("kind", kind), ("id", id), ("text", text), ("key", key)):
            object.__setattr__(self, name, value)

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes, as a new dictionary."""
        found: dict[str, Any] = msgspec.json.decode(self.text)
        return found

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a resource is frozen: {name} cannot be set")

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Resource) and self.key == other.key

    def __repr__(self) -> str:
        return f"Resource({self.kind!r}, {self.id!r}, {self.text.decode()})"
