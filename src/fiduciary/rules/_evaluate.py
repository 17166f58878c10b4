"""Run the rules of a stage against a subject, and the tests that rules carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from fiduciary.checks import (
    CheckResult,
    DataCard,
    Estimation,
    Facts,
    Sample,
    Subject,
    read_facts,
    run_check,
)
from fiduciary.errors import UsageError
from fiduciary.models import Contract, Scorecard, baseline_of, probability
from fiduciary.models._scorecard import ScorecardFile
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


GIVEN = ("use_case", "facts", "sample", "development", "contract", "scorecard", "table", "card", "estimation")


def subject_from(given: Mapping[str, Any]) -> Subject:
    """A subject from plain values: what a rule's own test gives.

    `use_case`, `facts`, `contract`, `scorecard`, `card`, `estimation` are documents of those formats, `table` is
    column -> values. `sample` and `development` are lists of cells, each of `count` equal rows: {count, score,
    outcome, decision, grade, groups, features, ...}; with a scorecard the scores, reasons and baseline are its own.
    Raises `UsageError`.
    """
    unknown = set(given) - set(GIVEN)
    if unknown:
        raise UsageError(f"a test gives {', '.join(GIVEN)}, not {', '.join(sorted(unknown))}")
    facts: Facts | None = read_facts({"today": "2026-07-21", **given["facts"]}) if "facts" in given else None
    contract = _document(given, "contract", Contract)
    card = _document(given, "scorecard", ScorecardFile)
    if card is not None and contract is None:
        raise UsageError("a scorecard comes with its contract")
    scorer = Scorecard(card, contract) if card is not None and contract is not None else None
    samples = {
        name: _sample(given[name], contract, scorer) for name in ("sample", "development") if name in given
    }
    baseline = None
    if scorer is not None and "sample" in samples:
        sample = samples["sample"]
        approved = sample.decisions == "approve" if sample.decisions is not None else None
        if approved is not None and approved.any():
            baseline = baseline_of(scorer, sample.rows[approved], "approved rows of the test")
    table = given.get("table")
    return Subject(
        use_case=given.get("use_case"),
        facts=facts,
        contract=contract,
        scorer=scorer,
        baseline=baseline,
        table=None if table is None else {str(k): np.array(v) for k, v in table.items()},
        card=_document(given, "card", DataCard),
        estimation=_document(given, "estimation", Estimation),
        sample=samples.get("sample"),
        development=samples.get("development"),
    )


def _document(given: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    if name not in given:
        return None
    try:
        return msgspec.convert(given[name], kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"the {name} of a test is not right: {error}") from None


_TEXTS = {"decisions": "decision", "grades": "grade", "previous_grades": "previous_grade", "classes": "class"}
_NUMBERS = ("exposure", "lgd", "realised_lgd", "ccf", "realised_ccf")
_CELL = {"count", "score", "outcome", "key", "groups", "features", *_TEXTS.values(), *_NUMBERS}


def _sample(cells: Any, contract: Contract | None, scorer: Scorecard | None) -> Sample:
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

    names = contract.names if contract else tuple(sorted({n for c in cells for n in c.get("features", {})}))
    features = np.array([[float(cell.get("features", {}).get(n, np.nan)) for n in names] for cell in cells])
    rows = np.repeat(features.reshape(len(cells), len(names)), counts, axis=0)
    groups = sorted({g for cell in cells for g in cell.get("groups", {})})
    labels = [[str(cell.get("groups", {}).get(g, "")) for cell in cells] for g in groups]
    scores, outcomes, keys = (
        column("score", np.float64),
        column("outcome", np.float64),
        column("key", np.str_),
    )
    more: dict[str, Any] = {name: column(cell, np.str_) for name, cell in _TEXTS.items()}
    more |= {name: column(name, np.float64) for name in _NUMBERS}
    if scorer is not None:
        more["margins"], more["contributions"] = scorer.explain(rows)
        scores = probability(more["margins"], scorer.link)
    if scores is None:
        raise UsageError("a cell of a sample has a score")
    if keys is not None:
        keys = np.char.add(keys, np.char.add("-", np.arange(len(keys)).astype(np.str_)))
    return Sample(
        rows=rows,
        names=tuple(names),
        scores=scores,
        outcomes=None if outcomes is None else outcomes.astype(np.bool_),
        groups={g: np.repeat(np.array(of), counts) for g, of in zip(groups, labels, strict=True)},
        keys=keys,
        **{name: value for name, value in more.items() if value is not None},
    )
