"""The native door: `POST /v1/decisions`, one row or several (docs/api.md).

The envelope is read by one msgspec struct that knows every field; a count of quotes proves that no key came
twice, and the features go on as the bytes that were sent, to be checked by the release's contract and recorded as
they are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Any, ClassVar

import msgspec

from fiduciary.decision import Asked, DecisionRecord, Notice
from fiduciary.errors import FiduciaryError, LimitError, MalformedRequestError
from fiduciary.gate import _limits as limits
from fiduciary.gate._http import Exchange
from fiduciary.gate._json import parse, refuse_duplicates
from fiduciary.gate._servables import Servable
from fiduciary.gate.path import Question
from fiduciary.ledger import Receipt
from fiduciary.models import Reason

UNSET = msgspec.UNSET
Subject = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.MAX_SUBJECT)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.MAX_NAME)]


Purpose = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.MAX_PURPOSE)]
Consent = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.MAX_CONSENT)]
Region = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.MAX_REGION)]


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One row of a batch."""

    subject: Subject
    features: msgspec.Raw
    consent: Consent | msgspec.UnsetType = msgspec.UNSET
    region: Region | msgspec.UnsetType = msgspec.UNSET
    opted_out: bool | msgspec.UnsetType = msgspec.UNSET


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A request for one decision, or (with `rows`) for several."""

    use_case: Name
    subject: Subject | msgspec.UnsetType = msgspec.UNSET
    features: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    rows: list[Row] | msgspec.UnsetType = msgspec.UNSET
    purpose: Purpose | msgspec.UnsetType = msgspec.UNSET
    """What it is asked for; where it is given, it must be the use case's."""
    consent: Consent | msgspec.UnsetType = msgspec.UNSET
    """The caller's reference to the subject's consent."""
    region: Region | msgspec.UnsetType = msgspec.UNSET
    """Where the subject is."""
    opted_out: bool | msgspec.UnsetType = msgspec.UNSET
    """The subject does not want to be decided about by a machine alone."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where the decision is recorded."""

    log: str
    index: int
    time: str


class Answer(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One decision as answered."""

    id: str
    outcome: str
    score: float
    margin: float
    baseline: float
    reasons: list[Reason]
    release: str
    use_case: str
    ledger: Place
    rulebook: str = ""
    referred_by: str = ""
    human: str = ""
    notices: list[Notice] = []


_decode = msgspec.json.Decoder(Ask).decode
_encode = msgspec.json.Encoder().encode


def said(part: Ask | Row) -> int:
    """How many texts it says about the circumstances, and one more for opting out or not; 0: nothing."""
    return (part.consent is not UNSET) * 2 + (part.region is not UNSET) * 2 + (part.opted_out is not UNSET)


def asked_by(part: Ask | Row, purpose: str | msgspec.UnsetType) -> Asked:
    """What is asked about the circumstances of a row."""
    return Asked(
        purpose=purpose or "",
        consent=part.consent or "",
        region=part.region or "",
        opted_out=part.opted_out is True,
    )


class NativeQuestion(Question):
    """A question asked in our own format."""

    __slots__ = ("_ask", "_exchange")
    door: ClassVar[str] = "native"

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self._exchange = exchange
        self._ask: Ask | None = None
        self.trace = exchange.headers.get(b"traceparent", b"").decode("latin-1")

    def credentials(self) -> bytes | None:
        return self._exchange.headers.get(b"authorization")

    def read(self, most_rows: int) -> None:
        exchange = self._exchange
        require_json(exchange)
        body = exchange.body
        ask = self._ask = read_ask(body)
        self.use_case = ask.use_case
        if isinstance(ask.rows, list):
            self.check_rows(len(ask.rows), most_rows)
            self.subjects = [row.subject for row in ask.rows]
            if ask.purpose is not UNSET or any(said(row) for row in ask.rows):
                self.asked = [asked_by(row, ask.purpose) for row in ask.rows]
        else:
            assert isinstance(ask.subject, str)
            self.subjects = [ask.subject]
            if ask.purpose is not UNSET or said(ask):
                self.asked = [asked_by(ask, ask.purpose)]
        key = exchange.headers.get(b"idempotency-key")
        if key is not None:
            self.key = key.decode("latin-1")
            self.digest = sha256(body).digest()

    def admit(self, servable: Servable) -> None:
        ask = self._ask
        assert ask is not None
        decode = servable.contract.decode
        if isinstance(ask.rows, list):
            for i, row in enumerate(ask.rows):
                raw = bytes(row.features)
                _check_size(raw)
                self.values.append(decode(raw, f"/rows/{i}/features"))
                self.raws.append(raw)
        else:
            raw = bytes(ask.features)  # type: ignore[arg-type]
            _check_size(raw)
            self.values = [decode(raw, "/features")]
            self.raws = [raw]

    def answer(
        self, records: Sequence[DecisionRecord], receipts: Sequence[Receipt], *, again: bool = False
    ) -> None:
        answers = [worded(record, receipt) for record, receipt in zip(records, receipts, strict=True)]
        ask = self._ask
        single = ask is not None and ask.rows is msgspec.UNSET
        body = _encode(answers[0] if single else {"decisions": answers})
        self._exchange.reply(200, body, more=b"idempotency-replayed: true\r\n" if again else b"")

    def refuse(self, error: FiduciaryError) -> None:
        self._exchange.refuse(error)


def worded(record: DecisionRecord, receipt: Receipt) -> Answer:
    """The answer to one row: a function of what is recorded and where, so that it can be given again."""
    assert record.score is not None and record.margin is not None and record.baseline is not None
    return Answer(
        f"{receipt.log}.{receipt.index}",
        record.outcome,
        record.score,
        record.margin,
        record.baseline,
        record.reasons,
        record.release,
        record.use_case,
        Place(receipt.log, receipt.index, moment(receipt.time_ns)),
        record.rulebook,
        record.referred_by,
        record.human,
        record.notices,
    )


def moment(time_ns: int) -> str:
    """A time in nanoseconds as RFC 3339 in UTC with all nine digits."""
    second, rest = divmod(time_ns, 1_000_000_000)
    if second != _second[0]:
        _second[:] = [second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))]
    return f"{_second[1]}.{rest:09d}Z"


_second: list[Any] = [0, "1970-01-01T00:00:00"]


def require_json(exchange: Exchange) -> None:
    """Refuse bodies that say they are something else than JSON."""
    kind = exchange.headers.get(b"content-type")
    if kind is not None and kind != b"application/json" and not kind.lower().startswith(b"application/json;"):
        raise MalformedRequestError("the body must be JSON: send Content-Type: application/json")


def read_ask(body: bytes) -> Ask:
    """Parse the envelope. Raises `MalformedRequestError`; never repeats what was sent."""
    ask = parse(_decode, body)
    single = ask.features is not msgspec.UNSET
    if single == (ask.rows is not msgspec.UNSET):
        raise MalformedRequestError("give either subject and features, or rows")
    if single == (ask.subject is msgspec.UNSET):
        raise MalformedRequestError(
            "subject goes with features; in a batch every row has its own", where="/subject"
        )
    if not single and said(ask):
        raise MalformedRequestError("in a batch every row has its own consent, region and opted_out")
    if isinstance(ask.rows, list):
        if not ask.rows:
            raise MalformedRequestError("rows must hold at least one row", where="/rows")
        keys = 3 + sum(
            3 + said(row) for row in ask.rows
        )  # with text values: use_case, rows; subject, features
        inside = sum(bytes(row.features).count(b'"') for row in ask.rows)
    else:
        keys = 5 + said(ask)
        inside = bytes(ask.features).count(b'"')  # type: ignore[arg-type]
    keys += (ask.purpose is not UNSET) * 2
    if body.count(b'"') - inside != 2 * keys or b"\\" in body:
        refuse_duplicates(body)
    return ask


def _check_size(raw: bytes) -> None:
    if len(raw) > limits.MAX_FEATURES_BYTES:
        raise LimitError(f"the features of a row may have {limits.MAX_FEATURES_BYTES} bytes")
