"""`fiduciary init`: a new home."""

from __future__ import annotations

from pathlib import Path

import click

from fiduciary.cli._output import Output
from fiduciary.errors import ConflictError

TEMPLATE = """\
# Settings of this home; docs/settings.md lists all of them. FIDUCIARY_* variables beat what stands here.
tenant = "{tenant}"
region = "{region}"

[gate]
host = "127.0.0.1"
port = 8080
"""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--tenant", default="local", help="The institution; part of every log's origin.")
@click.option("--region", default="eu", help="Where this home stands; part of every log's origin.")
@click.option("--officer", default="officer", help="The first party, who enrols all others.")
@click.pass_obj
def init(output: Output, folder: Path, tenant: str, region: str, officer: str) -> None:
    """Make a home: settings, log and party keys, token issuer, ledger, access policies."""
    created = create_home(folder, tenant=tenant, region=region, officer=officer)
    output.result(
        {"home": str(created), "officer": officer},
        f"A home is made in {created}.\n"
        f"{officer} is its first officer and enrols everybody else:\n"
        f"  cd {folder}\n  fiduciary party enrol ada --role developer --as {officer}",
    )


def create_home(folder: Path, *, tenant: str, region: str, officer: str) -> Path:
    """Make everything a home needs. Raises `ConflictError` where there is one, `ConfigError` for bad names."""
    from fiduciary.cli._home import Home
    from fiduciary.config import FILE_NAME, Settings
    from fiduciary.identity import LocalIssuer, PartyKey, install_default_policies
    from fiduciary.ledger import Ledger

    path = folder.absolute() / FILE_NAME
    if path.exists():
        raise ConflictError(f"{folder} is a home already ({FILE_NAME} is there); nothing was changed")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "keys" / "parties").mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "keys").chmod(0o700)
    path.write_text(TEMPLATE.format(tenant=tenant, region=region))
    try:
        settings = Settings.load(folder)
    except BaseException:
        path.unlink()
        raise
    with Ledger.create(settings) as ledger:
        home = Home(settings, ledger)
        install_default_policies(settings.home / "policies")
        LocalIssuer.create(settings.home)
        key = PartyKey.generate()
        key.save(home.key_path(officer))
        home.registry.enrol_party(officer, key.public, ["officer"], by=officer, key=key)
    return settings.home
