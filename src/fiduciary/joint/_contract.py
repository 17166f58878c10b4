"""The contract of a joint job: an invitation that its coordinator signed, and one signed acceptance per party.

    signed bytes = "fiduciary.joint.<kind>/1\\n" || RFC 8785 of the payload
    digest of a contract = SHA-256 of RFC 8785 of {"invitation": payload, "acceptances": [payloads by rank]}

The invitation says what will run and who may learn what. An acceptance binds a party's key to the certificate
of its links, its address and the shapes of its columns, for this invitation only. Every member checks all of it
again before it loads a column (`_allow.py`). Proof: tests/joint/test_contract.py.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from fiduciary.errors import IntegrityError, LimitError, MalformedRequestError, UsageError
from fiduciary.identity import PartyKey
from fiduciary.joint._protocols import FIELDS
from fiduciary.registry import canonical

MAX_DOCUMENT = 4 << 20
MAX_PARTIES = 8
MAX_LIFETIME_S = 7 * 86_400
_NAME = re.compile(r"[a-z][a-z0-9._-]{0,39}")
_ARRAY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_HEX32 = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):\d{1,5}")


class PartyRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A party as others know it."""

    name: str
    key: str
    """Ed25519 public key, hexadecimal."""


class ColumnRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A column that a party is asked for."""

    name: str
    kind: str = "number"
    """number, boolean, category, text (an identifier)."""
    bins: int = 0
    """Into how many bins its owner cuts it; 0: it is not binned."""


class InvitedParty(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A party by rank, with the columns it is asked for (none: it helps to compute and brings no data)."""

    name: str
    key: str
    columns: list[ColumnRef] = []


class ProgramRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program, by id, module and digest of its source."""

    id: str
    module: str
    digest: str


class RowPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many rows a party may bring."""

    least: int = 1
    most: int = 10_000_000
    equal: bool = False
    """Every party with data brings equally many."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times after which a member gives up, seconds."""

    link_s: float = 60.0
    """Until all parties are linked."""
    stall_s: float = 20.0
    """Without a sign of life from a party or a worker."""
    quiet_s: float = 300.0
    """Without a message of the engine while it waits for one."""
    run_s: float = 3600.0
    """From the first link to the result."""


class Invitation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a coordinator proposes."""

    job: str
    nonce: str
    issued: int
    """Seconds since 1970, by the coordinator's clock."""
    expires: int
    coordinator: PartyRef
    program: ProgramRef
    engine: str
    protocol: str
    field: str
    fraction_bits: int | None
    parameters: dict[str, Any]
    parties: list[InvitedParty]
    rows: RowPolicy
    outputs: dict[str, list[str]]
    """Output -> the parties that may learn it; `*` stands for every output that is not named."""
    privacy: dict[str, float] | None
    """{"epsilon", "delta"} that the job spends on what it reveals; None: no noise is promised."""
    limits: Limits

    @property
    def names(self) -> list[str]:
        """The parties by rank."""
        return [p.name for p in self.parties]

    @property
    def receivers(self) -> list[str]:
        """Every party that may learn some output."""
        return sorted({name for names in self.outputs.values() for name in names})

    @property
    def digest(self) -> str:
        """`sha256:` of the canonical payload."""
        return digest_of(payload_of(self))

    def rank(self, name: str) -> int:
        """The rank of a party. Raises `UsageError`."""
        if name not in self.names:
            raise UsageError(f"{name} is not among the parties of this job: {', '.join(self.names)}")
        return self.names.index(name)


class Acceptance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A party's yes to one invitation."""

    invitation: str
    """Digest of the invitation."""
    party: str
    key: str
    certificate: str
    """The certificate of the party's links for this job, PEM."""
    address: str
    """Where its relay listens: host:port."""
    arrays: dict[str, tuple[list[int], str]]
    """Array -> shape and dtype; every party sees them."""

    @property
    def rows(self) -> int:
        """Rows of its arrays (the first dimension); 0 without any."""
        return max((shape[0] for shape, _ in self.arrays.values() if shape), default=0)


class Signed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A payload with its signature."""

    payload: dict[str, Any]
    signature: str


class Contract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a member needs, as one document."""

    invitation: Signed
    acceptances: list[Signed]
    """By rank."""


Payload = TypeVar("Payload", Invitation, Acceptance)


def payload_of(value: Invitation | Acceptance) -> dict[str, Any]:
    """The payload that is signed."""
    kind = "invitation" if isinstance(value, Invitation) else "acceptance"
    return {"format": f"fiduciary.joint.{kind}/1", **msgspec.to_builtins(value)}


def digest_of(document: Any) -> str:
    """`sha256:` of a canonical document."""
    return "sha256:" + hashlib.sha256(canonical(document)).hexdigest()


def sign_payload(value: Invitation | Acceptance, key: PartyKey) -> Signed:
    """Sign an invitation (by its coordinator) or an acceptance (by its party)."""
    owner = value.coordinator.key if isinstance(value, Invitation) else value.key
    if key.public.hex() != owner:
        raise UsageError(f"key {key.key_id} is not the key that the document names")
    payload = payload_of(value)
    return Signed(payload=payload, signature=key.sign(_statement(payload)).hex())


def _statement(payload: Mapping[str, Any]) -> bytes:
    return str(payload["format"]).encode() + b"\n" + canonical(dict(payload))


def open_signed(signed: Signed, kind: type[Payload]) -> Payload:
    """The typed payload, its signature verified. Raises `IntegrityError` or `MalformedRequestError`."""
    name = kind.__name__.lower()
    payload = dict(signed.payload)
    if payload.get("format") != f"fiduciary.joint.{name}/1":
        raise MalformedRequestError(f"the document is not an {name} of a joint job")
    statement = _statement(payload)
    payload.pop("format")
    try:
        value = msgspec.convert(payload, kind)
        signature = bytes.fromhex(signed.signature)
        public = bytes.fromhex(value.coordinator.key if isinstance(value, Invitation) else value.key)
    except (msgspec.ValidationError, ValueError) as error:
        raise MalformedRequestError(f"the {name} cannot be read: {error}") from None
    try:
        PartyKey.verify(public, signature, statement)
    except IntegrityError:
        owner = value.coordinator.name if isinstance(value, Invitation) else value.party
        raise IntegrityError(f"the {name} does not carry {owner}'s signature over its content") from None
    _check(value)
    return value


def _check(value: Invitation | Acceptance) -> None:
    """What holds of every well-formed document, whoever signed it."""
    if isinstance(value, Invitation):
        _check_invitation(value)
        return
    if not _HOST.fullmatch(value.address) or not 0 < int(value.address.rpartition(":")[2]) < 65536:
        raise MalformedRequestError(f"{value.party}'s address is host:port, not {value.address[:80]!r}")
    if not _DIGEST.fullmatch(value.invitation) or not _HEX32.fullmatch(value.key):
        raise MalformedRequestError(
            "an acceptance names an invitation's digest and a key of 64 hexadecimal digits"
        )
    if len(value.certificate) > 8192 or len(value.arrays) > 512:
        raise LimitError("an acceptance carries one certificate and at most 512 arrays")
    for name, (shape, dtype) in value.arrays.items():
        if not _ARRAY.fullmatch(name) or len(shape) > 4 or any(n < 0 for n in shape) or len(dtype) > 8:
            raise MalformedRequestError(
                f"{value.party}'s array {name[:40]!r} has no usable name, shape or type"
            )


def _check_invitation(value: Invitation) -> None:
    names = value.names
    if not 2 <= len(names) <= MAX_PARTIES or len(set(names)) != len(names):
        raise MalformedRequestError(f"a job has 2 to {MAX_PARTIES} parties with different names")
    keys = [p.key for p in value.parties]
    if len(set(keys)) != len(keys):
        raise MalformedRequestError("two parties of the job have the same key: that is one party twice")
    for name in [*names, value.coordinator.name]:
        if not _NAME.fullmatch(name):
            raise MalformedRequestError(
                f"a party's name is small letters, digits and . _ -, not {name[:40]!r}"
            )
    for key in [*keys, value.coordinator.key]:
        if not _HEX32.fullmatch(key):
            raise MalformedRequestError("a party's key is 64 hexadecimal digits")
    if not _NAME.fullmatch(value.job) or not re.fullmatch(r"[0-9a-f]{32}", value.nonce):
        raise MalformedRequestError(
            "a job has a short name in small letters, and a nonce of 32 hexadecimal digits"
        )
    if not 0 < value.expires - value.issued <= MAX_LIFETIME_S:
        raise MalformedRequestError("an invitation expires after it was issued, and within seven days")
    if not _DIGEST.fullmatch(value.program.digest):
        raise MalformedRequestError("the program is named by sha256: and 64 hexadecimal digits")
    if value.field not in FIELDS:
        raise MalformedRequestError(f"the field is one of {', '.join(FIELDS)}")
    if value.fraction_bits is not None and not 8 <= value.fraction_bits <= 40:
        raise MalformedRequestError("fraction_bits is 8 to 40")
    if not value.outputs or not value.receivers:
        raise MalformedRequestError("the job reveals nothing to anybody: name outputs and who may learn them")
    strangers = set(value.receivers) - set(names)
    if strangers:
        raise MalformedRequestError(
            f"outputs are promised to {', '.join(sorted(strangers))}, not a party of the job"
        )
    for limit in msgspec.structs.astuple(value.limits):
        if not 0.5 <= limit <= 7 * 86_400:
            raise MalformedRequestError("a time limit of the job is 0.5 seconds to seven days")
    if value.privacy is not None and (
        set(value.privacy) != {"epsilon", "delta"}
        or not 0 < value.privacy["epsilon"] <= 100
        or not 0 <= value.privacy["delta"] < 0.1
    ):
        raise MalformedRequestError("privacy is {epsilon: over 0 to 100, delta: 0 to 0.1}")
    if not 1 <= value.rows.least <= value.rows.most:
        raise MalformedRequestError("rows.least is at least 1 and not over rows.most")
    for party in value.parties:
        for column in party.columns:
            if column.kind not in ("number", "boolean", "category", "text") or not 0 <= column.bins <= 256:
                raise MalformedRequestError(
                    f"column {column.name[:40]!r} is number, boolean, category or text, with 0 to 256 bins"
                )


def make_nonce() -> str:
    """A fresh nonce, 32 hexadecimal digits."""
    return secrets.token_hex(16)


def make_contract(invitation: Signed, acceptances: Sequence[Signed]) -> Contract:
    """Put an invitation and its acceptances together, by rank. Raises what is missing, doubled or foreign."""
    proposal = open_signed(invitation, Invitation)
    found: dict[str, Signed] = {}
    for signed in acceptances:
        acceptance = open_signed(signed, Acceptance)
        _belongs(proposal, acceptance)
        if acceptance.party in found:
            raise MalformedRequestError(f"{acceptance.party} accepted twice; keep one of the two")
        found[acceptance.party] = signed
    missing = [name for name in proposal.names if name not in found]
    if missing:
        raise UsageError(f"not yet accepted by {', '.join(missing)}")
    return Contract(invitation=invitation, acceptances=[found[name] for name in proposal.names])


def _belongs(invitation: Invitation, acceptance: Acceptance) -> None:
    if acceptance.party not in invitation.names:
        raise IntegrityError(f"{acceptance.party} was not invited to this job")
    if acceptance.invitation != invitation.digest:
        raise IntegrityError(f"{acceptance.party} accepted another invitation, not this one")
    if acceptance.key != invitation.parties[invitation.rank(acceptance.party)].key:
        raise IntegrityError(f"the acceptance of {acceptance.party} is by another key than was invited")


class Agreed(msgspec.Struct, frozen=True, kw_only=True):
    """A contract that was opened: every signature in it holds."""

    invitation: Invitation
    acceptances: list[Acceptance]
    digest: str


def open_contract(contract: Contract) -> Agreed:
    """Verify every signature and that the parts belong together. Raises `FiduciaryError`."""
    invitation = open_signed(contract.invitation, Invitation)
    acceptances = [open_signed(signed, Acceptance) for signed in contract.acceptances]
    if [a.party for a in acceptances] != invitation.names:
        raise IntegrityError(
            f"the contract carries {len(acceptances)} acceptances, not exactly one of each of "
            f"{', '.join(invitation.names)} in that order"
        )
    for acceptance in acceptances:
        _belongs(invitation, acceptance)
    if len({a.certificate for a in acceptances}) != len(acceptances):
        raise IntegrityError("two parties of the contract have the same certificate")
    digest = digest_of(
        {
            "invitation": payload_of(invitation),
            "acceptances": [payload_of(acceptance) for acceptance in acceptances],
        }
    )
    return Agreed(invitation=invitation, acceptances=acceptances, digest=digest)


Document = TypeVar("Document", Signed, Contract)


def read_document(raw: bytes, kind: type[Document], what: str) -> Document:
    """A signed document or contract from its file's bytes. Raises `LimitError` or `MalformedRequestError`."""
    from fiduciary.registry._canonical import parse

    try:
        return msgspec.convert(parse(raw, what, MAX_DOCUMENT), kind)
    except msgspec.ValidationError as error:
        raise MalformedRequestError(f"{what} is not a document of a joint job: {error}") from None


def write_document(value: Signed | Contract) -> bytes:
    """The canonical bytes of a document, with a final newline."""
    return canonical(msgspec.to_builtins(value)) + b"\n"
