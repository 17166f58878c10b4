"""Auditor mode: the draw is anybody's to repeat, and what does not come out is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from evidence_bank import LENDING, EvidenceBank, Past
from fiduciary.config import Settings
from fiduciary.decision import Decider, DecisionRecord, Notice, duties_of, notices
from fiduciary.errors import NotFoundError, UsageError
from fiduciary.evidence import _verify_folder as offline
from fiduciary.evidence import audit, audit_html, exceptions_csv, sample_csv
from fiduciary.evidence._audit import Drawn, Finding, draw
from fiduciary.ledger import Entry, Ledger
from fiduciary.registry import Registry, digest_text
from ruled import RuledBank, pack, plainly


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
    (gone,) = [d for d in report.sample if d.result == "not rebuildable"]
    (event,) = [i for i, _, p in bank.ledger.events() if p["event"] == "subject.erased"]
    assert (gone.outcome, gone.because) == ("erased", f"control.{event}")
    bank.ledger.close()


def test_sheets_run_nothing(bank: EvidenceBank) -> None:
    report = run(bank, 3)
    evil = Finding(record="gate-0.1", what="=1+1", expected="<script>x</script>", found="@SUM(A1)")
    shown = Drawn(record="r", time="t", release="d", outcome="<b>o</b>", result="exception")
    report = msgspec.structs.replace(report, exceptions=[evil], sample=[shown], seed="<i>")
    assert "'=1+1" in exceptions_csv(report) and "'@SUM" in exceptions_csv(report)
    page = audit_html(report)
    assert "<script>" not in page and "<b>o" not in page and "<i>" not in page
    assert sample_csv(report).startswith("record,time,release,outcome,result,because\r\n")


def test_senseless_requests_are_refused(bank: EvidenceBank) -> None:
    with pytest.raises(UsageError, match="1 to"):
        run(bank, 0)
    with pytest.raises(NotFoundError):
        audit(bank.ledger, bank.registry, use_case="nothing", sample=1, seed="s")
    for seed in ("", "x" * 101, "a\nb"):
        with pytest.raises(UsageError, match="seed"):
            run(bank, seed=seed)
    with pytest.raises(UsageError, match="period"):
        audit(bank.ledger, bank.registry, use_case=LENDING, sample=1, seed="s", since_ns=5, until_ns=5)


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


def test_the_command_exits_14_and_names_the_record_and_the_log_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from desk import Desk, make_home, record_decisions

    desk = Desk(tmp_path, lambda: tuple(capsys.readouterr()))  # type: ignore[arg-type,return-value]
    make_home(desk)
    real = Decider.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(
            Decider,
            "evaluate",
            lambda self, rows: [msgspec.structs.replace(v, outcome="[/b]") for v in real(self, rows)],
        )
        record_decisions(desk.home, 3)
    words = ("audit", "--use-case", "consumer-credit", "--seed", "s", "--as", "olga")
    said = desk.type(*words, "--out", desk.files / "a")
    assert said.code == 14 and "gate-0.1" in said.out and "outcome comes out again" in said.out
    assert "gate-0.2" in (desk.files / "a" / "exceptions.csv").read_text()
    told = desk.type("--json", *words, "--out", desk.files / "b")
    assert told.code == 14
    held = told.json()
    assert held["exceptions"] >= 3 and held["report"] == digest_text(
        (desk.files / "b/audit.json").read_bytes()
    )
    with Ledger.open(Settings.load(desk.home), writable=False) as ledger:
        events = [p for _, _, p in ledger.events() if p["event"] == "audit.held"]
    assert len(events) == 2 and events[1]["report"] == held["report"]
    assert "c-0" not in json.dumps(events)


def test_the_period_bounds_what_is_drawn(past: Past) -> None:
    bank = past.bank
    known = {"use_case": LENDING, "sample": 500, "seed": "s"}
    whole = audit(bank.ledger, bank.registry, **known)
    inside = audit(bank.ledger, bank.registry, **known, since_ns=past.since, until_ns=past.until)
    after = audit(bank.ledger, bank.registry, **known, since_ns=past.until)
    assert {d.record for d in after.sample} == set(past.after)
    assert whole.eligible == inside.eligible + after.eligible + 40
    assert whole.exceptions == inside.exceptions == []


def test_a_roll_back_a_suspension_refusals_and_an_erasure_are_no_exceptions(past: Past) -> None:
    report = audit(past.bank.ledger, past.bank.registry, use_case=LENDING, sample=500, seed="s")
    assert report.count("refusal") == 10 - 1 and report.count("not rebuildable") > 0
    assert all(d.because for d in report.sample if d.result in ("refusal", "not rebuildable"))


FORGED: dict[str, tuple[dict[str, object], str]] = {
    "outcome": ({"outcome": "approve"}, "outcome comes out again"),
    "margin": ({"margin": 0.25}, "reasons add up to the margin"),
    "baseline": ({"baseline": -1.0}, "baseline comes out again"),
    "no reasons": ({"reasons": []}, "an adverse decision has reasons"),
    "a rulebook": ({"rulebook": "sha256:" + "1" * 64}, "its rulebook was announced before and in force"),
    "a notice": ({"notices": [Notice(code="x", rule="y")]}, "notices comes out again"),
    "cut-offs": ({"rules": "sha256:" + "2" * 64}, "its cut-offs were in force then"),
    "a release": ({"release": "sha256:" + "3" * 64}, "the release was approved and live then"),
    "a use case": ({"use_case": "other"}, "header and content name the same use case"),
    "a purpose": ({"purpose": "to sell fridges"}, "the rules in force let it be decided"),
    "a refusal": ({"outcome": "refused"}, "a refusal says why"),
    "the row": ({"features": msgspec.Raw(b'{"utilisation":9}')}, "it can be decided again"),
    "the version": ({"version": 7}, "the record can be read"),
}


class ForgingBank(EvidenceBank):
    """Writes declines as somebody who holds the log keys might."""

    changed: ClassVar[dict[str, object]] = {}

    def entry(self, record: DecisionRecord) -> Entry:
        made = super().entry(record)
        if not self.changed:
            return made
        return msgspec.structs.replace(
            super().entry(msgspec.structs.replace(record, **self.changed)), use_case=LENDING
        )


@pytest.fixture(scope="module")
def forging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForgingBank]:
    made = ForgingBank(tmp_path_factory.mktemp("forging"))
    made.live(shift=1.5)  # declines many
    yield made
    made.ledger.close()


@pytest.mark.parametrize("name", FORGED)
def test_each_forged_record_is_named(forging: ForgingBank, name: str) -> None:
    ForgingBank.changed, expected = FORGED[name]
    log = f"forged-{list(FORGED).index(name)}"
    try:
        records = forging.decide(LENDING, log, 6)
    finally:
        ForgingBank.changed = {}
    report = run(forging, 500)
    found = {e.record for e in report.exceptions if e.what == expected}
    assert found & set(records), [e for e in report.exceptions if e.record in records]
    assert {d.record for d in report.sample if d.result == "exception"} >= found


def test_a_byte_changed_on_disk_and_a_replaced_release_are_named(tmp_path: Path) -> None:
    bank = EvidenceBank(tmp_path)
    digest = bank.live()
    records = [bank.decide(LENDING, "gate-0", 1)[0] for _ in range(4)]
    bodies = [frame.body for frame in bank.ledger.reader("gate-0").frames()]
    bank.ledger.close()
    (segment,) = (bank.settings.home / "ledger" / "gate-0" / "segments").iterdir()
    whole = segment.read_bytes()
    for at in (1, 3):
        changed = bytearray(whole)
        changed[whole.index(bodies[at]) + 40] ^= 1
        segment.write_bytes(bytes(changed))
        with Ledger.open(bank.settings, writable=False) as ledger:
            report = audit(ledger, Registry(ledger, bank.settings), use_case=LENDING, sample=9, seed="s")
        assert {d.record for d in report.sample} == set(records), "what was published is drawn, lost or not"
        assert (records[at], "the record can be read") in {(e.record, e.what) for e in report.exceptions}
        assert records[0] not in {e.record for e in report.exceptions}
    segment.write_bytes(whole)
    (published,) = (p for p in (segment.parent.parent / "tile" / "entries").rglob("*") if p.is_file())
    headers = published.read_bytes()
    middle = len(headers) // 2
    published.write_bytes(headers[:middle] + bytes([headers[middle] ^ 1]) + headers[middle + 1 :])
    with Ledger.open(bank.settings, writable=False) as ledger:
        report = audit(ledger, Registry(ledger, bank.settings), use_case=LENDING, sample=9, seed="s")
    named = {(e.record, e.what) for e in report.exceptions}
    assert ("gate-0", "the whole log can be read") in named
    published.write_bytes(headers)
    (card,) = bank.registry.release_dir(digest).rglob("scorecard.json")
    card.chmod(0o644)
    card.write_bytes(card.read_bytes().replace(b"-3.0", b"-9.0"))
    with Ledger.open(bank.settings, writable=False) as ledger:
        report = audit(ledger, Registry(ledger, bank.settings), use_case=LENDING, sample=9, seed="s")
    assert {e.record for e in report.exceptions} == set(records)
    assert all(e.what == "it can be decided again" and digest[:20] in e.found for e in report.exceptions)


class GovernedBank(EvidenceBank, RuledBank):
    """The gate's duties on the record, but for what is left out."""

    left_out: ClassVar[dict[str, object]] = {}

    def entry(self, record: DecisionRecord) -> Entry:
        book = self.registry.announce(LENDING, by="gate-0")
        due = notices(duties_of(book), record.outcome)
        known = {
            "rulebook": book.digest,
            "basis": "contract",
            "region": "eu",
            "notices": due,
            **self.left_out,
        }
        return super().entry(msgspec.structs.replace(record, **known))


def test_a_notice_or_rulebook_left_out_under_rules_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plainly(monkeypatch)
    monkeypatch.setattr(offline, "SLACK_NS", 0)  # the use case came under rules within the last ten seconds
    bank = GovernedBank(tmp_path)
    notice = {"code": "adverse-action", "rule": "regb-9", "when": "always", "within_days": 30}
    bank.govern(pack(notices=[notice]), lawful_basis="contract")
    bank.passing()
    good = bank.decide(LENDING, "gate-0", 5)
    monkeypatch.setattr(GovernedBank, "left_out", {"notices": []})
    silent = bank.decide(LENDING, "gate-1", 3)
    monkeypatch.setattr(GovernedBank, "left_out", {"rulebook": ""})
    lawless = bank.decide(LENDING, "gate-2", 3)
    report = run(bank, 50)
    named = {(e.record, e.what) for e in report.exceptions}
    assert {r for r, what in named if what == "notices comes out again"} >= set(silent)
    assert {r for r, what in named if what == "its rulebook was announced before and in force"} == set(
        lawless
    )
    assert not {r for r, _ in named} & set(good)
    bank.ledger.close()
