"""One worker: the rooms put together around an event loop, its shard, its doors, and a graceful end.

Started by `serve` (`_serve.py`), in the calling process or, through `main`, in one of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as FilePath

import msgspec

from fiduciary.config import Settings
from fiduciary.errors import FiduciaryError, LedgerError
from fiduciary.gate import _limits as limits
from fiduciary.gate._app import Router
from fiduciary.gate._asgi import AsgiBridge
from fiduciary.gate._batcher import Batcher
from fiduciary.gate._http import Server
from fiduciary.gate._idempotency import Idempotency
from fiduciary.gate._metrics import Metrics
from fiduciary.gate._oip import OipRest
from fiduciary.gate._openapi import pages
from fiduciary.gate._refusals import Refusals
from fiduciary.gate._servables import Servables
from fiduciary.gate._shard import Shard
from fiduciary.gate._tracing import Tracing
from fiduciary.gate.path import Path
from fiduciary.identity import Authenticator, Authorizer
from fiduciary.ledger import Ledger
from fiduciary.registry import Registry

log = logging.getLogger("fiduciary.gate")

REOPEN_S = 2.0
"""How often a ledger that has stopped is tried again, seconds."""

MARK_S = 10.0
"""How often the idempotency index notes how much of the shard it covers, seconds; longer than any append may take."""


class Addresses(msgspec.Struct, frozen=True):
    """Where a worker listens."""

    host: str
    port: int
    grpc_port: int | None = None


class Worker:
    """Everything one process needs to answer. `run` returns when it has been told to stop and has drained."""

    def __init__(self, settings: Settings, number: int, listener: socket.socket) -> None:
        self.settings = settings
        self.name = f"gate-{number}"
        self._listener = listener
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._draining = False

    def run(self, ready: Callable[[Addresses], None] | None = None, parent: int | None = None) -> None:
        """Serve until SIGTERM, SIGINT, or until `parent` (a file descriptor) reaches its end."""
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._main(ready, parent))

    async def _main(self, ready: Callable[[Addresses], None] | None, parent: int | None) -> None:
        self._loop = loop = asyncio.get_running_loop()
        stop = self._stop = asyncio.Event()
        with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread: tests stop it by hand
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
        if parent is not None:
            loop.add_reader(parent, lambda: None if os.read(parent, 64) else stop.set())
        with Ledger.open(self.settings) as ledger:
            await self._serve(loop, ledger, stop, ready)

    def stop_from_anywhere(self) -> None:
        """Begin to drain; may be called from any thread while the worker runs."""
        assert self._loop is not None and self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)

    async def _serve(
        self,
        loop: asyncio.AbstractEventLoop,
        ledger: Ledger,
        stop: asyncio.Event,
        ready: Callable[[Addresses], None] | None,
    ) -> None:
        settings, gate = self.settings, self.settings.gate
        home = FilePath(settings.home)
        registry, loader = Registry(ledger, settings), Registry(ledger, settings)

        def epoch() -> int:
            return ledger.epoch.value

        authenticator = Authenticator.from_settings(settings, epoch, registry.revoked)
        self.authorizer = authorizer = Authorizer(home / "policies", epoch)
        known: list[object] = [b"", ""]

        def policies() -> str:
            digest = authorizer.digest
            if digest is not known[0]:
                known[:] = [digest, f"sha256:{digest.hex()}"]
            return str(known[1])

        log_file = ledger.shard(self.name)
        metrics = Metrics(home / "gate", self.name)
        idempotency = Idempotency(home / "gate" / "idempotency.sqlite", self.name, ledger)
        idempotency.recover(log_file.size)
        servables = Servables(registry, loader, loop, policies, settings.region, self.name, ledger.clock)
        batcher = Batcher(loop)
        refusals = Refusals()
        tracing = Tracing.from_settings(gate, self.name)
        path = self.path = Path(
            loop=loop,
            epoch=epoch,
            authenticator=authenticator,
            authorizer=authorizer,
            servables=servables,
            batcher=batcher,
            idempotency=idempotency,
            refusals=refusals,
            metrics=metrics,
            tracing=tracing,
            vault=ledger.vault,
            gate=gate,
            append_timeout_s=settings.ledger.append_timeout_s,
        )
        path.recorder = shard = Shard(log_file, loop, path)
        servables.preload()

        def healthy() -> bool:
            return not self._draining and path.recorder.log.failure is None and not authorizer.problem

        bridge = AsgiBridge(pages(ledger, registry, authenticator, authorizer), loop, gate.request_timeout_s)
        oip = OipRest(path.ask, servables.describe, healthy)
        router = Router(
            path=path,
            oip=oip,
            pages=bridge,
            metrics=metrics,
            refusals=refusals,
            authenticator=authenticator,
            authorizer=authorizer,
            ready=healthy,
        )
        server = Server(gate, router)
        server.start(loop)
        listening = await loop.create_server(
            server.protocol, sock=self._listener, backlog=gate.max_connections
        )
        grpc = None
        if gate.grpc_port is not None:
            from fiduciary.gate._oip_grpc import OipGrpc

            grpc = OipGrpc(gate, path.ask, servables.describe, healthy)
            await grpc.start()
        gc.collect()
        gc.freeze()  # what was loaded so far lives as long as the process
        metrics.counts.ready = True
        metrics.publish()
        host, port = self._listener.getsockname()[:2]
        log.info("%s serves on %s port %s", self.name, host, port)
        if ready is not None:
            ready(Addresses(host, port, grpc.port if grpc is not None else None))
        housekeeping = loop.create_task(
            self._keep_house(path, metrics, refusals, idempotency, server, ledger)
        )
        await stop.wait()

        log.info("%s drains", self.name)
        self._draining = True
        metrics.counts.ready = False
        listening.close()
        server.drain()
        if grpc is not None:
            await grpc.stop(gate.drain_s)
        deadline = time.monotonic() + gate.drain_s
        while (path.in_flight or server.waiting) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        housekeeping.cancel()
        server.stop()
        batcher.close()
        servables.close()
        with contextlib.suppress(FiduciaryError):
            refusals.flush(path.recorder.note)
        metrics.publish()
        shard.log.close()
        idempotency.mark(shard.log.size)
        idempotency.close()
        if tracing is not None:
            tracing.close()

    async def _keep_house(
        self,
        path: Path,
        metrics: Metrics,
        refusals: Refusals,
        idempotency: Idempotency,
        server: Server,
        ledger: Ledger,
    ) -> None:
        loop = asyncio.get_running_loop()
        threads = ThreadPoolExecutor(1, "fiduciary-reopen")
        started = time.monotonic()
        last = {"publish": started, "refusals": started, "mark": started, "reopen": started}
        covered = path.recorder.log.size

        def due(what: str, every: float) -> bool:
            now = time.monotonic()
            if now - last[what] < every:
                return False
            last[what] = now
            return True

        while True:
            await asyncio.sleep(limits.TICK_S)
            try:
                path.sweep()
                if due("publish", 1.0):
                    metrics.counts.in_flight = len(path.in_flight)
                    metrics.counts.connections = len(server.connections)
                    metrics.publish()
                if due("refusals", limits.REFUSALS_EVERY_S):
                    with contextlib.suppress(FiduciaryError):
                        refusals.flush(path.recorder.note)
                if due("mark", MARK_S):
                    idempotency.mark(
                        covered
                    )  # what lay there one round ago: nothing of it is still under way
                    covered = path.recorder.log.size
                if path.recorder.log.failure is not None and due("reopen", REOPEN_S):
                    reopened = await loop.run_in_executor(threads, ledger.shard, self.name)
                    path.recorder = Shard(reopened, loop, path)
                    idempotency.recover(reopened.size)
                    log.warning("%s has been opened again", self.name)
            except LedgerError as error:
                log.error("%s cannot be opened again: %s", self.name, error.detail)
            except Exception:
                log.exception("housekeeping failed")


def main() -> None:
    """A worker process of `serve`: settings on stdin, its number and inherited descriptors as arguments."""
    number, listener, status = (int(argument) for argument in sys.argv[1:4])
    length = int.from_bytes(os.read(0, 4), "big")
    document = b""
    while len(document) < length:
        part = os.read(0, length - len(document))
        if not part:
            raise SystemExit("the supervisor has gone")
        document += part
    settings = read_settings(document)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")

    def ready(addresses: Addresses) -> None:
        os.write(status, msgspec.json.encode(addresses) + b"\n")

    try:
        Worker(settings, number, socket.socket(fileno=listener)).run(ready, parent=0)
    except FiduciaryError as error:
        log.error("gate-%d cannot serve: %s", number, error.detail)
        raise SystemExit(error.exit_code) from None


def settings_document(settings: Settings) -> bytes:
    """Settings as JSON, for a worker process."""
    return msgspec.json.encode(settings, enc_hook=str)


def read_settings(document: bytes) -> Settings:
    """Settings as written by `settings_document`."""
    return msgspec.json.decode(document, type=Settings, dec_hook=lambda kind, text: kind(text))
