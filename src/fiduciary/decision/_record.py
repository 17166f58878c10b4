"""The payload of a decision's record: everything a replay and an auditor need, sealed under the subject's key."""

from __future__ import annotations

import msgspec

from fiduciary.errors import FiduciaryError, IntegrityError
from fiduciary.models import Reason

REFUSED = "refused"
"""Outcome of a request for a decision that was not answered; `problem` says why."""

NOTHING = msgspec.Raw(b"{}")


class Notice(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A notice that a rule in force asks for."""

    code: str
    rule: str
    within_days: int | None = None
    """Days from the decision; none: with it."""


class DecisionRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One decision as recorded. Field order is the order in the JSON; floats are shortest round-trip decimals.

    `features` is the row exactly as it was received (a JSON object), so that a replay starts from the bytes
    that were asked, not from a rendering of them.
    """

    version: int
    outcome: str
    use_case: str
    release: str = ""
    subject: str = ""
    caller: str = ""
    purpose: str = ""
    features: msgspec.Raw = NOTHING
    score: float | None = None
    """Probability (logit link) or value (identity link)."""
    margin: float | None = None
    """The additive scale: log-odds, or the value itself."""
    baseline: float | None = None
    """Mean margin of the approved population, pinned in the release."""
    reasons: list[Reason] = []
    explained: bool = False
    """False: the use case asks for reasons on adverse outcomes only; they are recomputed on demand."""
    rules: str = ""
    """Digest of the use case document (cut-offs, reasons asked for) that was in force."""
    policies: str = ""
    """Digest of the access policies that allowed or refused the request."""
    idempotency_key: str = ""
    problem: str = ""
    """For a refusal: the problem type, without its prefix."""
    detail: str = ""
    door: str = "native"
    rulebook: str = ""
    """Digest of the rulebook (the pack rules in force that day); the control log's `rules.resolved` names it."""
    basis: str = ""
    """The use case's lawful basis."""
    consent: str = ""
    """The caller's reference to the subject's consent."""
    region: str = ""
    """The subject's region as the caller named it, else the gate's."""
    opted_out: bool = False
    """The subject does not want to be decided about by a machine alone."""
    referred_by: str = ""
    """The rule that gave the outcome to a person; the cut-offs alone said otherwise."""
    human: str = ""
    """Who is to decide what a rule has referred."""
    notices: list[Notice] = []
    """What must be told to the subject."""


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(DecisionRecord)


def encode_record(record: DecisionRecord) -> bytes:
    """The record's payload: one JSON object in UTF-8."""
    return _encode(record)


def decode_record(payload: bytes) -> DecisionRecord:
    """Read a payload back. Raises `IntegrityError` when it is not a decision record of a known version."""
    try:
        record = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise IntegrityError("the payload is not a decision record") from None
    if record.version != 1:
        raise IntegrityError(
            f"the decision record has version {record.version}; this program reads version 1"
        )
    return record


def refusal_record(
    error: FiduciaryError,
    *,
    use_case: str,
    subject: str = "",
    caller: str = "",
    door: str = "native",
    rulebook: str = "",
) -> DecisionRecord:
    """The record of a request that was refused. Problem details never hold personal values (errors.py)."""
    return DecisionRecord(
        version=1,
        outcome=REFUSED,
        use_case=use_case,
        subject=subject,
        caller=caller,
        problem=error.kind,
        detail=error.detail,
        door=door,
        rulebook=rulebook,
    )
