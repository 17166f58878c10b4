"""Who may answer for which use case now: the live, verified, loaded releases of this worker.

The governed state is a projection of the control log (`fiduciary.registry`). When the epoch moves, the projection
is brought up to date before the next question is considered; a release that has become live is verified and
loaded in a thread while the questions for it wait, and a release that no longer holds answers nothing more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from fiduciary.decision import (
    Asked,
    Decider,
    DecisionRecord,
    Notice,
    Verdict,
    admit,
    duties_of,
    notices,
    reviewer,
)
from fiduciary.errors import FiduciaryError, NotServableError
from fiduciary.identity import Context, Resource
from fiduciary.registry import Book, LoadedRelease, Projection, Registry, UseCase, day_start

if TYPE_CHECKING:
    from fiduciary.gate.path import Question

log = logging.getLogger("fiduciary.gate")


class Servable:
    """A loaded release bound to the use case in force, with what its records have in common."""

    __slots__ = (
        "_admitted",
        "_counters",
        "_human",
        "_notices",
        "_policies",
        "basis",
        "contract",
        "decider",
        "digest",
        "duties",
        "name",
        "region",
        "release",
        "retention",
        "row_ns",
        "rulebook",
        "ruled",
        "rules",
        "rules_digest",
        "until_ns",
        "use_case",
    )  # fmt: skip

    def __init__(
        self,
        release: LoadedRelease,
        use_case: UseCase,
        rules: str,
        policies: Callable[[], str],
        book: Book | None = None,
        region: str = "",
    ) -> None:
        self.duties = duties_of(book)
        self.decider = Decider(release, use_case, self.duties)
        self.rulebook = book.digest if book is not None else ""
        self.until_ns = day_start(book.valid_until) if book is not None and book.valid_until else 0
        """When other rules may be in force, nanoseconds since 1970; 0: no time is known."""
        self.basis = use_case.lawful_basis
        self._human = reviewer(use_case)
        self._notices: dict[str, list[Notice]] = {}
        self._admitted: set[tuple[str, str, bool]] = set()
        self.region = region
        self.ruled = bool(book is not None or use_case.lawful_basis or use_case.regions)
        """Whether each row is looked at for what the rules or the use case ask of it."""
        self.contract = release.compiled
        self.use_case = use_case
        self.name = use_case.name
        self.digest = release.digest
        self.release = bytes.fromhex(release.digest.removeprefix("sha256:"))
        self.rules_digest = rules
        self.rules = bytes.fromhex(rules.removeprefix("sha256:"))
        self.retention = self.duties.retention_class or use_case.retention
        self.row_ns = 100_000.0
        """Running mean cost of a row, nanoseconds."""
        self._policies = policies
        self._counters: dict[tuple[str, str], str] = {}

    def counter(self, outcome: str, door: str) -> str:
        """The name under which an outcome is counted."""
        found = self._counters.get((outcome, door))
        if found is None:
            found = self._counters[outcome, door] = f"{self.name}/{outcome}/{door}"
        return found

    def record(
        self, caller: str, door: str, key: str, subject: str, raw: bytes, verdict: Verdict
    ) -> DecisionRecord:
        """What is recorded of one row that no rule touches."""
        return DecisionRecord(
            version=1,
            outcome=verdict.outcome,
            use_case=self.name,
            release=self.digest,
            subject=subject,
            caller=caller,
            features=msgspec.Raw(raw),
            score=verdict.score,
            margin=verdict.margin,
            baseline=verdict.baseline,
            reasons=verdict.reasons,
            explained=verdict.explained,
            rules=self.rules_digest,
            policies=self._policies(),
            idempotency_key=key,
            door=door,
        )

    def admit(self, asked: Asked, where: str, top: str) -> None:
        """Raises `RuleError` for what may not be decided under the rules in force."""
        seen = (asked.purpose, asked.region, not asked.consent)
        if seen in self._admitted:
            return
        admit(self.duties, self.use_case, asked, self.region, where, top)
        if len(self._admitted) < MAX_ADMITTED:
            self._admitted.add(seen)

    def ruled_record(
        self, caller: str, door: str, key: str, subject: str, raw: bytes, verdict: Verdict, asked: Asked
    ) -> tuple[DecisionRecord, Verdict]:
        """What is recorded of one row, and the verdict, as the rules in force let them stand."""
        verdict = self.decider.oblige(verdict, asked)
        outcome = verdict.outcome
        due = self._notices.get(outcome)
        if due is None:
            due = self._notices[outcome] = notices(self.duties, outcome)
        return DecisionRecord(
            version=1,
            outcome=outcome,
            use_case=self.name,
            release=self.digest,
            subject=subject,
            caller=caller,
            purpose=asked.purpose,
            features=msgspec.Raw(raw),
            score=verdict.score,
            margin=verdict.margin,
            baseline=verdict.baseline,
            reasons=verdict.reasons,
            explained=verdict.explained,
            rules=self.rules_digest,
            policies=self._policies(),
            idempotency_key=key,
            door=door,
            rulebook=self.rulebook,
            basis=self.basis,
            consent=asked.consent,
            region=asked.region or self.region,
            opted_out=asked.opted_out,
            referred_by=verdict.referred_by,
            human=self._human if verdict.referred_by else "",
            notices=due,
        ), verdict


MAX_ADMITTED = 1_000
"""Circumstances (purpose, region, with or without consent) that one servable remembers to be admissible."""

RETRY_S = 2.0
"""How long a live release whose rules could not be resolved is left alone before the next try, seconds."""


class _Loading:
    __slots__ = ("release", "rules", "waiting")

    def __init__(self, release: str, rules: str) -> None:
        self.release, self.rules = release, rules
        self.waiting: list[Question] = []


class Servables:
    """The projection, and what has been loaded for it."""

    loaded: Callable[[list[Question]], None]
    """Told which questions can be considered again."""

    def __init__(
        self,
        registry: Registry,
        loader: Registry,
        loop: asyncio.AbstractEventLoop,
        policies: Callable[[], str],
        region: str,
        name: str = "gate",
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._registry = registry
        self._loader = loader  # its lock may be held for as long as a release takes to load
        self._name = name
        self._clock = clock
        self._region = region
        self._loop = loop
        self._policies = policies
        self._projection: Projection = registry.states()
        self._present: dict[str, Servable] = {}
        self._failed: dict[str, tuple[str, str, FiduciaryError, float]] = {}
        self._loading: dict[str, _Loading] = {}
        self._threads = ThreadPoolExecutor(1, "fiduciary-release")
        self._resources: dict[str, tuple[str, Resource]] = {}
        self._contexts: dict[str, Context] = {}

    def refresh(self) -> None:
        """Fold what is new on the control log, and drop what may no longer answer."""
        self._projection = projection = self._registry.states()
        for name, servable in list(self._present.items()):
            use = projection.uses.get(name)
            if (
                use is None
                or projection.live(name) != servable.digest
                or use.digest != servable.rules_digest
                or (use.book.digest if use.book is not None else "") != servable.rulebook
            ):
                del self._present[name]

    def defined(self, name: str) -> bool:
        """Whether there is such a use case."""
        return name in self._projection.uses

    @property
    def names(self) -> list[str]:
        """Use cases with a live release."""
        return [name for name in self._projection.uses if self._projection.live(name) is not None]

    def circumstances(self, name: str, door: str) -> tuple[Resource, Context]:
        """What the policies are asked about. An undefined use case is a resource without attributes."""
        use = self._projection.uses.get(name)
        digest = "" if use is None else use.digest
        found = self._resources.get(name)
        if found is None or found[0] != digest:
            attributes = (
                {}
                if use is None
                else {
                    "department": use.use_case.department,
                    "region": use.use_case.region or self._region,
                    "tier": use.use_case.tier,
                    "purpose": use.use_case.purpose,
                }
            )
            resource = Resource("UseCase", name, attributes)
            if use is not None:  # names that are not defined come from callers and are not kept
                self._resources[name] = (digest, resource)
        else:
            resource = found[1]
        context = self._contexts.get(door)
        if context is None:
            context = self._contexts[door] = Context({"region": self._region, "door": door})
        return resource, context

    def find(self, question: Question) -> Servable | None:
        """The servable that answers, or None when it is being loaded and the question waits for it.

        Raises `NotFoundError` for a use case that is not defined and `NotServableError` when no release may answer.
        """
        name = question.use_case
        found = self._present.get(name)
        if found is not None:
            if not found.until_ns or self._clock() < found.until_ns:
                return found
            del self._present[name]  # a new day: other rules may be in force
        use = self._projection.use(name)
        live = self._projection.live(name)
        if live is None:
            raise NotServableError(f"no approved release is live for the use case {name}")
        failed = self._failed.get(name)
        if (
            failed is not None
            and failed[:2] == (live, use.digest)
            and not (use.use_case.packs and time.monotonic() - failed[3] > RETRY_S)
        ):
            raise NotServableError(f"the live release of {name} cannot be loaded: {failed[2].detail}")
        loading = self._loading.get(name)
        if loading is None or (loading.release, loading.rules) != (live, use.digest):
            waiting = loading.waiting if loading is not None else []
            loading = self._loading[name] = _Loading(live, use.digest)
            loading.waiting = waiting
            self._load(name, loading, use.use_case)
        loading.waiting.append(question)
        return None

    def preload(self) -> None:
        """Load every live release now, in this thread. A release that does not hold is logged and not served."""
        for name in self.names:
            use = self._projection.uses[name]
            live = self._projection.live(name)
            assert live is not None
            self._keep(name, live, use.digest, self._try(live, use.use_case))

    def describe(self, name: str) -> Servable | None:
        """The loaded servable of a use case, if there is one."""
        return self._present.get(name)

    def abandon(self, question: Question) -> None:
        """The question waits no longer."""
        loading = self._loading.get(question.use_case)
        if loading is not None and question in loading.waiting:
            loading.waiting.remove(question)

    def close(self) -> None:
        """Stop loading."""
        self._threads.shutdown(cancel_futures=True)

    def _try(self, digest: str, use_case: UseCase) -> Servable | FiduciaryError:
        try:
            release = self._loader.load(digest)
            book = self._loader.announce(use_case.name, by=self._name) if use_case.packs else None
            return Servable(release, use_case, use_case.digest, self._policies, book, self._region)
        except FiduciaryError as error:
            log.error("the live release %s of %s cannot be loaded: %s", digest, use_case.name, error.detail)
            return error
        except Exception:
            log.exception("the live release %s of %s cannot be loaded", digest, use_case.name)
            return NotServableError("it cannot be read")

    def _load(self, name: str, loading: _Loading, use_case: UseCase) -> None:
        def back(future: Future[Servable | FiduciaryError]) -> None:
            if not future.cancelled():
                self._loop.call_soon_threadsafe(self._arrived, name, loading, future.result())

        self._threads.submit(self._try, loading.release, use_case).add_done_callback(back)

    def _arrived(self, name: str, loading: _Loading, result: Servable | FiduciaryError) -> None:
        if self._loading.get(name) is not loading:  # overtaken by a later change
            return
        del self._loading[name]
        self._keep(name, loading.release, loading.rules, result)
        self.loaded(loading.waiting)

    def _keep(self, name: str, release: str, rules: str, result: Servable | FiduciaryError) -> None:
        if isinstance(result, Servable) and result.rulebook:  # it may just have been announced
            self._projection = self._registry.states()
        use = self._projection.uses.get(name)
        if use is None or self._projection.live(name) != release or use.digest != rules:
            return
        if not isinstance(result, Servable):
            self._failed[name] = (release, rules, result, time.monotonic())
        elif result.rulebook == (use.book.digest if use.book is not None else ""):
            self._present[name] = result
            self._failed.pop(name, None)
