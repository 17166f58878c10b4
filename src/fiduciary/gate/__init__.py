"""The gate: one governed path for every decision, and its doors.

`serve` opens them: the native HTTP API, the Open Inference Protocol V2 over REST and gRPC, health and metrics.
`path` states the order that every question takes. HTTP is RFC 9110 and RFC 9112 on llhttp, problems are RFC 9457,
tokens come as RFC 6750 says. What a user may rely on is in tests/gate; what an attacker may not do, in
tests/attacks/test_http.py.
"""

from fiduciary.gate._serve import serve
from fiduciary.gate._worker import Addresses, Worker
from fiduciary.gate.path import STAGES

__all__ = ["STAGES", "Addresses", "Worker", "serve"]
