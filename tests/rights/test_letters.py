"""Letters: what they say comes from the trace; what is vague, missing, erased or hostile does not go out."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bank import OFFICER
from fiduciary.decision import Notice
from fiduciary.errors import ConflictError, FiduciaryError, GoneError, NotFoundError, UsageError
from fiduciary.models import Reason
from fiduciary.rights import (
    Letter,
    Letters,
    Words,
    clocks,
    date_text,
    find_pack,
    load_template,
    shipped_template,
    write_folder,
)
from rights_bank import ANN, BOB, GOOD, RightsBank

KINDS = [
    ("adverse_action", "us-credit"),
    ("uk_adm", "uk-credit"),
    ("gdpr_22", "gdpr"),
    ("aia_86", "eu-credit"),
]
WORDS = {
    "de": Words(
        language="de",
        reasons={
            "utilisation": "Der verfügbare Kredit ist weit ausgeschöpft",
            "late_payments": "Zahlungen kamen im letzten Jahr zu spät",
            "housing": "Die Wohnsituation ist weniger beständig",
        },
        features={"utilisation": "genutzter Anteil des Kredits"},
        purpose="Entscheidung über einen Kredit",
    ),
    "fr": Words(
        language="fr",
        reasons={
            "utilisation": "Une grande part du crédit disponible est utilisée",
            "late_payments": "Des paiements étaient en retard l'an dernier",
            "housing": "La situation de logement est moins stable",
        },
        features={"utilisation": "part du crédit utilisée"},
        purpose="décision sur un prêt",
    ),
}
TODAY = date(2027, 3, 1)


def issue(
    bank: RightsBank, decision: str, kind: str = "adverse_action", pack: str = "us-credit", **more: Any
) -> Letter:
    language = more.pop("language", "en")
    template, raw = shipped_template(kind, language)
    template = more.pop("template", template)
    return Letters(bank.desk).issue(
        decision, kind, find_pack(bank.desk, pack), template, raw, by=OFFICER, on=TODAY, **more
    )


@pytest.mark.parametrize(("kind", "pack"), KINDS)
def test_a_letter_gives_the_recorded_reasons_strongest_first(bank: RightsBank, kind: str, pack: str) -> None:
    decision = bank.decide(ANN)
    letter = issue(bank, decision, kind, pack)
    record = bank.desk.decision(decision).record
    assert letter.reasons == [r.text for r in record.reasons[:4]]
    assert 1 <= len(letter.reasons) <= 4
    places = [letter.text.index(text) for text in letter.reasons]
    assert places == sorted(places)
    for text in (letter.text, letter.page):
        assert "Acme Bank" in text
        assert ANN in text
        assert "not reviewed" in text or "no counsel has reviewed" in text  # the pack's banner
        assert "{" not in text.split("</style>")[-1]
    assert "http" not in letter.page.replace("http-equiv", "")
    stored = bank.ledger.get(letter.receipt.id)
    assert stored.header.sealed
    assert stored.json()["digest"] == "sha256:" + hashlib.sha256(letter.text.encode()).hexdigest()
    again = issue(bank, decision, kind, pack)
    assert (again.text, again.page) == (letter.text, letter.page)


def test_the_us_notice_has_what_regulation_b_and_the_fcra_ask(bank: RightsBank) -> None:
    text = " ".join(issue(bank, bank.decide(ANN)).text.split())
    for part in (
        "1 Main Street, Springfield",
        "Equal Credit Opportunity Act",
        "the Supervisor, 2 High Street",
        "Example Bureau, 9 Side St, 800-555-0199",
        "free copy of your report from the agency if you ask for it within 60 days",
        "cannot give you the specific reasons",
        "Date of the score",
        "March 1, 2027",
    ):
        assert part in text, part
    # the score by hand: 600 - 20/ln 2 * (margin + ln 50), margin = -3 + 1.1 + 2 + 0.2
    assert "Your score: 478" in text
    # the worst bins of all features give 478 as well, the best (margin -3.9) 600
    assert "Scores range from: 478 to 600" in text


@pytest.mark.parametrize("language", ["de", "fr"])
@pytest.mark.parametrize(("kind", "pack"), [("gdpr_22", "gdpr"), ("aia_86", "eu-credit")])
def test_other_languages_are_whole_or_refused(bank: RightsBank, language: str, kind: str, pack: str) -> None:
    decision = bank.decide(ANN)
    with pytest.raises(UsageError, match="give a table of words"):
        issue(bank, decision, kind, pack, language=language)
    words = WORDS[language]
    letter = issue(bank, decision, kind, pack, language=language, words=words)
    for english in ("Payments were late", "credit is used", "instead of", "March"):
        assert english not in letter.text
    assert words.reasons["late_payments"] in " ".join(letter.text.split())
    lacking = msgspec.structs.replace(words, reasons={"utilisation": "x y z"})
    with pytest.raises(UsageError, match="no reason text for 'late_payments'"):
        issue(bank, decision, kind, pack, language=language, words=lacking)
    with pytest.raises(UsageError, match="the table of words is in"):
        issue(bank, decision, kind, pack, words=words)


def test_what_would_have_changed_it_is_told(bank: RightsBank) -> None:
    row = {"utilisation": 0.8, "late_payments": 1, "housing": "renter"}
    letter = issue(bank, bank.decide(ANN, row), "gdpr_22", "gdpr")
    assert "share of available credit in use: 0.29999 instead of 0.8" in " ".join(letter.text.split())
    assert "there is none that we" in " ".join(issue(bank, bank.decide(ANN), "gdpr_22", "gdpr").text.split())


def test_nothing_goes_out_for_what_stands_approved_was_erased_or_is_an_event(bank: RightsBank) -> None:
    approved, declined = bank.decide("carl", GOOD), bank.decide(ANN)
    with pytest.raises(ConflictError, match="stands approved"):
        issue(bank, approved)
    with pytest.raises(ConflictError, match="waits for a person"):
        issue(bank, bank.decide("dora", {"utilisation": 0.8, "late_payments": 1, "housing": "owner"}))
    bank.desk.override(declined, "approve", by="hana", key=bank.key("hana"), reason="x")
    with pytest.raises(ConflictError, match="stands approved"):
        issue(bank, declined)
    bank.desk.erase(ANN, by=OFFICER, reason="request")
    with pytest.raises(GoneError):
        issue(bank, declined)
    with pytest.raises(ConflictError):
        issue(bank, "control.1")
    with pytest.raises(NotFoundError):
        issue(bank, "gate-0.99")
    assert not bank.desk.register().letters


def test_where_a_person_declined_the_letter_tells_that_person_s_reasons(bank: RightsBank) -> None:
    key = bank.key("hana")
    decision = bank.decide(ANN, {"utilisation": 0.8, "late_payments": 1, "housing": "owner"})  # refer
    bank.desk.override(decision, "decline", by="hana", key=key, reason="seen")
    with pytest.raises(ConflictError, match="named no reasons"):
        issue(bank, decision)
    machine = {r.code for r in bank.desk.decision(decision).record.reasons}
    other = bank.decide(BOB, GOOD)  # approved by the machine, which has nothing to say against him
    for codes, why in (
        (("weather",), "is no reason of the contract"),
        (("housing", "housing"), "different"),
        (("a", "b", "c", "d", "e"), "up to 4"),
    ):
        with pytest.raises(UsageError, match=why):
            bank.desk.override(other, "decline", by="hana", key=key, reason="seen", codes=codes)
    with pytest.raises(UsageError, match="for a decline only"):
        bank.desk.override(other, "refer", by="hana", key=key, reason="seen", codes=("housing",))
    bank.desk.override(other, "decline", by="hana", key=key, reason="secret", codes=("housing",))
    for kind, pack in (("gdpr_22", "gdpr"), ("uk_adm", "uk-credit")):
        with pytest.raises(ConflictError, match="says that the machine decided alone"):
            issue(bank, other, kind, pack)
    for language, said in (("de", "Ein Mensch hat"), ("fr", "Une personne a pris")):
        foreign = issue(bank, other, "aia_86", "eu-credit", language=language, words=WORDS[language])
        assert said in foreign.text
        assert foreign.reasons == [WORDS[language].reasons["housing"]]
    letter = issue(bank, other, "aia_86", "eu-credit")
    assert "A person took this decision" in letter.text
    assert "A person took this decision" not in issue(bank, bank.decide(ANN), "aia_86", "eu-credit").text
    assert "What would have led" not in letter.text
    assert "housing" not in machine
    texts = dict(zip(bank.decider.release.plan.codes, bank.decider.release.plan.texts, strict=True))
    assert letter.reasons == [texts["housing"]]
    assert bank.ledger.get(letter.receipt.id).json()["reasons"] == ["housing"]
    assert "instead of" not in letter.text  # what would have changed the machine's result is beside the point
    assert "secret" not in letter.text
    with pytest.raises(ConflictError, match="no reason on record that spoke against"):
        issue(bank, other)  # a notice with key factors of a score that has none
    bank.desk.override(decision, "refer", by="hana", key=key, reason="again")
    bank.desk.override(decision, "decline", by="hana", key=key, reason="again", codes=("housing",))
    notice = issue(bank, decision)
    assert notice.reasons == [texts["housing"]]
    told = " ".join(notice.text.split())
    for reason in bank.desk.decision(decision).record.reasons:  # the factors of the score stay the machine's
        assert reason.text in told


def test_a_record_whose_reasons_were_changed_gets_no_letter(bank: RightsBank) -> None:
    decision = bank.decide(ANN)
    verdict = bank.desk.decision(decision).record
    forged = msgspec.structs.replace(verdict, reasons=[Reason("housing", "Other", 1.0)])
    from fiduciary.decision import encode_record
    from fiduciary.ledger import Entry, Kind

    shard = bank.ledger.shard("gate-0")
    entry = Entry(
        Kind.DECISION,
        encode_record(forged),
        bank.ledger.vault.pseudonym(ANN),
        bytes.fromhex(forged.release[7:]),
        forged.use_case,
        bytes.fromhex(forged.rules[7:]),
    )
    with pytest.raises(FiduciaryError, match="replays differently"):
        issue(bank, shard.append(entry).result().id)


def test_hostile_values_stay_text(bank: RightsBank) -> None:
    letter = issue(bank, bank.decide(BOB))  # the id holds markup and a placeholder
    assert BOB in letter.text
    assert "<b>" not in letter.page
    assert "bob-&lt;b&gt;{creditor}&lt;/b&gt;" in letter.page


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"blocks": [{"text": "{creditor.__class__}"}, {"show": "reasons"}]}, "is no placeholder"),
        ({"blocks": [{"text": "{0}"}, {"show": "reasons"}]}, "is no placeholder"),
        ({"blocks": [{"text": "{{creditor}}"}, {"show": "reasons"}]}, "brace stands alone"),
        ({"blocks": [{"text": "hello"}]}, "no list of them"),
        ({"blocks": [{"text": "x", "heading": "y"}, {"show": "reasons"}]}, "exactly one"),
        ({"blocks": [{"script": "x"}, {"show": "reasons"}]}, "unknown field"),
        ({"title": "x" * 3_001}, "at most"),
        ({"language": "english"}, "two small letters"),
        ({"format": "other/1"}, "not right"),
    ],
)
def test_a_template_is_closed(change: dict[str, Any], why: str) -> None:
    import json

    document = {
        "format": "fiduciary.letter/1",
        "kind": "adverse_action",
        "language": "en",
        "dates": "en-US",
        "title": "A letter",
        "unreviewed": "DRAFT {pack}",
        "blocks": [{"show": "reasons"}],
    }
    load_template(json.dumps(document).encode())
    with pytest.raises(UsageError, match=why):
        load_template(json.dumps({**document, **change}).encode())


def test_files_are_not_written_where_they_should_not_be(bank: RightsBank, tmp_path: Path) -> None:
    home = bank.settings.home
    (tmp_path / "link").symlink_to(home)
    for out in (home, home / "x", tmp_path / "a" / ".." / "home" / "x", tmp_path / "link" / "x"):
        with pytest.raises(UsageError, match="outside the home"):
            write_folder(home, out, {"letter.txt": "x"})
    out = tmp_path / "out"
    out.mkdir()
    (out / "letter.txt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConflictError):
        write_folder(home, out, {"letter.txt": "x"})
    assert not (tmp_path / "elsewhere").exists()


def test_a_letter_stops_the_clock_of_its_notice(bank: RightsBank) -> None:
    decision = bank.decide(ANN)
    due = Notice(code="adverse_action", rule="regb-9", within_days=30)
    # a record that names a notice replays only under its rulebook; the clock is read from the record alone
    payload = msgspec.structs.replace(bank.desk.decision(decision).record, notices=[due])
    from fiduciary.decision import encode_record
    from fiduciary.ledger import Entry, Kind

    shard = bank.ledger.shard("gate-0")
    entry = Entry(
        Kind.DECISION,
        encode_record(payload),
        bank.ledger.vault.pseudonym(ANN),
        bytes.fromhex(payload.release[7:]),
        payload.use_case,
        bytes.fromhex(payload.rules[7:]),
    )
    noticed = shard.append(entry).result()
    (clock,) = clocks(bank.desk)
    assert (clock.name, clock.about, clock.done_ns) == ("notice.adverse_action", noticed.id, None)
    assert clock.due_ns == noticed.time_ns + 30 * 86_400 * 10**9
    body = {"by": OFFICER, "decision": noticed.id, "kind": "adverse_action", "codes": ["adverse_action"]}
    bank.ledger.emit("letter.issued", {**body, "digest": "", "language": "en"})
    (clock,) = clocks(bank.desk)
    assert clock.state(bank.ledger.clock()) == "done"


def test_dates_as_people_write_them() -> None:
    day = date(2026, 5, 1)
    assert [date_text(day, s) for s in ("en-US", "en-GB", "de", "fr")] == [
        "May 1, 2026",
        "1 May 2026",
        "1. Mai 2026",
        "1er mai 2026",
    ]


def test_what_is_missing_is_named(bank: RightsBank) -> None:
    bank.use_case = msgspec.structs.replace(bank.use_case, attributes={})
    bank.registry.define_use_case(bank.use_case, by=OFFICER, key=bank.key(OFFICER))
    decision = bank.decide(ANN)
    with pytest.raises(UsageError, match=r"set attributes\.creditor of the use case"):
        issue(bank, decision)
    with pytest.raises(UsageError, match="has no letter 'gdpr_22'"):
        issue(bank, decision, "gdpr_22", "us-credit")
    with pytest.raises(NotFoundError, match="there is no letter"):
        issue(bank, decision, "../gdpr_22", "gdpr")
