"""Replay from a home: the record from the ledger, the release and the use case of its day from the registry."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fiduciary.decision._decider import Decider
from fiduciary.decision._duties import duties_of
from fiduciary.decision._record import REFUSED, decode_record
from fiduciary.decision._replay import Replay, replay
from fiduciary.errors import ConflictError, GoneError, IntegrityError, NotFoundError
from fiduciary.ledger import Kind, Ledger, Record
from fiduciary.registry import Book, Registry

MAX_DIFFERENT = 1_000
STEP = 500


class Summary(msgspec.Struct):
    """What replaying many decisions gave."""

    same: int = 0
    different: list[str] = []
    unreadable: int = 0
    refused: int = 0
    """Refusals on the way, of which there is nothing to decide again."""


class Replayer:
    """Replays the decisions of a home; keeps the deciders it has made."""

    def __init__(self, ledger: Ledger, registry: Registry) -> None:
        self._ledger = ledger
        self._registry = registry
        self._deciders: dict[tuple[str, str, str], Decider] = {}

    def replay(self, record_id: str) -> Replay:
        """Decide one recorded decision again.

        Raises `NotFoundError`, `GoneError` (erased or pruned), `ConflictError` (a refusal or an event), or
        `IntegrityError` when release, rules or record do not hold.
        """
        return self._replay(self._ledger.get(record_id))

    def replay_all(
        self, use_case: str, *, limit: int, progress: Callable[[int], None] | None = None
    ) -> Summary:
        """Decide every decision of a use case again, oldest first in each log, at most `limit`."""
        summary = Summary()
        done = 0
        for name in self._ledger.logs():
            for record in self._ledger.records(name):
                header = record.header
                if header.kind != Kind.DECISION or header.use_case != use_case or not header.release:
                    continue
                if done >= limit:
                    return summary
                done += 1
                if record.payload is None:
                    summary.unreadable += 1
                    continue
                if decode_record(record.payload).outcome == REFUSED:
                    summary.refused += 1
                elif self._replay(record).same:
                    summary.same += 1
                elif len(summary.different) < MAX_DIFFERENT:
                    summary.different.append(record.id)
                if progress is not None and done % STEP == 0:
                    progress(done)
        return summary

    def _replay(self, record: Record) -> Replay:
        if record.header.kind != Kind.DECISION:
            raise ConflictError(f"record {record.id} is an event, not a decision")
        if record.payload is None:
            raise GoneError(f"the content of record {record.id} is {record.state}, so it cannot be replayed")
        decision = decode_record(record.payload)
        if decision.outcome == REFUSED:
            raise ConflictError(f"record {record.id} is a refusal ({decision.problem}): nothing was scored")
        if (
            record.header.release.hex() != decision.release[7:]
            or record.header.rules.hex() != decision.rules[7:]
        ):
            raise IntegrityError(f"header and content of record {record.id} name different releases or rules")
        book = None
        if decision.rulebook:
            book = self._registry.states().books.get(decision.rulebook)
            if book is None:
                raise IntegrityError(
                    f"rulebook {decision.rulebook} of record {record.id} was never announced here"
                )
        return replay(decision, self._decider(decision.release, decision.rules, book), book)

    def _decider(self, release: str, rules: str, book: Book | None) -> Decider:
        """A release that has since been retired may still be replayed, so it is examined and not served."""
        key = (release, rules, book.digest if book else "")
        found = self._deciders.get(key)
        if found is None:
            use_case = self._registry.states().rules.get(rules)
            if use_case is None:
                raise NotFoundError(f"no use case with digest {rules} was ever defined here")
            found = Decider(self._registry.examine(release), use_case, duties_of(book))
            self._deciders[key] = found
        return found
