"""A disk that remembers what was asked of it, and can show every state a crash might have left.

`Recorder` passes each call on and notes it. `Disk` replays the notes up to any point and keeps apart what is
durable (synced) from what is only pending; `Disk.state` chooses what of the pending survived. That is the method
of ALICE (Pillai et al., OSDI 2014): unsynced writes may be kept, dropped, torn at sector boundaries and
reordered, and so may unsynced names.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from fiduciary.ledger._files import Files

SECTOR = 512


class Stepwise(Files):
    """Writes and syncs in two calls, so that something can happen between them."""

    def write_durably(self, fd: int, data: bytes, offset: int) -> None:
        self.pwrite(fd, data, offset)
        self.fdatasync(fd)


class Recorder(Stepwise):
    """Notes every change as a tuple, and passes it on to the real disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes: list[tuple[Any, ...]] = []
        self._inode: dict[int, int] = {}
        self._names: dict[Path, int] = {}
        self._next = 0

    def acknowledge(self, *what: Any) -> None:
        """Somebody was told something: it must be true in every state from here on."""
        self.notes.append(("told", *what))

    def create(self, path: Path) -> int:
        fd = super().create(path)
        self._next += 1
        self._inode[fd] = self._names[path] = self._next
        self.notes.append(("link", path.relative_to(self.root), self._next))
        return fd

    def open(self, path: Path) -> int:
        fd = super().open(path)
        self._inode[fd] = self._names[path]
        return fd

    def close(self, fd: int) -> None:
        self._inode.pop(fd, None)
        super().close(fd)

    def allocate(self, fd: int, size: int) -> None:
        super().allocate(fd, size)
        self.notes.append(("size", self._inode[fd], size))

    def pwrite(self, fd: int, data: bytes, offset: int) -> None:
        super().pwrite(fd, data, offset)
        self.notes.append(("write", self._inode[fd], offset, bytes(data)))

    def fdatasync(self, fd: int) -> None:
        super().fdatasync(fd)
        self.notes.append(("sync", self._inode[fd]))

    def fsync(self, fd: int) -> None:
        super().fsync(fd)
        if fd in self._inode:
            self.notes.append(("sync", self._inode[fd]))

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        inode = self._names[new] = self._names.pop(old)
        self.notes.append(("rename", old.relative_to(self.root), new.relative_to(self.root), inode))

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self._names.pop(path, None)
        self.notes.append(("unlink", path.relative_to(self.root)))

    def mkdir(self, path: Path) -> None:
        super().mkdir(path)
        if path != self.root:
            self.notes.append(("mkdir", path.relative_to(self.root)))

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        if path.is_relative_to(self.root):
            self.notes.append(("sync-names", path.relative_to(self.root)))


class Disk:
    """The model: durable content and names, and what is pending on top of them, in order."""

    def __init__(self) -> None:
        self.content: dict[int, bytearray] = {}
        self.pending: list[tuple[Any, ...]] = []
        self.names: dict[Path, int] = {}
        self.folders: set[Path] = {Path()}
        self.told: list[tuple[Any, ...]] = []

    def take(self, note: tuple[Any, ...]) -> None:
        """One more call has returned."""
        match note:
            case ("told", *what):
                self.told.append(tuple(what))
            case ("sync", inode):
                mine = [n for n in self.pending if n[0] in ("write", "size") and n[1] == inode]
                self.pending = [n for n in self.pending if n not in mine]
                for pending in mine:
                    _change(self.content, pending)
            case ("sync-names", folder):
                mine = [n for n in self.pending if n[0] not in ("write", "size") and n[1].parent == folder]
                self.pending = [n for n in self.pending if n not in mine]
                for pending in mine:
                    _rename(self.names, self.folders, pending)
            case _:
                self.pending.append(note)

    def state(self, keep: str, dice: random.Random, target: Path) -> None:
        """Write one possible state after a crash now: `keep` is "all", "none" or "some" of the pending."""
        content = {inode: bytearray(data) for inode, data in self.content.items()}
        names, folders = dict(self.names), set(self.folders)
        chosen: list[tuple[Any, ...]] = []
        for note in self.pending:
            if keep == "all" or (keep == "some" and dice.random() < 0.5):
                chosen.append(note)
            elif keep == "some" and note[0] == "write" and len(note[3]) > SECTOR and dice.random() < 0.7:
                chosen.extend(_torn(note, dice))
        if keep == "some":
            dice.shuffle(chosen)
            chosen.sort(
                key=lambda n: n[0] in ("write", "size")
            )  # names may come in any order among themselves
        for note in chosen:
            if note[0] in ("write", "size"):
                _change(content, note)
            else:
                _rename(names, folders, note)
        for folder in sorted(folders):
            (target / folder).mkdir(parents=True, exist_ok=True)
        for path, inode in names.items():
            if (target / path).parent.is_dir():
                (target / path).write_bytes(content.get(inode, b""))
                (target / path).chmod(0o600)


def _torn(note: tuple[Any, ...], dice: random.Random) -> list[tuple[Any, ...]]:
    """Some sectors of a write."""
    _, inode, offset, data = note
    found = []
    start = offset
    while start < offset + len(data):
        end = min((start // SECTOR + 1) * SECTOR, offset + len(data))
        if dice.random() < 0.5:
            found.append(("write", inode, start, data[start - offset : end - offset]))
        start = end
    return found


def _change(content: dict[int, bytearray], note: tuple[Any, ...]) -> None:
    data = content.setdefault(note[1], bytearray())
    if note[0] == "size":
        data.extend(bytes(max(0, note[2] - len(data))))
        return
    _, _, offset, piece = note
    data.extend(bytes(max(0, offset + len(piece) - len(data))))
    data[offset : offset + len(piece)] = piece


def _rename(names: dict[Path, int], folders: set[Path], note: tuple[Any, ...]) -> None:
    match note:
        case ("link", path, inode):
            names[path] = inode
        case ("rename", old, new, inode):
            names.pop(old, None)
            names[new] = inode
        case ("unlink", path):
            names.pop(path, None)
        case ("mkdir", path):
            folders.add(path)
