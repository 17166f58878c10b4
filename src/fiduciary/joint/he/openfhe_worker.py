"""Logistic regression on ciphertexts (CKKS, OpenFHE): one command per role, files between them.

Runs in a worker environment of its own (Python 3.10, numpy, openfhe) and imports nothing of the product. A job is
a folder: `job.json` says the sizes; `server/` holds what the machine that trains may have (public and evaluation
keys, ciphertexts); each `owner-<name>/` holds that owner's secret key share, which never leaves it.

Layout. Slot i of diagonal d holds X[i, (i + d) mod F], for n rows and F columns (a power of two), following Halevi
and Shoup (CRYPTO 2014). Weights repeat with period F, so both products of a step need no mask and no extra level:

    z = sum over d of  D_d * rot(w, d)            g = sum over d of  rot(D_d * r, -d), folded over the rows

Baby and giant steps (d = B a + b, diagonals stored rotated by -B a) bring this to about 3 sqrt(F) + log2(n / F) key
switches a step, with three keys (B, -B, -1) beside the baby steps and folds. A step costs four levels: one
product each for z and g, two for the cubic sigmoid. The constants of the step are folded into the sigmoid's
coefficients and into the encrypted labels. Weights are refreshed by a sparse bootstrap of F slots (Cheon et al.,
EUROCRYPT 2018) where the job asks for it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openfhe

Array = np.ndarray[Any, Any]
Said = dict[str, Any]

STEP_LEVELS = 4
CIPHERTEXTS = "cells"
MAX_COLUMNS = 256
MAX_ROWS = 1 << 16
BINARY = openfhe.BINARY


class JobError(Exception):
    """Something about the job that a person can mend; printed as one line."""


def main(words: list[str]) -> int:
    """`openfhe_worker.py COMMAND FOLDER [NAME...]`; prints one JSON object, or `error: ...` and exit code 2."""
    if len(words) < 2 or words[0] not in COMMANDS:
        print("error: usage: openfhe_worker.py " + "|".join(COMMANDS) + " FOLDER [NAME...]", file=sys.stderr)
        return 2
    begun, cpu = time.perf_counter(), time.process_time()
    try:
        said = COMMANDS[words[0]](Job(Path(words[1])), *words[2:]) or {}
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:  # the engine's own refusals: its last clause is the reason
        print(f"error: the engine refused: {str(error).rsplit('): ', 1)[-1][:300]}", file=sys.stderr)
        return 2
    said["seconds"] = time.perf_counter() - begun
    said["cpu_seconds"] = time.process_time() - cpu
    said["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps(said))
    return 0


class Job:
    """The sizes of a job and what follows from them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = folder / "server"
        said = json.loads((folder / "job.json").read_text("utf-8"))
        self.rows, self.columns, self.iterations = (int(said[k]) for k in ("rows", "columns", "iterations"))
        self.owners = [str(name) for name in said["owners"]]
        self.per_bootstrap = int(said["steps_per_bootstrap"])
        self.scale, self.step = int(said["scale_bits"]), float(said["step"])
        self.linear, self.cubic = (float(c) for c in said["sigmoid"])
        if not 1 <= self.rows <= MAX_ROWS or not 1 <= self.columns <= MAX_COLUMNS or self.iterations < 1:
            raise JobError(f"a job has 1 to {MAX_ROWS} rows, 1 to {MAX_COLUMNS} columns and an iteration")
        self.F = 1 << (self.columns - 1).bit_length() if self.columns > 1 else 1
        self.slots = max(self.F, 1 << (self.rows - 1).bit_length())
        self.B = 1 << ((self.F.bit_length()) // 2)
        self.A = self.F // self.B
        self.folds = [self.F << i for i in range((self.slots // self.F).bit_length() - 1)]
        self.bootstraps = self.per_bootstrap > 0
        if self.bootstraps and len(self.owners) > 1:
            raise JobError("bootstrapping under a key of several owners is not offered: use levels only")

    def owner(self, name: str) -> Path:
        if name not in self.owners:
            raise JobError(f"{name[:80]} is not an owner of this job")
        folder = self.folder / ("owner-" + name)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    @property
    def rotations(self) -> list[int]:
        steps = {*range(1, self.B), self.B, -self.B, -1, *self.folds}
        return sorted(s for s in steps if s % self.slots)

    # --- the crypto context ---

    def make_context(self) -> Any:
        ring = 15 if not self.bootstraps else 16
        last: Exception | None = None
        while ring <= 17:
            try:
                return self._context(1 << ring)
            except RuntimeError as error:  # the ring is too small for 128-bit security at this depth
                last, ring = error, ring + 1
        raise last or JobError("no ring was tried")

    def _context(self, ring: int) -> Any:
        p = openfhe.CCParamsCKKSRNS()
        p.SetSecurityLevel(openfhe.SecurityLevel.HEStd_128_classic)
        p.SetSecretKeyDist(self.distribution())
        p.SetScalingTechnique(openfhe.ScalingTechnique.FIXEDMANUAL)
        p.SetRingDim(ring)
        p.SetBatchSize(self.slots)
        p.SetScalingModSize(self.scale)
        p.SetFirstModSize(60)
        if self.slots > ring // 2:
            raise RuntimeError(f"context(): {self.rows} rows do not fit")
        self.depth = self.levels()
        p.SetMultiplicativeDepth(self.depth)
        cc = openfhe.GenCryptoContext(p)
        features = [
            openfhe.PKE,
            openfhe.KEYSWITCH,
            openfhe.LEVELEDSHE,
            openfhe.ADVANCEDSHE,
            openfhe.MULTIPARTY,
        ]
        for feature in [*features, *([openfhe.FHE] if self.bootstraps else [])]:
            cc.Enable(feature)
        return cc

    def levels(self) -> int:
        """Multiplicative depth: the first step costs one level, the others four, and a bootstrap starts from one."""
        if not self.bootstraps:
            return 1 + STEP_LEVELS * (self.iterations - 1)
        return int(self._depths([1, 1], self.distribution())) + STEP_LEVELS * self.per_bootstrap + 1

    def distribution(self) -> Any:
        """Dense keys; for bootstrapping those with an encapsulated sparse one (Bossuat et al., ACNS 2022)."""
        kinds = openfhe.SecretKeyDist
        return kinds.SPARSE_ENCAPSULATED if self.bootstraps else kinds.UNIFORM_TERNARY

    @property
    def _depths(self) -> Any:
        """Where this version of the engine keeps the depth of a bootstrap."""
        held = (
            openfhe.CryptoContext
            if hasattr(openfhe.CryptoContext, "GetBootstrapDepth")
            else openfhe.FHECKKSRNS
        )
        return held.GetBootstrapDepth

    @property
    def top(self) -> int:
        """The level at which cells are encrypted: nothing is spent on levels that a bootstrap takes anyway."""
        return self.depth - STEP_LEVELS * self.per_bootstrap - 1 if self.bootstraps else 0

    def open_context(self, keys: bool = False) -> Any:
        """Read the context, and for the server the evaluation keys too."""
        openfhe.CryptoContext.ClearEvalAutomorphismKeys()
        cc, ok = openfhe.DeserializeCryptoContext(str(self.server / "context"), BINARY)
        if not ok:
            raise JobError("the crypto context cannot be read")
        self.depth = self.levels()
        if self.bootstraps and keys:
            cc.EvalBootstrapSetup([1, 1], [0, 0], self.F)
        if keys:
            if not cc.DeserializeEvalMultKey(str(self.server / "mult"), BINARY):
                raise JobError("the multiplication keys cannot be read")
            if not cc.DeserializeEvalAutomorphismKey(str(self.server / "rotations"), BINARY):
                raise JobError("the rotation keys cannot be read")
        return cc

    def public_key(self) -> Any:
        key, ok = openfhe.DeserializePublicKey(str(self.server / "public"), BINARY)
        if not ok:
            raise JobError("the public key cannot be read")
        return key

    def secret_key(self, name: str) -> Any:
        key, ok = openfhe.DeserializePrivateKey(str(self.owner(name) / "secret"), BINARY)
        if not ok:
            raise JobError(f"the secret key share of {name} cannot be read")
        return key


def put(path: Path, thing: Any) -> None:
    """Write one object of the engine; secret folders are 0700, so the file needs no mode of its own."""
    if not openfhe.SerializeToFile(str(path), thing, BINARY):
        raise JobError(f"{path.name} cannot be written")


def take(path: Path) -> Any:
    found, ok = openfhe.DeserializeCiphertext(str(path), BINARY)
    if not ok:
        raise JobError(f"the ciphertext {path.name} cannot be read")
    return found


# --- keys: one owner, or several in turn ---


def keys(job: Job, name: str) -> Said:
    """One owner's turn at the key: the first makes the context, each next adds a share. Run in the owners' order.

    With several owners the joint multiplication key needs a second turn of each (`keys-finish`).
    """
    first = name == job.owners[0]
    job.server.mkdir(exist_ok=True)
    cc = job.make_context() if first else job.open_context()
    if first:
        put(job.server / "context", cc)
    pair = cc.KeyGen() if first else cc.MultipartyKeyGen(job.public_key())
    put(job.owner(name) / "secret", pair.secretKey)
    put(job.server / "public", pair.publicKey)
    if len(job.owners) == 1:
        cc.EvalMultKeyGen(pair.secretKey)
        if job.bootstraps:
            cc.EvalBootstrapSetup([1, 1], [0, 0], job.F)
            cc.EvalBootstrapKeyGen(pair.secretKey, job.F)
        cc.EvalRotateKeyGen(pair.secretKey, job.rotations)
        cc.SerializeEvalMultKey(str(job.server / "mult"), BINARY, "")
        cc.SerializeEvalAutomorphismKey(str(job.server / "rotations"), BINARY, "")
        return {"ring": cc.GetRingDimension(), "depth": job.depth}
    tag = pair.publicKey.GetKeyTag()
    if first:
        switch = cc.KeySwitchGen(pair.secretKey, pair.secretKey)
        cc.EvalRotateKeyGen(pair.secretKey, job.rotations)
        turns = cc.GetEvalAutomorphismKeyMap(pair.secretKey.GetKeyTag())
    else:
        lead, ok = openfhe.DeserializeEvalKey(str(job.server / "switch-first"), BINARY)
        so_far, ok2 = openfhe.DeserializeEvalKeyMap(str(job.server / "turns-first"), BINARY)
        added, ok3 = openfhe.DeserializeEvalKeyMap(str(job.server / "turns"), BINARY)
        joint, ok4 = openfhe.DeserializeEvalKey(str(job.server / "switch"), BINARY)
        if not (ok and ok2 and ok3 and ok4):
            raise JobError("the keys of the owners before cannot be read")
        mine = cc.MultiKeySwitchGen(pair.secretKey, pair.secretKey, lead)
        switch = cc.MultiAddEvalKeys(joint, mine, tag)
        turns = cc.MultiEvalAtIndexKeyGen(pair.secretKey, so_far, job.rotations, tag)
        turns = cc.MultiAddEvalAutomorphismKeys(added, turns, tag)
    if first:
        put(job.server / "switch-first", switch)
        put(job.server / "turns-first", turns)
    put(job.server / "switch", switch)
    put(job.server / "turns", turns)
    return {"ring": cc.GetRingDimension(), "depth": job.depth}


def keys_finish(job: Job, name: str) -> Said:
    """The second turn of each owner of several: their part of the joint multiplication key."""
    cc = job.open_context()
    tag = job.public_key().GetKeyTag()
    joint, ok = openfhe.DeserializeEvalKey(str(job.server / "switch"), BINARY)
    if not ok:
        raise JobError("the joint switching key cannot be read")
    mine = cc.MultiMultEvalKey(job.secret_key(name), joint, tag)
    place = job.server / "mult-part"
    if name != job.owners[0]:
        before, ok = openfhe.DeserializeEvalKey(str(place), BINARY)
        if not ok:
            raise JobError(f"the owners before {name} have not finished their keys")
        mine = cc.MultiAddEvalMultKeys(before, mine, tag)
    put(place, mine)
    if name == job.owners[-1]:
        cc.InsertEvalMultKey([mine])
        turns, ok = openfhe.DeserializeEvalKeyMap(str(job.server / "turns"), BINARY)
        cc.InsertEvalAutomorphismKey(turns, tag)
        cc.SerializeEvalMultKey(str(job.server / "mult"), BINARY, "")
        cc.SerializeEvalAutomorphismKey(str(job.server / "rotations"), BINARY, "")
        for left in ("switch-first", "switch", "turns-first", "turns", "mult-part"):
            (job.server / left).unlink()
    return {}


# --- cells ---


def encrypt(job: Job, name: str) -> Said:
    """Encrypt this owner's cells (`cells.npy`, zeros where others own them) and, of the label's owner, the labels."""
    cc, public = job.open_context(), job.public_key()
    home = job.owner(name)
    cells = np.load(home / "cells.npy", allow_pickle=False)
    if cells.shape != (job.rows, job.columns) or not np.isfinite(cells).all():
        raise JobError(f"cells.npy of {name} must be finite numbers, {job.rows} rows, {job.columns} columns")
    X = np.zeros((job.rows, job.F))
    X[:, : job.columns] = cells
    i = np.arange(job.rows)
    place = job.server / CIPHERTEXTS
    place.mkdir(exist_ok=True)
    written = 0
    for a in range(job.A):
        for b in range(job.B):
            slots = np.zeros(job.slots)
            slots[: job.rows] = X[i, (i + job.B * a + b) % job.F]
            plain = cc.MakeCKKSPackedPlaintext(np.roll(slots, job.B * a), 1, job.top, None, job.slots)
            written += _add(cc, place / f"{a}-{b}", cc.Encrypt(public, plain))
    labels = home / "labels.npy"
    if labels.exists():
        y = np.load(labels, allow_pickle=False)
        if y.shape != (job.rows,) or not np.isin(y, (0.0, 1.0)).all():
            raise JobError(f"labels.npy of {name} must be {job.rows} zeros and ones")
        slots = np.zeros(job.slots)
        slots[: job.rows] = job.step * (y - 0.5)
        plain = cc.MakeCKKSPackedPlaintext(slots, 1, job.top, None, job.slots)
        written += _add(cc, place / "labels", cc.Encrypt(public, plain))
    return {"bytes": written}


def _add(cc: Any, path: Path, cipher: Any) -> int:
    """Store a ciphertext, added to what owners before have put there."""
    if path.exists():
        cipher = cc.EvalAdd(take(path), cipher)
    put(path, cipher)
    return path.stat().st_size


# --- training, on the server: no secret key is here ---


class Circuit:
    """The two encrypted products and the sigmoid between them."""

    def __init__(self, job: Job, cc: Any) -> None:
        self.job, self.cc = job, cc
        place = job.server / CIPHERTEXTS
        self.cells = [[take(place / f"{a}-{b}") for b in range(job.B)] for a in range(job.A)]
        self.labels = take(place / "labels")

    def lowered(self, cipher: Any, level: int) -> Any:
        down = level - cipher.GetLevel()
        if down < 0:
            raise JobError("the levels of this job are used up")
        return self.cc.LevelReduce(cipher, None, down) if down else cipher

    def lower_cells(self, level: int) -> None:
        """Cells that no later step reads at a higher level are cut down for good: lower levels cost less."""
        self.cells = [[self.lowered(c, level) for c in row] for row in self.cells]

    def times_weights(self, w: Any) -> Any:
        """z: the margins of all rows, one level lower."""
        cc, job = self.cc, self.job
        level = w.GetLevel()
        digits, m = cc.EvalFastRotationPrecompute(w), 2 * cc.GetRingDimension()
        baby = [w, *[cc.EvalFastRotation(w, b, m, digits) for b in range(1, job.B)]]
        z = None
        for a in reversed(range(job.A)):
            part = None
            for b in range(job.B):
                term = cc.EvalMultNoRelin(self.lowered(self.cells[a][b], level), baby[b])
                part = term if part is None else cc.EvalAdd(part, term)
            part = cc.Rescale(cc.Relinearize(part))
            z = part if z is None else cc.EvalAdd(cc.EvalRotate(z, job.B), part)
        return z

    def times_residual(self, r: Any) -> Any:
        """The weighted sum of rows, in every slot of its column, one level lower."""
        cc, job = self.cc, self.job
        level = r.GetLevel()
        giant = [r]
        for _ in range(1, job.A):
            giant.append(cc.EvalRotate(giant[-1], -job.B))
        g = None
        for b in reversed(range(job.B)):
            part = None
            for a in range(job.A):
                term = cc.EvalMultNoRelin(self.lowered(self.cells[a][b], level), giant[a])
                part = term if part is None else cc.EvalAdd(part, term)
            part = cc.Rescale(cc.Relinearize(part))
            g = part if g is None else cc.EvalAdd(cc.EvalRotate(g, -1), part)
        for fold in job.folds:
            g = cc.EvalAdd(g, cc.EvalRotate(g, fold))
        return g

    def residual(self, z: Any) -> Any:
        """step * (y - sigmoid(z)) with sigmoid(z) = 1/2 + c1 z + c3 z^3, two levels lower."""
        cc, job = self.cc, self.job
        square = cc.Rescale(cc.EvalMult(z, z))
        cubic = cc.Rescale(cc.EvalMult(z, -job.cubic * job.step))
        r = cc.Rescale(cc.EvalMult(square, cubic))
        linear = cc.Rescale(cc.EvalMult(z, -job.linear * job.step))
        r = cc.EvalAdd(r, self.lowered(linear, r.GetLevel()))
        return cc.EvalAdd(r, self.lowered(self.labels, r.GetLevel()))


def train(job: Job) -> Said:
    """All steps on ciphertexts; leaves `weights` and times. Refuses to run where a secret key lies."""
    if any((job.server / name).exists() for name in ("secret", "secret.sealed-key")):
        raise JobError("a secret key lies in the server's folder; it must not be there")
    cc = job.open_context(keys=True)
    circuit = Circuit(job, cc)
    steps: list[float] = []
    boots: list[float] = []
    begun = time.perf_counter()
    w = circuit.times_residual(circuit.lowered(circuit.labels, job.top))
    steps.append(time.perf_counter() - begun)
    for done in range(1, job.iterations):
        if job.bootstraps and w.GetLevel() + STEP_LEVELS >= job.depth:
            begun = time.perf_counter()
            w.SetSlots(job.F)
            w = cc.EvalBootstrap(w)
            if w.GetNoiseScaleDeg() > 1:
                w = cc.Rescale(w)
            w.SetSlots(job.slots)
            boots.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        if not job.bootstraps:
            circuit.lower_cells(w.GetLevel())
        g = circuit.times_residual(circuit.residual(circuit.times_weights(w)))
        w = cc.EvalAdd(circuit.lowered(w, g.GetLevel()), g)
        steps.append(time.perf_counter() - begun)
        print(f"step {done + 1} of {job.iterations}", file=sys.stderr, flush=True)
    put(job.server / "weights", w)
    return {"steps": steps, "bootstraps": boots}


# --- opening the weights: every owner, each with their own share ---


def partial(job: Job, name: str) -> Said:
    """This owner's part of the decryption of the weights; for a single owner the weights themselves."""
    cc = job.open_context()
    weights = take(job.server / "weights")
    secret = job.secret_key(name)
    if len(job.owners) == 1:
        plain = cc.Decrypt(weights, secret)
        _write_weights(job, plain)
        return {}
    lead = name == job.owners[0]
    part = (cc.MultipartyDecryptLead if lead else cc.MultipartyDecryptMain)([weights], secret)[0]
    put(job.folder / ("part-" + name), part)
    return {}


def fuse(job: Job) -> Said:
    """Put all owners' parts together. One part less gives noise, so all must be there."""
    cc = job.open_context()
    missing = [name for name in job.owners if not (job.folder / ("part-" + name)).exists()]
    if missing:
        raise JobError("the weights need the part of every owner; missing: " + ", ".join(missing))
    parts = [take(job.folder / ("part-" + name)) for name in job.owners]
    _write_weights(job, cc.MultipartyDecryptFusion(parts))
    return {}


def _write_weights(job: Job, plain: Any) -> None:
    """Rounded, because an approximate decryption tells about the key what its noise tells (Li, Micciancio 2021)."""
    plain.SetLength(job.F)
    weights = np.array(plain.GetRealPackedValue(), dtype=np.float64)[: job.columns]
    np.save(job.folder / "weights.npy", np.round(weights, 5), allow_pickle=False)


COMMANDS: dict[str, Any] = {
    "keys": keys,
    "keys-finish": keys_finish,
    "encrypt": encrypt,
    "train": train,
    "partial": partial,
    "fuse": fuse,
}

if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
