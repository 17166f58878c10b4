"""`fiduciary pack adopt | withdraw | list`: which rule packs are in force in a home."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fiduciary.cli._home import Home, acting, short, time_text, with_home
from fiduciary.cli._output import Output


@click.command()
@click.argument("pack")
@click.option("--note", default="", help="Why now, or who reviewed it.")
@acting
@with_home
def adopt(output: Output, home: Home, pack: str, note: str, party: str) -> None:
    """Put PACK (a file, or the name of a shipped pack) in force here. Takes an officer.

    A pack that says counsel reviewed it is taken only with the signature beside it (PACK.dsse.json, of `pack sign`),
    by somebody other than who adopts it.
    """
    found = find_pack(pack)
    beside = Path(pack + ".dsse.json")
    review = beside.read_bytes() if found.reviewed and beside.is_file() else None
    receipt = home.registry.adopt_pack(
        found.document, by=party, key=home.key(party), note=note, review=review
    )
    document = {"pack": found.pack, "version": found.version, "digest": found.digest, "record": receipt.id}
    output.result(
        document, f"pack {found.pack} {found.version} is in force, {short(found.digest)} ({receipt.id})"
    )
    if not found.reviewed:
        output.say("note: no counsel has signed this pack; everything made with it says so")


def find_pack(name: str) -> Any:
    """A `rules.Pack` from a file, or one of the shipped packs. Raises `UsageError`."""
    from fiduciary import rules
    from fiduciary.errors import UsageError

    path = Path(name)
    if path.is_file():
        return rules.load_pack(path.read_bytes())
    shipped = {p.pack: p for p in rules.shipped_packs()}
    if name not in shipped:
        raise UsageError(f"{name!r} is neither a file nor a shipped pack; shipped are: {', '.join(shipped)}")
    return shipped[name]


@click.command()
@click.argument("pack")
@click.option("--reason", required=True, help="Why, in plain words.")
@acting
@with_home
def withdraw(output: Output, home: Home, pack: str, reason: str, party: str) -> None:
    """Take PACK out of force. Use cases that name it are refused until they name others."""
    receipt = home.registry.withdraw_pack(pack, by=party, key=home.key(party), reason=reason)
    output.result({"pack": pack, "record": receipt.id}, f"pack {pack} is out of force ({receipt.id})")


@click.command("list")
@click.option("--all", "everything", is_flag=True, help="Earlier versions and withdrawn packs too.")
@with_home
def list_packs(output: Output, home: Home, everything: bool) -> None:
    """The packs in force here, since when, and which use cases they govern."""
    state = home.registry.states()
    found = [a for a in state.pack_history if everything or a.ended is None]
    rows: list[dict[str, Any]] = [
        {
            "pack": a.pack,
            "version": a.version,
            "digest": a.digest,
            "since": time_text(a.mark.time_ns),
            "until": time_text(a.ended.time_ns) if a.ended else None,
            "by": a.mark.by,
            "use_cases": [
                n for n, use in state.uses.items() if a.ended is None and a.pack in use.use_case.packs
            ],
        }
        for a in found
    ]
    if output.as_json:
        output.json(rows)
        return
    output.table(
        ["pack", "version", "digest", "since", "until", "by", "governs"],
        [
            (
                r["pack"],
                r["version"],
                short(str(r["digest"])),
                r["since"],
                r["until"] or "-",
                r["by"],
                ", ".join(r["use_cases"]) or "-",
            )
            for r in rows
        ],
    )
