"""The vectors printed in docs/formats/log.md are what this code computes, to the byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fiduciary.ledger._checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from fiduciary.ledger._keys import KeyType, Signer, signed_message
from fiduciary.ledger._merkle import Tree, leaf_hash, leaf_hashes, node_hash
from fiduciary.ledger._proof import Proof
from fiduciary.ledger._tiles import encode_bundle, tile_path
from fiduciary.ledger._witness import encode_request

PAGE = Path(__file__).parents[2] / "docs" / "formats" / "log.md"
ENTRIES = [b"entry %d" % index for index in range(300)]
ORIGIN = "example.eu/gate-0"
WITNESS = "witness.example/w1"
TIME = 1_700_000_000


def vectors() -> str:
    """The vector section, as it must stand in the page."""
    tree = Tree()
    tree.append_many(leaf_hashes(ENTRIES))
    log = Signer(ORIGIN, KeyType.ED25519, b"\x01" * 32)
    quantum = Signer(ORIGIN, KeyType.COSIGN_ML_DSA_44, b"\x02" * 32)
    witness = Signer(WITNESS, KeyType.COSIGN_ED25519, b"\x03" * 32)
    head = Checkpoint(ORIGIN, 300, tree.root())
    note = sign_checkpoint(head, [log, witness], TIME)
    message = signed_message(KeyType.COSIGN_ML_DSA_44, ORIGIN, head.text, TIME)
    rows = [
        ("leaf hash of the empty entry", leaf_hash(b"").hex()),
        ("leaf hash of entry 0", leaf_hash(ENTRIES[0]).hex()),
        ("node over leaves 0 and 1", node_hash(leaf_hash(ENTRIES[0]), leaf_hash(ENTRIES[1])).hex()),
        *((f"root of {size}", tree.root(size).hex()) for size in (0, 1, 2, 3, 255, 256, 257, 300)),
        *((f"inclusion of 299 in 300, hash {n}", h.hex()) for n, h in enumerate(tree.inclusion(299))),
        *((f"consistency 255 to 256, hash {n}", h.hex()) for n, h in enumerate(tree.consistency(255, 256))),
        ("path of the full tile", tile_path(0, 0)),
        ("SHA-256 of the full tile", hashlib.sha256(tree.tile(0, 0)).hexdigest()),
        ("path of the partial tile", tile_path(0, 1, 44)),
        ("SHA-256 of the partial tile", hashlib.sha256(tree.tile(0, 1, 44)).hexdigest()),
        ("bundle of entries 0 and 1", encode_bundle(ENTRIES[:2]).hex()),
        ("SHA-256 of bundle 0", hashlib.sha256(encode_bundle(ENTRIES[:256])).hexdigest()),
        ("key hash, 0x01", log.verifier.key_hash.hex()),
        ("key hash, 0x04", witness.verifier.key_hash.hex()),
        ("key hash, 0x06", quantum.verifier.key_hash.hex()),
        ("ML-DSA-44 signed message", message.hex()),
        (
            "SHA-256 of the proof text of 299",
            hashlib.sha256(Proof.of(tree, 299, note, 300).encode()).hexdigest(),
        ),
        (
            "SHA-256 of the request from 255",
            hashlib.sha256(encode_request(255, tree.consistency(255), note)).hexdigest(),
        ),
    ]
    table = "\n".join(f"| {name} | `{value}` |" for name, value in rows)
    return (
        f"| what | value |\n|---|---|\n{table}\n\n"
        f"Public key of the log:\n\n```\n{log.verifier.encode()}\n```\n\n"
        f"Signed and cosigned checkpoint:\n\n```\n{note.decode()}```\n"
    )


def test_the_page_prints_these_vectors() -> None:
    assert vectors() in PAGE.read_text("utf-8")


def test_the_page_states_every_type_byte() -> None:
    page = PAGE.read_text("utf-8")
    for kind in KeyType:
        assert f"| `{kind:#04x}` |" in page


def test_the_printed_checkpoint_opens() -> None:
    """Read from the page alone, as a reader would."""
    page = PAGE.read_text("utf-8")
    note = page.split("Signed and cosigned checkpoint:\n\n```\n")[1].split("```\n")[0].encode()
    log = Signer(ORIGIN, KeyType.ED25519, b"\x01" * 32)
    witness = Signer(WITNESS, KeyType.COSIGN_ED25519, b"\x03" * 32)
    assert open_checkpoint(note, ORIGIN, [log.verifier], [witness.verifier], quorum=1).size == 300
