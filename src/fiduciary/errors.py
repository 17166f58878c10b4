"""Every error that a person or a client can meet, in one hierarchy.

Each class has an HTTP status, a problem type (RFC 9457) and a CLI exit code. The message says what was
wrong, where, and what would be right; it never carries a secret or a personal value. Anything that is not a
`FiduciaryError` is a programmer's error and is allowed to crash.
"""

from __future__ import annotations

from typing import Any, ClassVar

PROBLEM_BASE = "urn:fiduciary:problem:"


class FiduciaryError(Exception):
    """Base of all errors. `detail` is shown to people; `where` points into the input (a JSON pointer)."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal"
    title: ClassVar[str] = "The request could not be completed"
    exit_code: ClassVar[int] = 1

    def __init__(self, detail: str, *, where: str | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.where = where
        self.more = more

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 problem document."""
        document: dict[str, Any] = {
            "type": PROBLEM_BASE + self.kind,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.where is not None:
            document["where"] = self.where
        document.update(self.more)
        return document


class UsageError(FiduciaryError):
    """A command, file or setting that cannot be understood."""

    status, kind, title, exit_code = 400, "usage", "The input could not be understood", 2


class ConfigError(UsageError):
    """A setting is missing, unknown or has a wrong value."""

    kind, title = "config", "A setting is wrong"


class MissingExtraError(UsageError):
    """An optional family of packages is not installed."""

    kind, title = "missing-extra", "An optional package is not installed"


class MalformedRequestError(FiduciaryError):
    """The bytes are not the protocol's: bad JSON, a bad header, a wrong shape."""

    status, kind, title, exit_code = 400, "malformed-request", "The request is malformed", 2


class AuthenticationError(FiduciaryError):
    """Who is asking could not be established."""

    status, kind, title, exit_code = 401, "authentication", "The caller is not authenticated", 3


class PermissionDeniedError(FiduciaryError):
    """The caller is known and may not do this."""

    status, kind, title, exit_code = 403, "permission-denied", "The caller may not do this", 4


class RuleError(FiduciaryError):
    """A rule in force forbids this decision: its purpose, its lawful basis, or the place."""

    status, kind, title, exit_code = 403, "rule", "A rule in force forbids it", 16


class NotFoundError(FiduciaryError):
    """The named thing does not exist (or the caller may not know that it does)."""

    status, kind, title, exit_code = 404, "not-found", "There is no such thing", 5


class ConflictError(FiduciaryError):
    """The request contradicts the present state."""

    status, kind, title, exit_code = 409, "conflict", "The request contradicts the present state", 6


class GoneError(FiduciaryError):
    """It existed and was erased, or its retention ended."""

    status, kind, title, exit_code = 410, "gone", "The content has been erased", 7


class LimitError(FiduciaryError):
    """A limit on size, count, depth or time was passed."""

    status, kind, title, exit_code = 413, "limit", "A limit was passed", 8


class ContractError(FiduciaryError):
    """A row does not satisfy the release's feature contract."""

    status, kind, title, exit_code = 422, "contract", "The row does not satisfy the feature contract", 9


class ModelError(FiduciaryError):
    """A model file cannot be used: unknown format, pickle, failed parity or failed oracle."""

    status, kind, title, exit_code = 422, "model", "The model cannot be used", 10


class ReleaseError(FiduciaryError):
    """A release does not hold: digest, signature, approval or state."""

    status, kind, title, exit_code = 409, "release", "The release does not hold", 11


class NotServableError(FiduciaryError):
    """No approved, live release may answer for this use case now."""

    status, kind, title, exit_code = 503, "not-servable", "No approved release may answer now", 12


class LedgerError(FiduciaryError):
    """The ledger cannot record; the gate refuses rather than answer unrecorded."""

    status, kind, title, exit_code = 503, "ledger-unavailable", "The decision could not be recorded", 13


class IntegrityError(FiduciaryError):
    """Stored bytes do not match their proof: tampering, damage, or a wrong key."""

    status, kind, title, exit_code = 500, "integrity", "Stored content does not match its proof", 14


class OverloadedError(FiduciaryError):
    """A queue is full or a time limit passed; trying again later is right."""

    status, kind, title, exit_code = 503, "overloaded", "The service is busy", 15


class JointError(FiduciaryError):
    """A joint job ended without a result: a party refused, failed, stalled or disappeared."""

    status, kind, title, exit_code = 409, "joint", "The joint job ended without a result", 30


def every_error() -> list[type[FiduciaryError]]:
    """All error classes, for the documentation test and the OpenAPI document."""
    found: list[type[FiduciaryError]] = []
    queue: list[type[FiduciaryError]] = [FiduciaryError]
    while queue:
        cls = queue.pop(0)
        found.append(cls)
        queue.extend(cls.__subclasses__())
    return found
