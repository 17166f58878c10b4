"""Who is calling, and may they: parties' keys, bearer tokens, and policy decisions.

Three doors. `Authenticator` turns a bearer token (RFC 9068 access tokens; ES256 and Ed25519) into a
`Principal`. `Authorizer` asks Cedar policies whether the principal may act on a `Resource`. `PartyKey` signs
for a person or service (Ed25519, RFC 8032). The first two remember their answers, and forget when the epoch
moves: a revocation or a policy change is obeyed by the very next answer. Proof:
tests/identity/test_authentication.py, tests/identity/test_policy_cache.py, tests/attacks/test_tokens.py.
"""

from fiduciary.identity._issuer import LocalIssuer
from fiduciary.identity._jwks import FileKeys, Keyring, UrlKeys
from fiduciary.identity._jws import KeySet, verify_jws
from fiduciary.identity._keys import PartyKey, check_public, key_id
from fiduciary.identity._policy import Authorizer, Decision, install_default_policies
from fiduciary.identity._principal import ACTIONS, ROLES, Context, Principal, Resource
from fiduciary.identity._replay import Revocations, SpentTokens
from fiduciary.identity._tokens import Authenticator

__all__ = [
    "ACTIONS",
    "ROLES",
    "Authenticator",
    "Authorizer",
    "Context",
    "Decision",
    "FileKeys",
    "KeySet",
    "Keyring",
    "LocalIssuer",
    "PartyKey",
    "Principal",
    "Resource",
    "Revocations",
    "SpentTokens",
    "UrlKeys",
    "check_public",
    "install_default_policies",
    "key_id",
    "verify_jws",
]
