"""A small home: short segments, so that a few hundred records rotate, and quick publishing."""

from __future__ import annotations

import json
from pathlib import Path

from fiduciary.config import LedgerSettings, Settings
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
