"""A small home: short segments, so that a few hundred records rotate, and quick publishing."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from fiduciary.config import LedgerSettings, Settings
from fiduciary.errors import GoneError
from fiduciary.ledger import Entry, Kind, Ledger

RELEASE = bytes(range(32))


def small_settings(home: Path, **ledger: object) -> Settings:
    values: dict[str, object] = {
        "segment_bytes": 128 * 1024,
        "max_payload_bytes": 16 * 1024,
        "publish_interval_s": 0.02,
        "disk_reserve_bytes": 1 << 20,
        "append_timeout_s": 10.0,
        **ledger,
    }
    return Settings(home=home, tenant="acme", ledger=LedgerSettings(**values))  # type: ignore[arg-type]


def decision(ledger: Ledger, subject: str, number: int = 0, **more: object) -> Entry:
    """A decision about `subject` whose payload says so in plain words."""
    payload = json.dumps(
        {"outcome": "approve" if number % 3 else "decline", "number": number, "name": f"Person {subject}"}
    ).encode()
    values: dict[str, object] = {"release": RELEASE, "use_case": "credit-line", **more}
    return Entry(Kind.DECISION, payload, subject=ledger.vault.pseudonym(subject), **values)  # type: ignore[arg-type]


def emit_events(settings: Settings, name: str, count: int) -> None:
    """A process that writes events (here, so that a fresh process can import it)."""
    with Ledger.open(settings) as ledger:
        for k in range(count):
            ledger.emit("from", {"process": name, "number": k})


def write_about_anna(settings: Settings, ready: object, stop: object) -> None:
    """A process that decides about anna until it is told to stop."""
    with Ledger.open(settings) as ledger:
        log = ledger.shard("gate-7")
        k = 0
        while not stop.is_set():  # type: ignore[attr-defined]
            with contextlib.suppress(GoneError):  # the pseudonym was taken just before the erasure
                log.append(decision(ledger, "anna", k)).result(5)
            k += 1
            if k == 20:
                ready.set()  # type: ignore[attr-defined]
