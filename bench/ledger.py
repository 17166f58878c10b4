"""The ledger measured: durable records, proofs, offline checks; beside it what others take for the same rows.

Our figures have everything on: sealing under a key a subject, frames, Merkle tree, tiles, search index, signed
checkpoints. Peers only store rows. All in one run on one machine: read the ratios, the absolute times only say
the order. CPU is of the whole process, asyncio clients included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fiduciary.config import Settings
from fiduciary.ledger import AsyncAppender, Entry, Kind, Ledger
from fiduciary.ledger._merkle import Tree, leaf_hashes
from fiduciary.ledger._tiles import Tiles

SUBJECTS = 10_000


def payload_of(size: int) -> bytes:
    row = {f"feature_{k:02d}": round(k * 1.2345, 4) for k in range(20)}
    body: dict[str, Any] = {
        "outcome": "approve",
        "score": 0.731,
        "row": row,
        "reasons": ["R01", "R17"],
        "text": "",
    }
    body["text"] = "x" * max(0, size - len(json.dumps(body)))
    return json.dumps(body).encode()


def writers(ledger: Ledger, shard: str, count: int, seconds: float, payload: bytes) -> dict[str, float]:
    """`count` asyncio writers, each sending its next record when the last one is durable."""
    log = ledger.shard(shard)
    times: list[float] = []
    release = os.urandom(32)

    async def run() -> float:
        appender = AsyncAppender(log)
        end = time.perf_counter() + seconds

        async def writer(k: int) -> None:
            while time.perf_counter() < end:
                subject = ledger.vault.pseudonym(f"subject-{k % SUBJECTS}")
                entry = Entry(Kind.DECISION, payload, subject=subject, release=release, use_case="credit")
                start = time.perf_counter()
                await appender.append(entry)
                times.append(time.perf_counter() - start)
                k += count

        start = time.perf_counter()
        await asyncio.gather(*(writer(k) for k in range(count)))
        return time.perf_counter() - start

    cpu = time.process_time()
    wall = asyncio.run(run())
    log.publish()  # what is still to be indexed is paid for here
    cpu = time.process_time() - cpu
    times.sort()
    return {
        "rate": len(times) / wall,
        "p50": times[len(times) // 2] * 1e3,
        "p99": times[int(len(times) * 0.99)] * 1e3,
        "cpu": cpu / len(times) * 1e6,
    }


def groups(ledger: Ledger, size: int, seconds: float, payload: bytes) -> dict[str, float]:
    """CPU of the writing and publishing alone: groups of one size, no clients."""
    log = ledger.shard(f"groups-{size}", group_commit=False)
    names = [ledger.vault.pseudonym(f"subject-{k}") for k in range(SUBJECTS)]
    release = os.urandom(32)
    number = 0
    commit = publish = 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        entries = [
            Entry(
                Kind.DECISION,
                payload,
                subject=names[(number + k) % SUBJECTS],
                release=release,
                use_case="credit",
            )
            for k in range(size)
        ]
        start = time.process_time()
        log.commit(entries)
        commit += time.process_time() - start
        number += size
        if number % 4_096 < size:
            start = time.process_time()
            log.publish()
            publish += time.process_time() - start
    return {"commit": commit / number * 1e6, "publish": publish / number * 1e6}


def proofs(ledger: Ledger, entries: int, payload: bytes) -> dict[str, float]:
    """Proofs and a full offline check over a log of `entries` records."""
    log = ledger.shard("large", group_commit=False)
    entry = Entry(Kind.DECISION, payload, use_case="credit")
    while log.size < entries:
        log.commit([entry] * min(1_024, entries - log.size))
        if log.size % 65_536 < 1_024:
            log.publish()
    log.publish()
    dice = random.Random(1)
    chosen = [f"large.{dice.randrange(entries)}" for _ in range(min(2_000, entries))]
    ledger.prove(chosen[0])
    start = time.perf_counter()
    made = [ledger.prove(name) for name in chosen]
    making = (time.perf_counter() - start) / len(chosen)
    records = [ledger.get(name).header_bytes for name in chosen[:200]]
    keys, origin = ledger.keys("large").verifiers, ledger.origin("large")
    start = time.perf_counter()
    for proof, header in zip(made, records, strict=False):
        proof.verify(header, origin, keys)
    checking = (time.perf_counter() - start) / len(records)
    tiles = Tiles(ledger.folder("large"))
    checkpoint = ledger.checkpoint("large")
    start, cpu = time.perf_counter(), time.process_time()
    tree = Tree(tiles.tile)
    for bundle in tiles.all_entries(checkpoint.size):
        tree.append_many(leaf_hashes(bundle))
        if tree.size % 65_536 == 0:
            tree.forget(tree.size)
    assert tree.root() == checkpoint.root
    cpu = time.process_time() - cpu
    return {
        "make_us": making * 1e6,
        "verify_us": checking * 1e6,
        "path_bytes": 32.0 * max(len(proof.path) for proof in made),
        "proof_bytes": float(max(len(proof.encode()) for proof in made)),
        "check_rate": checkpoint.size / (time.perf_counter() - start),
        "check_rate_cpu": checkpoint.size / cpu,
    }


def peers(python: Path | None, seconds: float, payload: int, folder: str | None) -> list[dict[str, Any]]:
    if python is None or not python.exists():
        return [{"name": "peers", "batch": 0, "why": "no environment for them: make bench-ledger makes it"}]
    command = [python, Path(__file__).with_name("_ledger_peers.py"), "--seconds", str(seconds)]
    command += ["--payload", str(payload), *(["--folder", folder] if folder else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--payload", type=int, default=1_000, help="bytes of a payload")
    parser.add_argument("--entries", type=int, default=1_000_000, help="size of the log for proofs")
    parser.add_argument("--writers", type=int, nargs="*", default=[1, 16, 64, 256])
    parser.add_argument("--peers", type=Path, help="python of the peers' environment")
    parser.add_argument("--folder", help="where to write (a real disk)")
    options = parser.parse_args()
    console = Console()
    payload = payload_of(options.payload)
    result: dict[str, Any] = {"payload_bytes": len(payload), "load_before": os.getloadavg()[0]}
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as name,
        Ledger.create(Settings(home=Path(name) / "home", tenant="bench")) as ledger,
    ):
        result["writers"] = {
            count: writers(ledger, f"gate-{count}", count, options.seconds, payload)
            for count in options.writers
        }
        result["groups"] = {size: groups(ledger, size, options.seconds / 2, payload) for size in (1, 64)}
        result["proofs"] = proofs(ledger, options.entries, payload_of(300))
    result["peers"] = peers(options.peers, options.seconds, len(payload), options.folder)
    result["load_after"] = os.getloadavg()[0]

    table = Table(
        title=f"Durable records of {len(payload)} bytes, everything on (load {result['load_before']:.1f})"
    )
    for column in ("who", "writers or rows a commit", "records/s", "p50 ms", "p99 ms", "CPU us a record"):
        table.add_column(column, justify="left" if column == "who" else "right")
    for count, row in result["writers"].items():
        cells = (f"{row['rate']:,.0f}", f"{row['p50']:.2f}", f"{row['p99']:.2f}", f"{row['cpu']:.1f}")
        table.add_row("fiduciary ledger", str(count), *cells)
    for row in result["peers"]:
        if "rate" in row:
            table.add_row(
                row["name"],
                str(row["batch"]),
                f"{row['rate']:,.0f}",
                f"{row['p50']:.2f}",
                f"{row['p99']:.2f}",
                "",
            )
        elif "why" in row:
            table.add_row(row["name"], str(row["batch"]), row["why"], "", "", "")
    console.print(table)
    table = Table(
        title=f"CPU of one record by group size; proofs and checks over {options.entries:,} records"
    )
    table.add_column("what")
    table.add_column("value", justify="right")
    for size, row in result["groups"].items():
        table.add_row(f"commit, groups of {size} (sync included)", f"{row['commit']:.1f} us")
        table.add_row(f"tree, tiles, index, checkpoint, groups of {size}", f"{row['publish']:.1f} us")
    p = result["proofs"]
    table.add_row("make a proof", f"{p['make_us']:.0f} us")
    table.add_row("verify a proof, both signatures included", f"{p['verify_us']:.0f} us")
    table.add_row(
        "inclusion path; whole proof with signed checkpoint",
        f"{p['path_bytes']:.0f} B; {p['proof_bytes']:.0f} B",
    )
    table.add_row("offline check from tiles, one core", f"{p['check_rate']:,.0f} entries/s")
    for row in result["peers"]:
        if "proof_us" in row:
            table.add_row(f"pymerkle: make a proof over {row['size']:,} entries", f"{row['proof_us']:.0f} us")
    console.print(table)
    out = Path(__file__).with_name("out")
    out.mkdir(exist_ok=True)
    (out / "ledger.json").write_text(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
