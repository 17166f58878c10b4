"""Commands of the rules of the day: for a person, for a program, and with mistakes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from desk import USE, Desk
from fiduciary.cli._portfolio import TARGET
from fiduciary.config import Settings
from fiduciary.ledger import Entry, Kind, Ledger
from fiduciary.registry import Registry, digest_text


def later(days: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() + days * 86_400))


def test_evidence_that_a_person_adds_is_filed_by_digest(desk: Desk) -> None:
    document = desk.files / "dpia.pdf"
    document.write_bytes(b"the whole assessment")
    common = ("--document", document, "--title", "DPIA 7", "--as", "olga")
    said = desk.do("attest", "dpia", *common, "--use-case", USE, "--expires", later(300), "--json").json()
    assert said["digest"] == digest_text(b"the whole assessment")
    assert desk.do("attest", "board-report", *common).out.startswith("board-report is filed by olga")
    assert desk.do("attest", "vendor-file", *common, "--use-case", USE, "--release", "credit@1").code == 0
    for arguments, code, words in (
        (("attest", "A DPIA", *common), 11, "lower-case"),
        (("attest", "dpia", *common, "--use-case", "none"), 11, "not been defined"),
        (("attest", "dpia", *common, "--expires", "2020-01-01"), 11, "after today"),
        (
            ("attest", "dpia", "--document", desk.files / "none.pdf", "--title", "x", "--as", "olga"),
            2,
            "none.pdf",
        ),
    ):
        said = desk.type(*arguments)
        assert said.code == code and words in said.err, said


def test_findings(desk: Desk) -> None:
    given = ("--use-case", USE, "--release", "credit@1", "--severity", "high", "--title", "drift untested")
    assert "F-1 is raised by grace" in desk.do("finding", "raise", "F-1", *given, "--as", "grace").out
    assert desk.type("finding", "raise", "F-2", *given, "--as", "ada").code == 11
    [found] = desk.do("finding", "list", "--use-case", USE, "--json").json()
    assert (found["finding"], found["severity"], found["closed_by"]) == ("F-1", "high", None)
    assert "drift untested" in desk.do("finding", "list").out
    assert desk.type("finding", "close", "F-9", "--reason", "x", "--as", "grace").code == 5
    assert desk.do("finding", "close", "F-1", "--reason", "tested", "--as", "grace").code == 0
    assert desk.do("finding", "list", "--json").json() == []
    assert "closed by grace" in desk.do("finding", "list", "--all").out


def test_waivers(desk: Desk) -> None:
    given = ("waiver", "grant", "credit@1", "auc-floor", "--reason", "pilot")
    said = desk.type(*given, "--expires", later(30), "--as", "ada")
    assert said.code == 11 and "ada is enrolled as developer" in said.err
    assert "auc-floor" in desk.do(*given, "--expires", later(30), "--as", "grace").out
    assert desk.type(*given, "--expires", later(500), "--as", "grace").code == 11
    [found] = desk.do("waiver", "list", "--json").json()
    assert (found["rule"], found["by"], found["in_force"]) == ("auc-floor", "grace", True)
    assert "pilot" in desk.do("waiver", "list", "--all").out


def test_overlays(desk: Desk) -> None:
    given = ("--use-case", USE, "--title", "+0.5 points", "--reason", "rates")
    assert desk.type("overlay", "set", "O-1", *given, "--expires", "soon", "--as", "olga").code == 11
    assert desk.do("overlay", "set", "O-1", *given, "--expires", later(90), "--as", "olga").code == 0
    assert "in use" in desk.do("overlay", "list").out
    assert desk.type("overlay", "end", "O-2", "--reason", "x", "--as", "olga").code == 5
    assert desk.do("overlay", "end", "O-1", "--reason", "rates fell", "--as", "olga").code == 0
    [found] = desk.do("overlay", "list", "--all", "--json").json()
    assert found["state"] == "ended"


def test_a_dry_run_of_the_checks_records_nothing(desk: Desk) -> None:
    before = desk.do("registry", "list", "--json").out
    said = desk.do(
        "check", "credit@1", "--data", desk.files / "loans.csv", "--target", TARGET, "--json"
    ).json()
    assert said["green"] and not said["recorded"] and said["rulebook"] == ""
    assert said["data"]["sample"]["rows"] == 1_500 and said["seconds"] < 30
    assert {c["name"] for c in said["checks"]} >= {"reasons_add_up", "probes_reproduce"}
    assert desk.do("registry", "list", "--json").out == before
    assert "a dry run" in desk.do("check", "credit@1").out
    said = desk.do("check", "credit@1", "--as", "ada")
    assert "recorded by ada" in said.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("check", "credit@9"), 5, "no release"),
        (("check", "credit@1", "--target", TARGET), 2, "--data"),
        (("check", "credit@1", "--data", "{files}/none.csv"), 2, "none.csv"),
        (
            ("check", "credit@1", "--data", "{files}/loans.csv", "--target", "ruin"),
            2,
            "there is no column 'ruin'",
        ),
        (
            ("check", "credit@1", "--data", "{files}/loans.csv", "--group", "ruin"),
            2,
            "there is no column 'ruin'",
        ),
        (
            ("check", "credit@1", "--data", "{files}/loans.csv", "--column", "rank=income"),
            2,
            "not for 'rank'",
        ),
        (("check", "credit@1", "--data", "{files}/loans.csv", "--column", "income"), 2, "NAME=VALUE"),
        (("check", "credit@1", "--data", "{files}/loans.csv", "--column", "exposure=housing"), 2, "numbers"),
        (("check", "credit@1", "--at", "2026-07-20", "--as", "ada"), 2, "--at"),
        (("check", "credit@1", "--as", "nobody"), 5, "no key here"),
    ],
)
def test_mistakes_with_checks(desk: Desk, arguments: tuple[str, ...], code: int, words: str) -> None:
    said = desk.type(*[a.format(files=desk.files) for a in arguments])
    assert said.code == code and words in said.err and said.err.count("\n") == 1, said


def test_groups_come_row_for_row(desk: Desk) -> None:
    few: Path = desk.files / "groups.csv"
    few.write_text("sex\nf\nm\n")
    said = desk.type("check", "credit@1", "--data", desk.files / "loans.csv", "--groups", few)
    assert said.code == 2 and "2 rows" in said.err


PACK = """
pack: bank-rules
version: "{version}"
title: Rules of the house
jurisdictions: [EU]
sources:
  - {{id: gdpr, title: GDPR, kind: statute}}
rules:
  - id: auc-floor
    source: gdpr
    cite: policy 4
    duty: A score must tell good from bad.
    status: in_force
    stage: release
    severity: block
    check: discrimination.auc
    params: {{minimum: {floor}}}
  - id: dpia-filed
    source: gdpr
    cite: Article 35
    duty: An impact assessment is on file.
    status: in_force
    stage: release
    severity: block
    check: document.attested
    params: {{kinds: [dpia]}}
  - id: person-decides
    source: gdpr
    cite: Article 22
    duty: No solely automated adverse decision.
    status: in_force
    stage: serve
    severity: block
    check: oversight.human_review
retention:
  - {{record: decision, name: credit, minimum: P25M, maximum: P7Y, rule: person-decides}}
"""


def write_pack(desk: Desk, version: str = "1", floor: float = 0.55) -> Path:
    path = desk.files / f"rules-{version}.yaml"
    path.write_text(PACK.format(version=version, floor=floor))
    return path


def govern(desk: Desk) -> None:
    """The use case under one pack, and a release that has not been checked under it."""
    desk.do("pack", "adopt", write_pack(desk), "--as", "olga")
    use = (desk.files / "use.toml").read_text()
    (desk.files / "use.toml").write_text(use + 'packs = ["bank-rules"]\nsubject = "natural_person"\n')
    desk.do("usecase", "define", desk.files / "use.toml", "--as", "olga")
    built = ("--data", desk.files / "loans.csv", "--use-case", USE)
    desk.do("release", "build", desk.files / "card", *built, "--name", "credit", "--version", "2")
    desk.do("release", "sign", "credit@2", "--as", "ada")


def sample(desk: Desk) -> tuple[str | Path, ...]:
    return ("check", "credit@2", "--data", desk.files / "loans.csv", "--target", TARGET)


def test_from_a_pack_to_a_release_that_it_lets_out(desk: Desk) -> None:
    govern(desk)
    said = desk.type("release", "approve", "credit@2", "--as", "grace")
    assert said.code == 11 and "run the checks again" in said.err
    dry = desk.type(*sample(desk), "--json")
    rules = {r["rule"]: r for r in json.loads(dry.out[: dry.out.rindex("}\n{") + 1])["rules"]}
    assert dry.code == 11 and "dpia-filed" in dry.err
    assert rules["auc-floor"]["ok"] is True and rules["auc-floor"]["value"] > 0.55
    assert rules["dpia-filed"]["ok"] is None and "dpia" in rules["dpia-filed"]["lacking"]
    document = desk.files / "dpia.pdf"
    document.write_bytes(b"assessed")
    filed = ("--document", document, "--title", "DPIA", "--use-case", USE, "--as", "olga")
    desk.do("attest", "dpia", *filed)
    green = desk.do(*sample(desk), "--as", "ada")
    assert "BLOCKS" not in green.out and "recorded by ada" in green.out
    assert "NOT REVIEWED BY COUNSEL: bank-rules" in green.out
    desk.do("release", "approve", "credit@2", "--as", "grace")
    desk.do("release", "promote", "credit@2", "--as", "otto")


def test_a_rule_that_fails_blocks_until_somebody_else_waives_it(desk: Desk) -> None:
    govern(desk)
    desk.do("pack", "adopt", write_pack(desk, "2", floor=0.999), "--as", "olga")
    said = desk.type(*sample(desk), "--as", "ada")
    assert said.code == 11 and "auc-floor" in said.err and "dpia-filed" in said.err
    assert "fails, BLOCKS" in said.out and "unknown, BLOCKS" in said.out
    for rule in ("auc-floor", "dpia-filed"):
        given = ("waiver", "grant", "credit@2", rule, "--expires", later(20), "--reason", "pilot")
        assert desk.type(*given, "--as", "ada").code == 11
        desk.do(*given, "--as", "olga")
    assert "fails, waived" in desk.do(*sample(desk)).out
    desk.do("release", "approve", "credit@2", "--as", "grace")


def test_trying_another_pack_or_day_records_nothing(desk: Desk) -> None:
    govern(desk)
    said = desk.type(*sample(desk), "--pack", write_pack(desk, "9", floor=0.999))
    assert said.code == 11 and "auc-floor" in said.err
    said = desk.type(*sample(desk), "--at", "2027-01-01")
    assert said.code == 11 and "auc-floor" not in said.err
    assert desk.type(*sample(desk), "--pack", "no-such-pack").code == 2
    assert desk.type(*sample(desk), "--at", "soon").code == 2


def test_packs_in_force(desk: Desk) -> None:
    path = write_pack(desk)
    assert desk.type("pack", "adopt", path, "--as", "ada").code == 11
    desk.do("pack", "adopt", path, "--as", "olga")
    assert desk.type("pack", "adopt", path, "--as", "olga").code == 11, "it is in force already"
    [found] = desk.do("pack", "list", "--json").json()
    assert (found["pack"], found["version"], found["use_cases"]) == ("bank-rules", "1", [])
    assert "pack in force: bank-rules 1" in desk.do("registry", "list").out
    desk.do("pack", "withdraw", "bank-rules", "--reason", "replaced", "--as", "olga")
    assert desk.do("pack", "list", "--json").json() == []
    assert desk.do("pack", "list", "--all").out.count("bank-rules") == 1
    broken = desk.files / "broken.yaml"
    broken.write_text(path.read_text().replace("discrimination.auc", "discrimination.magic"))
    said = desk.type("pack", "adopt", broken, "--as", "olga")
    assert said.code == 2 and "discrimination.magic" in said.err


def test_a_pack_changed_on_disk_after_it_was_adopted_changes_nothing(desk: Desk) -> None:
    govern(desk)
    write_pack(desk, "1", floor=0.999)
    said = desk.type(*sample(desk))
    assert "auc-floor" not in said.err


def test_a_minimum_retention_of_a_rule_beats_an_erasure(desk: Desk) -> None:
    govern(desk)
    settings = Settings.load(desk.home)
    with Ledger.open(settings) as ledger:
        registry = Registry(ledger, settings)
        registry.announce(USE, by="gate-0")
        assert registry.retentions()["credit"].minimum_days == 763
        pseudonym = ledger.vault.pseudonym("c-99")
        entry = Entry(
            Kind.DECISION, b'{"version":1,"outcome":"refused","use_case":"x"}', pseudonym, retention="credit"
        )
        ledger.shard("gate-0").append(entry).result()
    said = desk.type("ledger", "erase", "--subject", "c-99", "--reason", "request 12", "--as", "olga")
    assert said.code == 6 and "must be kept 763 days" in said.err
