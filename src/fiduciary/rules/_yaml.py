"""YAML as packs may use it: plain mappings, lists and scalars. No tags, no aliases, no merges, no duplicate keys.

PyYAML's event stream is read directly, so nothing is constructed that was not asked for; sizes, depth and counts are
bounded before a value is built (tests/rules/test_loader.py throws bombs at it). Scalars: quoted ones are texts; plain
ones are JSON's null, booleans and numbers, or a date, else text. `no`, `on` and `1_000` are texts, as they read.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import yaml

from fiduciary.errors import LimitError, UsageError

MAX_BYTES = 2 << 20
MAX_DEPTH = 16
MAX_NODES = 200_000
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,14})")
_FLOAT = re.compile(r"-?(?:0|[1-9]\d{0,14})\.\d{1,15}(?:[eE][-+]?\d{1,3})?|-?\d{1,3}[eE][-+]?\d{1,3}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_WORDS = {"null": None, "~": None, "": None, "true": True, "false": False}


def read_yaml(raw: bytes) -> Any:
    """One document as JSON values (dates as ISO texts). Raises `UsageError` with the line, or `LimitError`."""
    if len(raw) > MAX_BYTES:
        raise LimitError(f"the file has {len(raw)} bytes; at most {MAX_BYTES} are read")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError("the file is not UTF-8 text") from None
    try:
        return _Reader(text).document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise UsageError(f"the file is not valid YAML{line}: {problem}") from None


class _Reader:
    def __init__(self, text: str) -> None:
        self.events = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self.nodes = 0

    def next(self) -> Any:
        event = next(self.events)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise LimitError(f"the file has more than {MAX_NODES} parts")
        return event

    def document(self) -> Any:
        self.next()  # the stream begins
        event = self.next()
        if not isinstance(event, yaml.DocumentStartEvent):
            raise UsageError("the file is empty")
        value = self.value(self.next(), 0)
        self.next()  # the document ends
        if not isinstance(self.next(), yaml.StreamEndEvent):
            raise UsageError("the file holds more than one document")
        return value

    def value(self, event: Any, depth: int) -> Any:
        line = event.start_mark.line + 1
        if depth > MAX_DEPTH:
            raise LimitError(f"line {line}: nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            raise UsageError(f"line {line}: an alias (*{str(event.anchor)[:40]}); packs say things in full")
        if getattr(event, "anchor", None):
            raise UsageError(f"line {line}: an anchor (&{str(event.anchor)[:40]}); packs say things in full")
        if event.tag not in (None, "!") or (event.tag == "!" and not isinstance(event, yaml.ScalarEvent)):
            raise UsageError(f"line {line}: a tag ({str(event.tag)[:60]}); packs hold plain data only")
        if isinstance(event, yaml.ScalarEvent):
            return event.value if event.style in ("'", '"', "|", ">") else plain(event.value, line)
        if isinstance(event, yaml.SequenceStartEvent):
            found = []
            while not isinstance(event := self.next(), yaml.SequenceEndEvent):
                found.append(self.value(event, depth + 1))
            return found
        mapping: dict[str, Any] = {}
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            at = event.start_mark.line + 1
            key = self.value(event, depth + 1)
            if not isinstance(key, str) and not (isinstance(event, yaml.ScalarEvent)):
                raise UsageError(f"line {at}: a key must be a text")
            name = event.value
            if name == "<<":
                raise UsageError(f"line {at}: a merge (<<); packs say things in full")
            if name in mapping:
                raise UsageError(f"line {at}: {name[:80]!r} stands twice in one mapping")
            mapping[name] = self.value(self.next(), depth + 1)
        return mapping


def plain(text: str, line: int) -> Any:
    """What an unquoted scalar means."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _DATE.fullmatch(text):
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError:
            raise UsageError(f"line {line}: {text} is no day of the calendar") from None
    return text
