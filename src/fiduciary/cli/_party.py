"""`fiduciary party`: who may sign."""

from __future__ import annotations

from pathlib import Path

import click

from fiduciary.cli._home import Home, acting, time_text, with_home
from fiduciary.cli._output import Output
from fiduciary.errors import UsageError
from fiduciary.identity import ROLES, PartyKey


@click.group()
def party() -> None:
    """Enrol people and services with their keys and roles."""


@party.command()
@click.argument("name")
@click.option(
    "--role", "roles", multiple=True, required=True, type=click.Choice(sorted(ROLES)), help="May repeat."
)
@click.option("--service", is_flag=True, help="A service, not a person (services cannot approve).")
@click.option("--public-key", help="Its Ed25519 public key in hex, made elsewhere; else one is made here.")
@acting
@with_home
def enrol(
    output: Output,
    home: Home,
    name: str,
    roles: tuple[str, ...],
    service: bool,
    public_key: str | None,
    party: str,
) -> None:
    """Enrol NAME, or renew its key or roles. Takes an officer."""
    path: Path | None = None
    if public_key is not None:
        try:
            public = bytes.fromhex(public_key)
        except ValueError:
            raise UsageError("--public-key takes 64 hexadecimal digits") from None
    else:
        path = home.key_path(name)
        if path.exists():
            public = PartyKey.load(path).public
        else:
            key = PartyKey.generate()
            public = key.public
            key.save(path)
    receipt = home.registry.enrol_party(
        name, public, roles, by=party, key=home.key(party), kind="service" if service else "person"
    )
    where = f"; its key is {path}" if path else ""
    output.result(
        {"party": name, "roles": list(roles), "public_key": public.hex(), "record": receipt.id},
        f"{name} is enrolled as {', '.join(roles)} (record {receipt.id}){where}",
    )


@party.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why, in plain words.")
@acting
@with_home
def remove(output: Output, home: Home, name: str, reason: str, party: str) -> None:
    """End NAME's rights; what it signed before stays valid."""
    receipt = home.registry.remove_party(name, by=party, key=home.key(party), reason=reason)
    output.result(
        {"party": name, "record": receipt.id}, f"{name} is no longer enrolled (record {receipt.id})"
    )


@party.command("list")
@with_home
def list_parties(output: Output, home: Home) -> None:
    """Who is enrolled, with roles and keys."""
    parties = home.registry.states().parties.values()
    rows = [
        (p.name, p.current.kind, ", ".join(p.current.roles), p.current.key_id, time_text(p.current.since_ns))
        for p in parties
        if p.current
    ]
    if output.as_json:
        names = ("party", "kind", "roles", "key_id", "since")
        output.json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        output.table(["party", "kind", "roles", "key", "since"], rows)
