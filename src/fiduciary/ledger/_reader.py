"""Reading a log that this or another process may be writing: no lock, nothing changed, everything checked."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterator
from pathlib import Path

from fiduciary.errors import IntegrityError, NotFoundError
from fiduciary.ledger._files import Files
from fiduciary.ledger._segment import ALIGNMENT, SUFFIX, Frame, Segment, segment_paths

_KEPT_OPEN = 16


class Reader:
    """The frames of one log folder, by position. Safe to use from several threads."""

    def __init__(self, folder: Path, origin: str, files: Files | None = None) -> None:
        self.folder = folder
        self.origin = origin
        self._files = files or Files()
        self._open: dict[int, Segment] = {}
        self._lock = threading.RLock()
        self._marks: dict[int, tuple[int, int]] = {}  # record number -> (segment's first, byte)

    def close(self) -> None:
        with self._lock:
            for segment in self._open.values():
                segment.close()
            self._open.clear()

    def firsts(self) -> list[int]:
        """First record numbers of the segments, in order, by their names."""
        return [int(path.name[: -len(SUFFIX)]) for path in segment_paths(self.folder / "segments")]

    def segment(self, first: int) -> Segment:
        """The open segment that starts at record `first`."""
        with self._lock:
            found = self._open.get(first)
            if found is None:
                if len(self._open) >= _KEPT_OPEN:
                    self._open.pop(next(iter(self._open))).close()
                path = self.folder / "segments" / f"{first:020d}{SUFFIX}"
                try:
                    found = Segment.open(self._files, path, self.origin)
                except FileNotFoundError:
                    raise NotFoundError(f"there is no segment {path.name} in {self.folder}") from None
                self._open[first] = found
            return found

    def frame_at(self, first: int, offset: int, index: int) -> Frame:
        """The frame of record `index` at a known place; raises `IntegrityError` if it is not there."""
        with self._lock:
            return self.segment(first).read_frame(offset, index)

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """All frames from record `start` on, to the present end of the log.

        Raises `IntegrityError` if a segment that has a successor does not reach it, or if a bad frame has a
        later group behind it. What a writer is just writing is not the end of the world: it is the end.
        """
        firsts = self.firsts()
        if not firsts:
            return
        if firsts[0] != 0:
            raise IntegrityError(
                f"the first segment of {self.folder} starts at record {firsts[0]}: one is missing"
            )
        place = max(bisect.bisect_right(firsts, start) - 1, 0)
        first, offset = self._marks.get(start, (firsts[place], ALIGNMENT))
        index = start if (first, offset) == self._marks.get(start) else first
        while True:
            for frame in self._until_end(first, offset, index):
                index = frame.index + 1
                offset = frame.offset + frame.length
                if frame.index >= start:
                    yield frame
            if index >= start:
                self._mark(index, first, offset)
            later = [number for number in self.firsts() if number > first]
            if not later:
                return
            if later[0] != index:
                raise IntegrityError(
                    f"segment {first} of {self.folder} ends before record {index}, but the next one "
                    f"starts at {later[0]}"
                )
            first, offset = index, ALIGNMENT

    def _mark(self, index: int, first: int, offset: int) -> None:
        if len(self._marks) > 64:
            self._marks.clear()
        self._marks[index] = (first, offset)

    def _until_end(self, first: int, offset: int, index: int) -> Iterator[Frame]:
        """Frames of one segment. A bad frame is looked at again before it is called damage: its group may
        have been on its way to the disk when it was read."""
        attempts = 0
        while True:
            segment = self.segment(first)
            before = index
            for frame in segment.scan(offset, index):
                yield frame
                index = frame.index + 1
                offset = frame.offset + frame.length
            attempts = 0 if index > before else attempts + 1
            later = segment.later_group(offset, index)
            if later is None:
                return
            if attempts >= 3:
                raise IntegrityError(
                    f"record {index} at byte {offset} of {segment.path} is damaged: a later group starts "
                    f"behind it (byte {later}), so it had been durable"
                )
