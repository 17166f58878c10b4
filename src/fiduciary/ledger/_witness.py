"""Witnesses: someone else who vouches that a log only ever grew (C2SP tlog-witness).

A log hands a witness its new checkpoint and a consistency proof from the last one that this witness cosigned.
The witness checks both, **writes the new checkpoint to disk, and only then** answers with its cosignature; so
it can never vouch for two histories, however often it is killed or asked at once. It refuses an older tree
(rollback), a different tree of the same size (kept as evidence: two heads signed by the log), and a proof
that does not hold.

A witness helps against the log's own operator only if someone else runs it. Two logs can witness each other:
each side runs a `Witness` that knows the other's keys. Request and answer are the bodies of the standard's
`add-checkpoint`, so they can travel over HTTP; `post`, `serve` and `collect` let them travel as files in a
folder that both sides can reach, with no server at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from fiduciary.errors import (
    ConflictError,
    FiduciaryError,
    IntegrityError,
    LimitError,
    MalformedRequestError,
    NotFoundError,
)
from fiduciary.ledger._checkpoint import Checkpoint, add_signatures, open_checkpoint, parse_decimal
from fiduciary.ledger._keys import KeyType, Signer
from fiduciary.ledger._merkle import HASH_SIZE, Tree, verify_consistency
from fiduciary.ledger._note import (
    MAX_NOTE_BYTES,
    Note,
    NoteSignature,
    NoteVerifier,
    decode_base64,
    encode_base64,
    parse_signatures,
    split,
)

MAX_PROOF_LINES = 63
MAX_REQUEST_BYTES = MAX_NOTE_BYTES + 8 * 1024
MAX_PENDING = 1_000
MAX_EVIDENCE = 100
MAX_REASON = 500
ALARMS = ("rollback", "fork", "inconsistent")


class Witness:
    """The state of one witness: a folder with the last checkpoint it cosigned of each log."""

    def __init__(
        self,
        folder: Path,
        signers: Sequence[Signer],
        logs: Mapping[str, Sequence[NoteVerifier]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`signers`: the witness's own cosigning keys. `logs`: by origin, keys that must all have signed."""
        if not signers or any(signer.kind is KeyType.ED25519 for signer in signers):
            raise ValueError("a witness needs keys of a cosignature type (0x04 or 0x06)")
        self._folder = folder
        self._signers = tuple(signers)
        self._logs = dict(logs)
        self._clock = clock
        folder.mkdir(parents=True, exist_ok=True)

    def size(self, origin: str) -> int:
        """Size of the last tree of this log that was cosigned; 0 if there is none."""
        recorded = self._recorded(origin)
        return recorded.size if recorded else 0

    def head(self, origin: str) -> bytes:
        """The last head of this log that was cosigned, with both sides' signatures; empty if there is none."""
        return self._state(origin).read_bytes() if self._recorded(origin) else b""

    def cosign(self, old: int, proof: Sequence[bytes], checkpoint: bytes) -> tuple[NoteSignature, ...]:
        """Cosign a checkpoint consistent with the last one, of `old` leaves; durable before it returns.

        Raises `NotFoundError` (unknown log), `IntegrityError` (signature, proof, or damaged own state),
        `MalformedRequestError` (`old` above the new size), `ConflictError` (`old` is not the recorded size,
        which it carries as `size`; or another tree of the same size). An error that carries an `alarm` says
        that the log contradicts what was cosigned: fewer entries ("rollback"), another tree of the same size
        ("fork"), or no valid proof that it only grew ("inconsistent").
        """
        text, _ = split(checkpoint)
        origin = text.partition("\n")[0]
        keys = self._keys(origin)
        new = open_checkpoint(checkpoint, origin, keys)
        if old > new.size or old < 0:
            raise MalformedRequestError(f"the old size {old} must not be above the checkpoint's, {new.size}")
        with self._locked():
            recorded = self._recorded(origin)
            size = recorded.size if recorded else 0
            if recorded and size == new.size and recorded.root != new.root:  # whatever `old` was said to be
                self._keep_evidence(origin, checkpoint)
                raise ConflictError(
                    f"the log has signed two different trees of {size} leaves", size=size, alarm="fork"
                )
            if size > new.size:
                raise ConflictError(
                    f"the last cosigned checkpoint has size {size}, not {old}, and the log offers {new.size}",
                    size=size,
                    alarm="rollback",
                )
            if old != size:
                raise ConflictError(f"the last cosigned checkpoint has size {size}, not {old}", size=size)
            if size == 0 or size == new.size:
                if proof:
                    raise IntegrityError("nothing is to be proved here: the proof must be empty")
            elif recorded:
                try:
                    verify_consistency(size, new.size, recorded.root, new.root, proof)
                except IntegrityError as error:
                    raise IntegrityError(error.detail, alarm="inconsistent") from None
            now = int(self._clock())
            signatures = tuple(signer.sign(text, now) for signer in self._signers)
            # Only lines that were verified are kept: the log's and our own.
            log_lines = tuple(verified.signature for verified in Note.parse(checkpoint).verified(keys))
            replace_file(self._state(origin), Note(text, (*log_lines, *signatures)).encode())
        return signatures

    def answer(self, request: bytes) -> bytes:
        """Answer the body of an `add-checkpoint` request with signature lines. Raises like `cosign`."""
        old, proof, checkpoint = parse_request(request)
        return "".join(signature.line for signature in self.cosign(old, proof, checkpoint)).encode()

    def _keys(self, origin: str) -> Sequence[NoteVerifier]:
        keys = self._logs.get(origin)
        if not keys:
            raise NotFoundError(f"this witness does not know the log {origin[:100]!r}")
        return keys

    def _state(self, origin: str) -> Path:
        return self._folder / f"{_name(origin)}.checkpoint"

    def _recorded(self, origin: str) -> Checkpoint | None:
        """What was cosigned last, believed for our own signature's sake: a log may change its keys."""
        self._keys(origin)
        try:
            data = self._state(origin).read_bytes()
        except FileNotFoundError:
            return None
        note = Note.parse(data)
        note.verified([signer.verifier for signer in self._signers])
        recorded = Checkpoint.parse(note.text)
        if recorded.origin != origin:
            raise IntegrityError(f"the witness's state of log {origin!r} is of log {recorded.origin!r}")
        return recorded

    def _keep_evidence(self, origin: str, checkpoint: bytes) -> None:
        """Keep the second head beside the recorded one: both are signed, so the log cannot deny it."""
        folder = self._folder / "evidence"
        folder.mkdir(exist_ok=True)
        digest = hashlib.sha256(checkpoint).hexdigest()[:16]
        if sum(1 for _ in folder.iterdir()) < MAX_EVIDENCE:
            first = self._state(origin).read_bytes()
            replace_file(folder / f"{_name(origin)}.{digest}.first", first)
            replace_file(folder / f"{_name(origin)}.{digest}.second", checkpoint)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def encode_request(old: int, proof: Sequence[bytes], checkpoint: bytes) -> bytes:
    """The body of `add-checkpoint`: old size, proof, blank line, checkpoint."""
    lines = [f"old {old}", *(encode_base64(hashed) for hashed in proof)]
    return "\n".join(lines).encode() + b"\n\n" + checkpoint


def parse_request(data: bytes) -> tuple[int, list[bytes], bytes]:
    """Old size, proof and checkpoint of a request. Raises `MalformedRequestError`, `LimitError`."""
    if len(data) > MAX_REQUEST_BYTES:
        raise LimitError(f"a request has at most {MAX_REQUEST_BYTES} bytes, this one has {len(data)}")
    head, blank, checkpoint = data.partition(b"\n\n")
    try:
        first, *rest = head.decode("ascii").split("\n")
        if not blank or not first.startswith("old "):
            raise IntegrityError("it must begin with 'old <size>' and end with a checkpoint")
        if len(rest) > MAX_PROOF_LINES:
            raise LimitError(f"a consistency proof has at most {MAX_PROOF_LINES} hashes, not {len(rest)}")
        proof = [decode_base64(line, "a hash of the proof") for line in rest]
        if any(len(hashed) != HASH_SIZE for hashed in proof):
            raise IntegrityError(f"a hash of the proof must have {HASH_SIZE} bytes")
        return parse_decimal(first[len("old ") :], "the old size"), proof, checkpoint
    except (IntegrityError, UnicodeDecodeError) as error:
        raise MalformedRequestError(f"not an add-checkpoint request: {error}") from None


def request_for(tree: Tree, old: int, checkpoint: bytes) -> bytes:
    """The request a log sends to a witness that last cosigned a tree of `old` leaves."""
    size = Checkpoint.parse(split(checkpoint)[0]).size
    if old > size:
        raise IntegrityError(f"the witness has cosigned {old} leaves, the log has signed only {size}")
    return encode_request(old, tree.consistency(old, size), checkpoint)


def accept(checkpoint: bytes, answer: bytes, witnesses: Sequence[NoteVerifier]) -> bytes:
    """The checkpoint with the cosignatures of an answer that known witnesses made.

    Lines of unknown keys are dropped. Raises `IntegrityError` if none is left, or if one does not verify.
    """
    if len(answer) > MAX_NOTE_BYTES:
        raise LimitError(f"an answer has at most {MAX_NOTE_BYTES} bytes, this one has {len(answer)}")
    try:
        lines = parse_signatures(answer.decode("utf-8"))
    except UnicodeDecodeError:
        raise IntegrityError("an answer must be UTF-8") from None
    verified = Note(split(checkpoint)[0], lines).verified(witnesses)
    return add_signatures(checkpoint, [found.signature for found in verified])


def post(folder: Path, request: bytes) -> None:
    """Put a log's request into an exchange folder; it replaces an earlier one of the same log."""
    origin = origin_of(request)
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("answer", "refusal"):
        (folder / f"{_name(origin)}.{suffix}").unlink(missing_ok=True)
    replace_file(folder / f"{_name(origin)}.request", request)


class Outcome(msgspec.Struct, frozen=True):
    """What became of one request: cosigned up to `size`, or refused, with the reason in one line."""

    origin: str
    size: int
    refusal: str = ""
    alarm: str = ""
    """One of `ALARMS` when what was asked contradicts what was cosigned before; empty for an ordinary refusal."""


def serve(folder: Path, witness: Witness) -> int:
    """Answer the requests that lie in an exchange folder; return how many were cosigned."""
    return sum(not outcome.refusal for outcome in serve_each(folder, folder, witness))


def serve_each(requests: Path, answers: Path, witness: Witness) -> list[Outcome]:
    """Answer the requests that lie in one folder into another (or the same); tell what became of each.

    A refusal, whatever its reason, is written for the log to read. The folder may belong to the other side:
    only regular files are read, no link is followed, and what they hold is bounded and checked.
    """
    answers.mkdir(parents=True, exist_ok=True)
    waiting = [
        path for path in sorted(requests.glob("*.request")) if path.is_file() and not path.is_symlink()
    ]
    outcomes: list[Outcome] = []
    for path in waiting[:MAX_PENDING]:
        origin = path.name
        try:
            request = _read(path)
            origin = origin_of(request)
            if path.stem != _name(origin):
                raise MalformedRequestError("the request lies under the name of another log")
            replace_file(answers / f"{path.stem}.answer", witness.answer(request))
            outcomes.append(Outcome(origin, witness.size(origin)))
        except FiduciaryError as refusal:
            alarm = str(refusal.more.get("alarm", ""))
            reason = f"{alarm or refusal.kind}: {refusal.detail}"
            replace_file(answers / f"{path.stem}.refusal", _refusal(witness, origin, refusal, reason))
            outcomes.append(Outcome(origin, int(refusal.more.get("size", 0)), reason, alarm))
        path.unlink()
    return outcomes


def _refusal(witness: Witness, origin: str, refusal: FiduciaryError, reason: str) -> bytes:
    """The size on record, the reason, and the head on record: signed by the log and by the witness, so that the
    log need not believe a file that anyone could have written."""
    size, head = "", b""
    if "size" in refusal.more or "alarm" in refusal.more:
        head = witness.head(origin)
        size = f"size {witness.size(origin)}\n"
    return f"{size}{reason}\n\n".encode() + head


def collect(folder: Path, origin: str) -> bytes | None:
    """The witness's answer for a log, if there is one, taken out of the folder.

    Raises `ConflictError` if the witness refused; it carries the witness's `size` where that is the way on, the
    `alarm` if there was one, and the `head` on record there: not verified, and nothing else in it can be.
    """
    for suffix in ("refusal", "answer"):
        path = folder / f"{_name(origin)}.{suffix}"
        try:
            data = _read(path)
        except NotFoundError:
            continue
        path.unlink()
        if suffix == "answer":
            return data
        told, _, head = data.partition(b"\n\n")
        reason = told.decode("utf-8", "replace").strip()
        first, _, rest = reason.partition("\n")
        more: dict[str, Any] = {}
        if first.startswith("size "):
            more["size"], reason = parse_decimal(first[5:], "a size"), rest
        word = reason.partition(":")[0]
        if word in ALARMS:
            more["alarm"] = word
        if head:
            more["head"] = head
        shown = "".join(letter if letter.isprintable() else "?" for letter in reason[:MAX_REASON])
        raise ConflictError(f"the witness refused: {shown}", **more)
    return None


def origin_of(request: bytes) -> str:
    return split(parse_request(request)[2])[0].partition("\n")[0]


def _name(origin: str) -> str:
    """A file name for a log: its origin may hold any character."""
    return hashlib.sha256(origin.encode()).hexdigest()[:32]


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise NotFoundError(f"there is no readable file {path.name}") from None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(MAX_REQUEST_BYTES + 1)
    if len(data) > MAX_REQUEST_BYTES:
        raise LimitError(f"{path.name} has more than {MAX_REQUEST_BYTES} bytes")
    return data


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole and durably: contents, then name, then folder."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
