"""Private set intersection, 100,000 x 100,000: the engine alone against ours, in one interleaved run.

The engine alone: two processes, plain TCP, identifiers already in a CSV file, one call of `psi_execute`. Ours:
two members and two workers, pinned TLS, contract, normalisation, files, signatures, aligned positions out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fiduciary.joint import LocalFederation, intersect
from fiduciary.joint._workers import worker_python

BARE = """
import json, sys, time
from spu import libspu, psi
rank, ports, folder, proto = int(sys.argv[1]), sys.argv[2].split(","), sys.argv[3], sys.argv[4]
desc = libspu.link.Desc(); desc.id = "bare"; desc.recv_timeout_ms = 200000
desc.connect_retry_times = 100; desc.connect_retry_interval_ms = 100
for i in range(2): desc.add_party(f"p{i}", f"127.0.0.1:{ports[i]}")
link = libspu.link.create_brpc(desc, rank)
kind = getattr(psi.PsiProtocol, "PROTOCOL_" + proto.upper())
p = psi.PsiProtocolConfig(protocol=kind, receiver_rank=0, broadcast_result=True)
if proto == "ecdh": p.ecdh_params = psi.EcdhParams(curve=psi.EllipticCurveType.CURVE_25519)
csv = psi.SourceType.SOURCE_TYPE_FILE_CSV
c = psi.PsiExecuteConfig(protocol_conf=p,
    input_params=psi.InputParams(type=csv, path=f"{folder}/{rank}.csv", selected_keys=["id"], keys_unique=True),
    output_params=psi.OutputParams(type=csv, path=f"{folder}/out{rank}.csv", disable_alignment=True))
for line in iter(sys.stdin.readline, ""):
    t = time.perf_counter(); r = psi.psi_execute(c, link)
    print("\\nRES " + json.dumps({"s": time.perf_counter() - t, "n": r.intersection_count}), flush=True)
link.stop_link()
"""


def _answer(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdout
    for line in process.stdout:
        if line.startswith("RES "):
            return json.loads(line[4:])
    raise SystemExit("the bare engine ended")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--protocol", default="rr22", choices=["rr22", "ecdh"])
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    python, n = worker_python("spu"), a.rows
    ids = [[f"cust{i + k * n // 2:012d}" for i in range(n)] for k in (0, 1)]
    with tempfile.TemporaryDirectory() as folder:
        for k in (0, 1):
            Path(folder, f"{k}.csv").write_text(
                "id,row\n" + "".join(f"{v},{i}\n" for i, v in enumerate(ids[k]))
            )
        bare = [
            subprocess.Popen(
                [str(python), "-c", BARE, str(k), "21480,21481", folder, a.protocol],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for k in (0, 1)
        ]
        found: dict[str, list[float]] = {"engine": [], "ours": [], "call": []}
        with LocalFederation(["bank", "telco"], protocol=a.protocol) as federation:
            for turn in range(a.repeats + 1):
                started = time.perf_counter()
                for process in bare:
                    assert process.stdin
                    process.stdin.write("go\n")
                    process.stdin.flush()
                said = [_answer(process) for process in bare]
                engine = max(s["s"] for s in said)
                started = time.perf_counter()
                result = intersect(federation, {"bank": ids[0], "telco": ids[1]})
                ours = time.perf_counter() - started
                assert len(result.rows["bank"]) == said[0]["n"] == n // 2
                if turn:  # the first turn warms both
                    found["engine"].append(engine)
                    found["ours"].append(ours)
                    found["call"].append(result.transcript.seconds)
        for process in bare:
            process.kill()
            process.wait(20)
    middle = {k: round(statistics.median(v), 3) for k, v in found.items()}
    report = {
        "rows": n,
        "protocol": a.protocol,
        "engine_s": middle["engine"],
        "job_s": middle["call"],
        "with_normalisation_s": middle["ours"],
        "over_engine": round(middle["call"] / middle["engine"], 3),
        "sent_bytes": result.transcript.sent_bytes,
    }
    print(json.dumps(report))
    if a.out:
        a.out.write_text(json.dumps(report))


if __name__ == "__main__":
    sys.exit(main())
