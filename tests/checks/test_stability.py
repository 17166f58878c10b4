"""Stability against the formulas written out, cell by cell."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fiduciary.checks import Sample, Subject, run_check
from fiduciary.checks._stability import herfindahl, migration_steps, mobility, stability_index


def sample_of(scores: object = (), rows: object = None, **more: object) -> Sample:
    table = np.asarray(rows, dtype=np.float64) if rows is not None else None
    s = np.asarray(scores, dtype=np.float64)
    if table is not None and not len(s):
        s = np.full(len(table), 0.5)
    if table is None:
        table = np.zeros((len(s), 0))
    return Sample(rows=table, names=tuple(f"x{j}" for j in range(table.shape[1])), scores=s, **more)


def test_index_of_full_bins_is_twice_the_jeffreys_divergence() -> None:
    p, q = np.array([100.0, 200, 300]), np.array([50.0, 250, 300])
    value, chance = stability_index(p, q)
    a, b = p / p.sum(), q / q.sum()
    assert value == pytest.approx(stats.entropy(a, b) + stats.entropy(b, a), abs=1e-12)
    assert chance == pytest.approx(2 * (1 / 600 + 1 / 600))


def test_an_empty_bin_counts_as_half_a_row() -> None:
    value, _ = stability_index(np.array([10.0, 0, 0]), np.array([5.0, 5, 0]))
    expected = (0.5 - 1) * math.log(0.5) + (0.5 - 0.05) * math.log(0.5 / 0.05)
    assert value == pytest.approx(expected, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=8))
def test_index_is_never_negative_and_symmetric(counts: list[tuple[int, int]]) -> None:
    p, q = (np.array(side, dtype=float) for side in zip(*counts, strict=True))
    value, _ = stability_index(p, q)
    if not p.sum() or not q.sum():
        assert math.isnan(value)
    else:
        assert value >= -1e-15
        assert value == pytest.approx(stability_index(q, p)[0], abs=1e-12)


def test_chance_is_what_equal_populations_show() -> None:
    rng = np.random.default_rng(5)
    found = [
        stability_index(rng.multinomial(2000, [0.1] * 10), rng.multinomial(1000, [0.1] * 10))
        for _ in range(300)
    ]
    mean = np.mean([f[0] for f in found])
    assert mean == pytest.approx(found[0][1], rel=0.15)


def test_psi_of_scores_against_counts_by_hand() -> None:
    rng = np.random.default_rng(0)
    before, now = rng.random(1000), rng.random(800) ** 1.5
    result = run_check("stability.psi", Subject(sample=sample_of(now), development=sample_of(before)))
    edges = np.sort(before)[np.arange(1, 10) * 100]
    a, b = (np.histogram(x, np.concatenate([[-np.inf], edges, [np.inf]]))[0] for x in (before, now))
    assert result.value == pytest.approx(
        np.sum((b / 800 - a / 1000) * np.log((b / 800) / (a / 1000))), abs=1e-12
    )
    assert a.tolist() == [100] * 10
    assert (
        run_check("stability.psi", Subject(sample=sample_of(before), development=sample_of(before))).value
        == 0
    )


def test_csi_sees_missing_values_new_categories_and_shifts() -> None:
    rng = np.random.default_rng(1)
    before = np.column_stack([rng.normal(size=2000), rng.integers(0, 3, 2000), rng.normal(size=2000)])
    same = before.copy()
    development = sample_of(rows=before)
    quiet = run_check("stability.csi", Subject(sample=sample_of(rows=same), development=development))
    assert quiet.ok is True and quiet.value == 0
    lost, coded, moved = same.copy(), same.copy(), same.copy()
    lost[:900, 0] = np.nan
    coded[coded[:, 1] == 2, 1] = 7
    moved[:, 2] += 1
    for table, feature in ((lost, "x0"), (coded, "x1"), (moved, "x2")):
        result = run_check("stability.csi", Subject(sample=sample_of(rows=table), development=development))
        figures = result.numbers["features"]
        assert result.ok is False and feature in result.detail
        assert [f for f in figures if figures[f]["value"] > 0.25] == [feature]


def counts_3() -> np.ndarray:
    return np.array([[90.0, 8, 2], [5, 80, 15], [0, 10, 40]])


def test_mobility_written_out() -> None:
    counts = counts_3()
    n = counts.sum(axis=1)
    p = counts / n[:, None]
    up = down = up_most = down_most = 0.0
    for i in range(3):
        for j in range(3):
            reach = max(abs(i - 2), abs(i))
            if j > i:
                up += abs(i - j) * n[i] * p[i, j]
                up_most += reach * n[i] * p[i, j]
            if j < i:
                down += abs(i - j) * n[i] * p[i, j]
                down_most += reach * n[i] * p[i, j]
    moved = mobility(counts)
    assert moved["upper"] == pytest.approx(up / up_most, abs=1e-12)
    assert moved["lower"] == pytest.approx(down / down_most, abs=1e-12)
    assert moved["shorrocks"] == pytest.approx((3 - np.trace(p)) / 2, abs=1e-12)
    assert math.isnan(mobility(np.diag([3.0, 4.0]))["upper"])


def test_steps_against_the_variance_of_a_multinomial() -> None:
    counts = counts_3()
    step = next(s for s in migration_steps(counts) if (s["from"], s["to"]) == (0, 2))
    p, n = counts[0] / 100, 100
    cover = (np.diag(p) - np.outer(p, p)) / n
    contrast = np.array([0, -1, 1])
    z = (p[2] - p[1]) / math.sqrt(contrast @ cover @ contrast)
    assert step["z"] == pytest.approx(z, abs=1e-12)
    assert step["p_value"] == pytest.approx(stats.norm.sf(z), abs=1e-12)


def test_migration_check_orders_grades_and_judges() -> None:
    before = np.array(["10", "2", "2", "1", "10", "1"])
    now = np.array(["10", "2", "10", "1", "2", "2"])
    sample = sample_of([0.5] * 6, grades=now, previous_grades=before)
    result = run_check("stability.migration", Subject(sample=sample), {"maximum_upper": 0.99})
    assert result.numbers["grades"] == ["1", "2", "10"]
    assert result.numbers["counts"] == [[1, 1, 0], [0, 1, 1], [0, 1, 1]]
    assert result.value == pytest.approx(0.5)
    ordered = run_check("stability.migration", Subject(sample=sample), {"order": ["10", "2", "1"]})
    assert ordered.numbers["upper"] == result.numbers["lower"]


def test_herfindahl_and_its_growth() -> None:
    assert herfindahl(np.array([5.0, 5, 5]))[1] == pytest.approx(0, abs=1e-12)
    assert herfindahl(np.array([15.0, 0, 0]))[1] == pytest.approx(1, abs=1e-12)
    grades, before = np.array(["A"] * 70 + ["B"] * 20 + ["C"] * 10), np.array(list("ABC") * 30)
    subject = Subject(
        sample=sample_of([0.1] * 100, grades=grades, exposure=np.ones(100)),
        development=sample_of([0.1] * 90, grades=before),
    )
    result = run_check("stability.concentration", subject, {"alpha": 0.5})
    shares = np.array([0.7, 0.2, 0.1])
    cv = np.std(shares, ddof=0) / np.mean(shares)
    assert result.value == pytest.approx(1 + math.log((cv**2 + 1) / 3) / math.log(3), abs=1e-12)
    assert result.numbers["herfindahl"] == pytest.approx((shares**2).sum())
    assert result.numbers["by_exposure"] == pytest.approx(result.value)
    p = stats.norm.sf(math.sqrt(2) * cv / math.sqrt(cv**2 * (0.5 + cv**2)))
    assert result.numbers["development"]["p_value"] == pytest.approx(p, abs=1e-12)
    assert p < 0.5 and result.ok is False
    assert run_check("stability.concentration", subject, {"alpha": 0.05}).ok is True
    alone = run_check(
        "stability.concentration", Subject(sample=sample_of([0.1] * 2, grades=np.array(["A", "A"])))
    )
    assert alone.ok is None and alone.lacking


@pytest.mark.filterwarnings("error")
def test_empty_and_odd_samples_give_a_plain_result() -> None:
    empty, one = sample_of([]), sample_of([np.nan])
    for a, b in ((empty, one), (one, empty), (one, one)):
        for name in ("stability.psi", "stability.csi", "data.missingness_shift"):
            result = run_check(name, Subject(sample=a, development=b))
            assert result.detail and (result.value is None or math.isfinite(result.value))
