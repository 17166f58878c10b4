"""k of n: a 32-byte key split among owners so that any k of them restore it and k - 1 know nothing of it.

Shamir, How to share a secret (CACM 1979), over the prime field below 2^521. In encrypted training every owner seals
their share of the secret key under such a key and gives one piece of it to each owner; if an owner is away when the
weights are to be opened, k others can stand in for them. Fewer than k cannot, and nobody can alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from fiduciary.errors import UsageError

PRIME = 2**521 - 1
SECRET_BYTES = 32
MAX_OWNERS = 16


def split_secret(secret: bytes, k: int, n: int) -> dict[int, int]:
    """Pieces 1 to n of a 32-byte secret, any k of which restore it. Raises `UsageError`."""
    if len(secret) != SECRET_BYTES:
        raise UsageError(f"the secret must be {SECRET_BYTES} bytes, not {len(secret)}")
    if not 2 <= k <= n <= MAX_OWNERS:
        raise UsageError(f"k of n needs 2 <= k <= n <= {MAX_OWNERS}, not {k} of {n}")
    coefficients = [int.from_bytes(secret, "big"), *[secrets.randbelow(PRIME) for _ in range(k - 1)]]
    return {x: _at(coefficients, x) for x in range(1, n + 1)}


def join_secret(pieces: Mapping[int, int], k: int) -> bytes:
    """The secret from at least k pieces. Raises `UsageError` when they are too few or do not fit together."""
    if len(pieces) < k:
        raise UsageError(f"{k} pieces are needed, {len(pieces)} are here")
    if any(not 1 <= x <= MAX_OWNERS or not 0 <= y < PRIME for x, y in pieces.items()):
        raise UsageError("a piece of the secret is out of range")
    chosen = sorted(pieces.items())[:k]
    value = _interpolate(chosen, 0)
    if value >> (8 * SECRET_BYTES) or any(_interpolate(chosen, x) != y for x, y in pieces.items()):
        raise UsageError("the pieces do not belong together")
    return value.to_bytes(SECRET_BYTES, "big")


def _at(coefficients: list[int], x: int) -> int:
    value = 0
    for c in reversed(coefficients):
        value = (value * x + c) % PRIME
    return value


def _interpolate(points: list[tuple[int, int]], at: int) -> int:
    total = 0
    for x, y in points:
        top, bottom = 1, 1
        for other, _ in points:
            if other != x:
                top = top * (at - other) % PRIME
                bottom = bottom * (x - other) % PRIME
        total = (total + y * top * pow(bottom, -1, PRIME)) % PRIME
    return total
