"""Erasure, holds and retention."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fiduciary.ledger._ledger import Ledger

ERASED_EVENT = "subject.erased"


def apply_erasures(ledger: Ledger) -> int:
    """Destroy again every key that an event says was destroyed; returns how many had come back."""
    points = [
        int(event["point"], 16) for _, _, event in ledger.events() if event.get("event") == ERASED_EVENT
    ]
    points = [point for point in points if not ledger.vault.erased(point)]
    return ledger.vault.erase(*points) if points else 0
