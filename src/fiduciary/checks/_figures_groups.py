"""Figures of groups and grades: rates with intervals, and migrations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fiduciary.checks._svg import (
    BLUE,
    GREEN,
    INK,
    LEFT,
    PAPER,
    RIGHT,
    RULE,
    SOFT,
    VERMILION,
    Figure,
    Key,
    Pen,
    clean,
    fit,
    width_of,
)
from fiduciary.errors import UsageError

MAX_GRADES = 30
MAX_LINES = 200


def migration(grades: Sequence[str], counts: Sequence[Sequence[float]]) -> Figure:
    """A migration matrix as a heat map: of the rows that were in a grade, the share that is now in each."""
    names = [clean(g, 24) for g in grades]
    listed = list(names)
    table = np.asarray(counts, dtype=np.float64)
    k = len(names)
    if not 1 <= k <= MAX_GRADES or table.shape != (k, k):
        raise UsageError(f"a migration map takes 1 to {MAX_GRADES} grades and a square table of counts")
    totals = table.sum(axis=1)
    shares = table / np.maximum(totals, 1e-300)[:, None]
    title, pen = "Migration of grades", Pen()
    stayed = float(np.trace(table) / max(table.sum(), 1e-300))
    text = f"{int(table.sum()):,} rows, {stayed:.1%} in the same grade as before. A line adds up to 100%."
    y = pen.heading(title, [text]) + 34
    left = LEFT + 22 + min(170.0, max(width_of(n, 12) for n in names) + 24) + 8
    right = pen.width - RIGHT - 62
    cell = min(64.0, (right - left) / k)
    high = min(cell, 34.0)
    size = min(12.0, cell / 3.6)
    pen.text(left + cell * k / 2, y - 24, "grade now", 12.5, INK, "middle")
    pen.text(LEFT + 6, y + high * k / 2, "grade before", 12.5, INK, "middle", turn=-90.0)
    pen.text(left + cell * k + 8, y - 6, "rows", 12.0, SOFT)
    if max(width_of(n, 12) for n in names) > cell - 4:  # no room for names: columns have the lines' numbers
        heads = [str(j + 1) for j in range(k)]
        names = [f"{head}  {name}" for head, name in zip(heads, names, strict=True)]
    else:
        heads = names
    for j, head in enumerate(heads):
        pen.text(left + cell * (j + 0.5), y - 6, head, 12.0 if cell > 22 else 10.0, SOFT, "middle")
    for i, name in enumerate(names):
        line = y + high * i
        pen.text(left - 8, line + high / 2 + 4, fit(name, 12, 170), 12.0, SOFT, "end")
        for j in range(k):
            share = float(shares[i, j])
            pen.box(left + cell * j, line, cell - 1.5, high - 1.5, _shade(share), RULE)
            if cell >= 26 and (share >= 0.0005 or i == j) and totals[i] > 0:
                colour = PAPER if share > 0.45 else INK
                shown = f"{share * 100:.0f}" if share >= 0.1 or share == 0 else f"{share * 100:.1f}"
                middle = left + cell * j + (cell - 1.5) / 2
                pen.text(middle, line + high / 2 + size / 3, shown, size, colour, "middle")
        pen.text(left + cell * k + 8, line + high / 2 + 4, f"{int(totals[i]):,}", 12.0, SOFT)
    bottom = y + high * k + 20
    note = (
        "Numbers: per cent of the rows of the line." if cell >= 26 else "Darker: a larger share of the line."
    )
    pen.text(left, bottom, note, 12.0, SOFT)
    up = float(np.tril(table, -1).sum() / max(table.sum(), 1e-300))
    down = float(np.triu(table, 1).sum() / max(table.sum(), 1e-300))
    description = f"{text} {up:.1%} moved to an earlier grade of the list, {down:.1%} to a later one."
    rows = [
        [listed[i], listed[j], float(table[i, j]), float(shares[i, j])] for i in range(k) for j in range(k)
    ]
    return Figure(title=title, description=description, svg=pen.finish(bottom + 14, title, description),
                  columns=("before", "now", "rows", "share"), rows=rows)  # fmt: skip


def group_rates(numbers: Mapping[str, Any], minimum: float = 0.8) -> Figure:
    """Rates of favourable outcomes by group with intervals, from the numbers of fairness.adverse_impact_ratio."""
    lines: list[tuple[str, str, dict[str, Any], bool]] = []
    bounds: dict[str, float] = {}
    for attribute, entry in numbers["attributes"].items():
        for line in entry["groups"]:
            is_reference = line["group"] == entry["reference"]
            lines.append((attribute, line["group"], line, is_reference))
            if is_reference and line["rate"] is not None:
                bounds[attribute] = minimum * line["rate"]
    if not lines or len(lines) > MAX_LINES:
        raise UsageError(f"this figure takes 1 to {MAX_LINES} groups")
    title, pen = "Favourable outcomes by group", Pen()
    level = numbers.get("level", 0.95)
    text = f"Rate with its {level:.0%} interval (Wilson). Rings: too few rows to be judged."
    y = pen.heading(title, [text])
    keys = [
        Key("group", BLUE, mark="disc"),
        Key("reference group", GREEN, mark="diamond"),
        Key(f"{minimum:g} times the reference rate", VERMILION, "4 3"),
    ]
    y = pen.legend(keys, y + 12) + 4
    ratio_room = 108.0
    label_room = min(250.0, max(width_of(clean(g, 60), 12.0) for _, g, _, _ in lines) + 8)
    left, right = LEFT + label_room, pen.width - RIGHT - ratio_room
    ends = [line["rate_interval"] for _, _, line, _ in lines]
    low = max(0.0, math.floor(10 * min(e[0] for e in ends)) / 10)
    high = min(1.0, math.ceil(10 * max(e[1] for e in ends)) / 10)
    if high <= low:
        low, high = max(0.0, low - 0.1), min(1.0, high + 0.1)

    def at(value: float) -> float:
        return float(left + (value - low) / (high - low) * (right - left))

    pen.text(right + 16, y + 14, "ratio", 12.0, SOFT)
    pen.text(pen.width - RIGHT, y + 14, "rows", 12.0, SOFT, "end")
    top = y
    blocks: list[tuple[str, float, float]] = []
    y += 6
    current = ""
    places: list[tuple[float, str, dict[str, Any] | None, bool]] = []
    for attribute, group, line, is_reference in lines:
        if not blocks or attribute != current:
            y += 26
            places.append((y, attribute, None, False))
            blocks.append((attribute, y, y))
            current = attribute
        y += 24
        places.append((y, group, line, is_reference))
        blocks[-1] = (blocks[-1][0], blocks[-1][1], y)
    bottom = y + 14
    step = 0.1 if high - low > 0.25 else 0.05
    count = round((high - low) / step)
    while count > 8:
        step, count = step * 2, count // 2
    for i in range(count + 1):
        value = low + i * step
        if value > high + 1e-9:
            break
        pen.line(at(value), top + 22, at(value), bottom)
        pen.text(at(value), bottom + 16, f"{value:.0%}", 11.5, SOFT, "middle")
    for attribute, start, end in blocks:
        if attribute in bounds and low <= bounds[attribute] <= high:
            x = at(bounds[attribute])
            pen.line(x, start + 8, x, end + 10, VERMILION, 1.8, "4 3")
    for place, words, entry, is_reference in places:
        if entry is None:
            pen.text(LEFT, place + 4, fit(words, 14.5, label_room), 12.5, INK, bold=True)
            continue
        pen.text(LEFT + 8, place + 4, fit(words, 12.0, label_room - 10), 12.0)
        colour = GREEN if is_reference else BLUE
        a, b = entry["rate_interval"]
        pen.line(at(a), place, at(b), place, colour, 2.0)
        for end_x in (at(a), at(b)):
            pen.line(end_x, place - 4, end_x, place + 4, colour, 2.0)
        if entry["rate"] is not None:
            kind = "ring" if not entry["judged"] else "diamond" if is_reference else "disc"
            pen.mark(kind, at(entry["rate"]), place, colour, 5.0)
        ratio = entry.get("ratio")
        shown = "1" if is_reference else "" if ratio is None else f"{ratio:.2f}"
        weak = ratio is not None and ratio < minimum and entry["judged"]
        pen.text(right + 16, place + 4, shown, 12.0, VERMILION if weak else INK, bold=weak)
        pen.text(pen.width - RIGHT, place + 4, f"{entry['rows']:,}", 12.0, SOFT, "end")
    pen.text((left + right) / 2, bottom + 36, "rate of favourable outcomes", 12.5, INK, "middle")
    ratios = [line["ratio"] for _, _, line, _ in lines if line.get("ratio") is not None]
    lowest = f" The lowest ratio is {min(ratios):.3f}." if ratios else ""
    description = f"{len(lines)} groups of {len(blocks)} attributes.{lowest}"
    rows = [
        [a, g, line["rows"], line["rate"], *line["rate_interval"], line.get("ratio"), line["judged"]]
        for a, g, line, _ in lines
    ]
    columns = ("attribute", "group", "rows", "rate", "interval from", "interval to", "ratio", "judged")
    return Figure(title=title, description=description, svg=pen.finish(bottom + 50, title, description),
                  columns=columns, rows=rows)  # fmt: skip


def _shade(share: float) -> str:
    """From paper to dark blue."""
    t = min(max(share, 0.0), 1.0) ** 0.6
    low, high = (247, 250, 253), (8, 69, 124)
    return "#" + "".join(f"{round(a + (b - a) * t):02x}" for a, b in zip(low, high, strict=True))
