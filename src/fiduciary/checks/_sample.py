"""What metric checks look at: a scored sample, and the subject that a check is about.

Everything is optional except what a sample is made of; a check says in `needs` what it cannot do without.
Sorted views are made once a sample and shared by every check that runs on it.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import UsageError

if TYPE_CHECKING:
    from fiduciary.models import Baseline, Contract, Scorer

F64 = NDArray[np.float64]
Text = NDArray[Any]

MAX_ROWS = 50_000_000


class Ranking(msgspec.Struct, frozen=True):
    """Scores with outcomes, tied scores together, riskiest last. Rows without a finite score are left out."""

    values: F64
    """Distinct scores, ascending, (k,)."""
    events: F64
    """Adverse events at each score, (k,)."""
    rest: F64
    """Rows without the event at each score, (k,)."""
    inverse: NDArray[np.intp]
    """For each kept row, the place of its score in `values`, (m,)."""
    outcomes: NDArray[np.bool_]
    """For each kept row, whether the event happened, (m,)."""

    @property
    def bad(self) -> int:
        """How many events."""
        return int(self.events.sum())

    @property
    def good(self) -> int:
        """How many rows without the event."""
        return int(self.rest.sum())


class Sample(msgspec.Struct, frozen=True, kw_only=True, dict=True, eq=False):
    """n scored rows and what is known of them; every array has n entries. Raises `UsageError` on a wrong shape."""

    rows: F64
    """(n, features), contract order, NaN = missing."""
    names: tuple[str, ...]
    """Feature names, in the order of the columns of `rows`."""
    scores: F64
    """(n,) probability of the adverse event, or the value for an identity link."""
    margins: F64 | None = None
    outcomes: NDArray[np.bool_] | None = None
    """(n,) True: the adverse event (default) happened."""
    decisions: Text | None = None
    """(n,) text: approve, refer or decline at the use case's cut-offs."""
    contributions: F64 | None = None
    """(n, features)."""
    groups: dict[str, Text] = {}
    """Protected attribute -> (n,) labels as text; never model inputs."""
    reference: dict[str, str] = {}
    """Protected attribute -> label of its reference group."""
    grades: Text | None = None
    """(n,) rating grade."""
    previous_grades: Text | None = None
    """(n,) rating grade at the start of the period, for migrations."""
    keys: Text | None = None
    """(n,) identifies the row (an application, a customer); for duplicates and disjointness."""
    exposure: F64 | None = None
    """(n,) currency."""
    classes: Text | None = None
    """(n,) exposure class (CRR Art. 147), for parameter floors."""
    lgd: F64 | None = None
    """(n,) estimated loss given default, share of exposure."""
    realised_lgd: F64 | None = None
    ccf: F64 | None = None
    """(n,) estimated credit conversion factor, share of the undrawn amount."""
    realised_ccf: F64 | None = None
    weights: F64 | None = None
    segments: Text | None = None
    """(n,) business segment or portfolio."""
    period: Text | None = None
    """(n,) text: month, quarter or year."""
    labels: dict[str, Text] = {}
    """Feature -> (n,) raw values as the source had them, text; for schema and re-coding checks."""

    def __post_init__(self) -> None:
        _check(self)

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def finite(self) -> NDArray[np.bool_]:
        """(n,) which rows have a finite score."""
        return np.isfinite(self.scores)

    @cached_property
    def unscored(self) -> int:
        """How many rows have no finite score."""
        return int(len(self.scores) - np.count_nonzero(self.finite))

    @cached_property
    def ranking(self) -> Ranking | None:
        """Scores with outcomes in order, made once; None without outcomes."""
        if self.outcomes is None:
            return None
        return ranking(self.scores, self.outcomes)

    @cached_property
    def sorted_scores(self) -> F64:
        """Finite scores, ascending."""
        return np.sort(self.scores[self.finite])

    @cached_property
    def sorted_columns(self) -> F64:
        """Each column of `rows` in ascending order, missing values last, (features, n)."""
        return np.sort(np.ascontiguousarray(self.rows.T), axis=1)

    @cached_property
    def missing(self) -> NDArray[np.intp]:
        """Missing values per feature, (features,)."""
        return np.asarray(np.isnan(self.rows).sum(axis=0), dtype=np.intp)


class Subject(msgspec.Struct, frozen=True, kw_only=True, dict=True, eq=False):
    """Everything a check may read; each part is optional."""

    sample: Sample | None = None
    """The validation or monitoring sample."""
    development: Sample | None = None
    """The training or development sample."""
    test: Sample | None = None
    """A further part, for disjointness."""
    scorer: Scorer | None = None
    contract: Contract | None = None
    baseline: Baseline | None = None
    use_case: dict[str, Any] | None = None
    """The use case document."""
    facts: Any = None
    """Governance facts (`checks.Facts`)."""
    card: dict[str, Any] | None = None
    """What the data card or the release's documents declare: base rate, columns, control totals, lineage."""
    seed: int = 0


def ranking(scores: F64, outcomes: NDArray[np.bool_]) -> Ranking:
    """Sort once: distinct scores with their events. Rows without a finite score are left out."""
    scores = np.asarray(scores, dtype=np.float64)
    events = np.asarray(outcomes, dtype=np.bool_)
    finite = np.isfinite(scores)
    if not finite.all():
        scores, events = scores[finite], events[finite]
    order = np.argsort(scores)
    ordered = scores[order]
    new = np.empty(len(ordered), dtype=np.bool_)
    new[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    place = np.cumsum(new) - 1
    inverse = np.empty(len(ordered), dtype=np.intp)
    inverse[order] = place
    k = int(place[-1]) + 1 if len(place) else 0
    bad = np.bincount(inverse[events], minlength=k).astype(np.float64)
    total = np.bincount(inverse, minlength=k)
    return Ranking(ordered[new], bad, total - bad, inverse, events)


_PER_ROW = (
    "margins",
    "outcomes",
    "decisions",
    "grades",
    "previous_grades",
    "keys",
    "exposure",
    "classes",
    "lgd",
    "realised_lgd",
    "ccf",
    "realised_ccf",
    "weights",
    "segments",
    "period",
)


def _check(sample: Sample) -> None:
    n = len(sample.scores)
    if sample.scores.ndim != 1:
        raise UsageError(f"scores have one axis, not {sample.scores.ndim}")
    if n > MAX_ROWS:
        raise UsageError(f"a sample has at most {MAX_ROWS} rows")
    wide = (n, len(sample.names))
    if sample.rows.shape != wide:
        raise UsageError(f"rows must have shape {wide} (rows, names), not {sample.rows.shape}")
    if sample.contributions is not None and sample.contributions.shape != wide:
        raise UsageError(f"contributions must have shape {wide}, not {sample.contributions.shape}")
    for name in _PER_ROW:
        array = getattr(sample, name)
        if array is not None and array.shape != (n,):
            raise UsageError(f"{name} must have shape ({n},), not {array.shape}")
    for what, arrays in (("group", sample.groups), ("label", sample.labels)):
        for name, array in arrays.items():
            if array.shape != (n,):
                raise UsageError(f"{what} {name!r} must have shape ({n},), not {array.shape}")
    if sample.outcomes is not None and sample.outcomes.dtype != np.bool_:
        raise UsageError("outcomes are true where the adverse event happened, else false (dtype bool)")
