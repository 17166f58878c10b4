"""All logs of one home: the control log of events, the shards of decisions, and what is asked of them.

Any process of a home may append events: the control log is opened under an exclusive lock, written, published
and let go. A shard belongs to one process while it is open. A shard announces itself in the control log
before its first record, and `heads` writes the heads of all logs there, so a shard that is dropped or cut
shows.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fiduciary.config import Settings
from fiduciary.errors import ConfigError, ConflictError, GoneError, IntegrityError, LedgerError, NotFoundError
from fiduciary.ledger import _erase
from fiduciary.ledger._checkpoint import Checkpoint
from fiduciary.ledger._epoch import Epoch
from fiduciary.ledger._erase import Erasure, Hold, Retention, Sweep
from fiduciary.ledger._files import Files
from fiduciary.ledger._index import Index, Row
from fiduciary.ledger._log import Common, Log
from fiduciary.ledger._merkle import Tree
from fiduciary.ledger._proof import Proof
from fiduciary.ledger._reader import Reader
from fiduciary.ledger._record import Entry, Header, Kind, Receipt, decode_header, open_salted, parse_id
from fiduciary.ledger._segment import NO_LOCATOR, PRUNED, TORN, Frame
from fiduciary.ledger._signing import LogKeys
from fiduciary.ledger._tiles import Tiles
from fiduciary.ledger._vault import Vault

if TYPE_CHECKING:
    from fiduciary.ledger._verify import Report

CONTROL = "control"
CONTROL_SEGMENT_BYTES = 8 << 20
CONTROL_WAIT_S = 10.0
_TOKEN_BYTES = 16
_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Record(msgspec.Struct, frozen=True):
    """One record as it can be read now.

    `payload` is the JSON as it was given, or none when `state` is "erased" (the subject's key is destroyed)
    or "pruned" (its retention ended). `subject` is the pseudonym while there is one.
    """

    log: str
    index: int
    header: Header
    header_bytes: bytes
    subject: bytes | None
    salt: bytes | None
    """With it, a disclosed payload can be checked against the header without any key."""
    payload: bytes | None
    state: str

    @property
    def id(self) -> str:
        return f"{self.log}.{self.index}"

    def json(self) -> dict[str, Any]:
        """The payload as an object; raises `GoneError` when it is gone."""
        if self.payload is None:
            raise GoneError(f"the content of record {self.id} is {self.state}")
        return _decode(self.payload)


class Hit(msgspec.Struct, frozen=True):
    """A line of a search: what the index knows of a record."""

    log: str
    index: int
    time_ns: int
    kind: int
    release: bytes
    use_case: str
    outcome: str

    @property
    def id(self) -> str:
        return f"{self.log}.{self.index}"


class Head(msgspec.Struct, frozen=True):
    """The published head of one log."""

    log: str
    origin: str
    size: int
    root: str
    """hex"""


@contextlib.contextmanager
def _disk_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LedgerError(f"{what}: {error.strerror or error}") from None


class Ledger:
    """The logs of `settings.home`. Safe to use from several threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        writable: bool = True,
        files: Files | None = None,
        clock: Callable[[], int] = time.time_ns,
        retention: Mapping[str, Retention] = _erase.STANDARD,
    ) -> None:
        self.settings = settings
        self.home = Path(settings.home)
        self.writable = writable
        self.files = files or Files()
        self._folder = self.home / "ledger"
        self._key_folder = self.home / "keys"
        if not (self._folder / CONTROL).is_dir():
            raise NotFoundError(f"there is no ledger in {self.home}")
        self.epoch = Epoch(self.home / "epoch")
        self.vault = Vault.open(
            self.home / "vault",
            self._key_folder / "vault.kek",
            self.files,
            self.epoch,
            writable=writable,
        )
        self.clock = clock
        self.retention = retention
        """Retention classes by name; a record of a class without a rule is neither erased nor swept."""
        self._common = Common(settings.ledger, self.files, self.vault, self.home / "vault", clock)
        self._control: Log | None = None
        self._control_lock = threading.RLock()
        self._control_depth = 0
        self._control_fd = os.open(
            self._folder / CONTROL / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        self._token = os.urandom(_TOKEN_BYTES)
        self._shards: dict[str, Log] = {}
        self._readers: dict[str, Reader] = {}
        self._indexes: dict[str, Index] = {}
        self._keys: dict[str, LogKeys] = {}
        self._trees: dict[str, tuple[bytes, Tree]] = {}
        self._lock = threading.RLock()

    # Making, opening, closing.

    @classmethod
    def create(cls, settings: Settings, **options: Any) -> Ledger:
        """Begin a ledger in a home that has none; raises `ConflictError` if there is one."""
        files = options.get("files") or Files()
        home = Path(settings.home)
        control = home / "ledger" / CONTROL
        if control.exists():
            raise ConflictError(f"there is already a ledger in {home}")
        with _disk_errors("the ledger cannot be created"):
            for folder in (home, home / "keys", home / "vault", home / "ledger"):
                files.ensure_directory(folder)
            vault = home / "vault"
            if not ((vault / "nodes").exists() and (home / "keys" / "vault.kek").exists()):
                files.destroy(home / "keys" / "vault.kek")  # of a creation that a crash interrupted
                Vault.create(vault, home / "keys" / "vault.kek", files)
            files.ensure_directory(control)
            ledger = cls(settings, **options)
            with ledger.control():
                pass
        return ledger

    @classmethod
    def open(cls, settings: Settings, *, writable: bool = True, **options: Any) -> Ledger:
        """Open the ledger of a home; `writable=False` changes nothing and can only read and verify.

        A writable opening finishes what a crash interrupted and applies every recorded erasure again, so a
        vault restored from a backup loses those keys before anything is read. Raises `NotFoundError`,
        `IntegrityError`.
        """
        with _disk_errors("the ledger cannot be opened"):
            ledger = cls(settings, writable=writable, **options)
            try:
                if writable:
                    with ledger.control():
                        pass  # what a crash left at its end is cut, tiles and checkpoint follow
                    _erase.apply_erasures(ledger)
            except BaseException:
                with contextlib.suppress(LedgerError):
                    ledger.close()
                raise
        return ledger

    def close(self) -> None:
        """Publish and release every log that is open here."""
        with self._lock:
            errors: list[Exception] = []
            for log in [*self._shards.values(), *([self._control] if self._control else [])]:
                try:
                    log.close()
                except LedgerError as error:
                    errors.append(error)
            self._shards.clear()
            self._control = None
            for reader in self._readers.values():
                reader.close()
            for index in self._indexes.values():
                index.close()
            self._readers.clear()
            self._indexes.clear()
            if self._control_fd >= 0:
                os.close(self._control_fd)
                self._control_fd = -1
            self.epoch.close()
            if errors:
                raise errors[0]

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def origin(self, name: str) -> str:
        """The origin string of a log, e.g. `acme.eu/gate-0`."""
        return f"{self.settings.tenant}.{self.settings.region}/{name}"

    def logs(self) -> list[str]:
        """Names of the logs that lie in this home."""
        return sorted(path.name for path in self._folder.iterdir() if path.is_dir())

    def folder(self, name: str) -> Path:
        """Where a log lies; raises `NotFoundError`."""
        path = self._folder / name
        if "/" in name or name.startswith(".") or not path.is_dir():
            raise NotFoundError(f"there is no log {name[:80]!r} in {self.home}")
        return path

    def keys(self, name: str) -> LogKeys:
        """The keys that sign a log's checkpoints; raises `ConfigError` when they are missing."""
        found = self._keys.get(name)
        if found is None:
            found = self._keys[name] = LogKeys.at(self._key_folder, name, self.origin(name))
        return found

    # Events.

    @contextlib.contextmanager
    def control(self) -> Iterator[Log]:
        """The control log, alone in the home for as long as the block lasts; may be nested in one thread.

        What was appended is published and the epoch bumped when the outermost block ends.
        Raises `LedgerError` when another process holds it for too long.
        """
        if not self.writable:
            raise ConflictError("this ledger was opened for reading only")
        with self._control_lock:
            if self._control_depth == 0:
                self._lock_control()
            self._control_depth += 1
            log = self._control
            assert log is not None
            before = log.published
            try:
                yield log
            finally:
                self._control_depth -= 1
                if self._control_depth == 0:
                    self._let_control_go(before)

    def _let_control_go(self, before: int) -> None:
        log = self._control  # perhaps another one than at the beginning: its index may have been rebuilt
        try:
            if log is not None and log.failure is None:
                log.publish()
            else:
                self._drop_control()
        finally:
            fcntl.flock(self._control_fd, fcntl.LOCK_UN)
            if log is None or log.size != before:
                self.epoch.bump()

    def _lock_control(self) -> None:
        deadline = time.monotonic() + CONTROL_WAIT_S
        while True:
            try:
                fcntl.flock(self._control_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LedgerError(
                        f"the control log is held by another process for more than {CONTROL_WAIT_S:.0f} s"
                    ) from None
                time.sleep(0.002)
        try:
            # The lock file names its last holder: if that was somebody else, what we remember is old.
            if self._control is None or os.pread(self._control_fd, _TOKEN_BYTES, 0) != self._token:
                self._drop_control()
                os.pwrite(self._control_fd, self._token, 0)
                self._control = self._open_control()
        except BaseException:
            fcntl.flock(self._control_fd, fcntl.LOCK_UN)
            raise

    def _open_control(self, *, fresh_index: bool = False) -> Log:
        return Log.open(
            self._folder / CONTROL,
            CONTROL,
            LogKeys.at(self._key_folder, CONTROL, self.origin(CONTROL), create=True),
            self._common,
            lock=False,
            segment_bytes=min(self.settings.ledger.segment_bytes, CONTROL_SEGMENT_BYTES),
            fresh_index=fresh_index,
        )

    def _drop_control(self) -> None:
        log, self._control = self._control, None
        if log is not None:
            log.abandon()

    def emit(
        self,
        event: str,
        body: dict[str, Any],
        *,
        subject: bytes | None = None,
        release: bytes = b"",
        use_case: str = "",
        retention: str = "standard",
    ) -> Receipt:
        """Record one event, durably; its payload is `{"event": event, **body}` with sorted keys."""
        payload = _encode({**body, "event": event})
        entry = Entry(
            Kind.EVENT, payload, subject=subject, release=release, use_case=use_case, retention=retention
        )
        with self.control() as log:
            return log.append(entry).result()

    def events(self, after: int = 0) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """The control log's payloads from record `after` on: `(index, time_ns, payload)`, in order.

        An event whose payload was erased or pruned is `{"event": "record.erased"}` or `"record.pruned"`.
        Every frame and commitment is checked. Raises `IntegrityError`.
        """
        frames = list(self._settled_frames(after))
        for frame in frames:
            record = self._record(CONTROL, frame)
            payload = (
                {"event": f"record.{record.state}"} if record.payload is None else _decode(record.payload)
            )
            yield frame.index, record.header.time_ns, payload

    def _settled_frames(self, after: int) -> Iterator[Frame]:
        """Frames of the control log, read while nobody is between write and sync."""
        reader = self.reader(CONTROL)
        if self._control_depth and self._control_lock.acquire(blocking=False):
            try:
                yield from reader.frames(after)
            finally:
                self._control_lock.release()
            return
        fd = os.open(self._folder / CONTROL / "lock", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            yield from reader.frames(after)
        finally:
            os.close(fd)

    # Shards.

    def shard(self, name: str, *, group_commit: bool = True) -> Log:
        """Open a log of decisions for writing; it is this process's until closed.

        Without `group_commit` there are no threads: each append writes and syncs where it is called, and
        `publish` is the caller's to call.

        The first time ever, its name, origin and public keys are announced as `shard.opened` before it
        exists. Raises `ConflictError` when another process holds it, `IntegrityError` when it does not hold.
        """
        if not self.writable:
            raise ConflictError("this ledger was opened for reading only")
        if (
            name == CONTROL
            or not 1 <= len(name) <= 64
            or not all(c.isascii() and (c.isalnum() or c == "-") for c in name)
        ):
            raise ConfigError(
                f"a shard's name is 1 to 64 letters, digits or hyphens and not 'control': {name[:80]!r}"
            )
        with self._lock:
            log = self._shards.get(name)
            if log is not None and log.failure is None and not log.closed:
                return log
            if log is not None:
                with contextlib.suppress(LedgerError):
                    log.close()
            keys = LogKeys.at(self._key_folder, name, self.origin(name), create=True)
            announced = any(
                event["event"] == "shard.opened" and event["log"] == name for _, _, event in self.events()
            )
            log = Log.open(self._folder / name, name, keys, self._common, begin=not announced)
            if not announced:
                try:
                    self.emit("shard.opened", {"log": name, "origin": keys.origin, "keys": keys.texts})
                except BaseException:
                    log.abandon()
                    raise
            if group_commit:
                log.start()
            self._shards[name] = log
            return log

    # Reading.

    def reader(self, name: str) -> Reader:
        """A reader of a log's frames, kept for the life of this object."""
        with self._lock:
            found = self._readers.get(name)
            if found is None:
                found = self._readers[name] = Reader(self.folder(name), self.origin(name), self.files)
            return found

    def index(self, name: str) -> Index | None:
        """A log's search index, for reading; none if it is not there or not usable yet."""
        with self._lock:
            held = self.open_index(name)
            if held is not None:
                return held
            found = self._indexes.get(name)
            if found is None:
                path = self.folder(name) / "index.sqlite"
                if not path.exists():
                    return None
                found = self._indexes[name] = Index(path, writable=False)
            return found

    def open_index(self, name: str) -> Index | None:
        """The index of a log that is open for writing here."""
        log = self._control if name == CONTROL and self._control_depth else self._shards.get(name)
        return log.index if log is not None and not log.closed else None

    def get(self, record_id: str) -> Record:
        """One record, its payload opened and checked against its header.

        Raises `NotFoundError`, or `IntegrityError` when the stored bytes are not what was recorded.
        """
        name, number = parse_id(record_id)
        frame = self._frame(name, number)
        if frame is None:
            raise NotFoundError(f"there is no record {record_id}")
        return self._record(name, frame)

    def _frame(self, name: str, number: int) -> Frame | None:
        reader = self.reader(name)
        index = self.index(name)
        row = index.find(number) if index is not None else None
        if row is not None:
            with contextlib.suppress(IntegrityError, NotFoundError):
                return reader.frame_at(row.segment, row.offset, number)
        return next(iter(reader.frames(number)), None)  # not indexed yet, or the index is wrong

    def _record(self, name: str, frame: Frame) -> Record:
        header = decode_header(frame.header)
        if header.index != frame.index:
            raise IntegrityError(f"the header of record {name}.{frame.index} is of another record")
        subject = frame.locator if frame.locator != NO_LOCATOR else None
        salt: bytes | None = None
        payload: bytes | None = None
        state = "readable"
        if frame.state == PRUNED:
            state = "pruned"
        elif header.sealed and frame.state == TORN:
            state, subject = "erased", None
        elif header.sealed:
            self.vault.follow()
            try:
                if subject is None:
                    raise GoneError("no locator")
                salt, payload = open_salted(header, frame.header, frame.body, self.vault.key(subject))
            except GoneError:
                state, subject = "erased", None
        else:
            salt, payload = open_salted(header, frame.header, frame.body, None)
        return Record(name, frame.index, header, frame.header, subject, salt, payload, state)

    def records(self, name: str, start: int = 0) -> Iterator[Record]:
        """All records of a log from `start` on, in order."""
        for frame in self.reader(name).frames(start):
            yield self._record(name, frame)

    def search(
        self,
        *,
        subject: str | None = None,
        release: bytes | None = None,
        use_case: str | None = None,
        outcome: str | None = None,
        kind: Kind | None = None,
        since: int | None = None,
        until: int | None = None,
        log: str | None = None,
        limit: int = 1_000,
    ) -> list[Hit]:
        """Records that meet every condition, newest first, over all logs (or one).

        `subject` is the subject's id as the gate was given it; `since` (included) and `until` (not included)
        are nanoseconds since 1970 UTC. What is not published yet (a fraction of a second) is not found.
        """
        subjects = self.vault.generations(subject) if subject is not None else None
        hits: list[Hit] = []
        for name in [log] if log is not None else self.logs():
            index = self.index(name)
            if index is None:
                continue
            rows: list[Row] = index.search(
                subjects=subjects,
                release=release,
                use_case=use_case,
                outcome=outcome,
                kind=kind,
                since_ns=since,
                until_ns=until,
                limit=limit,
            )
            hits += [Hit(name, r.index, r.time_ns, r.kind, r.release, r.use_case, r.outcome) for r in rows]
        hits.sort(key=lambda hit: (-hit.time_ns, hit.log, -hit.index))
        return hits[:limit]

    # Heads.

    def checkpoint(self, name: str) -> Checkpoint:
        """The believed head of a log; raises `NotFoundError` before the first, `IntegrityError` if forged."""
        return self.keys(name).open(Tiles(self.folder(name)).read_checkpoint())

    def heads(self) -> Receipt:
        """Record the heads of all logs as a `heads` event: a log dropped or cut later shows in `verify`."""
        heads = []
        for name in self.logs():
            if name == CONTROL:
                continue
            log = self._shards.get(name)
            if log is not None and not log.closed:
                log.publish()
            with contextlib.suppress(NotFoundError):
                at = self.checkpoint(name)
                heads.append(Head(name, at.origin, at.size, at.root.hex()))
        return self.emit("heads", {"heads": msgspec.to_builtins(heads)})

    def rebuild_index(self, name: str) -> int:
        """Make a log's index again from its segments; returns the records in it.

        Raises `ConflictError` while another process writes the log.
        """
        folder = self.folder(name)
        with self._lock:
            held = self._indexes.pop(name, None)
            if held is not None:
                held.close()
            if name == CONTROL:
                with self.control():
                    self._drop_control()
                    self._control = self._open_control(fresh_index=True)
                    return self._control.size
            shard = self._shards.pop(name, None)
            if shard is not None:
                shard.close()
            log = Log.open(folder, name, self.keys(name), self._common, fresh_index=True)
            size = log.size
            log.close()
            return size

    # Proofs and checks.

    def prove(self, record_id: str) -> Proof:
        """An offline proof that the record is under the log's newest checkpoint.

        Raises `NotFoundError`; `ConflictError` if the record is durable but not published yet (try again).
        """
        name, number = parse_id(record_id)
        tiles = Tiles(self.folder(name))
        shard = self._shards.get(name)
        if shard is not None and not shard.closed and shard.published <= number < shard.size:
            shard.publish()
        note = tiles.read_checkpoint()
        with self._lock:
            held = self._trees.get(name)
            if held is None or held[0] != note:
                checkpoint = self.keys(name).open(note)
                tree = Tree.resume(checkpoint.size, tiles.tile, tiles.tile)
                if tree.root() != checkpoint.root:
                    raise IntegrityError(f"the tiles of log {name} do not have the root of its checkpoint")
                held = self._trees[name] = (note, tree)
            tree = held[1]
            if number < tree.size:
                return Proof.of(tree, number, note, tree.size)
        if self._frame(name, number) is None:
            raise NotFoundError(f"there is no record {record_id}")
        raise ConflictError(f"record {record_id} is durable and not published yet; try again in a moment")

    def verify(self) -> Report:
        """Read and check every byte of every log; see `_verify.py` for what is compared with what."""
        from fiduciary.ledger._verify import verify

        return verify(self)

    # Destroying and keeping.

    def erase(self, subject_id: str, *, by: str, reason: str) -> Erasure:
        """Destroy a subject's key and with it all payloads about them; see `_erase.erase`."""
        with _disk_errors("the erasure is not finished; open the ledger again to finish it"):
            return _erase.erase(self, subject_id, by=by, reason=reason)

    def erase_point(self, point: str, *, by: str, reason: str) -> Erasure:
        """Carry out an erasure that was refused before, by the point that `pending_erasures` gives."""
        with _disk_errors("the erasure is not finished; open the ledger again to finish it"):
            return _erase.erase_point(self, int(point, 16), by=by, reason=reason)

    def pending_erasures(self) -> dict[str, list[str]]:
        """Erasures asked for, refused and not done since: point -> what keeps the records; nothing: it is due."""
        return _erase.pending(self)

    def hold(
        self,
        *,
        by: str,
        reason: str,
        subject_id: str | None = None,
        use_case: str | None = None,
        release: bytes | None = None,
        log: str | None = None,
    ) -> str:
        """Place a legal hold on exactly one of the scopes; returns its id."""
        return _erase.place_hold(
            self, by=by, reason=reason, subject_id=subject_id, use_case=use_case, release=release, log=log
        )

    def lift(self, hold_id: str, *, by: str, reason: str) -> Receipt:
        """End a hold; raises `NotFoundError` if it is not in force."""
        return _erase.lift_hold(self, hold_id, by=by, reason=reason)

    def holds(self) -> list[Hold]:
        """The holds in force, oldest first."""
        return _erase.holds(self)

    def sweep(self, *, by: str, now_ns: int | None = None) -> Sweep:
        """Destroy the bodies of records whose retention has ended; see `_erase.sweep`."""
        with _disk_errors("the sweep is not finished; do it again"):
            return _erase.sweep(self, by=by, now_ns=now_ns)

    def scrub(self) -> int:
        """After a restore: clean every frame and index row of what was erased or pruned; returns frames changed."""
        points = {int(event["point"], 16) for _, _, event in self.events() if event["event"] == _erase.ERASED}
        return _erase.clean(self, points)

    def export(
        self,
        path: Path,
        *,
        logs: list[str] | None = None,
        since: int | None = None,
        until: int | None = None,
        payloads: bool = True,
    ) -> int:
        """Write records to a Parquet file; see `_export.export`."""
        from fiduciary.ledger._export import export

        return export(self, Path(path), logs=logs, since=since, until=until, payloads=payloads)
