"""One served outcome: what was asked, what the release said, why, and what the use case makes of it.

`Decider` is the pure middle of the one path (act, explain, oblige): rows in, verdicts out, no storage and no
network. The gate calls it before it records; `replay` calls it again, years later, on the record, and must
find the same bits (tests/decision/test_replay.py).
"""

from fiduciary.decision._assess import Table, column, read_data, recordable, sample_of, subject_of
from fiduciary.decision._decider import Decider, Verdict, outcomes
from fiduciary.decision._duties import (
    NOTHING_ASKED,
    Asked,
    Duties,
    NoticeDuty,
    admit,
    asked_of,
    duties_of,
    notices,
    referral,
    reviewer,
)
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
    "NOTHING_ASKED",
    "REFUSED",
    "Asked",
    "Decider",
    "DecisionRecord",
    "Difference",
    "Duties",
    "Notice",
    "NoticeDuty",
    "Replay",
    "Replayer",
    "Summary",
    "Table",
    "Verdict",
    "admit",
    "asked_of",
    "column",
    "decode_record",
    "duties_of",
    "encode_record",
    "notices",
    "outcomes",
    "read_data",
    "recordable",
    "referral",
    "refusal_record",
    "replay",
    "reviewer",
    "sample_of",
    "subject_of",
]
