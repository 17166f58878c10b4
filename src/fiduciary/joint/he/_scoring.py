"""Scores on ciphertexts: the customer's rows are hidden from the machine that scores, the weights from the client.

Two bundles. The client's holds keys and the encoding of rows (`ClientSide`); the server's holds the evaluation
keys and its own weights (`ServerSide`), and is refused if a secret key lies in it. The server is honest but curious:
it sees how many rows and columns, nothing of their content, and nothing proves that it scored with the right
weights. Answers are rounded before they leave the client, because an exact CKKS decryption tells about the secret
key (Li and Micciancio, EUROCRYPT 2021). Scores still tell about the model: limit how many may be asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import UsageError
from fiduciary.joint.he._encoding import Encoding
from fiduciary.joint.he._process import ScoringWorker
from fiduciary.models import Link, probability

F64 = NDArray[np.float64]
Packing = Literal["columns", "row"]
BATCH = 4_096
"""Rows of one packed batch."""
DIGITS = 6
"""Decimal places of a margin that leaves the client."""


class Ciphertexts(msgspec.Struct, frozen=True, kw_only=True):
    """Encrypted rows or margins. `parts`: one byte array each."""

    packing: str
    rows: int
    parts: list[Any]

    @property
    def bytes(self) -> int:
        """Size, bytes."""
        return sum(len(part) for part in self.parts)


class ClientSide:
    """Keys, encoding, encryption, decryption. `python`: interpreter of the TenSEAL environment.

    `packing`: `columns` for batches of up to 4,096 rows, `row` for single rows. Use as a context manager.
    """

    def __init__(self, encoding: Encoding, link: Link, *, python: Path, packing: Packing = "columns") -> None:
        self.encoding, self.link, self.packing = encoding, link, packing
        self._worker = ScoringWorker(python, "client")
        self._secret: Any = None

    def make_keys(self) -> bytes:
        """New keys; returns the evaluation keys, which the server needs and which open nothing."""
        _, found = self._worker.ask("keys", {"packing": self.packing})
        self._secret = found["secret"]
        return found["server"].tobytes()

    def save(self, path: Path) -> None:
        """Write the client bundle: encoding and secret key, readable by the owner of the file only."""
        if self._secret is None:
            raise UsageError("there are no keys to save; make them first")
        document = msgspec.msgpack.encode(
            {
                "format": "fiduciary.he-client/1",
                "encoding": msgspec.json.encode(self.encoding),
                "link": self.link,
                "packing": self.packing,
                "secret": self._secret.tobytes(),
            }
        )
        path.touch(mode=0o600)
        path.write_bytes(document)

    @classmethod
    def load(cls, path: Path, *, python: Path) -> ClientSide:
        """Read a client bundle. Raises `UsageError` when it is none."""
        try:
            document = msgspec.msgpack.decode(path.read_bytes())
            if document["format"] != "fiduciary.he-client/1" or document["packing"] not in ("columns", "row"):
                raise KeyError
            encoding = msgspec.json.decode(document["encoding"], type=Encoding)
            link, secret = document["link"], np.frombuffer(document["secret"], np.uint8)
        except (OSError, msgspec.MsgspecError, KeyError, TypeError, ValueError):
            raise UsageError(f"{path.name} is not a client bundle") from None
        client = cls(encoding, link, python=python, packing=document["packing"])
        client._secret = secret
        client._worker.ask("load", {"packing": client.packing}, {"secret": secret})
        return client

    def encrypt(self, rows: F64) -> Ciphertexts:
        """Encrypt rows (n, features) in contract order; at most 4,096 in the packing `columns`."""
        columns = self.encoding.encode(rows)
        said, found = self._worker.ask("encrypt", {"packing": self.packing}, {"rows": columns})
        return Ciphertexts(packing=self.packing, rows=int(said["rows"]), parts=_ordered(found))

    def decrypt(self, answer: Ciphertexts, *, digits: int = DIGITS) -> F64:
        """Margins (n,), rounded to `digits` decimal places."""
        if not 0 <= digits <= 12:
            raise UsageError("margins are rounded to 0 to 12 decimal places")
        header = {"packing": answer.packing, "rows": answer.rows, "digits": digits}
        _, found = self._worker.ask("decrypt", header, _named(answer.parts))
        margins: F64 = found["margins"]
        return margins

    def probabilities(self, answer: Ciphertexts) -> F64:
        """Scores (n,): the probability for a logit link, the margin for an identity link."""
        return probability(self.decrypt(answer), self.link)

    def close(self) -> None:
        """End the worker."""
        self._worker.close()

    def __enter__(self) -> ClientSide:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class ServerSide:
    """The machine that scores: weights in the clear, rows as ciphertexts. Use as a context manager."""

    def __init__(self, weights: F64, *, python: Path) -> None:
        self._worker = ScoringWorker(python, "server")
        self.times: dict[str, float] = {}
        """Of the last call, seconds: `open_s` (ciphertexts read), `evaluate_s`, `close_s` (answer written)."""
        self._worker.ask("model", {}, {"weights": np.asarray(weights, np.float64)})

    def load_keys(self, evaluation: bytes, packing: Packing = "columns") -> None:
        """Take a client's evaluation keys. Raises `JointError` when a secret key lies in them."""
        self._worker.ask("load", {"packing": packing}, {"server": np.frombuffer(evaluation, np.uint8)})

    def score(self, rows: Ciphertexts) -> Ciphertexts:
        """Encrypted margins of encrypted rows. Raises `JointError` for another number of columns than the model."""
        said, found = self._worker.ask(
            "score", {"packing": rows.packing, "rows": rows.rows}, _named(rows.parts)
        )
        self.times = {k: float(said[k]) for k in ("open_s", "evaluate_s", "close_s", "cpu_s")}
        return Ciphertexts(packing=rows.packing, rows=rows.rows, parts=_ordered(found))

    def close(self) -> None:
        """End the worker."""
        self._worker.close()

    def __enter__(self) -> ServerSide:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _named(parts: list[Any]) -> dict[str, Any]:
    return {str(i): np.frombuffer(part, np.uint8) for i, part in enumerate(parts)}


def _ordered(found: dict[str, Any]) -> list[Any]:
    return [found[str(i)].tobytes() for i in range(len(found))]
