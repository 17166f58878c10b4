"""A small bank with a past: two shards, two families, a suspension, a roll-back, refusals, an erasure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bank import DEVELOPER, OFFICER, OPERATOR, USE_CASE, VALIDATOR, Bank, contract, rows
from fiduciary.decision import Decider, DecisionRecord, encode_record, refusal_record
from fiduciary.errors import ContractError
from fiduciary.evidence import Scope, cut
from fiduciary.ledger import Entry, Kind
from fiduciary.models import Contract, import_lightgbm
from fiduciary.registry import UseCase, build

LENDING = USE_CASE.name
LIMITS = UseCase(
    name="credit-limits",
    purpose="decide on credit limits",
    approve_below=0.15,
    decline_from=0.4,
    reasons="adverse",
)
ERASED = "customer-7"


class EvidenceBank(Bank):
    """Decisions are made by a `Decider` and written to the shards as the gate writes them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked = 0
        self.deciders: dict[tuple[str, str], Decider] = {}

    def decide(self, use_case: str, log: str, count: int, *, terms: Contract | None = None) -> list[str]:
        """Decide and record `count` rows for customers 0, 1, 2, ...; returns record ids."""
        release = self.registry.load_live(use_case)
        use = self.registry.states().use(use_case)
        decider = self.deciders.setdefault((release.digest, use.digest), Decider(release, use.use_case))
        compiled = (terms or contract()).compile()
        raws = [
            json.dumps({k: v for k, v in compiled.decode_row(row).items() if v is not None}).encode()
            for row in rows(count, seed=self.asked + 1).tolist()
        ]
        verdicts = decider.evaluate(np.array([compiled.decode(raw) for raw in raws]))
        shard = self.ledger.shard(log)
        waiting = []
        for raw, verdict in zip(raws, verdicts, strict=True):
            self.asked += 1
            record = DecisionRecord(
                version=1,
                outcome=verdict.outcome,
                use_case=use_case,
                release=release.digest,
                subject=f"customer-{self.asked % 40}",
                caller="svc-loans",
                features=msgspec.Raw(raw),
                score=verdict.score,
                margin=verdict.margin,
                baseline=verdict.baseline,
                reasons=verdict.reasons,
                explained=verdict.explained,
                rules=use.digest,
            )
            waiting.append(shard.append(self.entry(record)))
        return [future.result().id for future in waiting]

    def entry(self, record: DecisionRecord) -> Entry:
        return Entry(
            Kind.DECISION,
            encode_record(record),
            self.ledger.vault.pseudonym(record.subject),
            bytes.fromhex(record.release[7:]),
            record.use_case,
            bytes.fromhex(record.rules[7:]),
        )

    def refuse(self, use_case: str, log: str, count: int) -> None:
        shard = self.ledger.shard(log)
        for i in range(count):
            subject = f"customer-{i}"
            record = refusal_record(
                ContractError("utilisation is above its maximum", where="/features/utilisation"),
                use_case=use_case,
                subject=subject,
                caller="svc-loans",
            )
            pseudonym = self.ledger.vault.pseudonym(subject)
            shard.append(Entry(Kind.DECISION, encode_record(record), pseudonym, use_case=use_case)).result()

    def release(self, model: Path, terms: Contract, use_case: UseCase, name: str, table: Any) -> str:
        """Take a model all the way to live."""
        folder = build(
            self.folder / "built", model, terms, use_case, table, name=name, version="1", provenance={}
        )
        key = self.keys
        digest = self.registry.propose(folder, by=DEVELOPER, key=key[DEVELOPER])
        self.registry.check(digest, by=DEVELOPER, key=key[DEVELOPER])
        self.registry.approve(digest, by=VALIDATOR, key=key[VALIDATOR], note="challenged, holds")
        self.registry.promote(digest, by=OPERATOR, key=key[OPERATOR])
        return digest

    def trees(self) -> str:
        """A LightGBM release for `credit-limits`, trained on the scorecard's own table."""
        import lightgbm

        self.registry.define_use_case(LIMITS, by=OFFICER, key=self.keys[OFFICER])
        x = rows(2_000, seed=3)
        y = (np.random.default_rng(5).random(len(x)) < 0.05 + 0.5 * x[:, 0] ** 2).astype(float)
        options = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 8, "max_bin": 63}
        booster = lightgbm.train(options, lightgbm.Dataset(x, y, params=options), 12)
        path = self.folder / "trees.txt"
        booster.save_model(str(path))
        terms = contract().__class__(
            features=tuple(msgspec.structs.replace(f, monotone=0) for f in contract().features)
        )
        import_lightgbm(path, terms, self.folder / "trees", x)
        return self.release(self.folder / "trees", terms, LIMITS, "limits", x)


class Past:
    """The bank after its story, and the moments in it."""

    def __init__(self, folder: Path) -> None:
        bank = self.bank = EvidenceBank(folder)
        operator = bank.keys[OPERATOR]
        self.first = bank.live("1.0.0")
        bank.decide(LENDING, "gate-0", 20)
        bank.decide(LENDING, "gate-1", 20)
        self.since = time.time_ns()
        bank.decide(LENDING, "gate-0", 40)
        bank.decide(LENDING, "gate-1", 30)
        bank.ledger.heads()
        self.second = bank.live("2.0.0", 0.4)
        bank.decide(LENDING, "gate-0", 30)
        bank.registry.rollback(LENDING, by=OPERATOR, key=operator, reason="more declined than foreseen")
        bank.decide(LENDING, "gate-1", 30)
        bank.registry.suspend(self.first, by=OPERATOR, key=operator, reason="bureau feed is stale")
        bank.refuse(LENDING, "gate-0", 10)
        bank.registry.resume(self.first, by=OPERATOR, key=operator, reason="feed repaired")
        bank.decide(LENDING, "gate-0", 20)
        self.third = bank.trees()
        bank.decide(LIMITS.name, "gate-1", 30)
        bank.ledger.erase(ERASED, by=OFFICER, reason="request 12")
        self.until = time.time_ns()
        self.after = bank.decide(LENDING, "gate-0", 20) + bank.decide(LENDING, "gate-1", 20)

    def cut(self, folder: Path, scope: Scope | None = None) -> Path:
        cut(self.bank.ledger, self.bank.registry, scope or self.period(), folder, by=OFFICER)
        return folder

    def period(self, use_case: str = LENDING) -> Scope:
        return Scope("use-case", use_case=use_case, since_ns=self.since, until_ns=self.until)


Attack = Callable[[Path], Any]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write_lines(path: Path, documents: Sequence[Any]) -> None:
    text = "".join(json.dumps(d, ensure_ascii=False, separators=(",", ":")) + "\n" for d in documents)
    path.write_text(text, "utf-8")
