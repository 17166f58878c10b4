"""Every shipped pack can be put in force, resolved and obeyed; the whole shelf at once fits on the control log."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from bank import DEVELOPER, OFFICER, USE_CASE, VALIDATOR, Bank
from fiduciary.decision import duties_of
from fiduciary.errors import NotServableError, ReleaseError
from fiduciary.ledger import Ledger
from fiduciary.registry import Registry, canonical, digest_text
from fiduciary.registry._oversight import BOOK
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


def test_a_rulebook_slipped_into_the_log_lets_no_release_out(bank: Bank) -> None:
    """Whoever can append to the control log announces rules without teeth; the next step resolves them anew."""
    pack = next(p for p in PACKS if p.pack == "gdpr")
    bank.registry.adopt_pack(pack.document, by=OFFICER, key=bank.keys[OFFICER])
    use_case = msgspec.structs.replace(USE_CASE, packs=["gdpr"])
    bank.registry.define_use_case(use_case, by=OFFICER, key=bank.keys[OFFICER])
    digest = bank.proposed()
    true = bank.registry.announce(use_case.name, by="gate-0")
    event = next(e for e in bank.events() if e["event"] == "rules.resolved")
    false = {k: v for k, v in event.items() if k not in ("event", "rulebook")} | {
        "in_force": [],
        "obligations": {},
    }
    false["rulebook"] = digest_text(canonical({name: false.get(name) for name in BOOK}))
    bank.ledger.emit("rules.resolved", false)
    assert bank.registry.states().uses[use_case.name].book.digest == false["rulebook"]
    ada = bank.keys[DEVELOPER]
    bank.registry.check(digest, by=DEVELOPER, key=ada, rulebook=false["rulebook"])
    with pytest.raises(ReleaseError, match="run the checks again"):
        bank.registry.approve(digest, by=VALIDATOR, key=bank.keys[VALIDATOR])
    assert bank.registry.states().uses[use_case.name].book.digest == true.digest
