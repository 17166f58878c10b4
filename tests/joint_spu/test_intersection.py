"""Private set intersection on the engine: in one process's hands, and between two homes at the command line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiduciary.errors import UsageError
from fiduciary.joint import LocalFederation, intersect, read_transcript

N = 2000
LEFT = [f"Cust-{i:06d}" for i in range(N)]
RIGHT = [f" CUST-{i:06d}" for i in range(N - 1, N // 2 - 1, -1)]
COMMON = set(range(N // 2, N))


@pytest.mark.parametrize("protocol", ["rr22", "ecdh"])
def test_both_sides_get_their_rows_in_one_order(protocol: str) -> None:
    with LocalFederation(["bank", "telco"], protocol=protocol) as federation:
        found = intersect(federation, {"bank": LEFT, "telco": RIGHT})
        assert set(found.rows["bank"].tolist()) == COMMON
        pairs = zip(found.rows["bank"], found.rows["telco"], strict=True)
        assert all(LEFT[i].lower() == RIGHT[j].strip().lower() for i, j in pairs)
        found.transcript.verify()
        padded = intersect(federation, {"bank": LEFT, "telco": RIGHT}, reveal_to=["bank"], pad_to=5000)
        assert set(padded.rows) == {"bank"} and set(padded.rows["bank"].tolist()) == COMMON
        assert [p["rows"] for p in padded.transcript.parties] == [5000, 5000]
        with pytest.raises(UsageError, match="stand more than once"):
            intersect(federation, {"bank": [*LEFT, LEFT[0]], "telco": RIGHT})


def fiduciary(*words: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fiduciary", "--json", *map(str, words)]
    environment = {k: v for k, v in os.environ.items() if k != "FIDUCIARY_TEST_JOINT"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def done(process: subprocess.Popen[str], code: int = 0) -> Any:
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return json.loads(out)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_three_homes_invite_join_run_and_prove(tmp_path: Path) -> None:
    keys = {}
    for name in ("utility", "bank", "telco"):
        done(fiduciary("init", tmp_path / name, "--tenant", name, "--officer", "olga"))
        home = ("--home", tmp_path / name)
        made = done(
            fiduciary(*home, "party", "enrol", name, "--service", "--role", "developer", "--as", "olga")
        )
        keys[name] = made["public_key"]
    programs = {p["id"]: p["digest"] for p in done(fiduciary("joint", "programs"))}
    for name, ids in (("bank", LEFT), ("telco", RIGHT)):
        (tmp_path / f"{name}.csv").write_text("customer,secret\n" + "".join(f'"{v}",1\n' for v in ids))
        (tmp_path / name / "joint").mkdir()
        (tmp_path / name / "joint" / "allow.toml").write_text(
            f'receivers = ["bank"]\nprotocols = ["rr22"]\n[coordinators]\nutility = "{keys["utility"]}"\n'
            f'[peers]\nbank = "{keys["bank"]}"\ntelco = "{keys["telco"]}"\n'
            f'[programs]\n"fiduciary.psi@1" = "{programs["fiduciary.psi@1"]}"\n'
        )
    job = tmp_path / "job.toml"
    party = '[[parties]]\nname = "{0}"\nkey = "{1}"\ncolumns = [{{name = "customer", kind = "text"}}]\n'
    job.write_text(
        'job = "align"\nprogram = "fiduciary.psi@1"\nprotocol = "rr22"\n[outputs]\n"*" = ["bank"]\n'
        + "".join(party.format(n, keys[n]) for n in ("bank", "telco"))
    )
    invitation = tmp_path / "invitation.json"
    done(
        fiduciary(
            "--home", tmp_path / "utility", "joint", "invite", job, "--out", invitation, "--as", "utility"
        )
    )
    for name in ("bank", "telco"):
        done(
            fiduciary(
                *("--home", tmp_path / name, "joint", "join", invitation, "--data", tmp_path / f"{name}.csv"),
                *("--address", f"127.0.0.1:{free_port()}", "--out", tmp_path / f"{name}.json", "--as", name),
            )
        )

    def run(name: str, *more: Any) -> subprocess.Popen[str]:
        files = (invitation, tmp_path / "bank.json", tmp_path / "telco.json")
        data = ("--data", tmp_path / f"{name}.csv", "--as", name)
        return fiduciary("--home", tmp_path / name, "joint", "run", *files, *data, *more)

    bank, telco = run("bank", "--out", tmp_path / "result"), run("telco")
    one, two = done(bank), done(telco)
    assert one["transcript"] == two["transcript"] and one["received"] == ["rows"] and two["received"] == []
    assert set(np.load(tmp_path / "result" / "rows.npy").tolist()) == COMMON
    provenance = json.loads((tmp_path / "result" / "provenance.json").read_text())
    assert read_transcript(provenance["joint"]).digest == one["transcript"]
    shown = done(fiduciary("--home", tmp_path / "telco", "joint", "transcript", "align"))
    assert shown["digest"] == one["transcript"]
    status = done(fiduciary("--home", tmp_path / "bank", "joint", "status"))
    assert [(s["job"], s["state"]) for s in status] == [("align", "completed")]
    refused = done(run("telco"), code=5)
    assert "has run" in refused["detail"]
