"""Additive models with pairwise interactions: exact look-up of explainable boosting machines (EBM).

margin = intercept + sum of terms; a term is a table over the bins of one feature or of two. The contribution of
a feature is its own terms and half of every pair it is in: the Shapley value of the pair's two players, and
halves are exact in binary, so contributions add up to the margin. To give a pair as one reason of its own, put
both features in one group of the contract. `import_ebm` reads the JSON that interpret's `to_json` writes
(Nori et al., InterpretML, 2019); tests/models/test_additive.py holds the look-up to interpret's predictions.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from fiduciary.errors import ModelError
from fiduciary.models._contract import Contract, Feature
from fiduciary.models._scorer import MODEL_FILE, Link, refuse_pickle

F64 = NDArray[np.float64]

ADDITIVE_FILE = "additive.json"
MAX_ADDITIVE_BYTES = 256 << 20
MAX_TERMS = 8_192
MAX_CUTS = 65_536
LARGEST_SCORE = 1e6
FEW_ROWS = 16
"""Up to here a loop over rows is faster than numpy term by term; both give the same bits."""


class Axis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One way to bin one feature. Bin 0 is missing; the value x of a number lies in bin 1 + (cuts <= x)."""

    feature: str
    cuts: list[float] = []
    codes: list[int] = []
    """Category or boolean: the bin of each of the contract's categories (false, true), instead of cuts."""

    @property
    def size(self) -> int:
        """How many bins a table over this axis has at least."""
        return 1 + max(self.codes) if self.codes else len(self.cuts) + 2


class Term(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of log-odds over one axis or two: `scores[bin]` or `scores[first * columns + second]`."""

    axes: list[int]
    columns: int = 1
    scores: list[float]


class AdditiveFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`additive.json`: the whole model."""

    version: Literal[1] = 1
    link: Link
    intercept: float
    axes: list[Axis]
    terms: list[Term]


_decoder = msgspec.json.Decoder(AdditiveFile)


class Additive:
    """An additive model ready to score. Immutable; safe to share between threads."""

    family = "additive"

    def __init__(self, model: AdditiveFile, contract: Contract) -> None:
        """Raises `ModelError` when the model contradicts itself or the contract."""
        _check(model, contract)
        self.model = model
        self.link: Link = model.link
        self.bias = model.intercept
        self.features = len(contract.features)
        index = {name: i for i, name in enumerate(contract.names)}
        self._axes: list[tuple[int, list[float] | None, list[int]]] = [
            (index[axis.feature], None if axis.codes else axis.cuts, axis.codes) for axis in model.axes
        ]
        self._cut_arrays = [np.array(axis.cuts) for axis in model.axes]
        self._code_arrays = [np.array(axis.codes, dtype=np.int64) for axis in model.axes]
        self._terms = [
            (
                term.axes[0],
                term.axes[-1] if len(term.axes) == 2 else -1,
                term.columns,
                term.scores,
                index[model.axes[term.axes[0]].feature],
                index[model.axes[term.axes[-1]].feature],
            )
            for term in model.terms
        ]
        self._score_arrays = [np.array(term.scores) for term in model.terms]

    def score(self, rows: F64) -> F64:
        """Margins (n,)."""
        return self.explain(rows)[0]

    def explain(self, rows: F64) -> tuple[F64, F64]:
        """Margins (n,) and contributions (n, features); a pair's score goes half and half."""
        if len(rows) <= FEW_ROWS:
            return self._explain_few(rows)
        bins = []
        for (feature, cuts, _), cut_array, codes in zip(
            self._axes, self._cut_arrays, self._code_arrays, strict=True
        ):
            x = rows[:, feature]
            missing = np.isnan(x)
            if cuts is None:
                found = codes[np.where(missing, 0.0, x).astype(np.int64)]
            else:
                found = np.searchsorted(cut_array, x, side="right") + 1
            bins.append(np.where(missing, 0, found))
        margins: F64 = np.full(len(rows), self.bias)
        contributions: F64 = np.zeros((len(rows), self.features))
        for (first, second, columns, _, i, j), scores in zip(self._terms, self._score_arrays, strict=True):
            if second < 0:
                found = scores[bins[first]]
                contributions[:, i] += found
            else:
                found = scores[bins[first] * columns + bins[second]]
                half = 0.5 * found
                contributions[:, i] += half
                contributions[:, j] += half
            margins += found
        return margins, contributions

    def _explain_few(self, rows: F64) -> tuple[F64, F64]:
        margins: list[float] = []
        contributions: list[list[float]] = []
        for row in rows.tolist():
            bins = []
            for feature, cuts, codes in self._axes:
                x = row[feature]
                if x != x:
                    bins.append(0)
                else:
                    bins.append(codes[int(x)] if cuts is None else bisect_right(cuts, x) + 1)
            margin = self.bias
            split = [0.0] * self.features
            for first, second, columns, scores, i, j in self._terms:
                if second < 0:
                    found = scores[bins[first]]
                    split[i] += found
                else:
                    found = scores[bins[first] * columns + bins[second]]
                    half = 0.5 * found
                    split[i] += half
                    split[j] += half
                margin += found
            margins.append(margin)
            contributions.append(split)
        return np.array(margins), np.array(contributions).reshape(len(margins), self.features)

    def save(self, directory: Path | str) -> None:
        """Write `model.json` and `additive.json` into a directory (made if absent)."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ADDITIVE_FILE).write_bytes(msgspec.json.encode(self.model) + b"\n")
        spec = msgspec.json.encode({"version": 1, "family": self.family, "file": ADDITIVE_FILE})
        (directory / MODEL_FILE).write_bytes(spec + b"\n")


def load(directory: Path, spec: dict[str, Any], contract: Contract) -> Additive:
    """Load `additive.json`. Raises `ModelError` when absent, damaged or of another contract."""
    if spec.get("version") != 1:
        raise ModelError(f"{MODEL_FILE} of an additive model has version 1, not {spec.get('version')!r}")
    raw = _read(directory / ADDITIVE_FILE)
    try:
        model = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{ADDITIVE_FILE} is not an additive model: {error}") from None
    return Additive(model, contract)


def import_ebm(path: Path | str, contract: Contract, out_dir: Path | str) -> Additive:
    """Convert the JSON of interpret's `ebm.to_json(path)` (any detail) into a model directory.

    Binary classification with the logit link and regression with the identity link, main effects and pairs.
    Features are matched by name and must be the contract's. Raises `ModelError` saying what does not fit.
    """
    path = Path(path)
    refuse_pickle(path)
    try:
        document = msgspec.json.decode(_read(path))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelError(f"{path.name} is not JSON; write it with interpret's ebm.to_json") from None
    try:
        model = _convert(document["ebm"], contract)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path.name} is not an EBM as interpret's to_json writes it ({type(error).__name__}: {error})"
        ) from None
    scorer = Additive(model, contract)
    scorer.save(out_dir)
    return scorer


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_ADDITIVE_BYTES:
            raise ModelError(f"{path.name} is larger than {MAX_ADDITIVE_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}") from None


def _convert(ebm: dict[str, Any], contract: Contract) -> AdditiveFile:
    if len(ebm["outputs"]) != 1:
        raise ModelError("an EBM with one output is needed")
    output = ebm["outputs"][0]
    classes = output.get("classes")
    if output["link"] not in ("logit", "identity") or (classes is not None and len(classes) != 2):
        raise ModelError("an EBM for two classes (logit) or with the identity link is needed")
    intercept = ebm["intercept"][0] if isinstance(ebm["intercept"], list) else ebm["intercept"]
    by_name = {feature["name"]: feature for feature in ebm["features"]}
    if set(by_name) != set(contract.names):
        odd = sorted(set(by_name) ^ set(contract.names))
        raise ModelError(f"the EBM's features are not the contract's; they differ in {', '.join(odd[:8])}")
    rules = {feature.name: feature for feature in contract.features}
    axes: list[Axis] = []
    known: dict[tuple[str, int], int] = {}

    def axis_of(name: str, dimensions: int) -> int:
        source = by_name[name]
        levels = source["cuts"] if source["type"] == "continuous" else source["categories"]
        level = min(len(levels), dimensions) - 1  # interpret keeps coarser bins for pairs, where it has them
        if (name, level) not in known:
            known[name, level] = len(axes)
            axes.append(_axis(rules[name], source["type"], levels[level]))
        return known[name, level]

    terms: list[Term] = []
    for source in ebm["terms"]:
        names = source["term_features"]
        if len(names) not in (1, 2) or len(set(names)) != len(names):
            raise ModelError(
                "an EBM with main effects and pairs is needed; this one has a larger interaction"
            )
        picked = [axis_of(name, len(names)) for name in names]
        table = np.array(source["scores"], dtype=np.float64)
        if table.ndim != len(names):
            raise ModelError(f"the scores of term {' x '.join(names)} have a wrong shape")
        terms.append(
            Term(axes=picked, columns=table.shape[1] if table.ndim == 2 else 1, scores=table.ravel().tolist())
        )
    return AdditiveFile(link=output["link"], intercept=float(intercept), axes=axes, terms=terms)


def _axis(feature: Feature, kind: str, bins: list[Any]) -> Axis:
    if kind == "continuous":
        if feature.type == "category":
            raise ModelError(f"the EBM takes {feature.name!r} as a number, the contract as a category")
        return Axis(feature=feature.name, cuts=[float(cut) for cut in bins])
    place = {str(text): k + 1 for k, group in enumerate(bins) for text in _group(group)}
    if feature.type == "category":
        wanted = feature.categories
    elif feature.type == "boolean":
        wanted = ["False", "True"] if "True" in place or "False" in place else ["0", "1"]
    else:
        raise ModelError(f"the EBM takes {feature.name!r} as categories, the contract as a {feature.type}")
    unknown = [text for text in wanted if text not in place]
    if unknown:
        raise ModelError(f"the EBM has never seen the category {unknown[0]!r} of {feature.name!r}")
    return Axis(feature=feature.name, codes=[place[text] for text in wanted])


def _group(group: Any) -> list[Any]:
    return group if isinstance(group, list) else [group]


def _check(model: AdditiveFile, contract: Contract) -> None:
    if not math.isfinite(model.intercept) or abs(model.intercept) > LARGEST_SCORE:
        raise ModelError("the intercept of an additive model must be finite")
    if len(model.terms) > MAX_TERMS:
        raise ModelError(f"an additive model has at most {MAX_TERMS} terms")
    rules = {feature.name: feature for feature in contract.features}
    for axis in model.axes:
        feature = rules.get(axis.feature)
        if feature is None:
            raise ModelError(f"the additive model reads {axis.feature!r}, which the contract does not name")
        if axis.codes:
            wanted = 2 if feature.type == "boolean" else len(feature.categories)
            if len(axis.codes) != wanted or min(axis.codes) < 1 or max(axis.codes) > MAX_CUTS or axis.cuts:
                raise ModelError(f"the bins of {axis.feature!r} are not those of the contract's categories")
        elif feature.type == "category":
            raise ModelError(f"{axis.feature!r} is a category: its axis needs codes")
        if len(axis.cuts) > MAX_CUTS or not all(a < b for a, b in itertools.pairwise(axis.cuts)):
            raise ModelError(f"the cuts of {axis.feature!r} must increase, at most {MAX_CUTS} of them")
        if not all(map(math.isfinite, axis.cuts)):
            raise ModelError(f"the cuts of {axis.feature!r} must be finite")
    for t, term in enumerate(model.terms):
        if len(term.axes) not in (1, 2) or not all(0 <= axis < len(model.axes) for axis in term.axes):
            raise ModelError(f"term {t} of the additive model must name one or two axes")
        used = [model.axes[axis] for axis in term.axes]
        if len({axis.feature for axis in used}) != len(used):
            raise ModelError(f"term {t} of the additive model names a feature twice")
        rows = len(term.scores) // max(term.columns, 1)
        shape = [rows, term.columns] if len(used) == 2 else [len(term.scores)]
        fits = term.columns >= 1 and math.prod(shape) == len(term.scores)
        if not fits or any(have < axis.size for have, axis in zip(shape, used, strict=True)):
            raise ModelError(f"the table of term {t} of the additive model is too small for its bins")
        if not all(math.isfinite(s) and abs(s) <= LARGEST_SCORE for s in term.scores):
            raise ModelError(f"the scores of term {t} of the additive model must be finite")
