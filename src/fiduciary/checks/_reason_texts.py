"""Whether the texts of reasons say something to the person they are given to."""

from __future__ import annotations

import re
from typing import Any

from fiduciary.checks._check import Check, Param
from fiduciary.checks._readability import LANGUAGES, Language, readability
from fiduciary.checks._result import CheckResult
from fiduciary.checks._sample import Subject
from fiduciary.models import Contract, vague

MAX_SHOWN = 50


def specific(
    subject: Subject, *, vague_texts: list[str], require_text: bool, fewest_words: int
) -> CheckResult:
    """Every reason text names what counted against the person; the value is the share that does.

    A text is refused when it is in the product's list of vague ones or in the pack's (`vague_texts`, compared
    without case and punctuation), has fewer than `fewest_words` words, or, with `require_text`, is absent.
    """
    contract = subject.contract
    assert contract is not None
    table = {_plain(str(text)) for text in vague_texts}
    refused: dict[str, str] = {}
    codes = _codes(contract)
    for code, text in codes.items():
        if not text:
            if require_text:
                refused[code] = "has no text"
        elif vague(text):
            refused[code] = "names no specific factor"
        elif _plain(text) in table:
            refused[code] = "is in the pack's list of vague texts"
        elif len(text.split()) < fewest_words:
            refused[code] = f"has fewer than {fewest_words} words"
    share = 1.0 - len(refused) / len(codes)
    shown = ", ".join(f"{code} {why}" for code, why in list(refused.items())[:5])
    return CheckResult(
        name="reasons.specific",
        ok=not refused,
        value=share,
        unit="share",
        threshold=1.0,
        detail=f"{len(refused)} of {len(codes)} reason texts refused: {shown}" if refused else
        f"all {len(codes)} reason texts name a specific factor",
        numbers={"refused": dict(list(refused.items())[:MAX_SHOWN]), "texts": len(codes)},
    )  # fmt: skip


def readable(
    subject: Subject, *, language: str, minimum: float | None, longest_sentence: int | None, texts: list[str]
) -> CheckResult:
    """The reading ease of the reason texts, and of further `texts`, taken together."""
    contract = subject.contract
    assert contract is not None
    chosen: Language = "de" if language == "de" else "fr" if language == "fr" else "en"
    found = {code: text for code, text in _codes(contract).items() if text}
    every = [*found.values(), *(str(text) for text in texts)]
    whole = readability(every, chosen)
    name, unit = "reasons.readable", "reading ease"
    if whole is None:
        return CheckResult(
            name=name, ok=None, unit=unit, lacking="reason texts in the contract", detail="no text to read"
        )
    by_text: list[dict[str, Any]] = []
    for code, text in found.items():
        one = readability([text], chosen)
        if one is not None:
            by_text.append(
                {"code": code, "ease": one.ease, "words": one.words, "longest_sentence": one.longest_sentence}
            )
    by_text.sort(key=lambda line: line["ease"])
    ok: bool | None = None
    if minimum is not None or longest_sentence is not None:
        ok = (minimum is None or whole.ease >= minimum) and (
            longest_sentence is None or whole.longest_sentence <= longest_sentence
        )
    numbers: dict[str, Any] = {
        "language": chosen,
        "texts": len(every),
        "sentences": whole.sentences,
        "words": whole.words,
        "syllables": whole.syllables,
        "longest_sentence": whole.longest_sentence,
        "hardest": by_text[:MAX_SHOWN],
    }
    return CheckResult(
        name=name,
        ok=ok,
        value=whole.ease,
        unit=unit,
        threshold=minimum,
        detail=f"reading ease {whole.ease:.0f} over {whole.words} words, longest sentence "
        f"{whole.longest_sentence} words",
        numbers=numbers,
    )


def _codes(contract: Contract) -> dict[str, str]:
    """Reason code (a group, or a feature of its own) -> its text, empty where there is none."""
    codes: dict[str, str] = {}
    for feature in contract.features:
        code = feature.group or feature.name
        codes[code] = codes.get(code) or feature.reason
    return codes


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


SPECIFIC = Check(
    name="reasons.specific",
    kind="reason",
    run=specific,
    params={
        "vague_texts": Param(list, [], "texts that may not be given as a reason, beside the product's own"),
        "require_text": Param(bool, True, "whether every reason must have a text of its own"),
        "fewest_words": Param(int, 1, "fewest words of a text", low=1, high=50),
    },
    stages=("release", "evidence"),
    unit="share",
    source="12 CFR 1002.9(b)(2) with its official interpretation; CFPB Circulars 2022-03 and 2023-03",
    needs=("contract",),
    summary="Every reason text says what counted against the person; vague ones are refused.",
)
READABLE = Check(
    name="reasons.readable",
    kind="reason",
    run=readable,
    params={
        "language": Param(str, "en", "whose formula is used", choices=LANGUAGES),
        "minimum": Param(float, None, "lowest reading ease that is ok; not given: no verdict"),
        "longest_sentence": Param(int, None, "most words of a sentence; not given: no verdict", low=1),
        "texts": Param(list, [], "further texts that people get, such as a letter's"),
    },
    stages=("release", "evidence"),
    unit="reading ease",
    source="Flesch 1948 (English), Amstad 1978 (German), Kandel and Moles 1958 (French)",
    needs=("contract",),
    summary="How easy the reason texts are to read.",
)
