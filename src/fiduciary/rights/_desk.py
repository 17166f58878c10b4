"""Where people's rights are exercised: each step reads, judges and records inside the control log's lock.

A contest keeps its subject's records, an incident what it names, by a legal hold that the step itself places and
lifts: so the one engine that refuses erasures and sweeps (ledger) needs no second opinion, and `ledger holds` shows
why something is kept. Steps in which a person decides are signed with that person's key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from fiduciary.decision import REFUSED, DecisionRecord, decode_record
from fiduciary.errors import (
    ConflictError,
    GoneError,
    LimitError,
    NotFoundError,
    PermissionDeniedError,
    UsageError,
)
from fiduciary.identity import PartyKey
from fiduciary.ledger import Erasure, Kind, Ledger, Record
from fiduciary.registry import Registry, make_statement, sign_statement
from fiduciary.rights import _register as names
from fiduciary.rights._calendar import due
from fiduciary.rights._register import MAX_TEXT, Contest, Incident, Register, Request, Step, register
from fiduciary.rules import parse_duration

OUTCOMES = ("approve", "refer", "decline")
DEFAULT_LIMIT = "P1M"
"""GDPR Article 12(3): one month from receipt; what counts where no pack in force says something shorter."""
REQUESTS = ("access", "portability", "erasure", "rectification", "explanation")
MAX_STEPS = 16
MAX_CODES = 4
INCIDENT_LIMITS: Mapping[str, tuple[str, ...]] = {
    "major": ("PT4H", "PT24H", "PT72H", "P1M"),
    "cyber": ("PT72H",),
    "personal_data": ("PT72H",),
    "serious": ("P2D", "P10D", "P15D"),
    "customer_data": ("P30D",),
}
"""What counts for a class of incident where neither a pack in force nor whoever opens it gives a limit: DORA and its
technical standards; NYDFS 500.17; GDPR Article 33; AI Act Article 73; GLBA 314.4(j)."""

Bound = list[tuple[str, str]]
"""Time limits with the rule that each comes from."""


class Decided(msgspec.Struct, frozen=True):
    """A decision as recorded."""

    stored: Record
    record: DecisionRecord


class Desk:
    """The rights desk of a home."""

    def __init__(self, ledger: Ledger, registry: Registry) -> None:
        self.ledger = ledger
        self.registry = registry

    def register(self) -> Register:
        """Contests, overrides, incidents, requests and letters as they are now."""
        return register(self.ledger)

    def decision(self, record_id: str) -> Decided:
        """A readable decision. Raises `NotFoundError`, `GoneError`, `ConflictError` (an event or a refusal)."""
        stored = self.ledger.get(record_id)
        if stored.header.kind != Kind.DECISION:
            raise ConflictError(f"record {record_id} is an event, not a decision")
        if stored.payload is None:
            raise GoneError(f"the content of record {record_id} is {stored.state}")
        record = decode_record(stored.payload)
        if record.outcome == REFUSED:
            raise ConflictError(f"record {record_id} is a refusal ({record.problem}): nothing was decided")
        return Decided(stored, record)

    def limits(self, event: str, use_case: str = "") -> Bound:
        """Time limits that packs in force set for an event; of a use case, or of all packs adopted here."""
        state = self.registry.states()
        wanted = set(state.use(use_case).use_case.packs) if use_case else None
        found: Bound = []
        for adopted in state.packs.values():
            if adopted.ended is not None or (wanted is not None and adopted.pack not in wanted):
                continue
            for clock in adopted.document.get("clocks", []):
                if clock["event"] in (event, f"{event}.opened"):
                    found += [(step, clock.get("rule") or adopted.pack) for step in clock["steps"]]
        return found

    def _shortest(self, event: str, use_case: str, now: int) -> tuple[str, str, int]:
        bound = self.limits(event, use_case)
        if not bound and event.startswith("request."):
            bound = self.limits("request.subject", use_case)
        bound = bound or [(DEFAULT_LIMIT, "gdpr-12-3")]
        ends = [(due(now, limit), limit, rule) for limit, rule in bound]
        end, limit, rule = min(ends)
        return limit, rule, end

    # Contest and override.

    def open_contest(self, decision: str, subject: str, text: str, *, by: str) -> Contest:
        """A person contests a decision about them.

        `subject`: the person's id as the gate was given it; a decision about somebody else is not found. Raises
        `NotFoundError`, `ConflictError` when a contest of it is open, `LimitError`, `UsageError`.
        """
        text = _text(text, "what the person says")
        with self.ledger.control():
            found = self._about(decision, subject)
            if any(
                c.decision == decision and c.decided_ns is None for c in self.register().contests.values()
            ):
                raise ConflictError(f"a contest of {decision} is open already")
            use_case = found.record.use_case
            now = self.ledger.clock()
            limit, rule, end = self._shortest("contest", use_case, now)
            hold = self.ledger.hold(by=by, reason=f"contest of {decision} is open", subject_id=subject)
            receipt = self.ledger.emit(
                names.CONTEST_OPENED,
                {
                    "by": by,
                    "decision": decision,
                    "use_case": use_case,
                    "subject": subject,
                    "text": text,
                    "limit": limit,
                    "rule": rule,
                    "due_ns": end,
                    "hold": hold,
                },
                **self._sealed(found),
            )
            return self.register().contests[receipt.id]

    def decide_contest(
        self,
        contest: str,
        outcome: Literal["uphold", "overturn"],
        *,
        by: str,
        key: PartyKey,
        reason: str,
        result: str = "",
        codes: Sequence[str] = (),
    ) -> Contest:
        """A person decides a contest. `result`: the outcome that stands from now on, if it is overturned.

        `codes`: for a decline, up to four of the contract's reason codes that made this person decide so.

        Not for whoever filed it, made the release, asked for the decision, or decided about it before.
        Raises `PermissionDeniedError`, `NotFoundError`, `ConflictError`, `UsageError`.
        """
        reason = _text(reason, "the reason")
        with self.ledger.control():
            book = self.register()
            open_ = book.contests.get(contest)
            if open_ is None:
                raise NotFoundError(f"there is no contest {contest[:80]!r}")
            if open_.decided_ns is not None:
                raise ConflictError(f"contest {contest} was decided before")
            if by == open_.by:
                raise PermissionDeniedError(f"{by} filed contest {contest}; somebody else decides it")
            found = self.decision(open_.decision)
            self._judge(found, by, key)
            if by in book.deciders(open_.decision):
                raise PermissionDeniedError(
                    f"{by} decided about {open_.decision} before; somebody else decides contest {contest}"
                )
            standing, _ = book.standing(open_.decision, found.record.outcome)
            result = self._result(outcome, result, standing)
            body = {
                "contest": contest,
                "outcome": "overturned" if outcome == "overturn" else "upheld",
                "result": result,
                "reason": reason,
                "codes": self._codes(codes, found, result if outcome == "overturn" else ""),
            }
            self._signed(names.CONTEST_DECIDED, body, found, by, key)
            if any(hold.id == open_.hold for hold in self.ledger.holds()):
                self.ledger.lift(open_.hold, by=by, reason=f"contest {contest} is decided")
            return self.register().contests[contest]

    def override(
        self,
        decision: str,
        result: str,
        *,
        by: str,
        key: PartyKey,
        reason: str,
        codes: Sequence[str] = (),
    ) -> str:
        """A person sets another outcome without a contest; returns the record's id. The record stays as it is.

        `codes`: for a decline, up to four of the contract's reason codes that made this person decide so.
        """
        reason = _text(reason, "the reason")
        with self.ledger.control():
            found = self.decision(decision)
            book = self.register()
            if any(c.decision == decision and c.decided_ns is None for c in book.contests.values()):
                raise ConflictError(f"a contest of {decision} is open: decide that instead")
            self._judge(found, by, key)
            standing, _ = book.standing(decision, found.record.outcome)
            result = self._result("overturn", result, standing)
            return self._signed(
                names.OVERRIDDEN,
                {
                    "decision": decision,
                    "use_case": found.record.use_case,
                    "result": result,
                    "reason": reason,
                    "codes": self._codes(codes, found, result),
                },
                found,
                by,
                key,
            )

    def standing(self, decision: str) -> dict[str, Any]:
        """What counts for a decision now: recorded and standing outcome, overrides, contests."""
        found = self.decision(decision)
        book = self.register()
        outcome, last = book.standing(decision, found.record.outcome)
        return {
            "decision": decision,
            "recorded": found.record.outcome,
            "standing": outcome,
            "by": last.by if last else "",
            "overrides": [msgspec.to_builtins(o) for o in book.overrides if o.decision == decision],
            "contests": [msgspec.to_builtins(c) for c in book.contests.values() if c.decision == decision],
        }

    def _result(self, outcome: str, result: str, standing: str) -> str:
        if outcome == "uphold":
            if result not in ("", standing):
                raise UsageError("an upheld decision keeps its outcome; leave the result out")
            return standing
        if outcome != "overturn":
            raise UsageError("a contest is decided by uphold or overturn")
        if result not in OUTCOMES:
            raise UsageError(f"say which outcome stands from now on: {', '.join(OUTCOMES)}")
        if result == standing:
            raise UsageError(f"{result} is what stands already: uphold it, or name another outcome")
        return result

    def _codes(self, codes: Sequence[str], found: Decided, result: str) -> list[str]:
        """A person's own reasons for a decline, the strongest first, as codes of the contract."""
        if not codes:
            return []
        if result != "decline":
            raise UsageError("reasons are named for a decline only")
        if len(set(codes)) != len(codes) or len(codes) > MAX_CODES:
            raise UsageError(f"name up to {MAX_CODES} different reasons")
        known = self.registry.examine(found.record.release).plan.codes
        for code in codes:
            if code not in known:
                raise UsageError(f"{code[:60]!r} is no reason of the contract; there are {', '.join(known)}")
        return list(codes)

    def _about(self, decision: str, subject: str) -> Decided:
        """The decision if it is about this person; else there is none, whatever else it is."""
        absent = NotFoundError("there is no such decision about this person")
        try:
            found = self.decision(decision)
        except NotFoundError:
            raise absent from None
        if not subject or found.record.subject != subject:
            raise absent
        return found

    def _judge(self, found: Decided, by: str, key: PartyKey) -> None:
        """May this party decide about the decision? A person, with a say in the use case, and not its cause."""
        state = self.registry.states()
        party = state.parties.get(by)
        present = party.current if party else None
        if present is None or present.public != key.public.hex():
            raise PermissionDeniedError(f"{by} is not enrolled with this key")
        if present.kind != "person":
            raise PermissionDeniedError(f"{by} is a service; this takes a person")
        use_case = state.use(found.record.use_case).use_case
        if "officer" not in present.roles and by not in (use_case.oversight_person, *use_case.reviewers):
            raise PermissionDeniedError(
                f"{by} is neither an officer nor named by use case {use_case.name} as reviewer or overseer"
            )
        release = state.releases.get(found.record.release)
        if by == found.record.caller or (release is not None and by == release.author):
            raise PermissionDeniedError(f"{by} had a part in this decision; somebody else must judge it")

    def _signed(self, event: str, body: dict[str, Any], found: Decided, by: str, key: PartyKey) -> str:
        statement = make_statement(
            event, body, scope=self.registry.scope, by=by, key_id=key.key_id, signed_ns=self.ledger.clock()
        )
        payload = sign_statement(statement, key)
        del payload["event"]
        return self.ledger.emit(event, payload, **self._sealed(found)).id

    def _sealed(self, found: Decided) -> dict[str, Any]:
        """Under whose key, and how long: as the decision that it is about.

        Without the release in the header: a sealed event that names one may not be left out of an evidence folder.
        """
        return {
            "subject": found.stored.subject,
            "use_case": found.record.use_case,
            "retention": found.stored.header.retention,
        }

    # Incidents.

    def open_incident(
        self,
        kind: str,
        title: str,
        *,
        by: str,
        use_case: str = "",
        release: str = "",
        subject: str = "",
        since_ns: int | None = None,
        clocks: list[str] | None = None,
    ) -> Incident:
        """Open an incident of a class such as `major`; its clocks are those of packs for `incident.<class>`.

        `since_ns`: when it became known. `clocks`: time limits beside those of packs. Neither: those of
        `INCIDENT_LIMITS`. What it names (one of use
        case, release, subject) is kept until it is closed. The title is kept for good: no names of people in it.
        """
        title = _text(title, "what happened", 500)
        if not kind or len(kind) > 63 or not all(c.isalnum() or c in "._-" for c in kind):
            raise UsageError("an incident's class is a short word, such as major or breach")
        scopes = [
            (s, v) for s, v in (("use_case", use_case), ("release", release), ("subject", subject)) if v
        ]
        if len(scopes) > 1:
            raise UsageError("an incident names at most one of use case, release and subject")
        if use_case:
            self.registry.states().use(use_case)
        now = self.ledger.clock()
        since = now if since_ns is None else since_ns
        if since > now:
            raise UsageError("an incident became known before now, not after")
        bound = self.limits(f"incident.{kind}", use_case) or self.limits(kind, use_case)
        bound += [(limit, "") for limit in clocks or []]
        bound = bound or [(limit, "default") for limit in INCIDENT_LIMITS.get(kind, ())]
        if not 1 <= len(bound) <= MAX_STEPS:
            raise UsageError(
                f"no pack in force has a clock for incident.{kind}; adopt one, give time limits such as PT72H, "
                f"or name a class that has some: {', '.join(INCIDENT_LIMITS)}"
                if not bound
                else f"an incident has at most {MAX_STEPS} clocks"
            )
        steps = [Step(limit=limit, due_ns=due(since, limit), rule=rule) for limit, rule in bound]
        steps.sort(key=lambda step: (step.due_ns, step.limit))
        with self.ledger.control():
            hold = ""
            if scopes:
                more: dict[str, Any] = {}
                if subject:
                    more["subject_id"] = subject
                elif release:
                    more["release"] = bytes.fromhex(release.removeprefix("sha256:"))
                else:
                    more["use_case"] = use_case
                hold = self.ledger.hold(by=by, reason="an incident is open", **more)
            receipt = self.ledger.emit(
                names.INCIDENT_OPENED,
                {
                    "by": by,
                    "kind": kind,
                    "title": title,
                    "scope": scopes[0][0] if scopes else "",
                    "value": "" if subject else scopes[0][1] if scopes else "",
                    "since_ns": since,
                    "steps": msgspec.to_builtins(steps),
                    "hold": hold,
                },
                use_case=use_case,
            )
            return self.register().incidents[receipt.id]

    def step_incident(self, incident: str, step: int, *, by: str, note: str) -> Incident:
        """A report was made: the clock of that step (1 is the first due) stops."""
        note = _text(note, "what was reported, and to whom", 2_000)
        with self.ledger.control():
            found = self._incident(incident)
            if not 1 <= step <= len(found.steps):
                raise UsageError(f"incident {incident} has the steps 1 to {len(found.steps)}")
            if found.steps[step - 1].done_ns is not None:
                raise ConflictError(f"step {step} of incident {incident} is done already")
            body = {"by": by, "incident": incident, "step": step, "note": note}
            self.ledger.emit(names.INCIDENT_STEP, body)
            return self.register().incidents[incident]

    def close_incident(self, incident: str, *, by: str, reason: str) -> Incident:
        """Close it, when every step is done; what it kept is let go."""
        reason = _text(reason, "the reason", 2_000)
        with self.ledger.control():
            found = self._incident(incident)
            left = [str(n) for n, step in enumerate(found.steps, 1) if step.done_ns is None]
            if left:
                raise ConflictError(f"incident {incident} still owes step {', '.join(left)}: report first")
            self.ledger.emit(names.INCIDENT_CLOSED, {"by": by, "incident": incident, "reason": reason})
            if any(hold.id == found.hold for hold in self.ledger.holds()):
                self.ledger.lift(found.hold, by=by, reason=f"incident {incident} is closed")
            return self.register().incidents[incident]

    def _incident(self, incident: str) -> Incident:
        found = self.register().incidents.get(incident)
        if found is None:
            raise NotFoundError(f"there is no incident {incident[:80]!r}")
        if found.closed_ns is not None:
            raise ConflictError(f"incident {incident} is closed")
        return found

    # Requests of data subjects.

    def open_request(self, kind: str, subject: str, *, by: str) -> Request:
        """A person asks for something; the clock runs from now. Sealed under the person's key."""
        if kind not in REQUESTS:
            raise UsageError(f"a request is one of {', '.join(REQUESTS)}")
        limit, rule, end = self._shortest(f"request.{kind}", "", self.ledger.clock())
        body = {"by": by, "kind": kind, "subject": subject, "limit": limit, "rule": rule, "due_ns": end}
        pseudonym = self.ledger.vault.pseudonym(subject)
        with self.ledger.control():
            receipt = self.ledger.emit(names.REQUEST_OPENED, body, subject=pseudonym)
            return self.register().requests[receipt.id]

    def answer_requests(self, kind: str, subject: str, *, by: str) -> list[str]:
        """Stop the clocks of the open requests of this kind by this person; returns their ids."""
        with self.ledger.control():
            found = [
                r
                for r in self.register().requests.values()
                if r.kind == kind and r.subject == subject and r.done_ns is None
            ]
            pseudonym = self.ledger.vault.pseudonym(subject)
            for request in found:
                self.ledger.emit(names.REQUEST_DONE, {"by": by, "request": request.id}, subject=pseudonym)
            return [request.id for request in found]

    def erase(self, subject: str, *, by: str, reason: str) -> Erasure:
        """Erase a person, or refuse on record: then the request is pending and `due_erasures` will list it.

        Raises `ConflictError` while something keeps a record, `NotFoundError`.
        """
        self.know_retention()
        return self.ledger.erase(subject, by=by, reason=reason)

    def carry_out(self, *, by: str) -> tuple[list[str], dict[str, list[str]]]:
        """Carry out the erasures that were asked for, refused, and are refused by nothing any more.

        Returns the points erased, and what still keeps the others.
        """
        self.know_retention()
        done, kept = [], {}
        for point, obstacles in self.ledger.pending_erasures().items():
            if obstacles:
                kept[point] = obstacles
            else:
                self.ledger.erase_point(point, by=by, reason="asked for before; nothing keeps it any more")
                done.append(point)
        return done, kept

    def know_retention(self) -> None:
        """Let the ledger know the retention classes of the rules."""
        self.ledger.retention = {**self.ledger.retention, **self.registry.retentions()}


def check_limit(text: str) -> str:
    """An ISO 8601 duration. Raises `UsageError`."""
    parse_duration(text)
    return text


def _text(text: str, what: str, most: int = MAX_TEXT) -> str:
    text = text.strip()
    if not text:
        raise UsageError(f"{what} must not be empty")
    if len(text) > most:
        raise LimitError(f"{what} has at most {most} characters")
    if any(ord(c) < 32 and c not in "\n\t\r" for c in text):
        raise UsageError(f"{what} has control characters in it")
    return text
