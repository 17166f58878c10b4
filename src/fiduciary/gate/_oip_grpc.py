"""The Open Inference Protocol V2 over gRPC: the same questions as `_oip.py`, in protobuf.

`contents` and `raw_input_contents` are both read; an answer comes in the form of its question. Errors are gRPC
status codes with the problem type in the message and the whole problem document in the trailing metadata
`problem-bin`.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, ClassVar

import grpc
import msgspec
from grpc import aio

from fiduciary.config import GateSettings
from fiduciary.decision import DecisionRecord
from fiduciary.errors import FiduciaryError, MalformedRequestError
from fiduciary.gate import _limits as limits
from fiduciary.gate._oip import (
    INTEGERS,
    SERVER,
    Infer,
    OipQuestion,
    Tensor,
    check_wanted,
    described,
    outputs_of,
    version_of,
)
from fiduciary.gate._oip_messages import SERVICE, ModelInferRequest, ModelInferResponse, message
from fiduciary.gate._servables import Servable
from fiduciary.gate.path import Question
from fiduciary.ledger import Receipt

_encode = msgspec.json.Encoder().encode

CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
RAW = {
    "BOOL": "?", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H", "UINT32": "I",
    "UINT64": "Q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip
STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    410: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    503: grpc.StatusCode.UNAVAILABLE,
}


class GrpcQuestion(OipQuestion):
    """A V2 question over gRPC; `done` is resolved with the response message or the error."""

    __slots__ = ("_metadata", "_request", "done")
    door: ClassVar[str] = "grpc"

    def __init__(self, request: Any, metadata: dict[str, Any], done: asyncio.Future[Any]) -> None:
        super().__init__(request.model_name, request.model_version)
        self._request = request
        self._metadata = metadata
        self.done = done
        self.trace = str(metadata.get("traceparent", ""))

    def credentials(self) -> bytes | None:
        found = self._metadata.get("authorization")
        return found.encode("latin-1", "replace") if isinstance(found, str) else found

    def read(self, most_rows: int) -> None:
        request = self._request
        if request.raw_input_contents and len(request.raw_input_contents) != len(request.inputs):
            raise MalformedRequestError(
                "raw_input_contents must hold one entry an input", where="/raw_input_contents"
            )
        self.infer = Infer(
            id=request.id,
            parameters={name: parameter_of(value) for name, value in request.parameters.items()},
            inputs=[tensor_of(tensor, request, i) for i, tensor in enumerate(request.inputs)],
        )
        check_wanted([output.name for output in request.outputs])
        self.read_subjects(most_rows)
        key = self._metadata.get("idempotency-key")
        if key is not None:
            self.key = str(key)
            self.digest = sha256(request.SerializeToString(deterministic=True)).digest()

    def answer(
        self, records: Sequence[DecisionRecord], receipts: Sequence[Receipt], *, again: bool = False
    ) -> None:
        if self.done.done():
            return
        request = self._request
        response = ModelInferResponse(model_name=self.use_case, id=request.id)
        if records:
            response.model_version = records[0].release.removeprefix("sha256:")
            response.parameters["release"].string_param = records[0].release
        raw = bool(request.raw_input_contents)
        for name, kind, shape, data in outputs_of(
            records, receipts, [output.name for output in request.outputs]
        ):
            output = response.outputs.add(name=name, datatype=kind, shape=shape)
            if kind == "FP64":
                if raw:
                    response.raw_output_contents.append(struct.pack(f"<{len(data)}d", *data))
                else:
                    output.contents.fp64_contents.extend(data)
            else:
                texts = [text.encode() for text in data]
                if raw:
                    response.raw_output_contents.append(
                        b"".join(struct.pack("<I", len(t)) + t for t in texts)
                    )
                else:
                    output.contents.bytes_contents.extend(texts)
        self.done.set_result(response)

    def refuse(self, error: FiduciaryError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


def parameter_of(value: Any) -> Any:
    """The value of an InferParameter."""
    choice = value.WhichOneof("parameter_choice")
    return getattr(value, choice) if choice else None


def tensor_of(tensor: Any, request: Any, i: int) -> Tensor:
    """An input tensor with its values as Python values."""
    kind = tensor.datatype
    where = f"/inputs/{i}"
    data: list[Any]
    if request.raw_input_contents:
        data = unpacked(kind, request.raw_input_contents[i], where)
    elif kind in CONTENTS:
        data = list(getattr(tensor.contents, CONTENTS[kind]))
    else:
        raise MalformedRequestError("the datatype is not one of the protocol's", where=f"{where}/datatype")
    if kind == "BYTES":
        try:
            data = [value.decode() for value in data]
        except UnicodeDecodeError:
            raise MalformedRequestError("BYTES must be text in UTF-8", where=where) from None
    return Tensor(name=tensor.name, shape=list(tensor.shape), datatype=kind, data=data)


def unpacked(kind: str, raw: bytes, where: str) -> list[Any]:
    """Values of one raw tensor, little-endian; BYTES are each preceded by their length in four bytes."""
    if kind == "BYTES":
        values, at = [], 0
        while at < len(raw):
            end = at + 4
            if end <= len(raw):
                end += int.from_bytes(raw[at : at + 4], "little")
            if end > len(raw) or end < at + 4:
                raise MalformedRequestError("the raw bytes end within a value", where=where)
            values.append(raw[at + 4 : end])
            at = end
        return values
    code = RAW.get(kind)
    if code is None:
        raise MalformedRequestError("the datatype is not one of the protocol's", where=f"{where}/datatype")
    size = struct.calcsize("<" + code)
    if len(raw) % size:
        raise MalformedRequestError(f"the raw bytes are not whole {kind} values", where=where)
    return list(struct.unpack(f"<{len(raw) // size}{code}", raw))


assert set(INTEGERS) <= set(RAW)


class OipGrpc:
    """The gRPC server of one worker."""

    def __init__(
        self,
        settings: GateSettings,
        ask: Callable[[Question], None],
        describe: Callable[[str], Servable | None],
        ready: Callable[[], bool],
    ) -> None:
        self._ask = ask
        self._describe = describe
        self._ready = ready
        self._server = aio.server(
            options=[
                ("grpc.max_receive_message_length", settings.max_body_bytes),
                ("grpc.max_metadata_size", settings.max_header_bytes),
                ("grpc.absolute_max_metadata_size", settings.max_header_bytes),
                ("grpc.max_concurrent_streams", settings.max_in_flight),
                ("grpc.max_connection_idle_ms", int(settings.idle_timeout_s * 1000)),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", int(settings.body_timeout_s * 1000)),
                ("grpc.http2.max_ping_strikes", 2),
                ("grpc.so_reuseport", 1 if settings.workers > 1 else 0),
            ],
            maximum_concurrent_rpcs=settings.max_in_flight,
            compression=grpc.Compression.NoCompression,
        )
        methods = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
        }
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    SERVICE,
                    {
                        name: grpc.unary_unary_rpc_method_handler(
                            method,
                            request_deserializer=message(f"{name}Request").FromString,
                            response_serializer=message(f"{name}Response").SerializeToString,
                        )
                        for name, method in methods.items()
                    },
                ),
            )
        )
        self.port = self._server.add_insecure_port(f"{settings.host}:{settings.grpc_port}")

    async def start(self) -> None:
        """Open the door."""
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Take nothing new, finish what is under way within `grace` seconds."""
        await self._server.stop(grace)

    async def _infer(self, request: Any, context: Any) -> Any:
        metadata: dict[str, Any] = {}
        for name, value in context.invocation_metadata() or ():
            if name in metadata and name in ("authorization", "idempotency-key"):
                return await _abort(context, MalformedRequestError(f"{name} was sent more than once"))
            metadata[name] = value
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._ask(GrpcQuestion(request, metadata, done))
        try:
            return await done
        except FiduciaryError as error:
            return await _abort(context, error)

    async def _server_live(self, request: Any, context: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def _server_ready(self, request: Any, context: Any) -> Any:
        return message("ServerReadyResponse")(ready=self._ready())

    async def _model_ready(self, request: Any, context: Any) -> Any:
        servable = self._describe(request.name)
        ready = servable is not None and request.version in ("", version_of(servable))
        return message("ModelReadyResponse")(ready=ready)

    async def _server_metadata(self, request: Any, context: Any) -> Any:
        return message("ServerMetadataResponse")(
            name=SERVER["name"], version=SERVER["version"], extensions=[]
        )

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        servable = self._describe(request.name)
        if servable is None or request.version not in ("", version_of(servable)):
            return await context.abort(
                grpc.StatusCode.NOT_FOUND, "no model of this name and version is live here"
            )
        found = described(servable)
        response = message("ModelMetadataResponse")(
            name=found.name, versions=found.versions, platform=found.platform
        )
        for tensors, place in ((found.inputs, response.inputs), (found.outputs, response.outputs)):
            for tensor in tensors:
                place.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        return response


async def _abort(context: Any, error: FiduciaryError) -> Any:
    text = f"{error.kind}: {error.detail}" + (f" (at {error.where})" if error.where else "")
    document = _encode(error.problem())
    trailing = (("problem-bin", document),) if len(document) <= limits.MAX_FEATURES_BYTES // 64 else ()
    return await context.abort(STATUS.get(error.status, grpc.StatusCode.INTERNAL), text[:2_000], trailing)


__all__ = ["GrpcQuestion", "ModelInferRequest", "OipGrpc"]
