"""Build a release bundle from a model directory, its contract and two populations."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import ModelError, ReleaseError
from fiduciary.models import Contract, Scorer, baseline_of, load_scorer, probability, refuse_pickle
from fiduciary.registry import _bundle as bundle
from fiduciary.registry._canonical import canonical
from fiduciary.registry._card import model_card
from fiduciary.registry._dsse import RELEASE_TYPE, Key, sign_envelope
from fiduciary.registry._probes import make_probes
from fiduciary.registry._reference import make_reference
from fiduciary.registry._use_case import UseCase

F64 = NDArray[np.float64]
CHECKS_FORMAT = "fiduciary.checks/1"


def approved_rows(scorer: Scorer, rows: F64, use_case: UseCase) -> F64:
    """The rows that the use case's cut-offs would approve: the population that reasons are measured against.

    Raises `ReleaseError` when it would approve none.
    """
    scores = probability(scorer.score(rows), scorer.link)
    high = use_case.adverse == "high"
    approved = rows[scores < use_case.approve_below if high else scores > use_case.approve_below]
    if len(approved) == 0:
        raise ReleaseError(
            f"the cut-off {use_case.approve_below} approves none of the {len(rows)} rows, so reasons would "
            "have no baseline; choose another cut-off or hand in the approved population"
        )
    return approved


def build(
    parent: Path,
    model: Path,
    contract: Contract,
    use_case: UseCase,
    rows: F64,
    *,
    name: str,
    version: str,
    approved: F64 | None = None,
    baseline_description: str = "",
    provenance: Mapping[str, Any] | None = None,
    checks: Sequence[Mapping[str, Any]] = (),
    card: str | None = None,
) -> Path:
    """Write the bundle `<parent>/<digest hex>` and return its folder. The same inputs give the same digest.

    `model`: a directory with `model.json`. `rows`: float64 (n, features) in contract order, the development
    population for the drift reference. `approved`: the population for the baseline; left out, those of `rows`
    that the use case's cut-offs approve. `provenance`: JSON values (datasets' digests, code, seeds).
    `checks`: the developer's own results, each with `name`, `ok` and any more. Raises `ModelError`,
    `ReleaseError`, `LimitError`.
    """
    use_case.check()
    files = _model_files(model)
    scorer = load_scorer(model, contract)
    if approved is None:
        approved = approved_rows(scorer, rows, use_case)
        baseline_description = baseline_description or (
            f"rows of the development population that {use_case.name} would approve "
            f"(cut-off {use_case.approve_below})"
        )
    baseline = baseline_of(scorer, approved, baseline_description)
    reference = make_reference(contract, scorer, rows)
    provenance = dict(provenance or {})
    results = [dict(check) for check in checks]
    files[bundle.CONTRACT] = contract.to_json()
    files[bundle.BASELINE] = _json(baseline)
    files[bundle.REFERENCE] = _json(reference)
    files[bundle.PROBES] = _json(make_probes(contract, reference, scorer))
    files[bundle.CHECKS] = canonical({"format": CHECKS_FORMAT, "results": results})
    files[bundle.PROVENANCE] = canonical(provenance)
    files[bundle.CARD] = (
        model_card(
            name=name,
            version=version,
            family=scorer.family,
            use_case=use_case,
            contract=contract,
            baseline=baseline,
            reference=reference,
            checks=results,
            provenance=provenance,
        )
        if card is None
        else card
    ).encode("utf-8")
    _, manifest_bytes = bundle.make_manifest(
        name=name, version=version, use_case=use_case.name, family=scorer.family, files=files
    )
    return bundle.write_bundle(parent, manifest_bytes, files)


def _json(value: msgspec.Struct) -> bytes:
    return canonical(msgspec.to_builtins(value))


def _model_files(model: Path) -> dict[str, bytes]:
    """Every file of a model directory, as `model/<path>`; links, devices and pickles are refused."""
    if not model.is_dir():
        raise ModelError(f"{model} is not a model directory (a folder with model.json)")
    files: dict[str, bytes] = {}
    for folder, _, names in os.walk(model):
        for name in names:
            place = Path(folder) / name
            path = bundle.check_path(f"{bundle.MODEL}/{place.relative_to(model).as_posix()}")
            status = place.lstat()
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(f"{place} is a link or a device; a release holds plain files only")
            if status.st_size > bundle.MAX_FILE_BYTES or len(files) >= bundle.MAX_FILES:
                raise ModelError(f"{place} passes the limits of a bundle")
            refuse_pickle(place)
            files[path] = place.read_bytes()
    return files


def sign(folder: Path, key: Key) -> bytes:
    """Verify a bundle and add this key's DSSE signature of its manifest; returns the envelope.

    Signing twice with one key changes nothing. Raises `ReleaseError`, `LimitError`.
    """
    verified = bundle.read_bundle(folder)
    present = verified.signatures.get(key.key_id)
    envelope = sign_envelope(RELEASE_TYPE, verified.manifest_bytes, key)
    if present is not None:
        if present != envelope:
            raise ReleaseError(f"signatures/{key.key_id}.dsse.json is there and is not this key's signature")
        return envelope
    if len(verified.signatures) >= bundle.MAX_SIGNATURES:
        raise ReleaseError(f"the bundle carries {bundle.MAX_SIGNATURES} signatures, the most it may")
    signatures = folder / bundle.SIGNATURES
    signatures.mkdir(exist_ok=True)
    bundle.sync_folder(folder)
    draft = folder.parent / f".signature-{os.getpid()}-{os.urandom(4).hex()}"
    bundle.write_durable(draft, envelope)
    draft.rename(signatures / f"{key.key_id}.dsse.json")
    bundle.sync_folder(signatures)
    return envelope
