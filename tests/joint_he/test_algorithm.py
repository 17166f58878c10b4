"""The algorithm in the clear: what the encrypted circuit must equal, held against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fiduciary.errors import JointError, LimitError, UsageError
from fiduciary.joint.he import EncryptedLogisticRegression
from fiduciary.joint.he._training import Whitening, reference, sigmoid_cubic
from fiduciary.models import auc
from joint_he_engines import table


def test_whitened_rows_have_the_identity_as_second_moment_held_back_by_the_ridge() -> None:
    X, _ = table()
    whitening = Whitening.of(X, 1e6, True)
    Z = whitening.standardised(X)
    plain = np.linalg.eigvalsh(Z.T @ Z / len(Z))
    white = whitening.whitened(X)
    spread = np.linalg.eigvalsh(white.T @ white / len(white))
    assert np.abs(spread - plain / (plain + 4 / len(Z))).max() < 1e-9
    assert spread.max() <= 1 + 1e-9, "so the step never overshoots"


def test_a_few_steps_come_within_a_thousandth_of_converged() -> None:
    X, y = table()
    Z = Whitening.of(X, 4.0, True).whitened(X)
    w = reference(Z, y, step=4 / len(y), iterations=6, sigmoid=sigmoid_cubic(8.0))
    best = LogisticRegression(C=1e6, max_iter=5_000).fit(Z[:, :], y)
    assert abs(auc(Z @ w, y) - auc(best.decision_function(Z), y)) < 0.001


def test_blocks_of_several_owners_converge_with_a_smaller_step() -> None:
    X, y = table()
    parts = [Whitening.of(X[:, :6], 4.0, True).whitened(X[:, :6]), Whitening.of(X[:, 6:], 4.0, False)]
    Z = np.column_stack([parts[0], parts[1].whitened(X[:, 6:])])  # type: ignore[union-attr]
    assert np.linalg.eigvalsh(Z.T @ Z / len(Z)).max() <= 2 + 1e-6
    w = reference(Z, y, step=2 / len(y), iterations=8, sigmoid=sigmoid_cubic(8.0))
    best = LogisticRegression(C=1e6, max_iter=5_000).fit(Z, y)
    assert abs(auc(Z @ w, y) - auc(best.decision_function(Z), y)) < 0.005


def test_the_cubic_is_the_least_squares_one() -> None:
    c1, c3 = sigmoid_cubic(8.0)
    z = np.linspace(-8, 8, 4_001)
    fit = np.polynomial.polynomial.polyfit(z, 1 / (1 + np.exp(-z)), [0, 1, 3])
    assert (c1, c3) == pytest.approx((fit[1], fit[3]), rel=1e-9)


def test_parameters_follow_the_conventions_of_scikit_learn() -> None:
    model = EncryptedLogisticRegression(max_iter=3)
    again = EncryptedLogisticRegression(**model.get_params())
    assert again.get_params() == model.get_params()
    assert model.set_params(max_iter=4).max_iter == 4
    with pytest.raises(UsageError, match="no parameter"):
        model.set_params(iterations=3)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"max_iter": 0}, UsageError, "max_iter"),
        ({"max_iter": 20}, UsageError, "steps_per_bootstrap"),
        ({"sigmoid_range": 100}, UsageError, "sigmoid_range"),
        ({"agree": 1}, UsageError, "agree"),
    ],
)
def test_wrong_parameters_are_refused_before_any_key_is_made(
    change: dict[str, float], error: type[Exception], says: str
) -> None:
    X, y = table(100)
    with pytest.raises(error, match=says):
        EncryptedLogisticRegression(python="/no/such/python", **change).fit(X, y)  # type: ignore[arg-type]


def test_wrong_data_is_refused() -> None:
    X, y = table(100)
    model = EncryptedLogisticRegression(python="/no/such/python")
    with pytest.raises(UsageError, match="labels must be 0 and 1"):
        model.fit(X, y + 1)
    with pytest.raises(UsageError, match="finite"):
        model.fit(np.where(X > 5, np.nan, X), y)
    with pytest.raises(LimitError, match="rows"):
        model.fit(np.zeros((70_000, 1)), np.arange(70_000) % 2)
    with pytest.raises(JointError, match="must agree"):
        model.set_params(agree=2).fit({"a": X, "b": X}, y, away=("b",))
    with pytest.raises(JointError, match="cannot be started"):
        model.set_params(agree=None).fit(X, y)
