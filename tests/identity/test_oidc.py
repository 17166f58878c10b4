"""Keys from a provider's address: discovery, rotation, and a provider that is slow, large, lying or gone."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fiduciary.config import AuthSettings, IssuerSettings
from fiduciary.errors import AuthenticationError, ConfigError, OverloadedError
from fiduciary.identity import Authenticator, Keyring, LocalIssuer, UrlKeys, _jwks


class Provider:
    """An OpenID provider on loopback: real sockets, a real issuer's keys, and faults on demand."""

    def __init__(self, folder: Path) -> None:
        provider = self
        self.hits: list[str] = []
        self.fault: Callable[[BaseHTTPRequestHandler], bool] = lambda handler: False
        self.claimed: str | None = None

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.hits.append(self.path)
                if provider.fault(self):
                    return
                document: dict[str, Any] = {
                    "/.well-known/openid-configuration": {
                        "issuer": provider.claimed or provider.url,
                        "jwks_uri": provider.url + "/jwks",
                    },
                    "/jwks": provider.issuer.jwks(),
                    "/moved": provider.issuer.jwks(),
                    "/large": {**provider.issuer.jwks(), "padding": " " * 300_000},
                }.get(self.path, {})
                body = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.issuer = LocalIssuer.create(folder, issuer=self.url)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def header(self) -> bytes:
        return b"Bearer " + self.issuer.issue("svc", ["application"], kind="service").encode()


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    made = Provider(tmp_path / "provider")
    yield made
    made.server.shutdown()
    made.server.server_close()


def door(
    provider: Provider, tmp_path: Path, *, discovery: bool = True, refresh_s: int = 300
) -> Authenticator:
    entry = IssuerSettings(
        issuer=provider.url, discovery=discovery, jwks_url=None if discovery else provider.url + "/jwks"
    )
    settings = AuthSettings(issuers=[entry], jwks_refresh_s=refresh_s)
    return Authenticator(settings, lambda: 0, None, Keyring.from_settings(settings, tmp_path))


def rule(door: Authenticator, header: bytes) -> str:
    with pytest.raises(AuthenticationError) as caught:
        door.authenticate(header)
    return str(caught.value.more["rule"])


@pytest.mark.parametrize("discovery", [True, False])
def test_keys_are_discovered(provider: Provider, tmp_path: Path, discovery: bool) -> None:
    gate = door(provider, tmp_path, discovery=discovery)
    gate.keyring.prefetch()
    assert gate.authenticate(provider.header()).issuer == provider.url
    expected = ["/.well-known/openid-configuration", "/jwks"] if discovery else ["/jwks"]
    assert provider.hits == expected


def test_the_first_token_waits_for_the_keys(provider: Provider, tmp_path: Path) -> None:
    assert door(provider, tmp_path).authenticate(provider.header()).subject == "svc"


def test_a_new_key_is_read_once_and_strangers_cannot_cause_more(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = door(provider, tmp_path, discovery=False)
    gate.authenticate(provider.header())
    stranger = LocalIssuer.create(tmp_path / "stranger", issuer=provider.url)
    forged = b"Bearer " + stranger.issue("svc").encode()
    for _ in range(20):
        assert rule(gate, forged) == "key"
    assert len(provider.hits) == 1  # within the pause after the first reading
    monkeypatch.setattr(_jwks, "UNKNOWN_KEY_PAUSE_S", 0.2)
    time.sleep(0.25)
    for _ in range(20):
        assert rule(gate, forged) == "key"
    assert len(provider.hits) == 2
    provider.issuer.rotate(keep=0)
    time.sleep(0.25)
    assert gate.authenticate(provider.header())
    assert len(provider.hits) == 3


def test_a_withdrawn_key_ends_at_the_next_reading(provider: Provider, tmp_path: Path) -> None:
    gate = door(provider, tmp_path, discovery=False)
    old = provider.header()
    gate.authenticate(old)
    provider.issuer.rotate(keep=0)
    gate.keyring.source(provider.url).refresh()
    gate._next_poll = 0.0
    assert rule(gate, old) == "key"


def test_an_event_loop_is_not_stopped(provider: Provider, tmp_path: Path) -> None:
    def slow(handler: BaseHTTPRequestHandler) -> bool:
        time.sleep(0.3)
        return False

    provider.fault = slow

    async def both() -> tuple[float, str]:
        gate = door(provider, tmp_path)
        started = time.perf_counter()
        with pytest.raises(OverloadedError):
            gate.authenticate(provider.header())
        waited = time.perf_counter() - started
        return waited, (await gate.authenticate_async(provider.header())).subject

    waited, subject = asyncio.run(both())
    assert waited < 0.25 and subject == "svc"


def _answer(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> bool:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
    return True


def _drip(handler: BaseHTTPRequestHandler) -> bool:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(40):
            handler.wfile.write(b" ")
            time.sleep(0.05)
    except OSError:
        pass
    return True


FAULTS: dict[str, Callable[[BaseHTTPRequestHandler], bool]] = {
    "not JSON": lambda handler: _answer(handler, 200, b"<html>"),
    "duplicate names": lambda handler: _answer(handler, 200, b'{"keys": [], "keys": []}'),
    "too large": lambda handler: _answer(handler, 200, b'{"keys": [' + b" " * 300_000 + b"]}"),
    "server error": lambda handler: _answer(handler, 500, b""),
    "redirect": lambda handler: _answer(handler, 302, b"", Location="http://127.0.0.1:1/jwks"),
    "redirect to a file": lambda handler: _answer(handler, 302, b"", Location="file:///etc/passwd"),
    "drip": _drip,
    "nothing": lambda handler: True,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_provider_lets_nobody_in(
    provider: Provider, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_jwks, "FETCH_S", 0.5)
    provider.fault = FAULTS[fault]
    gate = door(provider, tmp_path)
    started = time.perf_counter()
    assert rule(gate, provider.header()) == "key"
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize(("place", "why"), [("/moved", "answered 302"), ("/large", "larger than")])
def test_good_keys_in_the_wrong_way_are_not_taken(
    provider: Provider, tmp_path: Path, place: str, why: str
) -> None:
    """Behind a redirect, or in a document past the limit, even the right keys are refused."""
    if place == "/moved":
        provider.fault = lambda handler: (
            handler.path == "/jwks" and _answer(handler, 302, b"", Location=provider.url + "/moved")
        )
    entry = IssuerSettings(
        issuer=provider.url, jwks_url=provider.url + ("/jwks" if place == "/moved" else place)
    )
    settings = AuthSettings(issuers=[entry])
    gate = Authenticator(settings, lambda: 0, None, Keyring.from_settings(settings, tmp_path))
    with pytest.raises(AuthenticationError, match=why):
        gate.authenticate(provider.header())
    assert "/moved" not in provider.hits


def test_a_provider_that_names_another_issuer_is_not_believed(provider: Provider, tmp_path: Path) -> None:
    provider.claimed = "https://another.example"
    gate = door(provider, tmp_path)
    with pytest.raises(AuthenticationError, match="names another issuer"):
        gate.authenticate(provider.header())


def test_keys_do_not_outlive_a_provider_that_is_gone(provider: Provider) -> None:
    keys = UrlKeys(provider.url, provider.url + "/jwks", refresh_s=1)
    keys.refresh()
    assert len(keys.keys()) == 1
    provider.fault = FAULTS["server error"]
    keys.refresh()
    assert len(keys.keys()) == 1  # one failed reading is no reason to stop
    version = keys.version
    keys.poll(time.monotonic() + 13)
    assert keys.version > version
    with pytest.raises(AuthenticationError, match="cannot be read"):
        keys.keys()


@pytest.mark.parametrize(
    "url",
    ["http://id.example/", "file:///etc/passwd", "ftp://localhost/", "https://", "https://a:b@id.example/"],
)
def test_addresses_are_https_or_loopback(url: str) -> None:
    with pytest.raises(ConfigError):
        UrlKeys("https://id.example", url)
