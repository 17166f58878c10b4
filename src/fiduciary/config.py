"""One settings object: `fiduciary.toml` in the home folder, then `FIDUCIARY_*` environment variables.

A variable names its place in the file with double underscores: `FIDUCIARY_GATE__PORT=9000` is `[gate] port`.
Unknown settings are refused: a misspelt limit must not silently leave the default in force.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fiduciary.errors import ConfigError

MIB = 1 << 20
PREFIX = "FIDUCIARY_"
FILE_NAME = "fiduciary.toml"


class LedgerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits of the append-only logs."""

    segment_bytes: int = 64 * MIB
    """Size of a preallocated segment file, bytes."""
    queue_limit: int = 10_000
    """Most entries waiting to be written; one more is refused."""
    append_timeout_s: float = 2.0
    """Longest wait for durability before the gate refuses, seconds."""
    disk_reserve_bytes: int = 64 * MIB
    """Free disk below which nothing is accepted, bytes."""
    publish_interval_s: float = 0.2
    """How often tiles, index and checkpoint follow the segments, seconds."""
    max_payload_bytes: int = MIB
    """Largest payload of one record, bytes."""


class IssuerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One trusted token issuer. Its keys come from a JWKS file, a JWKS address, or OIDC discovery."""

    issuer: str
    jwks_file: str | None = None
    jwks_url: str | None = None
    discovery: bool = False


class AuthSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may be believed about who is calling."""

    audience: str = "fiduciary"
    issuers: list[IssuerSettings] = []
    leeway_s: int = 5
    """Clock difference tolerated in token times, seconds."""
    token_cache: int = 50_000
    """Most verified tokens remembered."""
    jwks_refresh_s: int = 300
    """Longest time between two readings of an issuer's keys, seconds."""


class GateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The doors: addresses and limits."""

    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int | None = None
    """Port of the Open Inference Protocol gRPC door; none: closed."""
    workers: int = 1
    max_body_bytes: int = MIB
    max_header_bytes: int = 16 * 1024
    max_rows: int = 1_000
    max_in_flight: int = 1_024
    max_connections: int = 2_048
    header_timeout_s: float = 5.0
    body_timeout_s: float = 10.0
    idle_timeout_s: float = 60.0
    request_timeout_s: float = 5.0
    drain_s: float = 10.0
    otlp_endpoint: str | None = None
    """Where OpenTelemetry traces go (OTLP over HTTP); none: no traces."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be set, with its default."""

    home: Path = Path()
    tenant: str = "local"
    region: str = "eu"
    ledger: LedgerSettings = LedgerSettings()
    auth: AuthSettings = AuthSettings()
    gate: GateSettings = GateSettings()

    @classmethod
    def load(cls, home: Path | str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings of a home folder (`home`, else `FIDUCIARY_HOME`, else the current folder).

        Raises `ConfigError` naming the file or variable, the setting, and what would be right.
        """
        environ = os.environ if environ is None else environ
        folder = Path(home or environ.get(PREFIX + "HOME") or ".").absolute()
        document: dict[str, Any] = {}
        path = folder / FILE_NAME
        if path.exists():
            try:
                document = tomllib.loads(path.read_text("utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise ConfigError(f"{path} is not valid TOML: {error}") from None
        if "home" in document:
            raise ConfigError(f"{path} must not set 'home': the home is the folder the file lies in")
        for name in sorted(environ):
            if name.startswith(PREFIX) and name not in NOT_SETTINGS:
                _place(document, name, environ[name])
        try:
            loaded = msgspec.convert(document, type=cls, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"a setting of {path} (or a {PREFIX}* variable) is wrong: {error}") from None
        _check(loaded)
        return msgspec.structs.replace(loaded, home=folder)


NOT_SETTINGS = frozenset(
    PREFIX + name
    for name in (
        "HOME",
        "TOKEN",
        "SHARED_DATA",
        "URL",
        "WORKERS__FOLDER",
        "HE_WORKERS",
        "TRESTLE",
        "TEST_JOINT",
    )
)
"""Variables with the prefix that name something other than a setting."""


def _place(document: dict[str, Any], variable: str, value: str) -> None:
    *tables, key = variable[len(PREFIX) :].lower().split("__")
    node = document
    for table in tables:
        node = node.setdefault(table, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{variable} names a table that is not one: {table}")
    node[key] = value


def _check(settings: Settings) -> None:
    for name, text in (("tenant", settings.tenant), ("region", settings.region)):
        if not text or not all(c.isascii() and (c.isalnum() or c == "-") for c in text) or len(text) > 40:
            raise ConfigError(f"{name} must be 1 to 40 letters, digits or hyphens, not {text!r}")
    for group in (settings.ledger, settings.auth, settings.gate):
        for field in group.__struct_fields__:
            value = getattr(group, field)
            if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
                raise ConfigError(f"{field} must not be negative, but is {value}")
    if settings.ledger.segment_bytes < 4 * settings.ledger.max_payload_bytes:
        raise ConfigError("ledger.segment_bytes must be at least four times ledger.max_payload_bytes")
    if not 1 <= settings.gate.workers <= 256:
        raise ConfigError(f"gate.workers must be between 1 and 256, not {settings.gate.workers}")
