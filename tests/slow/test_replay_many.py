"""All families, many decisions: `make test-replay` decides and replays 100,000 and more."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from families import FAMILIES, EveryFamily
from fiduciary.decision import Replayer

DECISIONS = int(os.environ.get("FIDUCIARY_REPLAY_DECISIONS", "2100"))


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EveryFamily]:
    made = EveryFamily(tmp_path_factory.mktemp("families"), list(FAMILIES))
    yield made
    made.ledger.close()


def test_every_decision_replays_bit_for_bit(families: EveryFamily) -> None:
    each = -(-DECISIONS // len(FAMILIES))
    total = 0
    for name in FAMILIES:
        assert families.record(name, each) == 3
        summary = Replayer(families.ledger, families.registry).replay_all(name, limit=each + 1)
        assert (summary.same, summary.different, summary.unreadable) == (each, [], 0), name
        total += summary.same
        print(f"{name}: {summary.same} the same, bit for bit")
    assert total >= DECISIONS
