"""What every rule of governance needs: the view of the state, and how an event names a text, a date or a release."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Protocol, TypeGuard

from fiduciary.registry._state import Adopted, Attestation, Finding, Overlay, Party, Release, Use, Waiver
from fiduciary.registry._statements import NANO

Payload = Mapping[str, Any]
MAX_TEXT = 2_000


class View(Protocol):
    """What the rules read of the state."""

    scope: str
    parties: dict[str, Party]
    releases: dict[str, Release]
    uses: dict[str, Use]
    nonces: set[str]
    key_owner: dict[str, str]
    packs: dict[str, Adopted]
    attestations: list[Attestation]
    findings: dict[str, Finding]
    waivers: list[Waiver]
    overlays: dict[str, Overlay]

    def live(self, use_case: str) -> str | None: ...

    def rollback_target(self, use_case: str) -> str | None: ...


def text_wrong(payload: Payload, field: str, required: bool = False) -> str | None:
    """Why a member is not a short text, or None. `required`: it must say something."""
    value = payload.get(field, "")
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return f"{field} must be a text of at most {MAX_TEXT} characters"
    if required and not value.strip():
        return f"{field} must say why in plain words"
    return None


def release_of(view: View, p: Payload) -> tuple[Release | None, str]:
    """The release the event names, if it may still be acted on; else why not."""
    digest = p.get("release")
    release = view.releases.get(digest) if isinstance(digest, str) else None
    if release is None:
        return None, f"no release {str(digest)[:80]} has been proposed"
    if p.get("use_case") != release.use_case:
        other = str(p.get("use_case"))[:80]
        return None, f"the release was made for use case {release.use_case!r}, not {other!r}"
    if release.retired:
        return None, "the release is retired, for good"
    return release, ""


def day(time_ns: int) -> str:
    """The date of a time, UTC: `2026-07-21`. Rules begin and end with the UTC day."""
    return datetime.fromtimestamp(time_ns // NANO, UTC).strftime("%Y-%m-%d")


def is_date(text: object) -> TypeGuard[str]:
    """True for a date as `day` writes it."""
    if not isinstance(text, str) or len(text) != 10 or not text.isascii():
        return False
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def day_start(day: str) -> int:
    """The first nanosecond of a UTC date, since 1970."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * NANO
