"""`fiduciary pack`, as a writer, a reader and a reviewer of packs type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fiduciary import rules
from fiduciary.cli import main

SHIPPED = Path(rules.__file__).parent / "packs" / "gdpr.yaml"


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    said = capsys.readouterr()
    assert ended.value.code == code, said.out + said.err
    assert "Traceback" not in said.out + said.err
    return said.out + said.err


def test_show_says_the_banner(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "pack", "show", "gdpr")
    assert "not reviewed by counsel" in text and "gdpr-35" in text


def test_lint_names_the_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    broken = tmp_path / "mine.yaml"
    broken.write_text(SHIPPED.read_text().replace("severity: block", "severity: !!python/none block", 1))
    text = run(capsys, "pack", "lint", "gdpr", str(broken), code=2)
    assert "ok   gdpr" in text and "a tag" in text and "line" in text
    broken.write_text(SHIPPED.read_text().replace("check: refusal.purpose", "check: refusal.whim", 1))
    assert "there is no check" in run(capsys, "pack", "lint", str(broken), code=2)


def test_a_rule_that_does_not_do_as_it_says_is_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(SHIPPED.read_text().replace("expect: fail", "expect: pass", 1))
    assert "1 did not come out" in run(capsys, "pack", "test", str(mine), code=6)
    assert "0 did not come out" in run(capsys, "pack", "test", "gdpr")


def test_resolve_and_diff_by_day(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "--json", "pack", "resolve", "us-credit", "--at", "2026-07-20"))
    assert found["valid_until"] == "2026-07-21"
    days = ("--at", "2026-07-20", "--at", "2026-07-22")
    changes = json.loads(run(capsys, "--json", "pack", "diff", "us-credit", "us-credit", *days))["changes"]
    assert [c["rule"] for c in changes] == ["regb-6-effects"]
    assert "takes a date" in run(capsys, "pack", "resolve", "gdpr", "--at", "soon", code=2)


def test_counsel_signs_and_the_banner_goes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    home = str(tmp_path / "bank")
    run(capsys, "init", home, "--tenant", "acme", "--officer", "olga")
    mine = tmp_path / "mine.yaml"
    mine.write_text(SHIPPED.read_text())
    run(capsys, "--home", home, "pack", "sign", str(mine), "--counsel", "R. Example", "--as", "olga")
    pack = rules.load_pack(mine.read_bytes())
    assert pack.reviewed and not pack.banner
    assert json.loads((tmp_path / "mine.yaml.dsse.json").read_text())["signatures"]
    own = run(capsys, "--home", home, "pack", "adopt", str(mine), "--as", "olga", code=11)
    assert "signed the review and adopts" in own
    run(capsys, "--home", home, "party", "enrol", "oscar", "--role", "officer", "--as", "olga")
    run(capsys, "--home", home, "pack", "adopt", str(mine), "--as", "oscar")


@pytest.mark.parametrize("forgery", ["by hand", "altered", "of another pack", "by a stranger"])
def test_a_review_that_nobody_signed_for_this_pack_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, forgery: str
) -> None:
    home, other = str(tmp_path / "bank"), str(tmp_path / "elsewhere")
    for place in (home, other):
        run(capsys, "init", place, "--tenant", "acme", "--officer", "olga")
    run(capsys, "--home", home, "party", "enrol", "oscar", "--role", "officer", "--as", "olga")
    mine = tmp_path / "mine.yaml"
    mine.write_text(SHIPPED.read_text())
    signer = other if forgery == "by a stranger" else home
    run(capsys, "--home", signer, "pack", "sign", str(mine), "--counsel", "R. Example", "--as", "olga")
    envelope = tmp_path / "mine.yaml.dsse.json"
    if forgery == "by hand":
        envelope.unlink()
    elif forgery == "altered":
        mine.write_text(mine.read_text().replace("Erase personal data", "Keep personal data"))
    elif forgery == "of another pack":
        twin = tmp_path / "twin.yaml"
        twin.write_text((SHIPPED.parent / "dora.yaml").read_text())
        run(capsys, "--home", home, "pack", "sign", str(twin), "--counsel", "R. Example", "--as", "olga")
        envelope.write_bytes((tmp_path / "twin.yaml.dsse.json").read_bytes())
    said = run(capsys, "--home", home, "pack", "adopt", str(mine), "--as", "oscar", code=11)
    assert "review" in said
    assert "gdpr" not in run(capsys, "--home", home, "pack", "list")
