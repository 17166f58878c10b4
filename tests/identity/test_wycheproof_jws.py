"""Project Wycheproof's JWS vectors, through the very function that checks bearer tokens."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from fiduciary.errors import AuthenticationError
from fiduciary.identity import KeySet, verify_jws
from fiduciary.identity._jws import ALGORITHMS

NAME = "vectors/wycheproof_json_web_signature_test.json.gz"


def listed_keys(group: dict[str, Any]) -> list[dict[str, Any]]:
    found = group.get("public", group.get("private"))
    return found.get("keys", [found])


def test_wycheproof_vectors(shared_data: Path) -> None:
    """Every invalid token is refused; a valid one is accepted exactly when its algorithm is one of ours."""
    path = shared_data / NAME
    if not path.exists():
        pytest.skip(f"no {NAME} among the data")
    document = json.loads(gzip.decompress(path.read_bytes()))
    tried = accepted = refused_invalid = 0
    for group in document["testGroups"]:
        keys = listed_keys(group)
        for vector in group["tests"]:
            tried += 1
            token = vector["jws"]
            token = json.dumps(token) if isinstance(token, dict) else token
            try:
                verify_jws(token.encode(), KeySet({"keys": keys}))
                good = True
            except AuthenticationError as error:
                good = False
                assert error.more["rule"]
            ours = vector["result"] == "valid" and keys[0].get("alg") in ALGORITHMS
            assert good == ours, (vector["tcId"], vector["comment"], vector["result"])
            accepted += good
            refused_invalid += vector["result"] == "invalid" and not good
    assert tried == document["numberOfTests"]
    assert accepted >= 2
    assert refused_invalid >= 350
