"""`serve`: one worker here, or a supervisor over several, each with a socket and a ledger shard of its own.

All workers listen on the same port (SO_REUSEPORT), through sockets that the supervisor made and keeps: the kernel
spreads connections over them, and those that wait when a worker dies are taken by the one that replaces it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec

from fiduciary.config import Settings
from fiduciary.errors import ConfigError, MissingExtraError
from fiduciary.gate._worker import Addresses, Worker, settings_document

log = logging.getLogger("fiduciary.gate")

START_S = 120.0
"""How long a worker may take to load its releases, seconds."""

CRASHES = 5
"""Deaths of one worker within `CRASH_WINDOW_S` after which the supervisor gives up."""

CRASH_WINDOW_S = 60.0


def serve(settings: Settings, ready: Callable[[Addresses], None] | None = None) -> None:
    """Open the doors and answer until SIGTERM or SIGINT, then drain and return.

    `ready` is called once every worker takes requests. Raises `ConfigError` when the address cannot be had, a
    needed part is missing or workers keep dying; `NotFoundError` when the home has no ledger.
    """
    check_parts(settings)
    gate = settings.gate
    listeners = listen(gate.host, gate.port, gate.workers)
    try:
        if gate.workers == 1:
            Worker(settings, 0, listeners[0]).run(ready)
        else:
            Supervisor(settings, listeners).run(ready)
    finally:
        for listener in listeners:
            listener.close()


def check_parts(settings: Settings) -> None:
    """Refuse to start on the slow substitutes: httptools and uvloop are part of the promise."""
    for name in ("httptools", "uvloop"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"{name} is not installed, and the gate does not run without it: pip install {name}"
            )
    if settings.gate.grpc_port is not None and importlib.util.find_spec("grpc") is None:
        raise MissingExtraError("gate.grpc_port is set, which needs: pip install 'fiduciary[grpc]'")
    if settings.gate.otlp_endpoint and importlib.util.find_spec("opentelemetry.sdk") is None:
        raise MissingExtraError("gate.otlp_endpoint is set, which needs: pip install 'fiduciary[otel]'")


def listen(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` listening sockets on one address. Port 0: a free one, the same for all."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigError(f"gate.host {host!r} is not an address here: {error.strerror}") from None
    found: list[socket.socket] = []
    try:
        for _ in range(count):
            listener = socket.socket(family, kind, protocol)
            found.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if count > 1:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
            address = listener.getsockname()
            listener.listen(1024)
            listener.setblocking(False)
    except OSError as error:
        for listener in found:
            listener.close()
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return found


class _Child:
    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.status = -1
        self.ready: Addresses | None = None
        self.deaths: list[float] = []
        self.next_start = 0.0
        self.started = 0.0


class Supervisor:
    """Starts workers, replaces those that die, passes the end on to all."""

    def __init__(self, settings: Settings, listeners: list[socket.socket]) -> None:
        self._settings = settings
        self._document = settings_document(settings)
        self._listeners = listeners
        self._children = [_Child(number) for number in range(len(listeners))]
        self._selector = selectors.DefaultSelector()
        self._stopping = False

    def run(self, ready: Callable[[Addresses], None] | None = None) -> None:
        """Supervise until SIGTERM or SIGINT. Raises `ConfigError` when a worker keeps dying."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        self._selector.register(wake_read, selectors.EVENT_READ, None)
        before = {}

        def stop(number: int, frame: object) -> None:
            self._stopping = True
            with contextlib.suppress(BlockingIOError):
                os.write(wake_write, b"!")

        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, stop)
        told = False
        try:
            while not self._stopping:
                for child in self._children:
                    self._tend(child)
                for key, _ in self._selector.select(0.2):
                    if key.data is None:
                        os.read(wake_read, 64)
                    else:
                        self._hear(key.data)
                if not told and all(child.ready for child in self._children):
                    told = True
                    if ready is not None:
                        first = self._children[0].ready
                        assert first is not None
                        ready(first)
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            os.close(wake_read)
            os.close(wake_write)

    def _tend(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None:
            code = child.process.poll()
            if code is None:
                if child.ready is None and now - child.started > START_S:
                    log.error("gate-%d did not become ready in %.0f s", child.number, START_S)
                    child.process.kill()
                return
            log.error("gate-%d ended with %d", child.number, code)
            self._forget(child)
            child.deaths = [at for at in child.deaths if now - at < CRASH_WINDOW_S] + [now]
            if len(child.deaths) >= CRASHES:
                raise ConfigError(
                    f"worker gate-{child.number} died {CRASHES} times within {CRASH_WINDOW_S:.0f} s: see its log"
                )
            child.next_start = now + 0.1 * 2 ** len(child.deaths)
        if now >= child.next_start:
            self._start(child)

    def _start(self, child: _Child) -> None:
        status_read, status_write = os.pipe()
        listener = self._listeners[child.number]
        child.process = subprocess.Popen(
            [
                sys.executable, "-c", "from fiduciary.gate._worker import main; main()",
                str(child.number), str(listener.fileno()), str(status_write),
            ],
            stdin=subprocess.PIPE,
            pass_fds=(listener.fileno(), status_write),
            start_new_session=True,  # a Ctrl-C in the terminal comes to the supervisor alone
        )  # fmt: skip
        os.close(status_write)
        child.status, child.started, child.ready = status_read, time.monotonic(), None
        self._selector.register(status_read, selectors.EVENT_READ, child)
        assert child.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            child.process.stdin.write(len(self._document).to_bytes(4, "big") + self._document)
            child.process.stdin.flush()  # left open: its end tells the worker that we are gone

    def _hear(self, child: _Child) -> None:
        said = os.read(child.status, 4096)
        if said:
            child.ready = msgspec.json.decode(said.splitlines()[0], type=Addresses)
        else:
            self._selector.unregister(child.status)
            os.close(child.status)
            child.status = -1

    def _forget(self, child: _Child) -> None:
        if child.status >= 0:
            self._selector.unregister(child.status)
            os.close(child.status)
            child.status = -1
        if child.process is not None and child.process.stdin is not None:
            with contextlib.suppress(OSError):
                child.process.stdin.close()
        child.process = None
        child.ready = None

    def _end(self) -> None:
        """Ask all workers to drain, wait for them, and kill those that do not end."""
        alive = [child.process for child in self._children if child.process is not None]
        for process in alive:
            process.terminate()
        deadline = time.monotonic() + self._settings.gate.drain_s + 5.0
        for process in alive:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for child in self._children:
            self._forget(child)
