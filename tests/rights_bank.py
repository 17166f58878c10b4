"""A bank with a live scorecard, a clock that tests set, and decisions about two people."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bank import OFFICER, USE_CASE, Bank, contract, scorecard
from fiduciary.decision import Decider, DecisionRecord, encode_record
from fiduciary.ledger import Entry, Kind, Ledger
from fiduciary.models import Contract
from fiduciary.registry import Registry, build
from fiduciary.rights import Desk

ANN, BOB = "ann-miller-1975", "bob-<b>{creditor}</b>"
ROW = {"utilisation": 0.8, "late_payments": 4, "housing": "renter"}
GOOD = {"utilisation": 0.1, "late_payments": 0, "housing": "owner"}
ATTRIBUTES = {
    "creditor": "Acme Bank",
    "creditor_address": "1 Main Street, Springfield",
    "creditor_contact": "800-555-0100",
    "supervisor": "the Supervisor, 2 High Street",
}


def people_contract() -> Contract:
    """The bank's contract with what a person can change, names for people, and a bureau."""
    plain = contract()
    more: dict[str, dict[str, Any]] = {
        "utilisation": {"mutable": True, "description": "share of available credit in use"},
        "late_payments": {
            "description": "late payments",
            "origin": "bureau: Example Bureau, 9 Side St, 800-555-0199",
        },
        "housing": {"description": "housing"},
    }
    return msgspec.structs.replace(
        plain, features=tuple(msgspec.structs.replace(f, **more[f.name]) for f in plain.features)
    )


class RightsBank(Bank):
    """Live for a use case with a route to contest, an overseer and what letters need."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.use_case = msgspec.structs.replace(
            USE_CASE, contest_route="review@acme.example", oversight_person="hana", attributes=ATTRIBUTES
        )
        self.registry.define_use_case(self.use_case, by=OFFICER, key=self.keys[OFFICER])
        self.enrol("hana", "validator")
        self.desk = Desk(self.ledger, self.registry)
        self.now: int | None = None
        model = folder / "model"
        scorecard().save(model)
        from bank import rows

        bundle = build(
            folder / "built",
            model,
            people_contract(),
            self.use_case,
            rows(),
            name="credit-scorecard",
            version="1.0.0",
            provenance={"data": "sha256:" + "0" * 64},
        )
        self.release = self.registry.propose(bundle, by="ada", key=self.keys["ada"])
        self.registry.check(self.release, by="ada", key=self.keys["ada"])
        self.registry.approve(self.release, by="grace", key=self.keys["grace"], note="holds")
        self.registry.promote(self.release, by="otto", key=self.keys["otto"])
        self.decider = Decider(self.registry.load_live(self.use_case.name), self.use_case)

    def copied(self, folder: Path) -> RightsBank:
        """Another bank as this one was when its ledger was closed."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        made = RightsBank.__new__(RightsBank)
        made.__dict__.update(self.__dict__, folder=folder, keys=dict(self.keys))
        made.settings = msgspec.structs.replace(self.settings, home=folder / "home")
        made.ledger = Ledger.open(made.settings)
        made.registry = Registry(made.ledger, made.settings)
        made.desk = Desk(made.ledger, made.registry)
        return made

    def decide(
        self, subject: str, row: dict[str, Any] = ROW, retention: str = "standard", **more: Any
    ) -> str:
        values = np.array([self.decider.release.compiled.encode(row)])
        verdict = self.decider.explain(values)[0]
        record = DecisionRecord(
            version=1,
            outcome=verdict.outcome,
            use_case=self.use_case.name,
            release=self.release,
            subject=subject,
            caller="svc-loans",
            features=msgspec.Raw(json.dumps(row).encode()),
            score=verdict.score,
            margin=verdict.margin,
            baseline=verdict.baseline,
            rules=self.use_case.digest,
            **{"reasons": verdict.reasons, "explained": True, **more},
        )
        pseudonym = self.ledger.vault.pseudonym(subject)
        digests = bytes.fromhex(self.release[7:]), bytes.fromhex(self.use_case.digest[7:])
        entry = Entry(
            Kind.DECISION,
            encode_record(record),
            pseudonym,
            digests[0],
            self.use_case.name,
            digests[1],
            retention,
        )
        shard = self.ledger.shard("gate-0")
        receipt = shard.append(entry).result()
        shard.publish()
        return receipt.id


def forms(text: str) -> list[bytes]:
    """A text as it may lie in a file."""
    raw = text.encode()
    shifted = [base64.b64encode(b"x" * k + raw)[4:-4] for k in range(3)]
    return [
        raw,
        text.encode("utf-16-le"),
        text.encode("utf-16-be"),
        raw.hex().encode(),
        raw.hex().upper().encode(),
        base64.b64encode(raw).rstrip(b"=")[:-1],
        base64.urlsafe_b64encode(raw).rstrip(b"=")[:-1],
        *shifted,
    ]


def traces(home: Path, texts: list[str]) -> list[str]:
    found = []
    for path in sorted(p for p in home.rglob("*") if p.is_file()):
        data = path.read_bytes().rstrip(b"\0") + b"\0"  # segments are preallocated
        found += [
            f"{path.name}: {text}" for text in texts for form in forms(text) if len(form) > 5 and form in data
        ]
    return found
