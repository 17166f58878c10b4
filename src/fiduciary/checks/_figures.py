"""Figures of the checks, drawn only when asked for: SVG, and the same figures as a table.

Each function takes a sample or the numbers of a result and returns a `Figure`. Every series differs in dash or mark
as well as in colour, so that print in grey and colour-blind eyes tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._figures_fronts import frontier, hardening
from fiduciary.checks._figures_groups import group_rates, migration
from fiduciary.checks._proportions import wilson
from fiduciary.checks._sample import Sample
from fiduciary.checks._svg import BLUE, INK, ORANGE, SOFT, VERMILION, Figure, Frame, Key, Pen, clean
from fiduciary.errors import UsageError
from fiduciary.models import Ranking

F64 = NDArray[np.float64]

CURVE_STEPS = 200.0
CUT_DASHES = ("2 3", "9 3", "9 3 2 3", "14 4", "5 2 1 2", "1 2")
HIGH = 330.0

__all__ = [
    "Figure",
    "calibration",
    "cap",
    "frontier",
    "group_rates",
    "hardening",
    "migration",
    "roc",
    "score_distributions",
]


def roc(sample: Sample, development: Sample | None = None) -> Figure:
    """The ROC curve of scores against outcomes; with the development sample's beside it when given."""
    return _curves("ROC curve", sample, development, _roc_points, "share of non-events above the cut-off",
                   "share of events above the cut-off", "AUC", _area)  # fmt: skip


def cap(sample: Sample, development: Sample | None = None) -> Figure:
    """The cumulative accuracy profile: share of events found among the riskiest share of all rows."""
    return _curves("Cumulative accuracy profile", sample, development, _cap_points,
                   "share of all rows, riskiest first", "share of events found", "accuracy ratio",
                   lambda r: 2.0 * _area(r) - 1.0)  # fmt: skip


def calibration(sample: Sample, bins: int = 10, level: float = 0.95) -> Figure:
    """Events observed against events expected in bands of the score, with intervals and how many rows each has."""
    r = _ranked(sample)
    cuts = np.cumsum(r.events + r.rest)
    place = np.minimum((cuts - 1) * bins // max(int(cuts[-1]), 1), bins - 1).astype(np.int64)
    rows = np.bincount(place, weights=r.events + r.rest, minlength=bins)
    bad = np.bincount(place, weights=r.events, minlength=bins)
    score = np.bincount(place, weights=(r.events + r.rest) * r.values, minlength=bins)
    used = rows > 0
    rows, bad, mean = rows[used], bad[used], score[used] / rows[used]
    low, high = wilson(bad, rows, level)
    observed = bad / rows
    top = min(1.0, 1.08 * max(float(high.max()), float(mean.max())))
    top = max(top, 0.01)
    title, pen = "Calibration", Pen()
    text = f"{int(rows.sum()):,} rows in {len(rows)} bands of the score; bars: {level:.0%} interval (Wilson)."
    y = pen.heading(title, [text])
    y = pen.legend(
        [Key("observed share of events", BLUE, mark="disc"), Key("as the score says", SOFT, "5 4")], y + 12
    )
    frame = Frame(
        pen, y + 8, HIGH - 40, (0.0, top), (0.0, top), "", "observed share of events", percent=(True, True)
    )
    pen.path([frame.at(0, 0), frame.at(top, top)], SOFT, 1.6, "5 4")
    for m, o, a, b in zip(mean.tolist(), observed.tolist(), low.tolist(), high.tolist(), strict=True):
        x = frame.at_x(min(m, top))
        pen.line(x, frame.at_y(a), x, frame.at_y(min(b, top)), BLUE, 1.8)
        for end in (a, min(b, top)):
            pen.line(x - 4, frame.at_y(end), x + 4, frame.at_y(end), BLUE, 1.8)
        pen.mark("dot", x, frame.at_y(o), BLUE, 3.6)
    base = frame.bottom + 84.0
    tallest = float(rows.max())
    for m, n in zip(mean.tolist(), rows.tolist(), strict=True):
        high_bar = 34.0 * n / tallest
        pen.box(frame.at_x(min(m, top)) - 4, base - high_bar, 8, high_bar, ORANGE)
    pen.line(frame.left, base, frame.right, base, SOFT)
    pen.text(frame.left - 7, base - 24, f"{int(tallest):,}", 11.5, SOFT, "end")
    pen.text(frame.left - 7, base + 2, "0 rows", 11.5, SOFT, "end")
    pen.text(
        (frame.left + frame.right) / 2,
        base + 20,
        "mean score of the band; orange: its rows",
        12.5,
        INK,
        "middle",
    )
    table = [
        [float(m), float(o), float(a), float(b), int(n), int(k)]
        for m, o, a, b, n, k in zip(mean, observed, low, high, rows, bad, strict=True)
    ]
    worst = float(np.abs(observed - mean).max())
    description = f"{text} The largest distance between observed and expected is {worst:.1%}."
    columns = ("mean score", "observed", "interval from", "interval to", "rows", "events")
    return Figure(title=title, description=description, svg=pen.finish(base + 34, title, description),
                  columns=columns, rows=table)  # fmt: skip


def score_distributions(sample: Sample, cuts: Mapping[str, float] | None = None, bins: int = 40) -> Figure:
    """How scores are spread among those with the event and those without; `cuts` are drawn with their names."""
    if sample.outcomes is None:
        raise UsageError("this figure needs outcomes")
    finite = sample.finite
    scores, events = sample.scores[finite], sample.outcomes[finite]
    if not len(scores):
        raise UsageError("this figure needs rows with a score")
    low, high = float(scores.min()), float(scores.max())
    if low >= 0.0 and high <= 1.0:
        low, high = 0.0, (1.0 if high > 0.5 else _ceiling(high))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    shares = {}
    for name, members in (("without the event", ~events), ("with the event", events)):
        counts = np.histogram(scores[members], edges)[0]
        shares[name] = counts / max(int(counts.sum()), 1)
    top = 1.1 * max(float(s.max()) for s in shares.values())
    title, pen = "Scores by outcome", Pen()
    text = f"{int((~events).sum()):,} rows without the event, {int(events.sum()):,} with it; each adds up to 100%."
    y = pen.heading(title, [text])
    keys = [Key("without the event", BLUE), Key("with the event", VERMILION, "6 3")]
    marks = list((cuts or {}).items())[:6]
    keys += [
        Key(f"{clean(name, 40)} {value:.3g}", INK, CUT_DASHES[i]) for i, (name, value) in enumerate(marks)
    ]
    y = pen.legend(keys, y + 12)
    frame = Frame(
        pen, y + 8, HIGH, (low, high), (0.0, max(top, 1e-9)), "score", "share of rows", percent=(False, True)
    )
    for name, colour, dash in (("without the event", BLUE, ""), ("with the event", VERMILION, "6 3")):
        points = []
        for k, share in enumerate(shares[name].tolist()):
            points += [frame.at(float(edges[k]), share), frame.at(float(edges[k + 1]), share)]
        pen.area([frame.at(low, 0), *points, frame.at(high, 0)], colour, 0.14)
        pen.path(points, colour, 2.0, dash)
    for i, (_, value) in enumerate(marks):
        if low <= value <= high:
            pen.line(frame.at_x(value), frame.top, frame.at_x(value), frame.bottom, INK, 1.6, CUT_DASHES[i])
    table = [
        [float(edges[k]), float(edges[k + 1]), *(float(s[k]) for s in shares.values())] for k in range(bins)
    ]
    means = (
        scores[~events].mean() if (~events).any() else math.nan,
        scores[events].mean() if events.any() else math.nan,
    )
    description = f"{text} Mean score {means[0]:.3f} without the event, {means[1]:.3f} with it."
    return Figure(title=title, description=description, svg=pen.finish(frame.below, title, description),
                  columns=("score from", "score to", *shares), rows=table)  # fmt: skip


# --- Parts -------------------------------------------------------------------------------------------------


def _curves(
    title: str, sample: Sample, development: Sample | None,
    points_of: Callable[[Ranking], tuple[F64, F64]], x_label: str, y_label: str, measure: str,
    value_of: Callable[[Ranking], float],
) -> Figure:  # fmt: skip
    pen = Pen()
    series = [("sample", _ranked(sample), BLUE, "")]
    if development is not None:
        series.append(("development", _ranked(development), VERMILION, "7 4"))
    keys = [Key(f"{name}: {measure} {value_of(r):.3f}", colour, dash) for name, r, colour, dash in series]
    keys.append(Key("no discrimination", SOFT, "2 4"))
    counts = "; ".join(f"{name} {r.bad:,} events among {r.bad + r.good:,} rows" for name, r, _, _ in series)
    y = pen.legend(keys, pen.heading(title, [counts[0].upper() + counts[1:] + "."]) + 12)
    frame = Frame(
        pen, y + 8, HIGH, (0.0, 1.0), (0.0, 1.0), x_label, y_label, percent=(True, True), wide=HIGH + 120
    )
    pen.line(*frame.at(0, 0), *frame.at(1, 1), SOFT, 1.4, "2 4")
    table: list[list[Any]] = []
    for name, r, colour, dash in series:
        x, y_values = points_of(r)
        kept = _thinned(x, y_values)
        pen.path([frame.at(float(x[i]), float(y_values[i])) for i in kept], colour, 2.4, dash)
        table += [[name, float(x[i]), float(y_values[i])] for i in kept]
    description = counts[0].upper() + counts[1:] + ". " + "; ".join(key.label for key in keys[:-1]) + "."
    return Figure(title=title, description=description, svg=pen.finish(frame.below, title, description),
                  columns=("series", x_label, y_label), rows=table)  # fmt: skip


def _ranked(sample: Sample) -> Ranking:
    found = sample.ranking
    if found is None or not found.bad or not found.good:
        raise UsageError("this figure needs outcomes of both kinds and scores")
    return found


def _roc_points(r: Ranking) -> tuple[F64, F64]:
    x = np.concatenate([[0.0], np.cumsum(r.rest[::-1]) / r.good])
    return x, np.concatenate([[0.0], np.cumsum(r.events[::-1]) / r.bad])


def _cap_points(r: Ranking) -> tuple[F64, F64]:
    x = np.concatenate([[0.0], np.cumsum((r.events + r.rest)[::-1]) / (r.bad + r.good)])
    return x, np.concatenate([[0.0], np.cumsum(r.events[::-1]) / r.bad])


def _area(r: Ranking) -> float:
    below = np.cumsum(r.rest) - 0.5 * r.rest
    return float((r.events * below).sum()) / (r.bad * r.good)


def _thinned(x: F64, y: F64) -> list[int]:
    """Places of a curve's points, without those that would fall on the same spot."""
    cell = np.floor(x * CURVE_STEPS) * 10_000 + np.floor(y * CURVE_STEPS)
    kept = np.flatnonzero(np.concatenate([[True], cell[1:] != cell[:-1]]))
    return sorted({*kept.tolist(), len(x) - 1})


def _ceiling(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return float(next(power * s for s in (1.0, 2.0, 3.0, 5.0, 10.0) if power * s >= value))
