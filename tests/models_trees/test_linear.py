"""Linear models: exact terms, refused when file and contract differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fiduciary.errors import ModelError
from fiduciary.models import Contract, Feature, load_scorer
from fiduciary.models._linear import Linear, LinearFile, Term, import_linear

CONTRACT = Contract(
    features=(
        Feature(name="income", type="number"),
        Feature(name="home", type="category", categories=["own", "rent"]),
        Feature(name="age", type="number", missing="allowed"),
    )
)
FILE = LinearFile(
    link="logit",
    intercept=-0.5,
    terms=[
        Term(name="income", weight=0.25, center=2.0),
        Term(name="home", categories=[0.0, 0.75]),
        Term(name="age", weight=-0.01, missing=0.5),
    ],
)


def test_terms_are_exact(tmp_path: Path) -> None:
    Linear(FILE, CONTRACT).save(tmp_path)
    scorer = load_scorer(tmp_path, CONTRACT)
    rows = np.array([[2.0, 0.0, 30.0], [4.0, 1.0, np.nan]])
    margins, terms = scorer.explain(rows)
    assert terms.tolist() == [[0.0, 0.0, -0.3], [0.5, 0.75, 0.5]]
    assert margins.tolist() == [-0.5 + 0.0 + 0.0 + -0.3, 1.25]
    for i in range(2):
        assert scorer.score(rows[i : i + 1])[0] == margins[i]


def test_it_agrees_with_scikit_learn(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    x = np.random.default_rng(0).normal(size=(300, 4))
    model = LogisticRegression().fit(x, x[:, 0] > x[:, 1])
    contract = Contract(features=tuple(Feature(name=f"f{i}", type="number") for i in range(4)))
    scorer = import_linear(model.coef_[0], model.intercept_[0], contract, tmp_path)
    assert np.abs(scorer.score(x) - model.decision_function(x)).max() < 1e-12


@pytest.mark.parametrize(
    "terms",
    [
        FILE.terms[:2],
        [FILE.terms[1], FILE.terms[0], FILE.terms[2]],
        [FILE.terms[0], Term(name="home", categories=[1.0]), FILE.terms[2]],
        [FILE.terms[0], FILE.terms[1], Term(name="age", weight=1.0)],
        [Term(name="income", weight=float("inf")), *FILE.terms[1:]],
    ],
)
def test_a_file_of_another_contract_is_refused(terms: list[Term]) -> None:
    with pytest.raises(ModelError):
        Linear(LinearFile(link="logit", intercept=0.0, terms=terms), CONTRACT)


def test_a_code_that_is_no_category_is_refused() -> None:
    with pytest.raises(ModelError, match="home"):
        Linear(FILE, CONTRACT).score(np.array([[1.0, 2.0, 3.0]]))
