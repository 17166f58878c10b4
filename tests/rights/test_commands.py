"""The commands of people's rights, typed in a home made by commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from desk import Desk, make_home, record_decisions


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    made = Desk(tmp_path, lambda: tuple(capsys.readouterr()))  # type: ignore[arg-type,return-value]
    make_home(made)
    record_decisions(made.home, 150)
    return made


def test_a_person_s_way_from_contest_to_erasure(desk: Desk) -> None:
    found = json.loads(desk.do("ledger", "search", "--outcome", "refer", "--as", "olga", "--json").out)
    record = found[0]["record"]
    subject = f"c-{record.rpartition('.')[2]}"
    stranger = desk.type("contest", "open", record, "--subject", "c-999", "--text", "x", "--as", "olga")
    assert stranger.code == 5
    opened = desk.do(
        "contest", "open", record, "--subject", subject, "--text", "wrong", "--as", "olga", "--json"
    )
    contest = opened.json()["contest"]
    assert "contest" in desk.do("clocks").out
    assert contest in desk.do("contest", "list", "--as", "olga", "--json").out
    refused = desk.type("subject", "erase", "--subject", subject, "--reason", "r1", "--as", "olga")
    assert refused.code == 6
    own = ("contest", "decide", contest, "--outcome", "overturn", "--result", "approve", "--reason", "x")
    assert desk.type(*own, "--as", "olga").code == 4
    desk.do("party", "enrol", "hana", "--role", "officer", "--as", "olga")
    desk.do(*own, "--as", "hana")
    assert desk.do("decision", "standing", record, "--as", "olga", "--json").json()["standing"] == "approve"
    desk.do("subject", "access", "--subject", subject, "--out", desk.files / "a", "--as", "olga")
    assert json.loads((desk.files / "a" / "access.json").read_text())["decisions"][0]["record"] == record
    inside = desk.type("subject", "port", "--subject", subject, "--out", desk.home / "x", "--as", "olga")
    assert inside.code == 2
    desk.do("subject", "port", "--subject", subject, "--out", desk.files / "p", "--as", "olga")
    late = desk.type("clocks", "--json")
    assert late.code == 17
    assert late.json()["late"] == 1  # the erasure that nothing keeps any more
    assert "erased" in desk.do("subject", "due", "--as", "olga").out
    assert desk.do("ledger", "show", record, "--as", "olga", "--json").json()["state"] == "erased"
    desk.do("ledger", "verify")
    desk.do("clocks")


def test_a_person_overrides_without_a_contest_and_a_request_has_a_clock(desk: Desk) -> None:
    record = desk.do("ledger", "search", "--outcome", "refer", "--as", "olga", "--json").json()[0]["record"]
    subject = f"c-{record.rpartition('.')[2]}"
    change = ("decision", "override", record, "--outcome", "approve", "--reason", "seen the papers")
    assert desk.type(*change, "--as", "ada").code != 0, "a developer decides nothing about people"
    desk.do(*change, "--as", "olga")
    assert desk.do("decision", "standing", record, "--as", "olga", "--json").json()["standing"] == "approve"
    desk.do("subject", "request", "access", "--subject", subject, "--as", "olga")
    assert "access" in desk.do("clocks").out


def test_a_stop_drill_without_a_gate_says_so_and_leaves_the_release_live(desk: Desk) -> None:
    row = '{"income": 1}'
    asked = (
        "--use-case",
        "consumer-credit",
        "--features",
        row,
        "--url",
        "http://127.0.0.1:9",
        "--token",
        "x",
    )
    failed = desk.type("drill", "stop", "credit@1", *asked, "--as", "otto")
    assert failed.code != 0 and "Traceback" not in failed.err
    assert "suspended" not in desk.do("registry", "list").out


def test_incidents_drills_and_letters_by_command(desk: Desk) -> None:
    opened = desk.do(
        "incident", "open", "--class", "major", "--title", "t", "--clock", "PT4H", "--as", "olga", "--json"
    )
    name = opened.json()["id"]
    desk.do("incident", "step", name, "--step", "1", "--note", "told", "--as", "olga")
    desk.do("incident", "close", name, "--reason", "over", "--as", "olga")
    assert "closed" in desk.do("incident", "list", "--all").out
    desk.do("drill", "record", "--kind", "restore", "--note", "n", "--seconds", "9", "--as", "otto")
    found = json.loads(desk.do("ledger", "search", "--outcome", "refer", "--as", "olga", "--json").out)
    letter = ("letter", found[0]["record"], "--kind", "adverse_action", "--pack", "us-credit")
    lacking = desk.type(*letter, "--out", desk.files / "l", "--as", "olga")
    assert lacking.code == 6
    assert "waits for a person" in lacking.err
    assert not (desk.files / "l").exists()
    desk.do("party", "enrol", "hana", "--role", "officer", "--as", "olga")
    override = ("decision", "override", found[0]["record"], "--outcome", "decline", "--reason", "seen")
    wrong = desk.type(*override, "--because", "weather", "--as", "hana")
    assert wrong.code == 2
    assert "is no reason of the contract; there are" in wrong.err
    code = wrong.err.partition("there are ")[2].split(",")[0].strip()
    desk.do(*override, "--because", code, "--as", "hana")
    standing = desk.do("decision", "standing", found[0]["record"], "--as", "olga", "--json").json()
    assert standing["overrides"][0]["codes"] == [code]
    unknown = desk.type(
        *letter[:2], "--kind", "x/../y", "--pack", "us-credit", "--out", desk.files / "l", "--as", "olga"
    )
    assert unknown.code == 5
