"""The offline verifier's own Ed25519, Merkle ranges and signed notes, against vectors and other code."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.evidence import _verify_folder as offline


def test_ed25519_agrees_with_every_wycheproof_vector(shared_data: Path) -> None:
    document = json.loads(
        gzip.decompress((shared_data / "vectors/wycheproof_ed25519_test.json.gz").read_bytes())
    )
    seen = {"valid": 0, "invalid": 0}
    for group in document["testGroups"]:
        public = bytes.fromhex(group["publicKey"]["pk"])
        for case in group["tests"]:
            holds = offline.ed25519_verify(public, bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
            assert holds == (case["result"] == "valid"), case["comment"]
            seen[case["result"]] += 1
    assert seen["valid"] > 50 and seen["invalid"] > 50


def test_ed25519_agrees_with_the_library_and_refuses_one_changed_bit() -> None:
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"test").digest())
    public, message = key.public_key().public_bytes_raw(), b"the quick brown fox"
    signature = key.sign(message)
    assert offline.ed25519_verify(public, signature, message)
    for position in range(0, 64, 7):
        changed = bytearray(signature)
        changed[position] ^= 1
        assert not offline.ed25519_verify(public, bytes(changed), message)
    assert not offline.ed25519_verify(public, signature, message + b"!")


def root_by_definition(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return offline.node_hash(root_by_definition(leaves[:k]), root_by_definition(leaves[k:]))


def beside_by_definition(leaves: list[bytes], start: int, end: int) -> list[bytes]:
    found: list[bytes] = []

    def walk(low: int, high: int) -> None:
        if high <= start or low >= end:
            found.append(root_by_definition(leaves[low:high]))
        elif high - low > 1:
            k = 1
            while k * 2 < high - low:
                k *= 2
            walk(low, low + k)
            walk(low + k, high)

    walk(0, len(leaves))
    return found


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 70), st.data())
def test_a_range_proves_itself_and_nothing_else(size: int, data: st.DataObject) -> None:
    leaves = [offline.leaf_hash(bytes([i])) for i in range(size)]
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    beside = beside_by_definition(leaves, start, end)
    root = root_by_definition(leaves)
    assert offline.root_of_range(leaves[start:end], start, size, beside) == root
    changed = list(leaves[start:end])
    changed[data.draw(st.integers(0, len(changed) - 1))] = offline.leaf_hash(b"other")
    assert offline.root_of_range(changed, start, size, beside) != root
    with pytest.raises(ValueError, match="too long"):
        offline.root_of_range(leaves[start:end], start, size, [*beside, root])
    if beside:
        with pytest.raises(ValueError, match="too short"):
            offline.root_of_range(leaves[start:end], start, size, beside[:-1])


def note(key: Ed25519PrivateKey, name: str, body: str) -> tuple[str, str]:
    raw = b"\x01" + key.public_key().public_bytes_raw()
    key_hash = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    line = base64.b64encode(key_hash + key.sign(body.encode())).decode()
    return f"{body}\n\u2014 {name} {line}\n", f"{name}+{key_hash.hex()}+{base64.b64encode(raw).decode()}"


def test_a_checkpoint_opens_with_its_key_only() -> None:
    key, other = (Ed25519PrivateKey.from_private_bytes(hashlib.sha256(s).digest()) for s in (b"a", b"b"))
    root = hashlib.sha256(b"").digest()
    text, log_key = note(key, "acme.eu/gate-0", f"acme.eu/gate-0\n7\n{base64.b64encode(root).decode()}\n")
    assert offline.open_checkpoint(text, log_key) == ("acme.eu/gate-0", 7, root)
    _, other_key = note(other, "acme.eu/gate-0", "x\n")
    for bad_text, bad_key in (
        (text, other_key),
        (text.replace("\n7\n", "\n8\n"), log_key),
        ("no note", log_key),
    ):
        with pytest.raises(ValueError):
            offline.open_checkpoint(bad_text, bad_key)
