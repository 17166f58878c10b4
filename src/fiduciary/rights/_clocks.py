"""What ticks, what is due, what is late: contests, requests, incidents, notices and erasures, over the whole home."""

from __future__ import annotations

from typing import Literal

import msgspec

from fiduciary.checks._facts import ClockFacts, Facts, OversightFacts
from fiduciary.decision import REFUSED, decode_record
from fiduciary.ledger import Kind
from fiduciary.rights._calendar import DAY_NS, NANO
from fiduciary.rights._desk import Desk

SOON_NS = 2 * DAY_NS


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """One running or stopped clock. `subject` is not in it: the list may be shown to a room."""

    name: str
    """contest, request.access, incident.major, notice.adverse_action, erasure"""
    about: str
    """A record id."""
    step: str = ""
    rule: str = ""
    started_ns: int
    due_ns: int | None
    """None: due now, since nothing keeps it any more."""
    done_ns: int | None = None

    def state(self, now_ns: int) -> Literal["done", "done late", "late", "due soon", "running"]:
        """Where it stands at a time."""
        if self.done_ns is not None:
            return "done" if self.due_ns is None or self.done_ns <= self.due_ns else "done late"
        if self.due_ns is None or now_ns > self.due_ns:
            return "late"
        return "due soon" if self.due_ns - now_ns <= SOON_NS else "running"


def clocks(desk: Desk, use_case: str = "") -> list[Clock]:
    """Every clock, the soonest due first. `use_case`: only contests, notices and incidents of one."""
    book = desk.register()
    found = [
        Clock(
            name="contest",
            about=c.id,
            step=c.limit,
            rule=c.rule,
            started_ns=c.opened_ns,
            due_ns=c.due_ns,
            done_ns=c.decided_ns,
        )
        for c in book.contests.values()
        if use_case in ("", c.use_case)
    ]
    for i in book.incidents.values():
        if use_case and (i.scope, i.value) != ("use_case", use_case):
            continue
        found += [
            Clock(
                name=f"incident.{i.kind}",
                about=i.id,
                step=f"{n}: {step.limit}",
                rule=step.rule,
                started_ns=i.since_ns,
                due_ns=step.due_ns,
                done_ns=step.done_ns,
            )
            for n, step in enumerate(i.steps, 1)
        ]
    if not use_case:
        found += [
            Clock(
                name=f"request.{r.kind}",
                about=r.id,
                step=r.limit,
                rule=r.rule,
                started_ns=r.opened_ns,
                due_ns=r.due_ns,
                done_ns=r.done_ns,
            )
            for r in book.requests.values()
        ]
        now = desk.ledger.clock()
        found += [
            Clock(name="erasure", about=f"point {point}", started_ns=now, due_ns=None)
            for point, kept in desk.ledger.pending_erasures().items()
            if not kept
        ]
    found += _notices(desk, use_case)
    return sorted(found, key=lambda c: (c.done_ns is not None, c.due_ns or 0, c.name, c.about))


def _notices(desk: Desk, use_case: str) -> list[Clock]:
    sent: dict[tuple[str, str], int] = {}
    for letter in desk.register().letters:
        for code in letter.codes:
            sent.setdefault((letter.decision, code), letter.time_ns)
    found = []
    for log in desk.ledger.logs():
        for stored in desk.ledger.records(log):
            header = stored.header
            if (
                header.kind != Kind.DECISION
                or stored.payload is None
                or use_case not in ("", header.use_case)
            ):
                continue
            if b'"notices"' not in stored.payload:
                continue
            found += [
                Clock(
                    name=f"notice.{notice.code}",
                    about=stored.id,
                    rule=notice.rule,
                    started_ns=header.time_ns,
                    due_ns=header.time_ns + notice.within_days * DAY_NS,
                    done_ns=sent.get((stored.id, notice.code)),
                )
                for notice in decode_record(stored.payload).notices
                if notice.within_days is not None
            ]
    return found


def with_rights(desk: Desk, facts: Facts, use_case: str) -> Facts:
    """Facts with what people did: contests, overrides, clocks. For the checks of oversight and of clocks."""
    now = desk.ledger.clock()
    book = desk.register()
    ticking = clocks(desk, use_case)
    contests = [c for c in book.contests.values() if c.use_case == use_case]
    open_ = [c for c in contests if c.decided_ns is None]
    counts = _counted(desk, use_case)
    return msgspec.structs.replace(
        facts,
        oversight=OversightFacts(
            decisions=counts["decisions"],
            adverse=counts["adverse"],
            solely_automated=counts["alone"],
            referred=counts["referred"],
            contests=len(contests),
            contests_decided=len(contests) - len(open_),
            contests_late=sum(c.state(now) in ("late", "done late") for c in ticking if c.name == "contest"),
            overrides=len({o.decision for o in book.overrides if o.use_case == use_case}),
            oldest_open_days=max(((now - c.opened_ns) / DAY_NS for c in open_), default=0.0),
        ),
        clocks=_facts_of(ticking, now),
    )


def _facts_of(ticking: list[Clock], now: int) -> list[ClockFacts]:
    names = sorted({c.name for c in ticking})
    found = []
    for name in names:
        own = [c for c in ticking if c.name == name]
        took = [(c.done_ns - c.started_ns) / NANO for c in own if c.done_ns is not None]
        found.append(
            ClockFacts(
                name=name,
                ended=len(took),
                late=sum(c.state(now) in ("late", "done late") for c in own),
                running=sum(c.done_ns is None for c in own),
                slowest_seconds=max(took, default=None),
            )
        )
    return found


def _counted(desk: Desk, use_case: str) -> dict[str, int]:
    counts = dict.fromkeys(("decisions", "adverse", "referred", "alone"), 0)
    overridden = {o.decision for o in desk.register().overrides}
    for log in desk.ledger.logs():
        for stored in desk.ledger.records(log):
            if (
                stored.header.kind != Kind.DECISION
                or stored.header.use_case != use_case
                or stored.payload is None
            ):
                continue
            outcome = decode_record(stored.payload).outcome
            if outcome == REFUSED:
                continue
            counts["decisions"] += 1
            counts["referred"] += outcome == "refer"
            if outcome == "decline":
                counts["adverse"] += 1
                counts["alone"] += stored.id not in overridden
    return counts
