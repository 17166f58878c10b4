"""The tables that a European validator reports of a PD, LGD or CCF model, as plain structured data.

Laid out after the ECB's instructions for reporting the validation results of internal models (2019): discriminatory
power, predictive ability per grade, stability. Whoever renders or exports them only lays them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from fiduciary.checks._catalogue import run_check
from fiduciary.checks._result import CheckResult
from fiduciary.checks._sample import Subject

Parameter = Literal["pd", "lgd", "ccf"]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One table: rows of JSON values under named columns, and what is lacking where it has no rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""
    """The verdict in words, or what is lacking."""


def validation_tables(
    subject: Subject, parameter: Parameter, params: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Table]:
    """All tables of one risk parameter; `params` as in `battery`. A table without evidence says what is lacking.

    Raises `UsageError` for an unknown or ill-typed parameter.
    """
    params = params or {}

    def run(name: str) -> CheckResult:
        return run_check(name, subject, params.get(name))

    if parameter == "pd":
        return [*_pd(run), *_stability(run)]
    return [*_loss(run(f"basel.{parameter}_backtest"), parameter.upper()), *_stability(run)]


def _note(result: CheckResult) -> str:
    return result.lacking or result.detail


def _rows(items: Any, columns: tuple[str, ...]) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(item.get(column) for column in columns) for item in items)


def _pd(run: Any) -> list[Table]:
    auc, grades, binomial = (
        run("discrimination.auc"),
        run("calibration.jeffreys"),
        run("calibration.binomial"),
    )
    now, then = auc.numbers, auc.numbers.get("development", {})
    power = () if auc.value is None else (
        (
            auc.value,
            now["standard_error"],
            now["events"],
            now["rest"],
            then.get("value"),
            then.get("statistic"),
            then.get("p_value"),
        ),
    )  # fmt: skip
    columns = ("grade", "rows", "events", "pd", "rate", "p_value", "corrected")
    exact = {row["grade"]: row["p_value"] for row in binomial.numbers.get("grades", ())}
    rows = [*grades.numbers.get("grades", ())]
    if "portfolio" in grades.numbers:
        rows.append({"grade": "portfolio", **grades.numbers["portfolio"]})
    return [
        Table(
            title="PD: discriminatory power",
            columns=(
                "auc",
                "standard_error",
                "defaults",
                "others",
                "auc_at_development",
                "statistic",
                "p_value",
            ),
            rows=power,
            note=_note(auc),
        ),
        Table(
            title="PD: predictive ability (Jeffreys), by grade",
            columns=(*columns, "binomial_p_value"),
            rows=tuple((*_rows([row], columns)[0], exact.get(row["grade"])) for row in rows),
            note=_note(grades),
        ),
    ]


def _loss(result: CheckResult, what: str) -> list[Table]:
    columns = ("grade", "rows", "estimated", "realised", "t", "p_value", "corrected")
    rows = [*result.numbers.get("grades", ())]
    power: tuple[tuple[Any, ...], ...] = ()
    if result.value is not None:
        numbers = result.numbers
        rows.append({"grade": "portfolio", **numbers, "p_value": result.value})
        power = ((numbers["generalised_auc"], numbers["somers_d"], numbers["rows"]),)
    return [
        Table(
            title=f"{what}: discriminatory power",
            columns=("generalised_auc", "somers_d", "rows"),
            rows=power,
            note=_note(result),
        ),
        Table(
            title=f"{what}: predictive ability (t-test), by grade",
            columns=columns,
            rows=_rows(rows, columns),
            note=_note(result),
        ),
    ]


def _stability(run: Any) -> list[Table]:
    psi, moves, lumps = run("stability.psi"), run("stability.migration"), run("stability.concentration")
    bins = psi.numbers
    shares = moves.numbers.get("shares", ())
    grades = tuple(moves.numbers.get("grades", ()))
    return [
        Table(
            title="Stability: population",
            columns=("bin", "development", "current"),
            rows=tuple(
                zip(bins.get("bins", ()), bins.get("development", ()), bins.get("current", ()), strict=True)
            ),
            note=_note(psi),
        ),
        Table(
            title="Stability: migrations",
            columns=("from", *grades),
            rows=tuple((grade, *row) for grade, row in zip(grades, shares, strict=True)),
            note=_note(moves),
        ),
        Table(
            title="Stability: concentration in grades",
            columns=("grade", "share"),
            rows=tuple(zip(lumps.numbers.get("grades", ()), lumps.numbers.get("shares", ()), strict=True)),
            note=_note(lumps),
        ),
    ]
