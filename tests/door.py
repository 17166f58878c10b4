"""A gate that is open: a small bank, a worker on its own thread, real sockets."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from bank import USE_CASE, Bank
from fiduciary.decision import DecisionRecord, decode_record
from fiduciary.gate import Addresses, Worker
from fiduciary.gate._serve import listen
from fiduciary.identity import LocalIssuer, install_default_policies

ROW: dict[str, Any] = {"utilisation": 0.7, "late_payments": 2, "housing": "renter"}
USE = USE_CASE.name


class Reply(msgspec.Struct):
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        """The problem type without its prefix."""
        return str(self.json()["type"]).removeprefix("urn:fiduciary:problem:")


class OpenGate:
    """`limits` are GateSettings fields, `ledger` LedgerSettings fields."""

    def __init__(
        self, folder: Path, *, bank: Bank | None = None, ledger: dict[str, Any] | None = None, **limits: Any
    ) -> None:
        if bank is None:
            bank = Bank(folder)
            self.release = bank.live()
        self.bank = bank
        self.home = bank.settings.home
        if not (self.home / "policies" / "default.cedar").exists():
            install_default_policies(self.home / "policies")
        self.issuer = (
            LocalIssuer.open(self.home) if LocalIssuer.exists(self.home) else LocalIssuer.create(self.home)
        )
        self.settings = msgspec.structs.replace(
            bank.settings,
            gate=msgspec.structs.replace(bank.settings.gate, port=0, **limits),
            ledger=msgspec.structs.replace(bank.settings.ledger, **(ledger or {})),
        )
        self.token = self.issue("svc-loans", "application", kind="service")
        self.start()

    def issue(self, subject: str, *roles: str, **more: Any) -> str:
        return self.issuer.issue(subject, roles, region="eu", **more)

    def start(self) -> None:
        opened = threading.Event()
        listener = listen("127.0.0.1", 0, 1)[0]
        self.worker = Worker(self.settings, 0, listener)
        self.failure: BaseException | None = None

        def ready(addresses: Addresses) -> None:
            self.addresses = addresses
            opened.set()

        def run() -> None:
            try:
                self.worker.run(ready)
            except BaseException as error:
                self.failure = error
            finally:
                listener.close()
                opened.set()

        self.thread = threading.Thread(target=run)
        self.thread.start()
        assert opened.wait(30)
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """Drain and wait for the end."""
        self.worker.stop_from_anywhere()
        self.thread.join(30)
        assert not self.thread.is_alive()

    def close(self) -> None:
        if self.thread.is_alive():
            self.stop()
        self.bank.ledger.close()

    # asking

    def request(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        token: str | None = None,
        **headers: str,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.addresses.port, timeout=20)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            if token is not None:
                named["Authorization"] = f"Bearer {token}"
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def post(self, document: Any, path: str = "/v1/decisions", **headers: str) -> Reply:
        body = document if isinstance(document, bytes | str) else json.dumps(document)
        headers.setdefault("token", self.token)
        return self.request("POST", path, body, **headers)

    def ask(
        self, subject: str = "customer-1", features: dict[str, Any] | None = None, **headers: str
    ) -> Reply:
        return self.post({"use_case": USE, "subject": subject, "features": features or ROW}, **headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.addresses.port), timeout=20)

    def raw(self, sent: bytes, wait: float = 20) -> bytes:
        """Send bytes, return everything that comes until the server closes (or `wait` is over)."""
        with self.connect() as connection:
            connection.sendall(sent)
            return read_all(connection, wait)

    def head(self, path: str = "/v1/decisions", **headers: str | int) -> bytes:
        """A request's header up to, not including, the empty line."""
        named = {"Host": "gate", "Authorization": f"Bearer {self.token}", **headers}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in named.items()]
        return "\r\n".join([f"POST {path} HTTP/1.1", *lines, ""]).encode()

    # what was recorded

    def records(self, start: int = 0) -> list[DecisionRecord]:
        """Decision records of the shard (sums of refusals left out)."""
        found = []
        for record in self.bank.ledger.records("gate-0", start):
            assert record.payload is not None
            document = json.loads(record.payload)
            if document.get("problem") != "sum":
                found.append(decode_record(record.payload))
        return found

    def sums(self) -> dict[str, int]:
        """Refusals recorded in sums, by problem type."""
        total: dict[str, int] = {}
        for record in self.bank.ledger.records("gate-0"):
            assert record.payload is not None
            document = json.loads(record.payload)
            if document.get("problem") == "sum":
                for kind, count in document["counts"].items():
                    total[kind] = total.get(kind, 0) + count
        return total


def read_all(connection: socket.socket, wait: float = 20) -> bytes:
    """Everything that comes until the other side closes, or `wait` seconds are over."""
    parts = []
    end = time.monotonic() + wait
    while (left := end - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            part = connection.recv(65536)
        except (TimeoutError, ConnectionResetError):
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)
