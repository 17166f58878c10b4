"""`fiduciary completion`: the line that turns on completion in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script; for bash: eval "$(fiduciary completion bash)"."""
    from fiduciary.cli._main import root

    maker = get_completion_class(shell)
    if maker is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    click.echo(maker(root, {}, "fiduciary", "_FIDUCIARY_COMPLETE").source())
