"""From verified bytes to a scorer that may answer."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from fiduciary.errors import FiduciaryError, ReleaseError
from fiduciary.models import Baseline, CompiledContract, Contract, ReasonPlan, Scorer, load_scorer
from fiduciary.registry import _bundle as names
from fiduciary.registry._bundle import Bundle, Manifest
from fiduciary.registry._probes import Probes, read_probes, reproduces
from fiduciary.registry._reference import Reference, read_reference


class LoadedRelease(msgspec.Struct, frozen=True):
    """A verified release, ready to score and explain. Nothing in it reads the disk again."""

    digest: str
    manifest: Manifest
    contract: Contract
    compiled: CompiledContract
    scorer: Scorer
    baseline: Baseline
    plan: ReasonPlan
    reference: Reference
    probes: Probes


def load_bundle(bundle: Bundle) -> LoadedRelease:
    """Make a verified bundle ready to answer.

    Raises `ReleaseError` when it contradicts itself, when its model cannot be loaded, or when this machine
    does not reproduce its probe scores bit for bit.
    """
    try:
        release = open_bundle(bundle)
    except ReleaseError:
        raise
    except FiduciaryError as error:
        raise ReleaseError(f"release {bundle.digest} cannot be loaded: {error.detail}") from None
    if not reproduces(release.probes, release.scorer):
        raise ReleaseError(
            f"this machine does not give the very scores that release {bundle.digest} was approved "
            "with (another library version or processor): serve it where its probes reproduce, or release anew"
        )
    return release


def open_bundle(bundle: Bundle) -> LoadedRelease:
    """Parse every document and load the model from the bytes in memory, without scoring the probes."""
    contract = Contract.from_json(bundle.files[names.CONTRACT])
    scorer = _scorer(bundle, contract)
    if scorer.family != bundle.manifest.family:
        raise ReleaseError(
            f"the model is of family {scorer.family!r}, the manifest says {bundle.manifest.family!r}"
        )
    baseline = _baseline(bundle.document(names.BASELINE))
    reference = read_reference(bundle.document(names.REFERENCE))
    if [h.name for h in reference.features] != list(contract.names):
        raise ReleaseError("reference.json does not describe the contract's features in their order")
    return LoadedRelease(
        digest=bundle.digest,
        manifest=bundle.manifest,
        contract=contract,
        compiled=contract.compile(),
        scorer=scorer,
        baseline=baseline,
        plan=ReasonPlan(contract, baseline),
        reference=reference,
        probes=read_probes(bundle.document(names.PROBES), scorer.features),
    )


def _scorer(bundle: Bundle, contract: Contract) -> Scorer:
    """Loaders read files, so they get a private copy of the verified bytes, not the verified folder."""
    private = Path(tempfile.mkdtemp(prefix="fiduciary-"))  # mode 0700
    try:
        prefix = names.MODEL + "/"
        for path, raw in bundle.files.items():
            if path.startswith(prefix):
                place = private / path.removeprefix(prefix)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(raw)
        return load_scorer(private, contract)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _baseline(document: Any) -> Baseline:
    try:
        return msgspec.convert(document, Baseline)
    except msgspec.ValidationError as error:
        raise ReleaseError(f"baseline.json is not right: {error}") from None
