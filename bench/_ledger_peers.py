"""What others take to store the same rows durably. Run by `ledger.py` in the peers' own environment.

Prints one JSON line a measurement: name, rows a commit, rows a second, milliseconds a commit at p50 and p99, and
where something is missing a line with a `why`.
"""

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def measure(name, batch, commit, seconds):
    """Commit batches for a while; `commit(first, count)` returns when they are durable."""
    times = []
    number = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        commit(number, batch)
        times.append(time.perf_counter() - start)
        number += batch
    times.sort()
    report(
        name,
        batch,
        rate=number / sum(times),
        p50=times[len(times) // 2] * 1e3,
        p99=times[int(len(times) * 0.99)] * 1e3,
    )


def report(name, batch, **more):
    print(json.dumps({"name": name, "batch": batch, **more}), flush=True)


def sqlite(folder, payload, seconds):
    """One table with our index's columns, WAL, synchronous=FULL: a sync for every commit."""
    db = sqlite3.connect(folder / "rows.sqlite", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute(
        "CREATE TABLE r (id INTEGER PRIMARY KEY, t INTEGER, subject BLOB, release BLOB, outcome TEXT, p BLOB)"
    )
    db.execute("CREATE INDEX by_subject ON r (subject)")

    def commit(first, count):
        db.execute("BEGIN IMMEDIATE")
        db.executemany(
            "INSERT INTO r (t, subject, release, outcome, p) VALUES (?,?,?,?,?)",
            [
                (time.time_ns(), b"%16d" % (k % 10_000), b"r" * 32, "approve", payload)
                for k in range(first, first + count)
            ],
        )
        db.execute("COMMIT")

    for batch in (1, 64):
        measure("SQLite WAL, FULL", batch, commit, seconds)
    db.close()


def postgres(folder, payload, seconds):
    """A throw-away cluster with default durability (fsync and synchronous_commit on)."""
    binary = shutil.which("postgres") or next(
        (str(p) for p in sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)), None
    )
    if binary is None:
        report("PostgreSQL", 1, why="no postgres binary found (apt-get install postgresql)")
        return
    import psycopg

    tools = Path(binary).resolve().parent
    data = folder / "pg"
    user = []
    if os.geteuid() == 0:  # the server refuses to run as root
        os.chmod(folder, 0o755)
        data.mkdir()
        name = (
            "postgres"
            if subprocess.run(["id", "postgres"], capture_output=True).returncode == 0
            else "nobody"
        )
        shutil.chown(data, name)
        user = ["setpriv", f"--reuid={name}", "--clear-groups"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    if subprocess.run(
        [*user, tools / "initdb", "-D", data, "-A", "trust", "-U", "bench"], **quiet
    ).returncode:
        report("PostgreSQL", 1, why="initdb failed")
        return
    server = subprocess.Popen(
        [*user, binary, "-D", str(data), "-k", str(data), "-c", "listen_addresses="], **quiet
    )
    try:
        for _ in range(100):
            try:
                db = psycopg.connect(host=str(data), user="bench", dbname="postgres")
                break
            except psycopg.OperationalError:
                time.sleep(0.1)
        else:
            report("PostgreSQL", 1, why="the server did not start")
            return
        db.execute(
            "CREATE TABLE r (id BIGSERIAL PRIMARY KEY, t BIGINT, subject BYTEA, release BYTEA, outcome TEXT, p BYTEA)"
        )
        db.execute("CREATE INDEX by_subject ON r (subject)")
        db.commit()

        def commit(first, count):
            with db.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO r (t, subject, release, outcome, p) VALUES (%s,%s,%s,%s,%s)",
                    [
                        (time.time_ns(), b"%16d" % (k % 10_000), b"r" * 32, "approve", payload)
                        for k in range(first, first + count)
                    ],
                )
            db.commit()

        for batch in (1, 64):
            measure("PostgreSQL", batch, commit, seconds)
        db.close()
    finally:
        server.terminate()
        server.wait(20)


def pymerkle(folder, payload, seconds):
    """Its SQLite tree, one commit an entry: the only durable way it has to append one by one."""
    try:
        from pymerkle import SqliteTree
    except ImportError as error:
        report("pymerkle", 1, why=str(error))
        return
    tree = SqliteTree(str(folder / "pymerkle.sqlite"))

    def commit(first, count):
        for k in range(first, first + count):
            tree.append_entry(payload + b"%d" % k)

    measure("pymerkle, SQLite", 1, commit, seconds)
    size = tree.get_size()
    start = time.perf_counter()
    rounds = 20
    for k in range(rounds):
        tree.prove_inclusion(1 + (k * 7919) % size)
    report("pymerkle proof", 1, proof_us=(time.perf_counter() - start) / rounds * 1e6, size=size)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--payload", type=int, default=1_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    payload = os.urandom(options.payload)
    for peer in (sqlite, postgres, pymerkle):
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            try:
                peer(Path(name), payload, options.seconds)
            except Exception as error:
                report(peer.__name__, 1, why=f"{type(error).__name__}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
