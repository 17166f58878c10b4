"""`fiduciary token`: the built-in issuer of one machine."""

from __future__ import annotations

import click

from fiduciary.cli._home import Home, acting, with_home
from fiduciary.cli._output import Output
from fiduciary.identity import ROLES, LocalIssuer


@click.group()
def token() -> None:
    """Issue and revoke access tokens of this machine's own issuer."""


@token.command()
@click.argument("subject")
@click.option(
    "--role", "roles", multiple=True, required=True, type=click.Choice(sorted(ROLES)), help="May repeat."
)
@click.option("--department", default="", help="Department the caller acts for.")
@click.option("--region", default=None, help="Region the caller acts for (default: the home's).")
@click.option("--person", is_flag=True, help="A person, not a service.")
@click.option("--lifetime", default=3600, show_default=True, help="Seconds until it expires.")
@click.option("--one-time", is_flag=True, help="Good for one request only.")
@with_home
def issue(
    output: Output,
    home: Home,
    subject: str,
    roles: tuple[str, ...],
    department: str,
    region: str | None,
    person: bool,
    lifetime: int,
    one_time: bool,
) -> None:
    """Issue a token for SUBJECT and print it: it is a secret."""
    issuer = LocalIssuer.open(home.path)
    text = issuer.issue(
        subject,
        roles,
        department=department,
        region=home.settings.region if region is None else region,
        kind="person" if person else "service",
        lifetime_s=lifetime,
        audience=home.settings.auth.audience,
        one_time=one_time,
    )
    output.result({"token": text, "subject": subject, "expires_in": lifetime}, text)


@token.command()
@click.option("--subject", default="", help="Void every token of this subject issued up to now.")
@click.option("--token-id", default="", help="Void the one token with this jti.")
@click.option("--reason", default="", help="Why, in plain words.")
@acting
@with_home
def revoke(output: Output, home: Home, subject: str, token_id: str, reason: str, party: str) -> None:
    """Void tokens; obeyed by the next answer of every process."""
    receipt = home.registry.revoke_token(
        by=party, jti=token_id, subject=subject, reason=reason, key=home.key(party)
    )
    output.result({"record": receipt.id}, f"revoked (record {receipt.id})")


@token.command()
@click.option(
    "--keep", default=1, show_default=True, help="Earlier keys that stay valid; 0 ends every token."
)
@acting
@with_home
def rotate(output: Output, home: Home, keep: int, party: str) -> None:
    """Make a new signing key for the issuer."""
    home.require(party, "revoke_token")
    kid = LocalIssuer.open(home.path, changed=home.ledger.epoch.bump).rotate(keep=keep)
    output.result({"kid": kid}, f"the issuer signs with key {kid} from now on")
