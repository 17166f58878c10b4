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
from fiduciary.models import Ranking, ranking

if TYPE_CHECKING:
    from fiduciary.checks._card import DataCard, Estimation
    from fiduciary.models import Baseline, Contract, Scorer

F64 = NDArray[np.float64]
Text = NDArray[Any]

MAX_ROWS = 50_000_000


class Arrears(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Days past due and amounts, per row: the facts from which a default label can be derived again."""

    days_past_due: F64
    """(n,) consecutive days for which the obligation was material and past due."""
    amount: F64
    """(n,) past due, currency."""
    exposure: F64
    """(n,) whole on-balance exposure to the obligor, currency."""
    unlikely_to_pay: NDArray[np.bool_]
    """(n,) another indication of unlikeliness to pay (Art. 178(3))."""


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
    overridden: NDArray[np.bool_] | None = None
    """(n,) True: a person set aside the model's grade or decision."""
    arrears: Arrears | None = None
    """What a default is made of (CRR Art. 178), to label the sample again."""

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
    table: dict[str, Text] | None = None
    """The raw table as it was read, column -> values, before any contract: what data checks look at."""
    card: DataCard | None = None
    """What the source declares of that table: base rate, columns, control totals, lineage."""
    estimation: Estimation | None = None
    """What the institution declares of its estimates: margins of conservatism, default definition, performance."""
    seed: int = 0


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
    "overridden",
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
    arrears = sample.arrears
    named = {f"group {name!r}": array for name, array in sample.groups.items()}
    if arrears is not None:
        named |= {f"arrears.{name}": getattr(arrears, name) for name in arrears.__struct_fields__}
    for what, array in named.items():
        if array.shape != (n,):
            raise UsageError(f"{what} must have shape ({n},), not {array.shape}")
    for what, flags in (("outcomes", sample.outcomes), ("overridden", sample.overridden)):
        if flags is not None and flags.dtype != np.bool_:
            raise UsageError(f"{what} must be true or false for every row (dtype bool)")
