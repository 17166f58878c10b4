"""A letter to a person from one recorded decision: its own reasons, nothing else, in one language.

Refused with what to fix: a decision that was replayed differently, stands approved, was erased or refused; no
specific reason; a reason text that is vague or not there in the letter's language; a placeholder without a value.
Each issue is on the record, sealed under the person's key, and stops the clock of the notices that it answers.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from fiduciary.decision import Decider, Replay, Replayer
from fiduciary.errors import ConflictError, IntegrityError, NotFoundError, UsageError
from fiduciary.ledger import Receipt
from fiduciary.models import Feature, Reason, Scorecard, vague
from fiduciary.registry import LoadedRelease, UseCase, day
from fiduciary.rights import _register as names
from fiduciary.rights._counterfactual import Counterfactual, counterfactual
from fiduciary.rights._desk import Decided, Desk
from fiduciary.rights._register import Override
from fiduciary.rights._template import Template, clean, fill, render
from fiduciary.rules import Pack, pack_from_document, read_yaml, shipped_packs

MAX_REASONS = 4
"""Comment 9(b)(2)-1 to Regulation B: more than four reasons help nobody."""
_MONTHS = {
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "en": "January February March April May June July August September October November December",
}


class Words(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reason texts and feature names of one contract in another language."""

    format: Literal["fiduciary.words/1"] = "fiduciary.words/1"
    language: str
    reasons: dict[str, str]
    """Reason code (feature or group) -> text."""
    features: dict[str, str] = {}
    values: dict[str, str] = {}
    """Category texts."""
    purpose: str = ""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A letter ready to go out."""

    decision: str
    kind: str
    pack: str
    language: str
    text: str
    page: str
    codes: list[str]
    reasons: list[str]
    receipt: Receipt

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return "sha256:" + hashlib.sha256(self.text.encode()).hexdigest()


def read_words(raw: bytes) -> Words:
    """A table of words from YAML. Raises `UsageError`, `LimitError`."""
    try:
        return msgspec.convert(read_yaml(raw), Words)
    except msgspec.ValidationError as error:
        raise UsageError(f"the table of words is not right: {error}") from None


def find_pack(desk: Desk, name: str) -> Pack:
    """The pack as it is in force here, else the shipped one. Raises `NotFoundError`."""
    adopted = desk.registry.states().packs.get(name)
    if adopted is not None and adopted.ended is None:
        return pack_from_document(dict(adopted.document))
    for pack in shipped_packs():
        if pack.pack == name:
            return pack
    raise NotFoundError(
        f"there is no pack {name[:60]!r}; there are {', '.join(p.pack for p in shipped_packs())}"
    )


class Letters:
    """Writes letters for the decisions of a home."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._replayer = Replayer(desk.ledger, desk.registry)

    def issue(
        self,
        decision: str,
        kind: str,
        pack: Pack,
        template: Template,
        source: bytes,
        *,
        by: str,
        words: Words | None = None,
        on: date | None = None,
    ) -> Letter:
        """Write a letter and put its issue on record. `source`: the template's bytes. `on`: its date (UTC).

        Raises `ConflictError`, `GoneError`, `NotFoundError`, `UsageError` saying what to fix.
        """
        found = self.desk.decision(decision)
        if kind not in {letter.kind for letter in pack.letters}:
            known = ", ".join(letter.kind for letter in pack.letters) or "none"
            raise UsageError(f"pack {pack.pack} has no letter {kind[:60]!r}; it has: {known}")
        if template.kind != kind:
            raise UsageError(f"the template is for letters of kind {template.kind}, not {kind[:60]}")
        outcome, person = self.desk.register().standing(decision, found.record.outcome)
        if outcome == "approve":
            raise ConflictError(
                f"decision {decision} stands approved: there is no adverse outcome to explain"
            )
        if outcome != "decline":
            raise ConflictError(
                f"decision {decision} waits for a person: let them decide before it is explained"
            )
        if person is not None and not person.codes:
            raise ConflictError(
                f"{person.by} declined {decision} and named no reasons, and the machine's need not be theirs: "
                "override it to refer, then to decline with --because"
            )
        if person is not None and template.alone:
            raise ConflictError(
                f"{person.by} declined {decision}, and a letter of kind {kind} says that the machine decided alone"
            )
        replayed = self._replayer.replay(decision)
        if not replayed.same:
            fields = ", ".join(d.field for d in replayed.differences)
            raise IntegrityError(
                f"decision {decision} replays differently ({fields}); no letter is written from it"
            )
        use_case = self.desk.registry.states().rules[found.record.rules]
        release = self.desk.registry.examine(found.record.release)
        _same_language(template, words, use_case)
        trace = _trace(replayed, release, person)
        reasons = self._reasons(trace, release, pack, words)
        bureaus = _bureaus(release)
        what_if = (
            counterfactual(Decider(release, use_case), bytes(found.record.features))
            if "changes" in template.lists and person is None
            else None
        )
        values = self._values(found, use_case, release, template, on, bureaus, words)
        conditions = (
            ({"bureau"} if bureaus else set())
            | {"machine" if person is None else "person"}
            | (set() if what_if is None else {"changes"} if what_if.answer == "found" else {"no_changes"})
        )
        lists = {
            "reasons": reasons,
            "factors": self._factors(replayed, release, pack, words, reasons, person, template),
            "changes": _changes(template, what_if, release, words),
        }
        banner = "" if pack.reviewed else fill(template.unreviewed, {"pack": f"{pack.pack} {pack.version}"})
        text, page = render(template, values, lists, conditions, banner)
        codes = self._codes(found, replayed, kind)
        receipt = self.desk.ledger.emit(
            names.LETTER,
            {
                "by": by,
                "decision": decision,
                "kind": kind,
                "pack": pack.digest,
                "language": template.language,
                "template": "sha256:" + hashlib.sha256(source).hexdigest(),
                "digest": "sha256:" + hashlib.sha256(text.encode()).hexdigest(),
                "codes": codes,
                "reasons": [code for code, _ in trace],
            },
            **self.desk._sealed(found),
        )
        return Letter(
            decision=decision,
            kind=kind,
            pack=pack.pack,
            language=template.language,
            text=text,
            page=page,
            codes=codes,
            reasons=reasons,
            receipt=receipt,
        )

    def _reasons(
        self, trace: list[tuple[str, str]], release: LoadedRelease, pack: Pack, words: Words | None
    ) -> list[str]:
        banned = [str(v).casefold() for v in pack.tables.get("vague_reasons", [])]
        found = []
        for code, own in trace:
            text = words.reasons.get(code, "") if words else own
            if not text.strip() or (not words and code in release.plan.missing_texts):
                place = f"the table of words ({words.language})" if words else "the contract"
                raise UsageError(
                    f"{place} has no reason text for {code!r}: write what counted against the person"
                )
            if vague(text) or any(b in text.casefold() for b in banned):
                raise UsageError(f"the reason text of {code!r} is vague: name the specific factor")
            found.append(clean(text))
        return found

    def _factors(
        self,
        replayed: Replay,
        release: LoadedRelease,
        pack: Pack,
        words: Words | None,
        reasons: list[str],
        person: Override | None,
        template: Template,
    ) -> list[str]:
        """What counted against the score: the machine's reasons, also where a person declined for others."""
        if person is None or "factors" not in template.lists:
            return reasons
        trace = _trace(replayed, release, None)
        return self._reasons(trace, release, pack, words)

    def _values(
        self,
        found: Decided,
        use_case: UseCase,
        release: LoadedRelease,
        template: Template,
        on: date | None,
        bureaus: list[str],
        words: Words | None,
    ) -> dict[str, str]:
        decided = datetime.fromtimestamp(found.stored.header.time_ns // 10**9, UTC).date()
        today = on or date.fromisoformat(day(self.desk.ledger.clock()))
        if today < decided:
            raise UsageError("a letter is not dated before its decision")
        told = any(name.startswith("score") for name in template.wanted)
        score, low, high, meaning = _score(found, release, template.language) if told else ("", "", "", "")
        own = use_case.attributes
        values = {
            "creditor": own.get("creditor", ""),
            "creditor_address": own.get("creditor_address", ""),
            "creditor_contact": own.get("creditor_contact", ""),
            "supervisor": own.get("supervisor", ""),
            "contest_route": use_case.contest_route,
            "oversight": use_case.oversight_person,
            "basis": own.get(f"logic_{template.language}", ""),
            "purpose": words.purpose if words else use_case.purpose,
            "reference": found.record.subject,
            "record": found.stored.id,
            "letter_date": date_text(today, template.dates),
            "decision_date": date_text(decided, template.dates),
            "bureaus": "; ".join(bureaus) or "-",
            "score": score,
            "score_low": low,
            "score_high": high,
            "score_meaning": meaning,
            "release": release.manifest.name + " " + release.manifest.version,
            "contest_days": "30",
        }
        where = {
            "contest_route": "contest_route of the use case",
            "oversight": "oversight_person of the use case",
            "purpose": "purpose in the table of words" if words else "purpose of the use case",
            "basis": f"attributes.logic_{template.language} of the use case",
        }
        for name in sorted(template.wanted):
            if not values[name].strip():
                place = where.get(name, f"attributes.{name} of the use case")
                raise UsageError(f"the letter needs {name}: set {place}")
        return values

    def _codes(self, found: Decided, replayed: Replay, kind: str) -> list[str]:
        """Codes of the notices due that this letter answers."""
        duties = replayed.rulebook.obligations.get("notices", []) if replayed.rulebook else []
        answered = {n["code"] for n in duties if kind in (n.get("letter"), n["code"])}
        return sorted(n.code for n in found.record.notices if n.code in answered or n.code == kind)


def _trace(replayed: Replay, release: LoadedRelease, person: Override | None) -> list[tuple[str, str]]:
    """Codes and texts of the reasons to tell: those of whoever declined, the machine or the person after it."""
    if person is not None:
        texts = dict(zip(release.plan.codes, release.plan.texts, strict=True))
        return [(code, texts[code]) for code in person.codes]
    found: list[Reason] = (replayed.record.reasons or replayed.verdict.reasons)[:MAX_REASONS]
    if not found:
        raise ConflictError("the decision has no reason on record that spoke against the person")
    return [(reason.code, reason.text) for reason in found]


def _same_language(template: Template, words: Words | None, use_case: UseCase) -> None:
    own = use_case.attributes.get("language", "en")
    if words is not None and words.language != template.language:
        raise UsageError(
            f"the table of words is in {words.language[:10]!r}, the letter in {template.language!r}"
        )
    if words is None and own != template.language:
        raise UsageError(
            f"the contract's reasons are in {own!r} and the letter in {template.language!r}: give a table of words "
            f"in {template.language!r}, so that the letter does not mix languages"
        )


def _bureaus(release: LoadedRelease) -> list[str]:
    """Credit bureaus that features come from: origin `bureau: NAME, address, telephone`."""
    found: list[str] = []
    for feature in release.contract.features:
        kind, _, name = feature.origin.partition(":")
        if kind.strip().casefold() != "bureau":
            continue
        if not name.strip():
            raise UsageError(
                f"feature {feature.name!r} comes from a bureau without a name: write its origin in the contract as "
                "'bureau: NAME, address, telephone'"
            )
        if clean(name) not in found:
            found.append(clean(name))
    return found


def _score(found: Decided, release: LoadedRelease, language: str) -> tuple[str, str, str, str]:
    """The score as told to people, its range, and which end is good."""
    better = {
        "points": {"en": "higher is better", "de": "mehr ist besser", "fr": "plus élevé est meilleur"},
        "risk": {"en": "lower is better", "de": "weniger ist besser", "fr": "plus bas est meilleur"},
    }
    scorer = release.scorer
    margin, score = found.record.margin, found.record.score
    if margin is None or score is None:
        raise ConflictError("the decision has no score on record")
    if isinstance(scorer, Scorecard) and scorer.link == "logit":
        ends = [scorer.card.intercept, scorer.card.intercept]
        for bins in scorer.card.features:
            weights = bins.weights if bins.missing is None else [*bins.weights, bins.missing]
            ends = [ends[0] + min(weights), ends[1] + max(weights)]
        points = scorer.points(np.array([margin, *ends])).tolist()
        low, high = sorted((round(points[1]), round(points[2])))
        return (
            str(round(points[0])),
            str(low),
            str(high),
            better["points"].get(language, better["points"]["en"]),
        )
    if scorer.link == "logit":
        return f"{100 * score:.1f} %", "0 %", "100 %", better["risk"].get(language, better["risk"]["en"])
    raise UsageError(
        "a model that gives a value and no probability has no range to tell; use a template without score"
    )


def _changes(
    template: Template, answer: Counterfactual | None, release: LoadedRelease, words: Words | None
) -> list[str]:
    if answer is None:
        return []
    features = {f.name: f for f in release.contract.features}
    return [
        fill(
            template.change,
            {
                "feature": _label(features[change.feature], words),
                "before": _shown(change.before, features[change.feature], template, words),
                "after": _shown(change.after, features[change.feature], template, words),
            },
        )
        for change in answer.changes
    ]


def _label(feature: Feature, words: Words | None) -> str:
    label = words.features.get(feature.name, "") if words else feature.description
    if not label.strip():
        place = (
            f"features of the table of words ({words.language})" if words else "description in the contract"
        )
        raise UsageError(f"feature {feature.name!r} has no name for people: set it under {place}")
    return clean(label)


def _shown(value: Any, feature: Feature, template: Template, words: Words | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return template.yes if value else template.no
    if isinstance(value, str):
        if words and value not in words.values:
            raise UsageError(
                f"the table of words ({words.language}) lacks a text for a value of {feature.name!r}"
            )
        return clean(words.values[value] if words else value)
    text = f"{value:.10g}"
    if template.dates in ("de", "fr"):
        text = text.replace(".", ",")
    return f"{text} {feature.unit}".strip()


def date_text(when: date, style: str) -> str:
    """A date as people of that language write it."""
    month = _MONTHS[style if style in ("de", "fr") else "en"].split()[when.month - 1]
    if style == "en-US":
        return f"{month} {when.day}, {when.year}"
    if style == "de":
        return f"{when.day}. {month} {when.year}"
    day_text = "1er" if style == "fr" and when.day == 1 else str(when.day)
    return f"{day_text} {month} {when.year}"


def write_folder(home: Path, out: Path, files: Mapping[str, str]) -> list[Path]:
    """Write files into a folder outside the home; personal data must not lie where an erasure cannot reach.

    Raises `UsageError` for a folder in the home, or a link in the place of a file; `ConflictError` if one is there.
    """
    folder = out.resolve()
    inside = home.resolve()
    if folder == inside or inside in folder.parents:
        raise UsageError("--out must lie outside the home: an erasure could not find what is written there")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for name, text in files.items():
            path = folder / name
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            written.append(path)
    except FileExistsError:
        raise ConflictError(f"there is a file {name} in {folder} already; name another folder") from None
    except OSError as error:
        raise UsageError(f"--out cannot be written: {error.strerror}") from None
    return written


def check_folder(home: Path, out: Path, names_: list[str]) -> None:
    """Refuse a folder before anything is done that would have to be told there."""
    folder, inside = out.resolve(), home.resolve()
    if folder == inside or inside in folder.parents:
        raise UsageError("--out must lie outside the home: an erasure could not find what is written there")
    for name in names_:
        if (folder / name).exists() or (folder / name).is_symlink():
            raise ConflictError(f"there is a file {name} in {folder} already; name another folder")
