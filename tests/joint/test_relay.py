"""Links: who is let in, what is said to whom is not, and bytes that arrive as they were sent."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fiduciary.joint._certificates import make_certificate, save_certificate
from fiduciary.joint._guard import HEAD, Foreign, Guard
from fiduciary.joint._pinning import listen
from fiduciary.joint._relay import Event, Peer, Relay

NAMES = ("bank", "telco", "regulator")


class Office:
    """Three parties' certificates and relays that can be made with wrong ones."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fr-"))
        self.listeners = [listen("127.0.0.1:0") for _ in NAMES]
        self.addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in self.listeners]
        now = time.time()
        self.made = [make_certificate(n, "job", now + 3600, now) for n in NAMES]
        self.relays: list[Relay] = []

    def relay(
        self,
        rank: int,
        *,
        uses: tuple[str, bytes] | None = None,
        contract: str = "sha256:1",
        parties: int = 2,
    ) -> Relay:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        certificate, key = save_certificate(folder, *(uses or self.made[rank]))
        peers = [
            Peer(name=NAMES[r], address=self.addresses[r], certificate=self.made[r][0]) if r != rank else None
            for r in range(parties)
        ]
        relay = Relay(
            rank=rank,
            peers=peers,
            contract=contract,
            certificate=certificate,
            private_key=key,
            folder=folder,
            bind=self.addresses[rank],
            listener=self.listeners[rank],
        )
        self.relays.append(relay)
        relay.start()
        return relay

    def close(self) -> None:
        for relay in self.relays:
            relay.close()
        for listener in self.listeners:
            listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def office() -> Iterator[Office]:
    made = Office()
    yield made
    made.close()


def wait(relay: Relay, kind: str, timeout: float = 6.0) -> Event:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        event = relay.events.get(timeout=max(0.01, deadline - time.monotonic()))
        if event.kind == kind:
            return event
    raise AssertionError(f"no event {kind}")


def until(reached: Callable[[], Any], timeout: float = 6.0) -> Any:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = reached()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def test_right_certificates_link_and_messages_arrive(office: Office) -> None:
    a, b = office.relay(0), office.relay(1)
    assert wait(a, "linked").rank == 1 and wait(b, "linked").rank == 0
    a.send(1, {"type": "ready"})
    assert wait(b, "message").message == {"type": "ready"}


def test_the_certificate_of_another_rank_is_refused_on_every_side(office: Office) -> None:
    """The engine's own TLS took this one: the chain is good and the party is of the job, at another rank."""
    a = office.relay(0, parties=3)
    b = office.relay(1, uses=office.made[2], parties=3)
    assert "answers with the certificate of regulator" in wait(a, "violation").reason
    told = until(lambda: [r for r in b.refusals if "regulator" in r])
    assert "answers with the certificate of regulator" in told[0]
    assert not a.linked & {1} and not b.linked


def test_a_dialler_with_another_ranks_certificate_is_refused_on_every_side(office: Office) -> None:
    b = office.relay(1, parties=3)
    a = office.relay(0, uses=office.made[2], parties=3)
    assert "says it is bank carries the certificate of regulator" in wait(b, "violation").reason
    until(lambda: "carries the certificate of regulator" in a.reasons.get(1, ""))
    assert not b.linked


def test_a_foreign_certificate_is_refused_on_every_side(office: Office) -> None:
    now = time.time()
    b = office.relay(1)
    a = office.relay(0, uses=make_certificate("bank", "job", now + 3600, now))
    assert "not one of the contract's" in wait(b, "stranger").reason
    until(lambda: "refused our certificate" in a.reasons.get(1, ""))
    assert not a.linked and not b.linked


def test_an_expired_certificate_is_refused_on_every_side(office: Office) -> None:
    now = time.time()
    office.made[0] = make_certificate("bank", "job", now - 60, now - 7200)
    b, a = office.relay(1), office.relay(0)
    assert "expired" in wait(b, "stranger").reason
    until(lambda: "expired" in a.reasons.get(1, ""))
    assert not a.linked and not b.linked


def test_another_contract_is_refused_on_every_side(office: Office) -> None:
    a, b = office.relay(0), office.relay(1, contract="sha256:2")
    assert "another contract" in wait(b, "violation").reason
    until(lambda: "another contract" in a.reasons.get(1, ""))


def test_strangers_and_garbage_cost_nothing(office: Office) -> None:
    b = office.relay(1)
    host, port = office.addresses[1].split(":")
    for raw in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(400)):
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(raw)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        socket.create_connection((host, int(port))) as sock,
        context.wrap_socket(sock) as secure,
    ):
        secure.sendall(b"x")
        if not secure.recv(1):
            raise ConnectionError
    a = office.relay(0)
    wait(a, "linked")
    assert wait(b, "linked").rank == 0


def echo(path: str, done: list[bytes]) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(2)

    def serve() -> None:
        sock, _ = server.accept()
        with sock, sock.makefile("rb") as file:
            while head := file.read(HEAD.size):
                body = file.read(HEAD.unpack(head)[1])
                done.append(body)
                sock.sendall(head + body)
        server.close()

    threading.Thread(target=serve, daemon=True).start()


def message(sender: int, size: int) -> bytes:
    payload = (bytes([8, sender]) if sender else b"") + b"\x12" + os.urandom(size)
    return HEAD.pack(b"PRPC", len(payload) + 2, 2) + b"me" + payload


def test_streams_carry_every_byte_both_ways(office: Office) -> None:
    a, b = office.relay(0), office.relay(1)
    wait(a, "linked"), wait(b, "linked")
    done: list[bytes] = []
    echo(a.socket_path(0), done)
    sent = [message(1, size) for size in (0, 1, 5_000_000, 100, 70_000)]
    with socket.socket(socket.AF_UNIX) as engine:
        engine.connect(b.socket_path(0))
        threading.Thread(target=lambda: [engine.sendall(m) for m in sent], daemon=True).start()
        back = b""
        while len(back) < sum(map(len, sent)):
            part = engine.recv(1 << 20)
            assert part
            back += part
    assert hashlib.sha256(back).digest() == hashlib.sha256(b"".join(sent)).digest()
    assert b.traffic[0].sent_bytes == len(back) and b.traffic[0].sent_messages == len(sent)
    assert a.traffic[1].received_bytes == len(back)


def test_a_message_in_anothers_name_ends_the_link(office: Office) -> None:
    a, b = office.relay(0), office.relay(1)
    wait(a, "linked"), wait(b, "linked")
    done: list[bytes] = []
    echo(a.socket_path(0), done)
    with socket.socket(socket.AF_UNIX) as engine:
        engine.connect(b.socket_path(0))
        engine.sendall(message(1, 10) + message(2, 10))
        assert "names rank 2 as its sender on the link of rank 1" in wait(a, "violation").reason
    assert len(done) <= 1


@pytest.mark.parametrize("step", [1, 2, 3, 7, 13, 1000])
def test_the_guard_follows_messages_however_they_are_cut(step: int) -> None:
    stream = b"".join(message(3, size) for size in (0, 5, 40, 300)) + HEAD.pack(b"PRPC", 2, 2) + b"me"
    counting = Guard(None)
    for at in range(0, len(stream), step):
        counting.feed(memoryview(stream[at : at + step]))
    assert counting.messages == 5
    guard = Guard(3)
    with pytest.raises(Foreign, match="rank 0"):  # the last has no sender: rank 0
        for at in range(0, len(stream), step):
            guard.feed(memoryview(stream[at : at + step]))
    with pytest.raises(Foreign, match="not the engine"):
        Guard(None).feed(memoryview(b"HTTP/1.1 200 OK"))
