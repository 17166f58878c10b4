"""Decided, recorded, sealed, read back, decided again: the same bits, for every family; and any change is found."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from evidence_bank import ERASED, LENDING, LIMITS, Past
from families import FAMILIES, EveryFamily
from fiduciary.decision import Decider, DecisionRecord, Replayer, decode_record, encode_record, replay
from fiduciary.errors import ConflictError, GoneError, IntegrityError, NotFoundError
from fiduciary.models import Reason

EACH = 300


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EveryFamily]:
    made = EveryFamily(tmp_path_factory.mktemp("families"), list(FAMILIES))
    yield made
    made.ledger.close()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_replays_bit_for_bit(families: EveryFamily, name: str) -> None:
    assert families.record(name, EACH) == 3, "the rows must be approved, referred and declined"
    summary = Replayer(families.ledger, families.registry).replay_all(name, limit=EACH * 2)
    assert (summary.same, summary.different, summary.unreadable) == (EACH, [], 0)


def test_a_replay_says_what_differs(families: EveryFamily) -> None:
    families.record("lightgbm", 3)
    records = [r for r in families.ledger.records("gate-0") if r.header.use_case == "lightgbm"]
    decider = families.decided["lightgbm"]
    payloads = [decode_record(record.payload or b"") for record in records]
    adverse = next(p for p in payloads if p.reasons)
    assert replay(adverse, decider).same
    other = Reason(adverse.reasons[0].code, "other words", adverse.reasons[0].contribution)
    changes = {
        "outcome": {"outcome": "approve" if adverse.outcome != "approve" else "refer"},
        "score": {"score": (adverse.score or 0.0) + 2**-53},
        "margin": {"margin": (adverse.margin or 0.0) * (1 + 2**-52)},
        "baseline": {"baseline": 0.0},
        "reasons": {"reasons": [other, *adverse.reasons[1:]]},
    }
    for field, change in changes.items():
        found = replay(msgspec.structs.replace(adverse, **change), decider)
        assert not found.same and [d.field for d in found.differences] == [field]
    silent = msgspec.structs.replace(adverse, reasons=[], explained=False)
    assert [d.field for d in replay(silent, decider).differences] == ["explained"]


def test_a_replay_needs_the_release_and_rules_of_the_record(families: EveryFamily) -> None:
    record = next(r for r in families.ledger.records("gate-0") if r.header.use_case == "scorecard")
    decision = decode_record(record.payload or b"")
    own = families.decided["scorecard"]
    with pytest.raises(ConflictError, match="names release"):
        replay(decision, families.decided["additive"])
    lenient = msgspec.structs.replace(own.use_case, approve_below=own.use_case.decline_from)
    with pytest.raises(ConflictError, match="another version of the use case"):
        replay(decision, Decider(own.release, lenient))


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    made = Past(tmp_path_factory.mktemp("past"))
    yield made
    made.bank.ledger.close()


def test_what_the_past_decided_replays_after_everything_that_happened(past: Past) -> None:
    """Rolled back, suspended and resumed since; one subject erased."""
    replayer = Replayer(past.bank.ledger, past.bank.registry)
    lending = replayer.replay_all(LENDING, limit=10_000)
    assert lending.different == [] and lending.unreadable > 0
    assert lending.same + lending.unreadable == 230
    limits = replayer.replay_all(LIMITS.name, limit=10_000)
    assert limits.different == [] and limits.same + limits.unreadable == 30


def test_what_cannot_be_replayed_says_why(past: Past) -> None:
    replayer = Replayer(past.bank.ledger, past.bank.registry)
    records = list(past.bank.ledger.records("gate-0"))
    erased = next(r for r in records if r.state == "erased")
    refused = next(r for r in records if r.payload and b'"refused"' in r.payload)
    with pytest.raises(GoneError, match="erased"):
        replayer.replay(erased.id)
    with pytest.raises(ConflictError, match="refusal"):
        replayer.replay(refused.id)
    with pytest.raises(ConflictError, match="an event"):
        replayer.replay("control.3")
    with pytest.raises(NotFoundError):
        replayer.replay("gate-0.999999")
    assert ERASED not in str([r.payload for r in records])


def test_a_record_reads_back_and_nothing_else_does() -> None:
    record = DecisionRecord(version=1, outcome="approve", use_case="x", features=msgspec.Raw(b'{"a": 1.50}'))
    back = decode_record(encode_record(record))
    assert bytes(back.features) == b'{"a": 1.50}' and back == record
    for bad in (b"", b"[]", b"{}", b"\xff", b'{"version":1}', b'{"version":2,"outcome":"a","use_case":"b"}'):
        with pytest.raises(IntegrityError):
            decode_record(bad)
