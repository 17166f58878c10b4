"""The check of less discriminatory alternatives: a search, its verdict and its log."""

from __future__ import annotations

import msgspec
import numpy as np

from fiduciary.checks._candidates import LabelledRows
from fiduciary.checks._check import Check, Param, table
from fiduciary.checks._groups import COMMON, cut_offs, decide
from fiduciary.checks._result import CheckResult
from fiduciary.checks._sample import Sample, Subject
from fiduciary.checks._search import MAX_CANDIDATES, SearchOptions, search_alternatives
from fiduciary.errors import UsageError

TRAINABLE = {"scorecard": "scorecard", "additive": "additive", "lightgbm": "lightgbm", "xgboost": "lightgbm"}


def less_discriminatory_alternative(
    subject: Subject,
    *,
    attributes: list[str],
    minimum_rows: int,
    family: str,
    candidates: int,
    seconds: float,
    accuracy_loss: float,
    gain: float,
    slack: float,
    group_aware: bool,
) -> CheckResult:
    """Is there a model about as good that treats groups more alike? Not ok when one is found.

    Found: on the hold-out it loses at most `accuracy_loss` AUC and its ratio of approvals is higher by `gain` or
    more, beyond chance. ok says only that none was found among those tried. The value is the best gain.
    """
    name, development, contract = (
        "fairness.less_discriminatory_alternative",
        subject.development,
        subject.contract,
    )
    assert development is not None and contract is not None
    scorer, sample = subject.scorer, subject.sample
    cuts = cut_offs(subject.use_case)
    if cuts is None:
        return _lacking(name, "a use case with cut-offs")
    if tuple(development.names) != contract.names:
        return _lacking(name, "a development sample whose columns are the contract's")
    part = _part(development, attributes)
    if part is None:
        return _lacking(name, "group labels and outcomes for the development sample")
    approval = float((decide(development.scores, *cuts) == "approve").mean())
    if not 0.0 < approval < 1.0:
        return _lacking(name, "cut-offs that approve some of the development sample and not all")
    chosen = family or TRAINABLE.get(getattr(scorer, "family", ""), "scorecard")
    options = SearchOptions(
        candidates=candidates, seconds=seconds, accuracy_loss=accuracy_loss, slack=slack,
        minimum_rows=minimum_rows, group_aware=group_aware,
    )  # fmt: skip
    hold = (
        _part(sample, list(part.groups))
        if sample is not None and tuple(sample.names) == contract.names
        else None
    )
    try:
        search = search_alternatives(
            part, contract, approval=approval, family=chosen, scorer=scorer, adverse=cuts[2], options=options,
            seed=subject.seed, hold_out=hold,
        )  # fmt: skip
    except UsageError as error:
        return _lacking(name, error.detail)
    change = search.change
    better = bool(change) and change["ratio"] >= gain and change["auc"] >= -accuracy_loss
    sure = bool(change) and (change["ratio_interval"][0] or 0.0) > 0.0
    tried = 1 + len(search.candidates)
    said = f"none found among {tried} candidates"
    if better:
        said = f"{search.best}: ratio {change['ratio']:+.3f} at AUC {change['auc']:+.4f} on the hold-out"
    return CheckResult(
        name=name,
        ok=(False if sure else None) if better else True,
        value=change.get("ratio", 0.0),
        unit="ratio",
        interval=None if not change or None in change["ratio_interval"] else tuple(change["ratio_interval"]),
        threshold=gain,
        detail=said,
        lacking="more hold-out rows: the gain may be chance" if better and not sure else "",
        numbers={
            "family": chosen,
            "approval": approval,
            "rows": search.rows,
            "baseline": msgspec.to_builtins(search.baseline),
            "best": search.best,
            "change": change,
            "frontier": search.frontier,
            "log": search.log,
            "stopped": search.stopped,
            "seed": search.seed,
        },
    )


def _part(sample: Sample, attributes: list[str]) -> LabelledRows | None:
    names = attributes or list(sample.groups)
    if sample.outcomes is None or not names or any(a not in sample.groups for a in names):
        return None
    return LabelledRows(sample.rows, sample.outcomes.astype(np.float64), {a: sample.groups[a] for a in names})


def _lacking(name: str, lacking: str) -> CheckResult:
    return CheckResult(
        name=name, ok=None, unit="ratio", lacking=lacking, detail=f"not judged: {lacking} needed"
    )


CHECKS: dict[str, Check] = table(
    [
        Check(
            name="fairness.less_discriminatory_alternative",
            kind="metric",
            run=less_discriminatory_alternative,
            params={key: COMMON[key] for key in ("attributes", "minimum_rows")}
            | {
                "family": Param(str, "", "what is fitted; empty: as the release's model",
                                choices=("", "scorecard", "additive", "lightgbm")),
                "candidates": Param(int, 40, "most candidates fitted", low=1, high=MAX_CANDIDATES),
                "seconds": Param(float, 600.0, "no candidate is begun after so long", low=1.0, high=86_400.0),
                "accuracy_loss": Param(float, 0.005, "AUC that an alternative may lose", low=0.0, high=1.0),
                "gain": Param(float, 0.02, "smallest gain in the ratio of approvals that counts", low=0.0, high=1.0),
                "slack": Param(float, 0.02, "how far cut-off moves change the share of approvals", low=0.0, high=0.5),
                "group_aware": Param(bool, True, "whether training may use group labels (never as an input)"),
            },
            stages=("release", "evidence"),
            unit="ratio",
            source="N.J.A.C. 13:16 (2025); Gillis, Meursault and Ustun 2024",
            needs=("development", "development.outcomes", "development.groups", "contract", "use_case"),
            summary="Searches for a model about as good that treats groups more alike; keeps the log of all tried.",
            heavy=True,
        )
    ]
)  # fmt: skip
