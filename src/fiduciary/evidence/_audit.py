"""Auditor mode: draw some decisions, rebuild each from the record, list what does not come out.

The draw is a function of the log and the seed: the eligible record ids, ordered by SHA-256(seed, 0x00, id), the first
N. Who has the same log draws the same. Each drawn decision is decided again bit for bit (score, outcome, referral,
reasons, notices). What bound it is judged by the outsider's reading of the control log (`_verify_folder.History`),
not by the registry that served it: was the release approved and live then, were its cut-offs and its rulebook in
force. What was erased or pruned is listed as not rebuildable with the events that account for it. docs/audit.md says
it for people.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from fiduciary.decision import REFUSED, DecisionRecord, Replayer, decode_record
from fiduciary.errors import FiduciaryError, IntegrityError, NotFoundError, UsageError
from fiduciary.evidence import _verify_folder as offline
from fiduciary.ledger import Kind, Ledger, Record, Tiles, decode_header
from fiduciary.registry import LoadedRelease, Registry

MAX_SAMPLE = 100_000
MAX_SEED = 100
CONTROL = "control"
TOLERANCE = 1e-9
"""Most by which baseline and contributions may miss the margin: that of the release check `reasons_add_up`."""
FOREVER = 1 << 62
SHOWN_EVENTS = 20
Wrong = Callable[[str, Any, Any], None]
"""Notes an exception: what should hold, what was expected, what was found."""


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """One drawn decision and what became of it."""

    record: str
    time: str
    release: str
    outcome: str
    result: str
    """rebuilt, refusal, not rebuildable, or exception."""
    because: str = ""
    """Of what is not rebuildable: the control events that may account for it; of a refusal: the problem."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that did not come out: what was expected and what was found."""

    record: str
    what: str
    expected: str
    found: str


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """The sample and its exceptions."""

    use_case: str
    seed: str
    since: str = ""
    until: str = ""
    """Not included; empty: without an end."""
    eligible: int
    sample: list[Drawn]
    exceptions: list[Finding]

    def count(self, result: str) -> int:
        """How many of the sample ended so."""
        return sum(1 for drawn in self.sample if drawn.result == result)


def draw(ids: Sequence[str], seed: str, size: int) -> list[str]:
    """The first `size` of the ids in the order of SHA-256(seed, 0x00, id): the same for everybody with these ids."""
    return sorted(ids, key=lambda i: (hashlib.sha256(f"{seed}\x00{i}".encode()).digest(), i))[:size]


def audit(
    ledger: Ledger,
    registry: Registry,
    *,
    use_case: str,
    sample: int,
    seed: str,
    since_ns: int = 0,
    until_ns: int = FOREVER,
    progress: Callable[[int, int], None] | None = None,
) -> AuditReport:
    """Draw and rebuild; what cannot be read or decided again is an exception, not an error.

    Raises `UsageError` for a senseless sample, seed or period, `NotFoundError` for an unknown use case.
    """
    if not 1 <= sample <= MAX_SAMPLE:
        raise UsageError(f"a sample has 1 to {MAX_SAMPLE} decisions, not {sample}")
    if not 1 <= len(seed) <= MAX_SEED or not seed.isprintable():
        raise UsageError(f"a seed is 1 to {MAX_SEED} printable characters")
    if since_ns >= until_ns:
        raise UsageError("the period ends before it begins")
    registry.states().use(use_case)
    rebuilder = _Rebuilder(ledger, registry, use_case)
    drawn: list[Drawn] = []
    exceptions: list[Finding] = []
    eligible: dict[str, tuple[str, bytes]] = {}
    for name in ledger.logs():
        if name == CONTROL:
            continue
        try:
            for index, raw in _headers(ledger, name):
                header = decode_header(raw)
                asked_for = header.kind == Kind.DECISION and header.use_case == use_case
                if asked_for and since_ns <= header.time_ns < until_ns:
                    when = offline.time_text(header.time_ns)
                    eligible[f"{name}.{index}"] = when, offline.leaf_hash(raw)
        except IntegrityError as error:
            what = "the whole log can be read"
            exceptions.append(Finding(record=name, what=what, expected="every record", found=error.detail))
    chosen = draw(list(eligible), seed, sample)
    for done, record_id in enumerate(chosen):
        if progress is not None:
            progress(done, len(chosen))
        one, found = rebuilder.rebuild(record_id, *eligible[record_id])
        drawn.append(one)
        exceptions += found
    return AuditReport(
        use_case=use_case,
        seed=seed,
        since=offline.time_text(since_ns) if since_ns else "",
        until=offline.time_text(until_ns) if until_ns < FOREVER else "",
        eligible=len(eligible),
        sample=drawn,
        exceptions=exceptions,
    )


def _headers(ledger: Ledger, name: str) -> Iterator[tuple[int, bytes]]:
    """The headers of a log: of the published tiles up to the signed checkpoint, so that a record that was lost or
    damaged since may still be drawn; then of what came later."""
    tiles = Tiles(ledger.folder(name))
    size, leaves = 0, []
    try:
        signed = ledger.keys(name).open(tiles.read_checkpoint())
    except NotFoundError:  # nothing was published yet
        signed = None
    for entries in tiles.all_entries(signed.size) if signed else ():
        for raw in entries:
            leaves.append(offline.leaf_hash(raw))
            yield size, raw
            size += 1
    if signed and size and offline.root_of_range(leaves, 0, size, []) != signed.root:
        raise IntegrityError(f"the published headers of log {name} do not lead to its signed root")
    for frame in ledger.reader(name).frames(size):
        yield frame.index, frame.header


class _Rebuilder:
    """Judges one record after the other against the control log as it was when the audit began."""

    def __init__(self, ledger: Ledger, registry: Registry, use_case: str) -> None:
        self._ledger, self._registry, self._use_case = ledger, registry, use_case
        self._replayer = Replayer(ledger, registry)
        self._releases: dict[str, LoadedRelease] = {}
        self._gone: list[tuple[int, int, Mapping[str, Any]]] = []
        self._history = offline.History(registry.scope)
        for index, time_ns, payload in ledger.events():
            self._history.apply(index, time_ns, payload)
            if payload.get("event") in ("subject.erased", "retention.swept"):
                self._gone.append((index, time_ns, payload))

    def rebuild(self, record_id: str, when: str, leaf: bytes) -> tuple[Drawn, list[Finding]]:
        """What became of a record, and its exceptions."""
        found: list[Finding] = []

        def wrong(what: str, expected: Any, came: Any) -> None:
            found.append(Finding(record=record_id, what=what, expected=_text(expected), found=_text(came)))

        shown: dict[str, Any] = {"release": "", "outcome": "", "result": "exception"}
        try:
            record = self._ledger.get(record_id)
            if (stored := offline.leaf_hash(record.header_bytes)) != leaf:
                wrong("its header is the published one", leaf.hex(), stored.hex())
            shown["release"] = f"sha256:{record.header.release.hex()}" if any(record.header.release) else ""
            if record.payload is None:
                shown.update(
                    outcome=record.state, result="not rebuildable", because=self._account(record, wrong)
                )
            else:
                decision = decode_record(record.payload)
                shown.update(release=decision.release, outcome=decision.outcome, result="rebuilt")
                if decision.outcome == REFUSED:
                    shown.update(result="refusal", because=decision.problem)
                    self._refusal(record, decision, wrong)
                else:
                    self._decision(record, decision, wrong)
        except FiduciaryError as error:
            wrong("the record can be read", "what was recorded", error.detail)
        if found:
            shown["result"] = "exception"
        return Drawn(record=record_id, time=when, **shown), found

    def _account(self, record: Record, wrong: Wrong) -> str:
        """The erasures or sweeps that may have taken a record's content. Which one is what erasure hides."""
        at = record.header.time_ns
        if record.state == "erased":
            events = [i for i, t, p in self._gone if t >= at and record.log in p.get("records", {})]
        else:
            events = [
                i
                for i, t, p in self._gone
                if t >= at and p.get("log") == record.log and p.get("before", 0) > at
            ]
        if not events:
            wrong(
                "content that is gone was erased or pruned by an event", "an event", f"none ({record.state})"
            )
        more = [f"and {len(events) - SHOWN_EVENTS} more"] if len(events) > SHOWN_EVENTS else []
        return ", ".join([f"control.{i}" for i in events[:SHOWN_EVENTS]] + more)

    def _refusal(self, record: Record, decision: DecisionRecord, wrong: Wrong) -> None:
        """Nothing was scored, so there is nothing to decide again: it says why, and names a rulebook that was."""
        if not decision.problem:
            wrong("a refusal says why", "a problem", "nothing")
        if decision.score is not None or decision.margin is not None or decision.reasons:
            wrong("what was refused was not scored", "no score", "a score or reasons")
        if decision.use_case != self._use_case:
            wrong("header and content name the same use case", self._use_case, decision.use_case)
        if decision.rulebook:
            book = self._registry.states().books.get(decision.rulebook)
            if book is None or book.time_ns > record.header.time_ns:
                wrong(
                    "its rulebook was announced before",
                    decision.rulebook,
                    "never" if book is None else "later",
                )

    def _decision(self, record: Record, decision: DecisionRecord, wrong: Wrong) -> None:
        header, history = record.header, self._history
        span = (self._use_case, header.time_ns - offline.SLACK_NS, header.time_ns)
        if decision.use_case != self._use_case:
            wrong("header and content name the same use case", self._use_case, decision.use_case)
        if decision.release not in (live := history.live_within(*span)):
            wrong("the release was approved and live then", _listed(live), decision.release)
        if decision.rules not in (rules := history.rules_within(*span)):
            wrong("its cut-offs were in force then", _listed(rules), decision.rules)
        if decision.rulebook not in (books := history.books_within(*span)):
            wrong(
                "its rulebook was announced before and in force", _listed(books), decision.rulebook or "none"
            )
        duties = history.books[decision.rulebook]["obligations"] if decision.rulebook in history.books else {}
        if decision.rules in history.rules:
            content = msgspec.json.decode(record.payload or b"{}")
            if why := offline.inadmissible(duties, history.rules[decision.rules], content):
                wrong("the rules in force let it be decided", "a refusal", why)
        if decision.outcome == "decline":
            least = max(1, int(duties.get("reasons_min", 0)))
            if len(decision.reasons) < least:
                wrong("an adverse decision has reasons", f"at least {least}", len(decision.reasons))
        try:
            for difference in self._replayer.replay(record.id).differences:
                wrong(f"{difference.field} comes out again", difference.replayed, difference.recorded)
            gap = self._gap(decision)
            if not gap <= TOLERANCE:
                wrong("reasons add up to the margin", f"within {TOLERANCE:g}", f"{gap:.3g} apart")
        except FiduciaryError as error:
            wrong("it can be decided again", "the same decision", error.detail)

    def _gap(self, decision: DecisionRecord) -> float:
        """How far the recorded baseline and all groups' contributions are from the recorded margin."""
        release = self._releases.get(decision.release)
        if release is None:
            release = self._releases[decision.release] = self._registry.examine(decision.release)
        row = np.array([release.compiled.decode(bytes(decision.features))], dtype=np.float64)
        groups = release.plan.breakdown(release.scorer.explain(row)[1])[0].tolist()
        total = math.fsum([decision.baseline if decision.baseline is not None else math.nan, *groups])
        return abs(total - (decision.margin if decision.margin is not None else math.nan))


def _listed(digests: set[Any]) -> str:
    return ", ".join(sorted(str(d) if d else "none" for d in digests)) or "none"


def _text(value: Any) -> str:
    """Plain values as they are, structures as JSON."""
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode("utf-8")
