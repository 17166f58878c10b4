"""A scorecard whose weights were found on ciphertexts: bins and weights of evidence in the clear, at their owner.

The owner bins the columns and replaces each value by its bin's weight of evidence (Siddiqi, Intelligent Credit
Scoring, 2017), so a feature is one encrypted column. The trained coefficients come back as ordinary points per bin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import ModelError
from fiduciary.joint.he._training import EncryptedLogisticRegression, TrainingReport
from fiduciary.models import BinningOptions, Contract, Scorecard
from fiduciary.models._binning import make_bins, raw_bins
from fiduciary.models._scorecard import ScorecardFile
from fiduciary.models._scorecard_training import _bins

F64 = NDArray[np.float64]
UNCLIPPED = 1e6
HALF = 0.5
"""Added to both counts of a bin, so that a bin without events has a finite weight of evidence."""


class EncryptedScorecard:
    """Trains a scorecard of one owner on a machine that sees ciphertexts only; parameters as in the regression."""

    def __init__(
        self,
        *,
        max_iter: int = 6,
        sigmoid_range: float = 8.0,
        steps_per_bootstrap: int = 0,
        binning: BinningOptions | None = None,
        python: Path | str = "python3.10",
    ) -> None:
        self.binning = binning or BinningOptions()
        self.regression = EncryptedLogisticRegression(
            max_iter=max_iter,
            sigmoid_range=sigmoid_range,
            clip=UNCLIPPED,
            steps_per_bootstrap=steps_per_bootstrap,
            python=python,
        )

    def fit(
        self, rows: F64, events: F64, contract: Contract, *, on_progress: Callable[[str], None] | None = None
    ) -> Scorecard:
        """Train on rows (n, features) that passed the contract and events (n,) of 0 and 1.

        Raises `ModelError` when no feature tells anything, `JointError` when the job fails or leaves its interval.
        """
        events = np.asarray(events, np.float64)
        cuts = [make_bins(f, rows[:, j], events, self.binning) for j, f in enumerate(contract.features)]
        fitted = [cut.groups[raw_bins(cut, rows[:, j])] for j, cut in enumerate(cuts)]
        evidence = [_evidence(bins, events, cut.labels) for bins, cut in zip(fitted, cuts, strict=True)]
        columns = np.column_stack([e[b] for e, b in zip(evidence, fitted, strict=True)])
        if not columns.std(axis=0).any():
            raise ModelError("no feature tells anything about the target")
        regression = self.regression.fit(columns, events, on_progress=on_progress)
        whitening, weights = (
            next(iter(regression.whitenings_.values())),
            next(iter(regression.weights_.values())),
        )
        standard = whitening.mixing @ weights
        slopes = standard[:-1] / whitening.scales
        warnings: list[str] = []
        parts = zip(cuts, slopes.tolist(), evidence, fitted, strict=True)
        bins = [_bins(cut, slope * e, bin_of, warnings) for cut, slope, e, bin_of in parts]
        intercept = float(standard[-1] - slopes @ whitening.means)
        return Scorecard(ScorecardFile(intercept=intercept, features=bins), contract)

    @property
    def report_(self) -> TrainingReport:
        """How the encrypted job went."""
        return self.regression.report_

    def provenance(self) -> Mapping[str, Any]:
        """What a release says of its training: engine, sizes, iterations, what was revealed to whom."""
        report = self.report_
        return {
            "training": "encrypted",
            "protocol": f"CKKS ({report.engine}), ring {report.ring}, 128-bit security",
            "rows": report.rows,
            "columns": report.columns,
            "iterations": report.iterations,
            "bootstraps": report.bootstraps,
            "revealed": report.revealed,
        }


def _evidence(bins: NDArray[np.int64], events: F64, labels: int) -> F64:
    bad = np.bincount(bins, weights=events, minlength=labels) + HALF
    good = np.bincount(bins, weights=1.0 - events, minlength=labels) + HALF
    found: F64 = np.log(bad / good) - np.log(bad.sum() / good.sum())
    return found
