"""How commands speak: text and tables for people, one JSON document for programs, one line for errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress

    from fiduciary.config import Settings
from fiduciary.errors import FiduciaryError, UsageError


class Output:
    """The way out of every command; also finds the home folder it works on."""

    def __init__(self, *, home: Path | None = None, as_json: bool = False) -> None:
        self.home = home
        self.as_json = as_json

    def settings(self) -> Settings:
        """Settings of the home folder. Raises `UsageError` when there is no home there yet."""
        from fiduciary.config import FILE_NAME, Settings

        settings = Settings.load(self.home)
        if not (settings.home / FILE_NAME).exists():
            raise UsageError(
                f"there is no home in {settings.home}: run `fiduciary init {settings.home}`, or name one with --home"
            )
        return settings

    def result(self, document: Any, text: str | None = None) -> None:
        """Print the document as JSON, or `text` (else the document line by line) for a person."""
        if self.as_json:
            self.json(document)
        elif text is not None:
            click.echo(text)
        else:
            for key, value in document.items():
                click.echo(f"{key}: {value}")

    def json(self, document: Any) -> None:
        """Print one JSON document."""
        click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))

    def say(self, text: str) -> None:
        """A line for a person; silent with --json."""
        if not self.as_json:
            click.echo(text)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> None:
        """A table for a person (callers print JSON themselves)."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(*columns, title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
        for row in rows:
            table.add_row(*[str(cell) for cell in row])
        width = None if sys.stdout.isatty() else 160
        Console(file=sys.stdout, width=width).print(table)

    def progress(self) -> Progress:
        """A progress bar on standard error, silent with --json or when nobody watches."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            disable=self.as_json or not sys.stderr.isatty(),
            transient=True,
        )

    def error(self, error: FiduciaryError) -> None:
        """One plain line on standard error; with --json the problem document on standard output."""
        if self.as_json:
            self.json(error.problem())
        place = f" (at {error.where})" if error.where else ""
        click.echo(f"fiduciary: {error.detail}{place}", err=True)


pass_output = click.make_pass_decorator(Output)
