"""The search for alternatives: would another model treat groups more alike and still tell risks apart?

Candidates are fitted on one part of the rows, their cut-offs set and the frontier drawn on a second, and what is
said of them is measured on a third that no choice has seen. Every candidate is held to the same share of approvals.
All that was tried is in the log, the failures too: New Jersey's rules on disparate impact (2025) ask for it.
Group labels shape training where a candidate says so (`group_aware`), and are never an input of a model.
Gillis, Meursault and Ustun, Operationalizing the Search for Less Discriminatory Alternatives, 2024.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._candidates import Fitted, LabelledRows, Recipe, Workshop, fit_recipe, recipes
from fiduciary.checks._groups import Grouping, make_grouping
from fiduciary.checks._result import number
from fiduciary.errors import FiduciaryError, ModelError, UsageError
from fiduciary.models import Contract, Scorer, auc, ks, probability

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MAX_CANDIDATES = 1_000
LEAST_PART = 50
NEAREST = 0.01
"""How far from the share of approvals asked for a candidate may be on the selection part."""


class SearchOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is searched, and what counts as as good."""

    candidates: int = 40
    """Most candidates that are fitted."""
    seconds: float = 600.0
    """No candidate is begun after so long; then the log says so, and the search is not the same each time."""
    accuracy_loss: float = 0.005
    """AUC that an alternative may lose against the baseline."""
    slack: float = 0.02
    """How far cut-off moves may change the share of approvals."""
    minimum_rows: int = 30
    group_aware: bool = True
    """Whether candidates may use group labels in training (never as an input); counsel may forbid it."""
    bootstraps: int = 300


class Measures(msgspec.Struct, frozen=True):
    """A candidate on one part of the rows, at its cut-off."""

    auc: float
    ks: float
    brier: float
    approval: float
    bad_rate: float | None
    """Events among the approved."""
    ratio: float | None
    """The lowest over attributes of lowest over highest rate of approvals of a group with enough rows."""
    difference: float | None
    """The largest standardised difference of mean margins between two such groups."""
    rates: dict[str, dict[str, float]]


class Candidate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing tried. `error` says why there is no model; then nothing is measured."""

    name: str
    kind: str
    change: dict[str, Any] = {}
    features: int = 0
    group_aware: bool = False
    cut: float | None = None
    """Margin below (or above, where low is bad) which it approves."""
    selection: Measures | None = None
    hold_out: Measures | None = None
    error: str = ""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What was tried and what came of it."""

    baseline: Candidate
    candidates: list[Candidate]
    frontier: list[str]
    """Names, on the selection part: no other candidate has both a higher AUC and a higher ratio."""
    best: str | None
    """Of those that lose no more AUC than allowed, on the selection part, the one with the highest ratio."""
    change: dict[str, Any]
    """Best against baseline on the hold-out: AUC and ratio, each with a paired bootstrap interval."""
    rows: dict[str, int]
    approval: float
    family: str
    options: SearchOptions
    seed: int
    stopped: str
    """Why the search ended: complete, count or time."""
    fitted: dict[str, Fitted] = {}
    """The models by name; not part of the log."""

    @property
    def log(self) -> list[dict[str, Any]]:
        """Everything tried, as JSON values, in order."""
        found: list[dict[str, Any]] = [msgspec.to_builtins(c) for c in (self.baseline, *self.candidates)]
        return found


def search_alternatives(
    part: LabelledRows,
    contract: Contract,
    *,
    approval: float,
    family: str = "scorecard",
    scorer: Scorer | None = None,
    adverse: str = "high",
    options: SearchOptions | None = None,
    seed: int = 0,
    hold_out: LabelledRows | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Search:
    """Search on rows with outcomes and group labels, at a fixed share of approvals.

    `family`: scorecard, additive (needs the `scorer` whose terms are rescaled) or lightgbm. The rows are split
    60:20:20 into training, selection and hold-out, unless a hold-out is given (then 75:25). The same input and seed
    give the same search, unless time ran out. Raises `UsageError` when there is too little to learn from.
    """
    options = options or SearchOptions()
    _check(part, contract, approval, family, scorer, options)
    began = time.monotonic()
    tell = progress or (lambda what, done, total: None)
    train, select, hold = _split(part, hold_out, seed)
    every = {"train": train, "selection": select, "hold_out": hold}
    for name, rows in every.items():
        if len(rows.events) < LEAST_PART or rows.events.min() == rows.events.max():
            raise UsageError(
                f"the {name.replace('_', '-')} part needs {LEAST_PART} rows, with the event and without"
            )
    groups = {name: _groupings(rows) for name, rows in every.items()}
    sign = 1.0 if adverse == "high" else -1.0
    fitted: dict[str, Fitted] = {}

    def measure(recipe: Recipe, model: Fitted, approve: float) -> Candidate:
        fitted[recipe.name] = model
        margins = {name: sign * model.score(every[name].rows) for name in ("selection", "hold_out")}
        cut = cut_for(margins["selection"], approve)
        seen = {
            name: _measures(m, cut, every[name].events, groups[name], options, sign)
            for name, m in margins.items()
        }
        return Candidate(
            name=recipe.name, kind=recipe.kind, change=recipe.change, group_aware=recipe.group_aware,
            features=len(model.columns), cut=sign * cut, selection=seen["selection"], hold_out=seen["hold_out"],
        )  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(
            train, groups["train"], contract, family, scorer, Path(folder), seed, options.minimum_rows
        )
        base_model = fit_recipe(shop, Recipe(name="baseline", kind="baseline"))
        baseline = measure(Recipe(name="baseline", kind="baseline"), base_model, approval)
        tried: list[Candidate] = []
        stopped = "complete"
        for recipe in recipes(shop, base_model):
            if recipe.group_aware and not options.group_aware:
                continue
            if len(tried) >= options.candidates or time.monotonic() - began > options.seconds:
                stopped = "count" if len(tried) >= options.candidates else "time"
                break
            tell(recipe.name, len(tried), options.candidates)
            try:
                tried.append(measure(recipe, fit_recipe(shop, recipe), approval))
            except FiduciaryError as error:
                failed = Candidate(
                    name=recipe.name, kind=recipe.kind, change=recipe.change, error=error.detail
                )
                tried.append(failed)
        front = frontier([baseline, *tried])
        for candidate in [c for c in (baseline, *tried) if c.name in front or c is baseline]:
            for step in (-1.0, -0.5, 0.5, 1.0):
                share = approval + step * options.slack
                if not 0.0 < share < 1.0 or not options.slack:
                    continue
                name = f"{candidate.name}, approvals {step * options.slack:+.1%}"
                move = Recipe(name=name, kind="cut-off", change={"of": candidate.name, "approval": share},
                              group_aware=candidate.group_aware)  # fmt: skip
                try:
                    tried.append(measure(move, fitted[candidate.name], share))
                except ModelError as error:
                    tried.append(Candidate(name=name, kind="cut-off", change=move.change, error=error.detail))
    front = frontier([baseline, *tried])
    best = _best(baseline, tried, options)
    change = {}
    if best is not None:
        change = _change(baseline, best, fitted, hold, groups["hold_out"], sign, options, seed)
    return Search(
        baseline=baseline, candidates=tried, frontier=front, best=best.name if best else None, change=change,
        rows={name: len(rows.events) for name, rows in every.items()}, approval=approval, family=family,
        options=options, seed=seed, stopped=stopped, fitted=fitted,
    )  # fmt: skip


def cut_for(margins: F64, approve: float) -> float:
    """The cut-off below which the share of rows is nearest to `approve`.

    Raises `ModelError` when equal margins leave no cut within `NEAREST` of it.
    """
    values, counts = np.unique(margins, return_counts=True)
    shares = np.concatenate([[0.0], np.cumsum(counts) / len(margins)])
    place = int(np.argmin(np.abs(shares - approve)))
    if abs(float(shares[place]) - approve) > NEAREST:
        raise ModelError(f"no cut-off approves {approve:.1%}: too many rows have the same score")
    return float(values[place]) if place < len(values) else float(np.nextafter(values[-1], np.inf))


def frontier(candidates: list[Candidate]) -> list[str]:
    """Names of those that no other beats in AUC and ratio at once (on the selection part), by falling AUC."""
    points = [
        (c.selection.auc, c.selection.ratio, c.name)
        for c in candidates
        if c.selection is not None and c.selection.ratio is not None
    ]
    found = []
    top = -1.0
    for _, ratio, name in sorted(points, key=lambda p: (-p[0], -p[1])):
        if ratio > top:
            found.append(name)
            top = ratio
    return found


def _best(baseline: Candidate, tried: list[Candidate], options: SearchOptions) -> Candidate | None:
    assert baseline.selection is not None
    floor = baseline.selection.auc - options.accuracy_loss
    fit = [
        c
        for c in tried
        if c.selection is not None
        and c.selection.ratio is not None
        and c.selection.auc >= floor
        and c.selection.ratio > (baseline.selection.ratio or 0.0)
    ]
    return max(fit, key=lambda c: (c.selection.ratio, c.selection.auc)) if fit else None  # type: ignore[union-attr]


def _measures(
    margins: F64, cut: float, events: F64, groups: list[Grouping], options: SearchOptions, sign: float
) -> Measures:
    approved = margins < cut
    scores = probability(sign * margins, "logit")
    rates, ratio = _ratio(approved, groups, options.minimum_rows)
    spread = float(margins.std())
    gaps = []
    for grouping in groups:
        judged = grouping.rows >= options.minimum_rows
        if judged.sum() >= 2 and spread > 0:
            means = (grouping.total(margins) / np.maximum(grouping.rows, 1))[judged]
            gaps.append(float(means.max() - means.min()) / spread)
    wanted = events if sign > 0 else 1.0 - events
    return Measures(
        auc=auc(margins, wanted),
        ks=ks(margins, wanted),
        brier=float(((scores - events) ** 2).mean()),
        approval=float(approved.mean()),
        bad_rate=number(float(wanted[approved].mean())) if approved.any() else None,
        ratio=ratio,
        difference=max(gaps) if gaps else None,
        rates=rates,
    )


def _ratio(
    approved: NDArray[np.bool_], groups: list[Grouping], minimum_rows: int
) -> tuple[dict[str, dict[str, float]], float | None]:
    rates: dict[str, dict[str, float]] = {}
    lowest: float | None = None
    for grouping in groups:
        share = grouping.count(approved) / np.maximum(grouping.rows, 1)
        rates[grouping.attribute] = dict(zip(grouping.labels, share.tolist(), strict=True))
        judged = share[grouping.rows >= minimum_rows]
        if len(judged) >= 2 and judged.max() > 0:
            ratio = float(judged.min() / judged.max())
            lowest = ratio if lowest is None else min(lowest, ratio)
    return rates, lowest


def _change(
    baseline: Candidate, best: Candidate, fitted: dict[str, Fitted], hold: LabelledRows, groups: list[Grouping],
    sign: float, options: SearchOptions, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """AUC and ratio of the best less those of the baseline on the hold-out, with paired bootstrap intervals."""
    assert baseline.hold_out is not None and best.hold_out is not None
    both = [sign * fitted[c.name].score(hold.rows) for c in (baseline, best)]
    approved = [m < sign * (c.cut or 0.0) for m, c in zip(both, (baseline, best), strict=True)]
    wanted = hold.events > 0 if sign > 0 else hold.events == 0
    orders = [np.unique(m, return_inverse=True)[1] for m in both]
    rng = np.random.default_rng([seed, 13])
    n = len(wanted)
    gains: list[tuple[float, float]] = []
    for _ in range(options.bootstraps):
        weights = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        areas = [_weighted_area(order, wanted, weights) for order in orders]
        ratios = [_weighted_ratio(a, groups, weights, options.minimum_rows) for a in approved]
        gains.append((areas[1] - areas[0], ratios[1] - ratios[0]))
    ends = np.nanquantile(np.array(gains), [0.025, 0.975], axis=0) if gains else np.full((2, 2), np.nan)
    ratio = (best.hold_out.ratio or 0.0) - (baseline.hold_out.ratio or 0.0)
    return {
        "auc": best.hold_out.auc - baseline.hold_out.auc,
        "auc_interval": [number(ends[0, 0]), number(ends[1, 0])],
        "ratio": ratio,
        "ratio_interval": [number(ends[0, 1]), number(ends[1, 1])],
        "bootstraps": options.bootstraps,
    }


def _weighted_area(order: I64, events: NDArray[np.bool_], weights: F64) -> float:
    size = int(order.max()) + 1
    bad = np.bincount(order, weights=weights * events, minlength=size)
    good = np.bincount(order, weights=weights * ~events, minlength=size)
    below = np.cumsum(good) - 0.5 * good
    total = float(bad.sum() * good.sum())
    return float((bad * below).sum()) / total if total else float("nan")


def _weighted_ratio(
    approved: NDArray[np.bool_], groups: list[Grouping], weights: F64, minimum_rows: int
) -> float:
    lowest = float("nan")
    for grouping in groups:
        judged = grouping.rows >= minimum_rows
        rows = grouping.total(weights)[judged]
        share = grouping.total(weights * approved)[judged] / np.maximum(rows, 1e-300)
        share = share[rows > 0]
        if len(share) >= 2 and share.max() > 0:
            lowest = float(np.fmin(lowest, share.min() / share.max()))
    return lowest


def _groupings(part: LabelledRows) -> list[Grouping]:
    return [make_grouping(name, labels) for name, labels in part.groups.items()]


def _split(
    part: LabelledRows, hold_out: LabelledRows | None, seed: int
) -> tuple[LabelledRows, LabelledRows, LabelledRows]:
    order = np.random.default_rng([seed, 3]).permutation(len(part.events))
    n = len(order)
    if hold_out is not None:
        a = n * 3 // 4
        return part.take(np.sort(order[:a])), part.take(np.sort(order[a:])), hold_out
    a, b = n * 3 // 5, n * 4 // 5
    return part.take(np.sort(order[:a])), part.take(np.sort(order[a:b])), part.take(np.sort(order[b:]))


def _check(
    part: LabelledRows,
    contract: Contract,
    approval: float,
    family: str,
    scorer: Scorer | None,
    options: SearchOptions,
) -> None:
    if part.rows.ndim != 2 or part.rows.shape[1] != len(contract.features):
        raise UsageError(f"the search needs rows with the contract's {len(contract.features)} columns")
    if not part.groups:
        raise UsageError("the search needs labels of at least one protected attribute")
    inside = set(part.groups) & set(contract.names)
    if inside:
        raise UsageError(
            f"{', '.join(sorted(inside))} is both an input and a protected attribute: take it out of one"
        )
    if family not in ("scorecard", "additive", "lightgbm"):
        raise UsageError(f"the search can fit scorecard, additive and lightgbm models, not {family!r}")
    if family == "additive" and getattr(scorer, "family", "") != "additive":
        raise UsageError("a search over an additive model needs that model")
    if not 0.0 < approval < 1.0:
        raise UsageError("the share of approvals must lie between 0 and 1")
    if not 1 <= options.candidates <= MAX_CANDIDATES or options.seconds <= 0 or options.minimum_rows < 1:
        raise UsageError(f"a search takes 1 to {MAX_CANDIDATES} candidates, a positive time and group size")
    if options.slack < 0 or options.accuracy_loss < 0 or not 0 <= options.bootstraps <= 10_000:
        raise UsageError("slack and accuracy loss are not negative, and there are at most 10000 bootstraps")
