"""The demo on real tables: the whole path, and models as good as the published yardsticks.

Yardsticks: test AUC on the same 60/20/20 split of a plain 20-bin scorecard and of LightGBM with defaults.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from demo_story import area, assert_told, run_demo


@pytest.mark.parametrize(
    ("file", "words", "scorecard", "trees", "tolerance"),
    [
        ("taiwan_default.parquet", ("--target", "default_next_month"), 0.7635, 0.7725, 0.002),
        # 178 held-out rows: one standard error is 0.042, so this only says that nothing is broken
        ("german_credit.parquet", ("--target", "class", "--positive", "2"), 0.7839, 0.7789, 0.042),
    ],
)
def test_real_tables_take_the_whole_path(
    file: str,
    words: tuple[str, ...],
    scorecard: float,
    trees: float,
    tolerance: float,
    shared_data: Path,
    tmp_path: Path,
) -> None:
    assert_told(run_demo("--data", str(shared_data / file), *words, "--out", str(tmp_path / "demo")))
    assert area(tmp_path / "demo", "scorecard") >= scorecard - tolerance
    assert area(tmp_path / "demo", "trees") >= trees - tolerance
