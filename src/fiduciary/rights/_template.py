"""Letter templates: data with closed placeholders. No expressions, no conditions beyond five named ones.

A template is YAML: blocks of text in order, each a heading, a paragraph, a list that the trace fills (`reasons`,
`changes`, `factors`) or a table of facts. `{name}` is replaced once by the value of that name, whatever braces or
markup the value holds; a name that is not known does not load. The same blocks give text and HTML.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Literal

import msgspec

from fiduciary.errors import NotFoundError, UsageError
from fiduciary.rules import read_yaml

FORMAT: Literal["fiduciary.letter/1"] = "fiduciary.letter/1"
PLACEHOLDERS = frozenset(
    {
        "creditor", "creditor_address", "creditor_contact", "reference", "record", "letter_date",
        "decision_date", "purpose", "contest_route", "oversight", "supervisor", "bureaus", "score",
        "score_low", "score_high", "score_meaning", "release", "contest_days", "basis",
    }
)  # fmt: skip
LISTS = ("reasons", "changes", "factors")
CONDITIONS = ("bureau", "changes", "no_changes", "machine", "person")
MAX_BLOCKS = 80
MAX_CHARACTERS = 3_000
WIDTH = 78
_NAME = re.compile(r"\{([^{}]*)\}")
_BRACE = re.compile(r"[{}]")
_LANGUAGE = re.compile(r"[a-z]{2}")


class Block(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part of a letter: exactly one of the four members beside `when`."""

    heading: str = ""
    text: str = ""
    show: Literal["", "reasons", "changes", "factors"] = ""
    table: list[tuple[str, str]] = []
    """Rows of label and value."""
    when: Literal["", "bureau", "changes", "no_changes", "machine", "person"] = ""
    """machine, person: who declined."""


class Template(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A letter of one kind in one language."""

    format: Literal["fiduciary.letter/1"] = FORMAT
    kind: str
    language: str
    dates: Literal["en-US", "en-GB", "de", "fr"]
    title: str
    change: str = ""
    """One line of the list of changes: {feature}, {before}, {after}."""
    unreviewed: str
    """The banner until counsel has signed the pack and this text: {pack}."""
    yes: str = "yes"
    no: str = "no"
    alone: bool = False
    """It says that the machine decided alone: not for what a person declined."""
    blocks: list[Block]

    @property
    def wanted(self) -> set[str]:
        """Names of the placeholders that it uses."""
        return {n for text in _texts(self) for n in _NAME.findall(text)}

    @property
    def lists(self) -> set[str]:
        """Names of the lists that it shows."""
        return {block.show for block in self.blocks if block.show}


def load_template(raw: bytes) -> Template:
    """A template from YAML, wholly checked. Raises `UsageError` naming what is wrong, `LimitError`."""
    try:
        found = msgspec.convert(read_yaml(raw), Template)
    except msgspec.ValidationError as error:
        raise UsageError(f"the letter template is not right: {error}") from None
    if not _LANGUAGE.fullmatch(found.language):
        raise UsageError("a template's language is two small letters, such as en", where="/language")
    if not 1 <= len(found.blocks) <= MAX_BLOCKS:
        raise UsageError(f"a template has 1 to {MAX_BLOCKS} blocks", where="/blocks")
    for i, block in enumerate(found.blocks):
        if sum(map(bool, (block.heading, block.text, block.show, block.table))) != 1:
            raise UsageError("a block has exactly one of heading, text, show and table", where=f"/blocks/{i}")
        for text in (block.heading, block.text, *(cell for row in block.table for cell in row)):
            _check_text(text, PLACEHOLDERS, f"/blocks/{i}")
    _check_text(found.title, PLACEHOLDERS, "/title")
    _check_text(found.change, frozenset({"feature", "before", "after"}), "/change")
    _check_text(found.unreviewed, frozenset({"pack"}), "/unreviewed")
    if "reasons" not in found.lists:
        raise UsageError("a letter gives the reasons: the template has no list of them", where="/blocks")
    if "changes" in found.lists and not found.change:
        raise UsageError("the list of changes needs a line of its own", where="/change")
    return found


def shipped_template(kind: str, language: str) -> tuple[Template, bytes]:
    """The template of a kind in a language, and its bytes. Raises `NotFoundError` saying which there are."""
    folder = resources.files("fiduciary.rules") / "packs" / "letters"
    names = sorted(f.name for f in folder.iterdir() if f.name.endswith(".yaml"))
    wanted = f"{kind}.{language}.yaml"
    if wanted not in names:
        there = ", ".join(name.removesuffix(".yaml") for name in names)
        raise NotFoundError(f"there is no letter {kind[:60]} in language {language[:10]}; there are: {there}")
    raw = (folder / wanted).read_bytes()
    return load_template(raw), raw


def _texts(template: Template) -> list[str]:
    found = [template.title]
    for block in template.blocks:
        found += [block.heading, block.text, *(cell for row in block.table for cell in row)]
    return found


def _check_text(text: str, known: frozenset[str], where: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"a text of a template has at most {MAX_CHARACTERS} characters", where=where)
    for name in _NAME.findall(text):
        if name not in known:
            raise UsageError(
                f"{{{name[:40]}}} is no placeholder; there are {', '.join(sorted(known))}", where=where
            )
    if _BRACE.search(_NAME.sub("", text)):
        raise UsageError("a brace stands alone; a placeholder is {name}", where=where)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace every placeholder once; what a value holds is never read again."""
    return _NAME.sub(lambda match: values[match.group(1)], text)


def render(
    template: Template,
    values: Mapping[str, str],
    lists: Mapping[str, Sequence[str]],
    conditions: set[str],
    banner: str,
) -> tuple[str, str]:
    """The letter as text and as one self-contained HTML page. The same input gives the same bytes."""
    plain = {name: clean(value) for name, value in values.items()}
    title = fill(template.title, plain)
    lines: list[str] = [*([banner, ""] if banner else []), title, "=" * min(len(title), WIDTH), ""]
    body: list[str] = [f"<h1>{html.escape(title)}</h1>"]
    for block in template.blocks:
        if block.when and block.when not in conditions:
            continue
        if block.heading:
            heading = fill(block.heading, plain)
            lines += [heading, "-" * min(len(heading), WIDTH), ""]
            body.append(f"<h2>{html.escape(heading)}</h2>")
        elif block.text:
            text = fill(" ".join(block.text.split()), plain)
            lines += [*_wrapped(text), ""]
            body.append("<p>" + "<br>".join(html.escape(line) for line in text.split("\n")) + "</p>")
        elif block.show:
            items = [clean(item) for item in lists.get(block.show, [])]
            for n, item in enumerate(items, 1):
                lines += textwrap.wrap(item, WIDTH, initial_indent=f"{n}. ", subsequent_indent="   ")
            lines.append("")
            body.append("<ol>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ol>")
        else:
            rows = [(fill(label, plain), fill(value, plain)) for label, value in block.table]
            lines += [*(f"{label}: {value}" for label, value in rows), ""]
            cells = "".join(f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in rows)
            body.append(f"<table>{cells}</table>")
    top = f'<p class="banner">{html.escape(banner)}</p>' if banner else ""
    page = (
        f'<!doctype html>\n<html lang="{template.language}"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body>{top}"
        + "\n".join(body)
        + "</body></html>\n"
    )
    return "\n".join(lines).rstrip("\n") + "\n", page


STYLE = (
    "body{font:16px/1.5 Georgia,serif;max-width:42rem;margin:2rem auto;padding:0 1rem;color:#111}"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:1.5rem}th{text-align:left;padding-right:1rem}"
    "td,th{vertical-align:top;padding-bottom:.3rem}.banner{border:2px solid #a00;padding:.5rem;color:#a00}"
    "@media print{body{margin:0;max-width:none}h2{break-after:avoid}}"
)


def clean(text: str) -> str:
    """A value for a letter: one line, without control or direction-changing characters."""
    kept = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(kept.split())


def _wrapped(text: str) -> list[str]:
    return [line for part in text.split("\n") for line in (textwrap.wrap(part, WIDTH) or [""])]
