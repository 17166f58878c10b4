"""`fiduciary usecase`: what a model may be used for."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec

from fiduciary.cli._home import Home, acting, short, with_home
from fiduciary.cli._output import Output
from fiduciary.errors import UsageError
from fiduciary.registry import UseCase, read_use_case


@click.group()
def usecase() -> None:
    """Define what a model may be used for, and its cut-offs."""


def read_document(path: Path) -> UseCase:
    """A use case from a TOML or JSON file. Raises `UsageError`."""
    try:
        raw = path.read_bytes()
        document: Any = msgspec.json.decode(raw) if path.suffix == ".json" else tomllib.loads(raw.decode())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, msgspec.DecodeError) as error:
        raise UsageError(f"{path} is not valid TOML or JSON: {error}") from None
    return read_use_case(document)


@usecase.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@acting
@with_home
def define(output: Output, home: Home, file: Path, party: str) -> None:
    """Define the use case of FILE (TOML or JSON), or a new version of it. Takes an officer."""
    use_case = read_document(file)
    receipt = home.registry.define_use_case(use_case, by=party, key=home.key(party))
    output.result(
        {"use_case": use_case.name, "digest": use_case.digest, "record": receipt.id},
        f"{use_case.name} is defined, {short(use_case.digest)} (record {receipt.id})",
    )


@usecase.command()
@click.argument("name")
@with_home
def show(output: Output, home: Home, name: str) -> None:
    """Purpose, cut-offs and what is live."""
    use = home.registry.states().use(name)
    document = {**use.use_case.document, "digest": use.digest, "live": home.registry.live(name)}
    output.result(document)


@usecase.command("list")
@with_home
def list_use_cases(output: Output, home: Home) -> None:
    """All use cases and what is live for each."""
    state = home.registry.states()
    rows = [
        (
            name,
            use.use_case.purpose,
            use.use_case.approve_below,
            use.use_case.decline_from,
            state.live(name) or "-",
        )
        for name, use in state.uses.items()
    ]
    if output.as_json:
        names = ("use_case", "purpose", "approve_below", "decline_from", "live")
        output.json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        shown = [(*row[:4], short(row[4])) for row in rows]
        output.table(["use case", "purpose", "approve below", "decline from", "live"], shown)
