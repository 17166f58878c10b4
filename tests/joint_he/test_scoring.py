"""Encrypted scoring with the real engine: equal answers, no secret key at the server, nothing readable on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bank import contract, rows, scorecard
from fiduciary.errors import JointError, UsageError
from fiduciary.joint.he import ClientSide, ServerSide, encoding_of
from fiduciary.joint.he._scoring import Ciphertexts
from fiduciary.models import probability
from joint_he_engines import engine


@pytest.fixture(scope="module", params=["columns", "row"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[ClientSide, ServerSide, bytes]]:
    python = engine("tenseal")
    encoding, weights = encoding_of(scorecard(), contract())
    with (
        ClientSide(encoding, "logit", python=python, packing=request.param) as client,
        ServerSide(weights, python=python) as server,
    ):
        keys = client.make_keys()
        server.load_keys(keys, request.param)
        yield client, server, keys


def test_margins_are_equal_to_a_millionth(pair: tuple[ClientSide, ServerSide, bytes]) -> None:
    client, server, _ = pair
    given = rows(4_096 if client.packing == "columns" else 9)
    answer = server.score(client.encrypt(given))
    exact = scorecard().score(given)
    assert np.abs(client.decrypt(answer, digits=12) - exact).max() < 1e-6
    assert (client.decrypt(answer) == np.round(client.decrypt(answer, digits=12), 6)).all()
    assert np.abs(client.probabilities(answer) - probability(exact, "logit")).max() < 1e-6


def test_a_server_with_a_secret_key_is_refused(pair: tuple[ClientSide, ServerSide, bytes]) -> None:
    client, server, _ = pair
    with pytest.raises(JointError, match="must not have one"):
        server.load_keys(client._secret.tobytes(), client.packing)


def test_a_bundle_of_the_client_opens_answers_again(
    pair: tuple[ClientSide, ServerSide, bytes], tmp_path: Path
) -> None:
    client, server, keys = pair
    bundle = tmp_path / "client.bundle"
    client.save(bundle)
    assert bundle.stat().st_mode & 0o077 == 0
    answer = server.score(client.encrypt(rows(3)))
    with ClientSide.load(bundle, python=engine("tenseal")) as again:
        assert (again.decrypt(answer) == client.decrypt(answer)).all()
    (tmp_path / "server.bundle").write_bytes(keys)
    with pytest.raises(UsageError, match="not a client bundle"):
        ClientSide.load(tmp_path / "server.bundle", python=engine("tenseal"))


def test_equal_rows_have_different_ciphertexts_and_show_no_value(
    pair: tuple[ClientSide, ServerSide, bytes],
) -> None:
    client, _, _ = pair
    given = np.repeat(rows(1), 4, axis=0)
    first, second = client.encrypt(given), client.encrypt(given)
    assert all(a != b for a, b in zip(first.parts, second.parts, strict=True))
    blocks = [part[i : i + 32] for part in first.parts for i in range(4_096, len(part) - 32, 4_096)]
    assert len(set(blocks)) == len(blocks)
    encoded = client.encoding.encode(given)
    for part in first.parts:
        assert encoded.tobytes() not in part and np.float64(given[0, 0]).tobytes() not in part


def test_other_keys_open_nothing(pair: tuple[ClientSide, ServerSide, bytes]) -> None:
    client, server, _ = pair
    answer = server.score(client.encrypt(rows(4)))
    with ClientSide(client.encoding, "logit", python=engine("tenseal"), packing=client.packing) as stranger:
        stranger.make_keys()
        try:
            opened = stranger.decrypt(answer)
        except JointError:
            return
        assert np.abs(opened - scorecard().score(rows(4))).min() > 1.0


def test_garbage_and_wrong_shapes_are_refused(pair: tuple[ClientSide, ServerSide, bytes]) -> None:
    client, server, _ = pair
    good = client.encrypt(rows(2))
    with pytest.raises(JointError):
        server.score(Ciphertexts(packing=good.packing, rows=2, parts=[b"garbage"] * len(good.parts)))
    if client.packing == "columns":
        with pytest.raises(JointError, match="columns"):
            server.score(Ciphertexts(packing=good.packing, rows=2, parts=good.parts[:-1]))
    assert np.abs(client.decrypt(server.score(good)) - scorecard().score(rows(2))).max() < 1e-5
