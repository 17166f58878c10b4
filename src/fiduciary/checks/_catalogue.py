"""All checks by name, and how to run one or many. The vocabulary is closed: an unknown name refuses."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from typing import Any

from fiduciary.checks._check import Check, arguments
from fiduciary.checks._result import CheckResult, plain
from fiduciary.checks._sample import Subject
from fiduciary.errors import UsageError

MODULES = (
    "_discrimination",
    "_calibration",
    "_stability",
    "_basel",
    "_data",
    "_performance",
    "_fairness",
    "_alternatives",
    "_reasons",
    "_robustness",
    "_privacy",
    "_governance",
)
"""Rooms of this package that export `CHECKS`."""

MAX_BATTERY = 1_000

_WHAT = {
    "sample": "a validation sample",
    "sample.outcomes": "outcomes for the sample (did the adverse event happen?)",
    "sample.decisions": "decisions for the sample (approve, refer or decline)",
    "sample.groups": "group labels for the sample (protected attributes, kept apart from the inputs)",
    "sample.grades": "rating grades for the sample",
    "sample.previous_grades": "rating grades at the start of the period",
    "sample.contributions": "contributions for the sample",
    "sample.keys": "row keys for the sample",
    "sample.exposure": "exposures for the sample",
    "sample.classes": "exposure classes for the sample",
    "sample.lgd": "estimated LGD for the sample",
    "sample.realised_lgd": "realised LGD for the sample",
    "sample.ccf": "estimated credit conversion factors for the sample",
    "sample.realised_ccf": "realised credit conversion factors for the sample",
    "sample.overridden": "a flag for each row that a person overrode",
    "table": "the raw table as it was read",
    "estimation": "what the institution declares of its estimates",
    "estimation.margins": "margins of conservatism",
    "card.columns": "columns on the data card",
    "card.base_rate": "a base rate on the data card",
    "card.totals": "control totals on the data card",
    "card.lineage": "lineage on the data card",
    "development": "the development sample",
    "development.outcomes": "outcomes for the development sample",
    "development.keys": "row keys for the development sample",
    "scorer": "the model",
    "contract": "the feature contract",
    "baseline": "the pinned baseline of the approved population",
    "use_case": "the use case document",
    "facts": "governance facts of the use case",
    "card": "the data card (what the source declares)",
}


def _load() -> dict[str, Check]:
    found: dict[str, Check] = {}
    for room in MODULES:
        name = f"fiduciary.checks.{room}"
        if importlib.util.find_spec(name) is None:
            continue
        checks: dict[str, Check] = importlib.import_module(name).CHECKS
        for key, check in checks.items():
            if key in found or key != check.name:
                raise AssertionError(f"check {key} is registered twice or under another name")
            found[key] = check
    return found


CATALOGUE: dict[str, Check] = _load()
"""Every check by name."""


def find_check(name: str) -> Check:
    """The check of that name. Raises `UsageError` for an unknown one."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise UsageError(f"there is no check {name!r}") from None


def lacking(check: Check, subject: Subject) -> str:
    """What of the check's needs the subject does not have, in words; empty when it has all."""
    missing = [need for need in check.needs if _absent(subject, need)]
    firsts = {need for need in missing if "." not in need}
    words = [
        _WHAT.get(need, need.replace(".", " ").replace("_", " "))
        for need in missing
        if "." not in need or need.split(".")[0] not in firsts
    ]
    return "; ".join(words)


def run_check(name: str, subject: Subject, params: Mapping[str, Any] | None = None) -> CheckResult:
    """Run one check of the catalogue.

    Raises `UsageError` for an unknown name or parameter, or an ill-typed one. Where the subject lacks what the
    check needs, the result has `ok` None and says in `lacking` what to add.
    """
    check = find_check(name)
    given = arguments(check, params)
    if absent := lacking(check, subject):
        return CheckResult(
            name=name, ok=None, unit=check.unit, lacking=absent, detail=f"not judged: {absent} needed"
        )
    return plain(check.run(subject, **given))


def battery(
    subject: Subject,
    names: Iterable[str] | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[CheckResult]:
    """Run many checks on one subject; what they share (sorting by score, sorted columns) is done once.

    `names`: which; None runs every check of the catalogue that is not heavy and whose needs are met. `params`:
    parameters by check name. Raises `UsageError` for an unknown name or parameter.
    """
    params = params or {}
    for name in params:
        find_check(name)
    if names is None:
        chosen = [n for n, c in CATALOGUE.items() if not c.heavy and not lacking(c, subject)]
    else:
        chosen = list(dict.fromkeys(names))
    if len(chosen) > MAX_BATTERY:
        raise UsageError(f"a battery has at most {MAX_BATTERY} checks")
    return [run_check(name, subject, params.get(name)) for name in chosen]


def _absent(subject: Subject, path: str) -> bool:
    value: Any = subject
    for part in path.split("."):
        value = getattr(value, part, None)
        if value is None:
            return True
    return isinstance(value, (dict, list, tuple, str)) and not value
