"""The one path of every decision, stated once:

    identity -> policy -> admit -> act -> explain -> oblige -> record -> reply

`ask` takes a question through identity, policy and admit, each by itself. What was admitted in the same turn of
the event loop then acts, is explained and meets its cut-offs in one kernel call (`_batcher.py`). Every row
becomes a record; when the records of a question are durable, and only then, it is answered. A refusal at any
stage takes the same way: record, then reply. Doors (`_native.py`, `_oip.py`, `_oip_grpc.py`) differ in how they
read a question and how they word the answer, in nothing else. tests/gate/test_path.py holds the order,
tests/attacks/test_http.py that every refusal leaves its record.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from fiduciary.decision import NOTHING_ASKED, DecisionRecord, Verdict, encode_record, refusal_record
from fiduciary.errors import (
    AuthenticationError,
    ConflictError,
    FiduciaryError,
    GoneError,
    LedgerError,
    LimitError,
    NotServableError,
    OverloadedError,
)
from fiduciary.gate import _limits as limits
from fiduciary.gate._idempotency import tagged
from fiduciary.ledger import Entry, Kind, Receipt

if TYPE_CHECKING:
    import asyncio

    from fiduciary.config import GateSettings
    from fiduciary.decision import Asked
    from fiduciary.gate._batcher import Batcher
    from fiduciary.gate._idempotency import Idempotency
    from fiduciary.gate._metrics import Metrics
    from fiduciary.gate._refusals import Refusals
    from fiduciary.gate._servables import Servable, Servables
    from fiduciary.gate._shard import Shard, Waiting
    from fiduciary.gate._tracing import Tracing
    from fiduciary.identity import Authenticator, Authorizer, Principal
    from fiduciary.ledger import Vault

STAGES = ("identity", "policy", "admit", "act", "explain", "oblige", "record", "reply")

log = logging.getLogger("fiduciary.gate")
now = time.perf_counter_ns


class Question:
    """One request for a decision (of one row or several) on its way. Doors subclass it."""

    __slots__ = (
        "asked", "begun", "delivered", "digest", "error", "key", "marks", "principal", "raws", "receipts", "records",
        "remaining", "reserved", "servable", "subjects", "trace", "use_case", "values", "verdicts",
    )  # fmt: skip
    door: ClassVar[str] = ""
    top: ClassVar[str] = ""
    """JSON pointer to where what is asked about the circumstances stands."""

    def __init__(self) -> None:
        self.use_case = ""
        self.key = ""
        """The caller's idempotency key, or nothing."""
        self.digest = b""
        """What makes two requests under one key the same, 32 bytes."""
        self.principal: Principal | None = None
        self.servable: Servable | None = None
        self.subjects: list[str] = []
        self.asked: list[Asked] = []
        """What was said about each row's circumstances; empty when nothing was."""
        self.raws: list[bytes] = []
        """Each row's features as received: one JSON object."""
        self.values: list[list[float]] = []
        self.verdicts: list[Verdict] = []
        self.records: list[DecisionRecord] = []
        self.receipts: list[Receipt] = []
        self.remaining = 0
        self.error: FiduciaryError | None = None
        self.reserved = b""
        self.delivered = False
        self.begun = 0
        self.marks: list[int] = []
        """Clock readings (ns) at the end of each stage passed so far."""
        self.trace = ""
        """W3C `traceparent` of the caller."""

    def credentials(self) -> bytes | None:
        """The Authorization header."""
        raise NotImplementedError

    def read(self, most_rows: int) -> None:
        """Understand the envelope: set `use_case`, `subjects`, `key`, `digest`. Nothing else of it is trusted yet.

        Raises `LimitError` for more than `most_rows` rows before it spends anything on them.
        """
        raise NotImplementedError

    def check_rows(self, rows: int, most: int) -> None:
        """Raise `LimitError` when a request has too many rows."""
        if rows > most:
            raise LimitError(f"a request may have {most} rows, and this one has {rows}")

    def admit(self, servable: Servable) -> None:
        """Fill `raws` and `values` under the release's contract."""
        raise NotImplementedError

    def answer(
        self, records: Sequence[DecisionRecord], receipts: Sequence[Receipt], *, again: bool = False
    ) -> None:
        """Word the answer and send it. `again`: it was given before, under the same idempotency key."""
        raise NotImplementedError

    def refuse(self, error: FiduciaryError) -> None:
        """Word the refusal and send it."""
        raise NotImplementedError


class Path:
    """The stages in their order, for one worker process. Everything runs on the event loop's thread."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        epoch: Callable[[], int],
        authenticator: Authenticator,
        authorizer: Authorizer,
        servables: Servables,
        batcher: Batcher,
        idempotency: Idempotency,
        refusals: Refusals,
        metrics: Metrics,
        tracing: Tracing | None,
        vault: Vault,
        gate: GateSettings,
        append_timeout_s: float,
    ) -> None:
        self.recorder: Shard
        self._loop = loop
        self._epoch = epoch
        self._seen = -1
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._servables = servables
        self._batcher = batcher
        self._idempotency = idempotency
        self._refusals = refusals
        self._metrics = metrics
        self._tracing = tracing
        self._vault = vault
        self._pseudonym = vault.pseudonym
        self._max_in_flight = gate.max_in_flight
        self._max_rows = gate.max_rows
        self._timeout_ns = int(gate.request_timeout_s * 1e9)
        self._append_ns = int(append_timeout_s * 1e9)
        self._stages = metrics.counts.stages
        self.in_flight: set[Question] = set()
        batcher.decided = self.decided
        servables.loaded = self._again

    # identity, policy, admit: each question by itself

    def ask(self, question: Question) -> None:
        """Take a question. It is answered or refused exactly once, whatever happens."""
        question.begun = now()
        if len(self.in_flight) >= self._max_in_flight:
            self._deny(
                question, OverloadedError(f"more than {self._max_in_flight} requests are being decided")
            )
            return
        self.in_flight.add(question)
        try:
            question.principal = self._authenticator.authenticate(question.credentials())
            at = now()
            question.marks.append(at)
            self._stages["identity"].observe(at - question.begun)
            question.read(self._max_rows)
            self._consider(question)
        except FiduciaryError as error:
            self._refused(question, error)
        except Exception:
            self._broken(question)

    def _consider(self, question: Question) -> None:
        """Policy and admission under the state of now. Asked again when that state changed under way."""
        start = now()
        if self._epoch() != self._seen:
            self._obey()
        assert question.principal is not None
        resource, context = self._servables.circumstances(question.use_case, question.door)
        self._authorizer.require(question.principal, "decide", resource, context)
        if question.key and not question.reserved and self._answered_before(question):
            return
        servable = self._servables.find(question)
        at = now()
        question.marks[1:] = [at]
        self._stages["policy"].observe(at - start)
        if servable is None:  # the release is being loaded: `_again` comes when it is
            return
        question.servable = servable
        if servable.ruled or question.asked:
            self._admit(question, servable)
        question.admit(servable)
        start, at = at, now()
        question.marks.append(at)
        self._stages["admit"].observe(at - start)
        self._batcher.add(question)

    @staticmethod
    def _admit(question: Question, servable: Servable) -> None:
        """May it be decided at all, by the rules in force? Raises `RuleError`."""
        if not question.asked:
            servable.admit(NOTHING_ASKED, question.top, question.top)
        elif len(question.asked) == 1:
            servable.admit(question.asked[0], question.top, question.top)
        else:
            for i, asked in enumerate(question.asked):
                servable.admit(asked, question.top or f"/rows/{i}", question.top)

    def _obey(self) -> None:
        """Follow the control log up to the present epoch. If that fails, nothing is answered."""
        epoch = self._epoch()
        try:
            self._vault.follow()
            self._servables.refresh()
        except FiduciaryError as error:
            raise NotServableError(f"the control log cannot be followed: {error.detail}") from error
        except Exception as error:
            log.exception("the control log cannot be followed")
            raise NotServableError("the control log cannot be followed") from error
        self._seen = epoch
        self._metrics.counts.epoch = epoch

    def _again(self, questions: list[Question]) -> None:
        """The release these waited for has been loaded, or has failed to."""
        for question in questions:
            if not question.delivered:
                try:
                    self._consider(question)
                except FiduciaryError as error:
                    self._refused(question, error)
                except Exception:
                    self._broken(question)

    def _answered_before(self, question: Question) -> bool:
        """Reserve the idempotency key. True when the question is answered from the ledger instead."""
        assert question.principal is not None
        if len(question.key) > limits.MAX_KEY or not question.key.isprintable():
            raise LimitError(f"an idempotency key has 1 to {limits.MAX_KEY} printable characters")
        found = self._idempotency.reserve(question.principal, question.key, question.digest)
        if found.reserved:
            question.reserved = found.reserved
            return False
        if found.other:
            raise ConflictError("this idempotency key was used for a request with other content")
        if not found.records:
            raise ConflictError(
                "the first request with this idempotency key is still being decided; ask again later"
            )
        records, receipts = self._idempotency.recall(found.records)
        self.in_flight.discard(question)
        if not question.delivered:
            question.delivered = True
            question.answer(records, receipts, again=True)
        return True

    # act, explain, oblige: done by the batcher; record

    def decided(
        self, servable: Servable, questions: list[Question], verdicts: list[Verdict] | None, ns: int
    ) -> None:
        """Verdicts for all rows of these questions, in order (None: the scorer failed). Write the records."""
        counts = self._metrics.counts
        if verdicts is None:
            for question in questions:
                self._refused(question, _unexpected())
            return
        counts.turns += 1
        counts.rows += len(verdicts)
        self._stages["decide"].observe(ns, len(questions))
        if self._epoch() != self._seen:  # something was revoked, suspended or changed while we were scoring
            for question in questions:
                self._start_over(question)
            return
        at = now()
        start = 0
        for question in questions:
            end = start + len(question.values)
            question.verdicts = verdicts[start:end]
            start = end
            question.marks.append(at)
            if question.delivered:  # it took too long, and was refused
                self._forget(question)
                continue
            try:
                self._record(question, servable)
            except FiduciaryError as error:
                self._deny(question, error)
            except Exception:
                self._broken(question)

    def _start_over(self, question: Question) -> None:
        question.raws, question.values, question.records = [], [], []
        try:
            assert question.principal is not None
            question.principal = self._authenticator.authenticate(question.credentials())
            self._consider(question)
        except FiduciaryError as error:
            self._refused(question, error)
        except Exception:
            self._broken(question)

    def _record(self, question: Question, servable: Servable) -> None:
        principal = question.principal
        assert principal is not None
        put = self.recorder.put
        entries = []
        caller, door, key = principal.subject, question.door, ""
        ruled = servable.ruled or bool(question.asked)
        rows = zip(question.subjects, question.raws, question.verdicts, strict=True)
        for i, (subject, raw, verdict) in enumerate(rows):
            if question.key:
                key = tagged(question.key, question.digest, principal.issuer, i, len(question.raws))
            if ruled:
                asked = question.asked[i] if question.asked else NOTHING_ASKED
                record, question.verdicts[i] = servable.ruled_record(
                    caller, door, key, subject, raw, verdict, asked
                )
            else:
                record = servable.record(caller, door, key, subject, raw, verdict)
            question.records.append(record)
            entries.append(
                Entry(
                    Kind.DECISION,
                    encode_record(record),
                    self._pseudonym(subject),
                    servable.release,
                    servable.name,
                    servable.rules,
                    servable.retention,
                )
            )
        question.remaining = len(entries)
        question.receipts = [_NONE] * len(entries)
        for i, entry in enumerate(entries):
            try:
                put(entry, question, i)
            except FiduciaryError as error:
                question.error = error
                question.remaining -= 1
        if not question.remaining:
            assert question.error is not None
            self._forget(question)
            self._deny(question, question.error)

    # record -> reply

    def durable(self, results: list[tuple[Waiting, Receipt | FiduciaryError]]) -> None:
        """Entries whose fate is known, a whole commit group at once."""
        for waiting, result in results:
            question, row = waiting.question, waiting.row
            if question is None:
                continue
            if isinstance(result, GoneError):  # erased between our look at the vault and the commit
                result = OverloadedError("the subject has just been erased; ask again")
            if row < 0:
                self._refusal_recorded(question, result)
                continue
            if isinstance(result, FiduciaryError):
                question.error = result
            else:
                question.receipts[row] = result
            question.remaining -= 1
            if not question.remaining:
                if question.error is not None:
                    if not isinstance(
                        question.error, LedgerError
                    ):  # after that one the entry may yet be found
                        self._forget(question)
                    self._deny(question, question.error)
                else:
                    self._reply(question)

    def _reply(self, question: Question) -> None:
        start = now()
        servable = question.servable
        assert servable is not None
        if question.reserved:
            self._idempotency.settle(question.reserved, question.receipts)
        decisions = self._metrics.counts.decisions
        for verdict in question.verdicts:
            name = servable.counter(verdict.outcome, question.door)
            decisions[name] = decisions.get(name, 0) + 1
        self.in_flight.discard(question)
        if not question.delivered:
            question.delivered = True
            try:
                question.answer(question.records, question.receipts)
            except Exception:
                log.exception("an answer could not be sent")
        at = now()
        stages = self._stages
        stages["record"].observe(start - question.marks[-1])
        stages["reply"].observe(at - start)
        stages["total"].observe(at - question.begun)
        if self._tracing is not None:
            question.marks.append(start)
            self._tracing.finish(question, at)

    # refusals

    def _refused(self, question: Question, error: FiduciaryError) -> None:
        """Record a refusal, then give it. Callers who are not known are counted instead (`_refusals.py`)."""
        principal = question.principal
        if question.reserved:
            self._forget(question)
        if principal is None or isinstance(error, OverloadedError | LedgerError | AuthenticationError):
            self._deny(question, error)
            return
        question.error = error
        subject = question.subjects[0] if len(question.subjects) == 1 else ""
        try:
            servable = question.servable
            record = refusal_record(
                error,
                use_case=question.use_case[: limits.MAX_NAME],
                subject=subject,
                caller=principal.subject,
                door=question.door,
                rulebook=servable.rulebook if servable is not None else "",
            )
            name = question.use_case if self._servables.defined(question.use_case) else ""
            entry = Entry(
                Kind.DECISION,
                encode_record(record),
                self._pseudonym(subject) if subject else None,
                servable.release if servable is not None else b"",
                name,
                servable.rules if servable is not None else b"",
            )
            self.recorder.put(entry, question, -1)
        except FiduciaryError as failure:
            self._deny(question, failure)

    def _refusal_recorded(self, question: Question, result: Receipt | FiduciaryError) -> None:
        error = question.error
        assert error is not None
        if isinstance(result, FiduciaryError):
            self._deny(question, result)
            return
        self._metrics.refused(error.kind)
        self._send(question, error)

    def _deny(self, question: Question, error: FiduciaryError) -> None:
        """Give a refusal that has no record of its own: it is counted, and the sum is recorded."""
        if question.reserved and not question.receipts:
            self._forget(question)
        self._refusals.count(error.kind)
        self._metrics.refused(error.kind)
        self._send(question, error)

    def _send(self, question: Question, error: FiduciaryError) -> None:
        self.in_flight.discard(question)
        if question.delivered:
            return
        question.delivered = True
        try:
            question.refuse(error)
        except Exception:
            log.exception("a refusal could not be sent")
        if self._tracing is not None:
            question.error = error
            self._tracing.finish(question, now())

    def _broken(self, question: Question) -> None:
        """A programmer's error: refuse this question, keep the others, and say where it happened."""
        log.exception("a decision failed in the gate")
        self._refused(question, _unexpected())

    def _forget(self, question: Question) -> None:
        if question.reserved:
            self._idempotency.free(question.reserved)
            question.reserved = b""

    def sweep(self) -> None:
        """Refuse what has waited too long; called a few times a second.

        An entry that is with the ledger may still become durable: such a refusal says that nothing was confirmed.
        """
        at = now()
        for question in list(self.in_flight):
            if question.remaining:
                if at - question.marks[-1] > self._append_ns:
                    self._send_uncertain(question)
            elif at - question.begun > self._timeout_ns:
                self._servables.abandon(question)
                self._deny(question, OverloadedError("the request could not be decided in time"))

    def _send_uncertain(self, question: Question) -> None:
        error = LedgerError("the ledger did not confirm the record in time")
        self._refusals.count(error.kind)
        self._metrics.refused(error.kind)
        self._send(question, error)


_NONE = Receipt("", 0, 0)


def _unexpected() -> FiduciaryError:
    return FiduciaryError("an unexpected error; the operator's log says more")
