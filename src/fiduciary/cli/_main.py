"""The root command: finds a command's module only when it is called, and turns errors into one plain line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import click

from fiduciary import __version__
from fiduciary.cli._output import Output
from fiduciary.errors import FiduciaryError

COMMANDS = {
    "init": ("fiduciary.cli._init:init", "make a home: settings, keys, ledger, policies"),
    "train": ("fiduciary.cli._train:train", "train a model on a table"),
    "release": ("fiduciary.cli._release:release", "build, sign, approve, promote, suspend releases"),
    "pack": ("fiduciary.cli._pack:pack", "rule packs: adopt, withdraw, list"),
    "check": ("fiduciary.cli._check:check", "hold a release against the rules of the day: red or green"),
    "attest": ("fiduciary.cli._attest:attest", "file the evidence that only a person can add"),
    "finding": ("fiduciary.cli._finding:finding", "what a reviewer wants repaired: raise, close, list"),
    "waiver": ("fiduciary.cli._waiver:waiver", "leave for a release not to meet a rule: grant, list"),
    "overlay": ("fiduciary.cli._overlay:overlay", "judgements laid over a model: set, end, list"),
    "usecase": ("fiduciary.cli._usecase:usecase", "define what a model may be used for, and its cut-offs"),
    "party": ("fiduciary.cli._party:party", "enrol people and services with their keys and roles"),
    "token": ("fiduciary.cli._token:token", "issue and revoke access tokens"),
    "policy": ("fiduciary.cli._policy:policy", "check access policies and put them in force"),
    "serve": ("fiduciary.cli._serve:serve", "open the doors: HTTP and gRPC"),
    "decide": ("fiduciary.cli._decide:decide", "ask a running gate for a decision"),
    "replay": ("fiduciary.cli._replay:replay", "decide again from the record, bit for bit"),
    "evidence": ("fiduciary.cli._evidence:evidence", "cut a folder that an outsider can verify"),
    "contest": ("fiduciary.cli._contest:contest", "what people say against decisions: open, decide, list"),
    "decision": ("fiduciary.cli._contest:decision", "what stands for a decision; override it by a person"),
    "subject": ("fiduciary.cli._subject:subject", "a person's rights: request, access, port, erase, due"),
    "letter": ("fiduciary.cli._letter:letter", "a letter to a person from one recorded decision"),
    "incident": ("fiduciary.cli._incident:incident", "what went wrong, and the reports that are due"),
    "clocks": ("fiduciary.cli._clocks:clocks", "what ticks, what is due, what is late"),
    "drill": ("fiduciary.cli._drill:drill", "press the stop button for real; record other drills"),
    "audit": ("fiduciary.cli._audit:audit", "draw decisions, rebuild each, list the exceptions"),
    "ledger": ("fiduciary.cli._ledger:ledger", "verify, audit, search, prove, erase, hold, export"),
    "witness": ("fiduciary.cli._witness:witness", "vouch for other homes' logs, have ours vouched for"),
    "registry": ("fiduciary.cli._registry:registry", "what is live, and what was"),
    "joint": ("fiduciary.cli._joint:joint", "train on data that nobody reveals, with other organisations"),
    "worker": ("fiduciary.cli._worker:worker", "environments of joint training's engines"),
    "demo": ("fiduciary.cli._demo:demo", "the whole path on one machine"),
    "completion": ("fiduciary.cli._completion:completion", "shell completion for bash, zsh and fish"),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, not when help is listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{name} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near and "Did you mean" not in error.message else ""
            raise click.UsageError(error.message + hint, ctx) from None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fiduciary")
@click.option(
    "--home", type=click.Path(path_type=Path), envvar="FIDUCIARY_HOME", help="Home folder (default: .)."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@click.pass_context
def root(ctx: click.Context, home: Path | None, as_json: bool) -> None:
    """One governed path for every AI decision: train, release, serve, watch, prove."""
    ctx.obj = Output(home=home, as_json=as_json)


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of the `fiduciary` program. Exits 0 on success, else with the error's exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    if as_json:  # --json may stand anywhere, so that it can be added at the end of any command
        given = ["--json", *[a for a in given if a != "--json"]]
    try:
        code = root.main(args=given, prog_name="fiduciary", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except FiduciaryError as error:
        Output(as_json=as_json).error(error)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
