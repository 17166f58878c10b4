"""A stub of the engine for fast tests: its link speaks brpc's framing over the Unix sockets of the real one.

It hides nothing. It is there so that links, contracts, faults and ends are tested without a gigabyte.
"""

from __future__ import annotations

import queue
import socket
import struct
import threading
import time
from types import SimpleNamespace

__version__ = "stub"
HEAD = struct.Struct(">4sII")


def varint(value: int) -> bytes:
    return bytes([value])


class Context:
    def __init__(self, description: object, rank: int) -> None:
        self.rank, self.world_size = rank, len(description.parties)
        self.claims = rank  # tests lie about it
        self.paths = [path for _, path in description.parties]
        self.timeout = description.recv_timeout_ms / 1000
        self.inbox = [queue.Queue() for _ in self.paths]
        self.out: dict[int, socket.socket] = {}
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.paths[rank])
        self.listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()
        for other in range(self.world_size):
            if other != rank:
                self._connect(other, description.connect_retry_times)
                self.send(other, b"hello")
        for other in range(self.world_size):
            if other != rank:
                assert self.recv(other) == b"hello"

    def _connect(self, other: int, tries: int) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.paths[other])
        self.out[other] = sock

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._read, args=(sock,), daemon=True).start()

    def _read(self, sock: socket.socket) -> None:
        with sock.makefile("rb") as file:
            while head := file.read(HEAD.size):
                _, size, meta = HEAD.unpack(head)
                body = file.read(size)[meta:]
                sender = 0
                if body[:1] == b"\x08":
                    sender, body = body[1], body[2:]
                self.inbox[sender].put(body[1:])

    def send(self, other: int, data: bytes) -> None:
        sender = b"\x08" + varint(self.claims) if self.claims else b""
        payload = sender + b"\x12" + data
        self.out[other].sendall(HEAD.pack(b"PRPC", len(payload) + 3, 3) + b"abc" + payload)

    def recv(self, other: int) -> bytes:
        try:
            return self.inbox[other].get(timeout=self.timeout)
        except queue.Empty:
            raise TimeoutError("no message of the engine in time") from None

    def stop_link(self) -> None:
        time.sleep(0.05)
        for sock in self.out.values():
            sock.close()
        self.listener.close()


def _description() -> SimpleNamespace:
    parties: list[tuple[str, str]] = []
    return SimpleNamespace(
        parties=parties, add_party=lambda name, path: parties.append((name, path.removeprefix("unix:")))
    )


libspu = SimpleNamespace(link=SimpleNamespace(Desc=_description, create_brpc=Context))
