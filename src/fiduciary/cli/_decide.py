"""`fiduciary decide`: ask a running gate."""

from __future__ import annotations

import json
from typing import Any

import click

from fiduciary.cli._output import Output
from fiduciary.errors import FiduciaryError, UsageError, every_error

TIMEOUT_S = 30.0
MAX_ANSWER = 16 << 20


@click.command()
@click.argument("use_case")
@click.option("--subject", required=True, help="Who it is about: your customer's or case's id.")
@click.option("--features", required=True, help="One row as JSON, or @FILE.")
@click.option(
    "--url", envvar="FIDUCIARY_URL", default="http://127.0.0.1:8080", show_default=True, help="The gate."
)
@click.option("--token", envvar="FIDUCIARY_TOKEN", help="Access token (better: FIDUCIARY_TOKEN).")
@click.option("--purpose", default=None, help="What it is asked for: the use case's name or purpose.")
@click.option("--consent", default=None, help="Your reference to the subject's consent.")
@click.option("--region", default=None, help="Where the subject is, such as us-nj.")
@click.option("--opted-out", is_flag=True, help="The subject does not want a machine alone to decide.")
@click.option("--idempotency-key", default=None, help="Asking again with the same key gives the same answer.")
@click.pass_obj
def decide(
    output: Output,
    use_case: str,
    subject: str,
    features: str,
    url: str,
    token: str | None,
    purpose: str | None,
    consent: str | None,
    region: str | None,
    opted_out: bool,
    idempotency_key: str | None,
) -> None:
    """Ask a running gate to decide USE_CASE for one row."""
    row = read_row(features)
    said = {"purpose": purpose, "consent": consent, "region": region, "opted_out": opted_out or None}
    answer = ask(
        url,
        token,
        {
            "use_case": use_case,
            "subject": subject,
            "features": row,
            **{name: value for name, value in said.items() if value is not None},
        },
        idempotency_key=idempotency_key,
    )
    if output.as_json:
        output.json(answer)
        return
    output.say(f"{answer['outcome']}  (score {answer['score']:.4f}, record {answer['id']})")
    if "referred_by" in answer:
        output.say(
            f"  referred by {answer['referred_by']}" + (f" to {answer['human']}" if "human" in answer else "")
        )
    for notice in answer.get("notices", []):
        days = notice.get("within_days")
        when = "with the decision" if days is None else f"within {days} days"
        output.say(f"  notice due {when}: {notice['code']} ({notice['rule']})")
    for reason in answer.get("reasons", []):
        output.say(f"  {reason['contribution']:+.3f}  {reason['text']}")


def read_row(text: str) -> Any:
    """A JSON object given on the command line, or `@FILE`."""
    from pathlib import Path

    try:
        raw = Path(text[1:]).read_text("utf-8") if text.startswith("@") else text
        row = json.loads(raw)
    except OSError as error:
        raise UsageError(f"{text[1:]} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"--features is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise UsageError('--features takes one JSON object, such as {"income": 32000, ...}')
    return row


def ask(url: str, token: str | None, body: dict[str, Any], *, idempotency_key: str | None = None) -> Any:
    """POST to the gate's native door. A problem document comes back as the error it is."""
    import urllib.error
    import urllib.request

    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url takes an http:// or https:// address, not {url!r}")
    if not token:
        raise UsageError("no token: set FIDUCIARY_TOKEN (`fiduciary token issue` makes one)")
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    if idempotency_key:
        headers["Idempotency-Key"] = idempotency_key
    request = urllib.request.Request(url + "/v1/decisions", json.dumps(body).encode(), headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310
            return json.loads(reply.read(MAX_ANSWER))
    except urllib.error.HTTPError as error:
        raise _problem(error.read(MAX_ANSWER), error.code) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UsageError(f"no gate answers at {url} ({reason}): start one with `fiduciary serve`") from None


def _problem(raw: bytes, status: int) -> FiduciaryError:
    try:
        problem = json.loads(raw)
        kind = problem["type"].rpartition(":")[2]
        found = next((e for e in every_error() if e.kind == kind), FiduciaryError)
        return found(problem["detail"], where=problem.get("where"))
    except (ValueError, KeyError, TypeError):
        return FiduciaryError(f"the gate answered with status {status} and no problem document")
