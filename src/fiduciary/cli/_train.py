"""`fiduciary train`: a model from a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fiduciary.cli._output import Output

if TYPE_CHECKING:
    from fiduciary.models import TrainingReport


QUANTILES = (0.05, 0.25, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
"""Of the held-out scores, to choose cut-offs from."""


@click.group()
def train() -> None:
    """Train a model on a table."""


def _inputs(function: Any) -> Any:
    for decorate in (
        click.argument("data", type=click.Path(path_type=Path)),
        click.option("--target", required=True, help="Column that holds the outcome."),
        click.option("--positive", default=None, help="The target's value that is the event (if not 0/1)."),
        click.option(
            "--contract", type=click.Path(path_type=Path), help="Feature contract; else one is drafted."
        ),
        click.option(
            "--include", multiple=True, help="Keep a column that a draft would leave out. May repeat."
        ),
        click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make."),
    )[::-1]:
        function = decorate(function)
    return function


@train.command()
@_inputs
@click.option("--bins", default=20, show_default=True, help="Most bins per number.")
@click.option("--penalty", default=10.0, show_default=True, help="L2 penalty on bin weights.")
@click.pass_obj
def scorecard(
    output: Output,
    data: Path,
    target: str,
    positive: str | None,
    contract: Path | None,
    include: tuple[str, ...],
    out: Path,
    bins: int,
    penalty: float,
) -> None:
    """Train a points scorecard on DATA (CSV or Parquet)."""
    from fiduciary.models import BinningOptions, ScorecardOptions
    from fiduciary.models import train_scorecard as fit

    options = ScorecardOptions(binning=BinningOptions(bins=bins), penalty=penalty)
    table = _Table(output, data, target, positive, contract, include)
    with output.progress() as progress:
        task = progress.add_task("training", total=None)

        def tell(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total)

        card, report = fit(*table.train, table.contract, options, validation=table.validation, progress=tell)
    card.save(out / "model")
    lines = ["feature,bin,weight,points"]
    lines += [f'"{row.feature}","{row.bin}",{row.weight!r},{row.points:.2f}' for row in card.points_table()]
    (out / "points.csv").write_text("\n".join(lines) + "\n")
    table.finish(out, "scorecard", card.score(table.test[0]), report)


@train.command()
@_inputs
@click.option("--rounds", default=500, show_default=True, help="Most boosting rounds.")
@click.option(
    "--depth", default=6, show_default=True, help="Deepest tree (up to 8 have the fast exact reasons)."
)
@click.pass_obj
def lightgbm(
    output: Output,
    data: Path,
    target: str,
    positive: str | None,
    contract: Path | None,
    include: tuple[str, ...],
    out: Path,
    rounds: int,
    depth: int,
) -> None:
    """Train a LightGBM model on DATA, with the contract's monotone directions."""
    from fiduciary.models import load_scorer, train_lightgbm

    table = _Table(output, data, target, positive, contract, include)
    train_lightgbm(
        *table.train, table.contract, out / "model", validation=table.validation, rounds=rounds, depth=depth
    )
    table.finish(out, "lightgbm", load_scorer(out / "model", table.contract).score(table.test[0]), None)


class _Table:
    """A table split 60/20/20 by a hash of the row number, under a contract."""

    def __init__(
        self,
        output: Output,
        data: Path,
        target: str,
        positive: str | None,
        contract: Path | None,
        include: tuple[str, ...],
    ) -> None:
        from fiduciary.models import Contract, events_of, infer_contract, read_table, split_rows

        terms = Contract.load(contract) if contract else None
        columns = read_table(data, terms)
        if terms is None:
            draft = infer_contract(columns, target, include=include)
            terms = draft.contract
            for name, why in draft.left_out.items():
                output.say(f"left out: {name} ({why})")
        self.output, self.data, self.target, self.contract = output, data, target, terms
        if target not in columns:
            from fiduciary.errors import UsageError

            raise UsageError(f"there is no column {target!r} in {data.name}; there are {', '.join(columns)}")
        rows = terms.compile().table(columns, ignore_unknown=True)
        events = events_of(columns[target], positive)
        parts = split_rows(data.stem, len(rows))
        self.train, self.validation, self.test = [(rows[part], events[part]) for part in parts]

    def finish(self, out: Path, family: str, margins: Any, report: TrainingReport | None) -> None:
        """Write contract and training report, and say how good it is."""
        import msgspec
        import numpy as np

        from fiduciary.models import auc_error, probability, quality
        from fiduciary.registry import digest_text

        out.mkdir(parents=True, exist_ok=True)
        (out / "contract.json").write_bytes(self.contract.to_json())
        found = quality(margins, self.test[1])
        scores = np.sort(probability(margins, "logit"))
        error = auc_error(found.auc, self.test[1])
        summary = {
            "family": family,
            "data": {"file": self.data.name, "sha256": digest_text(self.data.read_bytes())},
            "target": self.target,
            "split": "60/20/20 by SHA-256 of the row number",
            "rows": {
                "train": len(self.train[1]),
                "validation": len(self.validation[1]),
                "test": len(self.test[1]),
            },
            "test": msgspec.to_builtins(found),
            "score_quantiles": {str(q): float(scores[int(q * (len(scores) - 1))]) for q in QUANTILES},
        }
        (out / "training.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"
        )
        if report is not None:
            (out / "report.json").write_bytes(
                msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
            )
        self.output.result(
            {**summary, "auc_standard_error": error, "folder": str(out)},
            f"{family} on {self.data.name}: test AUC {found.auc:.4f} (standard error {error:.4f}), "
            f"KS {found.ks:.3f}, {len(self.test[1])} rows held out\n"
            f"written to {out}; next: fiduciary release build {out} ...",
        )
        for warning in report.warnings if report else []:
            self.output.say(f"note: {warning}")
