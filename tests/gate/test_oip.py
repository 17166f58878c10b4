"""The Open Inference Protocol V2, REST and gRPC: the same decisions as the native door's, in tensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from door import ROW, USE, OpenGate
from fiduciary.gate._oip_messages import SERVICE, message

PATH = f"/v2/models/{USE}/infer"
COLUMNS = [
    {"name": "utilisation", "shape": [2], "datatype": "FP64", "data": [0.7, 0.1]},
    {"name": "late_payments", "shape": [2], "datatype": "INT64", "data": [2, 0]},
    {"name": "housing", "shape": [2], "datatype": "BYTES", "data": ["renter", "owner"]},
]
SUBJECTS = {"name": "subject", "shape": [2], "datatype": "BYTES", "data": ["anna", "bert"]}


def outputs(document: dict[str, Any]) -> dict[str, Any]:
    return {output["name"]: output for output in document["outputs"]}


def test_a_plain_client_gets_a_score_for_each_row(gate: OpenGate) -> None:
    reply = gate.post({"id": "x7", "inputs": COLUMNS}, PATH)
    assert reply.status == 200, reply.body
    document = reply.json()
    assert (document["model_name"], document["id"]) == (USE, "x7")
    assert f"sha256:{document['model_version']}" == gate.release == document["parameters"]["release"]
    found = outputs(document)
    assert found["score"]["datatype"] == "FP64" and found["score"]["shape"] == [2]
    assert found["outcome"]["data"] == ["decline", "approve"]
    native = gate.ask().json()
    assert found["score"]["data"][0] == native["score"]
    width = found["reasons"]["shape"][1]
    assert [json.loads(r) for r in found["reasons"]["data"][:width] if r] == native["reasons"]


def test_the_record_is_the_same_as_the_native_doors(gate: OpenGate) -> None:
    found = outputs(gate.post({"inputs": [*COLUMNS, SUBJECTS]}, PATH).json())
    start = int(found["record"]["data"][0].rpartition(".")[2])
    first, second = gate.records(start)[:2]
    assert (first.subject, second.subject, first.door) == ("anna", "bert", "oip")
    assert json.loads(bytes(first.features)) == ROW


def test_subjects_by_parameter_and_unnamed_ones(gate: OpenGate) -> None:
    gate.post({"parameters": {"subject": "carl"}, "inputs": COLUMNS}, PATH)
    assert [r.subject for r in gate.records()[-2:]] == ["carl", "carl"]
    gate.post({"inputs": COLUMNS}, PATH)
    a, b = [r.subject for r in gate.records()[-2:]]
    assert a.startswith("unnamed:") and b.startswith("unnamed:") and a != b


def test_outputs_can_be_chosen(gate: OpenGate) -> None:
    document = gate.post({"inputs": COLUMNS, "outputs": [{"name": "outcome"}]}, PATH).json()
    assert [output["name"] for output in document["outputs"]] == ["outcome"]


def test_versions(gate: OpenGate) -> None:
    version = gate.release.removeprefix("sha256:")
    assert gate.post({"inputs": COLUMNS}, f"/v2/models/{USE}/versions/{version}/infer").status == 200
    assert gate.post({"inputs": COLUMNS}, f"/v2/models/{USE}/versions/{'0' * 64}/infer").status == 404
    assert gate.request("GET", f"/v2/models/{USE}/versions/{version}/ready").status == 200
    assert gate.request("GET", f"/v2/models/{USE}/versions/1/ready").status == 503


def test_metadata_and_health(gate: OpenGate) -> None:
    assert gate.request("GET", "/v2").json()["name"] == "fiduciary"
    assert gate.request("GET", "/v2/").status == 200
    assert gate.request("GET", "/v2/health/live").json() == {"live": True}
    assert gate.request("GET", "/v2/health/ready").json() == {"ready": True}
    described = gate.request("GET", f"/v2/models/{USE}").json()
    assert [i["name"] for i in described["inputs"]] == ["utilisation", "late_payments", "housing", "subject"]
    assert [i["datatype"] for i in described["inputs"]] == ["FP64", "INT64", "BYTES", "BYTES"]
    assert gate.request("GET", f"/v2/models/{USE}/ready").json() == {"name": USE, "ready": True}
    assert gate.request("GET", "/v2/models/none").status == 404
    assert gate.request("GET", "/v2/models/none/ready").status == 503
    assert gate.request("GET", "/v2/repository").status == 404
    assert gate.request("GET", PATH).status == 405


def test_nulls_and_the_models_own_name_are_what_clients_send(gate: OpenGate) -> None:
    document = {"id": None, "model_name": USE, "model_version": None, "parameters": None, "outputs": None}
    assert gate.post({**document, "inputs": COLUMNS}, PATH).status == 200


WRONG: dict[str, tuple[Any, int]] = {
    "no inputs": ({"inputs": []}, 400),
    "unknown member": ({"inputs": COLUMNS, "admin": 1}, 400),
    "unknown feature": (
        {"inputs": [*COLUMNS, {"name": "age", "shape": [2], "datatype": "FP64", "data": [1, 2]}]},
        422,
    ),
    "missing feature": ({"inputs": COLUMNS[:2]}, 422),
    "another model in the body": ({"model_name": "other", "inputs": COLUMNS}, 400),
    "same name twice": ({"inputs": [*COLUMNS, COLUMNS[0]]}, 400),
    "too few values": ({"inputs": [{**COLUMNS[0], "data": [1.0]}, *COLUMNS[1:]]}, 400),
    "shape lies": ({"inputs": [{**COLUMNS[0], "shape": [1000000000]}, *COLUMNS[1:]]}, 413),
    "negative shape": ({"inputs": [{**COLUMNS[0], "shape": [-1]}, *COLUMNS[1:]]}, 400),
    "other lengths": ({"inputs": [*COLUMNS[:2], {**COLUMNS[2], "shape": [1], "data": ["owner"]}]}, 422),
    "not the datatype": ({"inputs": [{**COLUMNS[0], "data": ["a", "b"]}, *COLUMNS[1:]]}, 400),
    "unknown datatype": ({"inputs": [{**COLUMNS[0], "datatype": "FP8"}, *COLUMNS[1:]]}, 400),
    "wrong width": ({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]}, 422),
    "wrong category": ({"inputs": [*COLUMNS[:2], {**COLUMNS[2], "data": ["tent", "owner"]}]}, 422),
    "unknown output": ({"inputs": COLUMNS, "outputs": [{"name": "secrets"}]}, 400),
    "subjects twice": ({"parameters": {"subject": "a"}, "inputs": [*COLUMNS, SUBJECTS]}, 400),
    "forged unnamed": ({"parameters": {"subject": "unnamed:1"}, "inputs": COLUMNS}, 400),
    "subject a number": ({"parameters": {"subject": 7}, "inputs": COLUMNS}, 400),
    "too many rows": (
        {"inputs": [{**c, "shape": [1001], "data": [c["data"][0]] * 1001} for c in COLUMNS]},
        413,
    ),
}


@pytest.mark.parametrize(("document", "status"), WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_refused_and_recorded(gate: OpenGate, document: Any, status: int) -> None:
    before = len(gate.records())
    assert gate.post(document, PATH).status == status
    assert [r.outcome for r in gate.records()[before:]] == ["refused"]


@pytest.mark.parametrize("data", ["[1e309, 1]", "[NaN, 1]", "[Infinity, 1]", '["Infinity", 1]'])
def test_numbers_that_are_none_are_refused(gate: OpenGate, data: str) -> None:
    document = json.dumps({"inputs": COLUMNS}).replace("[0.7, 0.1]", data)
    assert gate.post(document, PATH).status == 400


def test_duplicate_members_are_refused(gate: OpenGate) -> None:
    document = json.dumps({"inputs": COLUMNS})
    assert gate.post(document[:-1] + ', "inputs": []}', PATH).status == 400
    assert gate.post(document.replace('"shape": [2],', '"shape": [2], "shape": [2],', 1), PATH).status == 400


def test_idempotency_keys_work_here_too(gate: OpenGate) -> None:
    first = gate.post({"inputs": COLUMNS}, PATH, Idempotency_Key="v2")
    assert gate.post({"inputs": COLUMNS}, PATH, Idempotency_Key="v2").body == first.body


# --- gRPC -----------------------------------------------------------------------------------------------------


class Client:
    """A V2 client on the protocol's messages."""

    def __init__(self, gate: OpenGate) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{gate.addresses.grpc_port}")
        self.token = gate.token

    def call(self, method: str, request: Any, *, token: str | None = "", **metadata: str) -> Any:
        call = self.channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=lambda r: r.SerializeToString(),
            response_deserializer=message(f"{method}Response").FromString,
        )
        pairs = [(name.replace("_", "-"), value) for name, value in metadata.items()]
        if token is not None:
            pairs.append(("authorization", f"Bearer {token or self.token}"))
        return call(request, timeout=10, metadata=pairs)


@pytest.fixture(scope="module")
def client(gate: OpenGate) -> Iterator[Client]:
    made = Client(gate)
    yield made
    made.channel.close()


def infer_request(raw: bool = False) -> Any:
    request = message("ModelInferRequest")(model_name=USE, id="g1")
    for column in COLUMNS:
        tensor = request.inputs.add(name=column["name"], datatype=column["datatype"], shape=column["shape"])
        data: Any = column["data"]
        if raw:
            if column["datatype"] == "BYTES":
                packed = b"".join(struct.pack("<I", len(text)) + text.encode() for text in data)
            else:
                packed = struct.pack("<2d" if column["datatype"] == "FP64" else "<2q", *data)
            request.raw_input_contents.append(packed)
        elif column["datatype"] == "BYTES":
            tensor.contents.bytes_contents.extend(text.encode() for text in data)
        elif column["datatype"] == "FP64":
            tensor.contents.fp64_contents.extend(data)
        else:
            tensor.contents.int64_contents.extend(data)
    return request


def test_grpc_answers_as_rest_does(gate: OpenGate, client: Client) -> None:
    rest = outputs(gate.post({"inputs": COLUMNS}, PATH).json())
    response = client.call("ModelInfer", infer_request())
    assert (response.model_name, response.id) == (USE, "g1")
    assert response.parameters["release"].string_param == gate.release
    found = {output.name: output for output in response.outputs}
    assert list(found["score"].contents.fp64_contents) == rest["score"]["data"]
    assert [b.decode() for b in found["outcome"].contents.bytes_contents] == rest["outcome"]["data"]
    assert [b.decode() for b in found["reasons"].contents.bytes_contents] == rest["reasons"]["data"]
    assert gate.records()[-1].door == "grpc"


def test_raw_tensors_are_answered_raw(gate: OpenGate, client: Client) -> None:
    rest = outputs(gate.post({"inputs": COLUMNS}, PATH).json())
    response = client.call("ModelInfer", infer_request(raw=True))
    names = [output.name for output in response.outputs]
    raw = dict(zip(names, response.raw_output_contents, strict=True))
    assert list(struct.unpack("<2d", raw["score"])) == rest["score"]["data"]
    assert raw["outcome"] == b"\x07\0\0\0decline\x07\0\0\0approve"


def test_grpc_health_and_metadata(gate: OpenGate, client: Client) -> None:
    assert client.call("ServerLive", message("ServerLiveRequest")(), token=None).live
    assert client.call("ServerReady", message("ServerReadyRequest")(), token=None).ready
    ready = message("ModelReadyRequest")
    assert client.call("ModelReady", ready(name=USE)).ready
    assert not client.call("ModelReady", ready(name="none")).ready
    assert client.call("ServerMetadata", message("ServerMetadataRequest")()).name == "fiduciary"
    described = client.call("ModelMetadata", message("ModelMetadataRequest")(name=USE))
    assert [i.name for i in described.inputs] == ["utilisation", "late_payments", "housing", "subject"]


def test_grpc_refusals_have_codes_and_the_problem_document(gate: OpenGate, client: Client) -> None:
    def code(request: Any, **more: Any) -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as caught:
            client.call("ModelInfer", request, **more)
        error: Any = caught.value
        document = dict(error.trailing_metadata()).get("problem-bin")
        assert document is None or json.loads(document)["type"].startswith("urn:fiduciary:problem:")
        return error.code()  # type: ignore[no-any-return]

    before = len(gate.records())
    assert code(infer_request(), token=None) == grpc.StatusCode.UNAUTHENTICATED
    assert code(infer_request(), token=gate.issue("mona", "operator")) == grpc.StatusCode.PERMISSION_DENIED
    wrong = infer_request()
    wrong.inputs[0].contents.fp64_contents[0] = 7.0
    assert code(wrong) == grpc.StatusCode.INVALID_ARGUMENT
    infinite = infer_request()
    infinite.inputs[0].contents.fp64_contents[0] = float("inf")
    assert code(infinite) == grpc.StatusCode.INVALID_ARGUMENT
    torn = infer_request(raw=True)
    torn.raw_input_contents[0] = torn.raw_input_contents[0][:-1]
    assert code(torn) == grpc.StatusCode.INVALID_ARGUMENT
    endless = infer_request(raw=True)
    endless.raw_input_contents[2] = b"\xff\xff\xff\xffx"
    assert code(endless) == grpc.StatusCode.INVALID_ARGUMENT
    large = infer_request()
    large.id = "x" * (2 << 20)
    assert code(large) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert [r.outcome for r in gate.records()[before:]] == ["refused"] * 5


def test_grpc_idempotency(gate: OpenGate, client: Client) -> None:
    first = client.call("ModelInfer", infer_request(), idempotency_key="g")
    assert client.call("ModelInfer", infer_request(), idempotency_key="g") == first


def test_a_numeric_contract_takes_one_tensor(fresh: Callable[..., OpenGate]) -> None:
    from fiduciary.gate._oip import Tensor, rows_of
    from fiduciary.models import Feature

    features = [
        Feature(name="a", type="number"),
        Feature(name="b", type="integer"),
        Feature(name="c", type="boolean"),
    ]
    for datatype, data in (("FP64", [0.5, 3, 1, 1.5, 4, 0]), ("FP64", [[0.5, 3, 1], [1.5, 4, 0]])):
        rows = rows_of([Tensor(name="x", shape=[2, 3], datatype=datatype, data=data)], features)
        assert rows == [{"a": 0.5, "b": 3.0, "c": True}, {"a": 1.5, "b": 4.0, "c": False}]
    [row] = rows_of([Tensor(name="x", shape=[1, 3], datatype="FP32", data=[0.1, 3, 1])], features)
    assert row["a"] == struct.unpack("<f", struct.pack("<f", 0.1))[0]
