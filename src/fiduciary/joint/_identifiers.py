"""Customers' identifiers, spelt alike on both sides before they are compared in secret.

Two parties must apply the same rules, so the rules are part of the contract's parameters. What is compared is the
first 16 bytes of SHA-256 of the normalised text, as 32 hexadecimal digits: a fixed width hides lengths. The hash
hides nothing else (identifiers can be guessed); secrecy comes from the protocol. A report says what could not be
used, by position and never by value. Proof: tests/joint/test_identifiers.py.
"""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from fiduciary.errors import LimitError, UsageError

MAX_LENGTH = 256
MAX_IDS = 20_000_000
SHOWN = 10
"""Most positions that a report lists of one kind."""

_SEPARATORS = {ord(c): None for c in " \t-_./,'\u00a0\u2010\u2011\u2013"}

RULES: dict[str, tuple[Callable[[str], str], str]] = {
    "unicode": (lambda text: unicodedata.normalize("NFKC", text), "compatible characters become one (NFKC)"),
    "trim": (str.strip, "spaces at both ends go"),
    "case": (str.casefold, "letters become small (full case folding)"),
    "separators": (
        lambda text: text.translate(_SEPARATORS),
        "spaces, hyphens, dots, slashes, underscores, commas go",
    ),
    "zeros": (lambda text: text.lstrip("0") or text[:1], "zeros at the beginning go"),
}
"""Rule -> what it does, in the order in which rules are applied."""
DEFAULT_RULES = ("unicode", "trim", "case")


class Mismatch(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one kind that cannot be compared. `kind`: empty, duplicate, encoding or length."""

    kind: str
    count: int
    rows: list[int]
    """Positions of the first of them."""
    meaning: str


class Identifiers(msgspec.Struct, frozen=True, kw_only=True):
    """Identifiers ready to be compared: `ids` (n,) of 32 hexadecimal digits, `rows` (n,) their positions.

    A position of -1 is padding.
    """

    ids: Any
    rows: Any
    mismatches: list[Mismatch]
    given: int


def check_rules(rules: Sequence[str]) -> list[str]:
    """The rules in their order. Raises `UsageError` for one that does not exist."""
    unknown = [rule for rule in rules if rule not in RULES]
    if unknown:
        raise UsageError(f"there is no rule {unknown[0]!r}; there are: {', '.join(RULES)}")
    return [rule for rule in RULES if rule in rules]


def prepare_identifiers(
    values: Sequence[Any] | np.ndarray[Any, Any],
    *,
    rules: Sequence[str] = DEFAULT_RULES,
    keep: str = "refuse",
    pad_to: int | None = None,
) -> Identifiers:
    """Normalise, hash and (with `pad_to`) pad identifiers.

    `keep`: what to do with rows that cannot be compared: `refuse` raises `UsageError` with the report; `first`
    keeps the first of equal ones and leaves out the rest; `none` leaves out every row of an identifier that
    stands twice. `pad_to`: random dummies up to this number, which then is the size the other party sees.
    """
    if keep not in ("refuse", "first", "none"):
        raise UsageError(f"keep is refuse, first or none, not {keep!r}")
    if len(values) > MAX_IDS:
        raise LimitError(f"{len(values)} identifiers; at most {MAX_IDS} are compared at once")
    steps = [RULES[rule][0] for rule in check_rules(rules)]
    texts, bad = _texts(values, steps)
    keys = [hashlib.sha256(text.encode()).hexdigest()[:32] if text is not None else "" for text in texts]
    counts = Counter(keys)
    twice = [row for row, key in enumerate(keys) if key and counts[key] > 1]
    mismatches = [
        Mismatch(kind=kind, count=len(rows), rows=rows[:SHOWN], meaning=_MEANING[kind])
        for kind, rows in bad.items()
        if rows
    ]
    if twice:
        mismatches.append(
            Mismatch(kind="duplicate", count=len(twice), rows=twice[:SHOWN], meaning=_MEANING["duplicate"])
        )
    if mismatches and keep == "refuse":
        raise UsageError(
            "identifiers cannot be compared: "
            + "; ".join(f"{m.count} {m.meaning} (rows {', '.join(map(str, m.rows))})" for m in mismatches)
        )
    kept: list[str] = []
    rows: list[int] = []
    seen: set[str] = set()
    for row, key in enumerate(keys):
        if not key or (keep == "none" and counts[key] > 1) or key in seen:
            continue
        seen.add(key)
        kept.append(key)
        rows.append(row)
    if pad_to is not None:
        if pad_to < len(kept):
            raise UsageError(f"padding to {pad_to} is less than the {len(kept)} identifiers there are")
        rows += [-1] * (pad_to - len(kept))
        kept += [secrets.token_hex(16) for _ in range(pad_to - len(kept))]
        order = np.array(sorted(range(len(kept)), key=kept.__getitem__), np.int64)
        kept, rows = [kept[i] for i in order], [rows[i] for i in order]
    return Identifiers(
        ids=np.array(kept, "S32"), rows=np.array(rows, np.int64), mismatches=mismatches, given=len(values)
    )


_MEANING = {
    "empty": "are empty or missing",
    "encoding": "are not UTF-8 text",
    "length": f"are longer than {MAX_LENGTH} characters",
    "duplicate": "stand more than once after normalisation",
}


def _texts(
    values: Sequence[Any] | np.ndarray[Any, Any], steps: Sequence[Callable[[str], str]]
) -> tuple[list[str | None], dict[str, list[int]]]:
    bad: dict[str, list[int]] = {"empty": [], "encoding": [], "length": []}
    texts: list[str | None] = []
    for row, value in enumerate(values.tolist() if isinstance(values, np.ndarray) else values):
        text: str | None = None
        if value is None or (isinstance(value, float) and value != value):
            bad["empty"].append(row)
        elif isinstance(value, bytes):
            try:
                text = value.decode("utf-8")
            except UnicodeDecodeError:
                bad["encoding"].append(row)
        elif isinstance(value, bool) or not isinstance(value, str | int):
            bad["encoding"].append(row)
        else:
            text = str(value)
        if text is not None:
            for step in steps:
                text = step(text)
            if not text:
                bad["empty"].append(row)
                text = None
            elif len(text) > MAX_LENGTH:
                bad["length"].append(row)
                text = None
            elif not text.isprintable() or "\ufffd" in text:
                bad["encoding"].append(row)
                text = None
        texts.append(text)
    return texts, bad
