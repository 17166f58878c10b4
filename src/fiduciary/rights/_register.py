"""The register of people's rights: a fold of the control log's contests, overrides, incidents, requests and letters.

What is about a person is sealed under that person's key; once it is erased those events read `record.erased` and are
not in the register any more. Nothing here changes a decision's record: `standing` says what counts now, and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from fiduciary.ledger import Ledger

MAX_TEXT = 20_000
"""Most characters of a contest's or a reason's text."""

CONTEST_OPENED, CONTEST_DECIDED = "contest.opened", "contest.decided"
OVERRIDDEN = "decision.overridden"
INCIDENT_OPENED, INCIDENT_STEP, INCIDENT_CLOSED = "incident.opened", "incident.step", "incident.closed"
REQUEST_OPENED, REQUEST_DONE = "request.opened", "request.done"
LETTER = "letter.issued"
DRILL = "drill.recorded"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One time limit of a clock, and when it was met."""

    limit: str
    """ISO 8601 duration."""
    due_ns: int
    rule: str = ""
    done_ns: int | None = None


class Contest(msgspec.Struct, kw_only=True):
    """A person's objection to a decision. `id` is the record of its opening."""

    id: str
    decision: str
    use_case: str
    subject: str
    text: str
    by: str
    opened_ns: int
    limit: str
    rule: str
    due_ns: int
    hold: str
    decided_ns: int | None = None
    decided_by: str = ""
    outcome: str = ""
    """upheld or overturned."""
    result: str = ""
    """The outcome that stands after it."""
    reason: str = ""


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """A person set another outcome than the machine's."""

    id: str
    decision: str
    use_case: str
    outcome: str
    by: str
    reason: str
    time_ns: int
    contest: str = ""
    codes: list[str] = []
    """For a decline: the reasons that the person named, as codes of the contract."""


class Incident(msgspec.Struct, kw_only=True):
    """Something went wrong; steps of its clocks are reports that are due."""

    id: str
    kind: str
    title: str
    by: str
    scope: str
    value: str
    since_ns: int
    steps: list[Step]
    hold: str
    closed_ns: int | None = None


class Request(msgspec.Struct, kw_only=True):
    """A data subject's request: access, portability, erasure, rectification, explanation."""

    id: str
    kind: str
    subject: str
    by: str
    opened_ns: int
    limit: str
    rule: str
    due_ns: int
    done_ns: int | None = None


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A letter that went out."""

    id: str
    decision: str
    kind: str
    codes: list[str]
    digest: str
    language: str
    time_ns: int


class Register(msgspec.Struct, kw_only=True):
    """Everything at one moment, by record id, oldest first."""

    contests: dict[str, Contest] = {}
    overrides: list[Override] = []
    incidents: dict[str, Incident] = {}
    requests: dict[str, Request] = {}
    letters: list[Issued] = []

    def standing(self, decision: str, outcome: str) -> tuple[str, Override | None]:
        """The outcome that counts for a decision recorded with `outcome`, and the override that made it so."""
        last = next((o for o in reversed(self.overrides) if o.decision == decision), None)
        return (last.outcome, last) if last is not None else (outcome, None)

    def deciders(self, decision: str) -> set[str]:
        """The people who set an outcome for it, or upheld it against a contest."""
        contests = (c for c in self.contests.values() if c.decision == decision and c.decided_ns is not None)
        return {o.by for o in self.overrides if o.decision == decision} | {c.decided_by for c in contests}


def register(ledger: Ledger, until_ns: int | None = None) -> Register:
    """Fold the control log up to a moment. Raises `IntegrityError`."""
    found = Register(contests={}, overrides=[], incidents={}, requests={}, letters=[])
    for record_id, time_ns, payload in _events(ledger, until_ns):
        change = _CHANGES.get(payload["event"])
        if change is not None:
            change(found, record_id, time_ns, payload)
    return found


def _events(ledger: Ledger, until_ns: int | None) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for index, time_ns, payload in ledger.events():
        if until_ns is not None and time_ns > until_ns:
            return
        yield f"control.{index}", time_ns, payload


def _contest_opened(r: Register, name: str, at: int, p: dict[str, Any]) -> None:
    r.contests[name] = Contest(
        id=name,
        decision=p["decision"],
        use_case=p["use_case"],
        subject=p["subject"],
        text=p["text"],
        by=p["by"],
        opened_ns=at,
        limit=p["limit"],
        rule=p["rule"],
        due_ns=p["due_ns"],
        hold=p["hold"],
    )


def _contest_decided(r: Register, name: str, at: int, p: dict[str, Any]) -> None:
    contest = r.contests.get(p["contest"])
    if contest is None or contest.decided_ns is not None:
        return
    contest.decided_ns, contest.decided_by = at, p["by"]
    contest.outcome, contest.result, contest.reason = p["outcome"], p["result"], p["reason"]
    if p["outcome"] == "overturned":
        _overridden(r, name, at, {**p, "decision": contest.decision, "use_case": contest.use_case})


def _overridden(r: Register, name: str, at: int, p: dict[str, Any]) -> None:
    r.overrides.append(
        Override(
            id=name,
            decision=p["decision"],
            use_case=p["use_case"],
            outcome=p["result"],
            by=p["by"],
            reason=p["reason"],
            time_ns=at,
            contest=p.get("contest", ""),
            codes=p.get("codes", []),
        )
    )


def _incident_opened(r: Register, name: str, at: int, p: dict[str, Any]) -> None:
    r.incidents[name] = Incident(
        id=name,
        kind=p["kind"],
        title=p["title"],
        by=p["by"],
        scope=p["scope"],
        value=p["value"],
        since_ns=p["since_ns"],
        steps=msgspec.convert(p["steps"], list[Step]),
        hold=p["hold"],
    )


def _incident_step(r: Register, name: str, at: int, p: dict[str, Any]) -> None:
    incident = r.incidents.get(p["incident"])
    if incident is not None and incident.steps[p["step"] - 1].done_ns is None:
        incident.steps[p["step"] - 1] = msgspec.structs.replace(incident.steps[p["step"] - 1], done_ns=at)


def _incident_closed(r: Register, name: str, at: int, p: dict[str, Any]) -> None:
    if p["incident"] in r.incidents:
        r.incidents[p["incident"]].closed_ns = at


def _request_opened(r: Register, name: str, at: int, p: dict[str, Any]) -> None:
    r.requests[name] = Request(
        id=name,
        kind=p["kind"],
        subject=p["subject"],
        by=p["by"],
        opened_ns=at,
        limit=p["limit"],
        rule=p["rule"],
        due_ns=p["due_ns"],
    )


def _request_done(r: Register, name: str, at: int, p: dict[str, Any]) -> None:
    if p["request"] in r.requests and r.requests[p["request"]].done_ns is None:
        r.requests[p["request"]].done_ns = at


def _letter(r: Register, name: str, at: int, p: dict[str, Any]) -> None:
    r.letters.append(
        Issued(
            id=name,
            decision=p["decision"],
            kind=p["kind"],
            codes=p["codes"],
            digest=p["digest"],
            language=p["language"],
            time_ns=at,
        )
    )


_CHANGES = {
    CONTEST_OPENED: _contest_opened,
    CONTEST_DECIDED: _contest_decided,
    OVERRIDDEN: _overridden,
    INCIDENT_OPENED: _incident_opened,
    INCIDENT_STEP: _incident_step,
    INCIDENT_CLOSED: _incident_closed,
    REQUEST_OPENED: _request_opened,
    REQUEST_DONE: _request_done,
    LETTER: _letter,
}
