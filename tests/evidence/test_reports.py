"""The reports for readers: what is there, what is missing said plainly, nothing hostile let through."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fiduciary.evidence import Scope, cut
from fiduciary.evidence._reports import NOT_STATED, technical_file, validation_report

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from evidence_bank import EvidenceBank

    bank = EvidenceBank(tmp_path_factory.mktemp("bank"))
    bank.live()
    ids = bank.decide("consumer-credit", "gate-0", 30)
    place = bank.folder / "evidence"
    cut(bank.ledger, bank.registry, Scope("decisions", tuple(ids[:2])), place, by="olga")
    yield place
    bank.ledger.close()


def verify(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(folder / "verify.py"), str(folder)], capture_output=True, text=True
    )


def test_every_release_has_both_reports_and_the_folder_verifies(folder: Path) -> None:
    names = sorted(p.name for p in (folder / "reports").iterdir())
    assert (
        len(names) == 2 and names[0].endswith("technical-file.html") and names[1].endswith("validation.html")
    )
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    assert all(f"reports/{name}" in listed for name in names)
    done = verify(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reports/ is made for readers" in done.stdout


def test_a_changed_report_is_found(folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    report = next((copy / "reports").glob("*.validation.html"))
    report.write_text(report.read_text().replace("hold", "HOLD", 1))
    done = verify(copy)
    assert done.returncode == 1 and report.name in done.stdout + done.stderr


def test_reports_stand_alone(folder: Path) -> None:
    for page in [*(folder / "reports").iterdir(), folder / "index.html"]:
        text = page.read_text()
        assert not re.search(r"<script|<img|<link|src=|href=|url\(|@import|https?://", text), page.name
        assert text.startswith("<!doctype html>") and 'lang="en"' in text


def test_what_nobody_stated_is_listed_as_open(folder: Path) -> None:
    text = next((folder / "reports").glob("*.technical-file.html")).read_text()
    gaps = text.partition("What is not stated")[2].partition("</ul>")[0]
    assert "Instructions for use" in gaps and "Risk management system" in gaps
    assert "Intended purpose" not in gaps and NOT_STATED in text


RELEASE = {
    "release": "sha256:" + "a" * 64, "name": HOSTILE, "version": "1", "family": "scorecard", "use_case": "credit",
    "author": HOSTILE, "approved_by": [HOSTILE], "state_when_cut": "live", "card": "",
}  # fmt: skip


def test_hostile_names_and_texts_are_shown_and_not_run() -> None:
    results = [
        {
            "name": "discrimination.auc",
            "ok": None,
            "lacking": HOSTILE,
            "severity": "block",
            "detail": HOSTILE,
        },
        {"name": HOSTILE, "rule": HOSTILE, "ok": False, "severity": "block", "detail": HOSTILE, "value": 0.5},
    ]
    run = {
        "release": RELEASE["release"],
        "index": 1,
        "time": "2026-05-03T00:00:00Z",
        "by": HOSTILE,
        "results": results,
    }
    page = validation_report(RELEASE, [run], [], "2026-05-03T00:00:00Z")
    contract = b'{"version":1,"features":[{"name":"<b>x</b>","type":"number","purpose":"<i>p</i>"}]}'
    files = {"contract.json": contract, "provenance.json": json.dumps({"training": HOSTILE}).encode()}
    other = technical_file(RELEASE, files, {"purpose": HOSTILE}, [run], [], "2026-05-03T00:00:00Z")
    for text in (page, other):
        assert "<script>" not in text and "<b>x" not in text and "&lt;script&gt;" in text
