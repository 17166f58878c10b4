"""`fiduciary letter`: a letter to a person from one recorded decision."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import click

from fiduciary.cli._home import Home, acting, with_home
from fiduciary.cli._output import Output
from fiduciary.errors import UsageError
from fiduciary.rights import (
    Desk,
    Letters,
    check_folder,
    find_pack,
    load_template,
    read_words,
    shipped_template,
    write_folder,
)

MAX_FILE = 1 << 20


@click.command()
@click.argument("record")
@click.option("--kind", required=True, help="Which letter: adverse_action, uk_adm, gdpr_22, aia_86.")
@click.option("--pack", "pack_name", required=True, help="The pack that asks for it, such as us-credit.")
@click.option("--language", default="en", show_default=True, help="Two small letters: en, de, fr.")
@click.option(
    "--words", type=click.Path(path_type=Path), default=None, help="Reasons in that language (YAML)."
)
@click.option("--template", type=click.Path(path_type=Path), default=None, help="Your own template (YAML).")
@click.option("--date", "on", default=None, help="Date of the letter (default: today, UTC).")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder to write into, outside the home."
)
@acting
@with_home
def letter(
    output: Output,
    home: Home,
    record: str,
    kind: str,
    pack_name: str,
    language: str,
    words: Path | None,
    template: Path | None,
    on: str | None,
    out: Path,
    party: str,
) -> None:
    """Write a letter about decision RECORD as text and HTML, and put its issue on record."""
    home.require(party, "read_record", "Record")
    names = ["letter.txt", "letter.html"]
    check_folder(home.path, out, names)
    desk = Desk(home.ledger, home.registry)
    if template is not None:
        raw = _bytes(template)
        found = load_template(raw)
    else:
        found, raw = shipped_template(kind, language)
    written = Letters(desk).issue(
        record,
        kind,
        find_pack(desk, pack_name),
        found,
        raw,
        by=party,
        words=read_words(_bytes(words)) if words else None,
        on=_day(on),
    )
    write_folder(home.path, out, dict(zip(names, (written.text, written.page), strict=True)))
    output.result(
        {
            "decision": record,
            "kind": kind,
            "language": written.language,
            "files": [str(out / n) for n in names],
            "digest": written.digest,
            "notices": written.codes,
            "record": written.receipt.id,
        },
        f"written to {out} ({written.receipt.id}); notices answered: {', '.join(written.codes) or 'none'}",
    )


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE:
            raise UsageError(f"{path.name} is larger than {MAX_FILE} bytes")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path.name} cannot be read: {error.strerror}") from None


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise UsageError("--date takes a day such as 2026-05-03") from None
