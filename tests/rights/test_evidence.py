"""A folder cut about one person verifies after the rights of another were exercised, and tells nothing of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bank import OFFICER
from fiduciary.evidence import Scope, cut
from rights_bank import ANN, BOB, RightsBank


def test_a_folder_about_another_person_verifies_and_withholds_the_contest(
    bank: RightsBank, tmp_path: Path
) -> None:
    decision, other = bank.decide(ANN), bank.decide(BOB)
    contest = bank.desk.open_contest(decision, ANN, "Zebra-illness", by=OFFICER)
    bank.desk.decide_contest(contest.id, "uphold", by="hana", key=bank.key("hana"), reason="Yellow-payslip")

    def folder(name: str) -> Path:
        out = tmp_path / name
        cut(bank.ledger, bank.registry, Scope(kind="decisions", decisions=(other,)), out, by=OFFICER)
        said = subprocess.run([sys.executable, "verify.py", "."], cwd=out, capture_output=True, text=True)
        assert said.returncode == 0, said.stdout
        everything = b"".join(p.read_bytes() for p in out.rglob("*") if p.is_file())
        assert b"Zebra" not in everything
        assert b"Yellow-payslip" not in everything
        return out

    folder("before")
    bank.desk.erase(ANN, by=OFFICER, reason="request")
    folder("after")
