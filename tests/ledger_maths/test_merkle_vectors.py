"""Every proof that transparency-dev/merkle publishes, good and bad, against our verify functions."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fiduciary.errors import IntegrityError
from fiduciary.ledger import _merkle


def _bytes(text: str | None) -> bytes:
    return base64.b64decode(text or "", validate=True)


def _hashes(case: dict[str, Any]) -> list[bytes]:
    return [_bytes(text) for text in case["proof"] or []]


def _inclusion(case: dict[str, Any]) -> None:
    _merkle.verify_inclusion(
        _bytes(case["leafHash"]), case["leafIdx"], case["treeSize"], _hashes(case), _bytes(case["root"])
    )


def _consistency(case: dict[str, Any]) -> None:
    _merkle.verify_consistency(
        case["size1"], case["size2"], _bytes(case["root1"]), _bytes(case["root2"]), _hashes(case)
    )


def _subtree_inclusion(case: dict[str, Any]) -> None:
    _merkle.verify_subtree_inclusion(
        _bytes(case["leafHash"]),
        case["leafIdx"],
        case["start"],
        case["end"],
        _hashes(case),
        _bytes(case["root"]),
    )


def _subtree_consistency(case: dict[str, Any]) -> None:
    _merkle.verify_subtree_consistency(
        case["start"],
        case["end"],
        case["size"],
        _bytes(case["root1"]),
        _bytes(case["root2"]),
        _hashes(case),
    )


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "inclusion": _inclusion,
    "consistency": _consistency,
    "subtreeinclusion": _subtree_inclusion,
    "subtreeconsistency": _subtree_consistency,
}


def test_all_published_proofs(shared_data: Path) -> None:
    with gzip.open(shared_data / "vectors" / "merkle_proofs.json.gz") as stream:
        vectors: dict[str, dict[str, Any]] = json.load(stream)
    accepted = refused = 0
    for name, case in vectors.items():
        check = CHECKS[name.split("/")[1]]
        if case["wantErr"]:
            with pytest.raises(IntegrityError):
                check(case)
                pytest.fail(f"accepted {name}")
            refused += 1
        else:
            check(case)
            accepted += 1
    assert (accepted, refused) == (36, 482)
