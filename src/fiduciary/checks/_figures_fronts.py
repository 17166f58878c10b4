"""Figures of many models against two measures: the search for alternatives, and hardening."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fiduciary.checks._svg import (
    BLUE,
    LEFT,
    MAX_SHOWN_ROWS,
    PAPER,
    RIGHT,
    SOFT,
    VERMILION,
    Figure,
    Frame,
    Key,
    Pen,
    clean,
    wrap,
)
from fiduciary.errors import UsageError

HIGH = 330.0
MAX_KEYED = 12


def frontier(numbers: Mapping[str, Any], part: str = "hold_out") -> Figure:
    """What the search for alternatives tried: AUC against the ratio of approvals, from the check's numbers.

    `part`: hold_out, or selection, on which the frontier was drawn.
    """
    front = set(numbers["frontier"])
    points = [
        (line["name"], line[part]["auc"], line[part]["ratio"], line["name"] in front)
        for line in numbers["log"]
        if line.get(part) and line[part].get("ratio") is not None
    ]
    text = f"{len(points)} models, measured on the part that choices were made on."
    if part == "hold_out":
        text = f"{len(points)} models, measured on the hold-out; the frontier was drawn on another part."
    return _scatter(
        "Alternatives: accuracy and equal treatment", text, points, points[0][0] if points else "", "AUC",
        "lowest ratio of approval rates", ("model", "AUC", "ratio", "on the frontier"), joined=part == "selection",
    )  # fmt: skip


def hardening(points: Sequence[tuple[str, float, float]], baseline: str = "") -> Figure:
    """A front of hardened models: AUC against the share of rows certified; points are (name, AUC, share)."""
    best = -1.0
    front = set()
    for name, _, share in sorted(points, key=lambda p: (-p[1], -p[2])):
        if share > best:
            front.add(name)
            best = share
    marked = [(name, auc, share, name in front) for name, auc, share in points]
    text = f"{len(points)} models; the line joins those that no other beats in both."
    return _scatter(
        "Hardening: accuracy and certified robustness", text, marked, baseline, "AUC", "share of rows certified",
        ("model", "AUC", "certified", "on the front"), percent=True, joined=True,
    )  # fmt: skip


def _scatter(
    title: str, text: str, points: Sequence[tuple[str, float, float, bool]], baseline: str, x_label: str,
    y_label: str, columns: tuple[str, ...], percent: bool = False, joined: bool = False,
) -> Figure:  # fmt: skip
    if not points or len(points) > MAX_SHOWN_ROWS:
        raise UsageError(f"this figure takes 1 to {MAX_SHOWN_ROWS} points")
    pen = Pen()
    y = pen.heading(title, [text])
    front = sorted((p for p in points if p[3]), key=lambda p: (-p[1], -p[2]))[:MAX_KEYED]
    keys = [Key("tried", SOFT, mark="ring"), Key(columns[3], BLUE, mark="disc")]
    if any(p[0] == baseline for p in points):
        keys.append(Key("baseline", VERMILION, mark="diamond"))
    y = pen.legend(keys, y + 12)
    x_range, y_range = _range([p[1] for p in points]), _range([p[2] for p in points], 0.0, 1.0)
    frame = Frame(pen, y + 8, HIGH, x_range, y_range, x_label, y_label, percent=(False, percent))
    if joined and len(front) > 1:
        pen.path([frame.at(p[1], p[2]) for p in front], BLUE, 1.6)
    for name, a, b, on in points:
        if not on and name != baseline:
            pen.mark("ring", *frame.at(a, b), SOFT, 3.4)
    places = [frame.at(p[1], p[2]) for p in front]
    for (x, yy), point in zip(places, front, strict=True):
        pen.mark("disc", x, yy, BLUE, 5.5)
        if point[0] == baseline:
            pen.mark("diamond", x, yy, VERMILION, 5.5)
    for name, a, b, on in points:
        if name == baseline and not on:
            pen.mark("diamond", *frame.at(a, b), VERMILION, 5.5)
    obstacles = [*places, *(frame.at(p[1], p[2]) for p in points)]
    _number_labels(pen, frame, places, obstacles)
    line = frame.below + 14
    for i, (name, a, b, _) in enumerate(front, start=1):
        shown = f"{b:.1%}" if percent else f"{b:.3f}"
        words = f"{clean(name)}: AUC {a:.4f}, {shown}"
        pen.text(LEFT + 22, line, str(i), 12.0, BLUE, "end", bold=True)
        for part in wrap(words, 12.0, pen.width - LEFT - RIGHT - 40, 2):
            pen.text(LEFT + 34, line, part, 12.0)
            line += 17.0
    listed = "; ".join(f"{clean(name)} (AUC {a:.4f}, {b:.3f})" for name, a, b, _ in front)
    description = f"{text} {columns[3].capitalize()}: {listed}."
    table = [[name, float(a), float(b), bool(on)] for name, a, b, on in points]
    return Figure(title=title, description=description, svg=pen.finish(line + 6, title, description),
                  columns=columns, rows=table)  # fmt: skip


def _number_labels(
    pen: Pen, frame: Frame, places: Sequence[tuple[float, float]], obstacles: Sequence[tuple[float, float]]
) -> None:
    """Numbers beside points, each where it runs into no point, no other number and not out of the frame."""
    taken: list[tuple[float, float]] = []
    for i, (x, y) in enumerate(places, start=1):
        best: tuple[float, float, float] | None = None
        for reach in (14.0, 22.0, 32.0, 44.0):
            for turn in range(16):
                angle = math.pi * (turn - 4) / 8
                a, b = x + reach * math.cos(angle), y + reach * math.sin(angle)
                if not (frame.left + 8 < a < frame.right - 8 and frame.top + 8 < b < frame.bottom - 8):
                    continue
                near = min((math.hypot(a - p, b - q) for p, q in obstacles), default=99.0)
                numbers = min((math.hypot(a - p, b - q) for p, q in taken), default=99.0)
                if best is None or min(near - 11.0, numbers - 17.0) > best[0]:
                    best = min(near - 11.0, numbers - 17.0), a, b
            if best is not None and best[0] >= 0.0:
                break
        if best is None:
            continue
        _, a, b = best
        if math.hypot(a - x, b - y) > 18.0:
            pen.line(x, y, a, b, BLUE, 0.8)
        pen.mark("ring", a, b, PAPER, 7.5)
        pen.text(a, b + 4.2, str(i), 12.0, BLUE, "middle", bold=True)
        taken.append((a, b))


def _range(values: Sequence[float], least: float = -math.inf, most: float = math.inf) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = max((high - low) * 0.08, 0.005)
    return max(least, low - room), min(most, high + room)
