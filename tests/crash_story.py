"""One ledger's life, told step by step, and what must be true of it after a crash at any point."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fiduciary.config import Settings
from fiduciary.errors import GoneError
from fiduciary.ledger import Entry, Ledger, Receipt
from fiduciary.ledger._files import Files
from fiduciary.ledger._record import check_entry
from ledger_home import decision, small_settings

SEGMENT = 16 * 1024
SUBJECTS = ("anna", "bert", "cleo")
Tell = Callable[..., None]


def story_settings(home: Path) -> Settings:
    return small_settings(home, segment_bytes=SEGMENT, max_payload_bytes=4 * 1024, disk_reserve_bytes=0)


def live(home: Path, files: Files, tell: Tell, steps: int = 60, seed: int = 1) -> None:
    """Create a ledger and use it: groups, events, publishing, rotation, an erasure, reopening.

    `tell(kind, ...)` is called with what a client was told, at the moment it was told.
    """
    dice = random.Random(seed)
    clock = iter(range(10**18, 10**18 + 10**6))
    settings = story_settings(home)
    ledger = Ledger.create(settings, files=files, clock=lambda: next(clock) - dice.choice((0, 0, 50)))
    number = 0
    try:
        for step in range(steps):
            log = ledger.shard("gate-0", group_commit=False)
            entries: list[Entry] = []
            about: list[tuple[str, int]] = []
            for _ in range(dice.randint(1, 5)):
                subject = dice.choice(SUBJECTS)
                entry = decision(ledger, subject, number, rules=bytes(32))
                padding = b'"' + b"x" * dice.choice((0, 10, 700)) + b'"'
                entries.append(
                    Entry(entry.kind, entry.payload[:-1] + b', "p": ' + padding + b"}", subject=entry.subject)
                )
                about.append((subject, number))
                number += 1
            for entry in entries:
                check_entry(entry, settings.ledger.max_payload_bytes)
            receipts = log.commit(entries)
            for receipt, entry, (subject, _) in zip(receipts, entries, about, strict=True):
                assert isinstance(receipt, Receipt)
                tell("recorded", receipt.id, entry.payload, subject)
            if step % 3 == 1:
                log.publish()
                tell("published", log.published)
            if step % 7 == 3:
                receipt = ledger.emit("note", {"step": step})
                tell("recorded", receipt.id, ledger.get(receipt.id).payload, "")
            if step == steps // 2:
                tell("erasing", "anna")
                ledger.erase("anna", by="dpo", reason="request")
                tell("erased", "anna")
            if step == 2 * steps // 3:
                ledger.close()
                ledger = Ledger.open(settings, files=files, clock=lambda: next(clock))
    finally:
        ledger.close()


def check(home: Path, told: list[tuple[Any, ...]], *, go_on: bool = True) -> None:
    """Open what a crash left, without a hand: everything that was told holds, and work goes on."""
    settings = story_settings(home)
    control = (home / "ledger" / "control").is_dir()
    if not control:
        assert not told
        Ledger.create(settings).close()
        return
    with Ledger.open(settings) as ledger:
        if any(kind == "recorded" and what[0].startswith("gate-0") for kind, *what in told):
            assert "gate-0" in ledger.logs()
        if "gate-0" in ledger.logs():
            ledger.shard("gate-0", group_commit=False)
        hold_true(ledger, told)
        report = ledger.verify()
        assert report.ok, report.every_problem()
        if go_on:
            log = ledger.shard("gate-0", group_commit=False)
            receipt = log.append(decision(ledger, "dora", 1)).result()
            assert receipt.index == log.size - 1
            log.publish()
            assert ledger.get(receipt.id).state == "readable"


def hold_true(ledger: Ledger, told: list[tuple[Any, ...]]) -> None:
    """Check every statement that was made to a client."""
    erasing = {what[0] for kind, *what in told if kind == "erasing"}
    erased_at = next((k for k, (kind, *_) in enumerate(told) if kind == "erased"), None)
    erasing_at = next((k for k, (kind, *_) in enumerate(told) if kind == "erasing"), len(told))
    records: dict[str, Any] = {}
    for name in ledger.logs():
        for record in ledger.records(name):
            records[record.id] = record
    for k, (kind, *what) in enumerate(told):
        if kind == "published":
            assert ledger.checkpoint("gate-0").size >= what[0]
        if kind != "recorded":
            continue
        record_id, payload, subject = what
        record = records.get(record_id)
        assert record is not None, f"{record_id} was acknowledged and is lost"
        if subject in erasing and k < erasing_at:
            assert record.payload in (payload, None)
            if erased_at is not None:
                assert record.state == "erased"
                try:
                    record.json()
                except GoneError:
                    continue
                raise AssertionError("an erased record was read")
        else:
            assert record.payload == payload, f"{record_id} is not what was acknowledged"


def fresh(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path
