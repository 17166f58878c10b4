"""`fiduciary policy`: access policies."""

from __future__ import annotations

import click

from fiduciary.cli._home import Home, acting, with_home
from fiduciary.cli._output import Output
from fiduciary.errors import ConfigError
from fiduciary.identity import Authorizer


@click.group()
def policy() -> None:
    """Check access policies and put them in force."""


@policy.command()
@with_home
def check(output: Output, home: Home) -> None:
    """Do the policies in policies/*.cedar parse and fit the schema?"""
    authorizer = _fresh(home)
    output.result(
        {"digest": authorizer.digest.hex()}, f"the policies hold; digest {authorizer.digest.hex()[:16]}"
    )


@policy.command()
@acting
@with_home
def reload(output: Output, home: Home, party: str) -> None:
    """Put edited policies in force: recorded, and obeyed by the next answer."""
    authorizer = _fresh(home)
    home.require(party, "define_use_case", "UseCase")
    receipt = home.ledger.emit("policy.changed", {"by": party, "policies": authorizer.digest.hex()})
    output.result(
        {"record": receipt.id, "digest": authorizer.digest.hex()}, f"the policies are in force ({receipt.id})"
    )


def _fresh(home: Home) -> Authorizer:
    authorizer = Authorizer(home.path / "policies", lambda: 0)
    if authorizer.problem:
        raise ConfigError(f"the policies do not hold, so everything would be denied: {authorizer.problem}")
    return authorizer
