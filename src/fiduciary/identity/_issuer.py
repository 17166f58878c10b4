"""A token issuer for one machine: for a first day, a demonstration, or where there is no identity provider.

Keys live in `<home>/keys/issuer`: one private PEM (0600) and `issuer.json` with the public JWKS. Key ids are
RFC 7638 thumbprints. Tokens are RFC 9068 access tokens.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey, OKPKey
from joserfc.jws import serialize_compact

from fiduciary.errors import ConfigError, ConflictError, NotFoundError, UsageError
from fiduciary.identity._jws import ALGORITHMS
from fiduciary.identity._keys import read_private, write_private

LONGEST_S = 366 * 86_400
"""Longest lifetime of a token, seconds."""
KEPT_LIMIT = 8
"""Most public keys an issuer can have at once."""


class LocalIssuer:
    """Issues tokens with a key of this machine. Whoever reads the home's `keys` can be anybody."""

    def __init__(self, folder: Path, changed: Callable[[], object] | None = None) -> None:
        self._folder = folder
        self._changed = changed
        self._read()

    @staticmethod
    def exists(home: Path | str) -> bool:
        """Does this home have an issuer of its own?"""
        return (Path(home) / "keys" / "issuer" / "issuer.json").exists()

    @classmethod
    def create(
        cls,
        home: Path | str,
        *,
        issuer: str = "urn:fiduciary:local",
        algorithm: Literal["ES256", "Ed25519"] = "ES256",
        changed: Callable[[], object] | None = None,
    ) -> LocalIssuer:
        """Make an issuer with a first key. Raises `ConflictError` where there is one already."""
        folder = Path(home) / "keys" / "issuer"
        if algorithm not in ("ES256", "Ed25519"):
            raise UsageError(f"the algorithm must be ES256 or Ed25519, not {algorithm!r}")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _exclusive(folder):
            if cls.exists(home):
                raise ConflictError(f"{folder} has an issuer already: rotate its key instead")
            _store(folder, issuer, algorithm, [_new_key(folder, algorithm)])
        return cls(folder, changed)

    @classmethod
    def open(cls, home: Path | str, *, changed: Callable[[], object] | None = None) -> LocalIssuer:
        """Open the home's issuer. `changed` is called after a rotation (give it the epoch's bump).

        Raises `NotFoundError` when the home has none.
        """
        if not cls.exists(home):
            raise NotFoundError(
                f"{home} has no issuer of its own: create one, or use your identity provider's"
            )
        return cls(Path(home) / "keys" / "issuer", changed)

    @property
    def jwks_path(self) -> Path:
        """The public JWKS document."""
        return self._folder / "issuer.json"

    def _read(self) -> None:
        try:
            document = json.loads(self.jwks_path.read_text("utf-8"))
            self.issuer: str = document["issuer"]
            self.algorithm: str = document["algorithm"]
            self._public: list[dict[str, Any]] = document["keys"]
            kid = self._public[0]["kid"]
            family = ECKey if ALGORITHMS[self.algorithm] == "EC" else OKPKey
            self._key = family.import_key(read_private(self._folder / f"{kid}.pem"))
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            raise ConfigError(f"{self.jwks_path} is not an issuer's document") from None
        self.kid: str = kid

    def issue(
        self,
        subject: str,
        roles: Sequence[str] = (),
        *,
        department: str = "",
        region: str = "",
        kind: Literal["person", "service"] = "person",
        lifetime_s: int = 3600,
        audience: str = "fiduciary",
        one_time: bool = False,
    ) -> str:
        """A signed access token. `one_time`: it is good for one authentication only.

        Raises `UsageError` for an empty subject, an unknown kind or a lifetime outside 1 s to 366 days.
        """
        if not subject or kind not in ("person", "service"):
            raise UsageError("a token needs a subject, and a kind that is 'person' or 'service'")
        if not 1 <= lifetime_s <= LONGEST_S:
            raise UsageError(
                f"a token's lifetime must be between 1 and {LONGEST_S} seconds, not {lifetime_s}"
            )
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": subject,
            "aud": audience,
            "iat": now,
            "exp": now + lifetime_s,
            "jti": secrets.token_hex(16),
            "client_id": subject,
            "roles": list(roles),
            "department": department,
            "region": region,
            "kind": kind,
        }
        if one_time:
            claims["one_time"] = True
        header = {"alg": self.algorithm, "kid": self.kid, "typ": "at+jwt"}
        payload = json.dumps(claims, separators=(",", ":")).encode()
        return serialize_compact(header, payload, self._key, algorithms=[self.algorithm])

    def jwks(self) -> dict[str, Any]:
        """The public keys, as served at a JWKS address."""
        return {"keys": [dict(key) for key in self._public]}

    def rotate(self, *, keep: int = 1) -> str:
        """Make a new key and return its id.

        The newest `keep` earlier public keys stay valid, so that tokens already out live to their end;
        `keep=0` ends every token at once. Earlier private keys are deleted.
        """
        if not 0 <= keep < KEPT_LIMIT:
            raise UsageError(f"keep must be between 0 and {KEPT_LIMIT - 1}, not {keep}")
        with _exclusive(self._folder):
            self._read()
            fresh = _new_key(self._folder, self.algorithm)
            _store(self._folder, self.issuer, self.algorithm, [fresh, *self._public[:keep]])
            self._read()
            for path in self._folder.glob("*.pem"):
                if path.stem != self.kid:
                    path.unlink()
        if self._changed is not None:
            self._changed()
        return self.kid


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _new_key(folder: Path, algorithm: str) -> dict[str, Any]:
    key = ECKey.generate_key("P-256") if algorithm == "ES256" else OKPKey.generate_key("Ed25519")
    kid = key.thumbprint()
    private = key.private_key
    assert private is not None
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(folder / f"{kid}.pem", pem)
    public = key.as_dict(private=False)
    return {
        **{name: public[name] for name in ("kty", "crv", "x", "y") if name in public},
        "kid": kid,
        "use": "sig",
        "alg": algorithm,
    }


def _store(folder: Path, issuer: str, algorithm: str, keys: list[dict[str, Any]]) -> None:
    document = {"issuer": issuer, "algorithm": algorithm, "keys": keys}
    write_private(folder / "issuer.json", json.dumps(document, indent=1).encode(), replace=True)
