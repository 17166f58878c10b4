"""Checks: pure functions that look at a sample, a model or plain facts and give one numbered result.

They know no storage and no network. A rule pack names a check and its parameters; `CATALOGUE` is the closed
vocabulary it chooses from, `run_check` runs one, `battery` many. docs/checks.md has an entry for each, and each
statistic is held to an independent oracle in tests/checks.
"""

from fiduciary.checks import _figures as figures
from fiduciary.checks._attack import Attacked, attack
from fiduciary.checks._candidates import LabelledRows
from fiduciary.checks._card import CardColumn, DataCard, Declared, Estimation, Lineage, Margin, describe
from fiduciary.checks._catalogue import CATALOGUE, battery, find_check, lacking, run_check
from fiduciary.checks._certificates import Certificate, Certifier
from fiduciary.checks._check import Check, Kind, Param, Stage
from fiduciary.checks._facts import (
    Attestation,
    ClockFacts,
    Drill,
    Facts,
    Finding,
    LedgerFacts,
    Overlay,
    OversightFacts,
    Person,
    ProbeFacts,
    ReasonFacts,
    ReleaseFacts,
    RetentionFacts,
    read_facts,
)
from fiduciary.checks._goal import Goal, goal_of
from fiduciary.checks._hardening import Candidate, harden
from fiduciary.checks._moves import Move, Moves, moves_of
from fiduciary.checks._result import CheckResult
from fiduciary.checks._sample import Arrears, Sample, Subject
from fiduciary.checks._search import Search, SearchOptions, search_alternatives
from fiduciary.checks._svg import Figure
from fiduciary.checks._tables import Table, validation_tables

__all__ = [
    "CATALOGUE",
    "Arrears",
    "Attacked",
    "Attestation",
    "Candidate",
    "CardColumn",
    "Certificate",
    "Certifier",
    "Check",
    "CheckResult",
    "ClockFacts",
    "DataCard",
    "Declared",
    "Drill",
    "Estimation",
    "Facts",
    "Figure",
    "Finding",
    "Goal",
    "Kind",
    "LabelledRows",
    "LedgerFacts",
    "Lineage",
    "Margin",
    "Move",
    "Moves",
    "Overlay",
    "OversightFacts",
    "Param",
    "Person",
    "ProbeFacts",
    "ReasonFacts",
    "ReleaseFacts",
    "RetentionFacts",
    "Sample",
    "Search",
    "SearchOptions",
    "Stage",
    "Subject",
    "Table",
    "attack",
    "battery",
    "describe",
    "figures",
    "find_check",
    "goal_of",
    "harden",
    "lacking",
    "moves_of",
    "read_facts",
    "run_check",
    "search_alternatives",
    "validation_tables",
]
