"""The links of one party: TLS 1.3 between relays, each end pinned to the one certificate of its rank.

The engine checks a certificate's chain and not whose it is, so it never sees the network: its sockets are Unix
sockets in a private folder, and this relay carries them. One control link per pair says hello, beats, aborts and
exchanges signatures; engine streams ride on links of their own. One thread pumps; links are made and judged in
short-lived threads beside it.

A link is refused, and the other end told why, when its certificate is no party's, has expired, or is that of
another rank than it claims; when it speaks of another contract; when a message names another sender than the
link's owner. Proof: tests/joint/test_relay.py.
"""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fiduciary.joint._guard import Guard
from fiduciary.joint._pinning import (
    LinkError,
    close,
    explain,
    listen,
    peer_fingerprint,
    pem_fingerprint,
    receive_preface,
    send_preface,
    split_address,
    tls_context,
)
from fiduciary.joint._streams import Channel, Pump

BEAT_S = 1.0
RETRY_S = 0.25
HANDSHAKE_S = 10.0
MAX_HANDSHAKES = 32
"""Most links being made at once; more are closed unheard."""
MAX_STREAMS = 16
"""Most engine streams of one peer at once."""
MAX_REFUSALS = 20


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What the member must know.

    `linked`; `message`; `lost` (a link of a party ended); `violation` (a party of the job did what none may);
    `stranger` (a link by nobody in the contract was refused).
    """

    kind: str
    rank: int = -1
    reason: str = ""
    message: dict[str, Any] = {}


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another party as its links see it."""

    name: str
    address: str
    certificate: str
    """PEM, as its owner signed it into the contract."""


class Traffic(msgspec.Struct, kw_only=True):
    """The engine's traffic with one peer."""

    sent_bytes: int = 0
    received_bytes: int = 0
    sent_messages: int = 0


class Relay:
    """The links of the party at `rank`. `start` opens them; what happens comes out of `events`; `close` ends all.

    `peers`: by rank, None at the own rank. `folder`: a private folder for the engine's sockets. `bind`: where to
    listen, host:port. `contract`: the digest that every link must name. `tap`: sees the engine's bytes as they
    go out in TLS, for tests of secrecy only.
    """

    def __init__(
        self,
        *,
        rank: int,
        peers: Sequence[Peer | None],
        contract: str,
        certificate: Path,
        private_key: Path,
        folder: Path,
        bind: str,
        listener: socket.socket | None = None,
        tap: Callable[[int, bytes], None] | None = None,
    ) -> None:
        self.rank, self.contract = rank, contract
        self.peers = {r: peer for r, peer in enumerate(peers) if peer is not None}
        self.events: queue.Queue[Event] = queue.Queue()
        self.traffic = {r: Traffic() for r in self.peers}
        self.linked: set[int] = set()
        self.heard: dict[int, float] = {}
        self.reasons: dict[int, str] = {}
        """Rank -> why its last attempt, or ours, came to nothing."""
        self.refusals: list[str] = []
        self._ranks = {pem_fingerprint(p.certificate): r for r, p in self.peers.items()}
        anchors = "".join(p.certificate for p in self.peers.values())
        self._server = tls_context(True, certificate, private_key, anchors)
        self._client = tls_context(False, certificate, private_key, anchors)
        self._folder, self._bind, self._listener, self._tap = folder, bind, listener, tap
        self._selector = selectors.DefaultSelector()
        self._channels: dict[int, Channel] = {}
        self._pumps: dict[Pump, int] = {}
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._closing = threading.Event()
        self._making = threading.Semaphore(MAX_HANDSHAKES)
        self._thread = threading.Thread(target=self._loop, name=f"relay-{rank}", daemon=True)

    # --- from the member's thread ---

    def socket_path(self, rank: int) -> str:
        """The Unix socket behind which the party at `rank` answers, as this party's engine sees it."""
        return str(self._folder / f"{rank}.sock")

    def start(self) -> None:
        """Listen and begin to link. Raises `OSError` when the address is taken."""
        if self._listener is None:
            self._listener = listen(self._bind)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_r, selectors.EVENT_READ, self._woken)
        for rank in self.peers:
            local = socket.socket(socket.AF_UNIX)
            local.bind(self.socket_path(rank))
            local.listen(16)
            local.setblocking(False)
            self._selector.register(local, selectors.EVENT_READ, self._local(rank))
            if rank > self.rank:
                threading.Thread(target=self._dial_control, args=(rank,), daemon=True).start()
        self._thread.start()

    def send(self, rank: int, message: dict[str, Any]) -> None:
        """Send a message on a control link; it is dropped when the link is down."""
        self._call(lambda: self._channels[rank].queue(message) if rank in self._channels else None)

    def broadcast(self, message: dict[str, Any]) -> None:
        """Send a message to every peer."""
        for rank in self.peers:
            self.send(rank, message)

    def close(self) -> None:
        """Flush what waits on control links (at most a second), then end every link."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._wake_w.send(b"x")
        if self._thread.ident is not None:
            self._thread.join(5)

    # --- the loop ---

    def _call(self, function: Callable[[], None]) -> None:
        self._calls.put(function)
        with contextlib.suppress(OSError):
            self._wake_w.send(b"x")

    def _loop(self) -> None:
        beat = 0.0
        try:
            while not self._closing.is_set():
                self._turn(0.2)
                now = time.monotonic()
                if now - beat >= BEAT_S:
                    beat = now
                    for channel in list(self._channels.values()):
                        channel.queue({"type": "beat"})
            self._woken(self._wake_r)
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline and any(c.waiting for c in self._channels.values()):
                self._turn(0.05)
        finally:
            for channel in list(self._channels.values()):
                channel.end("")
            for pump in list(self._pumps):
                pump.end("")
            for key in list(self._selector.get_map().values()):
                close(key.fileobj)
            self._selector.close()
            close(self._wake_w)
            self._woken_last()

    def _turn(self, timeout: float) -> None:
        for key, mask in self._selector.select(timeout):
            if isinstance(key.data, Pump | Channel):
                if not key.data.closed:
                    key.data.ready(key.fileobj, mask)
            else:
                key.data(key.fileobj)

    def _woken(self, sock: Any) -> None:
        with contextlib.suppress(OSError):
            sock.recv(4096)
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()()

    def _woken_last(self) -> None:
        """Sockets that a helper thread handed over too late are closed by their own call, which finds us closing."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()()

    # --- others come to us ---

    def _accept(self, listener: Any) -> None:
        with contextlib.suppress(OSError):
            sock, _ = listener.accept()
            self._in_thread(self._welcome, sock)

    def _in_thread(self, function: Callable[..., None], sock: socket.socket, *more: Any) -> None:
        if not self._making.acquire(blocking=False):
            close(sock)
            return

        def run() -> None:
            try:
                function(sock, *more)
            finally:
                self._making.release()

        threading.Thread(target=run, daemon=True).start()

    def _welcome(self, sock: socket.socket) -> None:
        rank, secure = -1, sock
        try:
            sock.settimeout(HANDSHAKE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secure = self._server.wrap_socket(sock, server_side=True)
            rank = self._ranks.get(peer_fingerprint(secure), -1)
            hello = receive_preface(secure)
            kind = self._judge(hello, rank)
            if kind == "control":
                send_preface(secure, {"ok": True})
                self._hand_over(rank, secure)
                return
            local = socket.socket(socket.AF_UNIX)
            local.settimeout(HANDSHAKE_S)
            try:
                local.connect(self.socket_path(self.rank))
            except OSError:
                close(local)
                raise LinkError("the engine here is not up yet") from None
            send_preface(secure, {"ok": True})
            secure.setblocking(False)
            local.setblocking(False)
            self._call(lambda: self._join(rank, secure, local, dialled=False))
        except LinkError as error:
            with contextlib.suppress(OSError, ssl.SSLError):
                send_preface(secure, {"refused": error.reason})
            self._refused(rank, error.reason, violation=error.rank >= 0)
            close(secure)
        except (OSError, EOFError, ssl.SSLError, ValueError) as error:
            self._refused(rank, explain(error))
            close(secure)

    def _judge(self, hello: dict[str, Any], rank: int) -> str:
        """The kind of link that an incoming hello asks for. Raises `LinkError`."""
        if rank < 0:
            raise LinkError("its certificate is not one of the contract's")
        if "refused" in hello:
            raise LinkError(f"it refuses: {str(hello['refused'])[:400]}", rank=rank)
        claimed = hello.get("rank")
        if claimed != rank:
            name = (
                self.peers[claimed].name
                if isinstance(claimed, int) and claimed in self.peers
                else "another party"
            )
            raise LinkError(
                f"a link that says it is {name} carries the certificate of {self.peers[rank].name}", rank=rank
            )
        if hello.get("contract") != self.contract:
            raise LinkError("it speaks of another contract", rank=rank)
        kind = hello.get("kind")
        if kind == "control":
            if rank > self.rank or rank in self._channels:
                raise LinkError("it has a control link already", rank=rank)
        elif kind == "data":
            if rank not in self._channels or sum(r == rank for r in self._pumps.values()) >= MAX_STREAMS:
                raise LinkError("it opens an engine's stream out of turn", rank=rank)
        else:
            raise LinkError("it does not speak this protocol", rank=rank)
        return str(kind)

    def _refused(self, rank: int, reason: str, *, violation: bool = False) -> None:
        if self._closing.is_set():
            return
        if rank >= 0:
            self.reasons[rank] = reason
        if len(self.refusals) < MAX_REFUSALS:
            self.refusals.append(reason)
        kind = "violation" if violation else "stranger"
        self.events.put(Event(kind=kind, rank=rank, reason=reason))

    # --- we go to others ---

    def _dial(self, rank: int, kind: str) -> ssl.SSLSocket:
        """A judged link to a peer. Raises `LinkError` with `rank` set when trying again cannot help."""
        peer = self.peers[rank]
        sock: socket.socket | None = None
        try:
            sock = socket.create_connection(split_address(peer.address), timeout=HANDSHAKE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secure = self._client.wrap_socket(sock)
            sock = secure
            found = peer_fingerprint(secure)
            if self._ranks.get(found) != rank:
                other = (
                    self.peers[self._ranks[found]].name if found in self._ranks else "nobody in the contract"
                )
                reason = f"the address of {peer.name} answers with the certificate of {other}"
                send_preface(secure, {"refused": reason, "rank": self.rank, "contract": self.contract})
                raise LinkError(reason, rank=rank)
            send_preface(secure, {"v": 1, "contract": self.contract, "kind": kind, "rank": self.rank})
            answer = receive_preface(secure)
            if answer.get("ok") is not True:
                raise LinkError(f"it refuses: {str(answer.get('refused'))[:400]}")
            return secure
        except LinkError:
            close(sock)
            raise
        except (OSError, EOFError, ssl.SSLError) as error:
            close(sock)
            raise LinkError(explain(error)) from None

    def _dial_control(self, rank: int) -> None:
        while not self._closing.is_set():
            try:
                secure = self._dial(rank, "control")
            except LinkError as error:
                self.reasons[rank] = error.reason
                if error.rank >= 0:
                    self.events.put(Event(kind="violation", rank=rank, reason=error.reason))
                    return
                self._closing.wait(RETRY_S)
                continue
            self._hand_over(rank, secure)
            return

    def _hand_over(self, rank: int, secure: ssl.SSLSocket) -> None:
        secure.setblocking(False)
        self._call(lambda: self._adopt(rank, secure))

    def _local(self, rank: int) -> Callable[[Any], None]:
        def accept(listener: Any) -> None:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                self._in_thread(self._carry, sock, rank)

        return accept

    def _carry(self, local: socket.socket, rank: int) -> None:
        """Our engine opens a stream to a peer's."""
        deadline = time.monotonic() + HANDSHAKE_S
        while True:
            try:
                secure = self._dial(rank, "data")
                break
            except LinkError as error:
                self.reasons[rank] = error.reason
                if error.rank >= 0 or time.monotonic() > deadline or self._closing.wait(0.05):
                    close(local)
                    return
        secure.setblocking(False)
        local.setblocking(False)
        self._call(lambda: self._join(rank, secure, local, dialled=True))

    # --- links that stand ---

    def _adopt(self, rank: int, secure: ssl.SSLSocket) -> None:
        if self._closing.is_set() or rank in self._channels:
            close(secure)
            return

        def message(body: dict[str, Any]) -> None:
            self.heard[rank] = time.monotonic()
            if body["type"] != "beat":
                self.events.put(Event(kind="message", rank=rank, message=body))

        def end(reason: str) -> None:
            if reason and not self._closing.is_set():
                self.events.put(Event(kind="lost", rank=rank, reason=reason))

        self.heard[rank] = time.monotonic()
        self.linked.add(rank)
        self.events.put(Event(kind="linked", rank=rank))
        self._channels[rank] = Channel(self._selector, secure, on_message=message, on_end=end)

    def _join(self, rank: int, secure: ssl.SSLSocket, local: socket.socket, *, dialled: bool) -> None:
        """Pump between our engine and a peer's. Requests travel in the direction of the dial."""
        if self._closing.is_set():
            close(secure, local)
            return
        traffic, tap = self.traffic[rank], self._tap
        outgoing, incoming = Guard(None) if dialled else None, None if dialled else Guard(rank)

        def out(data: memoryview) -> None:
            if tap is not None:
                tap(rank, bytes(data))
            traffic.sent_bytes += len(data)
            if outgoing is not None:
                before = outgoing.messages
                outgoing.feed(data)
                traffic.sent_messages += outgoing.messages - before

        def taken(data: memoryview) -> None:
            traffic.received_bytes += len(data)
            if incoming is not None:
                incoming.feed(data)

        def end(pump: Pump, reason: str) -> None:
            self._pumps.pop(pump, None)
            if reason:
                self._refused(rank, reason, violation=True)

        pump = Pump(
            self._selector,
            local,
            secure,
            watch_a=out,
            watch_b=taken,
            on_end=end,
        )
        if not pump.closed:
            self._pumps[pump] = rank
