"""Whatever is changed in a home, `verify` or the opening says so; nothing is changed, and it says that."""

from __future__ import annotations

import re
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from fiduciary.config import Settings
from fiduciary.errors import ConfigError, FiduciaryError, IntegrityError
from fiduciary.ledger import Ledger
from fiduciary.ledger._files import Files
from fiduciary.ledger._record import encode
from fiduciary.ledger._segment import Segment, encode_frame
from fiduciary.ledger._signing import LogKeys
from ledger_home import decision

RECORDS = 700


@pytest.fixture
def home(settings: Settings) -> Path:
    with Ledger.create(settings) as ledger:
        for shard in ("gate-0", "gate-1"):
            log = ledger.shard(shard)
            for future in [log.append(decision(ledger, f"s{k % 9}", k)) for k in range(RECORDS)]:
                future.result(10)
        ledger.heads()
        ledger.erase("s3", by="dpo", reason="request")
        ledger.heads()
    return settings.home


def problems(settings: Settings) -> list[str]:
    """Everything that opening and verifying find wrong, without opening the shards for writing."""
    try:
        with Ledger.open(settings, writable=False) as ledger:
            return ledger.verify().every_problem()
    except FiduciaryError as error:
        return [str(error)]


def segment(home: Path, log: str = "gate-0", place: int = 0) -> Path:
    return sorted((home / "ledger" / log / "segments").glob("*.seg"))[place]


def forge_frame(home: Path, settings: Settings, number: int = 41) -> None:
    """Replace a record by another one of the same length, with every CRC right, as an insider could."""
    with Ledger.open(settings, writable=False) as ledger:
        frame = next(f for f in ledger.reader("gate-0").frames() if f.index == number)
        record = ledger.get(f"gate-0.{number}")
        assert record.payload is not None
        entry = decision(ledger, f"s{number % 9}", number)
        payload = record.payload.replace(b"approve", b"decline")

        entry = msgspec.structs.replace(entry, payload=payload)
        header, body = encode(entry, number, record.header.time_ns, ledger.vault.key(entry.subject or b""))
        path = segment(home, place=sum(first <= number for first in ledger.reader("gate-0").firsts()) - 1)
        held = Segment.open(Files(), path, "acme.eu/gate-0")
        data = encode_frame(held.seed, number, frame.group, header, body, entry.subject or b"")
        held.close()
        assert len(data) == frame.length
    whole = path.read_bytes()
    path.write_bytes(whole[: frame.offset] + data + whole[frame.offset + frame.length :])


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def drop_rows(home: Path, statement: str) -> None:
    with sqlite3.connect(home / "ledger" / "gate-0" / "index.sqlite") as db:
        db.execute(statement)
    db.close()


def forge_checkpoint(home: Path, _: Settings) -> None:
    other = LogKeys.at(home.parent, "x", "acme.eu/gate-0", create=True)
    (home / "ledger" / "gate-0" / "checkpoint").write_bytes(other.sign(1, bytes(32), 10**18))


ATTACKS: dict[str, tuple[Callable[[Path, Settings], object], str]] = {
    "one bit of a header": (lambda h, s: flip(segment(h), 64 + 64 + 20), "damaged|missing|ends before"),
    "one bit of a body": (lambda h, s: flip(segment(h), 64 + 64 + 180), "damaged|missing|ends before"),
    "a record replaced, every check sum right": (forge_frame, "do not have the root"),
    "a segment removed": (lambda h, s: segment(h, place=1).unlink(), "ends before|next one starts"),
    "the first segment removed": (lambda h, s: segment(h).unlink(), "one is missing|starts at record"),
    "the last segment removed": (lambda h, s: segment(h, place=-1).unlink(), "some are missing"),
    "segments swapped between logs": (
        lambda h, s: shutil.copy(segment(h, "gate-1"), segment(h, "gate-0")),
        "another log",
    ),
    "a whole shard removed": (lambda h, s: shutil.rmtree(h / "ledger" / "gate-1"), "is not there"),
    "a shard removed with its keys": (
        lambda h, s: (
            shutil.rmtree(h / "ledger" / "gate-1"),
            [p.unlink() for p in (h / "keys").glob("log-gate-1.*")],
        ),
        "is not there",
    ),
    "a shard nobody announced": (
        lambda h, s: (
            shutil.copytree(h / "ledger" / "gate-1", h / "ledger" / "gate-9"),
            LogKeys.at(h / "keys", "gate-9", "acme.eu/gate-9", create=True),
        ),
        "gate-9",
    ),
    "a checkpoint of another key": (forge_checkpoint, "not signed by a known key"),
    "the checkpoint removed": (
        lambda h, s: (h / "ledger" / "gate-0" / "checkpoint").unlink(),
        "no checkpoint",
    ),
    "one bit of a tile": (lambda h, s: flip(h / "ledger/gate-0/tile/0/000", 99), "tile 0/0"),
    "one bit of an entry bundle": (lambda h, s: flip(h / "ledger/gate-0/tile/entries/000", 99), "tile 0/0"),
    "index rows removed": (
        lambda h, s: drop_rows(h, "DELETE FROM entries WHERE idx >= 300"),
        "index has 300 of 700",
    ),
    "an index row changed": (
        lambda h, s: drop_rows(h, "UPDATE entries SET offset = offset + 64 WHERE idx = 17"),
        "index is wrong about record 17",
    ),
    "a subject changed in the index": (
        lambda h, s: drop_rows(
            h, "UPDATE entries SET subject = x'00112233445566778899aabbccddeeff' WHERE idx = 17"
        ),
        "another subject",
    ),
    "the control log cut": (
        lambda h, s: segment(h, "control").write_bytes(
            segment(h, "control").read_bytes()[:1600].ljust(131072, b"\0")
        ),
        "some are missing",
    ),
    "log keys replaced": (
        lambda h, s: (
            [p.unlink() for p in (h / "keys").glob("log-gate-0.*")],
            LogKeys.at(h / "keys", "gate-0", "acme.eu/gate-0", create=True),
        ),
        "announced",
    ),
}


def test_an_untouched_home_has_no_problem(home: Path, settings: Settings) -> None:
    assert problems(settings) == []
    with Ledger.open(settings) as ledger:
        report = ledger.verify()
        by_name = {log.log: log for log in report.logs}
        assert by_name["gate-0"].records == by_name["gate-0"].published == RECORDS
        assert by_name["gate-0"].erased == len(range(3, RECORDS, 9))
        assert by_name["gate-0"].readable == RECORDS - len(range(3, RECORDS, 9))


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_change_is_noticed(home: Path, settings: Settings, attack: str) -> None:
    change, expected = ATTACKS[attack]
    change(home, settings)
    found = problems(settings)
    assert found

    assert any(re.search(expected, problem) for problem in found), found


def test_a_removed_shard_is_not_begun_again(home: Path, settings: Settings) -> None:
    shutil.rmtree(home / "ledger" / "gate-1")
    with Ledger.open(settings) as ledger, pytest.raises(IntegrityError, match="announced"):
        ledger.shard("gate-1")


def test_a_changed_record_stops_the_shard_from_opening(home: Path, settings: Settings) -> None:
    """Opening reads the last two segments; all of them are for `verify`."""
    forge_frame(home, settings, RECORDS - 5)
    with Ledger.open(settings) as ledger, pytest.raises(IntegrityError):
        ledger.shard("gate-0")


def test_lost_tiles_are_made_again(home: Path, settings: Settings) -> None:
    shutil.rmtree(home / "ledger" / "gate-0" / "tile")
    with Ledger.open(settings) as ledger:
        ledger.shard("gate-0")
        assert ledger.verify().every_problem() == []
        ledger.prove("gate-0.7")


def test_keys_that_others_may_read_are_refused(home: Path, settings: Settings) -> None:
    (home / "keys" / "log-gate-0.ed25519").chmod(0o644)
    with Ledger.open(settings) as ledger, pytest.raises(ConfigError, match="chmod 600"):
        ledger.shard("gate-0")


def test_a_frame_hidden_in_a_payload_is_not_taken_for_one(settings: Settings) -> None:
    """A payload that looks like a frame of a later group must not turn a torn tail into damage."""
    fake = encode_frame(zlib.crc32(b""), 10**6, 10**6, b"FDH1" + bytes(160), b"", bytes(16))
    with Ledger.create(settings) as ledger:
        ledger.emit("note", {"text": "x"})
        ledger.emit("note", {"text": "x" * 3 * len(fake)})
        path = segment(settings.home, "control")
        frames = list(ledger.reader("control").frames())
    data = path.read_bytes()
    tail = frames[1].offset
    forged = data[: tail + 64] + fake * 3 + data[tail + 64 + 3 * len(fake) :]
    path.write_bytes(forged)
    held = Segment.open(Files(), path, "acme.eu/control")
    assert len(list(held.recover())) == 1
    held.close()
