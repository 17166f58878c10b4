"""On real credit data a trained scorecard reaches the published plaintext yardsticks, with true reasons.

The split goes by SHA-256 of "set:row number"; nothing is tuned on the test part. The yardstick is a plain
scorecard: scikit-learn's logistic regression on 20 quantile bins a column. Sex, race and marital status are
not inputs.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fiduciary.models import (
    Contract,
    ReasonPlan,
    Scorecard,
    TrainingReport,
    auc,
    auc_error,
    baseline_of,
    events_of,
    infer_contract,
    load_scorer,
    read_table,
    split_rows,
    train_scorecard,
)

Trained = tuple[Scorecard, TrainingReport, Contract, np.ndarray, np.ndarray]


def train(shared_data: Path, name: str, target: str, positive: str | None = None) -> Trained:
    columns = read_table(shared_data / f"{name}.parquet")
    draft = infer_contract(columns, target)
    rows = draft.contract.compile().table(columns, ignore_unknown=True)
    events = events_of(columns[target], positive)
    a, b, c = split_rows(name, len(events))
    card, report = train_scorecard(rows[a], events[a], draft.contract, validation=(rows[b], events[b]))
    return card, report, draft.contract, rows[c], events[c]


def test_taiwan_default(shared_data: Path, tmp_path: Path) -> None:
    card, report, contract, rows, events = train(shared_data, "taiwan_default", "default_next_month")
    assert (report.train.rows, len(rows)) == (17_995, 5_930)
    assert not {"sex", "marriage", "id"} & set(contract.names)
    assert auc(card.score(rows), events) >= 0.7635 - 0.002
    card.save(tmp_path)
    again = load_scorer(tmp_path, contract)
    margins, contributions = again.explain(rows)
    assert margins.tobytes() == card.score(rows).tobytes()
    baseline = baseline_of(again, rows)
    reasons_of = ReasonPlan(contract, baseline)
    assert np.abs(reasons_of.breakdown(contributions).sum(axis=1) - (margins - baseline.margin)).max() <= 1e-9
    worst = int(np.argmax(margins))
    reasons = reasons_of.rank(contributions[worst : worst + 1], 4, "high")[0]
    assert len(reasons) == 4 and reasons[0].code.startswith("pay_")
    compiled = contract.compile()
    for i in range(0, len(rows), 97):  # from the bytes of a request to the same bits
        raw = json.dumps(compiled.decode_row(rows[i].tolist())).encode()
        assert again.score(np.array([compiled.decode(raw)]))[0] == margins[i]


@pytest.mark.parametrize(
    ("name", "target", "positive", "yardstick"),
    [
        ("german_credit", "class", "2", 0.7839),
        ("credit_es", "status", "bad", 0.8026),
        ("hmda_boston_1990", "deny", "yes", 0.8042),
    ],
)
def test_small_sets_are_within_one_standard_error(
    shared_data: Path, name: str, target: str, positive: str, yardstick: float
) -> None:
    card, _, _, rows, events = train(shared_data, name, target, positive)
    reached = auc(card.score(rows), events)
    assert reached >= yardstick - auc_error(yardstick, events)
