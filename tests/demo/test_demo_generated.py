"""The demo as a newcomer sees it: every step happens, and what should be refused is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo_story import area, assert_told, run_demo
from fiduciary.cli._portfolio import TARGET, generate


def test_the_generated_portfolio_takes_the_whole_path(tmp_path: Path) -> None:
    assert_told(run_demo("--out", str(tmp_path / "demo")))
    assert area(tmp_path / "demo", "scorecard") > 0.74
    assert area(tmp_path / "demo", "trees") > 0.74
    page = (tmp_path / "demo" / "evidence" / "index.html").read_text()
    assert "src=" not in page and "href=" not in page and "@import" not in page


def test_the_portfolio_is_the_same_every_time_and_has_its_truth() -> None:
    one, two = generate(2_000, seed=1), generate(2_000, seed=1)
    assert all(one[name].tolist() == two[name].tolist() for name in one if name != "employment_months")
    assert 0.05 < one[TARGET].mean() < 0.25


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--data", "nowhere.csv", "--target", "y"), "there is no file nowhere.csv"),
        (("--target", "y"), "--data and --target go together"),
    ],
)
def test_a_mistake_is_one_plain_line(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    done = run_demo(*words, "--out", str(tmp_path / "demo"))
    assert done.returncode == 2
    assert done.stderr.strip() == f"fiduciary: {says}"


def test_an_earlier_folder_that_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    done = run_demo("--out", str(tmp_path / "mine"))
    assert done.returncode == 6
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
