"""Auditor mode: the draw is anybody's to repeat, and what does not come out is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from evidence_bank import LENDING, EvidenceBank
from fiduciary.decision import Decider
from fiduciary.errors import NotFoundError, UsageError
from fiduciary.evidence import audit, audit_html, exceptions_csv, sample_csv
from fiduciary.evidence._audit import Drawn, Finding, draw


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EvidenceBank]:
    made = EvidenceBank(tmp_path_factory.mktemp("bank"))
    made.live()
    made.decide(LENDING, "gate-0", 60)
    made.decide(LENDING, "gate-1", 20)
    yield made
    made.ledger.close()


def run(bank: EvidenceBank, sample: int = 20, seed: str = "2026-Q4"):  # type: ignore[no-untyped-def]
    return audit(bank.ledger, bank.registry, use_case=LENDING, sample=sample, seed=seed)


def test_an_honest_log_rebuilds_without_exception(bank: EvidenceBank) -> None:
    report = run(bank, 200)
    assert report.eligible == 80 == len(report.sample) == report.count("rebuilt")
    assert report.exceptions == []


def test_the_same_seed_draws_the_same_and_another_draws_another(bank: EvidenceBank) -> None:
    names = [d.record for d in run(bank).sample]
    assert names == [d.record for d in run(bank).sample] and len(set(names)) == 20
    assert names != [d.record for d in run(bank, seed="other").sample]
    assert names[:5] == [d.record for d in run(bank, 5).sample], "a larger sample begins with the smaller one"


def test_the_draw_is_even() -> None:
    ids = [f"gate-0.{i}" for i in range(400)]
    hits = [0] * 4
    for seed in range(200):
        for one in draw(ids, str(seed), 20):
            hits[int(one[7:]) // 100] += 1
    assert min(hits) > 850 and max(hits) < 1150


def test_a_record_that_says_what_the_model_does_not_is_an_exception(
    bank: EvidenceBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gate that writes another outcome than the model's: replay finds it, and the sheet names it."""
    real = Decider.evaluate

    def lying(self: Decider, rows):  # type: ignore[no-untyped-def]
        return [msgspec.structs.replace(v, outcome="approve", score=0.01) for v in real(self, rows)]

    with monkeypatch.context() as patch:
        patch.setattr(Decider, "evaluate", lying)
        forged = bank.decide(LENDING, "gate-2", 3)
    report = run(bank, 500)
    named = {e.record for e in report.exceptions}
    assert named == set(forged)
    assert any(e.what == "score comes out again" for e in report.exceptions)
    assert report.count("exception") == 3


def test_erased_decisions_are_listed_and_are_no_exception(tmp_path: Path) -> None:
    bank = EvidenceBank(tmp_path)
    bank.live()
    bank.decide(LENDING, "gate-0", 5)
    bank.ledger.erase("customer-2", reason="request", by="olga")
    report = run(bank, 10)
    assert report.count("not rebuildable") == 1 and report.exceptions == []
    bank.ledger.close()


def test_sheets_run_nothing(bank: EvidenceBank) -> None:
    report = run(bank, 3)
    evil = Finding(record="gate-0.1", what="=1+1", expected="<script>x</script>", found="@SUM(A1)")
    shown = Drawn(record="r", time="t", release="d", outcome="<b>o</b>", result="exception")
    report = msgspec.structs.replace(report, exceptions=[evil], sample=[shown], seed="<i>")
    assert "'=1+1" in exceptions_csv(report) and "'@SUM" in exceptions_csv(report)
    page = audit_html(report)
    assert "<script>" not in page and "<b>o" not in page and "<i>" not in page
    assert sample_csv(report).startswith("record,time,release,outcome,result\r\n")


def test_senseless_requests_are_refused(bank: EvidenceBank) -> None:
    with pytest.raises(UsageError, match="1 to"):
        run(bank, 0)
    with pytest.raises(NotFoundError):
        audit(bank.ledger, bank.registry, use_case="nothing", sample=1, seed="s")


def test_the_command_writes_sheets_and_records_that_it_was_held(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from desk import Desk, make_home, record_decisions

    desk = Desk(tmp_path, lambda: tuple(capsys.readouterr()))  # type: ignore[arg-type,return-value]
    make_home(desk)
    record_decisions(desk.home, 20)
    words = ("audit", "--use-case", "consumer-credit", "--sample", "5", "--seed", "s", "--as", "olga")
    desk.do(*words, "--out", desk.files / "audit")
    found = json.loads((desk.files / "audit" / "audit.json").read_text())
    assert len(found["sample"]) == 5 and found["exceptions"] == []
    assert desk.type(*words, "--out", desk.files / "audit").code == 6
    assert desk.type(*words[:-1], "ada", "--out", desk.files / "b").code == 4
