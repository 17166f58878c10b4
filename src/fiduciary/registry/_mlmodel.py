"""Read what is needed of an MLflow `MLmodel` file: the flavours, and the names of the inputs.

`MLmodel` is YAML as MLflow writes it: block mappings of plain or quoted scalars. Only that is read. Tags,
anchors, aliases and flow collections, which make YAML a language of its own, are refused where they would matter
(inside `flavors` and `signature`) and skipped elsewhere.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from fiduciary.errors import ModelError

MAX_BYTES = 1 << 20
MAX_LINES = 20_000
_KEY = re.compile(r"( *)([A-Za-z_][A-Za-z0-9_.-]*):(?: +(.*))?")
_WANTED = ("flavors", "signature")


class MLmodel(msgspec.Struct, frozen=True):
    """Flavour name -> its settings, and the input names of the signature where it has one."""

    flavors: dict[str, dict[str, Any]]
    inputs: tuple[str, ...] | None


def read_mlmodel(folder: Path) -> MLmodel:
    """Read `<folder>/MLmodel`. Raises `ModelError` saying what cannot be read and where."""
    path = folder / "MLmodel"
    try:
        if path.is_symlink() or path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} is a link or larger than {MAX_BYTES} bytes")
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    top = _sections(text.splitlines())
    flavors = {k: v for k, v in top.get("flavors", {}).items() if isinstance(v, dict)}
    if not flavors:
        raise ModelError(f"{path} names no flavours, so it is not an MLflow model")
    return MLmodel(flavors, _inputs(top.get("signature", {}).get("inputs")))


def _sections(lines: list[str]) -> dict[str, dict[str, Any]]:
    if len(lines) > MAX_LINES:
        raise ModelError(f"MLmodel has more than {MAX_LINES} lines")
    found: dict[str, dict[str, Any]] = {}
    section: list[tuple[int, str]] = []
    name = ""
    for number, line in enumerate([*lines, "end:"], start=1):
        plain = line and not line[0].isspace() and not line.startswith(("#", "-"))
        if not plain:
            section.append((number, line))
            continue
        if name in _WANTED:
            if name in found:
                raise ModelError(f"MLmodel has {name} twice (line {number})")
            found[name] = _mapping(section)
        match = _KEY.fullmatch(line.rstrip())
        name, section = (match[2] if match else ""), []
    return found


def _mapping(lines: list[tuple[int, str]]) -> dict[str, Any]:
    """A nested block mapping; `stack` holds the open mappings by their indentation."""
    root: dict[str, Any] = {}
    stack: list[tuple[int, dict[str, Any]]] = [(0, root)]
    pending: tuple[dict[str, Any], str] | None = None
    position = 0
    while position < len(lines):
        number, line = lines[position]
        position += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _KEY.fullmatch(line.rstrip())
        if match is None or "\t" in line:
            raise ModelError(f"line {number} of MLmodel is not of the form that MLflow writes")
        indent, key, value = len(match[1]), match[2], match[3]
        if pending is not None and indent > stack[-1][0]:
            child: dict[str, Any] = {}
            pending[0][pending[1]] = child
            stack.append((indent, child))
        pending = None
        while len(stack) > 1 and indent < stack[-1][0]:
            stack.pop()
        if len(stack) == 1 and not root:
            stack[0] = (indent, root)
        if indent != stack[-1][0] or key in stack[-1][1]:
            raise ModelError(f"line {number} of MLmodel is indented wrongly or repeats {key!r}")
        target = stack[-1][1]
        if value is None:
            target[key], pending = None, (target, key)
        elif value.startswith("'"):
            while not _closed(value) and position < len(lines):  # a quoted scalar may be folded over lines
                value += " " + lines[position][1].strip()
                position += 1
            if not _closed(value):
                raise ModelError(f"the quote opened in line {number} of MLmodel is never closed")
            target[key] = value[1:-1].replace("''", "'")
        else:
            target[key] = _scalar(value, number)
    return root


def _closed(value: str) -> bool:
    return len(value) > 1 and re.fullmatch(r"'(?:[^']|'')*'", value) is not None


def _scalar(value: str, number: int) -> str | None:
    if value[0] in "&*!|>%@`{[" and value not in ("{}", "[]"):
        raise ModelError(f"line {number} of MLmodel uses a YAML feature ({value[0]}) that is not read")
    if value.startswith('"'):
        try:
            text = json.loads(value)
        except ValueError:
            raise ModelError(f"line {number} of MLmodel has a quoted text that is not read") from None
        return str(text)
    return None if value in ("null", "~", "{}", "[]") else value


def _inputs(text: Any) -> tuple[str, ...] | None:
    if not isinstance(text, str):
        return None
    try:
        columns = json.loads(text)
        return tuple(str(column["name"]) for column in columns)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None  # a tensor signature has no names
