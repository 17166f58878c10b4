"""`fiduciary pack`: rule packs."""

from __future__ import annotations

import click

from fiduciary.cli._adopt import adopt, list_packs, withdraw


@click.group()
def pack() -> None:
    """Rule packs: which are in force here, and what they say."""


pack.add_command(adopt)
pack.add_command(withdraw)
pack.add_command(list_packs)
