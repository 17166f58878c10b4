"""k of n pieces restore a key; fewer tell nothing of it."""

from __future__ import annotations

import itertools
import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.errors import UsageError
from fiduciary.joint.he import join_secret, split_secret
from fiduciary.joint.he._threshold import PRIME, _interpolate


@given(secret=st.binary(min_size=32, max_size=32), data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_k_pieces_restore_the_secret(secret: bytes, data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 6))
    k = data.draw(st.integers(2, n))
    pieces = split_secret(secret, k, n)
    chosen = data.draw(st.sets(st.sampled_from(sorted(pieces)), min_size=k))
    assert join_secret({x: pieces[x] for x in chosen}, k) == secret


def test_fewer_pieces_fit_every_secret() -> None:
    """Perfect secrecy, shown the constructive way: k - 1 pieces are consistent with any secret whatever."""
    secret = secrets.token_bytes(32)
    pieces = split_secret(secret, 3, 5)
    for pair in itertools.combinations(pieces, 2):
        for other in (0, 1, int.from_bytes(secrets.token_bytes(32), "big")):
            points = [(0, other), *[(x, pieces[x]) for x in pair]]
            assert 0 <= _interpolate(points, 4) < PRIME  # a polynomial of degree 2 through them always exists
            assert all(_interpolate(points, x) == y for x, y in points)
    with pytest.raises(UsageError, match="3 pieces are needed"):
        join_secret({1: pieces[1], 2: pieces[2]}, 3)


def test_pieces_of_different_secrets_do_not_join() -> None:
    a, b = split_secret(bytes(32), 2, 3), split_secret(b"\1" * 32, 2, 3)
    with pytest.raises(UsageError, match="belong together"):
        join_secret({1: a[1], 2: b[2], 3: a[3]}, 2)


@pytest.mark.parametrize(("k", "n"), [(1, 3), (4, 3), (2, 17)])
def test_senseless_numbers_are_refused(k: int, n: int) -> None:
    with pytest.raises(UsageError):
        split_secret(bytes(32), k, n)
