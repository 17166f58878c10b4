"""What the checks of a release look at is what would serve, and what is recorded of them is bounded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bank import USE_CASE, Bank, contract, rows
from fiduciary.checks import CheckResult, run_check
from fiduciary.decision import Decider, read_data, recordable, sample_of, subject_of
from fiduciary.errors import ContractError, UsageError
from fiduciary.registry import LoadedRelease, canonical


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedRelease]:
    bank = Bank(tmp_path_factory.mktemp("bank"))
    yield bank.registry.load(bank.live())
    bank.ledger.close()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "sample.csv"
    compiled = contract().compile()
    lines = ["utilisation,late_payments,housing,defaulted,sex,age_band,grade,exposure,note"]
    rng = np.random.default_rng(3)
    for i, row in enumerate(rows(300, seed=11).tolist()):
        known = {k: "" if v is None else v for k, v in compiled.decode_row(row).items()}
        sex, band = "fm"[i % 2], i % 3
        bad = int(rng.random() < 0.1 + 0.5 * row[0])
        known_late = known["late_payments"]
        lines.append(
            f"{known['utilisation']},{known_late},{known['housing']},{bad},{sex},{band},{i % 5},{i * 10.5},free text"
        )
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_sample_is_scored_and_decided_as_it_would_be_served(release: LoadedRelease, table: Path) -> None:
    data = read_data(table, release)
    sample = sample_of(
        data,
        release,
        USE_CASE,
        target="defaulted",
        groups=("sex", "age_band"),
        reference={"sex": "m"},
        roles={"grades": "grade", "exposure": "exposure"},
    )
    verdicts = Decider(release, USE_CASE).evaluate(sample.rows)
    assert sample.scores.tolist() == [v.score for v in verdicts]
    assert sample.decisions is not None and sample.decisions.tolist() == [v.outcome for v in verdicts]
    assert sample.margins is not None and sample.margins.tolist() == [v.margin for v in verdicts]
    assert sample.names == ("utilisation", "late_payments", "housing"), "no protected attribute is an input"
    assert set(sample.groups["sex"]) == {"f", "m"} and set(sample.groups["age_band"]) == {"0", "1", "2"}
    assert sample.outcomes is not None and sample.outcomes.dtype == np.bool_ and sample.outcomes.any()
    assert sample.exposure is not None and sample.exposure[2] == 21.0
    assert data.describe() == {
        "file": "sample.csv",
        "sha256": "sha256:" + hashlib.sha256(table.read_bytes()).hexdigest(),
        "rows": 300,
    }
    subject = subject_of(release, USE_CASE, sample=sample, table=data)
    assert run_check("discrimination.auc", subject).value is not None
    assert run_check("discrimination.auc", subject_of(release, USE_CASE)).ok is None


def test_mistakes_name_the_column(release: LoadedRelease, table: Path, tmp_path: Path) -> None:
    data = read_data(table, release)
    for more in ({"target": "ruin"}, {"groups": ("ruin",)}, {"roles": {"grades": "ruin"}}):
        with pytest.raises(UsageError, match="no column 'ruin'"):
            sample_of(data, release, USE_CASE, **more)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not for 'rank'"):
        sample_of(data, release, USE_CASE, roles={"rank": "grade"})
    with pytest.raises(UsageError, match="must hold numbers"):
        sample_of(data, release, USE_CASE, roles={"exposure": "note"})
    few = tmp_path / "few.csv"
    few.write_text("sex\nf\n")
    with pytest.raises(UsageError, match="1 rows"):
        sample_of(data, release, USE_CASE, beside=read_data(few))
    bad = tmp_path / "bad.csv"
    bad.write_text("utilisation,late_payments,housing\n7,1,owner\n")
    with pytest.raises(ContractError):
        sample_of(read_data(bad, release), release, USE_CASE)


def rule_result(**more: Any) -> Any:
    result = CheckResult(name="fairness.adverse_impact_ratio", ok=None, **more)
    return SimpleNamespace(
        rule="nj-air", pack="us-credit", version="1", severity="block", check=result.name, result=result
    )


def test_what_is_recorded_of_a_result_is_bounded() -> None:
    big = {"table": [[float(i), "x" * 20] for i in range(5_000)], "groups": 2, "worst": 0.71}
    found = recordable(
        rule_result(
            value=0.71, unit="share", interval=(0.6, 0.8), threshold=0.8, numbers=big, lacking="group labels",
            detail="y" * 10_000,
        )
    )  # fmt: skip
    assert len(canonical(found)) < 6_000
    assert found["numbers"] == {"groups": 2, "worst": 0.71}
    assert (found["value"], found["interval"], found["lacking"]) == (0.71, [0.6, 0.8], "group labels")
    assert (found["rule"], found["severity"], found["ok"]) == ("nj-air", "block", None)
    small = recordable(rule_result(numbers={"groups": {"f": 0.5, "m": 0.7}}))
    assert small["numbers"] == {"groups": {"f": 0.5, "m": 0.7}} and "value" not in small
