"""Our own server, set up as a bank would: parties, a signed and approved release, a use case, a token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import _model
import numpy as np


class Variant(NamedTuple):
    """One way to serve."""

    name: str
    does: str
    family: Literal["lightgbm", "scorecard"] = "lightgbm"
    reasons: Literal["always", "adverse"] = "always"
    workers: int = 1


VARIANTS = [
    Variant("ours", "score, reasons, record"),
    Variant("ours-adverse", "score, reasons if adverse, record", reasons="adverse"),
    Variant("ours-scorecard", "points, reasons, record", family="scorecard"),
    Variant("ours-2-workers", "score, reasons, record", workers=2),
]


class Home(NamedTuple):
    """A home ready to serve."""

    folder: Path
    path: str
    headers: Mapping[str, str]
    bodies: list[bytes]
    expected: np.ndarray
    score: Callable[[bytes], float]

    def command(self, port: int, workers: int) -> list[str]:
        raise NotImplementedError

    def audit(self, sent: int) -> dict[str, object]:
        raise NotImplementedError


def make_home(folder: Path, work: _model.Workload, variant: Variant) -> Home:
    raise NotImplementedError
