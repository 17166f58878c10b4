"""The context of the stub engine."""

from __future__ import annotations


class ProgramFailure(Exception):
    pass


class Context:
    def __init__(self, **parts: object) -> None:
        self.__dict__.update(parts)
        self.me = self.parties[self.rank]
        self.rounds = 0

    def counters(self) -> dict[str, int]:
        return {"rounds": self.rounds}
