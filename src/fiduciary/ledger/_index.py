"""The search index of one log: SQLite beside the segments, never the truth, rebuilt from them at will.

Because a log's time never goes backwards, record numbers are in order of time and a time range is a range of
row ids: no index on time is needed. Names (release digests, use cases, outcomes) are kept once and referred
to by number. `secure_delete` is on, so that an erased pseudonym is overwritten and not merely unlinked.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from fiduciary.errors import IntegrityError, LedgerError

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS names (id INTEGER PRIMARY KEY, value BLOB NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS entries (
    idx INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, kind INTEGER NOT NULL, subject BLOB,
    release INTEGER NOT NULL, use_case INTEGER NOT NULL, outcome INTEGER NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_subject ON entries (subject) WHERE subject IS NOT NULL;
CREATE INDEX IF NOT EXISTS by_release ON entries (release) WHERE release != 0;
CREATE INDEX IF NOT EXISTS by_use_case ON entries (use_case, outcome) WHERE use_case != 0;
"""
_INSERT = "INSERT INTO entries VALUES (?,?,?,?,?,?,?,?,?)"
_NO_LIMIT = (1 << 63) - 1


IndexRow = tuple[int, int, int, bytes | None, bytes, str, str, int, int]
"""index, time_ns, kind, subject, release, use_case, outcome, segment, offset"""


class Row(msgspec.Struct, frozen=True, gc=False):
    """What the index knows of one record. `segment` is its segment's first index, `offset` the byte in it."""

    index: int
    time_ns: int
    kind: int
    subject: bytes | None
    release: bytes
    use_case: str
    outcome: str
    segment: int
    offset: int


class Index:
    """One log's index file. Safe to use from several threads of a process; one process writes."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._names: dict[bytes, int] = {b"": 0}
        self._texts: dict[int, bytes] = {0: b""}
        try:
            if writable:
                self._db = sqlite3.connect(path, timeout=5.0, check_same_thread=False, isolation_level=None)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._db.execute("PRAGMA secure_delete=ON")
                self._db.execute("PRAGMA wal_autocheckpoint=2000")
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                if version not in (0, SCHEMA_VERSION):
                    raise sqlite3.DatabaseError("another schema version")
                self._db.executescript(_SCHEMA)
                self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            else:
                self._db = sqlite3.connect(
                    f"file:{_quoted(path)}?mode=ro",
                    uri=True,
                    timeout=5.0,
                    check_same_thread=False,
                    isolation_level=None,
                )
                self._db.execute("SELECT 1 FROM entries LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise IntegrityError(f"the index {path} cannot be used ({error}); rebuild it") from None

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @property
    def size(self) -> int:
        """Records indexed: rows 0 .. size-1 are there."""
        with self._lock:
            top = self._db.execute("SELECT max(idx) FROM entries").fetchone()[0]
        return 0 if top is None else int(top) + 1

    def add(self, rows: Iterable[IndexRow]) -> None:
        """Insert rows, all or none, in one transaction. Raises `LedgerError`."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                names = self._names
                ready = []
                for index, time_ns, kind, subject, release, use_case, outcome, segment, offset in rows:
                    use = use_case.encode()
                    out = outcome.encode()
                    ready.append(
                        (
                            index,
                            time_ns,
                            kind,
                            subject,
                            names[release] if release in names else self._name(release),
                            names[use] if use in names else self._name(use),
                            names[out] if out in names else self._name(out),
                            segment,
                            offset,
                        )
                    )
                self._db.executemany(_INSERT, ready)
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._names, self._texts = {b"": 0}, {0: b""}
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise LedgerError(f"the index {self.path} could not be written: {error}") from None

    def _name(self, value: bytes) -> int:
        row = self._db.execute("SELECT id FROM names WHERE value = ?", (value,)).fetchone()
        if row is None:
            row = (self._db.execute("INSERT INTO names (value) VALUES (?)", (value,)).lastrowid,)
        if len(self._names) > 10_000:
            self._names.clear()
            self._names[b""] = 0
        self._names[value] = int(row[0])
        return int(row[0])

    def _text(self, number: int) -> bytes:
        found = self._texts.get(number)
        if found is None:
            row = self._db.execute("SELECT value FROM names WHERE id = ?", (number,)).fetchone()
            found = bytes(row[0]) if row else b""
            if len(self._texts) > 10_000:
                self._texts.clear()
            self._texts[number] = found
        return found

    def find(self, index: int) -> Row | None:
        """The row of one record."""
        found = self._select("WHERE idx = ?", (index,), "")
        return found[0] if found else None

    def last(self) -> Row | None:
        """The row of the newest indexed record."""
        found = self._select("", (), "ORDER BY idx DESC LIMIT 1")
        return found[0] if found else None

    def search(
        self,
        *,
        subjects: list[bytes] | None = None,
        release: bytes | None = None,
        use_case: str | None = None,
        outcome: str | None = None,
        kind: int | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
        limit: int = 1_000,
    ) -> list[Row]:
        """Newest first, at most `limit` rows that meet every condition given."""
        with self._lock:
            conditions: list[str] = []
            values: list[object] = []
            if subjects is not None:
                conditions.append(f"subject IN ({','.join('?' * len(subjects))})")
                values.extend(subjects)
            texts = (
                ("release", release),
                ("use_case", use_case.encode() if use_case is not None else None),
                ("outcome", outcome.encode() if outcome is not None else None),
            )
            for column, value in texts:
                if value is not None:
                    row = self._db.execute("SELECT id FROM names WHERE value = ?", (value,)).fetchone()
                    if row is None:
                        return []
                    conditions.append(f"{column} = ?")
                    values.append(row[0])
            if kind is not None:
                conditions.append("kind = ?")
                values.append(kind)
            if since_ns is not None:
                conditions.append("idx >= ?")
                values.append(self.first_at(since_ns))
            if until_ns is not None:
                conditions.append("idx < ?")
                values.append(self.first_at(until_ns))
            where = "WHERE " + " AND ".join(conditions) if conditions else ""
            values.append(limit)
            return self._select(where, values, "ORDER BY idx DESC LIMIT ?")

    def first_at(self, time_ns: int) -> int:
        """The number of the first record at or after a time (the size if there is none): binary search."""
        with self._lock:
            low, high = 0, self.size
            while low < high:
                middle = (low + high) // 2
                row = self._db.execute("SELECT time_ns FROM entries WHERE idx = ?", (middle,)).fetchone()
                if row is None:
                    raise IntegrityError(f"the index {self.path} has a hole at record {middle}; rebuild it")
                if row[0] < time_ns:
                    low = middle + 1
                else:
                    high = middle
            return low

    def _select(self, where: str, values: Iterable[object], order: str) -> list[Row]:
        statement = (
            "SELECT idx, time_ns, kind, subject, release, use_case, outcome, segment, offset "  # noqa: S608
            f"FROM entries {where} {order}"
        )
        with self._lock:
            try:
                rows = self._db.execute(statement, tuple(values)).fetchall()
                return [
                    Row(
                        i,
                        t,
                        k,
                        s,
                        self._text(r),
                        self._text(u).decode(),
                        self._text(o).decode(),
                        g,
                        f,
                    )
                    for i, t, k, s, r, u, o, g, f in rows
                ]
            except sqlite3.Error as error:
                raise IntegrityError(f"the index {self.path} cannot be read ({error}); rebuild it") from None

    def forget_subjects(self, subjects: list[bytes]) -> int:
        """Remove pseudonyms and outcomes of erased subjects, overwriting them; returns rows changed."""
        changed = 0
        with self._lock:
            try:
                for subject in subjects:
                    changed += self._db.execute(
                        "UPDATE entries SET subject = NULL, outcome = 0 WHERE subject = ?", (subject,)
                    ).rowcount
                self.flush()
            except sqlite3.Error as error:
                raise LedgerError(f"the index {self.path} could not be written: {error}") from None
        return changed

    def forget_rows(self, indexes: list[int]) -> None:
        """Remove pseudonyms and outcomes of pruned records, overwriting them."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(
                    "UPDATE entries SET subject = NULL, outcome = 0 WHERE idx = ?", [(i,) for i in indexes]
                )
                self._db.execute("COMMIT")
                self.flush()
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise LedgerError(f"the index {self.path} could not be written: {error}") from None

    def flush(self) -> None:
        """Move the write-ahead log into the file and empty it, so that no old page stays behind."""
        with self._lock:
            for _ in range(50):
                if self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0:
                    return
            raise LedgerError(f"the write-ahead log of {self.path} is held by a reader; try again")

    def cut(self, size: int) -> None:
        """Drop rows of records that the segments do not have."""
        with self._lock:
            self._db.execute("DELETE FROM entries WHERE idx >= ?", (size,))

    def subjects(self) -> list[bytes]:
        """Every pseudonym in the index."""
        with self._lock:
            return [
                bytes(row[0])
                for row in self._db.execute("SELECT DISTINCT subject FROM entries WHERE subject IS NOT NULL")
            ]


def remove(path: Path) -> None:
    """Delete an index with its side files."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
