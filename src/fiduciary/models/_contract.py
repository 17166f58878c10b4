"""The feature contract: what a row must be before a release may score it.

A contract is a document (`contract.json` of a release bundle): per feature its type, unit, range, categories,
what a missing value means, why it may be used, and the plain text that is given to a person when it spoke
against them. `Contract.compile` turns it into the checker of rows (`_row.py`).
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from fiduciary.errors import ContractError

if TYPE_CHECKING:
    from fiduciary.models._row import CompiledContract

MAX_FEATURES = 4_096
MAX_NAME = 128
MAX_TEXT = 2_000
MAX_CATEGORIES = 10_000
MAX_RELATIONS = 256
MAX_CONTRACT_BYTES = 8 << 20
LARGEST_INTEGER = 2**53 - 1
"""Largest whole number that a float64, and so a JSON number (RFC 8259 section 6), carries without doubt."""

Operator = Literal["<", "<=", "==", "!=", ">=", ">"]


class Feature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One input of the model, in the order in which the model reads it."""

    name: str
    type: Literal["number", "integer", "boolean", "category"]
    unit: str = ""
    minimum: int | float | None = None
    maximum: int | float | None = None
    categories: list[str] = []
    """Allowed texts of a category; the model reads the position in this list."""
    missing: Literal["forbidden", "allowed"] = "forbidden"
    """`allowed`: the field may be null or left out; the model reads NaN."""
    description: str = ""
    reason: str = ""
    """Plain text for a person when this feature counted against them."""
    group: str = ""
    """Features of one group are given as one reason; empty: a reason of its own."""
    purpose: str = ""
    """Why the feature may be used (data protection: purpose limitation)."""
    protected: bool = False
    """A protected characteristic: present for checks, and shown as such."""
    mutable: bool = False
    """The person can change it: a counterfactual or a robustness check may move it."""
    monotone: Literal[-1, 0, 1] = 0
    """Direction in which the score must move with the feature: up (1), down (-1) or free (0)."""
    origin: str = ""
    """Where the value comes from (system, bureau, the person)."""


class Relation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule between two fields, or a field and a constant; not applied while a side is missing."""

    left: str
    op: Operator
    right: str | int | float
    """A feature's name, or a number."""
    message: str


class Contract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All features in model order, and the relations between them.

    Raises `ContractError` when it contradicts itself, with a JSON pointer into the document in `where`.
    """

    version: Literal[1] = 1
    features: tuple[Feature, ...]
    relations: tuple[Relation, ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in model order."""
        return tuple(feature.name for feature in self.features)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical JSON (sorted keys, no spaces, defaults left out): 32 bytes."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).digest()

    @classmethod
    def from_json(cls, document: bytes) -> Contract:
        """Read `contract.json`. Raises `ContractError` naming the place in the document."""
        if len(document) > MAX_CONTRACT_BYTES:
            raise ContractError(f"the contract is larger than {MAX_CONTRACT_BYTES} bytes")
        try:
            return _decoder.decode(document)
        except msgspec.ValidationError as error:
            raise ContractError(f"the contract document is wrong: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ContractError(f"the contract is not valid JSON: {error}") from None

    @classmethod
    def load(cls, path: Path | str) -> Contract:
        """Read a contract file."""
        path = Path(path)
        try:
            if path.stat().st_size > MAX_CONTRACT_BYTES:
                raise ContractError(f"{path.name} is larger than {MAX_CONTRACT_BYTES} bytes")
            document = path.read_bytes()
        except OSError as error:
            raise ContractError(f"the contract {path} cannot be read: {error.strerror}") from None
        return cls.from_json(document)

    def to_json(self) -> bytes:
        """The document for people: indented, defaults left out, ending in a newline."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def compile(self) -> CompiledContract:
        """The checker of rows under this contract."""
        from fiduciary.models._row import CompiledContract

        return CompiledContract(self)


_decoder = msgspec.json.Decoder(Contract)


def escape_pointer(name: str) -> str:
    """A name as one step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _check(contract: Contract) -> None:
    features = contract.features
    if not 1 <= len(features) <= MAX_FEATURES:
        raise ContractError(
            f"a contract has 1 to {MAX_FEATURES} features, not {len(features)}", where="/features"
        )
    seen: dict[str, int] = {}
    for i, feature in enumerate(features):
        where = f"/features/{i}"
        _check_feature(feature, where)
        if feature.name in seen:
            raise ContractError(
                f"feature {feature.name!r} is named twice (also at /features/{seen[feature.name]})",
                where=where,
            )
        seen[feature.name] = i
    for i, feature in enumerate(features):
        if feature.group in seen and feature.group != feature.name:
            raise ContractError(
                f"the group of {feature.name!r} has the name of another feature; choose another group name",
                where=f"/features/{i}/group",
            )
    if len(contract.relations) > MAX_RELATIONS:
        raise ContractError(f"a contract has at most {MAX_RELATIONS} relations", where="/relations")
    for i, relation in enumerate(contract.relations):
        sides = [("left", relation.left)]
        if isinstance(relation.right, str):
            sides.append(("right", relation.right))
        elif not math.isfinite(relation.right):
            raise ContractError("a relation compares with a finite number", where=f"/relations/{i}/right")
        for side, name in sides:
            where = f"/relations/{i}/{side}"
            if name not in seen:
                raise ContractError(f"a relation names {name!r}, which is not a feature", where=where)
            if features[seen[name]].type == "category":
                raise ContractError(f"{name!r} is a category; a relation compares numbers", where=where)
        if not relation.message.strip():
            raise ContractError("a relation needs a message: what must hold", where=f"/relations/{i}")
        _check_text(relation.message, f"/relations/{i}/message")


def _check_feature(feature: Feature, where: str) -> None:
    name = feature.name
    if not name or len(name) > MAX_NAME or not name.isprintable() or '"' in name or "\\" in name:
        raise ContractError(
            f'a feature name has 1 to {MAX_NAME} printable characters, none of them " or \\',
            where=f"{where}/name",
        )
    for field in ("unit", "description", "reason", "group", "purpose", "origin"):
        _check_text(getattr(feature, field), f"{where}/{field}")
    minimum, maximum = feature.minimum, feature.maximum
    for field, bound in (("minimum", minimum), ("maximum", maximum)):
        if bound is None:
            continue
        place = f"{where}/{field}"
        if feature.type not in ("number", "integer"):
            raise ContractError(f"{name!r} is a {feature.type}: it has no {field}", where=place)
        if not _exact(bound):
            raise ContractError(f"the {field} of {name!r} must be a number that float64 holds", where=place)
        if feature.type == "integer" and (bound != math.floor(bound) or abs(bound) > LARGEST_INTEGER):
            raise ContractError(f"the {field} of {name!r} must be whole and below 2**53", where=place)
    if minimum is not None and maximum is not None and minimum > maximum:
        raise ContractError(f"the minimum of {name!r} is above its maximum", where=where)
    if feature.type == "category":
        categories = feature.categories
        if not 1 <= len(categories) <= MAX_CATEGORIES:
            raise ContractError(
                f"{name!r} is a category: list 1 to {MAX_CATEGORIES} allowed texts",
                where=f"{where}/categories",
            )
        if len(set(categories)) != len(categories):
            raise ContractError(f"{name!r} lists a category twice", where=f"{where}/categories")
        if max(map(len, categories)) > MAX_TEXT:
            raise ContractError(f"a category of {name!r} is too long", where=f"{where}/categories")
        if feature.monotone:
            raise ContractError(f"{name!r} is a category: it has no direction", where=f"{where}/monotone")
    elif feature.categories:
        raise ContractError(f"{name!r} is not a category: it lists none", where=f"{where}/categories")


def _check_text(text: str, where: str) -> None:
    if len(text) > MAX_TEXT:
        raise ContractError(f"a text of a contract has at most {MAX_TEXT} characters", where=where)


def _exact(bound: Any) -> bool:
    try:
        return math.isfinite(bound) and float(bound) == bound
    except OverflowError:
        return False
