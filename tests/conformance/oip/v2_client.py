"""What any Open Inference V2 server must do for the `kserve` client. Run by test_kserve_client.py in the client's own
environment against one server after the other: nothing here knows whose server it talks to.

    v2_client.py REST_URL GRPC_ADDRESS MODEL INPUT OUTPUT FILE      (FILE: {"rows": [[...]], "headers": {...}})

Prints {"rest": [...], "grpc": [...], "raw": [...]}: the output tensor as each way gave it.
"""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main() -> None:
    rest_url, grpc_address, model, input_name, output_name, path = sys.argv[1:]
    with open(path) as file:
        given = json.load(file)
    rows, headers = np.array(given["rows"], dtype=np.float64), given["headers"]

    def request(binary: bool) -> InferRequest:
        tensor = InferInput(input_name, list(rows.shape), "FP64")
        tensor.set_data_from_numpy(rows, binary_data=binary)
        return InferRequest(model, [tensor], request_id="conformance-1")

    def checked(response: object) -> list[float]:
        assert response.model_name == model and response.id == "conformance-1", response
        output = next(output for output in response.outputs if output.name == output_name)
        assert output.datatype == "FP64" and tuple(output.shape)[:1] == (len(rows),), (
            output.datatype,
            output.shape,
        )
        return output.as_numpy().reshape(-1).tolist()

    rest = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    if given["health_in_json"]:  # MLServer answers these by status alone, which this client cannot read
        assert await rest.is_server_live(rest_url)
        assert await rest.is_server_ready(rest_url)
        assert await rest.is_model_ready(rest_url, model)
    found = {"rest": checked(await rest.infer(rest_url, request(False), model_name=model, headers=headers))}
    await rest.close()

    grpc = InferenceGRPCClient(grpc_address, retries=0)
    metadata = [(name.lower(), value) for name, value in headers.items()]
    assert await grpc.is_server_live()
    assert await grpc.is_server_ready()
    assert await grpc.is_model_ready(model)
    found["grpc"] = checked(await grpc.infer(request(False), headers=metadata))
    found["raw"] = checked(await grpc.infer(request(True), headers=metadata))
    await grpc.close()
    print(json.dumps(found))


asyncio.run(main())
