"""The same decision again, from the record and the release: bit for bit, or the differences by name."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from fiduciary.decision._decider import Decider, Verdict
from fiduciary.decision._duties import asked_of, notices
from fiduciary.decision._record import REFUSED, DecisionRecord
from fiduciary.errors import ConflictError
from fiduciary.registry import Book


class Difference(msgspec.Struct, frozen=True):
    """One field in which record and replay disagree."""

    field: str
    recorded: Any
    replayed: Any


class Replay(msgspec.Struct, frozen=True):
    """The outcome of replaying one decision. `same` means every field is equal bit for bit."""

    record: DecisionRecord
    verdict: Verdict
    differences: list[Difference]
    rulebook: Book | None = None
    """The rules of its day, as they were announced then; None: its use case named no packs."""

    @property
    def same(self) -> bool:
        """True when nothing differs."""
        return not self.differences


def replay(record: DecisionRecord, decider: Decider, book: Book | None = None) -> Replay:
    """Decide again from `record.features`; compare outcome, score, margin, baseline, reasons, referral, notices.

    `book`: the rulebook whose duties `decider` has. Raises `ConflictError` for a refusal (nothing was scored) and
    when `decider` holds another release, a use case of another digest, or `book` is another than the record names.
    """
    if record.outcome == REFUSED:
        raise ConflictError("a refused request was never scored, so there is nothing to replay")
    if record.release != decider.release.digest:
        raise ConflictError(f"the record names release {record.release}, not {decider.release.digest}")
    if record.rules != decider.use_case.digest:
        raise ConflictError("the record was made under another version of the use case than the one given")
    if record.rulebook != (book.digest if book else ""):
        raise ConflictError("the record was made under another rulebook than the one given")
    rows = np.array([decider.release.compiled.decode(bytes(record.features))], dtype=np.float64)
    asked = asked_of(record)
    verdict = decider.oblige(decider.explain(rows)[0], asked)
    pairs: list[tuple[str, Any, Any]] = [
        ("outcome", record.outcome, verdict.outcome),
        ("score", record.score, verdict.score),
        ("margin", record.margin, verdict.margin),
        ("baseline", record.baseline, verdict.baseline),
        ("referred_by", record.referred_by, verdict.referred_by),
        ("notices", record.notices, notices(decider.duties, verdict.outcome)),
    ]
    if record.explained:
        pairs.append(("reasons", record.reasons, verdict.reasons))
    else:  # reasons may be left out only where the use case says so; they are computed here, on demand
        pairs.append(("explained", False, decider.evaluate(rows)[0].explained))
    differences = [Difference(name, was, now) for name, was, now in pairs if was != now]
    return Replay(record, verdict, differences, book)
