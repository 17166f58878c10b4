"""Is everything there, unchanged, and in agreement? Reads every byte of a home's ledger and believes none.

Segments against their own checks; headers against bodies; the tree over the headers against the signed
checkpoint, the head that a witness cosigned, and every head that was recorded in the control log; tiles,
bundles and the search index against the segments; erased and pruned records against the events that allow
them. What a home cannot show by itself, that it was put back to an earlier state as a whole, takes a witness.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from fiduciary.errors import FiduciaryError, GoneError, NotFoundError
from fiduciary.ledger._erase import ERASED, SWEPT
from fiduciary.ledger._merkle import TILE_WIDTH, Tree, leaf_hashes
from fiduciary.ledger._record import Header, decode_header, open_body
from fiduciary.ledger._segment import NO_LOCATOR, PRUNED, TORN, Frame
from fiduciary.ledger._tiles import Tiles
from fiduciary.ledger._vault import point_of
from fiduciary.ledger._witness_home import read_cosigned

if TYPE_CHECKING:
    from fiduciary.ledger._ledger import Ledger

_PROBLEM_LIMIT = 100
_CHUNK = 64 * TILE_WIDTH


class LogReport(msgspec.Struct):
    """What was found in one log. `published` records are under its signed checkpoint."""

    log: str
    records: int = 0
    published: int = 0
    decisions: int = 0
    events: int = 0
    readable: int = 0
    erased: int = 0
    pruned: int = 0
    root: str = ""
    problems: list[str] = []


class Report(msgspec.Struct):
    """The result of `Ledger.verify`."""

    logs: list[LogReport]
    problems: list[str]

    @property
    def ok(self) -> bool:
        return not self.every_problem()

    def every_problem(self) -> list[str]:
        return [*self.problems, *(f"{log.log}: {problem}" for log in self.logs for problem in log.problems)]


class _Expectations:
    """What the control log says about the others."""

    def __init__(self) -> None:
        self.keys: dict[str, list[str]] = {}
        self.heads: dict[str, dict[int, str]] = {}
        self.sweeps: dict[str, dict[str, int]] = {}
        self.points: set[int] = set()

    def take(self, event: dict[str, Any]) -> None:
        name = event.get("event")
        if name == "shard.opened":
            self.keys[event["log"]] = event["keys"]
        elif name == "heads":
            for head in event["heads"]:
                self.heads.setdefault(head["log"], {})[head["size"]] = head["root"]
        elif name == SWEPT:
            before = self.sweeps.setdefault(event["log"], {})
            for retention, time_ns in event["before"].items():
                before[retention] = max(before.get(retention, 0), time_ns)
        elif name == ERASED:
            self.points.add(int(event["point"], 16))


def verify(ledger: Ledger) -> Report:
    """Check all logs of a home; problems are listed, not raised."""
    problems: list[str] = []
    expected = _Expectations()
    try:
        for _, _, event in ledger.events():
            expected.take(event)
    except FiduciaryError as error:
        problems.append(f"the control log cannot be read: {error}")
    names = ledger.logs()
    for name in names:
        if name != "control" and name not in expected.keys and any(ledger.reader(name).frames()):
            problems.append(f"log {name} was never announced by a shard.opened event")
    for name in expected.keys:
        if name not in names:
            problems.append(f"log {name} was announced and is not there")
    for name, heads in expected.heads.items():
        if name not in names and name not in expected.keys:
            problems.append(f"log {name} had {max(heads)} records by a recorded head and is not there")
    for point in sorted(expected.points):
        if not ledger.vault.erased(point):
            problems.append(f"the key of erased point {point:016x} exists again; open the ledger for writing")
    return Report([_verify_log(ledger, name, expected) for name in names], problems)


def _verify_log(ledger: Ledger, name: str, expected: _Expectations) -> LogReport:
    report = LogReport(name)
    try:
        _Check(ledger, name, expected, report).run()
    except FiduciaryError as error:
        report.problems.append(str(error))
    return report


class _Check:
    def __init__(self, ledger: Ledger, name: str, expected: _Expectations, report: LogReport) -> None:
        self.ledger = ledger
        self.name = name
        self.expected = expected
        self.report = report
        self.tiles = Tiles(ledger.folder(name))
        self.tree = Tree(self.tiles.tile)
        self.last_time = 0
        self.roots = {size: bytes.fromhex(root) for size, root in expected.heads.get(name, {}).items()}

    def problem(self, text: str) -> None:
        if len(self.report.problems) < _PROBLEM_LIMIT:
            self.report.problems.append(text)

    def run(self) -> None:
        ledger, report = self.ledger, self.report
        announced = self.expected.keys.get(self.name)
        if announced is not None and announced != ledger.keys(self.name).texts:
            self.problem("its keys are not the ones that were announced")
        published = 0
        try:
            checkpoint = ledger.checkpoint(self.name)
            published = report.published = checkpoint.size
            if self.roots.setdefault(checkpoint.size, checkpoint.root) != checkpoint.root:
                self.problem(f"its checkpoint and a recorded head differ over {checkpoint.size} records")
        except NotFoundError:
            self.problem("it has no checkpoint")
        if (note := read_cosigned(ledger.folder(self.name))) is not None:
            cosigned = ledger.keys(self.name).open(note)
            if self.roots.setdefault(cosigned.size, cosigned.root) != cosigned.root:
                self.problem(f"its head over {cosigned.size} records is not the one that a witness cosigned")
        headers: list[bytes] = []
        for frame in self._frames():
            headers.append(frame.header)
            if len(headers) == _CHUNK:
                self._absorb(headers, published)
                headers = []
        self._absorb(headers, published)
        report.records = self.tree.size
        report.root = self.tree.root().hex()
        missing = max(self.roots, default=0)
        if missing > self.tree.size:
            self.problem(f"it holds {self.tree.size} records, but {missing} were published: some are missing")
        for size in sorted(self.roots):
            if size <= self.tree.size and self.tree.root(size) != self.roots[size]:
                self.problem(f"its records do not have the root that was published over {size} records")

    def _frames(self) -> Iterator[Frame]:
        ledger, report = self.ledger, self.report
        index = ledger.index(self.name)
        indexed = index.size if index is not None else 0
        if indexed < report.published:
            self.problem(f"its index has {indexed} of {report.published} published records; rebuild it")
        segment_first = 0
        firsts = ledger.reader(self.name).firsts()
        for frame in ledger.reader(self.name).frames():
            while firsts and firsts[0] <= frame.index:
                segment_first = firsts.pop(0)
            header = decode_header(frame.header)
            if header.index != frame.index:
                self.problem(f"record {frame.index} carries the header of record {header.index}")
            if header.time_ns < self.last_time:
                self.problem(f"the time of record {frame.index} is before its predecessor's")
            self.last_time = header.time_ns
            if header.kind:
                report.events += 1
            else:
                report.decisions += 1
            self._content(frame, header)
            if index is not None and frame.index < indexed:
                row = index.find(frame.index)
                if row is None or (row.segment, row.offset, row.time_ns, row.release, row.use_case) != (
                    segment_first,
                    frame.offset,
                    header.time_ns,
                    header.release,
                    header.use_case,
                ):
                    self.problem(f"its index is wrong about record {frame.index}; rebuild it")
                elif row.subject is not None and row.subject != frame.locator:
                    self.problem(f"its index names another subject for record {frame.index}; rebuild it")
            yield frame

    def _content(self, frame: Frame, header: Header) -> None:
        report = self.report
        if frame.state == TORN:
            self.problem(f"the locator of record {frame.index} is torn; scrub the ledger")
        if frame.state == PRUNED:
            report.pruned += 1
            limit = self.expected.sweeps.get(self.name, {}).get(header.retention, 0)
            if header.time_ns >= limit:
                self.problem(f"record {frame.index} was pruned without a sweep that covers it")
            if any(frame.body):
                self.problem(f"record {frame.index} was pruned and its body is still there; scrub the ledger")
            return
        key = None
        if header.sealed:
            vault = self.ledger.vault
            try:
                if frame.locator == NO_LOCATOR:
                    raise GoneError("no locator")
                key = vault.key(frame.locator)
            except GoneError:
                report.erased += 1
                if not self.expected.points:
                    self.problem(f"record {frame.index} was erased without an event")
                elif frame.locator != NO_LOCATOR and point_of(frame.locator) in self.expected.points:
                    self.problem(f"record {frame.index} still names an erased subject; scrub the ledger")
                return
        try:
            open_body(header, frame.header, frame.body, key)
            report.readable += 1
        except FiduciaryError as error:
            self.problem(str(error))

    def _absorb(self, headers: list[bytes], published: int) -> None:
        """Grow the tree, compare the published tiles and bundles with it, forget what is behind."""
        tree, first = self.tree, self.tree.size
        tree.append_many(leaf_hashes(headers))
        for size in sorted(s for s in self.roots if first < s <= tree.size):
            if tree.root(size) != self.roots.pop(size):
                self.problem(f"its records do not have the root that was published over {size} records")
        count, level, base = min(tree.size, published), 0, min(first, published)
        while count > base:
            for index in range(base // TILE_WIDTH, -(-count // TILE_WIDTH)):
                width = min(TILE_WIDTH, count - index * TILE_WIDTH)
                if width < TILE_WIDTH and tree.size < published:
                    continue  # of that width it was perhaps never published; it comes again with the next chunk
                try:
                    same = self.tiles.tile(level, index, width) == tree.tile(level, index, width)
                    if same and level == 0:
                        start = index * TILE_WIDTH - first
                        same = self.tiles.entries(index, width) == headers[start : start + width]
                except FiduciaryError:
                    same = False
                if not same:
                    self.problem(f"tile {level}/{index} or its entries are not those of the records")
            level, base, count = level + 1, base // TILE_WIDTH, count // TILE_WIDTH
        tree.forget(tree.size)
