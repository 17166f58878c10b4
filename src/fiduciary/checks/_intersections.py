"""Groups of several attributes at once: harm can lie where two attributes meet and in neither alone.

Every crossing of `depth` attributes is looked at; cells with too few rows are listed, never cleared. Many cells
make chance findings, so p is adjusted over all cells (Holm for the verdict, Benjamini and Hochberg beside it) and
intervals are simultaneous (Bonferroni).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._check import Check, Param
from fiduciary.checks._groups import (
    COMMON,
    FAVOURABLE,
    NO_DECISIONS,
    Grouping,
    favourable_rows,
    groupings,
    nothing,
    ordered,
    reference_place,
    too_few,
)
from fiduciary.checks._proportions import (
    SMALL_CELL,
    benjamini_hochberg,
    exact_test,
    holm,
    ratio_interval,
    smallest_expected,
    z_test,
)
from fiduciary.checks._result import CheckResult, number
from fiduciary.checks._sample import Subject
from fiduciary.errors import UsageError

I64 = NDArray[np.int64]

MAX_CELLS = 5_000
JOIN = " & "


def cross(parts: tuple[Grouping, ...], most: int = MAX_CELLS) -> Grouping:
    """The grouping of all combinations that occur; a row unknown in one part is unknown in all."""
    codes: I64 = np.zeros_like(parts[0].codes)
    unknown = np.zeros(len(codes), dtype=np.bool_)
    for part in parts:
        unknown |= part.codes < 0
        codes = codes * len(part.labels) + part.codes
    codes = np.where(unknown, -1, codes)
    sizes = [len(part.labels) for part in parts]
    total = math.prod(sizes)
    if total > most * 100:
        raise UsageError(
            f"{' x '.join(map(str, sizes))} groups are too many to cross; band their values first"
        )
    seen = np.bincount(codes + 1, minlength=total + 1)[1:]
    present = np.flatnonzero(seen)
    if len(present) > most:
        raise UsageError(f"more than {most} cells occur; cross fewer attributes, or band their values first")
    place = np.full(total + 1, -1, dtype=np.int64)
    place[present] = np.arange(len(present))
    labels = []
    for cell in present.tolist():
        texts = []
        for part in reversed(parts):
            cell, g = divmod(cell, len(part.labels))
            texts.append(part.labels[g])
        labels.append(JOIN.join(reversed(texts)))
    return ordered(JOIN.join(part.attribute for part in parts), tuple(labels), place[codes])


def intersection(
    subject: Subject,
    *,
    attributes: list[str],
    reference: dict[str, Any],
    minimum_rows: int,
    level: float,
    favourable: list[str],
    depth: int,
    minimum: float,
    alpha: float,
) -> CheckResult:
    """The lowest adverse impact ratio of a cell of crossed attributes, with tests adjusted over all cells.

    Not ok when a cell is below the minimum and its adjusted p below alpha. ok only when the simultaneous
    interval of every cell is at or above the minimum and no cell was too small; undecided between.
    """
    name, sample = "fairness.intersection", subject.sample
    assert sample is not None
    marked = favourable_rows(subject, favourable)
    if marked is None:
        return nothing(name, "ratio", NO_DECISIONS)
    parts = groupings(sample, attributes)
    if len(parts) < 2:
        return nothing(name, "ratio", "two protected attributes or more")
    good, decided = marked
    found: list[dict[str, Any]] = []
    small: list[str] = []
    references: dict[str, str] = {}
    places: list[tuple[int, int, int, int]] = []
    for chosen in itertools.combinations(parts, min(depth, len(parts))):
        grouping = cross(chosen)
        rows, count = grouping.count(decided), grouping.count(good)
        with np.errstate(invalid="ignore", divide="ignore"):
            rates = count / rows
        given = reference
        named = [reference.get(p.attribute, sample.reference.get(p.attribute)) for p in chosen]
        if all(named) and JOIN.join(map(str, named)) in grouping.labels:
            given = {grouping.attribute: JOIN.join(map(str, named))}
        ref = reference_place(grouping, rates, rows, sample, given, minimum_rows)
        small += [
            f"{grouping.attribute} {label}"
            for label, n in zip(grouping.labels, rows.tolist(), strict=True)
            if n < minimum_rows
        ]
        if ref is None or not count[ref]:
            continue
        references[grouping.attribute] = grouping.labels[ref]
        expected = smallest_expected(count, rows, count[ref], rows[ref])
        z, p = z_test(count, rows, count[ref], rows[ref])
        for g, label in enumerate(grouping.labels):
            if g == ref or rows[g] < minimum_rows:
                continue
            table = int(count[g]), int(rows[g]), int(count[ref]), int(rows[ref])
            exact = bool(expected[g] < SMALL_CELL)
            found.append(
                {
                    "attributes": grouping.attribute,
                    "group": label,
                    "rows": table[1],
                    "rate": float(rates[g]),
                    "ratio": float(rates[g] / rates[ref]),
                    "difference": float(rates[g] - rates[ref]),
                    "z": number(z[g]),
                    "p": exact_test(*table)[1] if exact else float(p[g]),
                    "test": "mid-p" if exact else "z",
                }
            )
            places.append(table)
    lacking = too_few(small, minimum_rows)
    numbers: dict[str, Any] = {
        "references": references, "cells": found, "depth": depth, "too_small": small[:1_000], "level": level
    }  # fmt: skip
    if not found:
        return CheckResult(
            name=name, ok=None, unit="ratio", threshold=minimum, numbers=numbers,
            lacking=lacking or "two cells with enough rows", detail="no two cells could be compared",
        )  # fmt: skip
    raw = [cell["p"] for cell in found]
    family, discovery = holm(raw), benjamini_hochberg(raw)
    x1, n1, x0, n0 = np.array(places).T
    wide = min(0.999999, 1.0 - (1.0 - level) / len(found))
    low, high = ratio_interval(x1, n1, x0, n0, wide)
    for i, cell in enumerate(found):
        cell |= {
            "p_holm": float(family[i]),
            "p_benjamini_hochberg": float(discovery[i]),
            "ratio_interval": [number(low[i]), number(high[i])],
        }
    worst = int(np.argmin([cell["ratio"] for cell in found]))
    harmed = [c for c in found if c["ratio"] < minimum and c["p_holm"] < alpha]
    clear = not small and all(c["ratio_interval"][0] >= minimum for c in found)
    if not harmed and not clear and not lacking:
        lacking = "more rows: an interval reaches below the minimum"
    cell = found[worst]
    ends = cell["ratio_interval"]
    return CheckResult(
        name=name,
        ok=False if harmed else True if clear else None,
        value=cell["ratio"],
        unit="ratio",
        interval=None if None in ends else (ends[0], ends[1]),
        threshold=minimum,
        detail=f"{cell['attributes']} {cell['group']}: {cell['ratio']:.3f} times the rate of "
        f"{references[cell['attributes']]}, adjusted p {cell['p_holm']:.2g}; {len(found)} cells judged",
        lacking=lacking,
        numbers=numbers,
    )


INTERSECTION = Check(
    name="fairness.intersection",
    kind="metric",
    run=intersection,
    params=COMMON
    | FAVOURABLE
    | {
        "depth": Param(int, 2, "how many attributes are crossed at once", low=2, high=4),
        "minimum": Param(float, 0.8, "a ratio below it is a signal", low=0.0, high=1.0),
        "alpha": Param(float, 0.05, "family-wise error of the tests over all cells", low=0.0, high=1.0),
    },
    stages=("release", "watch", "evidence"),
    unit="ratio",
    source="Holm, Scandinavian Journal of Statistics 6, 1979; Kearns et al., Gerrymandering, 2018",
    needs=("sample.groups",),
    summary="The lowest adverse impact ratio where attributes meet, tests adjusted for their number.",
)
