"""Models from data that nobody reveals: one worker per party, a signed contract, pinned links, a signed transcript.

`Engine.run` is the one door: it runs an allowed program over columns that stay with their owners. Who is
protected against whom, and what leaks by design: docs/joint-claims.md, each line with its test.
"""

from fiduciary.joint._allow import Allow, Memory
from fiduciary.joint._contract import Contract, Limits, Signed, make_contract, open_contract
from fiduciary.joint._engine import Columns, Engine, Progress, RunResult
from fiduciary.joint._identifiers import Identifiers, Mismatch, prepare_identifiers
from fiduciary.joint._local import LocalFederation
from fiduciary.joint._member import LinkKey, Member, Outcome
from fiduciary.joint._programs import Program, shipped_programs
from fiduciary.joint._psi import Alignment, intersect
from fiduciary.joint._transcript import Transcript, read_transcript
from fiduciary.joint._workers import check_worker, create_worker, worker_python

__all__ = [
    "Alignment",
    "Allow",
    "Columns",
    "Contract",
    "Engine",
    "Identifiers",
    "Limits",
    "LinkKey",
    "LocalFederation",
    "Member",
    "Memory",
    "Mismatch",
    "Outcome",
    "Program",
    "Progress",
    "RunResult",
    "Signed",
    "Transcript",
    "check_worker",
    "create_worker",
    "intersect",
    "make_contract",
    "open_contract",
    "prepare_identifiers",
    "read_transcript",
    "shipped_programs",
    "worker_python",
]
