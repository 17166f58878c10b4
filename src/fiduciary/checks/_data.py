"""Is the data what its source says it is, and fit to train, test and judge on?

A public copy of a well-known table had its class re-coded, another had lost columns and spelt a code out as
text: a loader that trusts names would not have noticed. A data card, written once from a table that a
person trusts (`describe`), is what later copies are held against here.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.checks._card import MAX_VALUES, CardColumn, DataCard, column_type, control_total, shares_of
from fiduciary.checks._check import WATCHED, Check, Param, table
from fiduciary.checks._common import labels_of, listed, one_class, shown, two_tails, unjudged
from fiduciary.checks._result import CheckResult, number, verdict
from fiduciary.checks._sample import F64, Sample, Subject, Text

MAX_LISTED = 50
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def _table_and_card(subject: Subject) -> tuple[dict[str, Text], DataCard]:
    assert subject.table is not None and subject.card is not None
    return subject.table, subject.card


def schema(subject: Subject, *, allow_extra: bool) -> CheckResult:
    """Columns and their types are those of the data card, and hold every feature of the contract.

    The value counts what differs.
    """
    name = "data.schema"
    columns, card = _table_and_card(subject)
    known = {c.name: c for c in card.columns}
    absent = [c for c in known if c not in columns]
    extra = [c for c in columns if c not in known]
    retyped = [
        f"{c} ({known[c].type} became {kind})"
        for c, column in columns.items()
        if c in known and (kind := column_type(column)) != known[c].type and known[c].missing < 1.0
    ]
    features = subject.contract.names if subject.contract is not None else ()
    unfed = [f for f in features if f not in columns and f not in absent]
    wrong = len(absent) + len(retyped) + len(unfed) + (0 if allow_extra else len(extra))
    parts = [
        f"{words}: {listed(names)}"
        for words, names in (
            ("absent", absent),
            ("of another type", retyped),
            ("features without a column", unfed),
            ("not on the card", extra),
        )
        if names
    ]
    return CheckResult(
        name=name,
        ok=not wrong,
        value=float(wrong),
        unit="columns",
        threshold=0.0,
        detail="; ".join(parts) or f"all {len(known)} columns are there, of the declared types",
        numbers={
            "absent": absent[:MAX_LISTED],
            "extra": extra[:MAX_LISTED],
            "retyped": retyped[:MAX_LISTED],
            "unfed": unfed[:MAX_LISTED],
        },
    )


def base_rate(subject: Subject, *, tolerance: float) -> CheckResult:
    """The share of adverse events is that of the data card; the target holds the declared value for it.

    Looked for in the raw table by the card's own coding, so that a re-coded class cannot hide; in the
    sample's outcomes where there is no table.
    """
    name = "data.base_rate"
    card = subject.card
    assert card is not None and card.base_rate is not None
    if subject.table is not None and card.target:
        if card.target not in subject.table:
            return CheckResult(
                name=name,
                ok=False,
                unit="share",
                threshold=card.base_rate,
                detail=f"no column {card.target!r}",
            )
        texts = [shown(v) for v in subject.table[card.target].tolist()]
        n, events = len(texts), texts.count(card.positive)
        seen = sorted(set(texts))
    elif subject.sample is not None and subject.sample.outcomes is not None:
        n, events = len(subject.sample), int(np.count_nonzero(subject.sample.outcomes))
        seen = []
    else:
        return unjudged(name, "the raw table, or a sample with outcomes", unit="share")
    if not n:
        return unjudged(name, "rows: the table is empty", unit="share")
    rate = events / n
    ok = abs(rate - card.base_rate) <= tolerance
    said = f"{rate:.4f} of {n} rows, the card says {card.base_rate:.4f}"
    if not events and seen:
        said += f"; the value {card.positive!r} does not occur, the target holds {listed(seen, 5)}"
    return CheckResult(
        name=name,
        ok=ok,
        value=rate,
        unit="share",
        threshold=card.base_rate,
        detail=said,
        numbers={"rows": n, "events": events, "tolerance": tolerance, "declared": card.base_rate},
    )


def recoding(subject: Subject, *, maximum_move: float) -> CheckResult:
    """No column was re-coded: types, values and their shares are those of the data card; the value counts
    suspects.

    A suspect has another type, values that the card does not know, values that vanished though they were
    common, numbers far outside the card's range, or shares that moved by more than `maximum_move` in total
    variation.
    """
    name = "data.recoding"
    columns, card = _table_and_card(subject)
    found: dict[str, str] = {}
    absent: list[str] = []
    for declared in card.columns:
        if declared.name not in columns:
            absent.append(declared.name)
            continue
        why = _recoded(columns[declared.name], declared, maximum_move)
        if why:
            found[declared.name] = why
    wrong = len(found) + len(absent)
    said = [f"{column}: {why}" for column, why in list(found.items())[:5]]
    if absent:
        said.append(f"absent: {listed(absent)}")
    return CheckResult(
        name=name,
        ok=not wrong,
        value=float(wrong),
        unit="columns",
        threshold=0.0,
        detail="; ".join(said) or f"{len(card.columns)} columns hold the declared values",
        numbers={"suspects": dict(list(found.items())[:MAX_LISTED]), "absent": absent[:MAX_LISTED]},
    )


def _recoded(column: NDArray[Any], declared: CardColumn, most: float) -> str:
    kind = column_type(column)
    if kind != declared.type and declared.missing < 1.0:
        return f"{declared.type} became {kind}"
    if not declared.values:
        if kind == "number" and declared.minimum is not None and declared.maximum is not None:
            values = np.asarray(column, dtype=np.float64)
            values = values[np.isfinite(values)]
            width = max(declared.maximum - declared.minimum, 1.0)
            if len(values) and (
                values.max() > declared.maximum + width or values.min() < declared.minimum - width
            ):
                return "numbers far outside the declared range"
        return ""
    shares, _ = shares_of(column, 10 * MAX_VALUES)
    if shares is None:
        return f"more than {10 * MAX_VALUES} values, the card lists {len(declared.values)}"
    strange = [v for v in shares if v not in declared.values]
    rows = max(len(column), 1)
    gone = [v for v, share in declared.values.items() if v not in shares and share * rows >= 10]
    why = []
    if strange:
        why.append(f"new values {listed(sorted(strange), 5)}")
    if gone:
        why.append(f"vanished {listed(sorted(gone), 5)}")
    moved = 0.5 * math.fsum(
        abs(shares.get(v, 0.0) - declared.values.get(v, 0.0)) for v in {*shares, *declared.values}
    )
    chance = math.sqrt(
        len(declared.values) / (2.0 * rows)
    )  # of the order of the mean total variation by chance
    if not why and moved > most + chance:
        why.append(f"shares moved by {moved:.3f}")
    return ", ".join(why)


def leakage(subject: Subject, *, maximum: float) -> CheckResult:
    """No feature alone tells the outcome: the largest AUC of a single feature, of its missing values, or of
    its codes.

    max(AUC, 1 - AUC) per feature over rows that have it; a category is scored by its own event rate, which
    a copy of the target under any coding cannot escape (Kaufman et al., ACM TKDD 6, 2012).
    """
    name = "data.leakage"
    sample = subject.sample
    assert sample is not None and sample.outcomes is not None and sample.ranking is not None
    events = sample.outcomes
    bad = int(np.count_nonzero(events))
    if not bad or bad == len(sample):
        return unjudged(name, one_class(sample.ranking) or "outcomes of both kinds")
    found: dict[str, float] = {}
    few: list[str] = []
    for j, feature in enumerate(sample.names):
        column = sample.rows[:, j]
        present = np.isfinite(column)
        # a missing value can tell the outcome, too: AUC of the flag alone
        absent_bad = np.count_nonzero(~present & events) / bad
        absent_good = np.count_nonzero(~present & ~events) / (len(sample) - bad)
        power = 0.5 + float(abs(absent_bad - absent_good)) / 2
        y = events[present]
        d = int(np.count_nonzero(y))
        if min(d, len(y) - d) >= 2:
            power = max(power, _single(column[present], y))
        else:
            few.append(feature)
        found[feature] = power
    if not found:
        return unjudged(name, "at least one feature")
    worst = max(found, key=found.__getitem__)
    over = [f for f, power in found.items() if power >= maximum]
    said = f"largest AUC of one feature {found[worst]:.4f} ({worst})"
    if over:
        said += f"; suspect: {listed(over)}"
    return CheckResult(
        name=name,
        ok=not over,
        value=found[worst],
        threshold=maximum,
        detail=said,
        numbers={"features": found, "too_few_rows": few},
    )


def _single(column: F64, events: NDArray[np.bool_]) -> float:
    """Separating power of one column: AUC either way, or, with few values, of the values ordered by event
    rate.
    """
    order = np.argsort(column)
    ordered, hit = column[order], events[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    bad = np.add.reduceat(hit.astype(np.float64), starts)
    rest = np.diff(np.append(starts, len(ordered))) - bad
    area = _area(bad, rest)
    power = max(area, 1 - area)
    if len(starts) <= MAX_VALUES:
        by_rate = np.argsort(bad / (bad + rest))
        power = max(power, _area(bad[by_rate], rest[by_rate]))
    return power


def _area(bad: F64, rest: F64) -> float:
    return float(bad @ (np.cumsum(rest) - rest / 2) / (bad.sum() * rest.sum()))


def row_hashes(rows: F64) -> NDArray[np.uint64]:
    """64-bit hash of each row's values, (n,): equal rows have equal hashes; missing equals missing, 0
    equals -0.

    SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014) over the bits of each value and its place.
    """
    found = np.zeros(len(rows), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for j in range(rows.shape[1]):
            column = rows[:, j] + 0.0
            column[np.isnan(column)] = np.nan
            bits = column.view(np.uint64) ^ found
            bits = bits + np.uint64((0x9E3779B97F4A7C15 * (j + 1)) & 0xFFFFFFFFFFFFFFFF)
            bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            found = bits ^ (bits >> np.uint64(31))
    return found


def _distinct(keys: Text) -> set[str]:
    """Distinct keys as text."""
    if keys.dtype.kind in "iu":
        return set(map(str, keys.tolist()))
    return set(map(shown, keys.tolist()))


def duplicates(subject: Subject, *, maximum: float) -> CheckResult:
    """Share of rows that repeat an earlier one: by key where the sample has keys, else by all features and
    outcome.
    """
    name = "data.duplicates"
    sample = subject.sample
    assert sample is not None
    n = len(sample)
    if not n:
        return unjudged(name, "rows: the sample is empty", unit="share")
    hashes = row_hashes(sample.rows)
    if sample.outcomes is not None:
        hashes = hashes ^ (sample.outcomes.astype(np.uint64) * np.uint64(0x2545F4914F6CDD1D))
    by_content = n - len(np.unique(hashes))
    by_key: int | None = None
    if sample.keys is not None:
        by_key = n - len(_distinct(sample.keys))
    repeated = by_content if by_key is None else by_key
    what = "in all features and the outcome" if by_key is None else "by key"
    return CheckResult(
        name=name,
        ok=verdict(repeated / n, maximum=maximum),
        value=repeated / n,
        unit="share",
        threshold=maximum,
        detail=f"{repeated} of {n} rows repeat an earlier one {what}",
        numbers={"rows": n, "by_content": by_content, "by_key": by_key},
    )


def missingness_shift(subject: Subject, *, maximum: float) -> CheckResult:
    """Largest change in the share of missing values of a feature since development, with a two-proportion z
    test.
    """
    name = "data.missingness_shift"
    sample, development = subject.sample, subject.development
    assert sample is not None and development is not None
    if sample.names != development.names or not sample.names:
        return unjudged(name, "the same features in both samples", unit="share")
    n, m = len(sample), len(development)
    if not n or not m:
        return unjudged(name, "rows in both samples", unit="share")
    found: dict[str, Any] = {}
    worst, at = -1.0, ""
    for j, feature in enumerate(sample.names):
        a, b = float(sample.missing[j]), float(development.missing[j])
        gap = a / n - b / m
        pooled = (a + b) / (n + m)
        spread = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
        found[feature] = {
            "development": b / m,
            "current": a / n,
            "p_value": two_tails(gap / spread) if spread > 0 else 1.0,
        }
        if abs(gap) > worst:
            worst, at = abs(gap), feature
    return CheckResult(
        name=name,
        ok=verdict(worst, maximum=maximum),
        value=worst,
        unit="share",
        threshold=maximum,
        detail=f"largest change {worst:.4f} ({at})",
        numbers={"features": found},
    )


def disjoint(subject: Subject) -> CheckResult:
    """Training, validation and test rows share no key; the value counts keys that occur in two parts.

    AI Act Art. 10(2). Rows equal in all features are counted beside it: a sign, not a proof, of overlap.
    """
    name = "data.disjoint"
    parts: dict[str, Sample] = {}
    for label, part in (
        ("development", subject.development),
        ("sample", subject.sample),
        ("test", subject.test),
    ):
        if part is not None:
            parts[label] = part
    if len(parts) < 2:
        return unjudged(name, "at least two parts (development, sample, test)", unit="keys")
    keyless = [label for label, part in parts.items() if part.keys is None]
    if keyless:
        return unjudged(name, f"row keys for {listed(keyless)}", unit="keys")
    keys = {label: _distinct(part.keys) for label, part in parts.items() if part.keys is not None}
    hashes = {label: row_hashes(part.rows) for label, part in parts.items()}
    labels = list(parts)
    shared: dict[str, Any] = {}
    total = 0
    for i, a in enumerate(labels):
        for b in labels[i + 1 :]:
            both = (keys[a] & keys[b]) - {"missing"}
            same = int(np.count_nonzero(np.isin(hashes[b], hashes[a])))
            shared[f"{a} and {b}"] = {"keys": len(both), "equal_rows": same}
            total += len(both)
    blank = [label for label in labels if "missing" in keys[label]]
    if blank:
        return unjudged(
            name, f"a key for every row of {listed(blank)}", unit="keys", numbers={"pairs": shared}
        )
    return CheckResult(
        name=name,
        ok=not total,
        value=float(total),
        unit="keys",
        threshold=0.0,
        detail=f"{total} keys occur in two parts" if total else f"{' and '.join(labels)} share no key",
        numbers={"pairs": shared},
    )


def control_totals(subject: Subject, *, tolerance: float) -> CheckResult:
    """Row count and column sums equal the source's control totals (BCBS 239 principle 3); the value is the
    largest gap.

    Sums are correctly rounded; the gap is relative to the total.
    """
    name = "data.control_totals"
    columns, card = _table_and_card(subject)
    gaps: dict[str, float | None] = {}
    wrong: list[str] = []
    for column, total in card.totals.items():
        if column not in columns or column_type(columns[column]) != "number":
            gaps[column] = None
            wrong.append(column)
            continue
        gap = abs(control_total(columns[column], column) - total) / max(abs(total), 1.0)
        gaps[column] = number(gap)
        if not gap <= tolerance:
            wrong.append(column)
    rows = len(next(iter(columns.values()))) if columns else 0
    if card.rows is not None and rows != card.rows:
        wrong.append(f"rows ({rows}, not {card.rows})")
    known = [g for g in gaps.values() if g is not None]
    return CheckResult(
        name=name,
        ok=not wrong,
        value=max(known, default=None),
        unit="share",
        threshold=tolerance,
        detail=f"do not agree: {listed(wrong)}" if wrong else f"{len(gaps)} control totals agree",
        numbers={"gaps": gaps, "rows": rows, "declared_rows": card.rows},
    )


def completeness(
    subject: Subject, *, minimum: float, minimum_rows: int | None, fields: list[str]
) -> CheckResult:
    """Mandatory fields are filled and rows are all there (BCBS 239 principle 4).

    The value is the least filled share. Fields: those given, else those the card calls mandatory.
    """
    name = "data.completeness"
    columns, card = _table_and_card(subject)
    wanted = [str(f) for f in fields] or [c.name for c in card.columns if c.mandatory]
    if not wanted:
        return unjudged(name, "mandatory fields (on the card, or parameter fields)", unit="share")
    filled = {f: 1.0 - shares_of(columns[f], 0)[1] if f in columns else 0.0 for f in wanted}
    rows = len(next(iter(columns.values()))) if columns else 0
    least = minimum_rows if minimum_rows is not None else (card.rows or 1)
    worst = min(filled, key=filled.__getitem__)
    short = [f for f, share in filled.items() if share < minimum]
    said = f"{rows} rows; least filled is {worst} ({filled[worst]:.4f})"
    if short:
        said += f"; below {minimum:g}: {listed(short)}"
    if rows < least:
        said += f"; {least} rows were expected"
    return CheckResult(
        name=name,
        ok=not short and rows >= least,
        value=filled[worst],
        unit="share",
        threshold=minimum,
        detail=said,
        numbers={"fields": filled, "rows": rows, "expected_rows": least},
    )


def lineage(subject: Subject) -> CheckResult:
    """Every feature resolves to a source, table and column, and to the digest of the code that made it.

    ECB Guide on effective risk data aggregation and risk reporting, 2024, sec. 3.4. The value counts
    features that do not.
    """
    name = "data.lineage"
    card = subject.card
    assert card is not None
    if subject.contract is not None:
        features = subject.contract.names
    elif subject.sample is not None:
        features = subject.sample.names
    else:
        return unjudged(name, "the feature contract", unit="features")
    absent = [f for f in features if f not in card.lineage]
    incomplete = []
    for feature in features:
        at = card.lineage.get(feature)
        if at is not None and (
            not (at.source.strip() and at.table.strip() and at.column.strip())
            or (at.transform and not _DIGEST.fullmatch(at.transform))
        ):
            incomplete.append(feature)
    parts = []
    if absent:
        parts.append(f"no lineage: {listed(absent)}")
    if incomplete:
        parts.append(f"incomplete (source, table, column, sha256 of the transform): {listed(incomplete)}")
    wrong = len(absent) + len(incomplete)
    return CheckResult(
        name=name,
        ok=not wrong,
        value=float(wrong),
        unit="features",
        threshold=0.0,
        detail="; ".join(parts) or f"all {len(features)} features resolve to a column",
        numbers={"absent": absent[:MAX_LISTED], "incomplete": incomplete[:MAX_LISTED]},
    )


def representative(subject: Subject, *, maximum_move: float, minimum_ratio: float) -> CheckResult:
    """The development sample has the shares of the population it is for: by group, segment and period.

    AI Act Art. 10(3). Population: the card's, else the current sample. The value is the largest total
    variation distance; a label fails on its own when its share is below `minimum_ratio` of what it is in
    the population.
    """
    name = "data.representative"
    development = subject.development
    assert development is not None
    population: dict[str, dict[str, float]] = {}
    own = _composition(development)
    if subject.card is not None and subject.card.population:
        population = subject.card.population
    elif subject.sample is not None:
        population = _composition(subject.sample)
    common = [a for a in population if a in own]
    if not common:
        return unjudged(
            name, "shares of the population (on the card, or a current sample with groups)", unit="share"
        )
    found: dict[str, Any] = {}
    thin: list[str] = []
    worst, at = -1.0, ""
    for attribute in common:
        there, here = population[attribute], own[attribute]
        moved = 0.5 * math.fsum(abs(there.get(x, 0.0) - here.get(x, 0.0)) for x in {*there, *here})
        found[attribute] = {"distance": moved, "labels": len(there)}
        thin += [
            f"{attribute} {x}" for x, s in there.items() if s > 0 and here.get(x, 0.0) < minimum_ratio * s
        ]
        if moved > worst:
            worst, at = moved, attribute
    said = f"largest distance {worst:.4f} ({at})"
    if thin:
        said += f"; under-represented: {listed(thin)}"
    return CheckResult(
        name=name,
        ok=worst <= maximum_move and not thin,
        value=worst,
        unit="share",
        threshold=maximum_move,
        detail=said,
        numbers={"attributes": found, "under_represented": thin[:MAX_LISTED]},
    )


def _composition(sample: Sample) -> dict[str, dict[str, float]]:
    arrays = dict(sample.groups)
    if sample.segments is not None:
        arrays["segment"] = sample.segments
    if sample.period is not None:
        arrays["period"] = sample.period
    found: dict[str, dict[str, float]] = {}
    for attribute, array in arrays.items():
        labels, place = labels_of(array)
        if len(labels):
            counts = np.bincount(place, minlength=len(labels))
            found[attribute] = {x: float(c / len(place)) for x, c in zip(labels, counts, strict=True)}
    return found


_CARD = ("table", "card")

CHECKS = table(
    [
        Check(
            "data.schema",
            "data",
            schema,
            {"allow_extra": Param(bool, True, "columns that the card does not name pass")},
            WATCHED,
            "columns",
            "AI Act Art. 10(2)",
            _CARD,
            "columns and types are those of the data card",
        ),
        Check(
            "data.base_rate",
            "data",
            base_rate,
            {"tolerance": Param(float, 0.01, "largest difference that passes", 0, 1)},
            WATCHED,
            "share",
            "AI Act Art. 10(3)",
            ("card", "card.base_rate"),
            "share of adverse events is that of the data card",
        ),
        Check(
            "data.recoding",
            "data",
            recoding,
            {"maximum_move": Param(float, 0.2, "largest move of a column's shares (total variation)", 0, 1)},
            WATCHED,
            "columns",
            "AI Act Art. 10(2); BCBS 239 principle 3",
            _CARD,
            "no column was re-coded without a word",
        ),
        Check(
            "data.leakage",
            "data",
            leakage,
            {"maximum": Param(float, 0.95, "a feature with this AUC or more is suspect", 0.5, 1.01)},
            ("release",),
            "",
            "Kaufman et al. 2012",
            ("sample", "sample.outcomes"),
            "no feature alone tells the outcome",
        ),
        Check(
            "data.duplicates",
            "data",
            duplicates,
            {"maximum": Param(float, 0.01, "largest share of repeated rows that passes", 0, 1)},
            WATCHED,
            "share",
            "BCBS 239 principle 3",
            ("sample",),
            "share of rows that repeat another",
        ),
        Check(
            "data.missingness_shift",
            "data",
            missingness_shift,
            {"maximum": Param(float, 0.05, "largest change of a missing share that passes", 0, 1)},
            WATCHED,
            "share",
            "AI Act Art. 10(2)",
            ("sample", "development"),
            "change in missing values since development",
        ),
        Check(
            "data.disjoint",
            "data",
            disjoint,
            {},
            ("release",),
            "keys",
            "AI Act Art. 10(2)",
            (),
            "training, validation and test share no key",
        ),
        Check(
            "data.control_totals",
            "data",
            control_totals,
            {"tolerance": Param(float, 0.0, "largest relative gap that passes", 0, 1)},
            WATCHED,
            "share",
            "BCBS 239 principle 3",
            ("table", "card", "card.totals"),
            "row count and sums equal the source's control totals",
        ),
        Check(
            "data.completeness",
            "data",
            completeness,
            {
                "minimum": Param(float, 1.0, "smallest filled share that passes", 0, 1),
                "minimum_rows": Param(int, None, "fewest rows; left out: as many as the card says", 0),
                "fields": Param(list, [], "mandatory fields; empty: as the card says"),
            },
            WATCHED,
            "share",
            "BCBS 239 principle 4",
            _CARD,
            "mandatory fields are filled, rows are all there",
        ),
        Check(
            "data.lineage",
            "data",
            lineage,
            {},
            ("release",),
            "features",
            "BCBS 239 principle 2; ECB Guide on RDARR 2024",
            ("card",),
            "every feature resolves to a source column and transform digest",
        ),
        Check(
            "data.representative",
            "data",
            representative,
            {
                "maximum_move": Param(float, 0.1, "largest total variation distance that passes", 0, 1),
                "minimum_ratio": Param(
                    float, 0.5, "a label's share must be this part of the population's", 0, 1
                ),
            },
            ("release",),
            "share",
            "AI Act Art. 10(3)",
            ("development",),
            "the development sample has the population's shares",
        ),
    ]
)
