"""Break an evidence folder as the bank could: it recomputes everything that is not signed, and is found out.

Whoever attacks here holds the folder, the program, and may write every file and digest again. They do not hold
the log keys or the parties' keys of the past; the last tests say what somebody with the log keys can do.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bank import DEVELOPER, VALIDATOR
from evidence_bank import ERASED, LENDING, LIMITS, EvidenceBank, Past, lines, write_lines
from fiduciary.decision import Decider, DecisionRecord
from fiduciary.evidence import Scope, cut
from fiduciary.evidence import _verify_folder as offline
from fiduciary.ledger import Entry, Kind
from fiduciary.registry import canonical
from fiduciary.registry._statements import sign_statement


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    made = Past(tmp_path_factory.mktemp("past"))
    made.folder = made.cut(tmp_path_factory.mktemp("cut") / "folder")  # type: ignore[attr-defined]
    return made


@pytest.fixture
def folder(past: Past, tmp_path: Path) -> Path:
    return Path(shutil.copytree(past.folder, tmp_path / "folder"))  # type: ignore[attr-defined]


def seal(folder: Path, **scope: Any) -> None:
    """Write manifest.json again over whatever lies in the folder now, as the bank can."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["scope"].update(scope)
    manifest["files"] = {
        p.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(p.read_bytes()).hexdigest(),
            "size": p.stat().st_size,
        }
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p != folder / "manifest.json"
    }
    (folder / "manifest.json").write_text(offline.json_text(manifest))


def verdict(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = offline.main([str(folder), "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def caught(folder: Path, capsys: pytest.CaptureFixture[str], *words: str, resealed: bool = True) -> None:
    if resealed:
        seal(folder)
    code, found = verdict(folder, capsys)
    assert code == 1, found
    assert not found["verified"]
    text = "\n".join(found["problems"])
    for word in words:
        assert word in text, text


def test_the_folder_holds_before_it_is_broken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seal(folder)
    code, found = verdict(folder, capsys)
    assert (code, found.get("problems")) == (0, [])
    assert found["holds"]["scorecard decisions replayed, equal bit for bit"] > 100
    assert found["holds"]["decisions whose content is erased, as the control log says"] > 0
    assert found["holds"]["recorded refusals"] >= 9


def test_one_flipped_byte_in_any_file_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    assert len(files) > 30
    for number, path in enumerate(files):
        raw = path.read_bytes()
        for place in {(number * 7919) % len(raw)}:
            changed = bytearray(raw)
            changed[place] ^= 1
            path.write_bytes(changed)
            code, found = verdict(folder, capsys)
            assert code in (1, 2) and not found["verified"], (path, place)
        path.write_bytes(raw)
    assert verdict(folder, capsys)[0] == 0


def test_no_byte_of_the_manifest_is_free(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "manifest.json"
    raw = path.read_bytes()
    for place in range(0, len(raw), 307):
        changed = bytearray(raw)
        changed[place] ^= 1
        path.write_bytes(changed)
        assert verdict(folder, capsys)[0] in (1, 2), bytes(changed[max(0, place - 20) : place + 20])


def edit(name: str, change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        found = lines(folder / name)
        change(found)
        write_lines(folder / name, found)

    return attack


def of_log(found: list[dict[str, Any]], log: str) -> list[int]:
    return [i for i, line in enumerate(found) if line["log"] == log]


def event_at(found: list[dict[str, Any]], name: str) -> int:
    return next(i for i, line in enumerate(found) if f'"{name}"' in line.get("payload", ""))


def drop_decision(which: int) -> Callable[[Path], None]:
    return edit("decisions.jsonl", lambda found: found.pop(of_log(found, "gate-0")[which]))


def payload_change(change: Callable[[dict[str, Any]], Any]) -> Callable[[list[dict[str, Any]]], None]:
    def apply(found: list[dict[str, Any]]) -> None:
        line = next(line for line in found if '"outcome":"decline"' in line.get("payload", ""))
        payload = json.loads(line["payload"])
        change(payload)
        line["payload"] = json.dumps(payload, separators=(",", ":"))

    return apply


def drop_shard(folder: Path) -> None:
    keys = json.loads((folder / "keys.json").read_text())
    del keys["logs"]["gate-1"]
    (folder / "keys.json").write_text(offline.json_text(keys))
    (folder / "checkpoints" / "gate-1.txt").unlink()
    for name in ("proofs.jsonl", "decisions.jsonl", "consistency.jsonl"):
        write_lines(folder / name, [line for line in lines(folder / name) if line["log"] != "gate-1"])


def show_one_shard_as_another(folder: Path) -> None:
    """gate-0 under gate-1's name: its decisions would hide gate-1's."""
    drop_shard(folder)
    keys = json.loads((folder / "keys.json").read_text())
    keys["logs"]["gate-1"] = keys["logs"]["gate-0"]
    (folder / "keys.json").write_text(offline.json_text(keys))
    shutil.copy(folder / "checkpoints" / "gate-0.txt", folder / "checkpoints" / "gate-1.txt")
    for name in ("proofs.jsonl", "decisions.jsonl", "consistency.jsonl"):
        found = lines(folder / name)
        again = [{**line, "log": "gate-1"} for line in found if line["log"] == "gate-0"]
        write_lines(folder / name, [*found, *again])


def withhold(name: str) -> Callable[[Path], None]:
    def change(found: list[dict[str, Any]]) -> None:
        i = event_at(found, name)
        found[i] = {"log": "control", "index": found[i]["index"], "state": "withheld"}

    return edit("events.jsonl", change)


def change_event(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(found: list[dict[str, Any]]) -> None:
        line = found[event_at(found, name)]
        payload = json.loads(line["payload"])
        change(payload)
        line["payload"] = canonical(payload).decode()

    return edit("events.jsonl", apply)


def call_gone(state: str, log: str) -> Callable[[Path], None]:
    def change(found: list[dict[str, Any]]) -> None:
        for line in found:
            if line["log"] == log and "payload" in line:
                index = line["index"]
                line.clear()
                line.update({"log": log, "index": index, "state": state})

    return edit("decisions.jsonl", change)


def swap_model(folder: Path) -> None:
    releases = sorted((folder / "releases").iterdir())
    shutil.copy(releases[0] / "model" / "scorecard.json", releases[1] / "model" / "scorecard.json")


def swap_model_and_manifest(folder: Path) -> None:
    swap_model(folder)
    place = sorted((folder / "releases").iterdir())[1]
    manifest = json.loads((place / "manifest.json").read_bytes())
    raw = (place / "model" / "scorecard.json").read_bytes()
    manifest["files"]["model/scorecard.json"].update(sha256=hashlib.sha256(raw).hexdigest(), size=len(raw))
    (place / "manifest.json").write_bytes(canonical(manifest))


def rename_swapped_release(folder: Path) -> None:
    """A whole other release, with a digest of its own, that nobody proposed."""
    swap_model_and_manifest(folder)
    place = sorted((folder / "releases").iterdir())[1]
    place.rename(place.with_name(hashlib.sha256((place / "manifest.json").read_bytes()).hexdigest()))


def text_edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        text = (folder / name).read_text("utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), "utf-8")

    return attack


ATTACKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "first decision dropped": (drop_decision(0), "is left out"),
    "middle decision dropped": (drop_decision(40), "is left out"),
    "last decision dropped": (drop_decision(-1), "is left out"),
    "decision twice": (edit("decisions.jsonl", lambda f: f.append(f[3])), "there twice"),
    "decisions exchanged": (
        edit(
            "decisions.jsonl",
            lambda f: f[1].update(index=f[2]["index"]) or f[2].update(index=f[1]["index"] - 1),
        ),
        "not the recorded one",
    ),
    "proof without the beginning": (
        edit("proofs.jsonl", lambda f: f[1].update(start=f[1]["start"] + 1, headers=f[1]["headers"][1:])),
        "gate-0",
    ),
    "proof without the middle": (edit("proofs.jsonl", lambda f: f[1]["headers"].pop(30)), "gate-0"),
    "proof without the end": (edit("proofs.jsonl", lambda f: f[1]["headers"].pop()), "gate-0"),
    "shard dropped": (drop_shard, "a dropped shard"),
    "shard shown as another": (show_one_shard_as_another, "its key is of acme.eu/gate-0"),
    "suspension withheld": (withhold("release.suspended"), "recorded in the clear is left out"),
    "suspension left out": (
        edit("events.jsonl", lambda f: f.pop(event_at(f, "release.suspended"))),
        "stands where",
    ),
    "last events left out": (
        edit("events.jsonl", lambda f: f.__delitem__(slice(-3, None))),
        "events are here",
    ),
    "events in another order": (
        edit("events.jsonl", lambda f: f.insert(3, f.pop(event_at(f, "release.suspended")))),
        "stands where",
    ),
    "approver renamed": (
        change_event("release.approved", lambda p: p.update(by=DEVELOPER)),
        "not the recorded one",
    ),
    "checks made green": (
        change_event("release.checked", lambda p: p.update(results=[])),
        "not the recorded",
    ),
    "cut-offs changed": (
        change_event("usecase.defined", lambda p: p["document"].update(approve_below=0.2)),
        "not the recorded one",
    ),
    "score changed": (
        edit("decisions.jsonl", payload_change(lambda p: p.update(score=p["score"] / 2))),
        "not the recorded one",
    ),
    "outcome changed": (
        edit("decisions.jsonl", payload_change(lambda p: p.update(outcome="approve"))),
        "not the recorded one",
    ),
    "reason text changed": (
        edit("decisions.jsonl", payload_change(lambda p: p["reasons"][0].update(text="Other"))),
        "not the recorded one",
    ),
    "decisions called erased": (call_gone("erased", "gate-0"), "the control log accounts for"),
    "decisions called pruned": (call_gone("pruned", "gate-0"), "before its retention ended"),
    "decisions withheld": (call_gone("withheld", "gate-0"), "shown without their content"),
    "model file swapped": (swap_model, "model/scorecard.json is not what was released"),
    "model and manifest swapped": (swap_model_and_manifest, "manifest.json is not what was released"),
    "whole release swapped": (rename_swapped_release, "nobody proposed it"),
    "author's signature removed": (
        lambda f: [p.unlink() for p in f.rglob("*.dsse.json")],
        "lacks the signature of its author",
    ),
    "file added to a release": (
        lambda f: (sorted((f / "releases").iterdir())[0] / "model" / "extra.json").write_text("{}"),
        "model/extra.json is not what was released",
    ),
    "page edited": (text_edit("index.html", "decline", "approve"), "index.html: it does not say"),
    "approvals view edited": (
        text_edit("approvals.jsonl", VALIDATOR, "gerda"),
        "approvals.jsonl: it does not",
    ),
    "checks view edited": (text_edit("checks.jsonl", '"ok":true', '"ok":false'), "checks.jsonl: it does not"),
    "summary edited": (text_edit("release.json", VALIDATOR, "gerda"), "release.json: it does not say"),
    "consistency proofs dropped": (lambda f: (f / "consistency.jsonl").write_text(""), "is not the one of"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_found(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    attack, word = ATTACKS[name]
    attack(folder)
    caught(folder, capsys, word)


def test_a_shorter_or_longer_period_is_another_folder(
    folder: Path, past: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    for scope in (
        {"since_ns": past.since - 10**10},
        {"until_ns": past.until + 10**9},
        {"until_ns": past.until + 10**15},
        {"use_case": LIMITS.name},
        {"home": "other.eu"},
    ):
        before = json.loads((folder / "manifest.json").read_bytes())["scope"]
        seal(folder, **scope)
        assert verdict(folder, capsys)[0] == 1, scope
        seal(folder, **before)
    assert verdict(folder, capsys)[0] == 0


def test_files_slipped_in_or_linked_are_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "note.txt").write_text("hello")
    caught(folder, capsys, "note.txt: it is not listed", resealed=False)
    (folder / "note.txt").unlink()
    (folder / "away").symlink_to(folder.parent)
    caught(folder, capsys, "away: it is a link", resealed=False)
    (folder / "away").unlink()
    os.mkfifo(folder / "pipe")
    caught(folder, capsys, "pipe: it is a link or a device", resealed=False)
    (folder / "pipe").unlink()
    moved = (folder / "keys.json").rename(folder.parent / "keys.json")
    (folder / "keys.json").symlink_to(moved)
    caught(folder, capsys, "keys.json", resealed=False)


def test_names_that_lead_out_of_the_folder_are_never_opened(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = folder.parent / "secret"
    secret.write_text("secret")
    entry = {"sha256": hashlib.sha256(b"secret").hexdigest(), "size": 6}
    for name in ("../secret", str(secret), "releases/../../secret", "..\\secret", "a\0b", ".hidden", ""):
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["files"][name] = entry
        (folder / "manifest.json").write_text(offline.json_text(manifest))
        code, found = verdict(folder, capsys)
        assert code == 1 and "not there as a plain file" in "\n".join(found["problems"])
        seal(folder)


HOSTILE = {
    "deep": b"[" * 200_000,
    "long number": b'{"log":"control","index":' + b"9" * 100_000 + b"}",
    "infinite": b'{"log":"control","index":1e999}',
    "not a number": b'{"log":"control","index":NaN}',
    "twice": b'{"log":"control","log":"gate-0","index":0}',
    "list": b"[1,2]",
    "text": b"no json",
    "not utf-8": b"\xff\xfe",
    "huge index": b'{"log":"control","index":18446744073709551616}',
    "wrong types": b'{"log":{},"index":[],"start":"x","headers":5}',
    "negative": b'{"log":"control","index":-1,"start":-1,"headers":[],"beside":[]}',
    "empty range": b'{"log":"control","index":0,"start":0,"headers":[],"beside":[]}',
}


@pytest.mark.parametrize(
    "name", ["events.jsonl", "decisions.jsonl", "proofs.jsonl", "consistency.jsonl", "keys.json"]
)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_bytes_get_a_plain_answer(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, hostile: str
) -> None:
    (folder / name).write_bytes(HOSTILE[hostile] + b"\n")
    seal(folder)
    code, found = verdict(folder, capsys)
    assert code in (1, 2) and not found["verified"]


def test_an_endless_line_is_not_read_to_its_end(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline, "MAX_LINE", 10_000)
    (folder / "consistency.jsonl").write_bytes(b" " * 20_000)
    seal(folder)
    code, found = verdict(folder, capsys)
    assert code == 2 and "a line of over" in found["error"]


def test_nothing_of_the_folder_reaches_the_terminal_raw(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "\x1b[2Jverified").write_text("x")
    assert offline.main([str(folder)]) == 1
    assert "\x1b" not in capsys.readouterr().out


# checkpoints and keys


def test_a_stale_checkpoint_contradicts_the_recorded_heads(
    past: Past, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder from before, its control log of now: what came in between on gate-0 would be hidden."""
    old = past.cut(tmp_path / "old")
    note = (old / "checkpoints" / "gate-0.txt").read_bytes()
    past.bank.decide(LENDING, "gate-0", 5)
    new = past.cut(tmp_path / "new")
    assert (new / "checkpoints" / "gate-0.txt").read_bytes() != note
    (new / "checkpoints" / "gate-0.txt").write_bytes(note)
    both = [[line for line in lines(f / "proofs.jsonl") if line["log"] == "gate-0"] for f in (old, new)]
    rest = [line for line in lines(new / "proofs.jsonl") if line["log"] != "gate-0"]
    write_lines(new / "proofs.jsonl", [*rest, *both[0]])
    stale = [line for line in lines(old / "consistency.jsonl") if line["log"] == "gate-0"]
    grown = [line for line in lines(new / "consistency.jsonl") if line["log"] != "gate-0"]
    write_lines(new / "consistency.jsonl", [*grown, *stale])
    caught(new, capsys, "log gate-0: it is not the one of")


def test_a_control_log_cut_short_does_not_reach_the_period(
    past: Past, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An old control log, with all its proofs, around decisions of now: a suspension since would be hidden."""
    old = past.cut(tmp_path / "old")
    past.bank.decide(LENDING, "gate-0", 1)
    scope = past.period()
    new = past.cut(
        tmp_path / "new", scope.__class__("use-case", use_case=LENDING, since_ns=past.since, until_ns=2**62)
    )
    for name in ("events.jsonl", "checkpoints/control.txt"):
        shutil.copy(old / name, new / name)
    control = [line for line in lines(old / "proofs.jsonl") if line["log"] == "control"]
    rest = [line for line in lines(new / "proofs.jsonl") if line["log"] != "control"]
    write_lines(new / "proofs.jsonl", [*control, *rest])
    caught(new, capsys, "later than the last heads", "the period ends after the last heads")


def test_another_log_checkpoint_or_key_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(folder / "checkpoints" / "gate-1.txt", folder / "checkpoints" / "gate-0.txt")
    caught(folder, capsys, "checkpoint of log gate-0: it is not a checkpoint of acme.eu/gate-0")


def test_a_key_given_by_the_auditor_decides(
    folder: Path, past: Past, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    control = json.loads((folder / "keys.json").read_text())["logs"]["control"]
    code, found = verdict(folder, capsys, "--log-key", control)
    assert code == 0 and not any("taken from the folder" in note for note in found["notes"])
    impostor = EvidenceBank(tmp_path / "impostor")
    wrong = next(t for t in impostor.ledger.keys("control").texts if "+A" in t)
    impostor.ledger.close()
    code, found = verdict(folder, capsys, "--log-key", wrong)
    assert code == 1 and "not the one you gave" in found["problems"][0]
    name = control.replace("acme.eu/control", "acme.eu/gate-9")
    assert verdict(folder, capsys, "--log-key", name)[0] == 2  # the key hash is not of this name
    raw = base64.b64decode(control.split("+", 2)[2])
    key_hash = hashlib.sha256(b"acme.eu/gate-9\n" + raw).hexdigest()[:8]
    other = f"acme.eu/gate-9+{key_hash}+{control.split('+', 2)[2]}"
    code, found = verdict(folder, capsys, "--log-key", other)
    assert code == 1 and "holds no log of that name" in "\n".join(found["problems"])
    for junk in ("", "x", "a+b+c", "acme.eu/control+00000000+AAAA"):
        code, found = verdict(folder, capsys, "--log-key", junk)
        assert code == 2 and "is not a log key" in found["error"]


# somebody who holds the log keys, but not the parties'


class Insider:
    """Appends to the logs of a bank what the registry and the gate would never write."""

    def __init__(self, folder: Path) -> None:
        self.bank = EvidenceBank(folder)
        self.release = self.bank.live("1.0.0")

    def event(self, payload: dict[str, Any], **more: Any) -> None:
        with self.bank.ledger.control() as log:
            log.append(Entry(Kind.EVENT, canonical(payload), **more)).result()

    def statement(self, event: str, by: str, signer: str, **body: Any) -> dict[str, Any]:
        key = self.bank.keys[signer]
        said = self.bank.registry.statement(event, body, by=by, key_id=key.key_id)
        return sign_statement(said, key)

    def unapproved(self) -> str:
        """Proposed and checked by its author, and nothing more."""
        return self.bank.checked("9.0.0", 1.5)


@pytest.fixture
def insider(tmp_path: Path) -> Any:
    made = Insider(tmp_path / "insider")
    yield made
    made.bank.ledger.close()


def approvals(insider: Insider, digest: str) -> dict[str, dict[str, Any]]:
    state = insider.bank.registry.states().release(digest)
    about = {"release": digest, "use_case": LENDING, "checked": state.checks.index, "note": ""}  # type: ignore[union-attr]
    old = next(p for p in insider.bank.events() if p["event"] == "release.approved")
    by_author = insider.statement("release.approved", DEVELOPER, DEVELOPER, **about)
    other_key = insider.statement("release.approved", VALIDATOR, DEVELOPER, **about)
    stranger = {**insider.statement("release.approved", VALIDATOR, DEVELOPER, **about), "by": "nobody"}
    claimed = {**other_key, "key": insider.bank.keys[VALIDATOR].key_id}
    service = insider.statement("release.rejected", VALIDATOR, VALIDATOR, **{**about, "reason": "x"})
    return {
        "author approves": by_author,
        "author signs for the validator": other_key,
        "and claims the validator's key": claimed,
        "unknown party": stranger,
        "replayed statement": {**old, "release": digest, "checked": about["checked"]},
        "very same statement": dict(old),
        "signature of another event": {**service, "event": "release.approved"},
        "no signature": {k: v for k, v in by_author.items() if k != "signature"} | {"by": VALIDATOR},
    }


@pytest.mark.parametrize(
    "name",
    [
        "author approves",
        "author signs for the validator",
        "and claims the validator's key",
        "unknown party",
        "replayed statement",
        "very same statement",
        "signature of another event",
        "no signature",
    ],
)
def test_an_approval_forged_on_the_log_approves_nothing(
    insider: Insider, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    digest = insider.unapproved()
    insider.event(approvals(insider, digest)[name])
    insider.event(
        insider.statement("release.promoted", "otto", "otto", release=digest, use_case=LENDING, note="")
    )
    loaded = insider.bank.registry.examine(digest)
    use = insider.bank.registry.states().use(LENDING)
    raw = b'{"utilisation":0.2,"late_payments":1,"housing":"owner"}'
    v = Decider(loaded, use.use_case).evaluate(np.array([loaded.compiled.decode(raw)]))[0]
    record = DecisionRecord(
        version=1, outcome=v.outcome, use_case=LENDING, release=digest, subject="c", caller="x",
        features=msgspec.Raw(raw), score=v.score, margin=v.margin, baseline=v.baseline, reasons=v.reasons,
        explained=True, rules=use.digest,
    )  # fmt: skip
    found = insider.bank.ledger.shard("gate-0").append(insider.bank.entry(record)).result().id
    folder = tmp_path / "folder"
    cut(insider.bank.ledger, insider.bank.registry, Scope("decisions", decisions=(found,)), folder, by="olga")
    code, report = verdict(folder, capsys)
    text = "\n".join(report["problems"])
    assert code == 1
    assert (
        "never approved by an independent party" in text and "was not live for consumer-credit then" in text
    )
    assert any("does not hold and changes nothing" in note for note in report["notes"])


def test_the_erased_person_is_not_in_the_folder(past: Past, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert f'"{ERASED}"'.encode() not in path.read_bytes(), path
