"""Align two parties' customers before they train together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from fiduciary.errors import UsageError
from fiduciary.joint._engine import Engine
from fiduciary.joint._identifiers import DEFAULT_RULES, Mismatch, check_rules, prepare_identifiers
from fiduciary.joint._transcript import Transcript

PROGRAM = "fiduciary.psi@1"


class Alignment(msgspec.Struct, frozen=True, kw_only=True):
    """Common customers. `rows`: receiver -> positions in its own table, row i being the same customer for both."""

    rows: dict[str, Any]
    mismatches: dict[str, list[Mismatch]]
    transcript: Transcript


def intersect(
    engine: Engine,
    identifiers: Mapping[str, Sequence[Any] | np.ndarray[Any, Any]],
    *,
    reveal_to: Sequence[str] | None = None,
    rules: Sequence[str] = DEFAULT_RULES,
    keep: str = "refuse",
    pad_to: int | None = None,
) -> Alignment:
    """Which customers two parties have in common, on an engine whose protocol is rr22 or ecdh.

    `reveal_to`: who learns it (both, unless said). `rules`, `keep`, `pad_to`: see `prepare_identifiers`; with
    `pad_to` each party sees the padded number instead of the other's size. Raises `UsageError` with a report of
    rows that cannot be compared.
    """
    if set(identifiers) != set(engine.parties) or len(identifiers) != 2:
        raise UsageError(f"give the identifiers of {' and '.join(engine.parties)}")
    prepared = {
        name: prepare_identifiers(values, rules=rules, keep=keep, pad_to=pad_to)
        for name, values in identifiers.items()
    }
    result = engine.run(
        PROGRAM,
        {"rules": check_rules(rules), "keep": keep, "padded": pad_to is not None},
        {name: {"ids": found.ids} for name, found in prepared.items()},
        list(reveal_to or engine.parties),
    )
    return Alignment(
        rows={name: prepared[name].rows[found["rows"]] for name, found in result.by_party.items()},
        mismatches={name: found.mismatches for name, found in prepared.items()},
        transcript=result.transcript,
    )
