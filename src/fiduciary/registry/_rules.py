"""Who may do what to a release, stated once: the same rules judge an event when written and when read.

`refusal(view, payload, time_ns)` gives the reason why an event does not hold, or None. The registry asks it
inside the control log's lock before it appends; the fold asks it again of every event it reads, so that a
line slipped into the log by other means (no signature, the author's own approval, a replayed promotion)
changes nothing. Pure functions of the state and the event; tests/registry/test_rules.py tries every rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeGuard

from fiduciary.errors import FiduciaryError, IntegrityError
from fiduciary.identity import ROLES, check_public, key_id
from fiduciary.registry import _oversight as oversight
from fiduciary.registry._judging import Payload, View, release_of, text_wrong
from fiduciary.registry._state import DIGEST, PARTY_NAME, PUBLIC_KEY, Enrolment, Release
from fiduciary.registry._statements import MAX_AGE_S, NANO, statement_holds, time_ns, well_formed_nonce
from fiduciary.registry._use_case import read_use_case

MAX_RESULTS = 500


class Rule(NamedTuple):
    """Roles of which the signing party must hold one; whether it must be a person; whether it must sign."""

    roles: tuple[str, ...]
    check: Callable[[View, Payload, Enrolment | None, str, int], str | None]
    person: bool = False
    signed: bool = True


def refusal(view: View, payload: Payload, recorded_ns: int) -> str | None:
    """Why this event does not hold in this state, in words for people; None when it holds.

    An event of a kind that the registry does not govern always holds. `recorded_ns`: time on the ledger.
    """
    event = payload.get("event")
    rule = RULES.get(event) if isinstance(event, str) else None
    if rule is None:
        return None
    try:
        who, why = _signer(view, payload, rule, recorded_ns)
        return why or rule.check(view, payload, who, str(payload.get("by", "")), recorded_ns)
    except FiduciaryError as error:
        return error.detail


def _signer(
    view: View, payload: Payload, rule: Rule, recorded_ns: int
) -> tuple[Enrolment | None, str | None]:
    by = payload.get("by")
    if not isinstance(by, str) or not PARTY_NAME.fullmatch(by):
        return None, "the event does not say who acts (by)"
    if "signature" not in payload and not rule.signed:
        return None, None  # stopping is the safe direction: the door's policy alone decides who may
    why = _stamp(view, payload, recorded_ns)
    if why:
        return None, why
    founder = payload["event"] == "party.enrolled" and not view.parties
    who = _founder(payload) if founder else _enrolled(view, by)
    if who is None:
        return None, f"{by} is not an enrolled party"
    if payload.get("key") != who.key_id:
        return None, f"the key named is not the one that {by} is enrolled with"
    if not statement_holds(payload, bytes.fromhex(who.public)):
        return None, f"the signature is not {by}'s: it does not verify under the enrolled key"
    if rule.person and who.kind != "person":
        return None, f"{by} is a service; this takes a person"
    if not set(rule.roles) & set(who.roles):
        return None, f"{by} is enrolled as {', '.join(who.roles)}; this takes {' or '.join(rule.roles)}"
    return who, None


def _enrolled(view: View, name: str) -> Enrolment | None:
    party = view.parties.get(name)
    return party.current if party else None


def _founder(payload: Payload) -> Enrolment | None:
    """The first party enrols itself: there is nobody else to do it, and it must be an officer in person."""
    public, roles = payload.get("public"), payload.get("roles")
    if payload.get("party") != payload["by"] or not _is_key(public) or not _are_roles(roles):
        return None
    kind: Any = payload.get("kind")
    return Enrolment(public, key_id_of(public), tuple(roles), kind, payload["by"], 0, 0)


def _stamp(view: View, payload: Payload, recorded_ns: int) -> str | None:
    if payload.get("scope") != view.scope:
        return f"the statement was signed for {payload.get('scope')!r}, not for {view.scope!r}"
    signed = time_ns(payload.get("signed"))
    if signed is None:
        return "the statement does not say when it was signed"
    if abs(recorded_ns - signed) > MAX_AGE_S * NANO:
        return f"the statement was signed at {payload['signed']}, over {MAX_AGE_S // 3600} hours from now"
    nonce = payload.get("nonce")
    if not well_formed_nonce(nonce):
        return "the statement has no nonce of 32 hexadecimal digits"
    if nonce in view.nonces:
        return "the statement has been used before"
    return None


def key_id_of(public: str) -> str:
    """The key id of a public key in hexadecimal."""
    return key_id(bytes.fromhex(public))


def _is_key(public: object) -> TypeGuard[str]:
    if not isinstance(public, str) or not PUBLIC_KEY.fullmatch(public):
        return False
    try:
        check_public(bytes.fromhex(public))
    except IntegrityError:
        return False
    return True


# --- parties ---


def _party_enrolled(view: View, p: Payload, who: Enrolment | None, by: str, at: int) -> str | None:
    name, public, roles, kind = p.get("party"), p.get("public"), p.get("roles"), p.get("kind")
    if not isinstance(name, str) or not PARTY_NAME.fullmatch(name):
        return "a party's name is 1 to 128 letters, digits or . _ @ + : / | = ~ # - after a letter or digit"
    if not _is_key(public):
        return "a party's public key is an Ed25519 key in 64 hexadecimal digits"
    if kind not in ("person", "service"):
        return "a party is a person or a service"
    if not _are_roles(roles):
        return f"a party's roles are one or more of {', '.join(ROLES)}"
    owner = view.key_owner.get(public)
    if owner not in (None, name):
        return f"this key is or was {owner}'s; every party has a key of its own"
    present = _enrolled(view, name)
    if (
        name == by
        and view.parties
        and (present is None or roles != list(present.roles) or kind != present.kind)
    ):
        return f"{by} may renew the own key but not change the own roles: another officer enrols them"
    return None


def _are_roles(roles: object) -> TypeGuard[list[str]]:
    if not isinstance(roles, list) or not roles or not all(isinstance(role, str) for role in roles):
        return False
    return len(set(roles)) == len(roles) and set(roles) <= set(ROLES)


def _party_removed(view: View, p: Payload, who: Enrolment | None, by: str, at: int) -> str | None:
    name = p.get("party")
    if not isinstance(name, str) or _enrolled(view, name) is None:
        return f"{str(name)[:128]} is not an enrolled party"
    others = [n for n, q in view.parties.items() if n != name and q.current and "officer" in q.current.roles]
    if not others:
        return "the last officer cannot be removed: nobody could enrol a party again"
    return text_wrong(p, "reason")


# --- use cases ---


def _usecase_defined(view: View, p: Payload, who: Enrolment | None, by: str, at: int) -> str | None:
    use_case = read_use_case(p.get("document"))
    if p.get("use_case") != use_case.name:
        return "the event names another use case than its document"
    if p.get("digest") != use_case.digest:
        return "the digest is not that of the use case document"
    return None


# --- releases ---


def _release_proposed(view: View, p: Payload, who: Enrolment | None, by: str, at: int) -> str | None:
    digest = p.get("release")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        return "the event names no release digest (sha256:<64 hexadecimal digits>)"
    known = view.releases.get(digest)
    if known is not None:
        return "the release is retired, for good" if known.retired else "the release was proposed before"
    use_case = p.get("use_case")
    if not isinstance(use_case, str) or use_case not in view.uses:
        return f"the use case {str(use_case)[:80]!r} has not been defined"
    for field in ("name", "version", "family"):
        if not isinstance(p.get(field), str):
            return f"the proposal does not say the release's {field}"
    signers = p.get("signers")
    if not isinstance(signers, list) or not all(isinstance(s, str) for s in signers):
        return "the proposal does not say who signed the bundle"
    if p["key"] not in signers:
        return "the proposer has not signed the bundle"
    return text_wrong(p, "note")


def _release_checked(view: View, p: Payload, who: Enrolment | None, by: str, at: int) -> str | None:
    release, why = release_of(view, p)
    if release is None:
        return why
    if release.rejected:
        return f"the release was rejected by {release.rejected.by}"
    results, green = p.get("results"), p.get("green")
    if not isinstance(results, list) or not 0 < len(results) <= MAX_RESULTS:
        return f"a check run has 1 to {MAX_RESULTS} results"
    for r in results:
        wrong = _result_wrong(r)
        if wrong:
            return wrong
    if green is not all(r["ok"] is True or r.get("severity") in ("warn", "record") for r in results):
        return "a check run is green exactly when every result that can block is ok"
    if not isinstance(p.get("rulebook", ""), str):
        return "the rulebook of a check run is a digest"
    return oversight.results_wrong(view, release, p, at)


def _result_wrong(r: object) -> str | None:
    """A result has a name and says whether it is ok; a rule's may say that it could not be judged (null)."""
    if not isinstance(r, dict) or not isinstance(r.get("name"), str) or "ok" not in r:
        return "each result of a check run has a name and says whether it is ok"
    ruled = "rule" in r
    if ruled and not (isinstance(r["rule"], str) and oversight.RULE_ID.fullmatch(r["rule"])):
        return "the rule of a result is named by its id"
    if not isinstance(r["ok"], bool) and not (ruled and r["ok"] is None):
        return "each result of a check run has a name and says whether it is ok"
    severities = oversight.SEVERITIES if ruled else ("block", "warn")
    if r.get("severity", "block") not in severities:
        return "the severity of a check's result is block or warn; a rule's may be record"
    return None


def _release_approved(view: View, p: Payload, who: Enrolment | None, by: str, at: int) -> str | None:
    release, why = release_of(view, p)
    if release is None or who is None:
        return why or "an approval must be signed"
    if by == release.author:
        return f"{by} is the release's author; somebody else must approve it"
    if who.public == release.author_key or who.key_id in release.signers:
        return "this key signed the release as author; an approver needs a key of their own"
    if who.enrolled_by == release.author:
        return f"{by} was enrolled by the release's author {release.author}; an approver must be independent"
    if release.rejected:
        return f"the release was rejected by {release.rejected.by}"
    if release.suspended:
        return f"the release is suspended by {release.suspended.by}"
    blocked = oversight.blocked(view, release, at)
    if blocked:
        return blocked
    if release.checks is None or p.get("checked") != release.checks.index:
        return f"the approval is not about the latest checks (control log entry {_last_check(release)})"
    if any(a.party == by for a in release.approvals):
        return f"{by} has approved this release before; it counts once"
    return text_wrong(p, "note")


def _last_check(release: Release) -> int:
    return release.checks.index if release.checks else -1


def _release_rejected(view: View, p: Payload, who: Enrolment | None, by: str, at: int) -> str | None:
    release, why = release_of(view, p)
    if release is None or who is None:
        return why or "a rejection must be signed"
    if by != release.author and "validator" not in who.roles:
        return f"{by} is neither a validator nor the author, who may withdraw it"
    if release.rejected:
        return f"the release was rejected by {release.rejected.by}"
    if release.digest in view.uses[release.use_case].history:
        return "the release has been live; suspend or retire it instead"
    return text_wrong(p, "reason", required=True)


def _release_promoted(view: View, p: Payload, who: Enrolment | None, by: str, at: int) -> str | None:
    release, why = release_of(view, p)
    if release is None:
        return why
    if by == release.author:
        return f"{by} is the release's author; somebody else must put it into service"
    lacking = _not_servable(view, release, at)
    if lacking:
        return lacking
    if view.live(release.use_case) == release.digest:
        return "the release is live already"
    return text_wrong(p, "note")


def _release_shadowed(view: View, p: Payload, who: Enrolment | None, by: str, at: int) -> str | None:
    why = _release_promoted(view, p, who, by, at)
    if why is None and p["release"] in view.uses[p["use_case"]].shadows:
        return "the release is a shadow already"
    return why


def _not_servable(view: View, release: Release, at: int) -> str | None:
    for mark, word in ((release.rejected, "rejected"), (release.suspended, "suspended")):
        if mark:
            return f"the release is {word} by {mark.by}"
    if release.checks is None:
        return "the release's checks are not green"
    blocked = oversight.blocked(view, release, at)
    if blocked:
        return blocked
    needed = view.uses[release.use_case].use_case.approvals
    if release.approved is None or len(release.approvals) < needed:
        return f"the release has {len(release.approvals)} of {needed} approvals by others than its author"
    return None


def _release_suspended(view: View, p: Payload, who: Enrolment | None, by: str, at: int) -> str | None:
    release, why = release_of(view, p)
    if release is None:
        return why
    if release.suspended:
        return f"the release is suspended already, by {release.suspended.by}"
    return text_wrong(p, "reason", required=True)


def _release_resumed(view: View, p: Payload, who: Enrolment | None, by: str, at: int) -> str | None:
    release, why = release_of(view, p)
    if release is None:
        return why
    if not release.suspended:
        return "the release is not suspended"
    if by == release.author:
        return f"{by} is the release's author; somebody else must resume it"
    return text_wrong(p, "reason", required=True)


def _release_rolled_back(view: View, p: Payload, who: Enrolment | None, by: str, at: int) -> str | None:
    release, why = release_of(view, p)
    if release is None:
        return why
    history = view.uses[release.use_case].history
    if p.get("from") != (history[-1] if history else None):
        return "the roll-back does not start from the release that was put into service last"
    if view.rollback_target(release.use_case) != release.digest:
        return "a roll-back goes to the previous live release that is still approved, and this is not it"
    return text_wrong(p, "reason", required=True)


def _release_retired(view: View, p: Payload, who: Enrolment | None, by: str, at: int) -> str | None:
    release, why = release_of(view, p)
    return why if release is None else text_wrong(p, "reason", required=True)


def _token_revoked(view: View, p: Payload, who: Enrolment | None, by: str, at: int) -> str | None:
    named = [f for f in ("jti", "subject") if isinstance(p.get(f), str) and 0 < len(p[f]) <= 256]
    if len(named) != 1 or {"jti", "subject"} <= p.keys():
        return "a revocation names either a token (jti) or a subject"
    before = p.get("before")
    if before is not None and (not isinstance(before, int) or isinstance(before, bool)):
        return "the time up to which a subject's tokens are void is in whole Unix seconds"
    if not isinstance(p.get("issuer", ""), str):
        return "the issuer of a revoked token is a text"
    return text_wrong(p, "reason")


RULES: dict[str, Rule] = {
    "party.enrolled": Rule(("officer",), _party_enrolled, person=True),
    "party.removed": Rule(("officer",), _party_removed, person=True),
    "usecase.defined": Rule(("officer",), _usecase_defined, person=True),
    "release.proposed": Rule(("developer",), _release_proposed, person=True),
    "release.checked": Rule(("developer", "validator", "operator"), _release_checked),
    "release.approved": Rule(("validator",), _release_approved, person=True),
    "release.rejected": Rule(("validator", "developer"), _release_rejected, person=True),
    "release.promoted": Rule(("operator",), _release_promoted),
    "release.shadowed": Rule(("operator",), _release_shadowed),
    "release.suspended": Rule(("operator", "officer", "validator"), _release_suspended, signed=False),
    "release.resumed": Rule(("operator",), _release_resumed, person=True),
    "release.rolled_back": Rule(("operator",), _release_rolled_back),
    "release.retired": Rule(("operator",), _release_retired),
    "token.revoked": Rule(("officer",), _token_revoked, signed=False),
    "pack.adopted": Rule(("officer",), oversight.pack_adopted, person=True),
    "pack.withdrawn": Rule(("officer",), oversight.pack_withdrawn, person=True),
    "rules.resolved": Rule(tuple(ROLES), oversight.rules_resolved, signed=False),
    "attestation.filed": Rule(
        ("officer", "validator", "developer", "operator", "auditor"), oversight.attestation_filed, person=True
    ),
    "finding.raised": Rule(("validator", "officer", "auditor"), oversight.finding_raised, person=True),
    "finding.closed": Rule(("validator", "officer"), oversight.finding_closed, person=True),
    "waiver.granted": Rule(("officer", "validator"), oversight.waiver_granted, person=True),
    "overlay.set": Rule(("officer", "validator"), oversight.overlay_set, person=True),
    "overlay.ended": Rule(("officer", "validator"), oversight.overlay_ended, person=True),
}
"""Every event that changes the governed state, and who may cause it."""
