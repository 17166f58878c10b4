"""Idempotency keys: the same request under the same key is decided once, and answered the same again.

The ledger is the truth: a decision's record holds its key and what it asked. `<home>/gate/idempotency.sqlite` is
an index over that, shared by the workers of a home: it holds a digest of caller and key, a digest of the request,
and the names of the records, nothing personal. A key is reserved before the question is decided and settled before
it is answered. After a crash the records that the index had not seen yet are read back from the ledger's tail when
a shard is opened, and reservations of that shard that came to nothing are freed; so the first answer is given again
after a restart, and no crash makes two decisions of one key (a batch that a crash cut in two is decided again as a
whole). The answer is made from the record; if its subject has been erased it is `gone`. Keys are remembered for a
day.

After the `Idempotency-Key` header of draft-ietf-httpapi-idempotency-key-header; tests/gate/test_idempotency.py.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fiduciary.decision import REFUSED, DecisionRecord, decode_record
from fiduciary.errors import FiduciaryError, GoneError, OverloadedError
from fiduciary.gate import _limits as limits
from fiduciary.ledger import Ledger, Receipt

if TYPE_CHECKING:
    from fiduciary.identity import Principal

_SCHEMA = """
create table if not exists keys (
    name blob primary key, request blob not null, shard text not null, since integer not null, records text
) without rowid;
create index if not exists keys_since on keys (since);
create table if not exists seen (shard text primary key, size integer not null) without rowid;
"""

BUSY_MS = 250
"""Longest wait for a sibling's write, milliseconds."""


class Found(msgspec.Struct, frozen=True):
    """What became of a reservation: ours now, or somebody's: another request, undecided, or decided."""

    reserved: bytes = b""
    other: bool = False
    records: list[str] = []


def name_of(caller: str, issuer: str, key: str) -> bytes:
    """Under which name a caller's key is kept."""
    return sha256(
        b"\0".join((b"fiduciary idempotency v1", issuer.encode(), caller.encode(), key.encode()))
    ).digest()


def tagged(key: str, request: bytes, issuer: str, row: int, rows: int) -> str:
    """What a record says of the key it was decided under: key, digest of the request, issuer, row of how many."""
    return msgspec.json.encode([key, request.hex(), issuer, row, rows]).decode()


class Idempotency:
    """The index of keys of a home, for the worker that writes `shard`."""

    def __init__(self, path: Path, shard: str, ledger: Ledger) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._shard = shard
        self._ledger = ledger
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=True, timeout=BUSY_MS / 1000)
        path.chmod(0o600)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute(
            "pragma synchronous=normal"
        )  # an index: what a power cut takes is read back from the ledger
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the index."""
        self._db.close()

    def reserve(self, principal: Principal, key: str, request: bytes) -> Found:
        """Take the key for this request, or say who has it. Raises `OverloadedError` when the index is busy."""
        name = name_of(principal.subject, principal.issuer, key)
        with self._busy():
            taken = self._db.execute(
                "insert into keys values (?, ?, ?, ?, null) on conflict do nothing",
                (name, request, self._shard, int(time.time())),
            ).rowcount
            if taken:
                return Found(reserved=name)
            row = self._db.execute("select request, records from keys where name = ?", (name,)).fetchone()
        if row is None:  # freed in between
            raise OverloadedError("the first request with this idempotency key has just failed; try again")
        if row[0] != request:
            return Found(other=True)
        return Found(records=row[1].split() if row[1] else [])

    def settle(self, name: bytes, receipts: Sequence[Receipt]) -> None:
        """The records that answer the key. A failure here is left for the next opening to repair."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute(
                "update keys set records = ? where name = ?", (" ".join(r.id for r in receipts), name)
            )

    def free(self, name: bytes) -> None:
        """The question was refused, so nothing was decided under the key."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("delete from keys where name = ? and records is null", (name,))

    def recall(self, records: Sequence[str]) -> tuple[list[DecisionRecord], list[Receipt]]:
        """The records of an answered key, from the ledger. Raises `GoneError` once a subject was erased."""
        found, receipts = [], []
        for record_id in records:
            record = self._ledger.get(record_id)
            if record.payload is None:
                raise GoneError("the answer to this idempotency key has been erased with its subject")
            found.append(decode_record(record.payload))
            receipts.append(Receipt(record.log, record.index, record.header.time_ns))
        return found, receipts

    def recover(self, size: int) -> None:
        """On opening the shard, which holds `size` records: index its tail, free what came to nothing."""
        row = self._db.execute("select size from seen where shard = ?", (self._shard,)).fetchone()
        oldest = time.time_ns() - limits.IDEMPOTENCY_S * 1_000_000_000
        parts: dict[bytes, tuple[bytes, list[str]]] = {}
        for record in self._ledger.records(self._shard, self._first(row[0] if row else 0, size, oldest)):
            if record.payload is None or record.header.time_ns < oldest:
                continue
            try:
                decision = decode_record(record.payload)
                if not decision.idempotency_key or decision.outcome == REFUSED:
                    continue
                key, request, issuer, at, rows = msgspec.json.decode(decision.idempotency_key)
            except (FiduciaryError, msgspec.DecodeError, ValueError):
                continue
            name = name_of(decision.caller, issuer, key)
            _, ids = parts.setdefault(name, (bytes.fromhex(request), [""] * rows))
            ids[at] = record.id
        with self._db:
            self._db.execute("begin immediate")
            now = int(time.time())
            for name, (request_digest, ids) in parts.items():
                if all(ids):
                    self._db.execute(
                        "insert into keys values (?, ?, ?, ?, ?) on conflict (name) "
                        "do update set records = excluded.records where records is null",
                        (name, request_digest, self._shard, now, " ".join(ids)),
                    )
            self._db.execute("delete from keys where shard = ? and records is null", (self._shard,))
            self._seen(size)

    def _first(self, low: int, high: int, oldest: int) -> int:
        """The first record from `low` on that is not older than `oldest`; times do not go back within a log."""
        while low < high:
            middle = (low + high) // 2
            if self._ledger.get(f"{self._shard}.{middle}").header.time_ns < oldest:
                low = middle + 1
            else:
                high = middle
        return low

    def mark(self, size: int) -> None:
        """All records below `size` have been settled; called now and then, so that recovery stays short."""
        with contextlib.suppress(sqlite3.Error):
            self._seen(size)
            self._db.execute("delete from keys where since < ?", (int(time.time()) - limits.IDEMPOTENCY_S,))

    def _seen(self, size: int) -> None:
        self._db.execute(
            "insert into seen values (?, ?) on conflict (shard) do update set size = excluded.size",
            (self._shard, size),
        )

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError:
            raise OverloadedError("the index of idempotency keys is busy; try again") from None
