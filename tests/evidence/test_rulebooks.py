"""Rules of the day, seen by a stranger: rulebooks, referrals, waivers and packs are checked; forgeries are named."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bank import DEVELOPER, OFFICER, VALIDATOR
from evidence_bank import LENDING, EvidenceBank, lines, write_lines
from fiduciary.decision import Asked, DecisionRecord, notices
from fiduciary.decision._duties import duties_of
from fiduciary.errors import ReleaseError
from fiduciary.evidence import Scope, cut
from fiduciary.evidence import _verify_folder as offline
from fiduciary.registry import canonical, digest_text, make_statement, sign_statement
from ruled import RuledBank, pack, plainly

NOTICE = {"code": "adverse-action", "rule": "regb-9", "when": "adverse", "within_days": 30}
GROUNDED = pack(version="2", notices=[NOTICE], lawful_bases=["contract"])


class RuledEvidenceBank(EvidenceBank, RuledBank):
    """Writes records as the gate does, rules included; `forge` may change one before it is written."""

    forge: Callable[[DecisionRecord], DecisionRecord] = staticmethod(lambda record: record)
    asked_about = Asked()

    def entry(self, record: DecisionRecord) -> Any:
        if self.registry.states().uses[LENDING].use_case.packs:
            book = self.registry.announce(LENDING, by="gate-0")
            decider = self.deciders[record.release, record.rules]
            decider.duties = duties_of(book)
            asked = self.asked_about
            verdict = decider.oblige(
                decider.explain(np.array([decider.release.compiled.decode(bytes(record.features))]))[0],
                asked,
            )
            record = msgspec.structs.replace(
                record,
                outcome=verdict.outcome,
                referred_by=verdict.referred_by,
                rulebook=book.digest,
                basis=decider.use_case.lawful_basis,
                consent=asked.consent,
                region="eu",
                opted_out=asked.opted_out,
                notices=notices(decider.duties, verdict.outcome),
            )
        return super().entry(type(self).forge(record))


class Story:
    def __init__(self, folder: Path) -> None:
        self.bank = bank = RuledEvidenceBank(folder)
        bank.live("0.9.0")
        self.ungoverned = bank.decide(LENDING, "gate-0", 10)
        self.use_case = bank.govern(pack(referral="gdpr-22"), lawful_basis="contract")
        bank.registry.promote(bank.second(), by="otto", key=bank.keys["otto"])
        self.since = time.time_ns()
        self.referred = bank.decide(LENDING, "gate-0", 40)
        bank.asked_about = Asked(opted_out=True)
        bank.decide(LENDING, "gate-1", 10)
        bank.asked_about = Asked()
        bank.registry.adopt_pack(GROUNDED, by=OFFICER, key=bank.keys[OFFICER])
        self.declined = bank.decide(LENDING, "gate-0", 40)
        self.until = time.time_ns()

    def cut(self, folder: Path) -> Path:
        scope = Scope("use-case", use_case=LENDING, since_ns=self.since, until_ns=self.until)
        cut(self.bank.ledger, self.bank.registry, scope, folder, by=OFFICER)
        return folder


def second(bank: RuledEvidenceBank) -> str:
    digest = bank.proposed("1.0.0", 1.0)
    bank.run_checks(digest)
    bank.approve(digest)
    return digest


RuledEvidenceBank.second = second  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as made:
        plainly(made)
        yield made


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Iterator[Story]:
    made = Story(tmp_path_factory.mktemp("ruled"))
    yield made
    made.bank.ledger.close()


@pytest.fixture(scope="module")
def whole(story: Story, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return story.cut(tmp_path_factory.mktemp("cut") / "folder")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "folder"))


def seal(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"] = {
        p.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(p.read_bytes()).hexdigest(),
            "size": p.stat().st_size,
        }
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p != folder / "manifest.json"
    }
    (folder / "manifest.json").write_text(offline.json_text(manifest))


def found(folder: Path) -> list[str]:
    report = offline.Verifier(folder, []).run()
    return report.problems


def test_the_story_verifies_and_says_what_was_checked(story: Story, whole: Path) -> None:
    report = offline.Verifier(whole, []).run()
    assert report.problems == []
    assert report.holds["decisions under the rulebook that was announced, of packs adopted then"] == 90
    assert report.holds["scorecard decisions replayed, equal bit for bit"] == 90
    outcomes = {json.loads(x["payload"])["outcome"] for x in lines(whole / "decisions.jsonl")}
    by = {json.loads(x["payload"]).get("referred_by") for x in lines(whole / "decisions.jsonl")}
    assert outcomes == {"approve", "refer", "decline"} and by == {None, "gdpr-22", "opted-out"}
    packs = sorted(p.name for p in (whole / "packs").iterdir())
    assert [p.rsplit("-", 1)[0] for p in packs] == ["eu-credit-1", "eu-credit-2"]


def test_a_forged_pack_file_is_named(folder: Path) -> None:
    path = sorted((folder / "packs").iterdir())[0]
    document = json.loads(path.read_bytes())
    document["obligations"]["referral"] = ""
    path.write_text(offline.json_text(document))
    seal(folder)
    assert [p for p in found(folder) if path.name in p and "forged pack" in p]


def test_a_pack_put_beside_or_taken_away_is_named(folder: Path) -> None:
    path = sorted((folder / "packs").iterdir())[0]
    (folder / "packs" / "us-credit-1-000000000000.json").write_text("{}\n")
    path.unlink()
    seal(folder)
    problems = found(folder)
    assert any("us-credit" in p and "nobody adopted" in p for p in problems)
    assert any(path.name in p for p in problems)


def test_a_pack_changed_in_its_event_is_not_what_was_recorded(folder: Path) -> None:
    events = lines(folder / "events.jsonl")
    for line in events:
        if "payload" in line and '"pack.adopted"' in line["payload"]:
            line["payload"] = line["payload"].replace("gdpr-22", "gdpr-99")
    write_lines(folder / "events.jsonl", events)
    seal(folder)
    assert any("is not the recorded one" in p for p in found(folder))


# --- what somebody with the log's own keys could write, and is still found out ---


@pytest.fixture
def own(tmp_path: Path, patch: pytest.MonkeyPatch) -> Iterator[Story]:
    made = Story(tmp_path / "own")
    yield made
    made.bank.ledger.close()


def forged(own: Story, change: Callable[[DecisionRecord], DecisionRecord], tmp_path: Path) -> list[str]:
    RuledEvidenceBank.forge = staticmethod(change)  # type: ignore[assignment]
    try:
        own.bank.decide(LENDING, "gate-0", 20)
    finally:
        RuledEvidenceBank.forge = staticmethod(lambda record: record)  # type: ignore[assignment]
    own.until = time.time_ns()
    return found(own.cut(tmp_path / "cut"))


def replace(**more: Any) -> Callable[[DecisionRecord], DecisionRecord]:
    return lambda record: msgspec.structs.replace(record, **more)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (replace(rulebook="sha256:" + "0" * 64), "was never announced on the control log"),
        (replace(rulebook=""), "it names no rulebook"),
        (replace(basis="consent"), "another lawful basis"),
        (replace(purpose="marketing"), "another than the use case's"),
        (replace(outcome="refer", referred_by="gdpr-22"), "a replay gives"),
        (replace(notices=[]), "notices in the record are not the ones that were due"),
        (replace(opted_out=True), "by rule opted-out"),
    ],
)
def test_a_decision_outside_its_rules_is_named(
    own: Story, tmp_path: Path, monkeypatch: Any, change: Callable[[DecisionRecord], DecisionRecord], why: str
) -> None:
    monkeypatch.setattr(offline, "SLACK_NS", 0)  # else what was in force seconds ago would do
    problems = forged(own, change, tmp_path)
    assert problems and any(why in p for p in problems), problems[:3]


def test_a_decision_under_the_rulebook_of_another_day_is_named(
    own: Story, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(offline, "SLACK_NS", 0)
    old = next(e["rulebook"] for e in own.bank.events() if e["event"] == "rules.resolved")
    problems = forged(own, replace(rulebook=old), tmp_path)
    assert any("was not in force for" in p for p in problems), problems[:3]


def emit(bank: RuledBank, event: str, body: dict[str, Any], by: str) -> None:
    """Write an event into the control log past the registry, signed as it stands."""
    key = bank.keys[by]
    statement = make_statement(
        event, body, scope="acme.eu", by=by, key_id=key.key_id, signed_ns=time.time_ns()
    )
    payload = sign_statement(statement, key)
    bank.ledger.emit(event, {k: v for k, v in payload.items() if k != "event"})


def notes(own: Story, tmp_path: Path) -> list[str]:
    own.until = time.time_ns()
    report = offline.Verifier(own.cut(tmp_path / "cut"), []).run()
    return [*report.problems, *report.notes]


def test_a_forged_pack_document_changes_nothing_and_is_named(own: Story, tmp_path: Path) -> None:
    document = pack(version="3")
    good = {"pack": "eu-credit", "version": "3", "digest": digest_text(canonical(document)), "note": ""}
    emit(own.bank, "pack.adopted", {**good, "document": {**document, "rules": []}}, OFFICER)
    assert any("the document of pack eu-credit is forged" in n for n in notes(own, tmp_path))
    assert own.bank.registry.states().packs["eu-credit"].version == "2"


def test_a_rulebook_of_packs_that_nobody_adopted_changes_nothing(own: Story, tmp_path: Path) -> None:
    last = [e for e in own.bank.events() if e["event"] == "rules.resolved"][-1]
    false = {k: v for k, v in last.items() if k not in ("event", "rulebook")}
    false["packs"] = [{**last["packs"][0], "version": "9"}]
    false["rulebook"] = digest_text(canonical({n: false.get(n) for n in offline.BOOK}))
    own.bank.ledger.emit("rules.resolved", false)
    problems = forged(own, replace(rulebook=false["rulebook"]), tmp_path)
    assert any("never announced on the control log, or not of packs adopted then" in p for p in problems)


def test_a_waiver_by_the_author_changes_nothing_and_is_named(own: Story, tmp_path: Path) -> None:
    bank = own.bank
    bank.enrol(DEVELOPER, "developer", "officer", "validator")
    digest = bank.proposed("2.0.0", 0.2)
    bank.run_checks(digest, ok=False)
    body = {
        "release": digest,
        "use_case": LENDING,
        "rule": "auc",
        "expires": "2027-06-01",
        "reason": "why not",
    }
    body["expires"] = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 30 * 86_400))
    emit(bank, "waiver.granted", body, DEVELOPER)
    with pytest.raises(ReleaseError, match="no waiver in force"):
        bank.approve(digest)
    assert any("a waiver by the author of the release" in n for n in notes(own, tmp_path))


def test_an_approval_swapped_to_another_release_changes_nothing_and_is_named(
    own: Story, tmp_path: Path
) -> None:
    bank = own.bank
    first, other = bank.proposed("2.0.0", 0.2), bank.proposed("3.0.0", 0.3)
    bank.run_checks(first)
    bank.approve(first)
    bank.run_checks(other, ok=False)
    approval = [e for e in bank.events() if e["event"] == "release.approved"][-1]
    bank.ledger.emit(
        "release.approved", {**{k: v for k, v in approval.items() if k != "event"}, "release": other}
    )
    said = notes(own, tmp_path)
    assert any("release.approved" in n and "used before" in n for n in said)
    swapped = {**approval, "release": other, "nonce": "0" * 32}
    bank.ledger.emit("release.approved", {k: v for k, v in swapped.items() if k != "event"})
    shutil.rmtree(tmp_path / "cut")
    assert any(
        "release.approved" in n and f"the signature is not {VALIDATOR}'s" in n for n in notes(own, tmp_path)
    )
    assert not bank.registry.states().releases[other].approvals


def test_a_check_run_of_another_rulebook_changes_nothing(own: Story, tmp_path: Path) -> None:
    bank = own.bank
    digest = bank.proposed("2.0.0", 0.2)
    old = next(e["rulebook"] for e in bank.events() if e["event"] == "rules.resolved")
    with pytest.raises(ReleaseError, match="another rulebook than the one in force"):
        bank.registry.check(
            digest,
            by=DEVELOPER,
            key=bank.keys[DEVELOPER],
            more=[{"name": "discrimination.auc", "rule": "auc", "ok": True, "severity": "block"}],
            rulebook=old,
        )
    results = [{"name": "discrimination.auc", "rule": "auc", "ok": True, "severity": "block"}]
    body = {"release": digest, "use_case": LENDING, "results": results, "green": True, "rulebook": old}
    emit(bank, "release.checked", body, DEVELOPER)
    assert any("it is on another rulebook than the one in force" in n for n in notes(own, tmp_path))
    assert bank.registry.states().releases[digest].checks is None


def test_the_page_says_under_which_rules_and_what_they_did(whole: Path) -> None:
    text = (whole / "index.html").read_text()
    rules = text.partition("Under which rules")[2].partition("<h2>")[0]
    assert "Not reviewed by counsel: eu-credit" in rules and "gdpr-22" in rules
    assert "What was checked of credit-scorecard" in text and "holds" in text
