"""Figures are safe to put into any page, say the same as their tables, and no label is cut off or covered."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from fiduciary.checks import Sample, Subject, run_check
from fiduciary.checks import _figures as figures
from fiduciary.checks._figures import Figure
from fiduciary.checks._svg import fit, shown_tick, ticks, width_of, wrap
from fiduciary.errors import UsageError

SVG = "{http://www.w3.org/2000/svg}"
ALLOWED = {"svg", "title", "desc", "rect", "line", "polyline", "polygon", "circle", "text"}
ATTRIBUTES = {
    "role", "aria-labelledby", "viewBox", "width", "height", "font-family", "id", "fill", "x", "y", "x1", "y1", "x2",
    "y2", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "stroke-linecap", "points", "fill-opacity",
    "cx", "cy", "r", "font-size", "font-weight", "text-anchor", "transform",
}  # fmt: skip
HOSTILE = '</svg><script>alert(1)</script> " onload="x" \x00\x1b &amp; \u202e \n ' + "long " * 60


def sample(n: int = 3_000, seed: int = 0, labels: tuple[str, ...] = ("a", "b", "c")) -> Sample:
    rng = np.random.default_rng(seed)
    margins = rng.normal(size=n) - 1.0
    scores = 1 / (1 + np.exp(-margins))
    group = rng.choice(np.array(labels, dtype=object), n)
    return Sample(
        rows=margins[:, None],
        names=("m",),
        scores=scores,
        outcomes=rng.random(n) < scores,
        groups={"g": group},
    )


def rates(made: Sample) -> dict[str, Any]:
    about = Subject(sample=made, use_case={"approve_below": 0.3, "decline_from": 0.4})
    return run_check("fairness.adverse_impact_ratio", about, {"minimum_rows": 1}).numbers


def search_numbers(points: list[tuple[float, float]], name: str = "without income") -> dict[str, Any]:
    log = [
        {
            "name": f"{name} {i}",
            "hold_out": {"auc": 0.6 + 0.3 * a, "ratio": 0.5 + 0.5 * r},
            "selection": {"auc": 0.6 + 0.3 * a, "ratio": 0.5 + 0.5 * r},
        }
        for i, (a, r) in enumerate(points)
    ]
    return {"log": [*log, {"name": "failed", "error": "x"}], "frontier": [line["name"] for line in log[::2]]}


EVERY: dict[str, Callable[[], Figure]] = {
    "roc": lambda: figures.roc(sample(), sample(seed=1)),
    "cap": lambda: figures.cap(sample()),
    "calibration": lambda: figures.calibration(sample()),
    "scores": lambda: figures.score_distributions(sample(), {"approve below": 0.3, HOSTILE: 0.4}),
    "frontier": lambda: figures.frontier(search_numbers([(0.1 * i, 1 - 0.09 * i) for i in range(9)])),
    "hostile frontier": lambda: figures.frontier(
        search_numbers([(0.5, 0.5), (0.5, 0.5), (0.6, 0.4)], HOSTILE)
    ),
    "hardening": lambda: figures.hardening(
        [("plain", 0.8, 0.1), ("eps 0.1", 0.79, 0.6), (HOSTILE, 0.7, 0.5)], "plain"
    ),
    "migration": lambda: figures.migration(["A", "B", "C"], [[90, 8, 2], [5, 80, 15], [0, 0, 0]]),
    "wide migration": lambda: figures.migration(
        [f"grade {i} {HOSTILE}" for i in range(25)], np.eye(25).tolist()
    ),
    "groups": lambda: figures.group_rates(rates(sample())),
    "hostile groups": lambda: figures.group_rates(rates(sample(labels=(HOSTILE, "b" * 300, "c")))),
}


def texts(figure: Figure) -> list[tuple[float, float, float, float, str]]:
    """Boxes of all texts: left, top, right, bottom, words; turned ones upright as they are drawn."""
    boxes = []
    for element in ET.fromstring(figure.svg).iter(f"{SVG}text"):
        x, y, size = (float(element.get(k, "0")) for k in ("x", "y", "font-size"))
        words = element.text or ""
        wide = width_of(words, size) * 0.9  # the estimate is from above
        start = {"start": 0.0, "middle": -wide / 2, "end": -wide}[element.get("text-anchor", "start")]
        if element.get("transform"):
            boxes.append((x - size * 0.75, y + start, x + size * 0.1, y + start + wide, words))
        else:
            boxes.append((x + start, y - size * 0.75, x + start + wide, y + size * 0.1, words))
    return boxes


def assert_tidy(figure: Figure) -> None:
    root = ET.fromstring(figure.svg)
    wide, high = (float(v) for v in root.get("viewBox", "").split()[2:])
    boxes = texts(figure)
    for left, top, right, bottom, words in boxes:
        assert left >= 0 and top >= 0 and right <= wide and bottom <= high, f"cut off: {words!r}"
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            apart = a[2] <= b[0] + 0.5 or b[2] <= a[0] + 0.5 or a[3] <= b[1] + 0.5 or b[3] <= a[1] + 0.5
            assert apart, f"{a[4]!r} runs into {b[4]!r}"


@pytest.mark.parametrize("name", EVERY)
def test_a_figure_is_safe_and_accessible(name: str) -> None:
    figure = EVERY[name]()
    root = ET.fromstring(figure.svg)  # well-formed whatever the labels
    assert root.get("role") == "img"
    title, desc = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None and desc is not None and title.text and desc.text
    assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
    for element in root.iter():
        assert element.tag.removeprefix(SVG) in ALLOWED
        assert set(element.attrib) <= ATTRIBUTES
        for key, value in element.attrib.items():
            assert "url(" not in value and "http" not in value and not key.startswith("on")
            if key not in ("font-family", "aria-labelledby"):
                assert "nan" not in value and "inf" not in value, (element.tag, key, value)
    assert "<script" not in figure.svg and "style" not in figure.svg
    assert figure.rows and all(len(row) == len(figure.columns) for row in figure.rows)
    for row in figure.rows:
        assert all(not isinstance(v, float) or math.isfinite(v) for v in row)
    assert EVERY[name]().svg == figure.svg  # the same again


@pytest.mark.parametrize("name", EVERY)
def test_no_label_is_cut_off_or_covered(name: str) -> None:
    assert_tidy(EVERY[name]())


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=25),
    st.text(st.characters(codec="utf-8"), max_size=200),
)
def test_any_frontier_is_tidy(points: list[tuple[float, float]], name: str) -> None:
    figure = figures.frontier(search_numbers(points, name))
    ET.fromstring(figure.svg)
    for left, top, right, bottom, words in texts(figure):
        wide, high = (float(v) for v in ET.fromstring(figure.svg).get("viewBox", "").split()[2:])
        assert left >= -1 and top >= 0 and right <= wide + 1 and bottom <= high, words


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=90), min_size=2, max_size=12, unique=True), st.integers(0, 99))
def test_any_groups_are_tidy(labels: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = []
    for label in labels:
        n = int(10 ** rng.uniform(0, 6))
        rate = float(rng.random())
        ends = [max(0.0, rate - 0.1), min(1.0, rate + 0.1)]
        groups.append(
            {"group": label, "rows": n, "rate": rate, "rate_interval": ends, "judged": n > 30, "ratio": rate}
        )
    numbers = {"attributes": {labels[0]: {"groups": groups, "reference": labels[-1]}}}
    assert_tidy(figures.group_rates(numbers))


def test_the_roc_table_is_the_curve() -> None:
    made = sample()
    figure = figures.roc(made)
    x, y = (np.array([row[k] for row in figure.rows]) for k in (1, 2))
    assert float(np.trapezoid(y, x)) == pytest.approx(roc_auc_score(made.outcomes, made.scores), abs=2e-3)
    full_x, full_y, _ = roc_curve(made.outcomes, made.scores, drop_intermediate=False)
    on_curve = {(round(a, 9), round(b, 9)) for a, b in zip(full_x, full_y, strict=True)}
    assert {(round(a, 9), round(b, 9)) for a, b in zip(x, y, strict=True)} <= on_curve
    assert f"AUC {roc_auc_score(made.outcomes, made.scores):.3f}" in figure.svg
    cap = figures.cap(made)
    gini = 2 * roc_auc_score(made.outcomes, made.scores) - 1
    assert f"accuracy ratio {gini:.3f}" in cap.svg
    assert cap.rows[-1][1:] == [1.0, 1.0]


def test_the_calibration_table_counts_every_row_once() -> None:
    made = sample(1_003)
    figure = figures.calibration(made, bins=7)
    assert sum(row[4] for row in figure.rows) == 1_003
    assert sum(row[5] for row in figure.rows) == int(made.outcomes.sum())
    for mean, observed, low, high, rows, events in figure.rows:
        assert low <= observed <= high and observed == events / rows and 0 < mean < 1
    tied = Sample(
        rows=np.zeros((100, 1)),
        names=("x",),
        scores=np.repeat([0.1, 0.4], 50),
        outcomes=np.arange(100) % 3 == 0,
    )
    assert [row[4] for row in figures.calibration(tied).rows] == [50, 50]


def test_score_distributions_add_up() -> None:
    figure = figures.score_distributions(sample())
    assert sum(row[2] for row in figure.rows) == pytest.approx(1.0)
    assert sum(row[3] for row in figure.rows) == pytest.approx(1.0)


def test_a_front_of_hardened_models_is_what_nobody_beats() -> None:
    points = [("a", 0.8, 0.1), ("b", 0.79, 0.6), ("c", 0.78, 0.5), ("d", 0.7, 0.9)]
    assert [row[0] for row in figures.hardening(points).rows if row[3]] == ["a", "b", "d"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.frontier({"log": [], "frontier": []}),
        lambda: figures.migration([], []),
        lambda: figures.migration(["A"], [[1, 2]]),
        lambda: figures.migration([str(i) for i in range(31)], np.eye(31).tolist()),
        lambda: figures.group_rates({"attributes": {}}),
        lambda: figures.roc(Sample(rows=np.zeros((3, 1)), names=("x",), scores=np.zeros(3))),
        lambda: figures.score_distributions(Sample(rows=np.zeros((3, 1)), names=("x",), scores=np.zeros(3))),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw: Callable[[], Figure]) -> None:
    with pytest.raises(UsageError, match=r"this figure|a migration map"):
        draw()


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_few_and_inside(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 13
    assert all(low - 1e-6 * span <= t <= low + span * (1 + 1e-6) for t in found)
    shown = [shown_tick(t, found, False) for t in found]
    assert len(set(shown)) == len(shown)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300), st.floats(20, 400))
def test_text_is_fitted(text: str, room: float) -> None:
    assert width_of(fit(text, 12, room), 12) <= max(room, 12.0)
    lines = wrap(text, 12, room)
    assert len(lines) <= 4 and all(width_of(line, 12) <= max(room, 12.0) for line in lines)
