"""Rules of the day and what people say about a release beside approving it: when such an event holds.

Packs adopted and withdrawn, rulebooks announced, attestations, findings, waivers and overlays. Like `_rules.py`
(which merges these) pure functions of the state and the event, mirrored offline in evidence/_verify_folder.py;
tests/evidence/test_history.py holds the two to the same judgement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from fiduciary.registry._bundle import digest_text
from fiduciary.registry._canonical import canonical
from fiduciary.registry._dsse import decode_base64, pae, verifies
from fiduciary.registry._judging import Payload, View, day, is_date, release_of, text_wrong
from fiduciary.registry._state import DIGEST, Book, Enrolment, Release, Waiver

SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
RULE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}")
MAX_WAIVER_DAYS = 366
MAX_BOOK_RULES = 2_000
STAGES = ("release", "serve", "watch", "evidence")
SEVERITIES = ("block", "warn", "record")
FINDING_SEVERITIES = ("high", "medium", "low")

Who = Enrolment | None


# --- packs and rulebooks ---


def pack_adopted(view: View, p: Payload, who: Who, by: str, at: int) -> str | None:
    """An officer puts one version of a pack in force; the event carries the whole document."""
    pack, version, document = p.get("pack"), p.get("version"), p.get("document")
    if not _matches(SLUG, pack):
        return "the event names no pack"
    if not _matches(VERSION, version):
        return "the event names no version of the pack"
    if not isinstance(document, dict):
        return "the event does not carry the pack's document"
    if document.get("pack") != pack or document.get("version") != version:
        return "the event names another pack or version than its document"
    if p.get("digest") != digest_text(canonical(document)):
        return "the digest is not that of the pack's document"
    present = view.packs.get(str(pack))
    if present is not None and present.ended is None and present.digest == p["digest"]:
        return f"this version of pack {pack} is in force already"
    return _review_wrong(view, p, by) or text_wrong(p, "note")


REVIEW_TYPE = "application/vnd.fiduciary.pack-review+json"
"""DSSE payload type of a review: a pack that says it was reviewed by counsel comes with a signature of this kind."""


def review_statement(document: Mapping[str, Any]) -> bytes:
    """What a reviewer signs of a pack: its name, version and digest, and the counsel who stands for it."""
    counsel = document.get("reviewed_by_counsel")
    return canonical(
        {
            "pack": document.get("pack"),
            "version": document.get("version"),
            "digest": digest_text(canonical(document)),
            "counsel": counsel.get("name") if isinstance(counsel, dict) else None,
        }
    )


def _review_wrong(view: View, p: Payload, by: str) -> str | None:
    """A pack may say that counsel reviewed it only when a known party other than who adopts it signed that."""
    document, review = p["document"], p.get("review")
    if document.get("reviewed_by_counsel") is None:
        return None if review is None else "the pack says of no review, and the event brings one"
    if not isinstance(review, dict):
        return "the pack says that counsel reviewed it, and no signed review comes with it"
    public, signature = review.get("public"), review.get("signature")
    owner = view.key_owner.get(public) if isinstance(public, str) else None
    if owner is None or not isinstance(signature, str):
        return "the review is signed with a key that nobody was ever enrolled with"
    if owner == by:
        return f"{by} signed the review and adopts the pack; somebody else must do one of the two"
    try:
        raw = decode_base64(signature)
    except ValueError:
        return "the signature of the review is not base64"
    if not verifies(bytes.fromhex(str(public)), raw, pae(REVIEW_TYPE, review_statement(document))):
        return f"the signature of the review is not {owner}'s for this pack"
    return None


def pack_withdrawn(view: View, p: Payload, who: Who, by: str, at: int) -> str | None:
    """An officer takes a pack out of force. Use cases that name it are answered no more."""
    pack = p.get("pack")
    present = view.packs.get(pack) if isinstance(pack, str) else None
    if present is None or present.ended is not None:
        return f"pack {str(pack)[:80]!r} is not in force"
    return text_wrong(p, "reason", required=True)


def rules_resolved(view: View, p: Payload, who: Who, by: str, at: int) -> str | None:
    """A gate or a check announces which rules bind a use case from now on: of the packs in force, no other."""
    name = p.get("use_case")
    use = view.uses.get(name) if isinstance(name, str) else None
    if use is None:
        return f"the use case {str(name)[:80]!r} has not been defined"
    if p.get("rules") != use.digest:
        return "the rulebook was made for another version of the use case than the one in force"
    if p.get("rulebook") != book_digest(p):
        return "the digest is not that of the rulebook"
    wanted = []
    for pack in use.use_case.packs:
        adopted = view.packs.get(pack)
        if adopted is None or adopted.ended is not None:
            return f"pack {pack} is not in force"
        wanted.append({"pack": adopted.pack, "version": adopted.version, "digest": adopted.digest})
    if not wanted:
        return "the use case names no packs"
    if p.get("packs") != wanted:
        return "the rulebook is of other packs than those in force for the use case"
    since, until, today = p.get("valid_from"), p.get("valid_until"), day(at)
    if not is_date(since) or not (until == "" or is_date(until)):
        return "valid_from and valid_until are dates"
    if not since <= today or (until and today >= until):
        return "the rulebook is not in force today"
    if not isinstance(p.get("obligations"), dict):
        return "the event does not say what binds the serving path"
    return _book_wrong(p.get("in_force"), set(use.use_case.packs))


BOOK = ("use_case", "rules", "packs", "resolver", "in_force", "obligations", "valid_from", "valid_until")
"""Members of `rules.resolved` that make up the rulebook, and that its digest is over."""


def book_digest(p: Payload) -> str:
    """`sha256:<hex>` of the canonical members of a rulebook; those that are not there count as null."""
    return digest_text(canonical({name: p.get(name) for name in BOOK}))


def _book_wrong(rules: object, packs: set[str]) -> str | None:
    if not isinstance(rules, list) or len(rules) > MAX_BOOK_RULES:
        return f"a rulebook lists at most {MAX_BOOK_RULES} rules"
    seen = set()
    for rule in rules:
        if not isinstance(rule, dict) or not _matches(RULE_ID, rule.get("rule")):
            return "each rule of a rulebook has an id"
        known = isinstance(rule.get("pack"), str) and rule["pack"] in packs
        if not known or rule.get("stage") not in STAGES or rule.get("severity") not in SEVERITIES:
            return f"rule {rule['rule']} does not say its pack, stage and severity"
        if rule["rule"] in seen:
            return f"rule {rule['rule']} stands twice in the rulebook"
        seen.add(rule["rule"])
    return None


def results_wrong(view: View, release: Release, p: Payload, at: int) -> str | None:
    """Why a check run's rule results do not stand for the rulebook in force; None when they do, or there are none."""
    ruled = {r["rule"]: r for r in p["results"] if "rule" in r}
    digest = p.get("rulebook", "")
    if not digest:
        return "results of rules come with the rulebook that they are of" if ruled else None
    use = view.uses[release.use_case]
    book = use.book_on(day(at))
    if book is None or digest != book.digest:
        return "the check run is on another rulebook than the one in force"
    for rule in book.in_force:
        if rule["stage"] == "release":
            result = ruled.get(rule["rule"])
            if result is None:
                return f"the check run leaves out rule {rule['rule']}"
            if result.get("severity", "block") != rule["severity"]:
                return f"the check run gives rule {rule['rule']} another severity than the rulebook"
    return None


def blocked(view: View, release: Release, at: int) -> str | None:
    """Why the latest check run keeps a release from approval and service at that time (ns); None when it does not.

    Every result of severity block is ok, or is of a rule that an unexpired waiver lifts; an unknown result is no
    pass. Where the use case names packs, the run must be of the rulebook in force.
    """
    checks = release.checks
    if checks is None:
        return "the release has not been checked yet"
    today = day(at)
    use = view.uses[release.use_case]
    if use.use_case.packs:
        book = use.book_on(today)
        if book is None or checks.rulebook != book.digest:
            return "the rules in force are not the ones that the release was checked on: run the checks again"
    for result in checks.results:
        if result.get("severity", "block") != "block" or result["ok"] is True:
            continue
        rule = result.get("rule")
        if rule is None:
            return "the release's checks are not green"
        if not _waived(view.waivers, release.digest, rule, today):
            word = "fails" if result["ok"] is False else "could not be judged"
            return f"the release's checks are not green: rule {rule} {word}, and no waiver in force lifts it"
    return None


def _waived(waivers: list[Waiver], release: str, rule: str, today: str) -> bool:
    return any(w.release == release and w.rule == rule and today < w.expires for w in waivers)


# --- attestations, findings, waivers, overlays ---


def attestation_filed(view: View, p: Payload, who: Who, by: str, at: int) -> str | None:
    """A person says that a document is there: its digest, and until when it counts. No use case: for all."""
    if not _matches(SLUG, p.get("kind")):
        return "the attestation's kind is 1 to 63 lower-case letters, digits, . _ -"
    wrong = _about(view, p, anywhere=True)
    if wrong:
        return wrong
    if not _matches(DIGEST, p.get("digest")):
        return "the attestation names no document digest (sha256:<64 hexadecimal digits>)"
    expires = p.get("expires", "")
    if expires != "" and not (is_date(expires) and expires > day(at)):
        return "expires is a date after today, or left out"
    return text_wrong(p, "title", required=True) or text_wrong(p, "note")


def finding_raised(view: View, p: Payload, who: Who, by: str, at: int) -> str | None:
    """A reviewer wants something repaired."""
    finding, due = p.get("finding"), p.get("due", "")
    if not _matches(LABEL, finding):
        return "a finding has an id of 1 to 63 letters, digits, . _ -"
    if finding in view.findings:
        return f"finding {finding} was raised before"
    if p.get("severity") not in FINDING_SEVERITIES:
        return f"a finding's severity is {', '.join(FINDING_SEVERITIES)}"
    if due != "" and not is_date(due):
        return "due is a date, or left out"
    return _about(view, p) or text_wrong(p, "title", required=True) or text_wrong(p, "note")


def finding_closed(view: View, p: Payload, who: Who, by: str, at: int) -> str | None:
    """It is repaired, says somebody other than the author of the release."""
    named = p.get("finding")
    finding = view.findings.get(named) if isinstance(named, str) else None
    if finding is None or finding.use_case != p.get("use_case"):
        return f"there is no finding {str(named)[:80]!r} of this use case"
    if finding.closed is not None:
        return f"finding {named} was closed before"
    release = view.releases.get(finding.release)
    if release is not None and by == release.author:
        return f"{by} is the author of the release that finding {named} is about; somebody else must close it"
    return text_wrong(p, "reason", required=True)


def waiver_granted(view: View, p: Payload, who: Who, by: str, at: int) -> str | None:
    """Leave for a release not to meet one rule until a date; never by its author, under any name or key."""
    release, why = release_of(view, p)
    if release is None or who is None:
        return why or "a waiver must be signed"
    if by == release.author:
        return f"{by} is the release's author; nobody grants a waiver to the own release"
    if who.public == release.author_key or who.key_id in release.signers:
        return "this key signed the release as author; a waiver takes a key of its own"
    if who.enrolled_by == release.author:
        return (
            f"{by} was enrolled by the release's author {release.author}; a waiver takes somebody independent"
        )
    if not _matches(RULE_ID, p.get("rule")):
        return "a waiver names the rule that it lifts"
    expires = p.get("expires")
    if not is_date(expires):
        return "a waiver has an end: expires is the first day on which it no longer holds"
    last = (date.fromisoformat(day(at)) + timedelta(days=MAX_WAIVER_DAYS)).isoformat()
    if not day(at) < str(expires) <= last:
        return f"a waiver ends after today and within {MAX_WAIVER_DAYS} days"
    return text_wrong(p, "reason", required=True)


def overlay_set(view: View, p: Payload, who: Who, by: str, at: int) -> str | None:
    """A post-model adjustment is in use, until a date."""
    overlay, expires = p.get("overlay"), p.get("expires")
    if not _matches(LABEL, overlay):
        return "an overlay has an id of 1 to 63 letters, digits, . _ -"
    if overlay in view.overlays:
        return f"overlay {overlay} was set before"
    if not is_date(expires) or not str(expires) > day(at):
        return "an overlay has an end: expires is a date after today"
    return _about(view, p) or text_wrong(p, "title", required=True) or text_wrong(p, "reason", required=True)


def overlay_ended(view: View, p: Payload, who: Who, by: str, at: int) -> str | None:
    """It is used no more."""
    named = p.get("overlay")
    overlay = view.overlays.get(named) if isinstance(named, str) else None
    if overlay is None or overlay.use_case != p.get("use_case") or overlay.ended is not None:
        return f"there is no overlay {str(named)[:80]!r} in use for this use case"
    return text_wrong(p, "reason", required=True)


def _about(view: View, p: Payload, *, anywhere: bool = False) -> str | None:
    """Does it name a defined use case, and if a release, one of it? `anywhere`: the use case may be left out."""
    name, digest = p.get("use_case", ""), p.get("release", "")
    if name == "" and anywhere and digest == "":
        return None
    if not isinstance(name, str) or name not in view.uses:
        return f"the use case {str(name)[:80]!r} has not been defined"
    if digest == "":
        return None
    release = view.releases.get(digest) if isinstance(digest, str) else None
    if release is None or release.use_case != name:
        return "the release named is not one of this use case"
    return None


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def book_of(p: Payload, index: int, time_ns: int) -> Book:
    """The rulebook that a `rules.resolved` event announces, given that it holds."""
    return Book(
        digest=p["rulebook"],
        use_case=p["use_case"],
        rules=p["rules"],
        packs=tuple((q["pack"], q["version"], q["digest"]) for q in p["packs"]),
        in_force=tuple(p["in_force"]),
        obligations=p["obligations"],
        valid_from=p["valid_from"],
        valid_until=p["valid_until"],
        index=index,
        time_ns=time_ns,
    )
