"""Bring a model in from outside: native files, or an MLflow model directory. A pickle is never opened."""

from __future__ import annotations

import importlib
import json
import shutil
import stat
import tempfile
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import MissingExtraError, ModelError, ReleaseError
from fiduciary.models import FAMILIES, Contract, import_ebm, load_scorer, refuse_pickle
from fiduciary.registry._bundle import MAX_FILE_BYTES, check_path
from fiduciary.registry._mlmodel import read_mlmodel

FLAVORS = ("lightgbm", "xgboost", "onnx")
"""MLflow flavours that keep a model in its own format."""

EBM = "ebm"
"""An Explainable Boosting Machine as `interpret` writes it; becomes an additive model."""

FILES = {
    EBM: "ebm.json",
    "lightgbm": "model.txt",
    "xgboost": "model.ubj",
    "onnx": "model.onnx",
    "scorecard": "scorecard.json",
    "additive": "additive.json",
}

JUDGED = ("lightgbm", "xgboost", "onnx")
"""Families whose answers are compared with their own library's before a release can be built from them."""

INSTEAD = {
    "sklearn": "convert it with skl2onnx.to_onnx and import the .onnx file",
    "python_function": "save the model inside it in its own format (LightGBM, XGBoost, ONNX) and import that file",
    "pytorch": "export it with torch.onnx.export and import the .onnx file",
    "tensorflow": "convert it with tf2onnx and import the .onnx file",
    "keras": "convert it with tf2onnx and import the .onnx file",
    "spark": "convert it with onnxmltools.convert_sparkml and import the .onnx file",
    "catboost": "save it with save_model(..., format='onnx') and import the .onnx file",
}


class Imported(msgspec.Struct, frozen=True):
    """A model directory ready for `build`, and the input names that its file or signature states."""

    folder: Path
    family: str
    inputs: tuple[str, ...] | None


def import_model(
    source: Path, contract: Contract, target: Path, rows: NDArray[np.float64] | None = None
) -> Imported:
    """Copy a model into the new model directory `target`, recognising its format by its content.

    `source`: a LightGBM text file, an XGBoost JSON or UBJSON file, an ONNX file, a scorecard's or an additive
    model's directory or JSON (Explainable Boosting Machine, `to_json`), or an MLflow model directory. `rows`:
    float64 (n, features) on which a tree or ONNX model is compared with its own library; left out, rows drawn
    from the contract. Raises `ModelError`: unknown format, a pickle (with what to do instead), a link, a target
    that exists, or answers that differ from the library's.
    """
    if target.exists():
        raise ModelError(f"{target} exists already; import into a new directory")
    inputs: tuple[str, ...] | None = None
    if (source / "MLmodel").exists():
        source, inputs = _mlflow_file(source)
    if source.is_dir():
        family, contents = _own_directory(source)
    else:
        raw = _read(source)
        family, named = _recognise(source, raw)
        inputs = named if named is not None else inputs
        spec = {"version": 1, "family": family, "file": FILES[family]}
        contents = {FILES[family]: raw, "model.json": json.dumps(spec).encode()}
    _check_inputs(inputs, contract)
    try:
        if family == EBM:
            family = import_ebm(source, contract, target).family
        elif family in JUDGED and not source.is_dir():
            _judged(family, source, raw, contract, target, rows)
        else:
            target.mkdir(parents=True)
            for name, raw in contents.items():
                (target / name).write_bytes(raw)
        load_scorer(target, contract)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return Imported(target, family, inputs)


def _judged(
    family: str, source: Path, raw: bytes, contract: Contract, target: Path, rows: NDArray[np.float64] | None
) -> None:
    """Import through the family's own importer, which compares the answers with the library's."""
    importer = getattr(importlib.import_module(FAMILIES[family]), f"import_{family}")
    if family != "xgboost" or raw.lstrip()[1:2] in b'"\n\r\t }':
        importer(source, contract, target, rows)
        return
    try:
        import xgboost
    except ImportError:
        raise MissingExtraError("XGBoost is needed to read UBJSON: pip install 'fiduciary[trees]'") from None
    with tempfile.TemporaryDirectory(prefix="fiduciary-") as folder:
        plain = Path(folder) / "model.json"
        xgboost.Booster({"nthread": 1}, model_file=bytearray(raw)).save_model(plain)
        importer(plain, contract, target, rows)


def _check_inputs(inputs: tuple[str, ...] | None, contract: Contract) -> None:
    """The inputs that the model states must be the contract's, in its order: position is all that it reads."""
    defaults = [tuple(f"{prefix}{i}" for i in range(len(contract.names))) for prefix in ("Column_", "f")]
    if inputs is None or inputs == contract.names or inputs in defaults:
        return
    pairs = enumerate(zip_longest(inputs, contract.names, fillvalue="nothing"))
    place, (states, wants) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    raise ModelError(f"input {place} of the model is {states!r}, the contract has {wants!r} there")


def _read(path: Path) -> bytes:
    try:
        status = path.lstat()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"{path} is a link or a device; name the model file itself")
    if status.st_size > MAX_FILE_BYTES:
        raise ModelError(f"{path} has {status.st_size} bytes; at most {MAX_FILE_BYTES} are read")
    refuse_pickle(path)
    return path.read_bytes()


def _mlflow_file(folder: Path) -> tuple[Path, tuple[str, ...] | None]:
    """The native model file of an MLflow directory. Raises `ModelError` where there is only a pickle."""
    model = read_mlmodel(folder)
    for flavor in FLAVORS:
        if flavor in model.flavors:
            data = model.flavors[flavor].get("data")
            if not isinstance(data, str):
                raise ModelError(f"MLmodel does not say where the {flavor} model file lies (data)")
            path = folder
            for part in _plain(data).split("/"):
                path = path / part
                if path.is_symlink():
                    raise ModelError(f"{path} is a link; an imported model holds plain files only")
            return path, model.inputs
    for flavor, advice in INSTEAD.items():
        if flavor in model.flavors:
            raise ModelError(
                f"this MLflow model has only the flavour {flavor!r}, which keeps the model as a pickle or as code; "
                f"neither is ever loaded here. Instead: {advice}"
            )
    known = ", ".join(FLAVORS)
    raise ModelError(f"none of the flavours {', '.join(sorted(model.flavors))} can be imported; {known} can")


def _plain(path: str) -> str:
    try:
        return check_path(path)
    except ReleaseError as error:
        raise ModelError(error.detail) from None


def _own_directory(source: Path) -> tuple[str, dict[str, bytes]]:
    """Family and files of a model directory of ours."""
    spec = _json_object(_read(source / "model.json")) if (source / "model.json").exists() else None
    family = spec.get("family") if spec else None
    if not isinstance(family, str):
        raise ModelError(f"{source} has neither a model.json that names a family nor an MLmodel")
    contents = {}
    for path in sorted(source.iterdir()):
        _plain(path.name)
        contents[path.name] = _read(path)
    return family, contents


def _recognise(path: Path, raw: bytes) -> tuple[str, tuple[str, ...] | None]:
    """Family and input names, from the bytes and never from the file's name alone."""
    if raw.startswith((b"tree\n", b"tree\r\n")):
        return "lightgbm", _lightgbm_names(raw)
    if raw.startswith(b"binf") or raw[:4] == b"bs64":
        raise ModelError(
            f"{path.name} is XGBoost's old binary format; load it with an XGBoost before 3.1 and "
            "save_model('model.ubj')"
        )
    document = _json_object(raw) if raw.lstrip()[:1] == b"{" else None
    if document is not None:
        if isinstance(document.get("learner"), dict):
            names = document["learner"].get("feature_names")
            return "xgboost", tuple(map(str, names)) if isinstance(names, list) and names else None
        if isinstance(document.get("ebm"), dict):
            return EBM, None
        if "terms" in document and "axes" in document:
            return "additive", None
        if "intercept" in document and isinstance(document.get("features"), list):
            return "scorecard", None
        raise ModelError(f"{path.name} is JSON, but neither XGBoost's, a scorecard's nor an additive model's")
    if raw[:2] in (b"{L", b"{i", b"{U", b"{I", b"{l") and b"learner" in raw[:64]:
        return "xgboost", None
    if raw[:1] == b"\x08" and path.suffix.lower() == ".onnx":
        return "onnx", None
    raise ModelError(
        f"{path.name} is of no format that can be imported: LightGBM text, XGBoost JSON or UBJSON, ONNX, or the "
        "JSON of a scorecard or of an Explainable Boosting Machine"
    )


def _lightgbm_names(raw: bytes) -> tuple[str, ...] | None:
    for line in raw[: 1 << 20].split(b"\n"):
        if line.startswith(b"feature_names="):
            return tuple(line.removeprefix(b"feature_names=").decode("utf-8", "replace").split())
    return None


def _json_object(raw: bytes) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
