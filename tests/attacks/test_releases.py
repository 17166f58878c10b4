"""Attacks on releases: each is refused with a clear error, and tried governance leaves its mark on the ledger."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bank import DEVELOPER, OPERATOR, USE_CASE, VALIDATOR, Bank, contract
from fiduciary.errors import FiduciaryError, ModelError, NotServableError, ReleaseError
from fiduciary.identity import PartyKey
from fiduciary.ledger import Entry, Kind, Ledger
from fiduciary.registry import Registry, canonical, digest_hex, import_model, sign, sign_envelope

USE = USE_CASE.name


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    made = Bank(tmp_path)
    yield made
    made.ledger.close()


def fresh(bank: Bank) -> Registry:
    """What a process that starts now would see."""
    return Registry(bank.ledger, bank.settings)


def unlock(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def flip(path: Path, position: int = -2) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)


def test_one_changed_byte_in_any_file_keeps_a_release_from_loading(bank: Bank) -> None:
    digest = bank.live()
    folder = bank.registry.release_dir(digest)
    unlock(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 11
    for path in files:
        flip(path)
        with pytest.raises(ReleaseError):
            fresh(bank).load_live(USE)
        with pytest.raises(FiduciaryError):
            fresh(bank).examine(digest)
        flip(path)
    assert fresh(bank).load_live(USE).digest == digest


def test_a_running_process_answers_from_the_verified_bytes(bank: Bank) -> None:
    digest = bank.live()
    before = bank.registry.load(digest)
    folder = bank.registry.release_dir(digest)
    unlock(folder)
    flip(folder / "model" / "scorecard.json")
    assert bank.registry.load(digest) is before
    with pytest.raises(ReleaseError, match="not the file"):
        bank.registry.verify(digest)
    with pytest.raises(ReleaseError):
        fresh(bank).load(digest)


def test_another_bundle_in_its_place_is_refused(bank: Bank) -> None:
    digest = bank.live("1")
    other = bank.approved("2", shift=0.5)
    target = bank.registry.release_dir(digest)
    shutil.rmtree(target)
    shutil.copytree(bank.registry.release_dir(other), target)
    with pytest.raises(ReleaseError, match="has digest"):
        fresh(bank).load_live(USE)


def test_a_removed_signature_is_missed(bank: Bank) -> None:
    digest = bank.live()
    signature = next((bank.registry.release_dir(digest) / "signatures").iterdir())
    kept = signature.read_bytes()
    signature.unlink()
    with pytest.raises(ReleaseError, match="lacks the signature of its author"):
        fresh(bank).load(digest)
    signature.parent.rmdir()
    with pytest.raises(ReleaseError, match="lacks the signature of its author"):
        fresh(bank).load(digest)
    signature.parent.mkdir()
    signature.write_bytes(kept)
    assert fresh(bank).load(digest).digest == digest


def test_a_signature_by_another_key_under_the_authors_name_is_refused(bank: Bank) -> None:
    digest = bank.live()
    folder = bank.registry.release_dir(digest)
    signature = next((folder / "signatures").iterdir())
    forged = json.loads(
        sign_envelope(
            "application/vnd.fiduciary.release+json",
            (folder / "manifest.json").read_bytes(),
            PartyKey.generate(),
        )
    )
    forged["signatures"][0]["keyid"] = signature.name[:16]
    signature.chmod(0o644)
    signature.write_bytes(canonical(forged))
    with pytest.raises(ReleaseError, match="verifies"):
        fresh(bank).load(digest)


def test_a_signature_of_another_release_does_not_count(bank: Bank) -> None:
    digest, other = bank.live("1"), bank.proposed("2", shift=0.2)
    name = bank.key(DEVELOPER).key_id + ".dsse.json"
    place = bank.registry.release_dir(digest) / "signatures" / name
    place.chmod(0o644)
    place.write_bytes((bank.registry.release_dir(other) / "signatures" / name).read_bytes())
    with pytest.raises(ReleaseError, match="another manifest"):
        fresh(bank).load(digest)


def test_a_strangers_signature_added_later_is_refused(bank: Bank) -> None:
    digest = bank.live()
    sign(bank.registry.release_dir(digest), PartyKey.generate())
    with pytest.raises(ReleaseError, match="nobody was ever enrolled"):
        fresh(bank).load(digest)


def test_the_author_approving_is_refused_and_recorded(bank: Bank) -> None:
    bank.enrol(DEVELOPER, "developer", "validator", "operator")
    digest = bank.checked()
    with pytest.raises(ReleaseError, match="author") as caught:
        bank.registry.approve(digest, by=DEVELOPER, key=bank.key(DEVELOPER))
    assert caught.value.status == 409
    last = bank.events()[-1]
    assert (last["event"], last["by"], last["release"]) == ("release.approval_refused", DEVELOPER, digest)
    with pytest.raises(NotServableError):
        bank.registry.load(digest)


def test_the_author_under_a_second_name_needs_a_second_key_and_an_officer(bank: Bank) -> None:
    digest = bank.checked()
    with pytest.raises(ReleaseError, match=f"{DEVELOPER}'s"):
        bank.registry.enrol_party(
            "alter-ego", bank.key(DEVELOPER).public, ["validator"], by="olga", key=bank.key("olga")
        )
    with pytest.raises(ReleaseError, match="not an enrolled party"):
        bank.registry.approve(digest, by="alter-ego", key=bank.key(DEVELOPER))
    with pytest.raises(ReleaseError, match="takes officer"):
        bank.registry.enrol_party(
            "alter-ego", PartyKey.generate().public, ["validator"], by=DEVELOPER, key=bank.key(DEVELOPER)
        )


def test_approving_in_another_name_is_refused(bank: Bank) -> None:
    digest = bank.checked()
    with pytest.raises(ReleaseError, match="not the one"):
        bank.registry.approve(digest, by=VALIDATOR, key=bank.key(DEVELOPER))


def test_an_old_digest_cannot_be_approved_or_loaded_after_retirement(bank: Bank) -> None:
    digest = bank.live()
    bank.enrol("gwen", "validator")
    bank.registry.retire(digest, by=OPERATOR, key=bank.key(OPERATOR), reason="replaced")
    with pytest.raises(ReleaseError, match="retired, for good"):
        bank.registry.approve(digest, by="gwen", key=bank.key("gwen"))
    with pytest.raises(ReleaseError, match="retired, for good"):
        bank.registry.promote(digest, by=OPERATOR, key=bank.key(OPERATOR))
    with pytest.raises(ReleaseError, match="retired, for good"):
        bank.registry.propose(bank.registry.release_dir(digest), by=DEVELOPER, key=bank.key(DEVELOPER))
    for ask in (lambda: bank.registry.load(digest), lambda: bank.registry.load_live(USE)):
        with pytest.raises(NotServableError):
            ask()


def slip_in(bank: Bank, payload: dict[str, object]) -> None:
    """Append to the control log as somebody with write access to it would, past the registry."""
    with bank.ledger.control() as log:
        log.append(Entry(Kind.EVENT, canonical(payload))).result()


def test_events_slipped_into_the_log_change_nothing(bank: Bank) -> None:
    digest = bank.checked()
    approved = {
        "event": "release.approved",
        "scope": "acme.eu",
        "by": VALIDATOR,
        "key": bank.key(VALIDATOR).key_id,
        "signed": "2026-05-03T12:00:00Z",
        "nonce": "0" * 32,
        "release": digest,
        "use_case": USE,
        "checked": 6,
        "note": "",
    }
    slip_in(bank, approved)
    slip_in(bank, {**approved, "signature": "A" * 86 + "=="})
    slip_in(bank, {"event": "release.promoted", "by": OPERATOR, "release": digest, "use_case": USE})
    registry = fresh(bank)
    assert registry.states().state(digest) == "checked"
    assert [a.event for a in registry.states().anomalies] == [
        "release.approved",
        "release.approved",
        "release.promoted",
    ]
    with pytest.raises(NotServableError):
        registry.load(digest)


def test_a_promotion_copied_from_the_log_cannot_be_played_again(bank: Bank) -> None:
    first = bank.live("1")
    promotion = next(e for e in bank.events() if e["event"] == "release.promoted")
    second = bank.live("2", shift=0.1)
    slip_in(bank, promotion)
    assert fresh(bank).live(USE) == second
    assert fresh(bank).states().anomalies[-1].why == "the statement has been used before"
    with pytest.raises(ReleaseError, match="used before"):
        bank.registry.submit(promotion)
    assert first != second


def test_events_of_another_home_do_not_count_here(bank: Bank, tmp_path: Path) -> None:
    """Same people, same keys, same bundle, another tenant: nothing carries over."""
    other = Bank(tmp_path / "other", tenant="other", enrol=False)
    other.keys = bank.keys
    for name, role in (("olga", "officer"), (DEVELOPER, "developer"), (VALIDATOR, "validator")):
        other.enrol(name, role)
    other.registry.define_use_case(USE_CASE, by="olga", key=other.key("olga"))
    digest = bank.checked()
    assert other.checked() == digest
    other.registry.approve(digest, by=VALIDATOR, key=other.key(VALIDATOR))
    approval = next(e for e in other.events() if e["event"] == "release.approved")
    with pytest.raises(ReleaseError, match=r"signed for 'other\.eu'"):
        bank.registry.submit(approval)
    assert bank.registry.states().state(digest) == "checked"
    other.ledger.close()


def test_a_bundle_that_lies_about_its_probes_is_not_loaded(bank: Bank) -> None:
    """A well-formed, well-signed bundle whose recorded answers are not this model's."""
    from fiduciary.registry._bundle import make_manifest, read_bundle, write_bundle

    bundle = read_bundle(bank.bundle())
    files = dict(bundle.files)
    probes = json.loads(files["probes.json"])
    probes["margins"][3] += 2**-40
    files["probes.json"] = canonical(probes)
    m = bundle.manifest
    _, raw = make_manifest(name=m.name, version=m.version, use_case=m.use_case, family=m.family, files=files)
    digest = bank.registry.propose(
        write_bundle(bank.folder / "lies", raw, files), by=DEVELOPER, key=bank.key(DEVELOPER)
    )
    results = bank.registry.check(digest, by=DEVELOPER, key=bank.key(DEVELOPER))
    assert [r["name"] for r in results if not r["ok"]] == ["probes_reproduce"]
    with pytest.raises(ReleaseError, match="not green"):
        bank.registry.approve(digest, by=VALIDATOR, key=bank.key(VALIDATOR))
    with pytest.raises(ReleaseError, match="very scores"):
        bank.registry.examine(digest)


def test_a_release_name_cannot_reach_outside_the_releases(bank: Bank) -> None:
    for digest in ("sha256:../../keys", "../../../etc", "sha256:" + "0" * 63 + "/"):
        with pytest.raises(ReleaseError):
            digest_hex(digest)
        with pytest.raises(FiduciaryError):
            bank.registry.load(digest)
        with pytest.raises(FiduciaryError):
            bank.registry.release_dir(digest)


def test_a_suspension_survives_a_restart(bank: Bank) -> None:
    digest = bank.live()
    bank.registry.suspend(digest, by=OPERATOR, reason="wrong")
    bank.ledger.close()
    with Ledger.open(bank.settings) as ledger, pytest.raises(NotServableError):
        Registry(ledger, bank.settings).load_live(USE)
    bank.ledger = Ledger.open(bank.settings)


@pytest.mark.parametrize("name", ["model.pkl", "model.txt", "model.joblib", "weights.bin"])
def test_a_pickle_is_never_opened_whatever_its_name(tmp_path: Path, name: str) -> None:
    import os
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/exploded",)

    (tmp_path / name).write_bytes(pickle.dumps(Bomb(), protocol=4))
    with pytest.raises(ModelError, match="pickle") as caught:
        import_model(tmp_path / name, contract(), tmp_path / "out")
    assert "onnx" in caught.value.detail.lower()
    assert not (tmp_path / "exploded").exists() and not (tmp_path / "out").exists()
