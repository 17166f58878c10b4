"""One served outcome: what was asked, what the release said, why, and what the use case makes of it.

`Decider` is the pure middle of the one path (act, explain, oblige): rows in, verdicts out, no storage and no
network. The gate calls it before it records; `replay` calls it again, years later, on the record, and must
find the same bits (tests/decision/test_replay.py).
"""

from fiduciary.decision._decider import Decider, Verdict, outcomes
from fiduciary.decision._record import (
    REFUSED,
    DecisionRecord,
    Notice,
    decode_record,
    encode_record,
    refusal_record,
)
from fiduciary.decision._replay import Difference, Replay, replay
from fiduciary.decision._replayer import Replayer, Summary

__all__ = [
    "REFUSED",
    "Decider",
    "DecisionRecord",
    "Difference",
    "Notice",
    "Replay",
    "Replayer",
    "Summary",
    "Verdict",
    "decode_record",
    "encode_record",
    "outcomes",
    "refusal_record",
    "replay",
]
