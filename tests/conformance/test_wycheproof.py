"""Wycheproof's vectors against the very calls that the ledger makes: Ed25519 of notes, AES-GCM of payloads."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag

from fiduciary.ledger._keys import KeyType, verify_signature
from fiduciary.ledger._vault import AESGCM


def _groups(shared_data: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(shared_data / "vectors" / f"wycheproof_{name}_test.json.gz") as stream:
        groups: list[dict[str, Any]] = json.load(stream)["testGroups"]
        return groups


def test_ed25519(shared_data: Path) -> None:
    counted = {"valid": 0, "invalid": 0}
    for group in _groups(shared_data, "ed25519"):
        public = bytes.fromhex(group["publicKey"]["pk"])
        for case in group["tests"]:
            message, signature = bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
            for kind in (KeyType.ED25519, KeyType.COSIGN_ED25519):
                holds = verify_signature(kind, public, message, signature)
                assert holds is (case["result"] == "valid"), case["tcId"]
            counted[case["result"]] += 1
    assert counted == {"valid": 88, "invalid": 63}


def test_aes_gcm(shared_data: Path) -> None:
    """All tags and nonces; a nonce outside 8 to 128 bytes is refused by the library (the ledger uses 12)."""
    opened = refused = unsupported = 0
    for group in _groups(shared_data, "aes_gcm"):
        for case in group["tests"]:
            fields = {name: bytes.fromhex(case[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag")}
            key, sealed = AESGCM(fields["key"]), fields["ct"] + fields["tag"]
            if not 8 <= len(fields["iv"]) <= 128:
                with pytest.raises(ValueError, match="8 and 128 bytes"):
                    key.decrypt(fields["iv"], sealed, fields["aad"])
                unsupported += 1
            elif case["result"] == "valid":
                assert key.decrypt(fields["iv"], sealed, fields["aad"]) == fields["msg"], case["tcId"]
                assert key.encrypt(fields["iv"], fields["msg"], fields["aad"]) == sealed, case["tcId"]
                opened += 1
            else:
                with pytest.raises(InvalidTag):
                    key.decrypt(fields["iv"], sealed, fields["aad"])
                refused += 1
    assert (opened, refused, unsupported) == (202, 81, 33)
