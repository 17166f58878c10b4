"""The commands: parse, call, print. No logic lives here, and nothing heavy is imported before it is needed."""

from fiduciary.cli._main import main

__all__ = ["main"]
