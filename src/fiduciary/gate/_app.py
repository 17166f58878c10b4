"""Which door a request came to: the hot routes by hand, everything else to the pages behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from fiduciary.errors import FiduciaryError
from fiduciary.gate._http import Exchange
from fiduciary.gate._native import NativeQuestion
from fiduciary.gate._oip import OipRest, method_not_allowed
from fiduciary.identity import Resource

if TYPE_CHECKING:
    from fiduciary.gate._asgi import AsgiBridge
    from fiduciary.gate._metrics import Metrics
    from fiduciary.gate._refusals import Refusals
    from fiduciary.gate.path import Path
    from fiduciary.identity import Authenticator, Authorizer

_encode = msgspec.json.Encoder().encode
_METRICS = Resource("Metrics")


class Router:
    """The application behind the connections."""

    def __init__(
        self,
        *,
        path: Path,
        oip: OipRest,
        pages: AsgiBridge,
        metrics: Metrics,
        refusals: Refusals,
        authenticator: Authenticator,
        authorizer: Authorizer,
        ready: Callable[[], bool],
    ) -> None:
        self._ask = path.ask
        self._oip = oip
        self._pages = pages
        self._metrics = metrics
        self._refusals = refusals
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._ready = ready

    def __call__(self, exchange: Exchange) -> None:
        """Take a request; it is answered exactly once."""
        path = exchange.path
        try:
            if path == b"/v1/decisions":
                if exchange.method == b"POST":
                    self._ask(NativeQuestion(exchange))
                else:
                    method_not_allowed(exchange, b"POST")
            elif path.startswith(b"/v2/") or path == b"/v2":
                self._oip(exchange)
            elif path == b"/metrics":
                self._scrape(exchange)
            elif path == b"/health/live":
                exchange.reply(200, b'{"live":true}')
            elif path == b"/health/ready":
                ready = self._ready()
                exchange.reply(200 if ready else 503, _encode({"ready": ready}))
            else:
                self._pages(exchange)
        except FiduciaryError as error:
            self._metrics.refused(error.kind)
            exchange.refuse(error)

    def refused(self, kind: str) -> None:
        """A request was refused before it was one."""
        self._metrics.refused(kind)
        self._refusals.count(kind)

    def _scrape(self, exchange: Exchange) -> None:
        if exchange.method not in (b"GET", b"HEAD"):
            return method_not_allowed(exchange, b"GET, HEAD")
        principal = self._authenticator.authenticate(exchange.headers.get(b"authorization"))
        self._authorizer.require(principal, "read_metrics", _METRICS)
        body, kind = self._metrics.page(exchange.headers.get(b"accept", b"").decode("latin-1"))
        exchange.reply(200, body, kind.encode())
        return None
