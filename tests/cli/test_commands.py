"""Every command, for a person and for a program, and with a mistake: one plain line and its exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import lightgbm
import numpy as np
import pytest

from desk import USE, Desk
from fiduciary.cli._main import root
from fiduciary.cli._portfolio import TARGET, contract, generate
from fiduciary.evidence import Verifier

Step = tuple[str, ...]

STEPS: list[Step] = [
    ("party", "list"),
    ("party", "enrol", "dora", "--role", "developer", "--as", "olga"),
    ("party", "remove", "dora", "--reason", "left", "--as", "olga"),
    ("usecase", "list"),
    ("usecase", "show", USE),
    ("usecase", "define", "{files}/use.toml", "--as", "olga"),
    ("policy", "check"),
    ("policy", "reload", "--as", "olga"),
    ("token", "issue", "svc", "--role", "application"),
    ("token", "revoke", "--subject", "svc", "--reason", "lost", "--as", "olga"),
    ("token", "rotate", "--as", "olga"),
    ("train", "scorecard", "{files}/loans.csv", "--target", TARGET, "--bins", "6", "--out", "{files}/card2"),
    ("train", "lightgbm", "{files}/loans.csv", "--target", TARGET, "--rounds", "60", "--out", "{files}/trees",
     "--contract", "{files}/contract.json"),
    ("release", "import", "{files}/model.txt", "--contract", "{files}/contract.json", "--out", "{files}/imported"),
    ("release", "build", "{files}/trees", "--use-case", USE, "--data", "{files}/loans.csv", "--name", "credit",
     "--version", "2"),
    ("release", "card", "credit@2"),
    ("release", "sign", "credit@2", "--as", "ada"),
    ("release", "approve", "credit@2", "--as", "grace"),
    ("release", "promote", "credit@2", "--as", "otto"),
    ("release", "rollback", USE, "--reason", "drift", "--as", "otto"),
    ("release", "verify", "credit@1"),
    ("release", "export", "credit@1", "--key", "ada", "--out", "{files}/credit.sig.json"),
    ("release", "suspend", "credit@1", "--reason", "drift", "--as", "otto"),
    ("release", "resume", "credit@1", "--reason", "repaired", "--as", "otto"),
    ("release", "retire", "credit@2", "--reason", "replaced", "--as", "otto"),
    ("release", "build", "{files}/imported", "--use-case", USE, "--data", "{files}/loans.csv", "--name", "credit",
     "--version", "3"),
    ("release", "sign", "credit@3", "--as", "ada"),
    ("release", "reject", "credit@3", "--reason", "too small", "--as", "grace"),
    ("registry", "list"),
    ("registry", "at", "2026-01-01T12:00Z"),
    ("replay", "gate-0.0", "--as", "grace"),
    ("replay", "--use-case", USE, "--as", "grace"),
    ("evidence", "--decision", "gate-0.1", "--out", "{files}/one", "--as", "aud"),
    ("evidence", "--use-case", USE, "--since", "2020-01-01", "--out", "{files}/all", "--as", "aud"),
    ("ledger", "heads"),
    ("ledger", "keys"),
    ("ledger", "prove", "gate-0.1"),
    ("ledger", "prove", "gate-0.1", "--out", "{files}/proof.txt"),
    ("ledger", "show", "gate-0.1", "--as", "aud"),
    ("ledger", "search", "--subject", "c-1", "--as", "aud"),
    ("ledger", "search", "--release", "credit@1", "--outcome", "approve", "--since", "2020-01-01", "--as", "aud"),
    ("ledger", "hold", "--subject", "c-3", "--reason", "matter 4", "--as", "olga"),
    ("ledger", "holds"),
    ("ledger", "hold", "--lift", "{hold}", "--reason", "settled", "--as", "olga"),
    ("ledger", "erase", "--subject", "c-2", "--reason", "request 9", "--as", "olga"),
    ("ledger", "sweep", "--as", "olga"),
    ("ledger", "export", "--out", "{files}/records.parquet", "--as", "aud"),
    ("ledger", "rebuild-index"),
    ("ledger", "verify"),
    ("ledger", "audit", "{home}/ledger/gate-0", "--log-key", "@{files}/keys.txt"),
    ("witness", "key"),
]  # fmt: skip
ELSEWHERE = {"init", "completion", "serve", "decide", "demo credit"}
"""Tried in the home's making, below, in test_start.py and in tests/demo."""
EXCHANGE = {"witness trust", "witness accept", "witness post", "witness serve", "witness collect"}
"""Tried between two homes in tests of the witness commands."""


def tried_elsewhere(command: str) -> bool:
    """Some other test types it: its words stand side by side in a test file, as they are typed."""
    words = ", ".join(f'"{word}"' for word in command.split())
    tests = Path(__file__).resolve().parent.parent
    return any(
        words in path.read_text("utf-8") for path in tests.rglob("*.py") if path != Path(__file__).resolve()
    )


def every_command(group: click.Group, path: str = "") -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        here = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from every_command(command, here)
        else:
            yield here


def named(step: Step) -> str:
    first = root.get_command(click.Context(root), step[0])
    return " ".join(step[:2]) if isinstance(first, click.Group) else step[0]


def test_no_command_is_forgotten() -> None:
    tried = {named(step) for step in STEPS} | ELSEWHERE | EXCHANGE
    assert tried <= set(every_command(root))
    forgotten = [name for name in every_command(root) if name not in tried and not tried_elsewhere(name)]
    assert forgotten == []
    assert {named(step) for step, _, _ in MISTAKES} >= {named(step) for step in STEPS} - WITHOUT_MISTAKE


def prepare(desk: Desk) -> None:
    columns = generate(800, seed=6)
    terms = contract().compile()
    rows = terms.table({k: v for k, v in columns.items() if k != TARGET})
    options = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 4}
    booster = lightgbm.train(options, lightgbm.Dataset(rows, np.asarray(columns[TARGET]), params=options), 40)
    booster.save_model(str(desk.files / "model.txt"))


@pytest.mark.parametrize("as_json", [False, True], ids=["person", "program"])
def test_every_command_does_what_it_says(desk: Desk, as_json: bool) -> None:
    prepare(desk)
    hold = ""
    for step in STEPS:
        if step[1] == "audit":
            keys = [line for line in desk.do("ledger", "keys").out.splitlines() if "/gate-0+" in line]
            (desk.files / "keys.txt").write_text("\n".join(keys))
        given = [part.format(files=desk.files, home=desk.home, hold=hold) for part in step]
        said = desk.type(*given, *(["--json"] if as_json else []))
        assert said.code == 0, (step, said)
        assert said.out.strip(), step
        if as_json:
            document = json.loads(said.out)
            hold = document["hold"] if isinstance(document, dict) and "hold" in document else hold
        elif "--lift" in said.out and "is in force" in said.out:
            hold = said.out.split()[1]
    for name in ("one", "all"):
        assert Verifier(desk.files / name, []).run().problems == []
    assert (desk.files / "records.parquet").stat().st_size > 1_000


WITHOUT_MISTAKE = {"party list", "usecase list", "registry list", "ledger holds", "ledger heads", "ledger keys"} | {
    "ledger rebuild-index", "ledger verify", "policy check", "ledger sweep", "policy reload", "witness key",
}  # fmt: skip
"""They take no argument that could be wrong; without a home they are tried below."""
NOBODY = ("--as", "nobody")
MISTAKES: list[tuple[Step, int, str]] = [
    (("init", "{home}"), 6, "is a home already"),
    (("init", "{files}/new", "--tenant", "no good"), 2, "tenant"),
    (("party", "enrol", "eve", "--role", "developer", "--as", "ada"), 11, "this takes officer"),
    (("party", "enrol", "eve", "--role", "king", "--as", "olga"), 2, "king"),
    (("party", "enrol", "eve", "--role", "developer", "--public-key", "zz", "--as", "olga"), 2, "hexadecimal"),
    (("party", "remove", "stranger", "--reason", "x", "--as", "olga"), 11, "not an enrolled party"),
    (("usecase", "show", "mortgage"), 5, "no use case 'mortgage'"),
    (("usecase", "define", "{files}/none.toml", "--as", "olga"), 2, "cannot be read"),
    (("usecase", "define", "{files}/loans.csv", "--as", "olga"), 2, "not valid TOML"),
    (("token", "issue", "svc", "--role", "king"), 2, "king"),
    (("token", "revoke", "--as", "olga"), 2, "either a token"),
    (("token", "rotate", "--as", "ada"), 4, "it needs the role officer"),
    (("train", "scorecard", "{files}/none.csv", "--target", "x", "--out", "{files}/x"), 2, "none.csv"),
    (("train", "scorecard", "{files}/loans.csv", "--target", "ruin", "--out", "{files}/x"), 2, "ruin"),
    (("train", "lightgbm", "{files}/loans.csv", "--out", "{files}/x"), 2, "--target"),
    (("release", "import", "{files}/use.toml", "--contract", "{files}/contract.json", "--out", "{files}/x"), 10, ""),
    (("release", "build", "{files}/card", "--use-case", "mortgage", "--data", "{files}/loans.csv", "--name", "a",
      "--version", "1"), 5, "no use case 'mortgage'"),
    (("release", "sign", "credit@9", "--as", "ada"), 5, "credit@1"),
    (("release", "approve", "credit@1", "--as", "ada"), 11, "ada"),
    (("release", "approve", "credit@1", *NOBODY), 5, "nobody has no key here"),
    (("release", "promote", "credit@1", "--as", "otto"), 11, "live already"),
    (("release", "reject", "credit@1", "--reason", "x", "--as", "grace"), 11, "has been live"),
    (("release", "suspend", "credit@1", "--reason", "x", "--as", "ada"), 4, "it needs the role"),
    (("release", "resume", "credit@1", "--reason", "x", "--as", "otto"), 11, "not suspended"),
    (("release", "retire", "credit@1", "--reason", "x", "--as", "grace"), 11, "this takes operator"),
    (("release", "rollback", USE, "--reason", "x", "--as", "otto"), 11, "no earlier release"),
    (("release", "verify", "sha256:0000000"), 5, "no release"),
    (("release", "export", "credit@7", "--key", "ada", "--out", "{files}/x"), 5, "credit@1"),
    (("release", "card", "nothing"), 5, "no release 'nothing'"),
    (("registry", "at", "yesterday"), 2, "is not a time"),
    (("replay", "--as", "grace"), 2, "name one decision"),
    (("replay", "gate-0.0", "--as", "ada"), 4, "it needs the role"),
    (("replay", "gate-0.9999", "--as", "grace"), 5, "no record"),
    (("replay", "control.1", "--as", "grace"), 6, "an event"),
    (("evidence", "--out", "{files}/x", "--as", "aud"), 2, "--decision"),
    (("evidence", "--use-case", USE, "--out", "{files}/x", "--as", "aud"), 2, "--since"),
    (("evidence", "--decision", "gate-0.1", "--out", "{files}/x", "--as", "ada"), 4, "it needs the role"),
    (("evidence", "--decision", "gate-0.1", "--out", "{files}", "--as", "aud"), 6, "exists already"),
    (("ledger", "prove", "gate-0"), 2, "LOG.INDEX"),
    (("ledger", "show", "gate-9.1", "--as", "aud"), 5, "gate-9"),
    (("ledger", "show", "gate-0.1", *NOBODY), 5, "nobody has no key here"),
    (("ledger", "search", "--since", "soon", "--as", "aud"), 2, "is not a time"),
    (("ledger", "erase", "--subject", "stranger", "--reason", "x", "--as", "olga"), 5, "no record is about"),
    (("ledger", "erase", "--subject", "c-1", "--reason", "x", "--as", "aud"), 4, "it needs the role officer"),
    (("ledger", "hold", "--reason", "x", "--as", "olga"), 2, "exactly one"),
    (("ledger", "hold", "--lift", "control.0", "--reason", "x", "--as", "olga"), 5, "in force"),
    (("ledger", "export", "--out", "{files}/x.parquet", "--since", "?", "--as", "aud"), 2, "is not a time"),
    (("ledger", "audit", "{home}/ledger/gate-0", "--log-key", "junk"), 2, ""),
    (("decide", USE, "--subject", "c", "--features", "[1]", "--token", "t"), 2, "one JSON object"),
    (("decide", USE, "--subject", "c", "--features", "{{}}"), 2, "no token"),
    (("decide", USE, "--subject", "c", "--features", "@{files}/none.json", "--token", "t"), 2, "cannot be read"),
    (("decide", USE, "--subject", "c", "--features", "{{}}", "--token", "t", "--url", "ftp://x"), 2, "http"),
    (("decide", USE, "--subject", "c", "--features", "{{}}", "--token", "t", "--url", "http://127.0.0.1:9"), 2,
     "no gate answers"),
    (("completion", "powershell"), 2, "powershell"),
    (("demo", "credit", "--data", "x.csv"), 2, "go together"),
    (("serve", "--port", "many"), 2, "many"),
]  # fmt: skip


def test_every_mistake_is_one_plain_line(desk: Desk) -> None:
    wrong = []
    for step, code, words in MISTAKES:
        given = [part.format(files=desk.files, home=desk.home) for part in step]
        said = desk.type(*given)
        from_click = said.err.startswith(("Usage:", "Error:"))
        plain = said.err.count("\n") == 1 and said.err.startswith("fiduciary: ")
        if said.code != code or words not in said.err or said.out or not (plain or from_click):
            wrong.append((step, said))
    assert wrong == []


def test_a_mistake_is_a_problem_document_for_a_program(desk: Desk) -> None:
    said = desk.type("release", "approve", "credit@1", "--as", "ada", "--json")
    document = json.loads(said.out)
    assert (
        said.code == 11
        and document["type"] == "urn:fiduciary:problem:release"
        and "ada" in document["detail"]
    )
    said = desk.type("--json", "ledger", "show", "gate-0.999", "--as", "aud")
    assert said.code == 5 and json.loads(said.out)["status"] == 404


@pytest.mark.parametrize("step", [s for s in STEPS if s[0] in ("party", "ledger", "registry", "policy")][:12])
def test_without_a_home_there_is_one_plain_line(desk: Desk, tmp_path: Path, step: Step) -> None:
    said = desk.type(
        *[p.format(files=tmp_path, home=tmp_path, hold="x") for p in step], home=tmp_path / "none"
    )
    assert said.code == 2 and said.err.count("\n") == 1 and "fiduciary init" in said.err


def test_a_person_erased_is_gone_for_every_command(desk: Desk) -> None:
    desk.do("ledger", "erase", "--subject", "c-1", "--reason", "request 9", "--as", "olga")
    assert desk.type("replay", "gate-0.1", "--as", "grace").code == 7
    assert json.loads(desk.do("ledger", "show", "gate-0.1", "--as", "aud", "--json").out)["content"] is None
    assert json.loads(desk.do("ledger", "search", "--subject", "c-1", "--as", "aud", "--json").out) == []
    desk.do("ledger", "verify")


def test_a_damaged_ledger_is_named_and_gives_no_evidence(desk: Desk) -> None:
    segment = next((desk.home / "ledger" / "gate-0" / "segments").iterdir())
    raw = bytearray(segment.read_bytes())
    place = raw.index(b"FDH1", 4_000)
    raw[place + 40] ^= 1
    segment.write_bytes(raw)
    said = desk.type("ledger", "verify")
    assert said.code == 14 and "BAD" in said.out and "gate-0" in said.out
    said = desk.type(
        "evidence", "--use-case", USE, "--since", "2020-01-01", "--out", desk.files / "x", "--as", "aud"
    )
    assert said.code == 14 and not (desk.files / "x").exists()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_serve_and_decide(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FIDUCIARY_")}
    program = "import sys; from fiduciary.cli import main; main(sys.argv[1:])"
    gate = subprocess.Popen(
        [sys.executable, "-c", program, "--home", str(desk.home), "serve", "--port", str(port)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        monkeypatch.setenv(
            "FIDUCIARY_TOKEN", desk.do("token", "issue", "svc", "--role", "application").out.strip()
        )
        row = {k: v[0].item() for k, v in generate(3, seed=1).items() if k != TARGET}
        ask = ("decide", USE, "--subject", "c-77", "--url", f"http://127.0.0.1:{port}", "--features")
        (desk.files / "row.json").write_text(json.dumps(row))
        deadline = time.monotonic() + 30
        while (said := desk.type(*ask, f"@{desk.files}/row.json")).code and time.monotonic() < deadline:
            assert gate.poll() is None, gate.stdout and gate.stdout.read()
            time.sleep(0.1)
        assert said.code == 0 and "score" in said.out, said
        answer = json.loads(desk.do(*ask, json.dumps(row), "--json").out)
        assert answer["outcome"] in ("approve", "refer", "decline") and answer["id"].startswith("gate-0.")
        wrong = desk.type(*ask, json.dumps({**row, "utilisation": 7}))
        assert wrong.code == 9 and "utilisation" in wrong.err and wrong.err.count("\n") == 1
        monkeypatch.setenv("FIDUCIARY_TOKEN", "nonsense")
        assert desk.type(*ask, json.dumps(row)).code == 3
    finally:
        gate.send_signal(signal.SIGTERM)
        assert gate.wait(30) == 0
    assert "the same again" in desk.do("replay", answer["id"], "--as", "grace").out
