"""One release of every model family under a use case of its own, and rows that visit every branch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bank import OFFICER, USE_CASE, contract, scorecard
from evidence_bank import EvidenceBank
from fiduciary.decision import Decider, DecisionRecord
from fiduciary.models import Additive, Contract, Feature, load_scorer, probability
from fiduciary.models._additive import AdditiveFile, Axis, Term
from fiduciary.models._linear import Linear, LinearFile
from fiduciary.models._linear import Term as LinearTerm
from fiduciary.registry import UseCase

F64 = NDArray[np.float64]

MIXED = Contract(
    features=tuple(
        msgspec.structs.replace(f, monotone=0)
        if f.name == "housing"
        else msgspec.structs.replace(f, monotone=0, group="history", reason="Credit was used up or paid late")
        for f in contract().features
    )
)
NUMBERS = Contract(
    features=tuple(
        Feature(name=f"f{i}", type="number", minimum=-4, maximum=4, reason=f"Input {i} counted against you")
        for i in range(4)
    )
)


def mixed_rows(n: int, seed: int) -> F64:
    random = np.random.default_rng(seed)
    late = random.integers(0, 13, n).astype(np.float64)
    late[random.random(n) < 0.1] = np.nan
    return np.column_stack([np.round(random.random(n), 3), late, random.integers(0, 2, n)])


def number_rows(n: int, seed: int) -> F64:
    rows = np.random.default_rng(seed).normal(size=(n, 4)).clip(-4, 4)
    return np.asarray(rows.astype(np.float32), np.float64)


def events(rows: F64) -> F64:
    known = np.nan_to_num(rows)
    signal = ((known - known.mean(0)) / known.std(0)).sum(1)
    return (signal > 2 * np.random.default_rng(11).normal(size=len(rows))).astype(np.float64)


def make_scorecard(out: Path) -> None:
    scorecard().save(out)


def make_additive(out: Path) -> None:
    axes = [
        Axis(feature="utilisation", cuts=[0.2, 0.5, 0.8]),
        Axis(feature="late_payments", cuts=[1.0, 3.0]),
        Axis(feature="housing", codes=[1, 2]),
    ]
    terms = [
        Term(axes=[0], scores=[0.0, -0.71, 0.1, 0.43, 1.3]),
        Term(axes=[1], scores=[0.21, -0.3, 0.47, 1.9]),
        Term(axes=[2], scores=[0.0, -0.37, 0.29]),
        Term(axes=[0, 2], columns=3, scores=[round(0.013 * i - 0.07, 3) for i in range(15)]),
    ]
    model = AdditiveFile(link="logit", intercept=-1.2345, axes=axes, terms=terms)
    Additive(model, MIXED).save(out)


def make_linear(out: Path) -> None:
    terms = [
        LinearTerm(name="utilisation", weight=2.3, center=0.41),
        LinearTerm(name="late_payments", weight=0.31, center=1.7, missing=0.13),
        LinearTerm(name="housing", categories=[-0.2, 0.7]),
    ]
    Linear(LinearFile(link="logit", intercept=-0.83, terms=terms), MIXED).save(out)


def make_lightgbm(out: Path) -> None:
    import lightgbm

    from fiduciary.models import import_lightgbm

    x = mixed_rows(2_000, 3)
    options = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 12, "seed": 1}
    data = lightgbm.Dataset(x, events(x), categorical_feature=[2], params=options)
    path = out.with_suffix(".txt")
    lightgbm.train(options, data, 25).save_model(str(path))
    import_lightgbm(path, MIXED, out, x)


def make_xgboost(out: Path) -> None:
    import xgboost

    from fiduciary.models import import_xgboost

    x = mixed_rows(2_000, 4)
    options = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1, "seed": 1}
    path = out.with_suffix(".json")
    xgboost.train(options, xgboost.DMatrix(x, events(x)), 20).save_model(path)
    import_xgboost(path, MIXED, out, x)


def make_onnx(out: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingClassifier

    export(out, GradientBoostingClassifier(n_estimators=12, random_state=1), to_onnx)


def make_net(out: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier

    export(out, MLPClassifier((5,), solver="lbfgs", max_iter=2_000, random_state=1), to_onnx)


def export(out: Path, model: Any, to_onnx: Callable[..., Any]) -> None:
    from fiduciary.models._onnx import import_onnx

    x = number_rows(600, 5)
    model.fit(x, events(x))
    path = out.with_suffix(".onnx")
    options = {"zipmap": False}
    path.write_bytes(to_onnx(model, x[:1].astype(np.float32), options=options).SerializeToString())
    import_onnx(path, NUMBERS, out, x)


FAMILIES: dict[str, tuple[Callable[[Path], None], Contract, Callable[[int, int], F64]]] = {
    "scorecard": (make_scorecard, MIXED, mixed_rows),
    "additive": (make_additive, MIXED, mixed_rows),
    "linear": (make_linear, MIXED, mixed_rows),
    "lightgbm": (make_lightgbm, MIXED, mixed_rows),
    "xgboost": (make_xgboost, MIXED, mixed_rows),
    "onnx-trees": (make_onnx, NUMBERS, number_rows),
    "onnx-net": (make_net, NUMBERS, number_rows),
}
CHUNK = 4_000


class EveryFamily(EvidenceBank):
    """A bank with a live release of every family."""

    def __init__(self, folder: Path, families: list[str]) -> None:
        super().__init__(folder)
        self.decided: dict[str, Decider] = {}
        for number, name in enumerate(families):
            make, terms, table = FAMILIES[name]
            model = folder / f"model-{name}"
            make(model)
            scorer = load_scorer(model, terms)
            rows = table(500, 1)
            scores = np.asarray(probability(scorer.score(rows), scorer.link))
            use_case = UseCase(
                name=name,
                purpose=f"decide with a {name} model",
                approve_below=float(np.quantile(scores, 0.5)),
                decline_from=float(np.quantile(scores, 0.8)),
                reasons="adverse" if number % 2 else "always",
                reason_count=USE_CASE.reason_count,
            )
            self.registry.define_use_case(use_case, by=OFFICER, key=self.keys[OFFICER])
            digest = self.release(model, terms, use_case, name, rows)
            self.decided[name] = Decider(self.registry.load(digest), use_case)

    def record(self, name: str, count: int) -> int:
        """Decide `count` rows in batches and record them; returns outcomes seen. Reasons must add up."""
        _, terms, table = FAMILIES[name]
        decider, compiled = self.decided[name], terms.compile()
        release, shard = decider.release, self.ledger.shard("gate-0")
        seen: set[str] = set()
        for start in range(0, count, CHUNK):
            some = table(min(CHUNK, count - start), 1_000 + start)
            raws = [
                json.dumps({k: v for k, v in compiled.decode_row(row).items() if v is not None}).encode()
                for row in some.tolist()
            ]
            rows = np.array([compiled.decode(raw) for raw in raws])
            margins, contributions = release.scorer.explain(rows)
            sums = release.plan.breakdown(contributions).sum(1)
            assert np.abs(sums - (margins - release.baseline.margin)).max() < 1e-9, name
            waiting = []
            for i, (raw, verdict) in enumerate(zip(raws, decider.evaluate(rows), strict=True)):
                seen.add(verdict.outcome)
                record = DecisionRecord(
                    version=1,
                    outcome=verdict.outcome,
                    use_case=name,
                    release=release.digest,
                    subject=f"customer-{i % 97}",
                    features=msgspec.Raw(raw),
                    score=verdict.score,
                    margin=verdict.margin,
                    baseline=verdict.baseline,
                    reasons=verdict.reasons,
                    explained=verdict.explained,
                    rules=decider.use_case.digest,
                )
                waiting.append(shard.append(self.entry(record)))
            for future in waiting:
                future.result()
        return len(seen)
