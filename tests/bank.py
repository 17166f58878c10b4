"""A small bank for tests: a home with an officer, a developer, a validator and an operator, and a scorecard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fiduciary.config import Settings
from fiduciary.identity import PartyKey
from fiduciary.ledger import Ledger
from fiduciary.models import Contract, Feature, Scorecard
from fiduciary.models._scorecard import Bins, ScorecardFile
from fiduciary.registry import Registry, UseCase, build

F64 = NDArray[np.float64]

OFFICER, DEVELOPER, VALIDATOR, OPERATOR = "olga", "ada", "grace", "otto"
ROLES = {OFFICER: "officer", DEVELOPER: "developer", VALIDATOR: "validator", OPERATOR: "operator"}
USE_CASE = UseCase(
    name="consumer-credit",
    purpose="decide on consumer loans up to 50,000 euro",
    jurisdictions=["EU"],
    approve_below=0.10,
    decline_from=0.30,
)


def contract() -> Contract:
    return Contract(
        features=(
            Feature(
                name="utilisation",
                type="number",
                minimum=0,
                maximum=1,
                monotone=1,
                reason="Much of the available credit is used",
            ),
            Feature(
                name="late_payments",
                type="integer",
                minimum=0,
                maximum=12,
                monotone=1,
                missing="allowed",
                reason="Payments were late in the last year",
            ),
            Feature(
                name="housing",
                type="category",
                categories=["owner", "renter"],
                reason="The housing situation is less stable",
            ),
        )
    )


def scorecard(shift: float = 0.0) -> Scorecard:
    card = ScorecardFile(
        intercept=-3.0 + shift,
        features=[
            Bins(name="utilisation", kind="number", edges=[0.3, 0.6], weights=[-0.4, 0.3, 1.1]),
            Bins(
                name="late_payments", kind="number", edges=[1.0, 3.0], weights=[-0.2, 0.9, 2.0], missing=0.5
            ),
            Bins(name="housing", kind="category", categories=["owner", "renter"], weights=[-0.3, 0.2]),
        ],
    )
    return Scorecard(card, contract())


def rows(n: int = 2_000, seed: int = 7) -> F64:
    rng = np.random.default_rng(seed)
    late = rng.poisson(0.6, n).clip(0, 12).astype(np.float64)
    late[rng.random(n) < 0.05] = np.nan
    return np.column_stack([np.round(rng.beta(1.5, 3, n), 3), late, rng.integers(0, 2, n)])


class Bank:
    """A home under `folder` with its four people enrolled and the use case defined."""

    def __init__(self, folder: Path, *, tenant: str = "acme", enrol: bool = True) -> None:
        self.settings = Settings(home=folder / "home", tenant=tenant, region="eu")
        self.folder = folder
        self.ledger = Ledger.create(self.settings)
        self.registry = Registry(self.ledger, self.settings)
        self.keys = {name: PartyKey.generate() for name in ROLES}
        if enrol:
            for name, role in ROLES.items():
                self.enrol(name, role)
            self.registry.define_use_case(USE_CASE, by=OFFICER, key=self.keys[OFFICER])

    def enrol(self, name: str, *roles: str, by: str = OFFICER, kind: str = "person") -> None:
        key = self.keys.setdefault(name, PartyKey.generate())
        self.registry.enrol_party(name, key.public, roles, by=by, key=self.keys[by], kind=kind)

    def key(self, name: str) -> PartyKey:
        return self.keys[name]

    def bundle(self, version: str = "1.0.0", shift: float = 0.0, use_case: UseCase = USE_CASE) -> Path:
        """A built bundle, not yet signed or proposed."""
        model = self.folder / f"model-{version}"
        scorecard(shift).save(model)
        return build(
            self.folder / "built",
            model,
            contract(),
            use_case,
            rows(),
            name="credit-scorecard",
            version=version,
            provenance={"data": "sha256:" + "0" * 64},
        )

    def proposed(self, version: str = "1.0.0", shift: float = 0.0) -> str:
        return self.registry.propose(self.bundle(version, shift), by=DEVELOPER, key=self.keys[DEVELOPER])

    def checked(self, version: str = "1.0.0", shift: float = 0.0) -> str:
        digest = self.proposed(version, shift)
        self.registry.check(digest, by=DEVELOPER, key=self.keys[DEVELOPER])
        return digest

    def approved(self, version: str = "1.0.0", shift: float = 0.0) -> str:
        digest = self.checked(version, shift)
        self.registry.approve(digest, by=VALIDATOR, key=self.keys[VALIDATOR], note="challenged, holds")
        return digest

    def live(self, version: str = "1.0.0", shift: float = 0.0) -> str:
        digest = self.approved(version, shift)
        self.registry.promote(digest, by=OPERATOR, key=self.keys[OPERATOR])
        return digest

    def events(self) -> list[dict[str, object]]:
        return [payload for _, _, payload in self.ledger.events()]
