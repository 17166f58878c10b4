"""Models from data that nobody reveals: one worker per party, a signed contract, pinned links, a signed transcript.

`Engine.run` is the one door: it runs an allowed program over columns that stay with their owners. Who is
protected against whom, and what leaks by design: docs/joint-claims.md, each line with its test.
"""

from fiduciary.joint._engine import Columns, Engine, Progress, RunResult
from fiduciary.joint._transcript import Transcript, read_transcript

__all__ = ["Columns", "Engine", "Progress", "RunResult", "Transcript", "read_transcript"]
