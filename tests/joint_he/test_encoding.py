"""Encoded rows times weights are the margins of every family that can be scored on ciphertexts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

import families
from bank import contract, rows, scorecard
from fiduciary.errors import LimitError, ModelError
from fiduciary.joint.he import Encoding, encoding_of
from fiduciary.models import load_scorer
from fiduciary.models._lightgbm import parse


def agrees(encoding: Encoding, weights: np.ndarray, given: np.ndarray, margins: np.ndarray) -> None:
    assert np.abs(encoding.encode(given) @ weights - margins).max() < 1e-9
    again = msgspec.json.decode(msgspec.json.encode(encoding), type=Encoding)
    assert (again.encode(given) == encoding.encode(given)).all()


def test_a_scorecard_is_a_map_of_its_bins() -> None:
    card = scorecard()
    encoding, weights = encoding_of(card, contract())
    agrees(encoding, weights, rows(3_000), card.score(rows(3_000)))
    assert encoding.columns == 1 + 3 + 4 + 2


@pytest.mark.parametrize("make", [families.make_additive, families.make_linear], ids=["additive", "linear"])
def test_other_families(make: object, tmp_path: Path) -> None:
    make(tmp_path)  # type: ignore[operator]
    terms = contract() if make is None else families.MIXED
    given = families.mixed_rows(2_000, 3)
    try:
        scorer = load_scorer(tmp_path, terms)
        encoding, weights = encoding_of(scorer, terms)
    except ModelError as error:
        assert "may be missing" in error.detail  # a number that may be missing is no straight line
        return
    agrees(encoding, weights, given, scorer.score(given))


def test_a_small_tree_model_is_a_map_of_its_leaves(tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    given = families.number_rows(3_000, 5)
    given[::7, 1] = np.nan
    target = families.events(given)
    booster = lightgbm.train(
        {"objective": "binary", "num_leaves": 8, "verbose": -1, "seed": 1, "num_threads": 1},
        lightgbm.Dataset(given, target),
        20,
    )
    trees, _ = parse(booster.model_to_string())
    from fiduciary.models._trees import TreeScorer

    scorer = TreeScorer("lightgbm", "logit", trees)
    encoding, weights = encoding_of(scorer, families.NUMBERS, trees)
    agrees(encoding, weights, given[:400], scorer.score(given[:400]))
    leaves = sum(1 for f in trees.feature if f < 0)
    assert encoding.columns == 1 + leaves
    raw = msgspec.json.encode(encoding)
    for value in (v for v, f in zip(trees.value, trees.feature, strict=True) if f < 0 and abs(v) > 1e-9):
        assert repr(value).encode() not in raw, "the client must not learn a leaf's value"


def test_a_model_with_too_many_columns_is_refused(tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    given = families.number_rows(3_000, 5)
    booster = lightgbm.train(
        {"objective": "binary", "num_leaves": 31, "verbose": -1, "num_threads": 1},
        lightgbm.Dataset(given, families.events(given)),
        60,
    )
    trees, _ = parse(booster.model_to_string())
    from fiduciary.models._trees import TreeScorer

    with pytest.raises(LimitError, match="at most 512"):
        encoding_of(TreeScorer("lightgbm", "logit", trees), families.NUMBERS, trees)


def test_a_row_that_lacks_a_needed_value_is_refused() -> None:
    encoding, _ = encoding_of(scorecard(), contract())
    row = rows(1)
    row[0, 0] = np.nan
    with pytest.raises(ModelError, match="lacks a value"):
        encoding.encode(row)
    with pytest.raises(ModelError, match="shape"):
        encoding.encode(row[:, :2])
