"""A home as the commands see it: its ledger, registry, parties' keys, and who is acting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from fiduciary.cli._output import Output
from fiduciary.config import Settings
from fiduciary.errors import NotFoundError, UsageError
from fiduciary.identity import Authorizer, PartyKey, Principal, Resource
from fiduciary.ledger import Ledger
from fiduciary.registry import Registry, read_manifest

acting = click.option(
    "--as", "party", required=True, help="The party that acts; its key lies in keys/parties."
)


class Home:
    """An open home."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self.settings = settings
        self.ledger = ledger
        self.registry = Registry(ledger, settings)

    @property
    def path(self) -> Path:
        """The home folder."""
        return self.settings.home

    @property
    def drafts(self) -> Path:
        """Where bundles lie that nobody has proposed yet."""
        return self.path / "drafts"

    def key_path(self, party: str) -> Path:
        """Where the signing key of a party of this machine lies."""
        if not party or not all(c.isalnum() or c in "._@+-" for c in party):
            raise UsageError(
                f"a party with a key on this machine is letters, digits and . _ @ + -, not {party!r}"
            )
        return self.path / "keys" / "parties" / f"{party}.key"

    def key(self, party: str) -> PartyKey:
        """The signing key of a party. Raises `NotFoundError` saying how to make one."""
        path = self.key_path(party)
        if not path.exists():
            raise NotFoundError(f"{party} has no key here: enrol them with `fiduciary party enrol {party}`")
        return PartyKey.load(path)

    @cached_property
    def authorizer(self) -> Authorizer:
        """The access policies of this home."""
        return Authorizer(self.path / "policies", lambda: self.ledger.epoch.value)

    def know_retention(self) -> None:
        """Let the ledger know the retention classes of the rules, before something is erased or swept."""
        self.ledger.retention = {**self.ledger.retention, **self.registry.retentions()}

    def require(self, party: str, action: str, kind: str = "Ledger") -> None:
        """Refuse unless the party has a key here, is enrolled, and the policies let them act."""
        key = self.key(party)
        known = self.registry.states().parties.get(party)
        current = known.current if known else None
        if current is None or current.public != key.public.hex():
            raise NotFoundError(f"{party} is not enrolled with the key that lies here")
        principal = Principal(
            subject=party,
            roles=current.roles,
            department="",
            region=self.settings.region,
            kind=current.kind,
            issuer="urn:fiduciary:local-key",
            token_id="",
            expires=0,
        )
        self.authorizer.require(principal, action, Resource(kind, self.settings.tenant, {}), {})

    def digest(self, reference: str) -> str:
        """The digest of a release named by digest, its first digits, or `name@version`."""
        known = {r.digest: f"{r.name}@{r.version}" for r in self.registry.states().releases.values()}
        if self.drafts.is_dir():
            for manifest in sorted(self.drafts.glob("*/manifest.json")):
                digest = f"sha256:{manifest.parent.name}"
                if digest not in known:  # only its label is wanted here; whoever uses the bundle verifies it
                    found = read_manifest(manifest.read_bytes())
                    known[digest] = f"{found.name}@{found.version}"
        text = reference.removeprefix("sha256:")
        hits = [
            d
            for d, label in known.items()
            if label == reference or (len(text) >= 6 and d[7:].startswith(text))
        ]
        if not hits:
            listed = ", ".join(sorted(set(known.values()))) or "none so far"
            raise NotFoundError(f"no release {reference!r} here; there are: {listed}")
        if len(hits) > 1:
            raise UsageError(f"{reference!r} means {len(hits)} releases; give more digits: {', '.join(hits)}")
        return hits[0]


@contextmanager
def open_home(output: Output, *, writable: bool = True) -> Iterator[Home]:
    """The home of this command, closed at the end."""
    settings = output.settings()
    with Ledger.open(settings, writable=writable) as ledger:
        yield Home(settings, ledger)


def with_home(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `output` and the open `home`."""
    import functools

    @click.pass_obj
    @functools.wraps(function)
    def call(output: Output, *args: Any, **kwargs: Any) -> Any:
        with open_home(output) as home:
            return function(output, home, *args, **kwargs)

    return call


def moment(text: str) -> datetime:
    """A time a person gave: RFC 3339, or a date (its first moment, UTC). Raises `UsageError`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is not a time; write 2026-05-03, 2026-05-03T12:00Z or 2026-05-03T12:00:00+02:00"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def nanoseconds(when: datetime) -> int:
    """Nanoseconds since 1970 UTC."""
    return int(when.timestamp()) * 10**9 + when.microsecond * 1000


def time_text(time_ns: int) -> str:
    """RFC 3339 in UTC, milliseconds."""
    return (
        datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def short(digest: str) -> str:
    """A digest short enough to read: `sha256:1f3a9c0d2e4b`."""
    return digest[:19]
