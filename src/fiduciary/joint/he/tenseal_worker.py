"""Scores on ciphertexts (CKKS, TenSEAL): one process for the client's side, another for the server's.

Runs in a worker environment of its own (Python 3.11, numpy, tenseal) and imports nothing of the product but the
frames of `joint/worker`, whose folder is its first argument. A client process makes keys, encrypts and decrypts; a
server process is given evaluation keys only and refuses a context that holds a secret key.

A model here is a linear map of the columns that the client sends (numbers, or the 0/1 indicators of bins and
leaves), so one product of a ciphertext with a plaintext is the whole depth: nothing needs to be rescaled, which is
what makes the packed form cheap. Two packings: `columns`, one ciphertext a column with a row in each slot (4,096
rows), and `row`, one ciphertext holding the columns of a single row, added up by rotations.
"""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import numpy as np
import tenseal as ts

Array = np.ndarray[Any, Any]
Header = dict[str, Any]
Arrays = dict[str, Array]
Answer = tuple[Header, Arrays]

RING = 8192
SLOTS = RING // 2
LIMIT = 512
PRIMES: dict[str, tuple[list[int], int, bool]] = {
    "columns": ([60, 60, 60], 48, False),
    "row": ([60, 50, 60], 50, True),
}
"""Packing -> prime sizes (180 and 170 bits: 128-bit security at this ring is 218), scale bits, rescaled or not."""


class Refused(Exception):
    """A request that a person can mend."""


class Client:
    """Keys, encryption and decryption; lives where the rows live."""

    def __init__(self) -> None:
        self.context: dict[str, Any] = {}

    def keys(self, header: Header, arrays: Arrays) -> Answer:
        packing = _packing(header)
        primes, scale, rescale = PRIMES[packing]
        context = ts.context(ts.SCHEME_TYPE.CKKS, RING, coeff_mod_bit_sizes=primes)
        context.global_scale = 2.0**scale
        context.auto_rescale, context.auto_relin, context.auto_mod_switch = rescale, False, rescale
        if packing == "row":
            context.generate_galois_keys()
        self.context[packing] = context
        public = context.serialize(
            save_public_key=True,
            save_secret_key=False,
            save_galois_keys=packing == "row",
            save_relin_keys=False,
        )
        secret = context.serialize(
            save_public_key=True, save_secret_key=True, save_galois_keys=False, save_relin_keys=False
        )
        return {}, {"server": _bytes(public), "secret": _bytes(secret)}

    def load(self, header: Header, arrays: Arrays) -> Answer:
        packing = _packing(header)
        context = ts.context_from(arrays["secret"].tobytes())
        if not context.has_secret_key():
            raise Refused("the client bundle holds no secret key")
        _settings(context, packing)
        self.context[packing] = context
        return {}, {}

    def encrypt(self, header: Header, arrays: Arrays) -> Answer:
        context, packing, rows = self._context(header), _packing(header), arrays["rows"]
        if rows.ndim != 2 or not 1 <= rows.shape[1] <= LIMIT or not np.isfinite(rows).all():
            raise Refused(f"rows must be finite numbers, 1 to {LIMIT} columns")
        if packing == "row":
            width = 1 << max(rows.shape[1] - 1, 1).bit_length()
            padded = np.zeros((len(rows), width))
            padded[:, : rows.shape[1]] = rows
            found = [ts.ckks_vector(context, row).serialize() for row in padded]
        else:
            if not 1 <= len(rows) <= SLOTS:
                raise Refused(f"a packed batch has 1 to {SLOTS} rows")
            found = [ts.ckks_vector(context, column).serialize() for column in rows.T]
        return {"rows": len(rows)}, {str(i): _bytes(c) for i, c in enumerate(found)}

    def decrypt(self, header: Header, arrays: Arrays) -> Answer:
        context = self._context(header)
        digits = int(header["digits"])
        count = int(header["rows"])
        found = [ts.ckks_vector_from(context, arrays[str(i)].tobytes()).decrypt() for i in range(len(arrays))]
        margins = [v[0] for v in found] if _packing(header) == "row" else found[0][:count]
        return {}, {"margins": np.round(np.array(margins, dtype=np.float64), digits)}

    def _context(self, header: Header) -> Any:
        packing = _packing(header)
        if packing not in self.context:
            raise Refused(f"no keys for the packing {packing} have been made or loaded")
        return self.context[packing]


class Server:
    """The model owner's side: weights in the clear, rows as ciphertexts, no secret key."""

    def __init__(self) -> None:
        self.context: dict[str, Any] = {}
        self.weights: list[float] = []
        self.padded: list[float] = []

    def model(self, header: Header, arrays: Arrays) -> Answer:
        weights = arrays["weights"]
        if weights.ndim != 1 or not 1 <= len(weights) <= LIMIT or not np.isfinite(weights).all():
            raise Refused(f"a model has 1 to {LIMIT} finite weights")
        self.weights = [float(w) for w in weights]
        width = 1 << max(len(weights) - 1, 1).bit_length()
        self.padded = self.weights + [0.0] * (width - len(weights))
        return {}, {}

    def load(self, header: Header, arrays: Arrays) -> Answer:
        context = ts.context_from(arrays["server"].tobytes())
        if context.has_secret_key():
            raise Refused("the server bundle holds a secret key; the server must not have one")
        _settings(context, _packing(header))
        self.context[_packing(header)] = context
        return {}, {}

    def score(self, header: Header, arrays: Arrays) -> Answer:
        packing = _packing(header)
        context = self.context.get(packing)
        if context is None or not self.weights:
            raise Refused(f"the server has no model, or no keys for the packing {packing}")
        begun = time.perf_counter()
        ciphers = [ts.ckks_vector_from(context, arrays[str(i)].tobytes()) for i in range(len(arrays))]
        opened = time.perf_counter()
        if packing == "row":
            if any(c.size() != len(self.padded) for c in ciphers):
                raise Refused("a row has another number of columns than the model")
            found = [cipher.dot(self.padded) for cipher in ciphers]
        else:
            if len(ciphers) != len(self.weights):
                raise Refused(f"the batch has {len(ciphers)} columns, the model {len(self.weights)}")
            total = ciphers[0] * self.weights[0]
            for cipher, weight in zip(ciphers[1:], self.weights[1:], strict=True):
                if weight != 0.0:
                    total += cipher * weight
            found = [total]
        done = time.perf_counter()
        answer = {str(i): _bytes(c.serialize()) for i, c in enumerate(found)}
        timed = {"open_s": opened - begun, "evaluate_s": done - opened, "close_s": time.perf_counter() - done}
        return {"rows": int(header["rows"]), **timed}, answer


def _settings(context: Any, packing: str) -> None:
    _, scale, rescale = PRIMES[packing]
    context.global_scale = 2.0**scale
    context.auto_rescale, context.auto_relin, context.auto_mod_switch = rescale, False, rescale


def _packing(header: Header) -> str:
    packing = str(header.get("packing", "columns"))
    if packing not in PRIMES:
        raise Refused("a packing is one of " + ", ".join(PRIMES))
    return packing


def _bytes(raw: bytes) -> Array:
    return np.frombuffer(raw, dtype=np.uint8)


def main(words: list[str]) -> int:
    """`tenseal_worker.py FOLDER-OF-FRAMES client|server`: frames in, frames out, until the input ends."""
    sys.path.insert(0, words[0])
    import _frames as frames  # type: ignore[import-not-found]

    role: Client | Server = Client() if words[1] == "client" else Server()
    verbs = {
        "client": ("keys", "load", "encrypt", "decrypt"),
        "server": ("model", "load", "score"),
    }[words[1]]
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while True:
        frame = frames.read(source)
        if frame is None:
            return 0
        header, arrays = frame
        begun = time.process_time()
        try:
            if header["type"] not in verbs:
                raise Refused(f"the {words[1]} answers {', '.join(verbs)}")
            said, found = getattr(role, header["type"])(header, arrays)
        except Refused as error:
            said, found = {"error": str(error)}, {}
        except (ValueError, RuntimeError, KeyError, TypeError):
            said, found = {"error": "the engine could not read or use what was sent"}, {}
        said["cpu_s"] = time.process_time() - begun
        said["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        frames.write(sink, {"type": "answer", **said}, found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
