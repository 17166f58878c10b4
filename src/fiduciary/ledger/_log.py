"""One log: entries in, receipts out once durable; the tree, its tiles, the index and the checkpoint follow.

The commit path of a group is: seal, encode, frame, one write, one `fdatasync`. Nothing else stands between an
entry and its receipt. Merkle tree, tiles, search index and signed checkpoint are made by `publish` from the
same records, a fraction of a second later; after a crash they are made again from the segments. A write or
sync that fails is never tried again (the kernel may have dropped the pages and report success the second
time: Rebello et al., ATC 2020). The log stops, everyone waiting gets a `LedgerError`, and only reopening,
which reads what is really there, starts it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fiduciary.config import LedgerSettings
from fiduciary.errors import (
    ConflictError,
    FiduciaryError,
    GoneError,
    IntegrityError,
    LedgerError,
    NotFoundError,
)
from fiduciary.ledger import _index
from fiduciary.ledger._checkpoint import Checkpoint
from fiduciary.ledger._files import Files
from fiduciary.ledger._index import Index, IndexRow
from fiduciary.ledger._merkle import TILE_WIDTH, Tree, leaf_hashes
from fiduciary.ledger._reader import Reader
from fiduciary.ledger._record import (
    RANDOM_BYTES,
    Entry,
    Header,
    Receipt,
    check_entry,
    decode_header,
    encode,
    open_body,
)
from fiduciary.ledger._segment import (
    ALIGNMENT,
    LIVE,
    NO_LOCATOR,
    Frame,
    Segment,
    encode_frame,
    frame_length,
    segment_paths,
)
from fiduciary.ledger._signing import LogKeys
from fiduciary.ledger._tiles import CHECKPOINT, Tiles
from fiduciary.ledger._vault import Vault, VaultLock, point_of

if TYPE_CHECKING:
    from fiduciary.ledger._writer import Writer

_CHUNK = 16_384
_SYNC_SEGMENTS = 2
LEASE_S = 0.05
"""How long a look at the disk's reserve holds, and how long an eraser may have to wait, seconds."""
"""A crash may lose tiles of the last segments; those of this many are always made again."""


class Common(msgspec.Struct):
    """What all logs of a home share."""

    settings: LedgerSettings
    files: Files
    vault: Vault
    vault_folder: Path
    clock: Callable[[], int] = time.time_ns


class _Word(msgspec.Struct, gc=False):
    outcome: str = ""
    event: str = ""


_word = msgspec.json.Decoder(_Word).decode


def word_of(payload: bytes) -> str:
    """The indexed word of a payload: its top-level `outcome`, else `event`, if that is a text."""
    try:
        found = _word(payload)
    except msgspec.DecodeError:
        return ""
    return (found.outcome or found.event)[:64]


class _Group(msgspec.Struct, gc=False):
    """Durable records on their way into tree, tiles and index."""

    segment: int
    first: int
    version: int
    """The vault's version they were sealed under."""
    headers: list[bytes]
    entries: list[Entry]
    times: list[int]
    offsets: list[int]


class _RootDiffersError(Exception):
    """The tree built on old tiles does not have the checkpoint's root."""


class Log:
    """An append-only log in `folder`, held by this object alone. Opened by `Ledger`."""

    def __init__(self, folder: Path, name: str, keys: LogKeys, common: Common) -> None:
        self.folder = folder
        self.name = name
        self.origin = keys.origin
        self._keys = keys
        self._common = common
        self._files = common.files
        self._lock_fd = -1
        self._segment: Segment | None = None
        self._segment_bytes = common.settings.segment_bytes
        self._size = 0
        self._last_time = 0
        self._failure: LedgerError | None = None
        self._tiles = Tiles(folder)
        self._tree = Tree(self._tiles.tile)
        self._edge: list[bytes] = []  # headers of the bundle at the right edge
        self._resumed = False
        self._published = 0
        self._groups: deque[_Group] = deque()
        self._index: Index | None = None
        self._commit_lock = threading.Lock()
        self._publish_lock = threading.Lock()
        self._commit_vault = VaultLock(common.vault_folder)
        self._lease_end = 0.0
        self._publish_vault = VaultLock(common.vault_folder)
        self._writer: Writer | None = None

    # Opening.

    @classmethod
    def open(
        cls,
        folder: Path,
        name: str,
        keys: LogKeys,
        common: Common,
        *,
        lock: bool = True,
        segment_bytes: int | None = None,
        fresh_index: bool = False,
        begin: bool = True,
    ) -> Log:
        """Open or begin a log, recovering from whatever a crash left.

        With `begin=False` the log must be there already. A torn group at the end, which nobody was told about,
        is cut. Raises `ConflictError` if another process holds the log, `IntegrityError` if durable records
        are damaged or missing.
        """
        log = cls(folder, name, keys, common)
        log._segment_bytes = segment_bytes or common.settings.segment_bytes
        try:
            common.files.ensure_directory(folder / "segments")
            if lock:
                log._take_lock()
            if fresh_index:
                _index.remove(folder / "index.sqlite")
            log._recover(begin)
        except OSError as error:
            log._release()
            raise LedgerError(f"log {name} cannot be opened: {error.strerror or error}") from None
        except BaseException:
            log._release()
            raise
        return log

    def _take_lock(self) -> None:
        self._lock_fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"log {self.name} is open in another process; one writer per log") from None

    def _recover(self, begin: bool) -> None:
        folder = self.folder / "segments"
        for leftover in folder.glob(".*.tmp"):
            self._files.unlink(leftover)
        paths = segment_paths(folder)
        published = self._believed_checkpoint()
        if not paths:
            if not begin:
                raise IntegrityError(f"log {self.name} was announced, but its segments are not there")
            if published is not None and published.size:
                raise IntegrityError(
                    f"log {self.name} has no segments, but its checkpoint says {published.size} records"
                )
            self._segment = Segment.create(self._files, folder, self.origin, 0, self._segment_bytes)
            self._index = self._open_index()
            self._index.cut(0)
            self._write_checkpoint()
            return
        firsts = [int(path.stem) for path in paths]
        if firsts[0] != 0:
            raise IntegrityError(f"the first segment of log {self.name} starts at record {firsts[0]}, not 0")
        self._index = self._open_index()
        start = 0
        if published is not None and published.size:
            holding = max(k for k, first in enumerate(firsts) if first < published.size)
            start = max(0, holding - _SYNC_SEGMENTS + 1)
            while start and firsts[start] > self._index.size:
                start -= 1
        try:
            self._replay(paths[start:], firsts[start:], published)
        except (NotFoundError, _RootDiffersError):
            # Tiles below the resumed segments were lost or changed: the segments have the last word.
            self._replay(paths, firsts, published)
        segment = self._segment
        assert segment is not None
        segment.clear_tail()
        self._index.cut(self._size)
        if published is None or published.size != self._size:
            self._write_checkpoint()

    def _believed_checkpoint(self) -> Checkpoint | None:
        try:
            note = self._tiles.read_checkpoint()
        except NotFoundError:
            return None
        return self._keys.open(note)

    def _open_index(self) -> Index:
        path = self.folder / "index.sqlite"
        try:
            return Index(path, writable=True)
        except IntegrityError:
            _index.remove(path)
            return Index(path, writable=True)

    def _replay(self, paths: list[Path], firsts: list[int], published: Checkpoint | None) -> None:
        """Read these segments into tree, tiles and index, and check the tree against the checkpoint."""
        assert self._index is not None
        self._close_segment()
        tiles = self._tiles
        self._resumed = firsts[0] > 0
        if self._resumed:
            self._tree = Tree.resume(firsts[0], tiles.tile, tiles.tile)
            rest = firsts[0] % TILE_WIDTH
            self._edge = tiles.entries(firsts[0] // TILE_WIDTH, rest) if rest else []
        else:
            self._tree, self._edge = Tree(tiles.tile), []
        self._size, self._last_time = firsts[0], 0
        indexed = self._index.size
        headers: list[bytes] = []
        rows: list[IndexRow] = []
        for k, path in enumerate(paths):
            last = k + 1 == len(paths)
            segment = self._segment = Segment.open(self._files, path, self.origin, writable=last)
            for frame in segment.recover():
                header = decode_header(frame.header)
                if header.index != frame.index or header.time_ns < self._last_time:
                    raise IntegrityError(
                        f"record {frame.index} of log {self.name} does not follow its predecessor"
                    )
                self._last_time = header.time_ns
                self._size = frame.index + 1
                headers.append(frame.header)
                if frame.index >= indexed:
                    rows.append(index_row(frame, header, segment.first, self._common.vault))
                if len(headers) >= _CHUNK:
                    self._absorb(headers, rows, published)
                    headers, rows = [], []
            if not last and self._size != firsts[k + 1]:
                raise IntegrityError(
                    f"segment {path.name} of log {self.name} ends at record {self._size}, but the next one "
                    f"starts at {firsts[k + 1]}"
                )
            if not last:
                self._close_segment()
        if published is not None and self._size < published.size:
            raise IntegrityError(
                f"log {self.name} holds {self._size} records, but a checkpoint was published over "
                f"{published.size}: records were rolled back or damaged"
            )
        self._absorb(headers, rows, published)

    def _absorb(
        self, headers: list[bytes], rows: list[IndexRow], published: Checkpoint | None = None
    ) -> None:
        """Take durable records into tree, tiles and index; check the tree against a checkpoint it reaches."""
        assert self._index is not None
        tree, old = self._tree, self._tree.size
        tree.append_many(leaf_hashes(headers))
        reached = published is not None and old < published.size <= tree.size
        if published is not None and reached and tree.root(published.size) != published.root:
            if self._resumed:
                raise _RootDiffersError
            raise IntegrityError(
                f"the records of log {self.name} do not have the root of its checkpoint over "
                f"{published.size} records: something was changed"
            )
        if headers:
            start = old - len(self._edge)
            known = self._edge + headers
            self._tiles.publish(tree, old, tree.size, lambda first, end: known[first - start : end - start])
            rest = tree.size % TILE_WIDTH
            self._edge = known[len(known) - rest :] if rest else []
            tree.forget(tree.size)
        if rows:
            self._index.add(rows)

    # State.

    @property
    def size(self) -> int:
        """Durable records."""
        return self._size

    @property
    def published(self) -> int:
        """Records under the newest checkpoint."""
        return self._published

    @property
    def failure(self) -> LedgerError | None:
        """Why the log takes nothing more, if so."""
        return self._failure

    @property
    def index(self) -> Index:
        assert self._index is not None
        return self._index

    def reader(self) -> Reader:
        """A reader of this log's segments."""
        return Reader(self.folder, self.origin, self._files)

    # Appending.

    def start(self) -> Log:
        """Begin group commit: a writer thread and a publisher thread take over."""
        from fiduciary.ledger._writer import Writer

        if self._writer is None:
            self._writer = Writer(self, self._common.settings)
        return self

    @property
    def writer(self) -> Writer:
        """The running group commit; starts it if need be."""
        if self._writer is None:
            self.start()
        assert self._writer is not None
        return self._writer

    def append(self, entry: Entry) -> Future[Receipt]:
        """Record an entry. The future has the receipt once the entry is durable, or the error.

        With group commit running this returns at once; without, it writes and syncs here.
        """
        if self._writer is not None:
            return self._writer.append(entry)
        future: Future[Receipt] = Future()
        try:
            check_entry(entry, self._common.settings.max_payload_bytes)
            result = self.commit([entry])[0]
        except FiduciaryError as error:
            result = error
        if isinstance(result, FiduciaryError):
            future.set_exception(result)
        else:
            future.set_result(result)
        return future

    def commit(self, entries: Sequence[Entry], *, keep_lease: bool = False) -> list[Receipt | FiduciaryError]:
        """Seal, write and sync one group; one receipt, or the entry's own error, for each entry.

        `keep_lease`: more groups may follow closely; `rest` must be called when they do not.

        The entries have passed `check_entry`; together they fit in a segment. Raises `LedgerError` if the
        group was not recorded as a whole.
        """
        with self._commit_lock:
            if self._failure is not None:
                raise self._failure
            if self._segment is None:
                raise LedgerError(f"log {self.name} is closed")
            try:
                self._take_lease()
            except OSError as error:
                raise LedgerError(f"log {self.name} cannot be written: {error.strerror}") from None
            try:
                results = self._commit(entries)
            except BaseException:  # whoever failed may never come to rest
                self._end_lease()
                raise
            if not keep_lease:
                self._end_lease()
            return results

    def _take_lease(self) -> None:
        """Look at the disk's reserve and keep erasures out, for this group and those that follow closely.

        Each costs system calls, and under load every call is a handing over of the interpreter lock; so what
        was found holds for `LEASE_S`. An eraser waits that long at most.
        """
        at = time.monotonic()
        if self._lease_end > at:
            return
        self._end_lease()
        free = self._files.free_bytes(self.folder)
        if free < self._common.settings.disk_reserve_bytes:
            raise LedgerError(
                f"log {self.name} takes nothing more: {free} bytes of disk are free, the reserve is "
                f"{self._common.settings.disk_reserve_bytes}"
            )
        self._commit_vault.share()
        self._lease_end = at + LEASE_S

    def _end_lease(self) -> None:
        if self._lease_end:
            self._lease_end = 0.0
            self._commit_vault.release()

    def rest(self) -> None:
        """Nothing has come for a while: let erasures in."""
        with self._commit_lock:
            self._end_lease()

    def _commit(self, entries: Sequence[Entry]) -> list[Receipt | FiduciaryError]:
        vault, clock, name = self._common.vault, self._common.clock, self.name
        vault.follow()
        version = vault.version
        first = index = self._size
        now = self._last_time
        results: list[Receipt | FiduciaryError] = []
        group = _Group(0, first, version, [], [], [], [])
        bodies: list[bytes] = []
        total = 0
        random = os.urandom(RANDOM_BYTES * len(entries))
        for k, entry in enumerate(entries):
            try:
                key = vault.key(entry.subject) if entry.subject is not None else None
            except FiduciaryError as error:
                results.append(error)
                continue
            now = max(now, clock())
            header, body = encode(entry, index, now, key, random[k * RANDOM_BYTES : (k + 1) * RANDOM_BYTES])
            group.headers.append(header)
            group.entries.append(entry)
            group.times.append(now)
            bodies.append(body)
            total += frame_length(len(header), len(body))
            results.append(Receipt(name, index, now))
            index += 1
        if index == first:
            return results
        segment = self._with_room(total, first)
        offset = segment.tail
        frames = []
        seed = segment.seed
        for k, header in enumerate(group.headers):
            locator = group.entries[k].subject or NO_LOCATOR
            frame = encode_frame(seed, first + k, first, header, bodies[k], locator)
            group.offsets.append(offset)
            offset += len(frame)
            frames.append(frame)
        try:
            segment.write_group(b"".join(frames), len(frames))
        except OSError as error:
            raise self._fail(f"writing failed ({error.strerror})") from None
        group.segment = segment.first
        self._size = index
        self._last_time = now
        self._groups.append(group)
        return results

    def _with_room(self, total: int, first: int) -> Segment:
        """The segment that takes the next `total` bytes: the present one, or a new one."""
        segment = self._segment
        assert segment is not None
        if total <= segment.room:
            return segment
        size = max(self._segment_bytes, total + ALIGNMENT)
        try:
            following = Segment.create(self._files, self.folder / "segments", self.origin, first, size)
        except OSError as error:
            raise LedgerError(f"log {self.name} cannot begin a new segment: {error.strerror}") from None
        self._segment = following
        segment.close()
        return following

    def fill_ahead(self) -> None:
        """Prepare the blocks that the next groups overwrite. Failing to is no harm."""
        with self._commit_lock, contextlib.suppress(OSError):
            if self._segment is not None and self._failure is None:
                self._segment.fill_ahead()

    @property
    def append_timeout_s(self) -> float:
        return self._common.settings.append_timeout_s

    def stop_with(self, what: str) -> None:
        """Take nothing more, for this reason."""
        self._fail(what)

    def _fail(self, what: str) -> LedgerError:
        if self._failure is None:
            self._failure = LedgerError(
                f"log {self.name} stopped: {what}; nothing more is recorded until it is opened again"
            )
        return self._failure

    # Publishing.

    def publish(self) -> None:
        """Bring tree, tiles, index and signed checkpoint up to the durable records.

        Raises `LedgerError`; the log then takes nothing more, for a log that cannot be proved must not grow.
        """
        with self._publish_lock:
            groups: list[_Group] = []
            while self._groups:
                groups.append(self._groups.popleft())
            if not groups and self._published == self._tree.size:
                return
            try:
                headers = [header for group in groups for header in group.headers]
                self._publish_vault.share()
                try:
                    vault = self._common.vault
                    vault.follow()
                    self._absorb(headers, _index_rows(groups, vault))
                finally:
                    self._publish_vault.release()
                self._write_checkpoint()
            except (OSError, LedgerError) as error:
                raise self._fail(f"publishing failed ({error})") from None

    def _write_checkpoint(self) -> None:
        note = self._keys.sign(self._tree.size, self._tree.root(), self._common.clock())
        self._files.replace(self.folder / CHECKPOINT, note)
        self._published = self._tree.size

    # Closing.

    def close(self) -> None:
        """Write what is queued, publish, release the log. A log that failed is only released."""
        if self._writer is not None:
            self._writer.stop()
        try:
            if self._failure is None and self._segment is not None:
                self.publish()
        finally:
            self._release()

    def abandon(self) -> None:
        """Release the log as it is; what is not published yet is made again from the segments."""
        self._release()

    @property
    def closed(self) -> bool:
        return self._index is None

    def _close_segment(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _release(self) -> None:
        with self._commit_lock, self._publish_lock:
            self._close_segment()
            if self._index is not None:
                self._index.close()
                self._index = None
            self._end_lease()
            self._commit_vault.close()
            self._publish_vault.close()
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
                self._lock_fd = -1


def _index_rows(groups: list[_Group], vault: Vault) -> list[IndexRow]:
    rows: list[IndexRow] = []
    for group in groups:
        stale = group.version != vault.version
        index, segment = group.first, group.segment
        for entry, time_ns, offset in zip(group.entries, group.times, group.offsets, strict=True):
            subject, word = entry.subject, word_of(entry.payload)
            if stale and subject is not None and vault.erased(point_of(subject)):
                subject, word = None, ""
            rows.append(
                (index, time_ns, entry.kind, subject, entry.release, entry.use_case, word, segment, offset)
            )
            index += 1
    return rows


def index_row(frame: Frame, header: Header, segment: int, vault: Vault) -> IndexRow:
    """The index row of a stored record, its word read from the payload where that can still be opened."""
    subject: bytes | None = None
    word = ""
    if frame.state == LIVE:
        if not header.sealed:
            word = word_of(open_body(header, frame.header, frame.body, None))
        elif frame.locator != NO_LOCATOR:
            with contextlib.suppress(GoneError):
                word = word_of(open_body(header, frame.header, frame.body, vault.key(frame.locator)))
                subject = frame.locator
    return (
        frame.index, header.time_ns, header.kind, subject, header.release, header.use_case, word, segment,
        frame.offset )  # fmt: skip
