"""`fiduciary pack`: rule packs."""

from __future__ import annotations

import click

from fiduciary.cli._adopt import adopt, list_packs, withdraw
from fiduciary.cli._pack_author import diff, lint, resolve, run, show, sign


@click.group()
def pack() -> None:
    """Rule packs: which are in force here, and what they say."""


for command in (adopt, withdraw, list_packs, show, lint, run, resolve, diff, sign):
    pack.add_command(command)
