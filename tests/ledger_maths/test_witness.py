"""A witness never vouches for two histories: whatever is asked, in whatever order, failing anywhere."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.errors import ConflictError, IntegrityError, LimitError, MalformedRequestError, NotFoundError
from fiduciary.ledger import _witness
from fiduciary.ledger._checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from fiduciary.ledger._keys import KeyType, Signer
from fiduciary.ledger._merkle import Tree, leaf_hash
from fiduciary.ledger._note import Note
from fiduciary.ledger._witness import (
    Witness,
    accept,
    collect,
    encode_request,
    parse_request,
    post,
    request_for,
    serve,
)

NOW = 1_700_000_000
EU, US = "acme.eu/gate-0", "acme.us/gate-0"
KEYS = {
    origin: (Signer.generate(origin, KeyType.ED25519), Signer.generate(origin, KeyType.COSIGN_ML_DSA_44))
    for origin in (EU, US)
}
KNOWN = {origin: [signer.verifier for signer in signers] for origin, signers in KEYS.items()}
OWN = (
    Signer.generate("witness.example/w1", KeyType.COSIGN_ML_DSA_44),
    Signer.generate("witness.example/w1", KeyType.COSIGN_ED25519),
)
WITNESSES = [signer.verifier for signer in OWN]


def _tree(size: int, salt: bytes = b"") -> Tree:
    tree = Tree()
    tree.append_many([leaf_hash(salt + index.to_bytes(4, "big")) for index in range(size)])
    return tree


def _head(tree: Tree, size: int, origin: str = EU, signers: Any = None) -> bytes:
    return sign_checkpoint(Checkpoint(origin, size, tree.root(size)), signers or KEYS[origin], NOW)


def _witness_in(folder: Path) -> Witness:
    return Witness(folder, OWN, KNOWN, lambda: NOW)


TREE = _tree(500)
FORK = _tree(500, b"other ")


def test_a_growing_log_is_cosigned(tmp_path: Path) -> None:
    witness = _witness_in(tmp_path)
    old = 0
    for size in (0, 1, 1, 2, 255, 256, 500):
        head = _head(TREE, size)
        cosigned = accept(head, witness.answer(request_for(TREE, old, head)), WITNESSES)
        checkpoint = open_checkpoint(cosigned, EU, KNOWN[EU], WITNESSES, quorum=1)
        assert checkpoint.size == size == witness.size(EU)
        assert {v.time for v in Note.parse(cosigned).verified(WITNESSES)} == {NOW}
        old = size
    assert _witness_in(tmp_path).size(EU) == 500, "the state is on disk"
    assert witness.size(US) == 0


def test_what_is_refused(tmp_path: Path) -> None:
    witness = _witness_in(tmp_path)
    witness.cosign(0, [], _head(TREE, 300))
    proof = TREE.consistency(300, 400)
    with pytest.raises(NotFoundError, match="does not know"):
        witness.cosign(0, [], sign_checkpoint(Checkpoint("x", 1, bytes(32)), KEYS[EU], NOW))
    with pytest.raises(IntegrityError, match="lacks 1 of 2"):
        witness.cosign(300, proof, _head(TREE, 400, signers=KEYS[EU][:1]))
    with pytest.raises(IntegrityError, match="not signed by a known key"):
        witness.cosign(300, proof, _head(TREE, 400, signers=KEYS[US]))
    with pytest.raises(MalformedRequestError, match="must not be above"):
        witness.cosign(401, proof, _head(TREE, 400))
    with pytest.raises(ConflictError, match="size 300, not 200") as caught:
        witness.cosign(200, TREE.consistency(200, 250), _head(TREE, 250))
    assert caught.value.more["size"] == 300, "a rollback is refused and the way on is told"
    with pytest.raises(ConflictError, match="size 300, not 0"):
        witness.cosign(0, [], _head(FORK, 400))
    with pytest.raises(IntegrityError):
        witness.cosign(300, FORK.consistency(300, 400), _head(FORK, 400))
    with pytest.raises(IntegrityError):
        witness.cosign(300, [], _head(TREE, 400))
    with pytest.raises(IntegrityError, match="must be empty"):
        witness.cosign(300, proof, _head(TREE, 300))
    assert witness.size(EU) == 300
    witness.cosign(300, proof, _head(TREE, 400))


def test_a_split_view_is_kept_as_evidence(tmp_path: Path) -> None:
    """Two heads of the same size, both signed by the log's keys: it cannot deny either."""
    witness = _witness_in(tmp_path)
    witness.cosign(0, [], _head(TREE, 300))
    with pytest.raises(ConflictError, match="two different trees"):
        witness.cosign(300, [], _head(FORK, 300))
    files = sorted((tmp_path / "evidence").iterdir())
    heads = [open_checkpoint(path.read_bytes(), EU, KNOWN[EU]) for path in files]
    assert [head.size for head in heads] == [300, 300]
    assert heads[0].root != heads[1].root


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_all_cosigned_heads_are_of_one_history(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Random requests from a log with two faces; what got cosigned must never need both of them."""
    folder = tmp_path_factory.mktemp("witness")
    cosigned: list[tuple[int, bytes]] = []
    for _ in range(data.draw(st.integers(1, 12))):
        tree = data.draw(st.sampled_from([TREE, FORK]))
        size = data.draw(st.integers(0, 40))
        witness = _witness_in(folder)
        old = data.draw(st.sampled_from([witness.size(EU), 0, size]))
        try:
            witness.cosign(old, tree.consistency(old, size) if old <= size else [], _head(tree, size))
        except (ConflictError, IntegrityError, MalformedRequestError):
            continue
        cosigned.append((size, tree.root(size)))
    assert [size for size, _ in cosigned] == sorted(size for size, _ in cosigned)
    histories = [all(root == tree.root(size) for size, root in cosigned) for tree in (TREE, FORK)]
    assert any(histories)


def test_two_faces_at_once(tmp_path: Path) -> None:
    """Threads race to have different trees of one size cosigned: one face wins, for all of them."""
    won: list[Tree] = []
    start = threading.Barrier(8)

    def ask(tree: Tree) -> None:
        witness = _witness_in(tmp_path)
        start.wait()
        try:
            witness.cosign(0, [], _head(tree, 77))
            won.append(tree)
        except ConflictError:
            pass

    threads = [threading.Thread(target=ask, args=((TREE, FORK)[n % 2],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_no_answer_before_the_state_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Every system call on the way fails once: either nothing was answered, or the state had moved on."""
    failed = 0
    for nth in range(1, 10):
        folder = tmp_path / f"{call}{nth}"
        _witness_in(folder).cosign(0, [], _head(TREE, 100))
        target: Any = Path if call == "replace" else os
        real, seen = getattr(target, call), 0

        def fail(*args: Any, real: Any = real, nth: int = nth, **more: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == nth:
                raise OSError(5, "injected")
            return real(*args, **more)

        with monkeypatch.context() as patch:
            patch.setattr(target, call, fail)
            try:
                _witness_in(folder).cosign(100, TREE.consistency(100, 200), _head(TREE, 200))
                answered = True
            except OSError:
                answered = False
        if seen < nth:
            break
        failed += 1
        assert not answered
        assert _witness_in(folder).size(EU) in (100, 200)
    assert failed >= 1


def test_damaged_state_is_an_alarm_not_a_fresh_start(tmp_path: Path) -> None:
    witness = _witness_in(tmp_path)
    witness.cosign(0, [], _head(TREE, 300))
    witness.cosign(0, [], _head(_tree(9), 9, US))
    state, other = witness._state(EU), witness._state(US)
    whole = state.read_bytes()
    older = sign_checkpoint(Checkpoint(EU, 200, TREE.root(200)), KEYS[EU], NOW)
    for changed in (b"", whole[:-100], whole.replace(b"\n300\n", b"\n200\n"), older, other.read_bytes()):
        state.write_bytes(changed)
        with pytest.raises(IntegrityError):
            witness.cosign(0, [], _head(TREE, 400))
    state.write_bytes(whole)
    witness.cosign(300, TREE.consistency(300, 400), _head(TREE, 400))


def test_a_witness_needs_cosigning_keys(tmp_path: Path) -> None:
    for signers in ((), KEYS[EU]):
        with pytest.raises(ValueError, match="cosignature type"):
            Witness(tmp_path, signers, KNOWN)


def test_request_text() -> None:
    head = _head(TREE, 400)
    proof = TREE.consistency(300, 400)
    assert parse_request(encode_request(300, proof, head)) == (300, proof, head)
    assert parse_request(encode_request(0, [], head)) == (0, [], head)
    line = b"A" * 43 + b"=\n"
    for wrong in (
        b"",
        b"old 1\n",
        b"old 01\n\nx",
        b"new 1\n\nx",
        b"old 1\nAAAA\n\nx",
        b"old \xff\n\nx",
        b"old 1\n*\n\nx",
    ):
        with pytest.raises(MalformedRequestError):
            parse_request(wrong)
    assert len(parse_request(b"old 1\n" + line * 63 + b"\nx")[1]) == 63
    for large in (b"old 1\n" + line * 64 + b"\nx", b"old 1\n\n" + b"x" * _witness.MAX_REQUEST_BYTES):
        with pytest.raises(LimitError):
            parse_request(large)
    with pytest.raises(IntegrityError, match="has signed only 400"):
        request_for(TREE, 401, head)


def test_answers_that_are_not_accepted(tmp_path: Path) -> None:
    head = _head(TREE, 300)
    answer = _witness_in(tmp_path).answer(request_for(TREE, 0, head))
    stranger = Signer.generate("stranger", KeyType.COSIGN_ML_DSA_44)
    extra = stranger.sign("x\n1\n" + "A" * 43 + "=\n", NOW).line.encode()
    assert accept(head, answer + extra, WITNESSES) == accept(head, answer, WITNESSES), "a stranger is dropped"
    for wrong in (b"", extra, answer[:-1], b"\xff", answer.replace(b"AAAA", b"AAAB", 1)):
        with pytest.raises(IntegrityError):
            accept(head, wrong, WITNESSES)
    with pytest.raises(IntegrityError, match="does not match"):
        accept(_head(TREE, 299), answer, WITNESSES)
    with pytest.raises(LimitError):
        accept(head, b"x" * 1_000_000, WITNESSES)


def test_two_logs_witness_each_other_through_a_folder(tmp_path: Path) -> None:
    trees = {EU: TREE, US: FORK}
    witnesses = {EU: _witness_in(tmp_path / "eu"), US: _witness_in(tmp_path / "us")}
    shared = tmp_path / "shared"
    for size in (10, 300, 500):
        for origin, other in ((EU, US), (US, EU)):
            head = _head(trees[origin], size, origin)
            old = witnesses[other].size(origin)
            post(shared / other, request_for(trees[origin], old, head))
            assert collect(shared / other, origin) is None, "not answered yet"
            assert serve(shared / other, witnesses[other]) == 1
            answer = collect(shared / other, origin)
            assert answer is not None
            cosigned = accept(head, answer, WITNESSES)
            assert open_checkpoint(cosigned, origin, KNOWN[origin], WITNESSES, 1).size == size
    post(shared / US, request_for(TREE, 0, _head(TREE, 500)))
    assert serve(shared / US, witnesses[US]) == 0
    with pytest.raises(ConflictError, match="the witness refused: conflict") as caught:
        collect(shared / US, EU)
    assert caught.value.more["size"] == 500
    assert not [path for path in shared.rglob("*") if path.is_file()], "nothing is left lying about"


def test_a_hostile_exchange_folder(tmp_path: Path) -> None:
    witness = _witness_in(tmp_path / "state")
    shared = tmp_path / "shared"
    shared.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("keep me")
    name = _witness._name(EU)
    (shared / "a.request").symlink_to(victim)
    (shared / "b.request").mkdir()
    (shared / "c.request").write_bytes(b"\xff" * 100)
    (shared / "d.request").write_bytes(b"x" * 1_000_000)
    (shared / "e.request").write_bytes(request_for(TREE, 0, _head(TREE, 300)))  # under a wrong name
    os.mkfifo(shared / "f.request")
    (shared / f".{name}.answer.new").symlink_to(victim)
    post(shared, request_for(TREE, 0, _head(TREE, 300)))
    assert serve(shared, witness) == 1
    assert victim.read_text() == "keep me"
    assert accept(_head(TREE, 300), collect(shared, EU) or b"", WITNESSES)
