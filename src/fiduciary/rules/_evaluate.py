"""Run the rules of a stage against a subject, and the tests that rules carry."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from fiduciary.checks import Facts, Sample, Subject, read_facts, run_check
from fiduciary.checks._result import CheckResult
from fiduciary.errors import UsageError
from fiduciary.rules._pack import Pack, PackRule, RuleTest, Severity, Stage, resolved_params
from fiduciary.rules._resolve import BoundRule, Rulebook

MAX_CELLS = 1_000
MAX_ROWS = 100_000


class RuleResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule found. `blocks`: it stops approval and promotion; unknown is not a pass."""

    rule: str
    pack: str
    version: str
    severity: Severity
    stage: Stage
    check: str
    result: CheckResult
    reviewed: bool
    duty: str = ""
    cite: str = ""

    @property
    def blocks(self) -> bool:
        """Does it keep a release from going on?"""
        return self.severity == "block" and self.result.ok is not True


def evaluate(rulebook: Rulebook, stage: Stage, subject: Subject) -> list[RuleResult]:
    """Results of every rule of a stage, in the rulebook's order. Raises `UsageError`, `MissingExtraError`."""
    return [judge(rule, subject) for rule in rulebook.stage(stage)]


def judge(rule: BoundRule, subject: Subject) -> RuleResult:
    """One rule's result."""
    return RuleResult(
        rule=rule.id,
        pack=rule.pack,
        version=rule.version,
        severity=rule.severity,
        stage=rule.stage,
        check=rule.check,
        result=run_check(rule.check, subject, rule.params),
        reviewed=rule.reviewed,
        duty=rule.duty,
        cite=rule.cite,
    )


class TestOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One of a rule's own tests: what was expected and what came."""

    rule: str
    test: str
    expected: str
    found: str
    detail: str

    @property
    def ok(self) -> bool:
        """Did it come out as expected?"""
        return self.expected == self.found


def run_tests(pack: Pack) -> list[TestOutcome]:
    """Run the tests that the rules of a pack carry. Raises `UsageError` for a `given` that cannot be read."""
    return [_run(pack, rule, test) for rule in pack.rules for test in rule.tests]


def _run(pack: Pack, rule: PackRule, test: RuleTest) -> TestOutcome:
    try:
        subject = subject_from(test.given)
    except UsageError as error:
        raise UsageError(f"test {test.name!r} of rule {rule.id}: {error.detail}") from None
    result = run_check(rule.check, subject, resolved_params(pack, rule, rule.params))
    found = {True: "pass", False: "fail", None: "unknown"}[result.ok]
    return TestOutcome(rule=rule.id, test=test.name, expected=test.expect, found=found, detail=result.detail)


def subject_from(given: dict[str, Any]) -> Subject:
    """A subject from plain values: `use_case`, `facts`, `sample` and `development` as cells.

    A sample is a list of cells, each of `count` equal rows: {count, score, outcome, decision, grade, groups,
    features, ...}. Raises `UsageError`.
    """
    unknown = set(given) - {"use_case", "facts", "sample", "development"}
    if unknown:
        raise UsageError(
            f"a test gives use_case, facts, sample or development, not {', '.join(sorted(unknown))}"
        )
    facts: Facts | None = read_facts({"today": "2026-07-21", **given["facts"]}) if "facts" in given else None
    return Subject(
        use_case=given.get("use_case"),
        facts=facts,
        sample=_sample(given["sample"]) if "sample" in given else None,
        development=_sample(given["development"]) if "development" in given else None,
    )


_CELL = {
    "count", "score", "outcome", "decision", "grade", "previous_grade", "class", "exposure", "lgd", "realised_lgd",
    "ccf", "realised_ccf", "groups", "features",
}  # fmt: skip


def _sample(cells: Any) -> Sample:
    if not isinstance(cells, list) or not 1 <= len(cells) <= MAX_CELLS:
        raise UsageError(f"a sample is a list of 1 to {MAX_CELLS} cells")
    for cell in cells:
        if not isinstance(cell, dict) or set(cell) - _CELL or not isinstance(cell.get("count"), int):
            raise UsageError(f"a cell has a count, and of: {', '.join(sorted(_CELL))}")
    counts = np.array([cell["count"] for cell in cells])
    if counts.min() < 1 or counts.sum() > MAX_ROWS:
        raise UsageError(f"a sample has 1 to {MAX_ROWS} rows")

    def column(name: str, dtype: Any) -> Any:
        if not any(name in cell for cell in cells):
            return None
        if not all(name in cell for cell in cells):
            raise UsageError(f"{name} is in some cells and not in others")
        return np.repeat(np.array([cell[name] for cell in cells], dtype=dtype), counts)

    names = sorted({n for cell in cells for n in cell.get("features", {})})
    features = np.array([[float(cell.get("features", {}).get(n, np.nan)) for n in names] for cell in cells])
    groups = sorted({g for cell in cells for g in cell.get("groups", {})})
    labels = {
        g: np.repeat(np.array([str(c.get("groups", {}).get(g, "")) for c in cells]), counts) for g in groups
    }
    scores = column("score", np.float64)
    if scores is None:
        raise UsageError("a cell of a sample has a score")
    outcomes = column("outcome", np.float64)
    fields = {
        "decisions": column("decision", np.str_),
        "grades": column("grade", np.str_),
        "previous_grades": column("previous_grade", np.str_),
        "classes": column("class", np.str_),
        **{n: column(n, np.float64) for n in ("exposure", "lgd", "realised_lgd", "ccf", "realised_ccf")},
    }
    return Sample(
        rows=np.repeat(features.reshape(len(cells), len(names)), counts, axis=0),
        names=tuple(names),
        scores=scores,
        outcomes=None if outcomes is None else outcomes.astype(np.bool_),
        groups=labels,
        **{name: value for name, value in fields.items() if value is not None},
    )
