"""Tokens that must not be believed again: revoked ones, and one-time ones that were used.

A bearer token is by its nature good for many calls; what ends it early is a revocation of its id, of all its
subject's tokens, or of its issuer's key. A token whose claims say `one_time` is good for one authentication.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fiduciary.errors import LimitError, UsageError
from fiduciary.identity._principal import Principal

SPENT_LIMIT = 1_000_000
"""Most one-time tokens remembered at once; past it, one-time tokens are refused."""


class Revocations:
    """Who and what was revoked, folded from `token.revoked` events.

    An event's body names `jti` (one token; with `issuer`, of that issuer only) or `subject` (all tokens of a
    subject issued up to `before`, Unix seconds; without `before`, every token). Give `refused` to
    `Authenticator`.
    """

    def __init__(self) -> None:
        self._tokens: set[tuple[str, str]] = set()
        self._subjects: dict[tuple[str, str], float] = {}

    def apply(self, body: Mapping[str, Any]) -> None:
        """Fold one event. Raises `UsageError` when it names neither a token nor a subject."""
        issuer, token, subject = body.get("issuer") or "", body.get("jti"), body.get("subject")
        before = body.get("before")
        if isinstance(token, str) and token:
            self._tokens.add((issuer, token))
        elif isinstance(subject, str) and subject:
            until = float("inf") if before is None else float(before)
            key = (issuer, subject)
            self._subjects[key] = max(until, self._subjects.get(key, 0.0))
        else:
            raise UsageError("a revocation names a token id (jti) or a subject")

    def refused(self, principal: Principal, token_id: str) -> bool:
        """Is this token revoked? A token without `iat` counts as issued before any revocation."""
        for issuer in ("", principal.issuer):
            if (issuer, token_id) in self._tokens:
                return True
            if principal.issued <= self._subjects.get((issuer, principal.subject), -1.0):
                return True
        return False

    def __len__(self) -> int:
        return len(self._tokens) + len(self._subjects)


BUSY_S = 2.0
"""Longest wait for another process that writes the file of spent tokens, seconds."""


class SpentTokens:
    """Used one-time tokens, in a small SQLite file that all processes of a home share.

    A token is spent durably before the call it authenticates goes on; entries are dropped after the token's
    end. Opened at the first one-time token, so a home that never sees one has no file. Without a path it
    remembers in memory, for one process.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self._path = ":memory:" if path is None else str(path)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def spend(self, issuer: str, token_id: str, until: float) -> bool:
        """True the first time, False when it was spent before. `until`: Unix seconds.

        Raises `LimitError` when too many are remembered or the file cannot be written: nothing is let in.
        """
        with self._lock:
            try:
                connection = self._open()
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.execute("DELETE FROM spent WHERE until < ?", (time.time() - 60,))
                    (count,) = connection.execute("SELECT count(*) FROM spent").fetchone()
                    if count >= SPENT_LIMIT:
                        raise LimitError(f"more than {SPENT_LIMIT} one-time tokens are in use")
                    done = connection.execute(
                        "INSERT OR IGNORE INTO spent VALUES (?, ?, ?)", (issuer, token_id, until)
                    )
                return done.rowcount == 1
            except sqlite3.Error:
                raise LimitError("one-time tokens are refused: their memory cannot be written") from None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._path != ":memory:":
                Path(self._path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                Path(self._path).touch(0o600)
            connection = sqlite3.connect(
                self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS spent (issuer TEXT, token TEXT, until REAL,"
                " PRIMARY KEY (issuer, token)) WITHOUT ROWID"
            )
            connection.execute("CREATE INDEX IF NOT EXISTS spent_until ON spent (until)")
            self._connection = connection
        return self._connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Turn write-ahead logging on. Where several open a new file at once SQLite says busy without waiting: wait here.

    Raises `sqlite3.Error` when it stays busy.
    """
    end = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
