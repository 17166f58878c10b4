"""Erasure on request, legal holds, and the end of retention.

Three rules, in order of strength: a hold keeps, a minimum retention keeps, then a request or an ended retention
destroys. A refusal is an event too. Each destruction is written down before it is done: an event that is there
without its deed is done again at the next opening, a deed without its event cannot be. No event holds a
pseudonym; an erased subject is named by its *point*, eight bytes of a hash of the pseudonym, which with the vault
and the subject's id can be recognised again and without them leads nowhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from fiduciary.errors import ConflictError, NotFoundError, UsageError
from fiduciary.ledger._index import Index
from fiduciary.ledger._record import Header, Receipt, decode_header
from fiduciary.ledger._segment import LIVE, NO_LOCATOR, PRUNED, SUFFIX, TORN, Frame, Segment
from fiduciary.ledger._vault import VaultLock, point_of

if TYPE_CHECKING:
    from fiduciary.ledger._ledger import Ledger

ERASED = "subject.erased"
CONTROL = "control"
COMPLETED = "erasure.completed"
REFUSED = "erasure.refused"
PLACED = "hold.placed"
LIFTED = "hold.lifted"
SWEPT = "retention.swept"
DAY_NS = 86_400 * 10**9
_BATCH = 10_000


class Retention(msgspec.Struct, frozen=True):
    """How long records of a class must and may be kept, days. `maximum_days` none: for ever; below the minimum, the
    minimum counts."""

    minimum_days: int = 0
    maximum_days: int | None = None


STANDARD: Mapping[str, Retention] = {"standard": Retention()}


class Hold(msgspec.Struct, frozen=True):
    """A legal hold in force. `id` is the record id of its event; `scope` is one of subject, use_case, release,
    log; `value` names what is held (a subject by its point)."""

    id: str
    scope: str
    value: str
    by: str
    reason: str


class Erasure(msgspec.Struct, frozen=True):
    """What an erasure did: its event, and the records whose content is gone, by log."""

    receipt: Receipt
    records: dict[str, int]


class Sweep(msgspec.Struct, frozen=True):
    """What a retention sweep did: records pruned by log, and records that only a hold kept."""

    pruned: dict[str, int]
    held: int


# Holds.


def place_hold(
    ledger: Ledger,
    *,
    by: str,
    reason: str,
    subject_id: str | None = None,
    use_case: str | None = None,
    release: bytes | None = None,
    log: str | None = None,
) -> str:
    """Keep what matches, whatever is asked or has ended, until lifted; returns the hold's id.

    Exactly one of the four scopes is given.
    """
    scopes = {
        "subject": None if subject_id is None else f"{point_of(ledger.vault.pseudonym(subject_id)):016x}",
        "use_case": use_case,
        "release": None if release is None else release.hex(),
        "log": log,
    }
    given = [(scope, value) for scope, value in scopes.items() if value]
    if len(given) != 1:
        raise UsageError("a hold names exactly one of subject, use case, release and log")
    scope, value = given[0]
    return ledger.emit(PLACED, {"by": by, "reason": reason, "scope": scope, "value": value}).id


def lift_hold(ledger: Ledger, hold_id: str, *, by: str, reason: str) -> Receipt:
    """End a hold; raises `NotFoundError` if it is not in force."""
    with ledger.control():
        if all(hold.id != hold_id for hold in holds(ledger)):
            raise NotFoundError(f"no hold {hold_id[:80]!r} is in force")
        return ledger.emit(LIFTED, {"by": by, "reason": reason, "hold": hold_id})


def holds(ledger: Ledger) -> list[Hold]:
    """The holds in force, oldest first."""
    found: dict[str, Hold] = {}
    for index, _, event in ledger.events():
        if event["event"] == PLACED:
            name = f"control.{index}"
            found[name] = Hold(name, event["scope"], event["value"], event["by"], event["reason"])
        elif event["event"] == LIFTED:
            found.pop(event["hold"], None)
    return list(found.values())


class _Keepers:
    """Everything that keeps a record from being destroyed."""

    def __init__(self, ledger: Ledger) -> None:
        self._by_scope: dict[tuple[str, str], str] = {(h.scope, h.value): h.id for h in holds(ledger)}

    def hold_on(self, log: str, header: Header, locator: bytes) -> str | None:
        """The id of a hold that covers the record."""
        if not self._by_scope:
            return None
        for scope, value in (
            ("log", log),
            ("use_case", header.use_case),
            ("release", header.release.hex()),
            ("subject", f"{point_of(locator):016x}" if locator != NO_LOCATOR else ""),
        ):
            found = self._by_scope.get((scope, value))
            if found is not None:
                return found
        return None

    def hold_on_point(self, point: int) -> str | None:
        return self._by_scope.get(("subject", f"{point:016x}"))


# Erasure.


def erase(ledger: Ledger, subject_id: str, *, by: str, reason: str) -> Erasure:
    """Destroy the subject's key, and with it every payload about them, in this home and in its backups.

    Raises `ConflictError`, after recording the refusal, while a hold or a minimum retention covers any record
    of the subject; `NotFoundError` if no record is about them.
    """
    return _erase(ledger, ledger.vault.pseudonym(subject_id), by, reason)


def erase_point(ledger: Ledger, point: int, *, by: str, reason: str) -> Erasure:
    """Erase the subject at a point, whose id is not known: a request that was refused before. Raises as `erase`."""
    for pseudonym in _pseudonyms_at(ledger, {point}).values():
        return _erase(ledger, pseudonym, by, reason)
    raise NotFoundError("no record is about this subject")


def pending(ledger: Ledger) -> dict[str, list[str]]:
    """Erasures that were asked for and refused, and not done since: point -> what still keeps the records.

    Nothing left that keeps them: the erasure is due. A subject without a record left is not listed.
    """
    asked: dict[int, None] = {}
    for _, _, event in ledger.events():
        if event["event"] == REFUSED:
            asked[int(event["point"], 16)] = None
        elif event["event"] == ERASED:
            asked.pop(int(event["point"], 16), None)
    if not asked:
        return {}
    found: dict[str, list[str]] = {}
    pseudonyms = _pseudonyms_at(ledger, set(asked))
    for point in asked:
        if point in pseudonyms:
            indexed = {log: _indexed(ledger, log) for log in ledger.logs()}
            places = list(_records_of(ledger, pseudonyms[point], indexed))
            found[f"{point:016x}"] = _obstacles(ledger, places, point)
    return found


def _pseudonyms_at(ledger: Ledger, points: set[int]) -> dict[int, bytes]:
    """The pseudonyms at points that records still carry."""
    found: dict[int, bytes] = {}
    for log in ledger.logs():
        for frame in ledger.reader(log).frames():
            if frame.locator != NO_LOCATOR and (point := point_of(frame.locator)) in points:
                found[point] = frame.locator
    return found


def _erase(ledger: Ledger, pseudonym: bytes, by: str, reason: str) -> Erasure:
    point = point_of(pseudonym)
    with ledger.control():
        indexed = {log: _indexed(ledger, log) for log in ledger.logs()}
        places = list(_records_of(ledger, pseudonym, indexed))
        if not places:
            raise NotFoundError("no record is about this subject")
        obstacles = _obstacles(ledger, places, point)
        if obstacles:
            ledger.emit(REFUSED, {"by": by, "reason": reason, "point": f"{point:016x}", "because": obstacles})
            raise ConflictError("the subject cannot be erased now: " + "; ".join(obstacles))
        counts: dict[str, int] = {}
        for log, _ in places:
            counts[log] = counts.get(log, 0) + 1
        receipt = ledger.emit(
            ERASED, {"by": by, "reason": reason, "point": f"{point:016x}", "records": counts}
        )
    ledger.epoch.bump()
    puncture(ledger, [point])
    # What was sealed since we looked is past the end that the index had then. The index itself is no help any
    # more: a publisher that comes after the puncture leaves the subject out of its rows.
    marked = {(log, frame.index): frame for log, frame in places}
    for log in ledger.logs():
        for frame in ledger.reader(log).frames(indexed.get(log, 0)):
            if frame.locator == pseudonym:
                marked[log, frame.index] = frame
    by_log: dict[str, list[Frame]] = {log: [] for log in ledger.logs()}
    for (log, _), frame in marked.items():
        by_log[log].append(frame)
    for log, frames in by_log.items():
        _clean_log(ledger, log, frames, [pseudonym])
    ledger.emit(COMPLETED, {"of": receipt.id})
    return Erasure(receipt, counts)


def _indexed(ledger: Ledger, log: str) -> int:
    """How many records a log's index covers."""
    index = ledger.index(log)
    return index.size if index is not None else 0


def _records_of(ledger: Ledger, pseudonym: bytes, indexed: dict[str, int]) -> Iterator[tuple[str, Frame]]:
    """Every frame that carries the pseudonym: by the index, and past the end it had by reading."""
    for log, known in indexed.items():
        reader = ledger.reader(log)
        index = ledger.index(log)
        if index is not None:
            for row in index.search(subjects=[pseudonym], limit=1 << 62):
                yield log, reader.frame_at(row.segment, row.offset, row.index)
        for frame in reader.frames(known):
            if frame.locator == pseudonym:
                yield log, frame


def _obstacles(ledger: Ledger, places: list[tuple[str, Frame]], point: int) -> list[str]:
    keepers = _Keepers(ledger)
    now = ledger.clock()
    found: set[str] = set()
    for log, frame in places:
        header = decode_header(frame.header)
        hold = keepers.hold_on(log, header, frame.locator)
        if hold is not None:
            found.add(f"hold {hold} is in force")
        rule = ledger.retention.get(header.retention)
        if rule is None:
            found.add(f"retention class {header.retention!r} has no rule")
        elif rule.minimum_days and now - header.time_ns < rule.minimum_days * DAY_NS:
            found.add(f"class {header.retention!r} must be kept {rule.minimum_days} days")
    hold = keepers.hold_on_point(point)
    if hold is not None:
        found.add(f"hold {hold} is in force")
    return sorted(found)


def puncture(ledger: Ledger, points: list[int]) -> int:
    """Destroy the keys at these points while nobody in the home seals anything; returns how many were there."""
    lock = VaultLock(ledger.home / "vault")
    try:
        lock.own()
        ledger.vault.reload()
        fresh = ledger.vault.erase(*points)
    finally:
        lock.close()
    ledger.epoch.bump()
    return fresh


def apply_erasures(ledger: Ledger) -> int:
    """Do again what events say was erased and is not, or not completely; returns the keys that had come back."""
    points: set[int] = set()
    unfinished: dict[str, int] = {}
    for index, _, event in ledger.events():
        if event["event"] == ERASED:
            point = int(event["point"], 16)
            points.add(point)
            unfinished[f"control.{index}"] = point
        elif event["event"] == COMPLETED:
            unfinished.pop(event["of"], None)
    back = [point for point in points if not ledger.vault.erased(point)]
    if back:
        puncture(ledger, back)
    if back or unfinished:
        clean(ledger, points)
        for receipt in unfinished:
            ledger.emit(COMPLETED, {"of": receipt})
    return len(back)


def clean(ledger: Ledger, points: set[int]) -> int:
    """Zero the locators of erased subjects and drop them from the indexes; returns the frames changed.

    Every frame of every log is looked at, and bodies that a sweep should have destroyed are destroyed as well.
    """
    changed = 0
    for log in ledger.logs():
        marked, seen = [], set()
        for frame in ledger.reader(log).frames():
            if frame.locator != NO_LOCATOR and point_of(frame.locator) in points:
                marked.append(frame)
                seen.add(frame.locator)
            elif frame.state == TORN or (frame.state == PRUNED and any(frame.body)):
                marked.append(frame)
        with _writable_index(ledger, log) as index:
            seen.update(s for s in index.subjects() if point_of(s) in points)
        _clean_log(ledger, log, marked, list(seen))
        changed += len(marked)
    return changed


def _clean_log(ledger: Ledger, log: str, frames: list[Frame], pseudonyms: list[bytes]) -> None:
    with _writable_index(ledger, log) as index:
        _rewrite(ledger, log, frames)
        index.forget_subjects(pseudonyms)


def _rewrite(ledger: Ledger, log: str, frames: list[Frame], *, prune: bool = False) -> None:
    """Zero the locators of frames, and with `prune` their bodies; durable when it returns."""
    firsts = ledger.reader(log).firsts()
    by_segment: dict[int, list[Frame]] = {}
    for frame in frames:
        first = max(number for number in firsts if number <= frame.index)
        by_segment.setdefault(first, []).append(frame)
    for first, own in by_segment.items():
        path = ledger.folder(log) / "segments" / f"{first:020d}{SUFFIX}"
        segment = Segment.open(ledger.files, path, ledger.origin(log), writable=True)
        try:
            own = [frame if frame.state != TORN else _mended(frame) for frame in own]
            for frame in own:
                segment.set_mutable(frame, NO_LOCATOR, PRUNED if prune else frame.state)
            ledger.files.fdatasync(segment.fd)
            gone = [frame for frame in own if prune or frame.state == PRUNED]
            for frame in gone:
                segment.zero_body(frame)
            if gone:
                ledger.files.fdatasync(segment.fd)
        finally:
            segment.close()


def _mended(frame: Frame) -> Frame:
    """A torn frame as it was to become: pruned if its body is gone, else without a locator."""
    return msgspec.structs.replace(frame, state=LIVE if any(frame.body) else PRUNED)


@contextlib.contextmanager
def _writable_index(ledger: Ledger, log: str) -> Iterator[Index]:
    """The index of a log for changes: the open one, or one opened beside another process's."""
    held = ledger.open_index(log)
    if held is not None:
        yield held
        return
    index = Index(ledger.folder(log) / "index.sqlite", writable=True)
    try:
        yield index
    finally:
        index.close()


# The end of retention.


def sweep(ledger: Ledger, *, by: str, now_ns: int | None = None) -> Sweep:
    """Destroy the bodies of records past their class's maximum, except what a hold keeps.

    Of the control log only records about a subject are swept: the present state is folded from the others.

    Headers stay, so every proof stays valid; `verify` accepts a pruned record only under such an event.
    """
    now = ledger.clock() if now_ns is None else now_ns
    before = {
        name: now - max(rule.maximum_days, rule.minimum_days) * DAY_NS
        for name, rule in ledger.retention.items()
        if rule.maximum_days is not None
    }
    pruned: dict[str, int] = {}
    held = 0
    with ledger.control():
        keepers = _Keepers(ledger)
        for log in ledger.logs():
            due: list[Frame] = []
            last = max(before.values(), default=0)
            for frame in ledger.reader(log).frames():
                header = decode_header(frame.header)
                if header.time_ns >= last:
                    break
                if header.time_ns >= before.get(header.retention, 0):
                    continue
                if log == CONTROL and not header.sealed:
                    continue  # states of releases, holds, erasures are folded from these: they stay
                if frame.state == PRUNED and not any(frame.body):
                    continue
                if keepers.hold_on(log, header, frame.locator) is not None:
                    held += 1
                    continue
                due.append(msgspec.structs.replace(frame, body=bytes(len(frame.body))))
            if not due:
                continue
            body: dict[str, Any] = {"by": by, "log": log, "before": before, "records": len(due)}
            ledger.emit(SWEPT, body)
            _rewrite(ledger, log, due, prune=True)
            with _writable_index(ledger, log) as index:
                index.forget_rows([frame.index for frame in due])
            pruned[log] = len(due)
    return Sweep(pruned, held)
