"""A use case: what a model may be used for, and the cut-offs that turn its score into an outcome."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import msgspec

from fiduciary.errors import UsageError
from fiduciary.registry._bundle import digest_text
from fiduciary.registry._canonical import canonical

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
MAX_TEXT = 2_000
MAX_ITEMS = 64
GROUNDS = ("contract", "law", "consent")
"""What GDPR Article 22(2) (a), (b), (c) accepts for a solely automated decision."""
LATER = frozenset(
    {
        "packs", "sector", "subject", "lawful_basis", "automated_ground", "regions", "contest_route",
        "oversight_person", "senior_manager", "attributes",
    }
)  # fmt: skip
"""Fields that an earlier version did not have."""
_TEXTS = (
    "purpose", "department", "region", "retention", "sector", "subject", "lawful_basis", "contest_route",
    "oversight_person", "senior_manager",
)  # fmt: skip


class UseCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Purpose, place, tier, cut-offs, reasons and reviewers of one use of a model.

    With `adverse = "high"` the score is the probability (or value) of the bad event: below `approve_below` is
    approved, from `decline_from` on is declined, between goes to a person. With "low" the scale is mirrored:
    above `approve_below` is approved, up to `decline_from` is declined.
    """

    name: str
    purpose: str
    approve_below: float
    decline_from: float
    jurisdictions: list[str] = []
    tier: Literal["high", "limited", "minimal"] = "high"
    adverse: Literal["high", "low"] = "high"
    reasons: Literal["always", "adverse"] = "always"
    """On every answer, or on refer and decline only (then recomputed from the record on demand)."""
    reason_count: int = 4
    department: str = ""
    region: str = ""
    retention: str = "standard"
    reviewers: list[str] = []
    """Who decides what the score leaves open: parties or teams, for people to read."""
    approvals: int = 1
    """Approvals a release needs from people other than its author."""
    packs: list[str] = []
    """Names of the rule packs that govern it; each must have been adopted in this home."""
    sector: str = ""
    """bank, insurer, ...: what packs ask for under `applies`."""
    subject: str = ""
    """Who is decided about: natural_person, company, ..."""
    lawful_basis: str = ""
    """GDPR Article 6(1): contract, legal_obligation, legitimate_interest, consent, ..."""
    automated_ground: str = ""
    """What allows a solely automated adverse decision (GDPR Article 22(2)): contract, law or consent."""
    regions: list[str] = []
    """Regions in which it may be decided, and from which its subjects may come; empty: what the rules allow."""
    contest_route: str = ""
    """How a person contests a decision: an address, a form, a desk."""
    oversight_person: str = ""
    """Who oversees it (AI Act Article 14, 26(2)); referred decisions go to them."""
    senior_manager: str = ""
    """Who answers for it (SS1/23 P2, SM&CR)."""
    attributes: dict[str, str] = {}
    """Further facts that rules ask for, such as `channel = "branch"`."""

    def check(self) -> UseCase:
        """Return itself, or raise `UsageError` naming the field and what would be right."""
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"the use case name {self.name[:80]!r} must be 1 to 63 lower-case letters, digits, . _ -",
                where="/name",
            )
        if not self.purpose.strip():
            raise UsageError("the use case needs a purpose in plain words", where="/purpose")
        for field in _TEXTS:
            if len(getattr(self, field)) > MAX_TEXT:
                raise UsageError(f"{field} is longer than {MAX_TEXT} characters", where=f"/{field}")
        for field in ("jurisdictions", "reviewers", "packs", "regions"):
            items = getattr(self, field)
            if len(items) > MAX_ITEMS or any(not i.strip() or len(i) > 100 for i in items):
                raise UsageError(f"{field} takes at most {MAX_ITEMS} short names", where=f"/{field}")
        if not (math.isfinite(self.approve_below) and math.isfinite(self.decline_from)):
            raise UsageError("the cut-offs must be numbers", where="/approve_below")
        wrong = (
            self.approve_below > self.decline_from
            if self.adverse == "high"
            else (self.approve_below < self.decline_from)
        )
        if wrong:
            side = "at most" if self.adverse == "high" else "at least"
            raise UsageError(
                f"with adverse = {self.adverse!r}, approve_below ({self.approve_below}) must be {side} "
                f"decline_from ({self.decline_from})",
                where="/approve_below",
            )
        if len(set(self.packs)) != len(self.packs) or not all(_NAME.fullmatch(name) for name in self.packs):
            raise UsageError("packs names each rule pack once, such as eu-credit", where="/packs")
        if self.automated_ground and self.automated_ground not in GROUNDS:
            raise UsageError(
                f"automated_ground is {', '.join(GROUNDS)}, or left out", where="/automated_ground"
            )
        if len(self.attributes) > MAX_ITEMS or any(
            not name.strip() or len(name) > 100 or len(text) > MAX_TEXT
            for name, text in self.attributes.items()
        ):
            raise UsageError(f"attributes takes at most {MAX_ITEMS} short texts by name", where="/attributes")
        if not 1 <= self.reason_count <= 32:
            raise UsageError(f"reason_count must be 1 to 32, not {self.reason_count}", where="/reason_count")
        if not 1 <= self.approvals <= 8:
            raise UsageError(f"approvals must be 1 to 8, not {self.approvals}", where="/approvals")
        return self

    @property
    def document(self) -> dict[str, Any]:
        """All fields as JSON values, defaults included, so that a later default cannot change the meaning.

        The fields that came with rule packs (`LATER`) are left out while they are empty: a use case defined before
        there were packs keeps its digest.
        """
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in found.items() if value or name not in LATER}

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the canonical document: what a decision record names as its rules."""
        return digest_text(canonical(self.document))


def read_use_case(document: Any) -> UseCase:
    """A use case from JSON or TOML values. Raises `UsageError` naming what is wrong."""
    try:
        return msgspec.convert(document, UseCase).check()
    except msgspec.ValidationError as error:
        raise UsageError(f"the use case is not right: {error}") from None
