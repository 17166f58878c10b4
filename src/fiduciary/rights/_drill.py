"""Drills: the stop button pressed for real and timed; others (restore, kill switch) put on record by a person."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from fiduciary.errors import ConflictError, FiduciaryError, NotServableError, UsageError
from fiduciary.identity import PartyKey
from fiduciary.ledger import Receipt
from fiduciary.rights import _register as names
from fiduciary.rights._desk import Desk, _text

KINDS = ("restore", "kill_switch", "stop", "failover", "incident", "exit")
MAX_WAIT_S = 30.0
MAX_SECONDS = 30 * 86_400.0


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """What the drill measured. `seconds`: from pressing the button to the first refused answer."""

    release: str
    seconds: float
    answered: int
    """Answers that still came after the button was pressed."""
    resumed_seconds: float
    passed: bool
    receipt: Receipt


def record_drill(
    desk: Desk, kind: str, *, by: str, passed: bool, note: str, seconds: float | None = None, **more: Any
) -> Receipt:
    """Put a drill on record. Raises `UsageError`."""
    note = _text(note, "what was done", 2_000)
    if kind not in KINDS:
        raise UsageError(f"a drill is one of {', '.join(KINDS)}")
    if seconds is not None and not 0 <= seconds <= MAX_SECONDS:
        raise UsageError("a drill takes 0 seconds to 30 days")
    body: dict[str, Any] = {"by": by, "kind": kind, "passed": passed, "note": note, **more}
    if seconds is not None:
        body["seconds"] = seconds
    return desk.ledger.emit(names.DRILL, body)


def drill_stop(
    desk: Desk, release: str, ask: Callable[[], Any], *, by: str, key: PartyKey, limit_s: float = 1.0
) -> Stopped:
    """Suspend a live release, ask the running gate until it refuses, resume, and ask until it answers.

    `ask` puts one real question to the gate and raises `NotServableError` when refused for that. Passed: refused
    within `limit_s`. The release is resumed whatever happens. Raises `ConflictError` when it does not answer before.
    """
    state = desk.registry.states()
    found = state.releases.get(release)
    if found is None or state.live(found.use_case) != release:
        raise ConflictError("the release is not live: a stop drill presses the button of one that answers")
    ask()
    pressed = time.monotonic()
    desk.registry.suspend(release, by=by, key=key, reason="stop drill")
    try:
        seconds, answered = _until(ask, pressed, refused=True)
    finally:
        back = time.monotonic()
        desk.registry.resume(release, by=by, key=key, reason="stop drill ended")
    resumed, _ = _until(ask, back, refused=False)
    passed = seconds is not None and seconds <= limit_s and resumed is not None
    took = MAX_WAIT_S if seconds is None else seconds
    receipt = record_drill(
        desk,
        "stop",
        by=by,
        passed=passed,
        note="stop button pressed against a running gate",
        seconds=took,
        release=release,
        answered=answered,
    )
    return Stopped(
        release=release,
        seconds=took,
        answered=answered,
        resumed_seconds=MAX_WAIT_S if resumed is None else resumed,
        passed=passed,
        receipt=receipt,
    )


def _until(ask: Callable[[], Any], since: float, *, refused: bool) -> tuple[float | None, int]:
    answered = 0
    while time.monotonic() - since < MAX_WAIT_S:
        try:
            ask()
            answered += 1
            if not refused:
                return time.monotonic() - since, answered
        except NotServableError:
            if refused:
                return time.monotonic() - since, answered
            time.sleep(0.005)
        except FiduciaryError:
            if refused:
                raise
            time.sleep(0.005)
    return None, answered


__all__ = ["KINDS", "Stopped", "drill_stop", "record_drill"]
