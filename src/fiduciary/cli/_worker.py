"""`fiduciary worker`: environments for engines that never enter the main one."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from fiduciary.cli._output import Output, pass_output

ENGINES = click.Choice(["spu", "tenseal", "openfhe"])


@click.group()
def worker() -> None:
    """Build and check the environments of joint training's engines."""


@worker.command()
@click.argument("engine", type=ENGINES)
@click.option(
    "--python", type=click.Path(path_type=Path, dir_okay=False), help="The interpreter to build it with."
)
@click.option("--replace", is_flag=True, help="Build it again where one exists.")
@pass_output
def create(output: Output, engine: str, python: Path | None, replace: bool) -> None:
    """Build ENGINE's environment from the lock with hashes that this product carries, and check it."""
    from fiduciary.joint._workers import create_worker

    state = create_worker(engine, python=python, replace=replace, say=output.say)
    output.result(msgspec.to_builtins(state), f"the {engine} worker is ready: {state.detail}")


@worker.command()
@click.argument("engine", type=ENGINES)
@pass_output
def check(output: Output, engine: str) -> None:
    """Is ENGINE's environment there, from this lock, and does its engine load? Exit 14 when not."""
    from fiduciary.errors import IntegrityError
    from fiduciary.joint._workers import check_worker

    state = check_worker(engine)
    if state.state != "ready":
        told = state.detail or f"build it with `fiduciary worker create {engine}`"
        raise IntegrityError(f"the {engine} worker in {state.folder} is {state.state}: {told}")
    output.result(msgspec.to_builtins(state), f"the {engine} worker is ready: {state.detail}")


@worker.command("list")
@pass_output
def list_workers(output: Output) -> None:
    """Every engine, and whether its environment is here."""
    from fiduciary.joint._workers import ENGINES as KNOWN
    from fiduciary.joint._workers import check_worker

    states = [check_worker(name) for name in KNOWN]
    if output.as_json:
        output.json([msgspec.to_builtins(s) for s in states])
    else:
        output.table(
            ["engine", "state", "what for", "detail"],
            [(s.engine, s.state, KNOWN[s.engine].summary, s.detail) for s in states],
        )
