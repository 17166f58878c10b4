"""What a home keeps about witnesses: its own cosigning keys, whom it vouches for, who vouches for its logs.

    <home>/keys/witness.ed25519, witness.mldsa44   the home's keys as a witness, made on demand
    <home>/witness/logs                            public keys of foreign logs that it vouches for, one a line
    <home>/witness/state/                          the last head it cosigned of each, and evidence of forks
    <home>/witness/witnesses                       public keys of witnesses that its own logs ask
    <home>/witness/asked/<witness>/<log>.*         the head asked about last, and the witness's place in the log
    <home>/ledger/<log>/cosigned                   the newest cosigned head of a log of this home

A log's writer replaces `checkpoint` several times a second and knows of no witness; the cosigned head lies
beside it, with the tiles that it needs, and an auditor checks that `checkpoint` continues it.
`tests/ledger/test_witness_homes.py` has two homes vouch for each other and catch each other's rollback and fork.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from fiduciary.config import Settings
from fiduciary.errors import (
    ConfigError,
    ConflictError,
    FiduciaryError,
    IntegrityError,
    LimitError,
    NotFoundError,
)
from fiduciary.ledger._checkpoint import Checkpoint, open_checkpoint, parse_decimal
from fiduciary.ledger._keys import KeyType, Signer, Verifier
from fiduciary.ledger._ledger import Ledger
from fiduciary.ledger._merkle import Tree
from fiduciary.ledger._note import Note
from fiduciary.ledger._tiles import Tiles
from fiduciary.ledger._witness import (
    Outcome,
    Witness,
    accept,
    collect,
    origin_of,
    parse_request,
    post,
    replace_file,
    request_for,
    serve_each,
)

COSIGNED = "cosigned"
MAX_KEYS = 1_000
_MAX_KEY_FILE = 4 << 20
_OWN = (("ed25519", KeyType.COSIGN_ED25519), ("mldsa44", KeyType.COSIGN_ML_DSA_44))
_LOG_TYPES = (KeyType.ED25519, KeyType.COSIGN_ML_DSA_44)
_WITNESS_TYPES = (KeyType.COSIGN_ED25519, KeyType.COSIGN_ML_DSA_44)


class WitnessHome:
    """The witness side of one home, and the asking side of its logs."""

    def __init__(self, settings: Settings) -> None:
        self.name = f"{settings.tenant}.{settings.region}/witness"
        self.folder = settings.home / "witness"
        self._keys = settings.home / "keys"
        self._own = f"{settings.tenant}.{settings.region}/"

    # As a witness of others.

    def keys(self, *, create: bool = False) -> tuple[Signer, ...]:
        """The home's cosigning keys: Ed25519, and ML-DSA-44 beside it. Raises `ConfigError`, `NotFoundError`."""
        signers = []
        for suffix, kind in _OWN:
            path = self._keys / f"witness.{suffix}"
            if not path.exists():
                if not create:
                    raise NotFoundError("this home has no witness key yet: run `fiduciary witness key`")
                Signer.generate(self.name, kind).save(path)
            signer = Signer.load(path)
            if signer.name != self.name or signer.kind is not kind:
                raise ConfigError(
                    f"{path} is a key of {signer.name!r}; needed is the {suffix} key of {self.name!r}"
                )
            signers.append(signer)
        return tuple(signers)

    def trust(self, texts: Sequence[str]) -> list[str]:
        """Vouch for foreign logs from now on, by their public keys; returns their origins.

        Of a log with two keys both must sign, so name both. A second key of one type for a log is refused: to
        follow a log that changed its keys, take its old line out of `<home>/witness/logs` first.
        """
        for key in _decode(texts, _LOG_TYPES, "a log"):
            if key.name.startswith(self._own):
                raise ConfigError(
                    f"{key.name} is a log of this home (or has the same tenant and region); "
                    "a witness only helps if someone else runs it"
                )
        return self._add("logs", texts, _LOG_TYPES, "a log")

    def logs(self) -> dict[str, list[Verifier]]:
        """The foreign logs that this home vouches for, by origin."""
        return self._read("logs", _LOG_TYPES, "a log")

    def witness(self) -> Witness:
        """The home as a witness. Raises `NotFoundError` when it has no keys or trusts no log yet."""
        logs = self.logs()
        if not logs:
            raise NotFoundError("this home trusts no log yet: run `fiduciary witness trust LOG_KEY`")
        return Witness(self.folder / "state", self.keys(), logs)

    def serve(self, requests: Path, answers: Path) -> list[Outcome]:
        """Answer the requests that lie in one folder into another; tell what became of each."""
        if not requests.is_dir():
            raise NotFoundError(f"there is no folder {requests}")
        return serve_each(requests, answers, self.witness())

    # As the owner of logs.

    def accept(self, texts: Sequence[str]) -> list[str]:
        """Take cosignatures of these witnesses from now on; returns their names. Raises `ConfigError`."""
        for key in _decode(texts, _WITNESS_TYPES, "a witness"):
            if key.name == self.name:
                raise ConfigError(
                    f"{key.name} is this home itself; a witness only helps if someone else runs it"
                )
        return self._add("witnesses", texts, _WITNESS_TYPES, "a witness")

    def witnesses(self) -> dict[str, list[Verifier]]:
        """The witnesses whose cosignatures this home takes, by name."""
        return self._read("witnesses", _WITNESS_TYPES, "a witness")

    def one_witness(self, name: str | None) -> str:
        """The witness of that name, or the only one. Raises `NotFoundError`, `ConfigError`."""
        known = sorted(self.witnesses())
        if not known:
            raise NotFoundError("this home takes no witness yet: run `fiduciary witness accept WITNESS_KEY`")
        if name is None and len(known) > 1:
            raise ConfigError(f"name one of the {len(known)} witnesses with --witness: {', '.join(known)}")
        if name is not None and name not in known:
            raise NotFoundError(f"{name!r} is no witness of this home; there are: {', '.join(known)}")
        return name or known[0]

    def post(self, ledger: Ledger, log: str, witness: str, folder: Path) -> Checkpoint:
        """Ask a witness to cosign the log's checkpoint, by a file in `folder`. Returns that checkpoint.

        Raises `IntegrityError` when the log has fewer entries than the witness has cosigned.
        """
        tiles = Tiles(ledger.folder(log))
        note = tiles.read_checkpoint()
        checkpoint = ledger.keys(log).open(note)
        place = self._place(witness, log)
        if place > checkpoint.size:
            raise IntegrityError(
                f"{witness} has cosigned {place} entries of {checkpoint.origin}, here are only {checkpoint.size}: "
                "the log was rolled back"
            )
        tree = Tree.resume(checkpoint.size, tiles.tile, tiles.tile)
        if tree.root() != checkpoint.root:
            raise IntegrityError(f"the tiles of log {log} do not lead to its signed root")
        request = request_for(tree, place, note)
        self._remember(witness, log, "request", request)
        post(folder, request)
        return checkpoint

    def collect(self, ledger: Ledger, log: str, witness: str, folder: Path) -> Checkpoint | None:
        """Take a witness's answer about a log and keep the cosigned head; none when there is no answer.

        Raises `ConflictError` when the witness refused because it stands elsewhere in the log (post again), and
        `IntegrityError` when it refused because the log contradicts what it has cosigned.
        """
        origin = ledger.origin(log)
        try:
            answer = collect(folder, origin)
        except ConflictError as refusal:
            raise self._refused(ledger, log, witness, refusal) from None
        if answer is None:
            return None
        try:
            asked = self._asked(witness, log, "request").read_bytes()
        except FileNotFoundError:
            raise NotFoundError(
                f"an answer about {origin} came, and {witness} was not asked about it"
            ) from None
        if origin_of(asked) != origin:
            raise IntegrityError(f"the request kept for log {log} is of another log")
        try:
            note = accept(parse_request(asked)[2], answer, self.witnesses()[witness])
        except IntegrityError as error:
            raise IntegrityError(
                f"the answer about {origin} is not {witness}'s to the request posted last: {error.detail}"
            ) from None
        keys = ledger.keys(log)
        checkpoint = keys.open(note)
        self._keep(ledger, log, checkpoint, note)
        self._remember(witness, log, "place", f"{checkpoint.size}\n".encode())
        return checkpoint

    def _refused(self, ledger: Ledger, log: str, witness: str, refusal: ConflictError) -> FiduciaryError:
        """What a refusal means. Its words are anyone's; the head in it is believed for its signatures."""
        told, head = f"{ledger.origin(log)}: {refusal.detail}", refusal.more.get("head")
        if head is None:
            return ConflictError(told)
        try:
            cosigned = open_checkpoint(
                head, ledger.origin(log), ledger.keys(log).verifiers, self.witnesses()[witness], quorum=1
            )
        except FiduciaryError as error:
            return ConflictError(
                f"{told}; the head in it is not {witness}'s, so nothing of it was believed: {error}"
            )
        if (before := self._place(witness, log)) > cosigned.size:
            told += (
                f"; it had answered up to {before} already, so the witness was put back to an earlier state"
            )
        self._remember(witness, log, "place", f"{cosigned.size}\n".encode())
        self._keep(ledger, log, cosigned, head)  # from now on `ledger verify` compares with it as well
        tiles, own = Tiles(ledger.folder(log)), ledger.checkpoint(log)
        if cosigned.size > own.size:
            return IntegrityError(f"{told}: it is signed up to {cosigned.size}: the log was rolled back")
        if Tree.resume(own.size, tiles.tile, tiles.tile).root(cosigned.size) != cosigned.root:
            return IntegrityError(
                f"{told}: its first {cosigned.size} entries are not those that were cosigned"
            )
        return ConflictError(f"{told}; post again")

    def _keep(self, ledger: Ledger, log: str, new: Checkpoint, note: bytes) -> None:
        """Keep the newest cosigned head; of two notes on one head, the signatures of both."""
        path = ledger.folder(log) / COSIGNED
        held = read_cosigned(ledger.folder(log))
        if held is not None:
            old = ledger.keys(log).open(held)
            if old.size > new.size:
                return
            if old.size == new.size:
                if old.root != new.root:
                    raise IntegrityError(
                        f"two trees of {new.size} entries of log {log} were signed and cosigned"
                    )
                ours, others = Note.parse(note), Note.parse(held)
                have = {(s.name, s.key_hash) for s in ours.signatures}
                more = tuple(s for s in others.signatures if (s.name, s.key_hash) not in have)
                note = Note(ours.text, (*ours.signatures, *more)).encode()
        replace_file(path, note)

    # Files.

    def _place(self, witness: str, log: str) -> int:
        try:
            text = self._asked(witness, log, "place").read_text("ascii")
        except FileNotFoundError:
            return 0
        return parse_decimal(text.removesuffix("\n"), f"the place of {witness} in log {log}")

    def _asked(self, witness: str, log: str, what: str) -> Path:
        name = hashlib.sha256(witness.encode()).hexdigest()[:32]
        return self.folder / "asked" / name / f"{log}.{what}"

    def _remember(self, witness: str, log: str, what: str, data: bytes) -> None:
        path = self._asked(witness, log, what)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)

    def _add(self, file: str, texts: Sequence[str], types: tuple[KeyType, ...], whose: str) -> list[str]:
        held = self._read(file, types, whose)
        known = {key.encode() for keys in held.values() for key in keys}
        taken = {(key.name, key.kind) for keys in held.values() for key in keys}
        new = {key.encode(): key for key in _decode(texts, types, whose) if key.encode() not in known}
        for key in new.values():
            if (key.name, key.kind) in taken:
                raise ConflictError(
                    f"{key.name} is known with another key of this type; take that line out of "
                    f"{self.folder / file} first"
                )
            taken.add((key.name, key.kind))
        if len(known) + len(new) > MAX_KEYS:
            raise LimitError(f"a home knows at most {MAX_KEYS} keys of logs, and as many of witnesses")
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [*(key.encode() for keys in held.values() for key in keys), *new]
        replace_file(self.folder / file, "".join(f"{line}\n" for line in lines).encode())
        return sorted({key.name for key in _decode(texts, types, whose)})

    def _read(self, file: str, types: tuple[KeyType, ...], whose: str) -> dict[str, list[Verifier]]:
        path = self.folder / file
        found: dict[str, list[Verifier]] = {}
        if path.exists():
            for key in _decode(read_keys(path), types, whose):
                found.setdefault(key.name, []).append(key)
        return found


def read_keys(path: Path) -> list[str]:
    """The public keys in a file, one a line; empty lines and those that begin with `#` are passed over."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_KEY_FILE + 1)
    except OSError as error:
        raise NotFoundError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _MAX_KEY_FILE:
        raise LimitError(f"{path} has more than {_MAX_KEY_FILE} bytes")
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def read_cosigned(folder: Path) -> bytes | None:
    """The newest cosigned head that lies in a log's folder, not verified; none if there is none."""
    path = folder / COSIGNED
    return Tiles(folder).read_checkpoint(COSIGNED) if path.exists() else None


def audit_folder(
    folder: Path, log_keys: Sequence[str], witness_keys: Sequence[str] = ()
) -> tuple[Checkpoint, Checkpoint | None]:
    """An outsider's check of a copied log folder with public keys only: entries, tiles, signed head, and that the
    head continues the one that was cosigned. Returns both heads, the second if there is one.

    All `log_keys`, keys of one log, must have signed; of `witness_keys` every witness (by name) must have
    cosigned. Raises `IntegrityError` naming what differs, `NotFoundError` naming what is not there.
    """
    from fiduciary.ledger._audit import audit

    keys = _decode(log_keys, _LOG_TYPES, "a log")
    witnesses = _decode(witness_keys, _WITNESS_TYPES, "a witness")
    names = {key.name for key in keys}
    if len(names) != 1:
        raise ConfigError(f"the keys must be of one log; these are of: {', '.join(sorted(names)) or 'none'}")
    origin = names.pop()
    held = read_cosigned(folder)
    if held is None:
        if witnesses:
            raise NotFoundError(f"no head of {origin} in {folder} was cosigned by a witness")
        return audit(folder, origin, keys), None
    quorum = len({key.name for key in witnesses})
    cosigned = open_checkpoint(held, origin, keys, witnesses, quorum)
    return audit(folder, origin, keys, since=cosigned), cosigned


def _decode(texts: Sequence[str], types: tuple[KeyType, ...], whose: str) -> list[Verifier]:
    keys = [Verifier.decode(text) for text in texts]
    for key in keys:
        if key.kind not in types:
            allowed = ", ".join(f"{kind:#04x}" for kind in types)
            raise ConfigError(
                f"the key of {key.name} has type {key.kind:#04x}; a key of {whose} has one of {allowed}"
            )
    return keys
