"""Rules as dated data: packs, what binds on a day, what the serving path owes, and what a release must show.

`load_pack` reads a pack strictly; `resolve` makes the rulebook of a use case on a day (strictest wins, with a report
of what clashes); `evaluate` runs the rules of a stage; `diff` tells two rulebooks apart and which releases change
verdict. A pack holds no code and no expressions: a rule names a check of the closed catalogue and gives its
parameters.
"""

from fiduciary.rules._duration import least_days, most_days, parse_duration
from fiduciary.rules._evaluate import RuleResult, TestOutcome, evaluate, judge, run_tests, subject_from
from fiduciary.rules._obligations import Notice, Obligations
from fiduciary.rules._pack import (
    Applies,
    Change,
    Clock,
    Effective,
    Letter,
    Pack,
    PackRule,
    Retention,
    Review,
    RuleTest,
    Source,
    pack_from_document,
)
from fiduciary.rules._resolve import BoundRule, Conflict, Rulebook, applies, diff, resolve
from fiduciary.rules._shipped import load_pack, shipped_packs
from fiduciary.rules._yaml import read_yaml

__all__ = [
    "Applies",
    "BoundRule",
    "Change",
    "Clock",
    "Conflict",
    "Effective",
    "Letter",
    "Notice",
    "Obligations",
    "Pack",
    "PackRule",
    "Retention",
    "Review",
    "RuleResult",
    "RuleTest",
    "Rulebook",
    "Source",
    "TestOutcome",
    "applies",
    "diff",
    "evaluate",
    "judge",
    "least_days",
    "load_pack",
    "most_days",
    "pack_from_document",
    "parse_duration",
    "read_yaml",
    "resolve",
    "run_tests",
    "shipped_packs",
    "subject_from",
]
