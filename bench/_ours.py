"""Our own server, set up as a bank would: parties, a use case, a signed and approved release, a token.

The cut-offs let four in five of the sent rows be approved, one in ten go to a person and one in ten be declined,
so that "reasons when adverse" means what it would mean in a portfolio.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import _model
import numpy as np

if TYPE_CHECKING:
    from fiduciary.models import Contract

APPROVED, NOT_DECLINED = 0.8, 0.9
"""Shares of the sent rows below the two cut-offs."""
USE_CASE = "consumer-credit"


class Variant(NamedTuple):
    """One way to serve."""

    name: str
    does: str
    family: Literal["lightgbm", "scorecard"] = "lightgbm"
    reasons: Literal["always", "adverse"] = "always"
    workers: int = 1
    door: Literal["native", "v2"] = "native"


VARIANTS = [
    Variant("ours", "score, reasons, record"),
    Variant("ours-v2", "score, reasons, record", door="v2"),
    Variant("ours-adverse", "score, reasons if adverse, record", reasons="adverse"),
    Variant("ours-scorecard", "points, reasons, record", family="scorecard"),
    Variant("ours-2-workers", "score, reasons, record", workers=2),
]


class Home(NamedTuple):
    """A home ready to serve."""

    folder: Path
    bodies: list[bytes]
    headers: Mapping[str, str]
    expected: np.ndarray
    score: Callable[[bytes], float]
    path: str

    def command(self, port: int, workers: int) -> list[str]:
        """How it is served, from the command line as anybody would."""
        program = str(Path(sys.executable).parent / "fiduciary")
        return [program, "--home", str(self.folder), "serve", "--port", str(port), "--workers", str(workers)]

    def audit(self, answered: int, hung_up: int) -> dict[str, Any]:
        """Check the whole ledger, and that it holds every answer that was given.

        `answered`: what the clients counted. `hung_up`: most requests that were under way when wrk stopped: they
        may have been decided and recorded with nobody left to hear it.
        """
        from fiduciary.config import Settings
        from fiduciary.ledger import Ledger

        with Ledger.open(Settings.load(self.folder), writable=False) as ledger:
            shards = [name for name in ledger.logs() if name.startswith("gate-")]
            recorded = sum(ledger.checkpoint(name).size for name in shards)
            problems = ledger.verify().every_problem()
        if not answered <= recorded <= answered + hung_up:
            problems.append(f"{answered} answers were given (and {hung_up} cut off), {recorded} are recorded")
        says = f"{answered:,} answers given, {recorded:,} decisions on {len(shards)} verified ledger shard(s)"
        return {"answered": answered, "recorded": recorded, "problems": problems, "says": says}


def make_home(folder: Path, work: _model.Workload, variant: Variant) -> Home:
    """A new home in `folder` with one live release and a token for the application that will ask."""
    from fiduciary.config import FILE_NAME, Settings
    from fiduciary.identity import LocalIssuer, PartyKey, install_default_policies
    from fiduciary.ledger import Ledger
    from fiduciary.models import Contract, Feature, load_scorer, probability
    from fiduciary.registry import Registry, UseCase, build, import_model

    home = folder / "home"
    home.mkdir(parents=True)
    ranges = zip(work.names, work.population.min(axis=0), work.population.max(axis=0), strict=True)
    contract = Contract(
        features=tuple(
            Feature(
                name=name, type="number", minimum=float(low), maximum=float(high), reason=f"{name} is unusual"
            )
            for name, low, high in ranges
        )
    )
    source = work.model if variant.family == "lightgbm" else _scorecard(folder / "card", work, contract)
    model = import_model(source, contract, folder / "model").folder
    scorer = load_scorer(model, contract)
    expected = (
        work.scores if variant.family == "lightgbm" else probability(scorer.score(work.rows), scorer.link)
    )
    approve, decline = np.quantile(expected, [APPROVED, NOT_DECLINED])
    use_case = UseCase(
        name=USE_CASE,
        purpose="decide on applications for consumer credit",
        approve_below=float(approve),
        decline_from=float(decline),
        reasons=variant.reasons,
        department="retail",
        region="eu",
        reviewers=["underwriting"],
    )

    issuer = LocalIssuer.create(home)
    (home / FILE_NAME).write_text(
        f'tenant = "bench"\nregion = "eu"\n[[auth.issuers]]\nissuer = "{issuer.issuer}"\n'
        f'jwks_file = "{issuer.jwks_path}"\n'
    )
    install_default_policies(home / "policies")
    settings = Settings.load(home)
    officer, developer, validator, operator = (PartyKey.generate() for _ in range(4))
    with Ledger.create(settings) as ledger:
        registry = Registry(ledger, settings)
        people = {"officer": officer, "developer": developer, "validator": validator, "operator": operator}
        for role, key in people.items():
            registry.enrol_party(role, key.public, [role], by="officer", key=officer)
        registry.define_use_case(use_case, by="officer", key=officer)
        bundle = build(
            folder / "bundles", model, contract, use_case, work.population, name="bench", version="1"
        )
        digest = registry.propose(bundle, by="developer", key=developer)
        results = registry.check(digest, by="validator", key=validator)
        if failed := [r for r in results if not r["ok"] and r.get("severity") != "warn"]:
            raise RuntimeError(f"the benchmark's release does not pass its checks: {failed}")
        registry.approve(digest, by="validator", key=validator, note="synthetic, for the benchmark")
        registry.promote(digest, by="operator", key=operator)
    token = issuer.issue(
        "loan-desk", ["application"], department="retail", region="eu", kind="service", lifetime_s=6 * 3600
    )
    native = variant.door == "native"
    return Home(
        folder=home,
        path="/v1/decisions" if native else f"/v2/models/{USE_CASE}/infer",
        bodies=[
            _native_body(i, row, work.names) if native else _v2_body(i, row)
            for i, row in enumerate(work.rows)
        ],
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        expected=expected,
        score=lambda answer: _score(answer, native=native, explained=variant.reasons == "always"),
    )


def _scorecard(folder: Path, work: _model.Workload, contract: Contract) -> Path:
    """The same population as a scorecard: what most lending decisions are made with today."""
    from fiduciary.models import train_scorecard

    shutil.rmtree(folder, ignore_errors=True)
    card, _ = train_scorecard(work.population, work.labels.astype(np.float64), contract)
    card.save(folder)
    return folder


def _native_body(number: int, row: np.ndarray, names: list[str]) -> bytes:
    features = dict(zip(names, row.tolist(), strict=True))
    question = {"use_case": USE_CASE, "subject": f"applicant-{number}", "features": features}
    return json.dumps(question, separators=(",", ":")).encode()


def _v2_body(number: int, row: np.ndarray) -> bytes:
    """What MLServer and KServe are sent, and who it is about."""
    question = {"parameters": {"subject": f"applicant-{number}"}, **json.loads(_model.v2_body(row))}
    return json.dumps(question, separators=(",", ":")).encode()


def _score(answer: bytes, *, native: bool, explained: bool) -> float:
    """The score, once it is sure that the answer is governed: an outcome, its place on the ledger, its reasons."""
    said = json.loads(answer)
    if not native:
        tensors = {tensor["name"]: tensor["data"] for tensor in said["outputs"]}
        one = {name: tensors[name][0] for name in ("score", "outcome")}
        said = {**one, "id": tensors["record"][0], "reasons": tensors["reasons"]}
    adverse = said["outcome"] in ("refer", "decline")
    if said["outcome"] not in ("approve", "refer", "decline") or not said["id"]:
        raise RuntimeError(f"not a governed answer: {answer[:200]!r}")
    if bool(said["reasons"]) != (explained or adverse):
        raise RuntimeError(f"reasons are missing, or given where none were asked for: {answer[:200]!r}")
    return float(said["score"])
