"""What every release must show before a person is asked to approve it: numbered results of pure functions.

They hold for any model family and need nothing but the bundle. A check of severity `block` that does not hold
keeps the release from being approved or promoted; `warn` is for the approver to weigh.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import ReleaseError
from fiduciary.registry import _bundle as names
from fiduciary.registry._build import CHECKS_FORMAT
from fiduciary.registry._bundle import Bundle
from fiduciary.registry._load import LoadedRelease, open_bundle
from fiduciary.registry._probes import candidates, reproduces

F64 = NDArray[np.float64]
Result = dict[str, Any]
TOLERANCE = 1e-9
MAX_DEVELOPER_CHECKS = 200
SWEEP_ROWS = 8


def release_checks(bundle: Bundle) -> list[Result]:
    """Run all checks on a verified bundle; each result has `name`, `ok`, `severity` and `detail`."""
    release = open_bundle(bundle)
    rows = release.probes.array()
    return [
        _reproduces(release),
        _adds_up(release, rows),
        _baseline_adds_up(release),
        *_sweeps(release, rows),
        _reason_texts(release),
        *developer_checks(bundle.document(names.CHECKS)),
    ]


def _result(name: str, ok: bool, detail: str, severity: str = "block") -> Result:
    return {"name": name, "ok": ok, "severity": severity, "detail": detail}


def _reproduces(release: LoadedRelease) -> Result:
    ok = reproduces(release.probes, release.scorer)
    n = len(release.probes.rows)
    return _result("probes_reproduce", ok, f"{n} probe rows score bit for bit as built, alone and in a batch")


def _adds_up(release: LoadedRelease, rows: F64) -> Result:
    margins, contributions = release.scorer.explain(rows)
    worst = max(
        abs(math.fsum([release.scorer.bias, *split]) - margin)
        for split, margin in zip(contributions.tolist(), margins.tolist(), strict=True)
    )
    ok = bool(worst <= TOLERANCE)
    return _result(
        "reasons_add_up", ok, f"bias + contributions - margin is at most {worst:.3g} on the probes"
    )


def _baseline_adds_up(release: LoadedRelease) -> Result:
    baseline = release.baseline
    gap = abs(math.fsum([release.scorer.bias, *baseline.contributions]) - baseline.margin)
    ok = bool(gap <= TOLERANCE) and baseline.rows > 0
    return _result("baseline_adds_up", ok, f"bias + mean contributions - mean margin is {gap:.3g}")


def _sweeps(release: LoadedRelease, rows: F64) -> list[Result]:
    """Move one input at a time over its candidates: does the margin obey the direction that is promised?"""
    against: list[str] = []
    moved: list[str] = []
    for j, (feature, histogram) in enumerate(
        zip(release.contract.features, release.reference.features, strict=True)
    ):
        if not feature.monotone and not feature.protected:
            continue
        values = [v for v in candidates(feature, histogram) if not math.isnan(v)]
        grid = np.repeat(rows[:SWEEP_ROWS], len(values), axis=0)
        grid[:, j] = np.tile(values, min(SWEEP_ROWS, len(rows)))
        margins = release.scorer.score(grid).reshape(-1, len(values))
        steps = np.diff(margins, axis=1) * feature.monotone
        if feature.monotone and bool((steps < -TOLERANCE).any()):
            against.append(feature.name)
        if feature.protected and bool((np.ptp(margins, axis=1) > 0).any()):
            moved.append(feature.name)
    return [
        _result("directions_hold", not against, _listed("moves against its direction", against)),
        _result(
            "protected_do_not_move", not moved, _listed("is protected and moves the score", moved), "warn"
        ),
    ]


def _reason_texts(release: LoadedRelease) -> Result:
    missing = list(release.plan.missing_texts)
    return _result("reasons_have_texts", not missing, _listed("has no plain reason text", missing), "warn")


def _listed(what: str, features: list[str]) -> str:
    if not features:
        return f"no input {what}"
    shown = ", ".join(features[:10])
    return f"{what}: {shown}" + (f" and {len(features) - 10} more" if len(features) > 10 else "")


def developer_checks(document: Any) -> list[Result]:
    """The developer's own results from `checks.json`, named `developer.<name>`. Raises `ReleaseError`."""
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, list) or document.get("format") != CHECKS_FORMAT:
        raise ReleaseError(f"checks.json must be of format {CHECKS_FORMAT!r} with a list of results")
    if len(results) > MAX_DEVELOPER_CHECKS:
        raise ReleaseError(
            f"checks.json holds {len(results)} results; at most {MAX_DEVELOPER_CHECKS} are read"
        )
    found: list[Result] = []
    for result in results:
        name, ok = (result.get("name"), result.get("ok")) if isinstance(result, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(ok, bool):
            raise ReleaseError("each result of checks.json has a name and says whether it is ok")
        severity = "warn" if result.get("severity") == "warn" else "block"
        found.append(_result(f"developer.{name[:100]}", ok, str(result.get("detail", ""))[:500], severity))
    return found
