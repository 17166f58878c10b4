"""`fiduciary attest`: file the evidence that only a person can add."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from fiduciary.cli._home import Home, acting, with_home
from fiduciary.cli._output import Output
from fiduciary.errors import UsageError

MAX_DOCUMENT = 1 << 30


@click.command()
@click.argument("kind")
@click.option(
    "--document",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="The document. Its digest is recorded; the document itself stays with you.",
)
@click.option("--title", required=True, help="What it is, in plain words.")
@click.option("--use-case", default="", help="The use case it is about; left out: all of them.")
@click.option("--release", "reference", default="", help="The release it is about, if it is about one.")
@click.option("--expires", default="", help="First day on which it no longer counts (YYYY-MM-DD).")
@click.option("--note", default="", help="A word on it.")
@acting
@with_home
def attest(
    output: Output,
    home: Home,
    kind: str,
    document: Path,
    title: str,
    use_case: str,
    reference: str,
    expires: str,
    note: str,
    party: str,
) -> None:
    """File an attestation of KIND, such as dpia, fria, board-report, vendor-file."""
    if document.stat().st_size > MAX_DOCUMENT:
        raise UsageError(f"{document.name} is larger than {MAX_DOCUMENT} bytes")
    with document.open("rb") as file:
        digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    release = home.digest(reference) if reference else ""
    receipt = home.registry.attest(
        kind,
        digest,
        title,
        by=party,
        key=home.key(party),
        use_case=use_case,
        release=release,
        expires=expires,
        note=note,
    )
    output.result(
        {"kind": kind, "digest": digest, "record": receipt.id},
        f"{kind} is filed by {party} ({receipt.id}); keep {document.name}, its digest is {digest[:19]}",
    )
