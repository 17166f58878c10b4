"""The registry over a real ledger: the life of a release, refusals on record, and two processes at once."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from bank import DEVELOPER, OFFICER, OPERATOR, USE_CASE, VALIDATOR, Bank, rows
from fiduciary.errors import NotFoundError, NotServableError, ReleaseError, UsageError
from fiduciary.identity import PartyKey, Principal
from fiduciary.ledger import Ledger
from fiduciary.registry import Registry, sign_statement

USE = USE_CASE.name


def test_from_proposal_to_service(bank: Bank) -> None:
    registry = bank.registry
    digest = bank.live()
    loaded = registry.load_live(USE)
    assert loaded.digest == digest == registry.live(USE)
    assert loaded is registry.load(digest)
    assert loaded.baseline.rows > 1_000
    margins, contributions = loaded.scorer.explain(rows(50))
    np.testing.assert_allclose(contributions.sum(axis=1) + loaded.scorer.bias, margins, atol=1e-12)
    assert registry.states().anomalies == []


def test_the_use_case_travels_whole(bank: Bank) -> None:
    use = bank.registry.states().use(USE)
    assert use.use_case == USE_CASE
    assert use.digest == USE_CASE.digest
    assert bank.registry.states().rules[USE_CASE.digest] == USE_CASE


def test_what_was_live_then_has_one_answer(bank: Bank) -> None:
    registry = bank.registry
    before = time.time_ns()
    first = bank.live("1")
    between = time.time_ns()
    second = bank.live("2", shift=0.1)
    assert registry.live(USE, at=before) is None
    assert registry.live(USE, at=between) == first
    assert registry.live(USE, at=datetime.now(UTC)) == registry.live(USE) == second
    with pytest.raises(UsageError, match="zone"):
        registry.live(USE, at=datetime(2026, 5, 3, 12))


def test_a_new_process_sees_the_same(bank: Bank) -> None:
    digest = bank.live()
    with Ledger.open(bank.settings, writable=False) as ledger:
        other = Registry(ledger, bank.settings)
        assert other.live(USE) == digest
        assert other.load(digest).digest == digest


def test_the_stop_button_is_obeyed_by_the_next_answer_of_another_process(bank: Bank) -> None:
    digest = bank.live()
    with Ledger.open(bank.settings) as ledger:
        other = Registry(ledger, bank.settings)
        assert other.load_live(USE).digest == digest
        epoch = ledger.epoch.value
        bank.registry.suspend(digest, by="pager@oidc", reason="scores look wrong")
        assert ledger.epoch.value != epoch
        for ask in (lambda: other.load_live(USE), lambda: other.load(digest)):
            with pytest.raises(NotServableError, match="suspended"):
                ask()
        bank.registry.resume(digest, by=OPERATOR, key=bank.key(OPERATOR), reason="false alarm")
        assert other.load_live(USE).digest == digest


def test_roll_back(bank: Bank) -> None:
    first, second = bank.live("1"), bank.live("2", shift=0.1)
    bank.registry.suspend(second, by=OPERATOR, key=bank.key(OPERATOR), reason="drift")
    assert bank.registry.rollback(USE, by=OPERATOR, key=bank.key(OPERATOR), reason="drift") == first
    assert bank.registry.load_live(USE).digest == first
    with pytest.raises(ReleaseError, match="no earlier release"):
        bank.registry.rollback(USE, by=OPERATOR, key=bank.key(OPERATOR), reason="drift")
    with pytest.raises(NotFoundError):
        bank.registry.rollback("unknown", by=OPERATOR, key=bank.key(OPERATOR), reason="drift")


def test_retired_releases_can_be_examined_for_replay_and_never_answer(bank: Bank) -> None:
    digest = bank.live()
    bank.registry.retire(digest, by=OPERATOR, key=bank.key(OPERATOR), reason="replaced")
    with pytest.raises(NotServableError, match="retired"):
        bank.registry.load(digest)
    assert bank.registry.examine(digest).digest == digest


def test_refusals_are_on_record(bank: Bank) -> None:
    registry, digest = bank.registry, bank.checked()
    bank.enrol(DEVELOPER, "developer", "validator")
    with pytest.raises(ReleaseError, match="author"):
        registry.approve(digest, by=DEVELOPER, key=bank.key(DEVELOPER))
    with pytest.raises(ReleaseError, match="0 of 1"):
        registry.promote(digest, by=OPERATOR, key=bank.key(OPERATOR))
    with pytest.raises(ReleaseError, match="not the one"):
        registry.approve(digest, by=VALIDATOR, key=PartyKey.generate())
    refused = [e for e in bank.events() if str(e["event"]).endswith("_refused")]
    assert [(e["event"], e["by"], e["release"]) for e in refused] == [
        ("release.approval_refused", DEVELOPER, digest),
        ("release.promotion_refused", OPERATOR, digest),
        ("release.approval_refused", VALIDATOR, digest),
    ]
    assert "author" in str(refused[0]["why"])
    assert registry.states().state(digest) == "checked"


def test_a_stranger_leaves_no_mark(bank: Bank) -> None:
    digest = bank.checked()
    count = len(bank.events())
    with pytest.raises(ReleaseError, match="not an enrolled party"):
        bank.registry.approve(digest, by="mallory", key=PartyKey.generate())
    assert len(bank.events()) == count


def test_a_step_signed_on_another_machine(bank: Bank) -> None:
    digest = bank.checked()
    checks = bank.registry.states().release(digest).checks
    assert checks is not None
    key = bank.key(VALIDATOR)
    body = {"release": digest, "use_case": USE, "checked": checks.index, "note": "by hand"}
    statement = bank.registry.statement("release.approved", body, by=VALIDATOR, key_id=key.key_id)
    with pytest.raises(ReleaseError, match="signature"):
        bank.registry.submit({**statement, "signature": "AAAA"})
    bank.registry.submit(sign_statement(statement, key))
    assert bank.registry.states().state(digest) == "approved"
    with pytest.raises(UsageError):
        bank.registry.submit({"event": "heads"})


def test_red_checks_keep_a_release_out(bank: Bank) -> None:
    digest = bank.proposed()
    bad = [{"name": "auc", "ok": False, "detail": "0.61 is below 0.65"}]
    results = bank.registry.check(digest, by=DEVELOPER, key=bank.key(DEVELOPER), more=bad)
    assert [r["name"] for r in results if not r["ok"]] == ["auc"]
    with pytest.raises(ReleaseError, match="not green"):
        bank.registry.approve(digest, by=VALIDATOR, key=bank.key(VALIDATOR))


def test_a_proposal_needs_its_use_case(tmp_path: Path) -> None:
    bank = Bank(tmp_path, enrol=False)
    bank.enrol(OFFICER, "officer", by=OFFICER)
    bank.enrol(DEVELOPER, "developer")
    with pytest.raises(ReleaseError, match="has not been defined"):
        bank.proposed()
    bank.ledger.close()


def test_revoked_tokens(bank: Bank) -> None:
    registry = bank.registry
    now = time.time_ns() // 10**9
    alice = Principal(subject="alice", roles=("application",), token_id="t1", issued=now - 60)
    assert not registry.revoked(alice, "t1")
    registry.revoke_token(by=OFFICER, jti="t1", reason="leaked")
    assert registry.revoked(alice, "t1") and not registry.revoked(alice, "t2")
    registry.revoke_token(by=OFFICER, subject="alice", key=bank.key(OFFICER))
    assert registry.revoked(alice, "t2")
    later = Principal(subject="alice", token_id="t3", issued=now + 60)
    assert not registry.revoked(later, "t3")
    with pytest.raises(UsageError):
        registry.revoke_token(by=OFFICER)


def test_a_removed_party_is_out_and_its_work_stays(bank: Bank) -> None:
    digest = bank.live()
    bank.registry.remove_party(VALIDATOR, by=OFFICER, key=bank.key(OFFICER), reason="left the bank")
    assert bank.registry.load_live(USE).digest == digest
    other = bank.checked("2", shift=0.1)
    with pytest.raises(ReleaseError, match="not an enrolled party"):
        bank.registry.approve(other, by=VALIDATOR, key=bank.key(VALIDATOR))


PROMOTE_AGAIN_AND_AGAIN = """
import sys
from pathlib import Path
from fiduciary.config import Settings
from fiduciary.errors import ReleaseError
from fiduciary.identity import PartyKey
from fiduciary.ledger import Ledger
from fiduciary.registry import Registry

home, key_file, by, *digests = sys.argv[1:]
settings = Settings(home=Path(home), tenant="acme", region="eu")
key, won = PartyKey.load(key_file), 0
with Ledger.open(settings) as ledger:
    registry = Registry(ledger, settings)
    for turn in range(10):
        try:
            registry.promote(digests[turn % 2], by=by, key=key)
            won += 1
        except ReleaseError as error:
            assert "live already" in error.detail, error.detail
print(won)
"""


def test_two_processes_promoting_at_once_are_serialised(bank: Bank) -> None:
    digests = [bank.approved("1"), bank.approved("2", shift=0.1)]
    key_file = bank.folder / "otto.pem"
    bank.key(OPERATOR).save(key_file)
    command = [sys.executable, "-c", PROMOTE_AGAIN_AND_AGAIN]
    arguments = [str(bank.settings.home), str(key_file), OPERATOR, *digests]
    workers = [subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    won = sum(map(int, answers))
    state = bank.registry.states()
    history = state.uses[USE].history
    assert state.anomalies == [], "what was appended was judged inside the lock, so all of it holds when read"
    assert len(history) == won
    assert all(a != b for a, b in itertools.pairwise(history)), "never promoted over itself"
    promoted = [e for e in bank.events() if e["event"] == "release.promoted"]
    refused = [e for e in bank.events() if e["event"] == "release.promotion_refused"]
    assert len(promoted) == won and len(promoted) + len(refused) == 20


def test_proposing_from_inside_the_home_needs_no_copy(bank: Bank) -> None:
    from bank import contract, scorecard
    from fiduciary.registry import build

    scorecard().save(bank.folder / "m")
    folder = build(
        bank.registry.releases, bank.folder / "m", contract(), USE_CASE, rows(), name="card", version="9"
    )
    digest = bank.registry.propose(folder, by=DEVELOPER, key=bank.key(DEVELOPER))
    assert bank.registry.release_dir(digest) == folder
    assert bank.registry.verify(digest).digest == digest
