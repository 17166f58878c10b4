"""Internal-ratings checks against SciPy and the definitions."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from scipy import stats

from fiduciary.checks import (
    Arrears,
    Declared,
    Estimation,
    Margin,
    Sample,
    Subject,
    run_check,
    validation_tables,
)
from fiduciary.checks._basel import somers_d
from fiduciary.errors import UsageError


def sample_of(n: int, **more: object) -> Sample:
    more.setdefault("scores", np.full(n, 0.02))
    return Sample(rows=np.zeros((n, 0)), names=(), **more)


def test_pd_floor_by_class() -> None:
    sample = sample_of(
        4,
        scores=np.array([0.0004, 0.0005, 0.0009, 0.001]),
        classes=np.array(["corporate"] * 2 + ["revolving"] * 2),
    )
    floors = {"corporate": 0.0005, "revolving": 0.001}
    result = run_check("basel.pd_floor", Subject(sample=sample), {"floors": floors})
    assert (result.ok, result.value) == (False, 0.5)
    assert [c["below"] for c in result.numbers["classes"]] == [1, 1]
    loose = run_check("basel.pd_floor", Subject(sample=sample), {"floors": {"*": 0.0004}})
    assert loose.ok is True
    unknown = run_check("basel.pd_floor", Subject(sample=sample), {"floors": {"corporate": 0.0005}})
    assert unknown.ok is None and "revolving" in unknown.lacking
    with pytest.raises(UsageError, match="share"):
        run_check("basel.pd_floor", Subject(sample=sample), {"floors": {"*": "0.05%"}})
    lgd = sample_of(2, lgd=np.array([0.2, 0.3]))
    assert run_check("basel.lgd_floor", Subject(sample=lgd), {"floors": {"*": 0.25}}).ok is False


@pytest.mark.parametrize("seed", range(4))
def test_backtests_against_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grades = np.array(list("ABC"))[rng.integers(0, 3, 120)]
    estimated = np.select([grades == "A", grades == "B"], [0.2, 0.4], 0.6)
    realised = np.clip(estimated + rng.normal(0.01 * seed, 0.2, 120), 0, 1.2)
    realised[5] = np.nan
    sample = sample_of(
        120, grades=grades, lgd=estimated, realised_lgd=realised, ccf=estimated, realised_ccf=realised
    )
    known = np.isfinite(realised)
    theirs = stats.ttest_1samp((realised - estimated)[known], 0, alternative="greater")
    segments = np.searchsorted([0.05, *np.arange(1, 11) / 10], realised[known], side="right")
    power = stats.somersd(estimated[known], segments).statistic
    for what in ("lgd", "ccf"):
        result = run_check(f"basel.{what}_backtest", Subject(sample=sample))
        assert result.value == pytest.approx(theirs.pvalue, abs=1e-9)
        assert result.numbers["t"] == pytest.approx(theirs.statistic, abs=1e-9)
        assert result.numbers["somers_d"] == pytest.approx(power, abs=1e-9)
        for row in result.numbers["grades"]:
            own = known & (grades == row["grade"])
            p = stats.ttest_1samp((realised - estimated)[own], 0, alternative="greater").pvalue
            assert row["p_value"] == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_somers_d_of_tables(seed: int) -> None:
    table = np.random.default_rng(seed).integers(0, 9, (4, 6))
    assert somers_d(table.astype(float)) == pytest.approx(stats.somersd(table).statistic, abs=1e-12)


@pytest.mark.filterwarnings("error")
def test_backtest_of_few_or_equal_losses() -> None:
    def judge(realised: list[float]) -> object:
        n = len(realised)
        sample = sample_of(n, lgd=np.full(n, 0.4), realised_lgd=np.array(realised))
        return run_check("basel.lgd_backtest", Subject(sample=sample), {"by": "none"}).ok

    assert judge([]) is None and judge([0.5]) is None and judge([0.5, np.nan]) is None
    assert judge([0.5, 0.5]) is False  # every loss is above its estimate, and by the same
    assert judge([0.4, 0.4]) is True and judge([0.3, 0.3]) is True


def test_margins_have_a_category_and_a_reason() -> None:
    def margin(category: str, size: float, reason: str = "short history") -> Margin:
        return Margin(parameter="pd", category=category, margin=size, reason=reason)  # type: ignore[arg-type]

    good = (margin("A", 0.001), margin("B", 0.0), margin("C", 0.002))
    assert run_check("basel.margin_of_conservatism", Subject(estimation=Estimation(margins=good))).ok is True
    for wrong in (
        good[:2],
        (margin("A", -0.001), *good[1:]),
        (margin("A", 0.001, " "), *good[1:]),
        (*good[:2], margin("C", 0.0)),
    ):
        result = run_check("basel.margin_of_conservatism", Subject(estimation=Estimation(margins=wrong)))
        assert result.ok is False and result.detail
    assert run_check("basel.margin_of_conservatism", Subject(estimation=Estimation())).ok is None
    sample = sample_of(200, outcomes=np.arange(200) < 4)
    figures = run_check(
        "basel.margin_of_conservatism", Subject(sample=sample, estimation=Estimation(margins=good))
    ).numbers
    assert figures["statistical"]["pd"] == pytest.approx(stats.beta.ppf(0.9, 4.5, 196.5) - 0.02, abs=1e-9)


def test_override_rate() -> None:
    sample = sample_of(50, overridden=np.arange(50) < 5)
    assert run_check("basel.override_rate", Subject(sample=sample), {"maximum": 0.1}).ok is True
    result = run_check("basel.override_rate", Subject(sample=sample), {"maximum": 0.05})
    assert result.ok is False and result.value == pytest.approx(0.1)
    assert result.interval == pytest.approx(tuple(stats.beta.ppf([0.025, 0.975], 5.5, 45.5)), abs=1e-9)


def test_default_definition_is_the_one_in_force_and_labels_can_be_made_again() -> None:
    arrears = Arrears(
        days_past_due=np.array([0.0, 91, 91, 90, 200]),
        amount=np.array([0.0, 500, 50, 500, 5000]),
        exposure=np.array([1e4, 1e4, 1e4, 1e4, 1e6]),
        unlikely_to_pay=np.array([True, False, False, False, False]),
    )
    labels = np.array([True, True, False, False, False])
    sample = sample_of(5, outcomes=labels, arrears=arrears)
    params = {"version": "2021-01", "absolute": 100.0, "relative": 0.01}
    declared = Estimation(default_definition="2021-01")
    right = run_check("basel.default_definition", Subject(sample=sample, estimation=declared), params)
    assert (right.ok, right.value) == (True, 1.0)
    stale = run_check(
        "basel.default_definition", Subject(estimation=Estimation(default_definition="2016")), params
    )
    assert stale.ok is False
    other = msgspec.structs.replace(sample, outcomes=~labels)
    wrong = run_check("basel.default_definition", Subject(sample=other, estimation=declared), params)
    assert (wrong.ok, wrong.value) == (False, 0.0)
    assert wrong.numbers["unlabelled_defaults"] == 2


def test_declared_performance() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(2000)
    sample = sample_of(2000, scores=scores, outcomes=rng.random(2000) < scores)

    def judge(value: float, **more: object) -> object:
        declared = Estimation(performance={"auc": Declared(value=value)})
        return run_check("performance.declared", Subject(sample=sample, estimation=declared), more).ok

    live = run_check("discrimination.auc", Subject(sample=sample)).value
    assert live is not None
    assert judge(live) is True and judge(live + 0.05) is False and judge(live - 0.05) is True
    assert judge(live - 0.05, two_sided=True) is False and judge(live + 0.05, tolerance=0.05) is True
    assert run_check("performance.declared", Subject(sample=sample)).ok is None
    rate = run_check("performance.declared", Subject(sample=sample), {"metric": "base_rate", "value": 0.2})
    assert rate.ok is False
    brier = run_check("performance.declared", Subject(sample=sample), {"metric": "brier", "value": 0.3})
    assert brier.ok is True and brier.value == pytest.approx(np.mean((scores - sample.outcomes) ** 2))


def test_tables_of_a_validator() -> None:
    rng = np.random.default_rng(1)
    grades = np.array(list("ABC"))[rng.integers(0, 3, 300)]
    scores = np.select([grades == "A", grades == "B"], [0.02, 0.05], 0.1)
    sample = sample_of(
        300,
        scores=scores,
        outcomes=rng.random(300) < scores,
        grades=grades,
        previous_grades=np.roll(grades, 1),
    )
    subject = Subject(sample=sample, development=sample)
    tables = validation_tables(subject, "pd")
    assert [len(t.rows) for t in tables] == [1, 4, len(tables[2].rows), 3, 3]
    assert all(len(row) == len(t.columns) for t in tables for row in t.rows)
    jeffreys = run_check("calibration.jeffreys", subject)
    assert tables[1].rows[0][5] == jeffreys.numbers["grades"][0]["p_value"]
    assert tables[1].rows[-1][0] == "portfolio" and tables[1].rows[-1][5] == jeffreys.value
    lgd = validation_tables(subject, "lgd")
    assert lgd[0].rows == () and "LGD" in lgd[0].note
    msgspec.json.decode(msgspec.json.encode(tables))
