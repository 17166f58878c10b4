"""Every limit of the doors that is not a setting, in one place, each with its reason.

The settings (`GateSettings`) are what an operator tunes: bytes of body and header, rows, connections, requests
in flight, times. The constants here follow from them or from the protocol, and nobody should have to tune them.
"""

from __future__ import annotations

MAX_HEADERS = 100
"""Header fields in one request. A browser sends about 20, a service mesh about 40."""

MAX_PIPELINED = 16
"""Requests of one connection that may wait for answers. A client that sends more is cut off after those."""

BODY_BUDGET = 64
"""All unfinished bodies of a process together may hold this many times `max_body_bytes`."""

CHUNK_OVERHEAD = 4
"""A chunked body may take this many times `max_body_bytes` on the wire before it counts as an attack."""

WRITE_BUFFER = 256 * 1024
"""Bytes of answers a client may leave unread before its connection stops being read, bytes."""

LINGER_S = 1.0
"""How long what a refused client still sends is thrown away, so that it can read the refusal, seconds."""

LINGER_BYTES = 4 * 1024 * 1024
"""Bytes of that which are thrown away before the connection is reset."""

TICK_S = 0.25
"""How often deadlines are looked at: one sweep over the connections instead of a timer for each, seconds."""

MAX_COLD = 64
"""Requests to the pages and documents (not decisions) that may run at once."""

MAX_KEY = 200
"""Characters of an idempotency key."""

MAX_SUBJECT = 200
"""Characters of a subject's identifier."""

MAX_NAME = 63
"""Characters of a use case name (the ledger's header has no room for more)."""

MAX_PURPOSE = 200
"""Characters of a stated purpose."""

MAX_CONSENT = 200
"""Characters of a reference to a subject's consent."""

MAX_REGION = 40
"""Characters of a region."""

MAX_FEATURES_BYTES = 256 * 1024
"""Bytes of one row's features as JSON."""

IDEMPOTENCY_S = 24 * 3600
"""How long an idempotency key is remembered, seconds."""

REFUSALS_EVERY_S = 60.0
"""Refusals of callers who are not known are counted, and recorded once in this time, seconds."""
