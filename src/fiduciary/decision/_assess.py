"""A release held against the rules of the day: from files to a subject, from a rulebook to recordable results.

What is judged is what would serve: the rows pass the release's contract, its own scorer scores and explains them, and
the use case's cut-offs decide. Protected attributes come beside the rows and never reach the scorer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.checks import CheckResult, DataCard, Estimation, Sample, Subject
from fiduciary.decision._decider import outcomes
from fiduciary.errors import UsageError
from fiduciary.models import events_of, probability, read_table
from fiduciary.registry import LoadedRelease, UseCase, canonical

if TYPE_CHECKING:
    from fiduciary.rules import RuleResult

MAX_GROUPS = 64
MAX_GROUP_VALUES = 200
MAX_NUMBERS_BYTES = 2_048
"""Most bytes of one result's further figures on the control log; the tables themselves are drawn on demand."""
MAX_TEXT = 500
NUMBERS = ("exposure", "lgd", "realised_lgd", "ccf", "realised_ccf", "weights")
TEXTS = ("grades", "previous_grades", "keys", "classes", "segments", "period")
ROLES = (*TEXTS, *NUMBERS)
"""What a further column of the table may stand for, besides the outcome and protected attributes."""


class Table(msgspec.Struct, frozen=True):
    """A table as it was read, and the digest of its file."""

    name: str
    digest: str
    columns: dict[str, NDArray[Any]]
    rows: int

    def describe(self) -> dict[str, Any]:
        """What the control log says of it."""
        return {"file": self.name[:200], "sha256": self.digest, "rows": self.rows}


def read_data(path: Path, release: LoadedRelease | None = None) -> Table:
    """Read a CSV or Parquet file whole. Raises `UsageError`, `LimitError`."""
    columns = read_table(path, release.contract if release else None)
    digest = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    return Table(path.name, digest, columns, len(next(iter(columns.values()))))


def sample_of(
    table: Table,
    release: LoadedRelease,
    use_case: UseCase,
    *,
    target: str = "",
    positive: str | None = None,
    groups: Sequence[str] = (),
    beside: Table | None = None,
    reference: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
    explain: bool = True,
) -> Sample:
    """Score a table with a release and decide by the use case's cut-offs.

    `target`: column of the outcome, whose event `positive` names if it is not 0/1. `groups`: columns of the table
    that are protected attributes; `beside`: a table of such, row for row; `reference`: the label of each that others
    are compared with. `roles`: of `ROLES`, the column that holds each. Raises `UsageError` naming the column, or
    `ContractError` for a row that the release would refuse.
    """
    columns = table.columns
    rows = release.compiled.table(columns, ignore_unknown=True)
    margins, contributions = release.scorer.explain(rows) if explain else (release.scorer.score(rows), None)
    scores = probability(margins, release.scorer.link)
    further: dict[str, Any] = {role: _role(table, role, name) for role, name in (roles or {}).items()}
    return Sample(
        rows=rows,
        names=tuple(release.contract.names),
        scores=scores,
        margins=margins,
        outcomes=events_of(column(table, target), positive).astype(np.bool_) if target else None,
        decisions=np.array(outcomes(use_case, scores.tolist())),
        contributions=contributions,
        groups=_groups(table, groups, beside),
        reference=dict(reference or {}),
        **further,
    )


def _role(table: Table, role: str, name: str) -> NDArray[Any]:
    if role not in ROLES:
        raise UsageError(f"a column can stand for {', '.join(ROLES)}, not for {role!r}")
    values = column(table, name)
    if role in TEXTS:
        return _labels(values)
    if values.dtype.kind not in "fiu":
        raise UsageError(f"column {name!r} of {table.name} stands for {role} and must hold numbers")
    return values.astype(np.float64)


def column(table: Table, name: str) -> NDArray[Any]:
    """A column by name. Raises `UsageError` saying which there are."""
    try:
        return table.columns[name]
    except KeyError:
        listed = ", ".join(list(table.columns)[:30])
        raise UsageError(f"there is no column {name!r} in {table.name}; there are {listed}") from None


def _groups(table: Table, names: Sequence[str], beside: Table | None) -> dict[str, NDArray[Any]]:
    found = {name: _labels(column(table, name)) for name in names}
    if beside is not None:
        if beside.rows != table.rows:
            raise UsageError(f"{beside.name} has {beside.rows} rows, {table.name} has {table.rows}")
        found |= {name: _labels(values) for name, values in beside.columns.items()}
    if len(found) > MAX_GROUPS:
        raise UsageError(f"at most {MAX_GROUPS} protected attributes are looked at, not {len(found)}")
    for name, labels in found.items():
        if len(np.unique(labels)) > MAX_GROUP_VALUES:
            raise UsageError(f"{name} has more than {MAX_GROUP_VALUES} values; band it first")
    return found


def _labels(values: NDArray[Any]) -> NDArray[Any]:
    """Group labels as text: a whole number without a point, a missing value empty."""
    return np.array(
        [
            "" if v is None or v != v else str(int(v)) if isinstance(v, float) and v.is_integer() else str(v)
            for v in values.tolist()
        ]
    )


def subject_of(
    release: LoadedRelease,
    use_case: UseCase,
    *,
    sample: Sample | None = None,
    development: Sample | None = None,
    table: Table | None = None,
    card: DataCard | None = None,
    estimation: Estimation | None = None,
    facts: Any = None,
    seed: int = 0,
) -> Subject:
    """Everything that the checks of a release may read."""
    return Subject(
        sample=sample,
        development=development,
        scorer=release.scorer,
        contract=release.contract,
        baseline=release.baseline,
        use_case=use_case.document,
        facts=facts,
        table=table.columns if table is not None else None,
        card=card,
        estimation=estimation,
        seed=seed,
    )


def recordable(result: RuleResult) -> dict[str, Any]:
    """A rule's result as `release.checked` carries it: bounded, and nothing personal in it."""
    found = {
        "name": result.check,
        "rule": result.rule,
        "pack": result.pack,
        "version": result.version,
        "ok": result.result.ok,
        "severity": result.severity,
        "detail": result.result.detail[:MAX_TEXT],
        **_figures(result.result),
    }
    if result.result.lacking:
        found["lacking"] = result.result.lacking[:MAX_TEXT]
    return found


def _figures(result: CheckResult) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("value", "unit", "interval", "threshold"):
        value = getattr(result, name)
        if value not in (None, ""):
            found[name] = list(value) if isinstance(value, tuple) else value
    if result.numbers:
        numbers: Mapping[str, Any] = msgspec.to_builtins(result.numbers)
        if len(canonical(numbers)) > MAX_NUMBERS_BYTES:
            numbers = {k: v for k, v in numbers.items() if isinstance(v, int | float | str | bool | None)}
            if len(canonical(numbers)) > MAX_NUMBERS_BYTES:
                numbers = {}
        if numbers:
            found["numbers"] = dict(numbers)
    return found
