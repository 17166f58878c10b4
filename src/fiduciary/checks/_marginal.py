"""The effect of belonging to a group on the outcome, all else in the regression equal.

Without controls it is the plain difference in rates; with controls, the average change of the predicted rate
when a row moves from the reference group into the group.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._check import Check, Param
from fiduciary.checks._groups import (
    COMMON,
    FAVOURABLE,
    NO_DECISIONS,
    favourable_rows,
    groupings,
    nothing,
    reference_place,
    too_few,
)
from fiduciary.checks._regression import MAX_COLUMNS, TOO_MANY, Model, effect, fit
from fiduciary.checks._result import CheckResult, number
from fiduciary.checks._sample import Subject
from fiduciary.errors import UsageError

F64 = NDArray[np.float64]


def marginal_effect(
    subject: Subject,
    *,
    attributes: list[str],
    reference: dict[str, Any],
    minimum_rows: int,
    level: float,
    favourable: list[str],
    model: str,
    controls: list[str],
    at: dict[str, Any],
    maximum: float | None,
) -> CheckResult:
    """How much likelier an unfavourable outcome is for a group than for its reference group, as a share.

    `controls` are features (or "score"); rows where one is missing are left out and counted. `at` fixes controls
    at values; the others, and all when it is empty, are averaged over the rows. A regression that the data do
    not allow is said in `lacking`. Raises `UsageError` for an unknown control.
    """
    name, sample = "fairness.marginal_effect", subject.sample
    assert sample is not None
    marked = favourable_rows(subject, favourable)
    if marked is None:
        return nothing(name, "share", NO_DECISIONS)
    good, decided = marked
    columns, labels, present = _controls(subject, controls)
    fixed = _fixed(labels, at)
    kind: Model = "linear" if model == "linear" else "logit" if model == "logit" else "probit"
    tables: dict[str, Any] = {}
    small: list[str] = []
    unfitted: list[str] = []
    worst: tuple[float, str, str, tuple[float, float], float] | None = None
    for grouping in groupings(sample, attributes):
        usable = decided & present & (grouping.codes >= 0)
        rows, count = grouping.count(usable), grouping.count(usable & good)
        with np.errstate(invalid="ignore", divide="ignore"):
            rates = count / rows
        ref = reference_place(grouping, rates, rows, sample, reference, minimum_rows)
        small += [
            f"{grouping.attribute} {label}"
            for label, n in zip(grouping.labels, rows.tolist(), strict=True)
            if n < minimum_rows
        ]
        judged = [g for g in range(len(rows)) if g != ref and rows[g] >= minimum_rows]
        if ref is None or not judged or not rows[ref]:
            continue
        kept = usable & np.isin(grouping.codes, [ref, *judged])
        codes = grouping.codes[kept]
        dummies = np.column_stack([codes == g for g in judged]).astype(np.float64)
        table = np.column_stack([columns[kept], dummies]) if columns.shape[1] else dummies
        names = (*labels, *(f"{grouping.attribute}={grouping.labels[g]}" for g in judged))
        outcome = (~good[kept]).astype(np.float64)
        try:
            found = fit(table, outcome, kind, names=names)
        except (
            UsageError
        ) as error:  # the data do not allow this regression: nothing is judged, and it is said why
            unfitted.append(f"{grouping.attribute}: {error.detail}")
            continue
        first = 1 + columns.shape[1]
        places = range(first, first + len(judged))
        full = np.column_stack([np.ones(len(table)), table])
        for j, value in fixed.items():
            full[:, 1 + j] = value
        if len(fixed) == len(labels):
            full = full[:1]  # everything is fixed: one row says it all
        lines = []
        for place, g in zip(places, judged, strict=True):
            others = tuple(p for p in places if p != place)
            change = effect(found, full, place, level, others=others)
            lines.append(
                {
                    "group": grouping.labels[g],
                    "rows": int(rows[g]),
                    "effect": change.value,
                    "error": change.error,
                    "interval": list(change.interval),
                    "z": number(change.z),
                    "p": number(change.p),
                    "raw_difference": float(rates[ref] - rates[g]),
                }
            )
            if worst is None or change.value > worst[0]:
                worst = change.value, grouping.attribute, grouping.labels[g], change.interval, change.p
        tables[grouping.attribute] = {
            "reference": grouping.labels[ref],
            "rows": found.rows,
            "left_out": int(np.count_nonzero(decided)) - found.rows,
            "coefficients": dict(zip(found.names, found.coefficients.tolist(), strict=True)),
            "errors": dict(zip(found.names, found.errors.tolist(), strict=True)),
            "groups": lines,
        }
    lacking = "; ".join(filter(None, [too_few(small, minimum_rows), *unfitted]))
    numbers: dict[str, Any] = {"attributes": tables, "model": model, "controls": controls, "at": at}
    if worst is None:
        return CheckResult(
            name=name, ok=None, unit="share", threshold=maximum, numbers=numbers,
            lacking=lacking or "two groups", detail="no two groups could be compared",
        )  # fmt: skip
    value, attribute, label, ends, p = worst
    ok: bool | None = None
    if maximum is not None:
        ok = False if value > maximum else None if lacking else True
    held = f" with {', '.join(controls)} held" if controls else ""
    chance = "" if math.isnan(p) else f", p {p:.2g}"
    return CheckResult(
        name=name,
        ok=ok,
        value=value,
        unit="share",
        interval=(float(ends[0]), float(ends[1])),
        threshold=maximum,
        detail=f"{attribute} {label}: {value:+.1%} unfavourable outcomes against its reference group{held}{chance}",
        lacking=lacking,
        numbers=numbers,
    )


def _controls(subject: Subject, controls: list[str]) -> tuple[F64, list[str], NDArray[np.bool_]]:
    """Columns of the controls (n, k), their names, and which rows have them all; categories as 0/1 columns."""
    sample = subject.sample
    assert sample is not None
    categories = {
        f.name: f.categories
        for f in (subject.contract.features if subject.contract else ())
        if f.type == "category"
    }
    columns: list[F64] = []
    names: list[str] = []
    present = np.ones(len(sample), dtype=np.bool_)
    for control in dict.fromkeys(controls):
        if control in sample.names:
            values = sample.rows[:, sample.names.index(control)]
        elif control == "score":
            values = sample.scores
        else:
            raise UsageError(f"the control {str(control)[:80]!r} is no feature of the sample, nor 'score'")
        present &= np.isfinite(values)
        if control in categories:
            seen = np.unique(values[np.isfinite(values)]).astype(np.int64).tolist()
            if len(seen) > MAX_COLUMNS:
                raise UsageError(TOO_MANY.format(MAX_COLUMNS, len(seen)))
            for code in seen[1:]:
                columns.append((values == code).astype(np.float64))
                names.append(f"{control}={categories[control][code]}")
        else:
            columns.append(values)
            names.append(control)
    wide = np.column_stack(columns) if columns else np.empty((len(sample), 0))
    return np.where(np.isfinite(wide), wide, 0.0), names, present


def _fixed(labels: list[str], at: dict[str, Any]) -> dict[int, float]:
    fixed = {}
    for name, value in at.items():
        if name not in labels:
            raise UsageError(
                f"'at' fixes {name[:80]!r}, which is not one of the controls: {', '.join(labels)[:200]}"
            )
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise UsageError(f"'at' gives {name!r} a value that is not a number")
        fixed[labels.index(name)] = float(value)
    return fixed


MARGINAL_EFFECT = Check(
    name="fairness.marginal_effect",
    kind="metric",
    run=marginal_effect,
    params=COMMON
    | FAVOURABLE
    | {
        "model": Param(str, "linear", "the regression", choices=("linear", "logit", "probit")),
        "controls": Param(list, [], "features held equal, or 'score'", high=100),
        "at": Param(dict, {}, "control -> value at which the effect is taken; empty: averaged over the rows"),
        "maximum": Param(float, None, "largest effect that is ok; not given: no verdict", low=0.0, high=1.0),
    },
    stages=("release", "watch", "evidence"),
    unit="share",
    source="Stock and Watson, Introduction to Econometrics, chapter 11; HC1: MacKinnon and White 1985",
    needs=("sample.groups",),
    summary="How much likelier an unfavourable outcome is for a group, other things in the regression equal.",
)
