"""`fiduciary witness`: vouch for the logs of other homes, and have our own vouched for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from fiduciary.cli._home import Home, open_home
from fiduciary.cli._output import Output
from fiduciary.errors import ConflictError, FiduciaryError, IntegrityError
from fiduciary.ledger import Checkpoint, WitnessHome, read_keys


@click.group()
def witness() -> None:
    """Vouch for the logs of other homes, and have our own vouched for."""


def key_texts(words: Iterable[str]) -> list[str]:
    """Public keys as given: each word is a key, or `@FILE` with keys on its lines."""
    return [key for word in words for key in (read_keys(Path(word[1:])) if word.startswith("@") else [word])]


@witness.command()
@click.pass_obj
def key(output: Output) -> None:
    """This home's public witness keys, made if there are none, for those who are to accept them."""
    texts = [signer.verifier.encode() for signer in WitnessHome(output.settings()).keys(create=True)]
    output.result({"keys": texts}, "\n".join(texts))


@witness.command()
@click.argument("log_key", nargs=-1, required=True)
@click.pass_obj
def trust(output: Output, log_key: tuple[str, ...]) -> None:
    """Vouch for foreign logs: LOG_KEY is a key that `ledger keys` printed there, or @FILE with such lines."""
    origins = WitnessHome(output.settings()).trust(key_texts(log_key))
    output.result({"logs": origins}, "\n".join(f"this home is a witness of {origin}" for origin in origins))


@witness.command()
@click.argument("witness_key", nargs=-1, required=True)
@click.pass_obj
def accept(output: Output, witness_key: tuple[str, ...]) -> None:
    """Take cosignatures of a witness: WITNESS_KEY is what `witness key` printed there, or @FILE."""
    names = WitnessHome(output.settings()).accept(key_texts(witness_key))
    output.result({"witnesses": names}, "\n".join(f"this home's logs may ask {name}" for name in names))


@witness.command()
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="Exchange folder.")
@click.option("--witness", "name", default=None, help="Name of the witness (default: the only one).")
@click.pass_obj
def post(output: Output, folder: Path, name: str | None) -> None:
    """Ask a witness to cosign the heads of all logs of this home, by files in a folder."""
    vouchers = WitnessHome(output.settings())
    asked = vouchers.one_witness(name)

    def ask(home: Home, log: str) -> Checkpoint:
        return vouchers.post(home.ledger, log, asked, folder)

    _each_log(output, f"posted to {asked}", ask)


@witness.command()
@click.option("--in", "requests", type=click.Path(path_type=Path), required=True, help="Folder of requests.")
@click.option("--out", "answers", type=click.Path(path_type=Path), required=True, help="Folder for answers.")
@click.pass_obj
def serve(output: Output, requests: Path, answers: Path) -> None:
    """Answer requests of trusted logs; refuse those that were rolled back, forked or rewritten."""
    outcomes = WitnessHome(output.settings()).serve(requests, answers)
    lines = [
        f"REFUSED  {shown(o.origin)}: {o.refusal}"
        if o.refusal
        else f"cosigned  {o.origin} up to {o.size} entries"
        for o in outcomes
    ]
    output.result(
        [{"log": o.origin, "size": o.size, "refusal": o.refusal, "alarm": o.alarm} for o in outcomes],
        "\n".join(lines) or "nothing was asked",
    )
    alarms = sum(bool(o.alarm) for o in outcomes)
    if alarms:
        raise IntegrityError(f"{alarms} log(s) contradict what this home cosigned before")
    if refused := sum(bool(o.refusal) for o in outcomes):
        raise ConflictError(f"{refused} request(s) refused")


@witness.command()
@click.option("--from", "folder", type=click.Path(path_type=Path), required=True, help="Exchange folder.")
@click.option("--witness", "name", default=None, help="Name of the witness (default: the only one).")
@click.pass_obj
def collect(output: Output, folder: Path, name: str | None) -> None:
    """Take the witness's answers and keep the cosigned heads beside the logs' checkpoints."""
    vouchers = WitnessHome(output.settings())
    asked = vouchers.one_witness(name)

    def take(home: Home, log: str) -> Checkpoint | None:
        return vouchers.collect(home.ledger, log, asked, folder)

    _each_log(output, f"cosigned by {asked}", take)


def _each_log(output: Output, done: str, act: Callable[[Home, str], Checkpoint | None]) -> None:
    """Do it for every log; one line each; one that fails does not keep the others from it."""
    rows: list[dict[str, Any]] = []
    errors: list[FiduciaryError] = []
    with open_home(output, writable=False) as home:
        for log in home.ledger.logs():
            try:
                head = act(home, log)
            except FiduciaryError as error:
                errors.append(error)
                rows.append({"log": home.ledger.origin(log), "refusal": error.detail})
                continue
            if head is not None:
                rows.append({"log": head.origin, "size": head.size})
    lines = [
        f"BAD  {row['refusal']}" if "refusal" in row else f"{row['log']}: {row['size']} entries {done}"
        for row in rows
    ]
    output.result(rows, "\n".join(lines) or "no answer yet")
    if errors:
        worst = max(errors, key=lambda error: error.exit_code)
        raise type(worst)(f"{len(errors)} log(s) were not {done}")


def shown(text: str) -> str:
    """Foreign text without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:300])
