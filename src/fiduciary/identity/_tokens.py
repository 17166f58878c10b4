"""Bearer tokens become principals: claims checked by rule, good tokens remembered until something changes.

A remembered token answers in about a microsecond. It is forgotten at its end, verified anew when any issuer's
keys change, and asked about again (is it revoked?) whenever the epoch moved: so a revocation that is on the
ledger is obeyed by the very next call. One-time tokens are never remembered, only spent.
Rules follow RFC 7519, RFC 8725 and RFC 9068. Attacks: tests/attacks/test_tokens.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from fiduciary.config import AuthSettings, Settings
from fiduciary.errors import AuthenticationError, OverloadedError
from fiduciary.identity._jwks import FILE_CHECK_S, Keyring, KeySource
from fiduciary.identity._jws import TOKEN_LIMIT, Jws, read_object, refuse
from fiduciary.identity._principal import Principal
from fiduciary.identity._replay import SpentTokens

ROLES_LIMIT = 64
TEXT_LIMIT = 256
LONGEST_S = 400 * 86_400
"""A token that ends later than this from now is refused, seconds."""


class _Verified:
    __slots__ = ("epoch", "keys", "principal", "until")

    def __init__(self, principal: Principal, until: float, epoch: int, keys: int) -> None:
        self.principal, self.until, self.epoch, self.keys = principal, until, epoch, keys


class _KeysNeededError(Exception):
    def __init__(self, source: KeySource) -> None:
        self.source = source


def _never(principal: Principal, token_id: str) -> bool:
    return False


class Authenticator:
    """Says who is calling, or refuses.

    `epoch` gives a number that grows whenever state on the ledger changed; `revoked(principal, token_id)`
    must answer from a state at least as new as the epoch read before it is called. `spent` remembers one-time
    tokens; without it they are refused. Safe to call from several threads.
    """

    def __init__(
        self,
        settings: AuthSettings,
        epoch: Callable[[], int],
        revoked: Callable[[Principal, str], bool] | None,
        keyring: Keyring,
        *,
        spent: SpentTokens | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._audience = settings.audience
        self._leeway = settings.leeway_s
        self._limit = max(settings.token_cache, 1)
        self._epoch = epoch
        self._revoked = revoked or _never
        self._keyring = keyring
        self._spent = spent
        self._clock = clock
        self._cache: dict[bytes, _Verified] = {}
        self._keys = keyring.version
        self._next_poll = 0.0

    @classmethod
    def from_settings(
        cls, settings: Settings, epoch: Callable[[], int], revoked: Callable[[Principal, str], bool] | None
    ) -> Authenticator:
        """An authenticator for a home: its issuers, its own issuer, its memory of spent one-time tokens."""
        home = Path(settings.home)
        return cls(
            settings.auth,
            epoch,
            revoked,
            Keyring.from_settings(settings.auth, home),
            spent=SpentTokens(home / "keys" / "spent.sqlite"),
        )

    @property
    def keyring(self) -> Keyring:
        """The trusted issuers' keys."""
        return self._keyring

    def authenticate(self, header: bytes | str | None) -> Principal:
        """The caller named by an `Authorization: Bearer ...` header value.

        Raises `AuthenticationError`; its `more["rule"]` names the rule that was broken and its text never
        holds any part of the token. Reads keys over the network only for a key it does not know, at most once
        in ten seconds; inside a running event loop it does not wait for them but raises `OverloadedError`
        (use `authenticate_async` there, or try again).
        """
        if header.__class__ is bytes:
            now = self._clock()
            if now < self._next_poll:
                entry = self._cache.get(sha256(header).digest())
                if (
                    entry is not None
                    and entry.epoch == self._epoch()
                    and entry.keys == self._keys
                    and now < entry.until
                ):
                    return entry.principal
        try:
            return self._admit(header)
        except _KeysNeededError as need:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                need.source.refresh()
            else:
                need.source.begin()
                raise OverloadedError("the issuer's keys are being read: try again in a second") from None
        return self._admit(header, refreshed=True)

    async def authenticate_async(self, header: bytes | str | None) -> Principal:
        """Like `authenticate`, but an issuer's keys are waited for without stopping the event loop."""
        try:
            return self._admit(header)
        except _KeysNeededError as need:
            await asyncio.to_thread(need.source.refresh)
        return self._admit(header, refreshed=True)

    def _admit(self, header: bytes | str | None, *, refreshed: bool = False) -> Principal:
        if header is None:
            refuse("missing", "there is no Authorization header: send 'Authorization: Bearer TOKEN'")
        if isinstance(header, str):
            try:
                header = header.encode("ascii")
            except UnicodeEncodeError:
                refuse("form", "the Authorization header is not ASCII")
        if len(header) > TOKEN_LIMIT + 16:
            refuse("size", f"the token is larger than {TOKEN_LIMIT} bytes")
        # Read before the state it stands for: a change in between makes the entry look old, never new.
        epoch = self._epoch()
        self._keyring.poll()
        self._keys = keys = self._keyring.version
        now = self._clock()
        self._next_poll = now + FILE_CHECK_S
        name = sha256(header).digest()
        entry = self._cache.get(name)
        if entry is not None and entry.keys == keys and now < entry.until:
            principal = entry.principal
            self._refuse_revoked(principal)
            entry.epoch = epoch
            return principal
        self._cache.pop(name, None)
        principal = self._verify(header, now, refreshed)
        self._refuse_revoked(principal)
        if principal.one_time:
            self._spend(principal)
            return principal
        while len(self._cache) >= self._limit:  # oldest first: dictionaries keep the order of insertion
            try:
                self._cache.pop(next(iter(self._cache)), None)
            except (StopIteration, RuntimeError):  # another thread was quicker
                break
        self._cache[name] = _Verified(principal, principal.expires + self._leeway, epoch, keys)
        return principal

    def _refuse_revoked(self, principal: Principal) -> None:
        if self._revoked(principal, principal.token_id) is not False:
            refuse("revoked", "the token has been revoked")

    def _spend(self, principal: Principal) -> None:
        if self._spent is None:
            refuse("one-time", "one-time tokens are not accepted here")
        if not self._spent.spend(principal.issuer, principal.token_id, principal.expires + self._leeway):
            refuse("replayed", "the one-time token has been used already")

    def _verify(self, header: bytes, now: float, refreshed: bool) -> Principal:
        scheme, _, token = header.partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            refuse("scheme", "the Authorization header is not 'Bearer TOKEN'")
        jws = Jws(token)
        claims = read_object(jws.claims_text, "payload")
        source = self._keyring.source(
            claims.get("iss")
        )  # chooses whose keys to try; believed only after them
        try:
            key = source.keys().find(jws.algorithm, jws.kid)
        except AuthenticationError:
            if not refreshed and source.due():
                raise _KeysNeededError(source) from None
            raise
        if key is None:
            if not refreshed and source.due():
                raise _KeysNeededError(source)
            refuse("key", "the token is signed with a key that the issuer does not publish")
        jws.check(key)
        self._check_times(claims, now)
        audience = claims.get("aud")
        if audience != self._audience and not (isinstance(audience, list) and self._audience in audience):
            refuse("audience", f"the token is not meant for audience {self._audience!r}")
        return _principal(claims, token)

    def _check_times(self, claims: dict[str, Any], now: float) -> None:
        expires, starts, issued = _seconds(claims, "exp"), _seconds(claims, "nbf"), _seconds(claims, "iat")
        if expires is None:
            refuse("expiry", "the token has no expiry (exp)")
        if now >= expires + self._leeway:
            refuse("expired", "the token has expired")
        if expires > now + LONGEST_S:
            refuse("expiry", f"the token's expiry is more than {LONGEST_S // 86_400} days away")
        if starts is not None and starts > now + self._leeway:
            refuse("not-yet", "the token is not valid yet (nbf)")
        if issued is not None and issued > now + self._leeway:
            refuse("issued", "the token was issued in the future (iat): check the clocks")


def _seconds(claims: dict[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    if type(value) not in (int, float) or not 0 <= value < 1 << 53:
        refuse("claims", f"the token's {name} is not a number of seconds")
    return float(value)


def _text(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name, "")
    if not isinstance(value, str) or len(value) > TEXT_LIMIT or not value.isprintable():
        refuse("claims", f"the token's {name} is not printable text of at most {TEXT_LIMIT} characters")
    return value


def _principal(claims: dict[str, Any], token: bytes) -> Principal:
    subject = _text(claims, "sub")
    if not subject:
        refuse("claims", "the token has no subject (sub)")
    roles = claims.get("roles", [])
    if (
        not isinstance(roles, list)
        or len(roles) > ROLES_LIMIT
        or not all(
            isinstance(role, str) and 0 < len(role) <= TEXT_LIMIT and role.isprintable() for role in roles
        )
    ):
        refuse("claims", f"the token's roles are not a list of at most {ROLES_LIMIT} names")
    kind = claims.get("kind")
    if kind is None:  # RFC 9068, 2.2: for client credentials the subject is the client itself
        kind = "service" if claims.get("client_id", claims.get("azp")) == subject else "person"
    if kind not in ("person", "service"):
        refuse("claims", "the token's kind is neither 'person' nor 'service'")
    one_time = claims.get("one_time", False)
    if not isinstance(one_time, bool):
        refuse("claims", "the token's one_time is not true or false")
    token_id = _text(claims, "jti")
    if one_time and not token_id:
        refuse("claims", "a one-time token needs an id (jti)")
    return Principal(
        subject=subject,
        roles=tuple(sorted(set(roles))),
        department=_text(claims, "department"),
        region=_text(claims, "region"),
        kind="person" if kind == "person" else "service",
        issuer=_text(claims, "iss"),
        token_id=token_id or "sha256:" + sha256(token).hexdigest()[:32],
        expires=int(claims["exp"]),
        issued=int(claims.get("iat", 0)),
        one_time=one_time,
    )
