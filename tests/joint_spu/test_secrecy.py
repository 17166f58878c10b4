"""What an attacker would look for: columns on the wire, other parties' values in a process after its job."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiduciary.errors import PermissionDeniedError
from fiduciary.joint import LocalFederation, intersect, prepare_identifiers
from fiduciary.joint._estimators import SecureLogisticRegression

N = 3000
FRACTION_BITS = range(12, 33)


def columns(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(seed)
    bank = {f"b{i}": rng.normal(3, 2, N) for i in range(3)}
    telco = {f"t{i}": rng.normal(-1, 5, N) for i in range(3)}
    score = bank["b0"] - 0.4 * telco["t0"] - 4
    bank["y"] = (rng.random(N) < 1 / (1 + np.exp(-score))).astype(float)
    return bank, telco


def spellings(column: np.ndarray, fractions: Any = FRACTION_BITS) -> dict[str, bytes]:
    """A column's first rows as an implementation might send them by mistake."""
    head = column[:6]
    scaled = (column - column.mean()) / column.std()
    found = {"f8": head.tobytes(), "f4": head.astype("<f4").tobytes()}
    for bits in fractions:
        for name, values in (("raw", head), ("scaled", scaled[:6])):
            found[f"{name} fixed {bits}"] = np.round(values * 2.0**bits).astype("<i8").tobytes()[:40]
    return found


def test_the_wire_shows_no_column_and_looks_random(tmp_path: Path) -> None:
    bank, telco = columns(1)
    with LocalFederation(["bank", "telco", "regulator"], tap=tmp_path) as federation:
        model = SecureLogisticRegression(max_iter=4)
        model.fit(federation, {"bank": bank, "telco": telco}, label="bank.y", receivers=["bank"])
    for owner, own in (("bank", bank), ("telco", telco)):
        wire = (tmp_path / f"{owner}.wire").read_bytes()
        assert len(wire) > 8 * N * 3
        for name, column in own.items():
            if name != "y":
                for how, pattern in spellings(column).items():
                    assert pattern not in wire, f"{name} of {owner} stands on the wire as {how}"
        for offset in range(
            0, 64, 8
        ):  # a share that follows its column shows as correlation, whatever its scale
            words = np.frombuffer(wire[offset : offset + (len(wire) - offset) // 8 * 8], "<i8")
            for start in range(0, min(len(words) - N, 20 * N), N // 2):
                part = words[start : start + N].astype(float)
                if part.std() > 0:
                    for column in own.values():
                        assert abs(np.corrcoef(part, column)[0, 1]) < 0.12
        large = [m for m in re.split(rb"PRPC", wire) if len(m) > 16_000]
        assert large
        for part in large:  # 8 bits of entropy a byte, but for headers and the finite sample
            counts = np.array(list(Counter(part).values())) / len(part)
            assert -(counts * np.log2(counts)).sum() > 7.9
        # every message begins with the engine's fixed header (100 bytes); what follows must never repeat
        blocks = Counter(m[at : at + 32] for m in large for at in range(128, len(m) - 32, 32))
        assert len(blocks) > 1000 and blocks.most_common(1)[0][1] < 3


def test_the_check_itself_finds_a_leak() -> None:
    bank, _ = columns(1)
    wire = b"head" + np.round(bank["b0"] * 2.0**18).astype("<i8").tobytes()
    assert any(pattern in wire for pattern in spellings(bank["b0"]).values())


def memory_of(pid: int) -> bytes:
    found = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if not rights.startswith("rw"):
                continue
            start, end = (int(x, 16) for x in span.split("-"))
            if end - start > 1 << 30:
                continue
            try:
                memory.seek(start)
                found.append(memory.read(end - start))
            except (OSError, ValueError, OverflowError):
                continue
    return b"".join(found)


def test_processes_keep_no_value_of_another_party_after_the_job() -> None:
    bank, telco = columns(2)
    with LocalFederation(["bank", "telco", "regulator"]) as federation:
        model = SecureLogisticRegression(max_iter=4)
        model.fit(federation, {"bank": bank, "telco": telco}, label="bank.y", receivers=["bank"])
        pids = federation.pids
        seen = {name: [memory_of(p) for p in pair if p] for name, pair in pids.items()}
        assert all(len(parts) == 2 for parts in seen.values())
        for owner, own in (("bank", bank), ("telco", telco)):
            for name in seen:
                for part in seen[name] if name != owner else []:
                    for how, pattern in spellings(own[owner[0] + "0"], (18, 20)).items():
                        assert pattern not in part, f"{owner}'s column lies in {name}'s memory as {how}"
        assert all(len(part) > 1 << 20 for parts in seen.values() for part in parts)


def test_the_memory_search_finds_what_is_there() -> None:
    import os

    held = np.random.default_rng(5).normal(size=6)
    assert held.tobytes() in memory_of(os.getpid())


def test_an_intersection_shows_the_other_side_no_identifier_it_lacks(tmp_path: Path) -> None:
    left, right = [f"left{i}" for i in range(500)], [f"right{i}" for i in range(500)]
    both = [f"both{i}" for i in range(50)]
    with LocalFederation(["bank", "telco"], protocol="rr22", tap=tmp_path) as federation:
        found = intersect(federation, {"bank": left + both, "telco": right + both}, reveal_to=["bank"])
        assert len(found.rows["bank"]) == 50
        secret = [bytes(v) for v in prepare_identifiers(left[::40]).ids]
        for pid in federation.pids["telco"]:
            assert pid
            memory = memory_of(pid)
            assert not [v for v in secret if v in memory]
        for name in ("bank", "telco"):
            wire = (tmp_path / f"{name}.wire").read_bytes()
            for value in prepare_identifiers(left + right + both).ids:
                assert bytes(value) not in wire and bytes.fromhex(bytes(value).decode()) not in wire


@pytest.mark.parametrize("protocol", ["semi2k", "ref2k"])
def test_insecure_protocols_do_not_start(protocol: str) -> None:
    with pytest.raises(PermissionDeniedError, match="refused"):
        LocalFederation(["bank", "telco"], protocol=protocol)
