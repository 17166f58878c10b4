"""Every truncation of the last group, byte by byte: what was durable before stays, the rest is cut cleanly."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fiduciary.errors import IntegrityError
from fiduciary.ledger import Ledger, Receipt
from fiduciary.ledger._files import Files
from fiduciary.ledger._segment import Segment
from ledger_home import decision, small_settings

LONG = bool(os.environ.get("FIDUCIARY_CRASH_STATES"))


@pytest.fixture
def torn(tmp_path: Path) -> tuple[Path, list[int], int]:
    """A home whose last group was never published; its frames' ends, and the records before it."""
    settings = small_settings(tmp_path / "home", segment_bytes=64 * 1024)
    ledger = Ledger.create(settings)
    log = ledger.shard("gate-0", group_commit=False)
    log.commit([decision(ledger, f"s{k}", k) for k in range(5)])
    log.publish()
    receipts = log.commit([decision(ledger, f"s{k}", k) for k in range(4)])
    assert all(isinstance(r, Receipt) for r in receipts)
    frames = list(ledger.reader("gate-0").frames())
    ends = [frame.offset + frame.length for frame in frames[4:]]
    log.abandon()
    ledger.close()
    return settings.home, ends, 5


def _segment(home: Path) -> Path:
    return home / "ledger" / "gate-0" / "segments" / f"{0:020d}.seg"


@pytest.mark.parametrize("how", ["zeros", "short file", "old bytes"])
def test_every_cut_of_the_last_group(torn: tuple[Path, list[int], int], how: str) -> None:
    home, ends, before = torn
    path = _segment(home)
    whole = path.read_bytes()
    start, end = ends[0], ends[-1]
    for cut in range(start, end + 1):
        rest = {"zeros": bytes(end - cut), "short file": b"", "old bytes": b"\xa5" * (end - cut)}[how]
        path.write_bytes(whole[:cut] + rest + (b"" if how == "short file" else whole[end:]))
        segment = Segment.open(Files(), path, "acme.eu/gate-0")
        found = [frame.index for frame in segment.recover()]
        segment.close()
        # Padding is not part of what a frame says, so a frame may be whole a little before its end.
        whole_frames = sum(e <= cut for e in ends[1:])
        assert found[: before + whole_frames] == list(range(before + whole_frames))
        assert len(found) <= before + sum(e - 64 <= cut for e in ends[1:])


def test_the_ledger_reopens_after_cuts_without_a_hand(torn: tuple[Path, list[int], int]) -> None:
    home, ends, before = torn
    settings = small_settings(home, segment_bytes=64 * 1024)
    whole = _segment(home).read_bytes()
    keep = home.with_name("keep")
    shutil.copytree(home, keep)
    for cut in range(ends[0], ends[-1] + 1, 7 if LONG else 97):
        shutil.rmtree(home)
        shutil.copytree(keep, home)
        _segment(home).write_bytes(whole[:cut] + bytes(len(whole) - cut))
        with Ledger.open(settings) as ledger:
            log = ledger.shard("gate-0", group_commit=False)
            size = log.size
            assert before <= size <= before + 4
            assert log.append(decision(ledger, "after", 1)).result().index == size
            log.publish()
            assert ledger.verify().every_problem() == []


def test_any_hole_within_the_last_group_cuts_there(torn: tuple[Path, list[int], int]) -> None:
    home, ends, before = torn
    path = _segment(home)
    whole = path.read_bytes()
    for k in range(4):
        for place in (ends[k], ends[k] + 70, ends[k] + 200):
            path.write_bytes(whole[:place] + b"\xff" * 8 + whole[place + 8 :])
            segment = Segment.open(Files(), path, "acme.eu/gate-0")
            assert len(list(segment.recover())) == before + k
            segment.close()


def test_damage_before_the_last_group_is_never_cut(torn: tuple[Path, list[int], int]) -> None:
    home, ends, _ = torn
    path = _segment(home)
    whole = path.read_bytes()
    first_group = range(64, ends[0], 61)
    settings = small_settings(home, segment_bytes=64 * 1024)
    silent = 0
    for place in first_group:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        segment = Segment.open(Files(), path, "acme.eu/gate-0")
        try:
            found = list(segment.recover())
            silent += 1
            assert len(found) == 9, "nothing may be cut before the last group"
        except IntegrityError:
            pass
        finally:
            segment.close()
    assert silent <= len(first_group) // 4, (
        "only padding and the changeable part may be damaged unnoticed here"
    )
    place = 64 + 100
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
    with Ledger.open(settings) as ledger, pytest.raises(IntegrityError, match="had been durable"):
        ledger.shard("gate-0")


def test_published_records_cut_off_are_a_rollback(torn: tuple[Path, list[int], int]) -> None:
    home, ends, _ = torn
    path = _segment(home)
    whole = path.read_bytes()
    path.write_bytes(whole[: ends[0] - 64] + bytes(len(whole) - ends[0] + 64))
    settings = small_settings(home, segment_bytes=64 * 1024)
    with Ledger.open(settings) as ledger:
        with pytest.raises(IntegrityError, match="rolled back"):
            ledger.shard("gate-0")
        assert any("some are missing" in p for p in ledger.verify().every_problem())
