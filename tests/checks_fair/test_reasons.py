"""Checks of reasons pass where reasons are true and fail where each kind of wrong is done to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fiduciary.checks import CheckResult, Sample, Subject, run_check
from fiduciary.checks._readability import readability, syllables
from fiduciary.models import (
    Baseline,
    Contract,
    Feature,
    baseline_of,
    infer_contract,
    load_scorer,
    probability,
    read_table,
    split_rows,
    train_lightgbm,
    train_scorecard,
)

CASE = {"approve_below": 0.25, "decline_from": 0.35, "adverse": "high", "reason_count": 4}
TEXTS = {
    "income": "The income is low for the amount asked for",
    "late": "Payments were late in the last year",
    "debt": "The debts are high",
    "years": "The time with the present employer is short",
}


class Linear:
    """margin = bias + weights . x; contributions are the terms."""

    family, link = "linear", "logit"

    def __init__(self, bias: float, *weights: float, broken: float = 0.0) -> None:
        self.bias, self.weights, self.broken = bias, np.array(weights), broken
        self.features = len(weights)

    def score(self, rows: np.ndarray) -> np.ndarray:
        return self.explain(rows)[0]

    def explain(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        terms = rows * self.weights
        margins = np.full(len(rows), self.bias)
        for j in range(self.features):
            margins += terms[:, j]
        return margins + self.broken, terms


def contract(**changes: Any) -> Contract:
    return Contract(
        features=tuple(
            msgspec.structs.replace(Feature(name=name, type="number", reason=text), **changes.get(name, {}))
            for name, text in TEXTS.items()
        )
    )


def subject(n: int = 4_000, scorer: Any = None, **more: Any) -> Subject:
    rng = np.random.default_rng(1)
    scorer = scorer or Linear(-1.2, -0.9, 0.8, 0.6, -0.3)
    rows = rng.normal(size=(n, 4))
    scores = probability(scorer.score(rows), "logit")
    approved = rows[scores < CASE["approve_below"]]
    given: dict[str, Any] = {
        "sample": Sample(rows=rows, names=tuple(TEXTS), scores=scores),
        "scorer": scorer,
        "contract": contract(),
        "baseline": baseline_of(scorer, approved, "approved"),
        "use_case": CASE,
    }
    return Subject(**(given | more))


def check(name: str, about: Subject, **params: Any) -> CheckResult:
    return run_check(f"reasons.{name}", about, params)


def test_true_reasons_pass_everything() -> None:
    about = subject()
    assert check("additive", about).ok is True
    assert check("count", about).ok is True
    assert check("coverage", about).ok is True
    assert check("specific", about).ok is True
    assert check("sufficient", about, minimum=0.95).ok is True  # four of four features: all that there is
    assert check("stable", about, minimum=0.9).ok is True
    assert check("readable", about, minimum=60.0, longest_sentence=12).ok is True


def test_contributions_that_do_not_add_up_are_found() -> None:
    found = check("additive", subject(scorer=Linear(-1.2, -0.9, 0.8, 0.6, -0.3, broken=1e-6)))
    assert found.ok is False and found.value == pytest.approx(1e-6, rel=1e-3)
    good = subject()
    wrong = Baseline(margin=good.baseline.margin + 1e-7, contributions=good.baseline.contributions, rows=9)
    assert check("additive", subject(baseline=wrong)).ok is False


def test_reasons_that_do_not_decide_are_insufficient() -> None:
    """The named features do nothing to the score that is served: only scoring again can show it."""

    class Pretender(Linear):
        def explain(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            margins, terms = super().explain(rows)
            return margins, np.ascontiguousarray(terms[:, ::-1])  # blames the others

    honest = subject()
    pretended = subject(scorer=Pretender(-1.2, -0.9, 0.8, 0.6, -0.3))
    assert check("additive", pretended).ok is True  # sums alone show nothing
    a, b = (check("sufficient", s, count=2).value for s in (honest, pretended))
    assert a is not None and b is not None and b < a - 0.2
    fewer = [check("sufficient", honest, count=k).value for k in (1, 2, 3, 4)]
    assert fewer == sorted(fewer)  # the more is named, the more is explained


def test_sufficiency_of_a_linear_model_equals_its_arithmetic() -> None:
    about = subject()
    approved = about.sample.rows[about.sample.scores < CASE["approve_below"]]
    found = check("sufficient", about, count=2, references=len(approved), rows=100_000)
    # with every approved row put in once, the mean margin is the margin less the named differences, exactly
    assert found.value == pytest.approx(found.numbers["by_contributions"], abs=1e-12)


def test_a_model_that_jumps_is_not_stable() -> None:
    class Jumpy(Linear):
        def explain(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            terms = rows * self.weights
            terms[:, 0] += 3.0 * (np.floor(rows[:, 0] * 1e4) % 2)
            terms[:, 1] += 3.0 * (np.floor(rows[:, 0] * 1e4) % 2 == 0)
            return self.bias + terms.sum(axis=1), terms

    steady, jumpy = (
        check("stable", subject()),
        check("stable", subject(scorer=Jumpy(-1.2, -0.9, 0.8, 0.6, -0.3))),
    )
    assert steady.value is not None and steady.value > 0.97
    assert jumpy.value is not None and jumpy.value < 0.8
    assert check("stable", subject(), scale=0.0).value == 1.0


def test_perturbed_rows_stay_within_the_contract() -> None:
    seen: list[np.ndarray] = []

    class Watching(Linear):
        def explain(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            seen.append(rows.copy())
            return super().explain(rows)

    features = (
        Feature(name="income", type="integer", minimum=0, maximum=3),
        Feature(name="late", type="boolean"),
        Feature(name="debt", type="number", missing="allowed", minimum=-1.0),
        Feature(name="years", type="category", categories=["a", "b"]),
    )
    rng = np.random.default_rng(2)
    n = 500
    debt = np.where(rng.random(n) < 0.2, np.nan, np.abs(rng.normal(size=n)) - 1)
    rows = np.column_stack([rng.integers(0, 4, n), rng.integers(0, 2, n), debt, rng.integers(0, 2, n)])
    scorer = Watching(0.5, 0.1, 0.1, 0.0, 0.1)
    about = Subject(
        sample=Sample(rows=rows, names=tuple(TEXTS), scores=np.full(n, 0.9)), scorer=scorer, use_case=CASE,
        contract=Contract(features=features), baseline=Baseline(margin=0.5, contributions=[0.0] * 4, rows=1),
    )  # fmt: skip
    check("stable", about, scale=1.0)
    moved = seen[-1]
    assert set(np.unique(moved[:, 0])) <= {0.0, 1.0, 2.0, 3.0}
    assert (moved[:, [1, 3]] == rows[:, [1, 3]]).all()
    assert np.isnan(moved[:, 2]).tolist() == np.isnan(debt).tolist() and np.nanmin(moved[:, 2]) >= -1.0
    assert (moved[:, 0] != rows[:, 0]).any()


def test_another_baseline_gives_other_reasons_and_the_share_is_counted() -> None:
    about = subject(20_000)
    found = check("baseline", about, rows=100_000, count=2)
    sample, scorer = about.sample, about.scorer
    declined = sample.rows[sample.scores >= CASE["decline_from"]]
    _, terms = scorer.explain(declined)
    approved = scorer.explain(sample.rows[sample.scores < CASE["approve_below"]])[1].mean(axis=0)
    everyone = scorer.explain(sample.rows)[1].mean(axis=0)
    top = (terms - approved).argmax(axis=1) != (terms - everyone).argmax(axis=1)
    assert found.value == pytest.approx(top.mean(), abs=1e-12) and 0 < found.value < 0.5
    assert found.numbers["another_set"] > 0
    assert found.numbers["largest_gap_to_approved_here"] < 1e-9  # pinned from these very rows
    moved = msgspec.structs.replace(about.baseline, contributions=(approved + np.eye(4)[0]).tolist())
    away = check("baseline", subject(20_000, baseline=moved), count=2)
    assert away.numbers["largest_gap_to_approved_here"] == pytest.approx(1.0, abs=1e-6)


def test_counts_and_coverage_find_a_decision_without_a_reason() -> None:
    about = subject()
    worse = Baseline(margin=50.0, contributions=[20.0] * 4, rows=5)  # nobody is worse than this baseline
    without = subject(baseline=worse)
    assert check("count", without).value == 0.0 and check("count", without).ok is False
    assert check("coverage", without).ok is False
    assert check("count", about, minimum=2, maximum=4).ok in (True, False)
    few = check("count", about, maximum=1)
    assert few.ok is False and few.numbers["by_count"]["1"] == round(few.value * few.numbers["looked_at"])


def test_recorded_contributions_that_give_other_reasons_are_found() -> None:
    about = subject()
    terms = about.scorer.explain(about.sample.rows)[1]
    told = {f: getattr(about.sample, f) for f in ("rows", "names", "scores")}
    same = subject(sample=Sample(**told, contributions=terms))
    assert check("coverage", same).ok is True
    forged = subject(sample=Sample(**told, contributions=terms[:, ::-1].copy()))
    found = check("coverage", forged)
    assert found.ok is False and found.numbers["not_reproduced"] > 0


def test_a_model_whose_bits_depend_on_the_batch_is_not_covered() -> None:
    class Batchy(Linear):
        def explain(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            margins, terms = super().explain(rows)
            return margins, terms + (1e-12 if len(rows) == 1 else 0.0)

    found = check("coverage", subject(scorer=Batchy(-1.2, -0.9, 0.8, 0.6, -0.3)))
    assert found.ok is False


def test_low_scores_can_be_the_bad_ones() -> None:
    scorer = Linear(1.2, 0.9, -0.8, -0.6, 0.3)
    case = {"approve_below": 0.75, "decline_from": 0.65, "adverse": "low", "reason_count": 4}
    mirrored, plain = subject(scorer=scorer, use_case=case), subject()
    approved = mirrored.sample.rows[mirrored.sample.scores > 0.75]
    mirrored = subject(scorer=scorer, use_case=case, baseline=baseline_of(scorer, approved))
    for name in ("count", "stable", "baseline", "sufficient"):
        assert check(name, mirrored).value == pytest.approx(check(name, plain).value, abs=1e-9), name


def test_vague_texts_are_refused_the_packs_own_too() -> None:
    vague = contract(debt={"reason": "Insufficient score"})
    found = check("specific", subject(contract=vague))
    assert found.ok is False and found.numbers["refused"] == {"debt": "names no specific factor"}
    about = subject()
    assert check("specific", about, vague_texts=["the debts are HIGH."]).ok is False
    assert check("specific", about, vague_texts=["the debts"]).ok is True
    silent = contract(late={"reason": ""})
    assert check("specific", subject(contract=silent)).numbers["refused"] == {"late": "has no text"}
    assert check("specific", subject(contract=silent), require_text=False).ok is True
    assert check("specific", about, fewest_words=5).ok is False


def test_what_is_lacking_is_said() -> None:
    about = subject()
    none = msgspec.structs.replace(about, use_case={"adverse": "high"})
    assert "cut-offs" in check("count", none).lacking
    calm = msgspec.structs.replace(about, use_case=CASE | {"decline_from": 2.0})
    assert "adverse decisions" in check("stable", calm).lacking
    other = Sample(rows=about.sample.rows, names=tuple("wxyz"), scores=about.sample.scores)
    assert "columns" in check("coverage", subject(sample=other)).lacking


@pytest.mark.parametrize(
    ("word", "language", "count"),
    [
        ("late", "en", 1), ("payments", "en", 2), ("income", "en", 2), ("table", "en", 2), ("asked", "en", 1),
        ("wanted", "en", 2), ("the", "en", 1), ("customer", "en", 3), ("reason", "en", 2), ("queue", "en", 1),
        ("Zahlung", "de", 2), ("verspätet", "de", 3), ("Einkommen", "de", 3), ("Kreditwürdigkeit", "de", 5),
        ("revenu", "fr", 3), ("faible", "fr", 1), ("retard", "fr", 2), ("paiements", "fr", 2), ("2026", "en", 1),
    ],
)  # fmt: skip
def test_syllables(word: str, language: Any, count: int) -> None:
    assert syllables(word, language) == count


def test_reading_ease_follows_the_published_formulas() -> None:
    english = readability(["The cat sat on the mat."])
    assert english is not None
    assert (english.sentences, english.words, english.syllables) == (1, 6, 6)
    assert english.ease == pytest.approx(206.835 - 1.015 * 6 - 84.6 * 1)  # 116.145, a textbook example
    german = readability(["Die Zahlung kam zu spät."], "de")
    assert german is not None and german.ease == pytest.approx(180 - 5 - 58.5 * 6 / 5)
    french = readability(["Le revenu est bas. Il y a un retard."], "fr")
    assert french is not None and french.ease == pytest.approx(207 - 1.015 * 9 / 2 - 73.6 * 12 / 9)
    assert readability(["", "  ...", "\n"]) is None
    hard = readability(
        ["The institution's creditworthiness determination methodology necessitates declination."]
    )
    assert hard is not None and hard.ease < 0 < english.ease


def test_reasons_of_a_scorecard_and_of_trees_on_real_credit_data(shared_data: Path, tmp_path: Path) -> None:
    columns = read_table(shared_data / "taiwan_default.parquet")
    drafted = infer_contract(columns, "default_next_month").contract
    rows = drafted.compile().table(columns, ignore_unknown=True)
    events = np.asarray(columns["default_next_month"], dtype=float)
    a, b, c = (part[:4_000] for part in split_rows("taiwan_default", len(events)))
    card, _ = train_scorecard(rows[a], events[a], drafted)
    train_lightgbm(rows[a], events[a], drafted, tmp_path, validation=(rows[b], events[b]), rounds=40)
    shares = {}
    for scorer in (card, load_scorer(tmp_path, drafted)):
        scores = probability(scorer.score(rows[c]), "logit")
        about = Subject(
            sample=Sample(rows=rows[c], names=drafted.names, scores=scores, outcomes=events[c] > 0),
            scorer=scorer, contract=drafted, use_case=CASE,
            baseline=baseline_of(scorer, rows[c][scores < CASE["approve_below"]]),
        )  # fmt: skip
        assert check("additive", about).ok is True
        assert check("coverage", about, rows=300).ok is True
        shares[scorer.family] = check("sufficient", about, rows=300).value
        baseline = check("baseline", about, rows=300)
        assert baseline.numbers["another_set"] >= baseline.value
    assert min(shares.values()) > 0.5
