"""How easy a text is to read, by the published formulas of three languages.

Flesch, Journal of Applied Psychology 32, 1948, for English; Amstad, Wie verständlich sind unsere Zeitungen?,
1978, for German; Kandel and Moles, Cahiers d'Etudes de Radio-Television 19, 1958, for French. Each weighs words in a
sentence and syllables in a word; 100 is very easy, 60 plain, 30 hard. Syllables are counted as groups of vowels,
less the silent endings of English and French: right for most words, not for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

Language = Literal["en", "de", "fr"]
LANGUAGES: tuple[Language, ...] = ("en", "de", "fr")

_FORMULAS: dict[Language, tuple[float, float, float]] = {
    "en": (206.835, 1.015, 84.6),
    "de": (180.0, 1.0, 58.5),
    "fr": (207.0, 1.015, 73.6),
}
_VOWELS = re.compile(r"[aeiouyäöüàâæéèêëîïôœùûÿ]+")
_WORDS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+(?:[.,]\d+)*")
_ENDS = re.compile(r"[.!?…]+(?=\s|$)|\n+")


class Readability(msgspec.Struct, frozen=True):
    """Counts of a text and its reading ease."""

    sentences: int
    words: int
    syllables: int
    ease: float
    longest_sentence: int
    """Words of the longest sentence."""


def syllables(word: str, language: Language = "en") -> int:
    """Syllables of one word, at least 1; a number counts as one."""
    plain = word.lower().replace("’", "'")
    count = sum(_parts(part, language) for part in re.split(r"[-']", plain) if part)
    return max(count, 1)


def _parts(part: str, language: Language) -> int:
    count = len(_VOWELS.findall(part))
    if language == "en":
        silent_e = part.endswith("e") and not re.search(r"([^aeiouy]le|[aeiouy]e)$", part)
        silent_ed = part.endswith("ed") and not part.endswith(("ted", "ded"))
        silent_es = part.endswith("es") and not part.endswith(
            ("ses", "zes", "xes", "ches", "shes", "ges", "ces")
        )
        silent_es = silent_es and not part.endswith("ies")
        count -= (silent_e or silent_ed or silent_es) and count > 1
    elif language == "fr":
        count -= bool(re.search(r"[^aeiouyéèê](e|es|ent)$", part)) and count > 1
    return count


def readability(texts: Iterable[str], language: Language = "en") -> Readability | None:
    """The reading ease of texts taken together, each ending its last sentence; None without a word."""
    sentences = words = total = longest = 0
    for text in texts:
        for sentence in _ENDS.split(text):
            found = _WORDS.findall(sentence)
            if found:
                sentences += 1
                words += len(found)
                longest = max(longest, len(found))
                total += sum(syllables(word, language) for word in found)
    if not words:
        return None
    start, by_sentence, by_word = _FORMULAS[language]
    ease = start - by_sentence * words / sentences - by_word * total / words
    return Readability(sentences, words, total, ease, longest)
