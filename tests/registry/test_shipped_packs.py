"""Every shipped pack can be put in force, resolved and obeyed; the whole shelf at once fits on the control log."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from bank import OFFICER, USE_CASE, Bank
from fiduciary.decision import duties_of
from fiduciary.errors import NotServableError
from fiduciary.ledger import Ledger
from fiduciary.registry import Registry, canonical, digest_text
from fiduciary.rules import shipped_packs

PACKS = shipped_packs()


def test_all_shipped_packs_at_once(bank: Bank) -> None:
    for pack in PACKS:
        bank.registry.adopt_pack(pack.document, by=OFFICER, key=bank.keys[OFFICER])
        adopted = bank.registry.states().packs[pack.pack]
        assert adopted.digest == pack.digest == digest_text(canonical(pack.document))
    use_case = msgspec.structs.replace(USE_CASE, packs=[p.pack for p in PACKS], subject="natural_person")
    bank.registry.define_use_case(use_case, by=OFFICER, key=bank.keys[OFFICER])
    book = bank.registry.announce(use_case.name, by="gate-0")
    assert bank.registry.announce(use_case.name, by="gate-1") == book, "once"
    assert len(book.in_force) > 50 and duties_of(book).referral == "gdpr-22"
    event = next(e for e in bank.events() if e["event"] == "rules.resolved")
    assert len(canonical(event)) < bank.settings.ledger.max_payload_bytes / 4


def test_a_use_case_under_a_pack_that_nobody_adopted_has_no_rulebook(bank: Bank) -> None:
    use_case = msgspec.structs.replace(USE_CASE, packs=["eu-credit"])
    bank.registry.define_use_case(use_case, by=OFFICER, key=bank.keys[OFFICER])
    with pytest.raises(NotServableError, match="'eu-credit', which is not in force here"):
        bank.registry.announce(use_case.name, by="gate-0")


@pytest.mark.parametrize("name", [p.pack for p in PACKS])
def test_each_shipped_pack_by_itself(bank: Bank, name: str) -> None:
    pack = next(p for p in PACKS if p.pack == name)
    bank.registry.adopt_pack(pack.document, by=OFFICER, key=bank.keys[OFFICER])
    bank.registry.define_use_case(
        msgspec.structs.replace(USE_CASE, packs=[name], jurisdictions=[]), by=OFFICER, key=bank.keys[OFFICER]
    )
    duties_of(bank.registry.announce(USE_CASE.name, by="gate-0"))


def test_two_processes_that_resolve_at_once_announce_once(bank: Bank) -> None:
    pack = next(p for p in PACKS if p.pack == "gdpr")
    bank.registry.adopt_pack(pack.document, by=OFFICER, key=bank.keys[OFFICER])
    use_case = msgspec.structs.replace(USE_CASE, packs=["gdpr"])
    bank.registry.define_use_case(use_case, by=OFFICER, key=bank.keys[OFFICER])
    with Ledger.open(bank.settings) as other, ThreadPoolExecutor(4) as threads:
        registries = [bank.registry, Registry(other, bank.settings)] * 4
        digests = {b.digest for b in threads.map(lambda r: r.announce(use_case.name, by="gate"), registries)}
    assert len(digests) == 1
    assert [e["event"] for e in bank.events()].count("rules.resolved") == 1
