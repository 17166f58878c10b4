"""What a program's digest covers: its own source, what programs share, and the code that runs it.

    digest = SHA-256 over, for each file by name: name | 0 | length, 8 bytes big-endian | bytes

A contract names a program by this digest and its entry point is always `run`; every member computes the digest
from its own files before anything is loaded, and the worker runs exactly the bytes it hashed.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds `programs` and `worker`."""
MAX_SOURCE = 1 << 20
_MODULE = re.compile(r"[a-z][a-z0-9_]{0,40}")


def program_files(module: str, root: Path = ROOT) -> dict[str, bytes]:
    """The sources that make up the program in `programs/<module>.py`. Raises `ValueError` or `OSError`."""
    if not _MODULE.fullmatch(module):
        raise ValueError(f"a program's module is lower-case letters, digits and _, not {module!r}")
    paths = [root / "programs" / f"{module}.py"]
    paths += sorted((root / "programs").glob("_*.py")) + sorted((root / "worker").glob("*.py"))
    files = {}
    for path in paths:
        raw = path.read_bytes()
        if len(raw) > MAX_SOURCE:
            raise ValueError(f"{path.name} is larger than {MAX_SOURCE} bytes")
        files[path.relative_to(root).as_posix()] = raw
    return files


def program_digest(files: Mapping[str, bytes]) -> str:
    """`sha256:<hex>` over the files of a program."""
    state = hashlib.sha256(b"fiduciary.joint.program/1\0")
    for name in sorted(files):
        raw = files[name]
        state.update(name.encode() + b"\0" + len(raw).to_bytes(8, "big") + raw)
    return f"sha256:{state.hexdigest()}"


def program_card(source: bytes) -> dict[str, Any]:
    """The literal `PROGRAM = {...}` of a program's source, read without running it. Raises `ValueError`."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id == "PROGRAM" and node.value is not None:
                card = ast.literal_eval(node.value)
                if isinstance(card, dict):
                    return card
    raise ValueError("the source has no literal PROGRAM = {...}")
