"""What is cut is whole, verifies on a bare Python, and a broken or moving ledger gives no evidence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bank import OFFICER
from evidence_bank import LENDING, LIMITS, Past, lines
from fiduciary.errors import ConflictError, NotFoundError
from fiduciary.evidence import Scope, Verifier, cut
from fiduciary.evidence import _verify_folder as offline
from fiduciary.ledger import _merkle


def bare(folder: Path, *arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """The folder's own verifier, isolated: no site packages, no environment."""
    command = [python, "-I", "-S", str(folder / "verify.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder.parent)


def test_the_verifier_in_the_folder_runs_with_nothing_installed(whole_folder: Path) -> None:
    done = bare(whole_folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("VERIFIED: everything in this folder holds.\n") and not done.stderr
    found = json.loads(bare(whole_folder, "--json").stdout)
    assert found["verified"] and found["problems"] == []


def older_python() -> str | None:
    for name in ("python3.8", "python3.9", "python3.10"):
        for place in (shutil.which(name), *Path.home().glob(f".pyenv/versions/{name[6:]}.*/bin/python3")):
            works = place and subprocess.run([str(place), "-c", ""], capture_output=True).returncode == 0
            if works:
                return str(place)
    return None


def test_the_verifier_runs_on_an_old_python(whole_folder: Path) -> None:
    python = older_python()
    if python is None:
        pytest.skip("no Python before 3.11 on this machine")
    done = bare(whole_folder, python=python)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_verifier_imports_the_standard_library_only() -> None:
    import ast

    tree = ast.parse(Path(offline.__file__).read_text("utf-8"))
    names = {n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
    assert not {"socket", "urllib", "http", "subprocess", "pickle"} & names


def test_the_period_holds_every_decision_of_the_use_case(past: Past, whole_folder: Path) -> None:
    ledger = past.bank.ledger
    expected = [
        (record.log, record.index)
        for name in ("gate-0", "gate-1")
        for record in ledger.records(name)
        if record.header.use_case == LENDING and past.since <= record.header.time_ns < past.until
    ]
    assert [(d["log"], d["index"]) for d in lines(whole_folder / "decisions.jsonl")] == expected
    assert len(expected) == 160


def test_each_way_to_cut_verifies(past: Past, tmp_path: Path) -> None:
    scopes = {
        "trees": past.period(LIMITS.name),
        "one": Scope("decisions", decisions=("gate-0.25",)),
        "some": Scope("decisions", decisions=(past.after[0], "gate-1.3", "gate-0.0")),
        "empty": Scope("use-case", use_case=LENDING, since_ns=1, until_ns=2),
        "all": Scope("use-case", use_case=LENDING, since_ns=0, until_ns=2**62),
    }
    for name, scope in scopes.items():
        past.cut(tmp_path / name, scope)
        report = Verifier(tmp_path / name, []).run()
        assert report.problems == [], name
    shown = {name: len(lines(tmp_path / name / "decisions.jsonl")) for name in scopes}
    assert (shown["trees"], shown["one"], shown["some"], shown["empty"]) == (30, 1, 3, 0)
    assert shown["all"] >= 240
    assert not (tmp_path / "empty" / "releases").exists() or (tmp_path / "empty" / "release.json").exists()


def test_the_cut_is_on_the_control_log(past: Past, tmp_path: Path) -> None:
    summary = cut(
        past.bank.ledger,
        past.bank.registry,
        Scope("decisions", decisions=("gate-0.1",)),
        tmp_path / "f",
        by=OFFICER,
    )
    event = [e for e in past.bank.events() if e["event"] == "evidence.cut"][-1]
    assert event["by"] == OFFICER and event["manifest"] == summary["manifest"]
    assert event["scope"]["decisions"] == ["gate-0.1"]  # type: ignore[index]


def test_what_cannot_be_cut_leaves_nothing_behind(past: Past, tmp_path: Path) -> None:
    ledger, registry = past.bank.ledger, past.bank.registry
    for wrong, error in (
        ("gate-0.99999", NotFoundError),
        ("gate-7.0", NotFoundError),
        ("control.2", NotFoundError),
    ):
        with pytest.raises(error):
            cut(ledger, registry, Scope("decisions", decisions=(wrong,)), tmp_path / "f", by=OFFICER)
    (tmp_path / "there").mkdir()
    with pytest.raises(ConflictError, match="exists already"):
        cut(ledger, registry, past.period(), tmp_path / "there", by=OFFICER)
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


def test_decisions_made_while_it_is_cut_do_not_disturb_it(past: Past, tmp_path: Path) -> None:
    told: list[str] = []

    def meanwhile(what: str, done: int, total: int) -> None:
        if not told:
            past.bank.decide(LENDING, "gate-1", 5)
        told.append(what)

    cut(past.bank.ledger, past.bank.registry, past.period(), tmp_path / "f", by=OFFICER, progress=meanwhile)
    assert told and Verifier(tmp_path / "f", []).run().problems == []


def test_consistency_is_the_standards(past: Past) -> None:
    """The verifier's own consistency check agrees with the ledger's on every small pair and on damage."""
    leaves = [offline.leaf_hash(bytes([i])) for i in range(40)]
    tree = _merkle.Tree()
    tree.append_many(leaves)
    for size in range(1, 41):
        for old in range(1, size + 1):
            proof = tree.consistency(old, size)
            before, after = tree.root(old), tree.root(size)
            assert offline.consistent(old, size, before, after, proof)
            assert not offline.consistent(old, size, after if size > old else bytes(32), after, proof)
            assert not offline.consistent(old, size, before, bytes(32), proof)
            assert not offline.consistent(old, size, before, after, [*proof, bytes(32)])
            if proof:
                assert not offline.consistent(old, size, before, after, proof[:-1])
                assert not offline.consistent(old, size, before, after, [bytes(32), *proof[1:]])
    assert not offline.consistent(0, 5, tree.root(5), tree.root(5), [])
    assert not offline.consistent(6, 5, tree.root(6), tree.root(5), [])


def test_keys_that_anybody_can_sign_for_are_no_keys() -> None:
    from fiduciary.identity._keys import _SMALL_ORDER

    for point in _SMALL_ORDER:
        assert not offline.usable_key(point.hex())
    good: Any = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert offline.usable_key(good)
    for bad in (good[:-1], good.upper(), None, 5, "zz" * 32):
        assert not offline.usable_key(bad)


def test_the_page_escapes_what_people_wrote() -> None:
    scope = {"kind": "decisions", "decisions": ["gate-0.1"], "home": "<b>"}
    hostile = "<script>alert(1)</script>"
    decision = {"id": "gate-0.1", "time": "2026-01-01T00:00:00", "outcome": hostile, "caller": hostile}
    event = {
        "index": 0,
        "time_ns": 0,
        "payload": {"event": "release.approved", "by": hostile, "note": hostile},
    }
    release = {"name": hostile, "version": hostile, "release": hostile, "card": hostile}
    text = offline.page(scope, [decision], 1, [release], [event])
    assert "<script" not in text and "<b>" not in text and text.count("&lt;script&gt;") >= 5
