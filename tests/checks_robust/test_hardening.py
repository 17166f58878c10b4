"""Hardening: every candidate is what it says, and on real credit data the recipe lifts the certified share."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest

from checks_robust.robust_models import contract, labels_of, rows_of
from fiduciary.checks._certificates import Certifier, counts
from fiduciary.checks._goal import Goal
from fiduciary.checks._hardening import RECIPES, front, harden
from fiduciary.checks._moves import Moves, moves_of
from fiduciary.errors import UsageError
from fiduciary.models import (
    Contract,
    auc,
    events_of,
    infer_contract,
    load_scorer,
    probability,
    read_table,
    split_rows,
)

LONG = bool(os.environ.get("FIDUCIARY_ROBUST_LONG"))


def small() -> tuple[np.ndarray, np.ndarray, Moves]:
    directed = tuple(
        msgspec.structs.replace(f, monotone=1 if f.name == "months" else 0) for f in contract().features
    )
    rows = rows_of(1_500, 21, 0.02)
    return (
        rows,
        labels_of(rows, 22),
        moves_of(Contract(features=directed), population=rows, step=0.2, box={"housing": 0}),
    )


def test_candidates_are_what_they_say(tmp_path: Path) -> None:
    rows, events, moves = small()
    held = rows[1_000:], events[1_000:]
    found = harden(rows[:1_000], events[:1_000], moves, held=held, trees=15, leaves=8, attacked_rows=200)
    assert [c.recipe for c in found] == list(RECIPES)
    assert any(c.on_front for c in found)
    for one in found:
        scorer = one.scorer
        scores = probability(scorer.score(held[0]), scorer.link)
        assert one.auc == auc(scores, held[1])
        start = held[0][scores >= one.cut]
        again = counts(Certifier(scorer, moves, Goal(one.cut)).certify_all(start))
        assert len(start) == one.rows and again["certified"] / one.rows == one.certified
        assert one.attacked <= one.attackable + one.open
    line = np.repeat(rows[:1], 21, axis=0)
    line[:, 1] = np.arange(21)
    assert (np.diff(found[1].scorer.score(line)) >= 0).all()
    found[3].save(moves.contract, tmp_path / "model", rows[:50])
    served = load_scorer(tmp_path / "model", moves.contract)
    assert served.score(rows).tobytes() == found[3].scorer.score(rows).tobytes()
    again = harden(
        rows[:1_000],
        events[:1_000],
        moves,
        held=held,
        trees=15,
        leaves=8,
        attacked_rows=200,
        recipes=["adversarial"],
    )
    assert again[0].model == found[2].model  # one seed, one model


def test_the_front_has_what_no_other_beats() -> None:
    rows, events, moves = small()
    base = harden(rows, events, moves, held=(rows, events), trees=3, leaves=4, recipes=["plain"])[0]
    grid = [(0.7, 0.2), (0.69, 0.5), (0.69, 0.4), (0.6, 0.6), (0.7, 0.2)]
    marked = front([msgspec.structs.replace(base, auc=a, certified=c) for a, c in grid])
    assert [c.on_front for c in marked] == [True, True, False, True, True]


def test_wrong_requests_are_refused() -> None:
    rows, events, moves = small()
    with pytest.raises(UsageError, match="recipe"):
        harden(rows, events, moves, held=(rows, events), recipes=["magic"])
    with pytest.raises(UsageError, match="both outcomes"):
        harden(rows, events * 0, moves, held=(rows, events))


BILLS = [f"bill_amt{i}" for i in range(1, 7)]
PAID = [f"pay_amt{i}" for i in range(1, 7)]
LATE = ["pay_0", "pay_2", "pay_3", "pay_4", "pay_5", "pay_6"]


@pytest.mark.skipif(not LONG, reason="runs in make test-robustness")
def test_on_real_credit_data_hardening_lifts_the_certified_share(shared_data: Path) -> None:
    columns = read_table(shared_data / "taiwan_default.parquet")
    draft = infer_contract(columns, "default_next_month").contract
    direction = {**dict.fromkeys(PAID, -1), "limit_bal": -1, **dict.fromkeys(LATE, 1)}
    spec = Contract(
        features=tuple(
            msgspec.structs.replace(f, mutable=f.name in {*BILLS, *PAID}, monotone=direction.get(f.name, 0))
            for f in draft.features
        )
    )
    rows = spec.compile().table(columns, ignore_unknown=True)
    events = events_of(columns["default_next_month"])
    a, b, c = split_rows("taiwan_default", len(events))
    train = np.concatenate([a, b])
    moves = moves_of(spec, population=rows[train], step=0.1)
    found = harden(rows[train], events[train], moves, held=(rows[c], events[c]))
    plain, both = found[0], found[3]
    assert both.certified >= plain.certified + 0.15
    assert both.auc >= plain.auc - 0.01
    assert max(one.open for one in found) <= 0.01
