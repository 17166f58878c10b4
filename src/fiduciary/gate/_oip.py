"""The Open Inference Protocol V2 over REST (docs/open-inference.md), and the reading of its tensors.

V2 knows models, tensors and parameters, but no subjects, reasons or records. A model is a use case; the subject
comes as a parameter or as one more tensor; reasons and the record's place go out as further output tensors, which
a client that does not ask for them may ignore. Rows are put back into named fields and then pass the same
contract, the same path and the same record as the native door's. The specification is the protocol's
`rest_predict_v2.yaml`; conformance is shown with a client that others wrote (tests/conformance/oip).
"""

from __future__ import annotations

import math
import secrets
import struct
import urllib.parse
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, ClassVar, Literal

import msgspec

from fiduciary import __version__
from fiduciary.decision import Asked, DecisionRecord
from fiduciary.errors import (
    ContractError,
    FiduciaryError,
    MalformedRequestError,
    NotFoundError,
)
from fiduciary.gate import _limits as limits
from fiduciary.gate._http import Exchange
from fiduciary.gate._json import parse, refuse_duplicates
from fiduciary.gate._native import require_json
from fiduciary.gate._servables import Servable
from fiduciary.gate.path import Question
from fiduciary.ledger import Receipt
from fiduciary.models import Feature

SUBJECT = "subject"
OUTPUTS = ("score", "outcome", "reasons", "record")
RULED = ("referred_by", "notices")
"""Outputs that come by themselves only when a rule in force had something to say."""
CIRCUMSTANCES = {
    "purpose": limits.MAX_PURPOSE, "consent": limits.MAX_CONSENT, "region": limits.MAX_REGION,
}  # fmt: skip
"""Parameters that say under which circumstances it is asked, for all rows, and their most characters."""
OPTED_OUT = "opted_out"
INTEGERS = {
    "INT8": (-(2**7), 2**7), "INT16": (-(2**15), 2**15), "INT32": (-(2**31), 2**31), "INT64": (-(2**63), 2**63),
    "UINT8": (0, 2**8), "UINT16": (0, 2**16), "UINT32": (0, 2**32), "UINT64": (0, 2**64),
}  # fmt: skip
_float32 = struct.Struct("<f")
_encode = msgspec.json.Encoder().encode


class Tensor(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A named tensor: shape, V2 datatype, values in row-major order."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] = []
    parameters: dict[str, Any] | None = None


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """An output the client asks for."""

    name: str
    parameters: dict[str, Any] | None = None


class Infer(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A V2 inference request. Clients send null for what they leave out, and some repeat the address in the body."""

    id: str | None = ""
    model_name: str | None = None
    model_version: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: list[Tensor]
    outputs: list[Wanted] | None = None

    @property
    def wanted(self) -> list[str]:
        """Names of the outputs asked for; none: all."""
        return [wanted.name for wanted in self.outputs or ()]


_decode = msgspec.json.Decoder(Infer).decode


def read_infer(body: bytes) -> Infer:
    """Parse a REST inference request. Raises `MalformedRequestError`; never repeats what was sent."""
    infer = parse(_decode, body)
    refuse_duplicates(body)
    return infer


def flat(data: list[Any], shape: Sequence[int]) -> list[Any]:
    """Values in row-major order; V2 allows nested lists as well as one flat list."""
    if data and isinstance(data[0], list):
        if len(shape) < 2:
            raise MalformedRequestError("the data is nested deeper than its shape")
        return [value for part in data for value in flat(part if isinstance(part, list) else [], shape[1:])]
    return data


def values_of(tensor: Tensor, where: str) -> list[Any]:
    """A tensor's values, checked against its shape and datatype. Raises `MalformedRequestError`."""
    size = 1
    for extent in tensor.shape:
        if extent < 0:
            raise MalformedRequestError("a shape holds no negative numbers", where=f"{where}/shape")
        size *= extent
    if not 1 <= len(tensor.shape) <= 2 or size > 10_000_000:
        raise MalformedRequestError("a tensor here has one or two dimensions", where=f"{where}/shape")
    values = flat(tensor.data, tensor.shape)
    if len(values) != size:
        raise MalformedRequestError(
            f"the shape {tensor.shape} holds {size} values, but {len(values)} came", where=f"{where}/data"
        )
    kind, where = tensor.datatype, f"{where}/data"
    if kind in ("FP64", "FP32", "FP16"):
        return [_real(value, kind, where) for value in values]
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        if all(type(value) is int and low <= value < high for value in values):
            return values
        raise MalformedRequestError(f"the data does not fit {kind}", where=where)
    if kind == "BOOL":
        if all(type(value) is bool or value in (0, 1) for value in values):
            return [bool(value) for value in values]
        raise MalformedRequestError("the data does not fit BOOL", where=where)
    if kind == "BYTES":
        if all(type(value) is str for value in values):
            return values
        raise MalformedRequestError("BYTES come as texts in JSON", where=where)
    raise MalformedRequestError(
        "the datatype is not one of the protocol's", where=where.removesuffix("data") + "datatype"
    )


def _real(value: Any, kind: str, where: str) -> float | None:
    """A float64; null and NaN are missing. An FP32 tensor carries float32 values, whatever digits were sent."""
    if value is None:
        return None
    if type(value) is not float and type(value) is not int:
        raise MalformedRequestError(f"the data does not fit {kind}", where=where)
    try:
        real = float(value)
        if kind == "FP32":
            real = _float32.unpack(_float32.pack(real))[0]
        elif kind == "FP16":
            real = struct.unpack("<e", struct.pack("<e", real))[0]
    except (OverflowError, struct.error):
        raise MalformedRequestError(f"the data does not fit {kind}", where=where) from None
    if math.isinf(real):
        raise MalformedRequestError("an infinite value is not data", where=where)
    return None if math.isnan(real) else real


def as_field(feature: Feature, value: Any) -> Any:
    """A tensor's value as the JSON value of a feature, where the two say the same; the contract judges it."""
    if value is None:
        return None
    if feature.type == "boolean" and type(value) is not bool and value in (0, 1):
        return bool(value)
    if feature.type in ("number", "integer") and type(value) is bool:
        return int(value)
    return value


class OipQuestion(Question):
    """A question as tensors; the REST and the gRPC door only differ in how they come and go."""

    __slots__ = ("infer", "named", "version")
    door: ClassVar[str] = "oip"
    top: ClassVar[str] = "/parameters"

    def __init__(self, name: str, version: str) -> None:
        super().__init__()
        self.infer: Infer | None = None
        self.use_case = name if len(name) <= limits.MAX_NAME else ""
        self.version = version
        self.named = False
        """Whether the caller named its subjects."""

    def read_subjects(self, most_rows: int) -> None:
        """The subjects, one a row, from parameter or tensor; without either each row gets a name of its own.

        A record is always sealed under somebody's key; a subject nobody named is `unnamed:` and 128 random bits,
        which the record holds, so that it can be erased as well.
        """
        infer = self.infer
        assert infer is not None
        tensors = [tensor for tensor in infer.inputs if tensor.name == SUBJECT]
        others = [tensor for tensor in infer.inputs if tensor.name != SUBJECT]
        if len(tensors) > 1 or len({tensor.name for tensor in others}) != len(others):
            raise MalformedRequestError("two input tensors have the same name", where="/inputs")
        if not others:
            raise MalformedRequestError("there is no input tensor", where="/inputs")
        rows = others[0].shape[0] if others[0].shape else 0
        self.check_rows(rows, most_rows)
        asked = asked_in(infer.parameters or {})
        if asked is not None:
            self.asked = [asked] * rows
        parameter = (infer.parameters or {}).get(SUBJECT)
        if tensors:
            if tensors[0].datatype != "BYTES" or parameter is not None:
                raise MalformedRequestError(
                    "subjects come as one BYTES tensor or as one parameter", where="/inputs"
                )
            subjects = values_of(tensors[0], "/inputs")
        elif parameter is not None:
            subjects = [parameter] * rows
        else:
            self.subjects = [f"unnamed:{secrets.token_hex(16)}" for _ in range(rows)]
            return
        if not all(type(s) is str and 1 <= len(s) <= limits.MAX_SUBJECT for s in subjects):
            raise MalformedRequestError(
                f"a subject is a text of 1 to {limits.MAX_SUBJECT} characters", where="/inputs"
            )
        if any(s.startswith("unnamed:") for s in subjects):
            raise MalformedRequestError(
                "subjects that begin with 'unnamed:' are given by this server", where="/inputs"
            )
        self.subjects = subjects
        self.named = True

    def admit(self, servable: Servable) -> None:
        infer = self.infer
        assert infer is not None
        if self.version and self.version != version_of(servable):
            raise NotFoundError(f"version {self.version[:80]} of {servable.name} is not the live one")
        features = servable.contract.contract.features
        others = [tensor for tensor in infer.inputs if tensor.name != SUBJECT]
        rows = rows_of(others, features)
        if len(rows) != len(self.subjects):
            raise MalformedRequestError(
                f"{len(self.subjects)} subjects came with {len(rows)} rows", where="/inputs"
            )
        decode = servable.contract.decode
        for i, row in enumerate(rows):
            raw = _encode(row)
            self.values.append(decode(raw, f"/rows/{i}"))
            self.raws.append(raw)


def asked_in(parameters: dict[str, Any]) -> Asked | None:
    """What the parameters say about the circumstances, or None. Raises `MalformedRequestError`."""
    texts: dict[str, str] = {}
    for name, most in CIRCUMSTANCES.items():
        value = parameters.get(name)
        if value is None:
            continue
        if type(value) is not str or not 1 <= len(value) <= most:
            raise MalformedRequestError(
                f"{name} is a text of 1 to {most} characters", where=f"/parameters/{name}"
            )
        texts[name] = value
    out = parameters.get(OPTED_OUT)
    if out is not None and type(out) is not bool:
        raise MalformedRequestError(f"{OPTED_OUT} is true or false", where=f"/parameters/{OPTED_OUT}")
    return Asked(**texts, opted_out=out is True) if texts or out is not None else None


def rows_of(tensors: list[Tensor], features: Sequence[Feature]) -> list[dict[str, Any]]:
    """Named rows from one [n, features] tensor in contract order, or from one [n] or [n, 1] tensor a feature."""
    names = [feature.name for feature in features]
    if len(tensors) == 1 and (tensors[0].name not in names or len(names) > 1):
        tensor = tensors[0]
        if len(tensor.shape) != 2 or tensor.shape[1] != len(names):
            raise ContractError(
                f"one tensor must have the shape [rows, {len(names)}], in the contract's order; "
                "or send one tensor a feature",
                where="/inputs/0/shape",
            )
        values = values_of(tensor, "/inputs/0")
        width = len(names)
        return [
            {
                feature.name: as_field(feature, value)
                for feature, value in zip(features, values[start : start + width], strict=True)
            }
            for start in range(0, len(values), width)
        ]
    by_name = {feature.name: feature for feature in features}
    length = tensors[0].shape[0] if tensors and tensors[0].shape else 0
    rows: list[dict[str, Any]] = [{} for _ in range(length)]
    for i, tensor in enumerate(tensors):
        feature = by_name.get(tensor.name)
        if feature is None:
            raise ContractError(
                "the contract has no feature of this tensor's name", where=f"/inputs/{i}/name"
            )
        if tensor.shape not in ([length], [length, 1]):
            raise ContractError("all tensors must have the same number of rows", where=f"/inputs/{i}/shape")
        for row, value in zip(rows, values_of(tensor, f"/inputs/{i}"), strict=True):
            row[feature.name] = as_field(feature, value)
    return rows


def version_of(servable: Servable) -> str:
    """The V2 version name of a release: its digest without `sha256:` (a colon reads badly in an address)."""
    return servable.digest.removeprefix("sha256:")


def outputs_of(
    records: Sequence[DecisionRecord], receipts: Sequence[Receipt], wanted: list[str]
) -> list[tuple[str, str, list[int], list[Any]]]:
    """Output tensors (name, datatype, shape, values): score, outcome, reasons, record; or those asked for.

    What a rule has to say comes along unasked, since a client that leaves it out would break the rule.
    """
    n = len(records)
    ruled = any(record.referred_by or record.notices for record in records)
    most = max((len(record.notices) for record in records), default=0)
    width = max((len(record.reasons) for record in records), default=0)
    reasons = [
        _encode(record.reasons[k]).decode() if k < len(record.reasons) else ""
        for record in records
        for k in range(width)
    ]
    every: dict[str, tuple[str, list[int], list[Any]]] = {
        "score": ("FP64", [n], [record.score for record in records]),
        "outcome": ("BYTES", [n], [record.outcome for record in records]),
        "reasons": ("BYTES", [n, width], reasons),
        "record": ("BYTES", [n], [f"{receipt.log}.{receipt.index}" for receipt in receipts]),
        "referred_by": ("BYTES", [n], [record.referred_by for record in records]),
        "notices": (
            "BYTES",
            [n, most],
            [
                _encode(record.notices[k]).decode() if k < len(record.notices) else ""
                for record in records
                for k in range(most)
            ],
        ),
    }
    return [(name, *every[name]) for name in wanted or (OUTPUTS + RULED if ruled else OUTPUTS)]


def check_wanted(wanted: list[str]) -> None:
    """Raise `MalformedRequestError` for outputs that do not exist."""
    if any(name not in OUTPUTS + RULED for name in wanted) or len(set(wanted)) != len(wanted):
        raise MalformedRequestError(f"the outputs are {', '.join(OUTPUTS + RULED)}", where="/outputs")


class RestQuestion(OipQuestion):
    """A V2 question over REST."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange, name: str, version: str) -> None:
        super().__init__(name, version)
        self._exchange = exchange
        self.trace = exchange.headers.get(b"traceparent", b"").decode("latin-1")

    def credentials(self) -> bytes | None:
        return self._exchange.headers.get(b"authorization")

    def read(self, most_rows: int) -> None:
        exchange = self._exchange
        if b"inference-header-content-length" in exchange.headers:
            raise MalformedRequestError(
                "the binary tensor extension is not spoken here: send JSON, or use gRPC"
            )
        require_json(exchange)
        self.infer = read_infer(exchange.body)
        said = (self.infer.model_name, self.infer.model_version)
        if said[0] not in (None, self.use_case) or said[1] not in (None, "", self.version):
            raise MalformedRequestError(
                "the body names another model or version than the address", where="/model_name"
            )
        check_wanted(self.infer.wanted)
        self.read_subjects(most_rows)
        key = exchange.headers.get(b"idempotency-key")
        if key is not None:
            self.key = key.decode("latin-1")
            self.digest = sha256(exchange.path + b"\0" + exchange.body).digest()

    def answer(
        self, records: Sequence[DecisionRecord], receipts: Sequence[Receipt], *, again: bool = False
    ) -> None:
        infer = self.infer
        assert infer is not None
        outputs = outputs_of(records, receipts, infer.wanted)
        document = {
            "model_name": self.use_case,
            "model_version": records[0].release.removeprefix("sha256:") if records else "",
            **({"id": infer.id} if infer.id else {}),
            "parameters": {"release": records[0].release if records else ""},
            "outputs": [
                {"name": name, "shape": shape, "datatype": kind, "data": data}
                for name, kind, shape, data in outputs
            ],
        }
        self._exchange.reply(200, _encode(document), more=b"idempotency-replayed: true\r\n" if again else b"")

    def refuse(self, error: FiduciaryError) -> None:
        self._exchange.refuse(error)


class Described(msgspec.Struct, frozen=True):
    """V2 metadata of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]


def described(servable: Servable) -> Described:
    """Metadata of a live release: one input a feature, in contract order."""
    kinds = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "category": "BYTES"}
    return Described(
        name=servable.name,
        versions=[version_of(servable)],
        platform="fiduciary",
        inputs=[
            *(
                {
                    "name": f.name,
                    "datatype": kinds[f.type],
                    "shape": [-1],
                    "parameters": {"optional": f.missing == "allowed"},
                }
                for f in servable.contract.contract.features
            ),
            {"name": SUBJECT, "datatype": "BYTES", "shape": [-1], "parameters": {"optional": True}},
        ],
        outputs=[
            {"name": "score", "datatype": "FP64", "shape": [-1]},
            {"name": "outcome", "datatype": "BYTES", "shape": [-1]},
            {"name": "reasons", "datatype": "BYTES", "shape": [-1, -1]},
            {"name": "record", "datatype": "BYTES", "shape": [-1]},
        ],
    )


SERVER = {"name": "fiduciary", "version": __version__, "extensions": []}

Verb = Literal["server", "live", "ready", "model", "model_ready", "infer"]


def route(path: bytes) -> tuple[Verb, str, str] | None:
    """What a path under /v2 asks for: verb, model, version."""
    parts = path.split(b"/")[2:]
    if not parts or parts == [b""]:
        return ("server", "", "")
    if parts[0] == b"health" and len(parts) == 2 and parts[1] in (b"live", b"ready"):
        return ("live" if parts[1] == b"live" else "ready", "", "")
    if parts[0] != b"models" or len(parts) < 2 or len(parts) > 5 or not parts[1]:
        return None
    try:
        name = urllib.parse.unquote_to_bytes(parts[1]).decode()
        rest, version = parts[2:], ""
        if rest[:1] == [b"versions"] and len(rest) >= 2:
            version = urllib.parse.unquote_to_bytes(rest[1]).decode()
            rest = rest[2:]
    except UnicodeDecodeError:
        return None
    verbs: dict[tuple[bytes, ...], Verb] = {(): "model", (b"ready",): "model_ready", (b"infer",): "infer"}
    verb = verbs.get(tuple(rest))
    return None if verb is None else (verb, name, version)


class OipRest:
    """The cold V2 routes over REST, and the way to the path for `infer`."""

    def __init__(
        self,
        ask: Callable[[Question], None],
        describe: Callable[[str], Servable | None],
        ready: Callable[[], bool],
    ) -> None:
        self._ask = ask
        self._describe = describe
        self._ready = ready

    def __call__(self, exchange: Exchange) -> None:
        """Answer a request whose path begins with /v2."""
        found = route(exchange.path)
        if found is None:
            exchange.refuse(
                NotFoundError("there is nothing at this address; docs/open-inference.md lists the routes")
            )
            return None
        verb, name, version = found
        if verb == "infer":
            if exchange.method != b"POST":
                return method_not_allowed(exchange, b"POST")
            self._ask(RestQuestion(exchange, name, version))
            return None
        if exchange.method not in (b"GET", b"HEAD"):
            return method_not_allowed(exchange, b"GET, HEAD")
        if verb == "server":
            exchange.reply(200, _encode(SERVER))
        elif verb == "live":
            exchange.reply(200, _encode({"live": True}))
        elif verb == "ready":
            ready = self._ready()
            exchange.reply(200 if ready else 503, _encode({"ready": ready}))
        else:
            servable = self._describe(name)
            if servable is None or (version and version != version_of(servable)):
                if verb == "model_ready":
                    exchange.reply(503, _encode({"name": name[: limits.MAX_NAME], "ready": False}))
                else:
                    exchange.refuse(NotFoundError("no model of this name and version is live here"))
            elif verb == "model":
                exchange.reply(200, _encode(described(servable)))
            else:
                exchange.reply(200, _encode({"name": name, "ready": True}))
        return None


def method_not_allowed(exchange: Exchange, allowed: bytes) -> None:
    """405, with what is allowed."""
    from fiduciary.gate._http import PROBLEM, problem

    document = problem(405, "malformed-request", "The request is malformed", f"use {allowed.decode()} here")
    exchange.reply(405, document, PROBLEM, b"allow: " + allowed + b"\r\n")
