"""A scorecard is a table: anyone can replay it, and its points are the same numbers on another scale."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.errors import ModelError
from fiduciary.models import Contract, Feature, Points, Scorecard, load_scorer
from fiduciary.models._scorecard import FEW_ROWS, Bins, ScorecardFile

CONTRACT = Contract(
    features=(
        Feature(name="utilisation", type="number"),
        Feature(name="age", type="integer", missing="allowed"),
        Feature(name="owner", type="boolean", missing="allowed"),
        Feature(name="job", type="category", categories=["clerk", "cook", "other"]),
        Feature(name="constant", type="number"),
    )
)
CARD = ScorecardFile(
    intercept=-1.3,
    features=[
        Bins(name="utilisation", kind="number", edges=[0.1, 0.5, 0.9], weights=[-0.7, 0.1, 0.2, 1.1]),
        Bins(name="age", kind="number", edges=[25.0, 60.0], weights=[0.3, -0.1, -0.2], missing=0.15),
        Bins(name="owner", kind="boolean", weights=[0.1, -0.3], missing=0.0),
        Bins(name="job", kind="category", categories=["clerk", "cook", "other"], weights=[0.1, 0.2, -0.3]),
        Bins(name="constant", kind="number", weights=[0.01]),
    ],
)

# The offline verifier's view: nothing but the standard library, one row at a time.
REPLAY = """
import bisect, json, sys
card = json.load(open(sys.argv[1]))
for line in sys.stdin:
    row = json.loads(line)
    margin = card["intercept"]
    for feature in card["features"]:
        value, weights = row[feature["name"]], feature["weights"]
        if value is None:
            weight = feature["missing"]
        elif feature["kind"] == "number":
            weight = weights[bisect.bisect_right(feature.get("edges", []), value)]
        elif feature["kind"] == "boolean":
            weight = weights[int(value)]
        else:
            weight = weights[feature["categories"].index(value)]
        margin = margin + weight
    print(repr(margin))
"""

row_values = st.tuples(
    st.one_of(st.floats(-1, 2), st.sampled_from([0.1, 0.5, 0.9, -0.0])),
    st.one_of(st.integers(18, 100), st.sampled_from([25, 60, None])),
    st.sampled_from([True, False, None]),
    st.sampled_from(["clerk", "cook", "other"]),
    st.floats(-1e300, 1e300),
)


def named(values: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(CONTRACT.names, values, strict=True))


@settings(max_examples=150, deadline=None)
@given(st.lists(row_values, min_size=1, max_size=2 * FEW_ROWS + 5))
def test_a_batch_has_the_bits_of_its_rows_alone(batch: list[tuple[Any, ...]]) -> None:
    compiled, card = CONTRACT.compile(), Scorecard(CARD, CONTRACT)
    rows = np.array([compiled.encode(named(values)) for values in batch])
    margins, contributions = card.explain(rows)
    assert margins.tobytes() == card.score(rows).tobytes()
    assert np.abs(card.bias + contributions.sum(axis=1) - margins).max() <= 1e-12
    for i in range(len(rows)):
        alone, split = card.explain(rows[i : i + 1])
        assert alone[0] == margins[i] and split[0].tobytes() == contributions[i].tobytes()
    # both paths, whatever the size of the batch
    many = np.concatenate([rows] * (FEW_ROWS // len(rows) + 1))
    assert card.explain(many)[0][: len(rows)].tobytes() == margins.tobytes()


def test_the_standard_library_replays_it_bit_for_bit(tmp_path: Path) -> None:
    Scorecard(CARD, CONTRACT).save(tmp_path)
    scorer = load_scorer(tmp_path, CONTRACT)
    rng = np.random.default_rng(5)
    rows = [
        named(
            (
                float(rng.normal(0.5, 0.5)),
                None if rng.random() < 0.1 else int(rng.integers(18, 90)),
                [True, False, None][int(rng.integers(3))],
                ["clerk", "cook", "other"][int(rng.integers(3))],
                0.0,
            )
        )
        for _ in range(2_000)
    ]
    table = np.array([CONTRACT.compile().encode(row) for row in rows])
    done = subprocess.run(
        [sys.executable, "-I", "-c", REPLAY, str(tmp_path / "scorecard.json")],
        input="\n".join(map(json.dumps, rows)), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [float(line) for line in done.stdout.split()] == scorer.score(table).tolist()


def test_points_are_the_same_numbers_on_another_scale() -> None:
    card = Scorecard(msgspec.structs.replace(CARD, points=Points(base_points=500, base_odds=20)), CONTRACT)
    scale = card.card.points
    assert scale.of(-np.log(20)) == pytest.approx(500)  # odds of 20 to 1 against the event
    assert scale.of(-np.log(40)) == pytest.approx(520)  # doubled odds
    table = card.points_table()
    assert [row.bin for row in table if row.feature == "utilisation"] == [
        "< 0.1", "0.1 to < 0.5", "0.5 to < 0.9", ">= 0.9",
    ]  # fmt: skip
    assert [row.bin for row in table if row.feature == "owner"] == ["false", "true", "missing"]
    assert [row.bin for row in table if row.feature == "constant"] == ["any"]
    values = CONTRACT.compile().encode(named((0.95, None, True, "cook", 3.0)))
    picked = {
        ("utilisation", ">= 0.9"),
        ("age", "missing"),
        ("owner", "true"),
        ("job", "cook"),
        ("constant", "any"),
    }
    total = sum(row.points for row in table if (row.feature, row.bin) in picked)
    margin = card.score(np.array([values]))
    assert total == pytest.approx(scale.of(float(margin[0]))) == pytest.approx(float(card.points(margin)[0]))


def test_the_example_of_the_documentation_is_a_scorecard(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "formats" / "scorecard.md"
    spec, card = (part.split("```")[0] for part in page.read_text().split("```json")[1:3])
    (tmp_path / "model.json").write_text(spec)
    (tmp_path / "scorecard.json").write_text(card)
    job = Feature(name="job", type="category", categories=["clerk", "cook"])
    owner = Feature(name="owner", type="boolean")
    scorer = load_scorer(tmp_path, Contract(features=(*CONTRACT.features[:2], owner, job)))
    assert scorer.score(np.array([[0.5, np.nan, 1.0, 0.0]]))[0] == -1.3 + 0.2 + 0.15 + -0.3 + 0.1


def test_no_rows_give_no_scores() -> None:
    margins, contributions = Scorecard(CARD, CONTRACT).explain(np.empty((0, 5)))
    assert margins.shape == (0,) and contributions.shape == (0, 5)


def changed(feature: int, **values: Any) -> ScorecardFile:
    features = list(CARD.features)
    features[feature] = msgspec.structs.replace(features[feature], **values)
    return msgspec.structs.replace(CARD, features=features)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (msgspec.structs.replace(CARD, features=CARD.features[::-1]), "same order"),
        (msgspec.structs.replace(CARD, intercept=float("inf")), "intercept"),
        (changed(0, kind="boolean"), "takes 'utilisation' as a boolean"),
        (changed(0, weights=[0.1]), "must have 4 weights"),
        (changed(0, weights=[0.1, 0.2, float("nan"), 0.1]), "finite"),
        (changed(0, weights=[0.1, 0.2, 1e9, 0.1]), "finite"),
        (changed(0, edges=[0.5, 0.1, 0.9]), "increase"),
        (changed(0, edges=[0.1, 0.1, 0.9]), "increase"),
        (changed(0, edges=[0.1, 0.5, float("inf")]), "finite"),
        (changed(0, missing=0.1), "exactly when"),
        (changed(1, missing=None), "exactly when"),
        (changed(3, categories=["cook", "clerk", "other"]), "categories"),
        (changed(2, edges=[0.5]), "must have 2 weights"),
    ],
)
def test_a_card_that_contradicts_itself_or_the_contract_is_refused(card: ScorecardFile, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Scorecard(card, CONTRACT)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    Scorecard(CARD, CONTRACT).save(tmp_path)
    good = (tmp_path / "scorecard.json").read_bytes()
    for wrong in (b"", b"{", good[:-9], good.replace(b'"kind"', b'"sort"', 1), good.replace(b"-1.3", b"NaN")):
        (tmp_path / "scorecard.json").write_bytes(wrong)
        with pytest.raises(ModelError):
            load_scorer(tmp_path, CONTRACT)
    (tmp_path / "scorecard.json").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_scorer(tmp_path, CONTRACT)
