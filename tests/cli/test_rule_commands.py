"""Commands of the rules of the day: for a person, for a program, and with mistakes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from desk import USE, Desk
from fiduciary.cli._portfolio import TARGET
from fiduciary.registry import digest_text


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
