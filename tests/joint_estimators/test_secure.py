"""Real worker processes over pinned mutual TLS reach the plaintext estimator of the same columns.

Run by `make test-joint`; skipped where the engine's environment is absent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fiduciary.errors import JointError
from fiduciary.joint import LocalFederation
from fiduciary.joint._estimators import (
    Privacy,
    SecureGradientBoosting,
    SecureLogisticRegression,
    SecureScorecard,
)
from fiduciary.models import Contract, load_scorer, read_table, split_rows

pytestmark = pytest.mark.skipif(
    not os.environ.get("FIDUCIARY_TEST_JOINT"), reason="needs the engine's environment: make test-joint"
)
PARTIES = ["bank", "telco", "regulator"]


@pytest.fixture(scope="module")
def federation() -> Iterator[LocalFederation]:
    with LocalFederation(PARTIES) as found:
        yield found


def pick(columns: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(column)[rows] for name, column in columns.items()}


def plain(train: dict[str, np.ndarray], y: np.ndarray, test: dict[str, np.ndarray]) -> np.ndarray:
    """scikit-learn on the same standardised columns."""
    x = np.stack([np.asarray(c, float) for c in train.values()], 1)
    mean, spread = x.mean(0), x.std(0)
    model = LogisticRegression(C=1.0, max_iter=2000).fit((x - mean) / spread, y)
    return model.decision_function(
        (np.stack([np.asarray(c, float) for c in test.values()], 1) - mean) / spread
    )


def capped(column: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """An owner caps their own column at four standard deviations: raw amounts leave any polynomial's interval."""
    mean, spread = column[rows].mean(), column[rows].std()
    return np.clip(column, mean - 4 * spread, mean + 4 * spread)


@pytest.fixture(scope="module")
def vertical(shared_data: Path) -> tuple[dict, dict, np.ndarray, np.ndarray, np.ndarray]:
    guest = read_table(shared_data / "federated" / "taiwan_vertical_guest.parquet")
    host = read_table(shared_data / "federated" / "taiwan_vertical_host.parquet")
    y = np.asarray(guest.pop("y"), float)
    guest.pop("id"), host.pop("id")
    a, _, c = split_rows("taiwan_vertical", len(y))
    bank = {f"g_{k}": np.asarray(v, float) for k, v in guest.items()}
    telco = {f"h_{k}": np.asarray(v, float) for k, v in host.items()}
    return bank, telco, y, a, c


def test_logistic_regression_on_the_published_vertical_split(federation, vertical) -> None:
    bank, telco, y, a, c = vertical
    bank, telco = ({n: capped(v, a) for n, v in part.items()} for part in (bank, telco))
    columns = {"bank": {**pick(bank, a), "y": y[a]}, "telco": pick(telco, a)}
    model = SecureLogisticRegression(max_iter=30).fit(federation, columns, label="bank.y")
    test = pick(bank | telco, c)
    wanted = roc_auc_score(y[c], plain(pick(bank | telco, a), y[a], test))
    assert abs(roc_auc_score(y[c], model.decision_function(test)) - wanted) <= 0.001
    model.transcript_.verify()
    assert model.provenance()["parties"] == PARTIES


def test_scorecard_reaches_the_score_row_and_is_an_ordinary_model(
    federation, vertical, tmp_path: Path
) -> None:
    bank, telco, y, a, c = vertical
    columns = {"bank": {**pick(bank, a), "y": y[a]}, "telco": pick(telco, a)}
    model = SecureScorecard().fit(federation, columns, label="bank.y")
    test = pick(bank | telco, c)
    margins = model.decision_function(test)
    assert roc_auc_score(y[c], margins) >= 0.7737 - 0.001  # the plain scorecard of the same set
    model.save(tmp_path)
    contract = Contract.load(tmp_path / "contract.json")
    served = load_scorer(tmp_path, contract).score(contract.compile().table(test))
    assert served.tobytes() == margins.tobytes()


def test_a_truly_logistic_set(federation, shared_data: Path) -> None:
    a_part = read_table(shared_data / "federated" / "perfect_logit_a.parquet")
    b_part = read_table(shared_data / "federated" / "perfect_logit_b.parquet")
    y = np.asarray(a_part.pop("y"), float)
    a, _, c = split_rows("perfect_logit", len(y))
    columns = {"bank": {**pick(a_part, a), "y": y[a]}, "telco": pick(b_part, a)}
    model = SecureLogisticRegression(max_iter=40).fit(federation, columns, label="bank.y")
    assert roc_auc_score(y[c], model.decision_function(pick(a_part | b_part, c))) >= 0.999


def test_three_owners(federation, shared_data: Path) -> None:
    table = read_table(shared_data / "taiwan_default.parquet")
    y = np.asarray(table["default_next_month"], float)
    names = [n for n in table if n not in ("id", "sex", "marriage", "default_next_month")]
    a, _, c = split_rows("taiwan_default", len(y))
    full = {n: capped(np.asarray(table[n], float), a) for n in names}
    owned = {"bank": names[0::3], "telco": names[1::3], "regulator": names[2::3]}
    columns = {p: pick({n: full[n] for n in ns}, a) for p, ns in owned.items()}
    columns["telco"]["y"] = y[a]
    model = SecureLogisticRegression(max_iter=30).fit(federation, columns, label="telco.y")
    test = pick(full, c)
    order = [n for ns in owned.values() for n in ns]
    wanted = roc_auc_score(y[c], plain({n: full[n][a] for n in order}, y[a], {n: full[n][c] for n in order}))
    assert abs(roc_auc_score(y[c], model.decision_function(test)) - wanted) <= 0.001


def test_halves_of_the_rows(federation, shared_data: Path) -> None:
    table = read_table(shared_data / "acs_income_2018_part.parquet")
    y = np.asarray(table["pincp"], float)
    names = ["agep", "schl", "wkhp", "cow", "relp", "occp"]
    full = {n: np.asarray(table[n], float) for n in names}
    a, _, c = split_rows("acs_income", len(y))
    a, c = a[:40_000], c[:20_000]
    halves = {"bank": a[::2], "telco": a[1::2]}
    columns = {p: {**pick(full, rows), "y": y[rows]} for p, rows in halves.items()}
    model = SecureLogisticRegression(tol=1e-4).fit(federation, columns, label="*.y")
    wanted = plain(pick(full, a), y[a], pick(full, c))
    found = model.decision_function(pick(full, c))
    assert abs(roc_auc_score(y[c], found) - roc_auc_score(y[c], wanted)) <= 0.001
    assert np.abs(found - wanted).max() <= 0.01
    card = SecureScorecard(tol=1e-4).fit(federation, columns, label="*.y")
    assert roc_auc_score(y[c], card.decision_function(pick(full, c))) > roc_auc_score(y[c], wanted)


def test_boosted_trees_are_those_of_lightgbm_of_equal_size(federation, vertical) -> None:
    import lightgbm

    bank, telco, y, a, c = vertical
    a = a[:6000]
    columns = {"bank": {**pick(bank, a), "y": y[a]}, "telco": pick(telco, a)}
    model = SecureGradientBoosting(n_estimators=4).fit(federation, columns, label="bank.y")
    test = pick(bank | telco, c)
    x = np.stack(list(pick(bank | telco, a).values()), 1)
    peer = lightgbm.LGBMClassifier(
        n_estimators=4, max_depth=3, num_leaves=8, learning_rate=0.3, max_bin=8, reg_lambda=1.0, verbose=-1
    ).fit(x, y[a])
    wanted = roc_auc_score(y[c], peer.predict_proba(np.stack(list(test.values()), 1))[:, 1])
    assert roc_auc_score(y[c], model.decision_function(test)) >= wanted - 0.005


def test_weights_missing_values_texts_and_balance(federation) -> None:
    rng = np.random.default_rng(5)
    n = 2000
    x = rng.normal(size=n)
    town = np.array(["north", "south", "east"])[rng.integers(0, 3, n)]
    z = rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-(x - 1 + (town == "south") + 0.5 * z)))).astype(float)
    x[rng.random(n) < 0.2] = np.nan
    columns = {"bank": {"x": x, "town": town}, "telco": {"z": z, "y": y, "w": rng.uniform(0.5, 2, n)}}
    card = SecureScorecard(bins=6, class_weight="balanced").fit(
        federation, columns, label="telco.y", weight="telco.w"
    )
    joined = {"x": x, "town": town, "z": z}
    assert roc_auc_score(y, card.decision_function(joined)) > 0.7
    assert card.contract_.features[0].missing == "allowed"
    assert abs(float(card.predict_proba(joined)[:, 1].mean()) - 0.5) < 0.1


def test_noise_is_in_the_weights_and_the_budget_in_the_provenance(federation) -> None:
    rng = np.random.default_rng(1)
    x, z = rng.normal(size=3000), rng.normal(size=3000)
    y = (rng.random(3000) < 1 / (1 + np.exp(-x - z))).astype(float)
    columns = {"bank": {"x": x}, "telco": {"z": z, "y": y}}
    private = SecureLogisticRegression(l2=30.0, privacy=Privacy(epsilon=1.0))
    first = private.fit(federation, columns, label="telco.y").coef_.copy()
    second = private.fit(federation, columns, label="telco.y").coef_
    assert np.abs(first - second).max() > 1e-3
    assert private.provenance()["privacy"]["epsilon"] == 1.0
    assert roc_auc_score(y, private.decision_function({"x": x, "z": z})) > 0.7


def test_a_margin_beyond_the_fast_interval_is_an_error_and_never_a_wrong_model(federation) -> None:
    x = np.linspace(-4, 4, 400)
    columns = {"bank": {"x": x}, "telco": {"z": x[::-1] ** 2, "y": (x > 0).astype(float)}}
    with pytest.raises(JointError, match=r"interval|diverged"):
        SecureLogisticRegression(l2=1e-4, sigmoid="fast", max_iter=60, tol=1e-4).fit(
            federation, columns, label="telco.y"
        )
