"""Authentication: what is remembered, and that nothing remembered outlives its reason."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from fiduciary.config import AuthSettings, IssuerSettings, Settings
from fiduciary.errors import AuthenticationError, ConfigError, ConflictError, NotFoundError, UsageError
from fiduciary.identity import Authenticator, Keyring, LocalIssuer, Principal, Revocations, SpentTokens


class Home:
    """An issuer, an epoch, revocations and a clock that tests can turn."""

    def __init__(self, path: Path, algorithm: str = "ES256", cache: int = 1000) -> None:
        self.epoch = 0
        self.now = time.time()
        self.asked = 0
        self.path = path
        self.revocations = Revocations()
        self.issuer = LocalIssuer.create(path, algorithm=algorithm, changed=self.bump)  # type: ignore[arg-type]
        self.settings = AuthSettings(token_cache=cache)
        self.door = self.authenticator()

    def authenticator(self) -> Authenticator:
        return Authenticator(
            self.settings,
            lambda: self.epoch,
            self.refused,
            Keyring.from_settings(self.settings, self.path),
            spent=SpentTokens(self.path / "spent.sqlite"),
            clock=lambda: self.now,
        )

    def bump(self) -> None:
        self.epoch += 1

    def refused(self, principal: Principal, token_id: str) -> bool:
        self.asked += 1
        return self.revocations.refused(principal, token_id)

    def revoke(self, **body: object) -> None:
        self.revocations.apply(body)
        self.bump()

    def header(self, **claims: object) -> bytes:
        token = self.issuer.issue("alice", ["validator", "developer"], region="eu", **claims)  # type: ignore[arg-type]
        return b"Bearer " + token.encode()


def rule(door: Authenticator, header: bytes | str | None) -> str:
    with pytest.raises(AuthenticationError) as caught:
        door.authenticate(header)
    return str(caught.value.more["rule"])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.mark.parametrize("algorithm", ["ES256", "Ed25519"])
def test_a_token_becomes_a_principal(tmp_path: Path, algorithm: str) -> None:
    home = Home(tmp_path, algorithm)
    header = home.header(department="risk")
    principal = home.door.authenticate(header)
    assert principal.subject == "alice" and principal.roles == ("developer", "validator")
    assert (principal.department, principal.region, principal.kind) == ("risk", "eu", "person")
    assert principal.issuer == "urn:fiduciary:local" and len(principal.token_id) == 32
    assert principal.expires - principal.issued == 3600
    assert home.door.authenticate(header) is principal
    assert home.door.authenticate(header.decode()) is principal
    assert asyncio.run(home.door.authenticate_async(header)) is principal


def test_without_a_token(home: Home) -> None:
    assert rule(home.door, None) == "missing"
    for header in (b"", b"Basic YTpi", b"Bearer", b"Bearer  x.y.z", "Bearer \N{SNOWMAN}"):
        assert rule(home.door, header) in {"scheme", "form"}


def test_a_remembered_token_ends_on_time(home: Home) -> None:
    header = home.header(lifetime_s=60)
    home.door.authenticate(header)
    home.now += 60 + home.settings.leeway_s + 0.5
    assert rule(home.door, header) == "expired"


def test_a_remembered_token_is_not_verified_again(home: Home) -> None:
    header = home.header()
    home.door.authenticate(header)
    asked = home.asked
    for _ in range(10):
        home.door.authenticate(header)
    assert home.asked == asked


@pytest.mark.parametrize("kind", ["token", "subject", "subject before"])
def test_a_revocation_is_obeyed_by_the_next_call(home: Home, kind: str) -> None:
    header, other = home.header(), home.header()
    principal = home.door.authenticate(header)
    home.door.authenticate(other)
    if kind == "token":
        home.revoke(jti=principal.token_id)
        assert home.door.authenticate(other)
    elif kind == "subject":
        home.revoke(subject="alice")
        assert rule(home.door, other) == "revoked"
    else:
        home.revoke(subject="alice", before=principal.issued)
        assert rule(home.door, other) == "revoked"
    assert rule(home.door, header) == "revoked"
    home.bump()
    assert rule(home.door, header) == "revoked"


def test_tokens_after_a_dated_revocation_are_good(home: Home) -> None:
    principal = home.door.authenticate(home.header())
    home.revoke(subject="alice", before=principal.issued - 1)
    assert home.door.authenticate(home.header())
    home.revoke(subject="alice", issuer="https://another.example")
    assert home.door.authenticate(home.header())


def test_a_revocation_names_something() -> None:
    with pytest.raises(UsageError):
        Revocations().apply({"by": "officer"})


def test_an_answer_other_than_no_refuses(home: Home) -> None:
    """A revocation check that answers nonsense must not let anybody in."""
    door = Authenticator(
        home.settings,
        lambda: 0,
        lambda *_: None,
        Keyring.from_settings(home.settings, home.path),  # type: ignore
    )
    assert rule(door, home.header()) == "revoked"


def test_rotation_keeps_or_ends_tokens_at_once(home: Home) -> None:
    old = home.header()
    home.door.authenticate(old)
    home.issuer.rotate(keep=1)
    assert home.door.authenticate(old) and home.door.authenticate(home.header())
    assert len(home.issuer.jwks()["keys"]) == 2
    home.issuer.rotate(keep=0)
    assert rule(home.door, old) == "key"
    assert home.door.authenticate(home.header())
    assert len(list((home.path / "keys" / "issuer").glob("*.pem"))) == 1


def test_rotation_by_another_process_is_noticed(home: Home) -> None:
    """Without the epoch, a changed key file is noticed within a second; with it, by the next call."""
    header = home.header()
    home.door.authenticate(header)
    script = (
        "import sys; from fiduciary.identity import LocalIssuer; LocalIssuer.open(sys.argv[1]).rotate(keep=0)"
    )
    subprocess.run([sys.executable, "-c", script, str(home.path)], check=True)
    home.now += 1.1
    assert rule(home.door, header) == "key"


def test_lost_keys_refuse(home: Home) -> None:
    header = home.header()
    home.door.authenticate(header)
    home.issuer.jwks_path.write_text("{")
    home.bump()
    assert rule(home.door, header) == "key"


def test_a_one_time_token_is_good_once_in_all_processes(home: Home) -> None:
    header = home.header(one_time=True)
    again = home.authenticator()
    assert home.door.authenticate(header).one_time
    assert rule(home.door, header) == "replayed"
    assert rule(again, header) == "replayed"
    door = Authenticator(home.settings, lambda: 0, None, Keyring.from_settings(home.settings, home.path))
    assert rule(door, home.header(one_time=True)) == "one-time"


def test_spent_tokens_are_spent_once_under_threads(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    shelves = [SpentTokens(tmp_path / "spent.sqlite") for _ in range(3)]
    until = time.time() + 100
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda n: shelves[n % 3].spend("i", str(n // 12), until), range(120)))
    assert sum(results) == 10


def test_the_memory_of_tokens_is_bounded(tmp_path: Path) -> None:
    home = Home(tmp_path, cache=5)
    for _ in range(20):
        home.door.authenticate(home.header())
    assert len(home.door._cache) == 5


def test_issuers_are_configured_exactly(tmp_path: Path, home: Home) -> None:
    bad = AuthSettings(issuers=[IssuerSettings(issuer="https://id.example")])
    with pytest.raises(ConfigError, match="exactly one"):
        Keyring.from_settings(bad, tmp_path)
    plain = AuthSettings(
        issuers=[IssuerSettings(issuer="https://id.example", jwks_url="http://id.example/k")]
    )
    with pytest.raises(ConfigError, match="https only"):
        Keyring.from_settings(plain, tmp_path)
    twice = AuthSettings(
        issuers=[IssuerSettings(issuer="a", jwks_file="k"), IssuerSettings(issuer="a", jwks_file="l")]
    )
    with pytest.raises(ConfigError, match="twice"):
        Keyring.from_settings(twice, tmp_path)
    settings = msgspec.structs.replace(Settings(), home=home.path)
    door = Authenticator.from_settings(settings, lambda: 0, None)
    assert door.keyring.issuers == ["urn:fiduciary:local"]
    assert door.authenticate(home.header()).subject == "alice"


def test_the_local_issuer_says_what_is_wrong(tmp_path: Path, home: Home) -> None:
    with pytest.raises(NotFoundError):
        LocalIssuer.open(tmp_path / "elsewhere")
    with pytest.raises(ConflictError):
        LocalIssuer.create(home.path)
    with pytest.raises(UsageError):
        home.issuer.issue("", [])
    with pytest.raises(UsageError):
        home.issuer.issue("alice", lifetime_s=10**9)
    text = home.issuer.jwks_path.read_text()
    assert '"d"' not in text
    for path in (home.path / "keys" / "issuer").glob("*.pem"):
        assert path.stat().st_mode & 0o777 == 0o600
