"""Where issuers' public keys come from: a JWKS file, a JWKS address (RFC 7517), or OIDC discovery.

A `Keyring` answers from memory. Files are looked at when something changed or a second has passed; addresses
are read in a thread of their own, under limits of size and time, over https only (http to this machine's own
loopback is allowed, for tests and side-cars). Keys that could not be read again for twelve refresh intervals
are dropped: a withdrawn key must not live on because the network is down.
"""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from fiduciary.config import AuthSettings
from fiduciary.errors import AuthenticationError, ConfigError
from fiduciary.identity._jws import KeySet, read_object, refuse

DOCUMENT_LIMIT = 256 * 1024
"""Largest JWKS or discovery document, bytes."""
FETCH_S = 5.0
"""Longest time for one reading of an issuer's keys, discovery included, seconds."""
UNKNOWN_KEY_PAUSE_S = 10.0
"""Shortest time between two readings that tokens with unknown keys can cause, seconds."""
STALE_INTERVALS = 12
"""Refresh intervals after which keys that could not be read again are dropped."""
FILE_CHECK_S = 1.0
"""Longest time until a changed JWKS file is noticed without an epoch, seconds."""


def check_address(url: str) -> str:
    """The address, when keys may be fetched from it. Raises `ConfigError`: https, or http on loopback."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not host or parts.username or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
        raise ConfigError(
            f"keys are fetched over https only (http on loopback), not from {parts.scheme}://{host}"
        )
    return url


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None  # then the 3xx answer becomes an HTTPError: an issuer's keys lie where its address says


def fetch(url: str, deadline: float) -> bytes:
    """GET a small document before `deadline` (monotonic seconds). Raises `OSError` or `ValueError`."""
    opener = urllib.request.build_opener(_NoRedirect())
    request = urllib.request.Request(check_address(url), headers={"Accept": "application/json"})  # noqa: S310
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("out of time")
    content = bytearray()
    try:
        with opener.open(request, timeout=left) as reply:
            while chunk := reply.read1(65_536):
                content += chunk
                if len(content) > DOCUMENT_LIMIT:
                    raise ValueError(f"larger than {DOCUMENT_LIMIT} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError("out of time")
    except HTTPException as error:
        raise ValueError(type(error).__name__) from None
    return bytes(content)


class KeySource(Protocol):
    """The keys of one issuer. `version` changes whenever the keys do."""

    issuer: str
    version: int

    def keys(self) -> KeySet:
        """The keys now, from memory. Raises `AuthenticationError` when there are none to go by."""
        ...

    def poll(self, now: float) -> None:
        """Look for changes without waiting for anybody (`now`: monotonic seconds)."""
        ...

    def due(self) -> bool:
        """Would `refresh` now be allowed, and could it help?"""
        ...

    def begin(self) -> None:
        """Start reading the keys again, without waiting."""
        ...

    def refresh(self) -> None:
        """Read the keys again, waiting at most `FETCH_S` seconds. Never raises: `keys` tells."""
        ...


class FileKeys:
    """Keys in a JWKS file, read again whenever it changes. An unreadable file means no keys."""

    def __init__(self, issuer: str, path: Path | str) -> None:
        self.issuer = issuer
        self.path = Path(path)
        self.version = 0
        self._stamp: tuple[int, ...] | None = None
        self._keys: KeySet | None = None
        self._problem = ""
        self._lock = threading.Lock()
        self.poll(0.0)

    def keys(self) -> KeySet:
        """The keys of the file as last read."""
        keys = self._keys
        if keys is None:
            refuse("key", f"the keys of issuer {self.issuer} cannot be read: {self._problem}")
        return keys

    def poll(self, now: float) -> None:
        """Read the file again when it was replaced or written."""
        try:
            seen = self.path.stat()
            stamp = (seen.st_mtime_ns, seen.st_size, seen.st_ino)
        except OSError:
            stamp = (0, 0, 0)
        if stamp == self._stamp:
            return
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    content = file.read(DOCUMENT_LIMIT + 1)
                if len(content) > DOCUMENT_LIMIT:
                    raise ValueError(f"the JWKS file is larger than {DOCUMENT_LIMIT} bytes")
                self._keys = KeySet(read_object(content, "key file"))
            except (OSError, ValueError, AuthenticationError):
                self._keys, self._problem = None, "the JWKS file is missing or is not a JWKS document"
            self._stamp = stamp
            self.version += 1

    def due(self) -> bool:
        """Never: `poll` has just looked."""
        return False

    def begin(self) -> None:
        """Nothing to start."""

    def refresh(self) -> None:
        """Nothing to wait for."""


class UrlKeys:
    """Keys at an address, given or discovered (OpenID Connect Discovery 1.0), read every `refresh_s`."""

    def __init__(self, issuer: str, url: str | None = None, refresh_s: float = 300.0) -> None:
        self.issuer = issuer
        self.version = 0
        self._url = check_address(url) if url else None
        self._discovery = check_address(issuer.rstrip("/") + "/.well-known/openid-configuration")
        self._refresh_s = max(refresh_s, 1.0)
        self._keys: KeySet | None = None
        self._text = b""
        self._problem = "they have not been read yet"
        self._read_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = threading.Lock()
        self._busy: threading.Thread | None = None

    def keys(self) -> KeySet:
        """The keys as last read, unless that is too long ago."""
        keys = self._keys
        if keys is None:
            refuse("key", f"the keys of issuer {self.issuer} cannot be read: {self._problem}")
        return keys

    def poll(self, now: float) -> None:
        """Drop keys that are too old; start a reading in the background when one is due."""
        if self._keys is not None and now - self._read_at > STALE_INTERVALS * self._refresh_s:
            with self._lock:
                self._keys, self._text = None, b""
                self.version += 1
        pause = self._refresh_s if self._keys is not None else UNKNOWN_KEY_PAUSE_S
        if now - self._tried_at >= min(pause, self._refresh_s):
            self._start()

    def due(self) -> bool:
        """A reading is due when none was tried for `UNKNOWN_KEY_PAUSE_S`: attackers cannot cause more."""
        return time.monotonic() - self._tried_at >= UNKNOWN_KEY_PAUSE_S or self._busy is not None

    def begin(self) -> None:
        """Start a reading unless one is under way."""
        self._start()

    def refresh(self) -> None:
        """Wait for the reading under way, or start one."""
        thread = self._start()
        thread.join(FETCH_S + 0.5)

    def _start(self) -> threading.Thread:
        with self._lock:
            thread = self._busy
            if thread is None:
                self._tried_at = time.monotonic()
                thread = threading.Thread(target=self._read, name="fiduciary-jwks", daemon=True)
                self._busy = thread
                thread.start()
            return thread

    def _read(self) -> None:
        deadline = time.monotonic() + FETCH_S
        try:
            url = self._url
            if url is None:
                document = read_object(fetch(self._discovery, deadline), "discovery document")
                if document.get("issuer") != self.issuer:
                    raise ValueError("the discovery document names another issuer")
                url = document.get("jwks_uri")
                if not isinstance(url, str):
                    raise ValueError("the discovery document names no jwks_uri")
            text = fetch(url, deadline)
            keys = KeySet(read_object(text, "JWKS document"))
        except (OSError, ValueError, ConfigError, AuthenticationError) as error:
            with self._lock:
                self._problem = _problem(error)
        else:
            with self._lock:
                if text != self._text or self._keys is None:
                    self._keys, self._text = keys, text
                    self.version += 1
                self._read_at = time.monotonic()
        finally:
            with self._lock:
                self._busy = None


def _problem(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"its address answered {error.code}"
    if isinstance(error, ConfigError | AuthenticationError):
        return error.detail
    if isinstance(error, OSError):
        return "its address could not be reached in time"
    return str(error)


class Keyring:
    """The keys of every trusted issuer. Only issuers in it are believed."""

    def __init__(self, sources: Iterable[KeySource]) -> None:
        self._sources: dict[str, KeySource] = {}
        for source in sources:
            if source.issuer in self._sources:
                raise ConfigError(f"issuer {source.issuer} is configured twice")
            self._sources[source.issuer] = source

    @classmethod
    def from_settings(cls, auth: AuthSettings, home: Path | str) -> Keyring:
        """The configured issuers, and the home's own issuer where `keys/issuer` exists.

        A relative `jwks_file` lies under the home. Raises `ConfigError` for an issuer without exactly one
        source of keys.
        """
        from fiduciary.identity._issuer import LocalIssuer

        home = Path(home)
        sources: list[KeySource] = []
        for entry in auth.issuers:
            if (entry.jwks_file is not None) + (entry.jwks_url is not None) + entry.discovery != 1:
                raise ConfigError(
                    f"issuer {entry.issuer} needs exactly one of jwks_file, jwks_url and discovery = true"
                )
            if entry.jwks_file is not None:
                sources.append(FileKeys(entry.issuer, home / entry.jwks_file))
            else:
                sources.append(UrlKeys(entry.issuer, entry.jwks_url, float(auth.jwks_refresh_s)))
        if LocalIssuer.exists(home):
            local = LocalIssuer.open(home)
            if all(source.issuer != local.issuer for source in sources):
                sources.append(FileKeys(local.issuer, local.jwks_path))
        return cls(sources)

    @property
    def issuers(self) -> list[str]:
        """Names of the trusted issuers."""
        return list(self._sources)

    @property
    def version(self) -> int:
        """Changes whenever any issuer's keys do."""
        return sum(source.version for source in self._sources.values())

    def source(self, issuer: object) -> KeySource:
        """The key source of an issuer. Raises `AuthenticationError` (rule "issuer") for a stranger."""
        found = self._sources.get(issuer) if isinstance(issuer, str) else None
        if found is None:
            refuse("issuer", "the token's issuer is not one of the trusted issuers")
        return found

    def poll(self) -> None:
        """Look for changed files and start due readings. Never waits for the network."""
        now = time.monotonic()
        for source in self._sources.values():
            source.poll(now)

    def prefetch(self) -> None:
        """Read every issuer's keys now, waiting (call it before the doors open)."""
        for source in self._sources.values():
            if source.due():
                source.refresh()
