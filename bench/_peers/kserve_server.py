"""KServe's own model server around a LightGBM booster: python kserve_server.py PORT MODEL.

One worker, gRPC closed. Its three log lines a request (access, latency, timing) are off, as for all.
"""

import logging
import sys

port, model_file = int(sys.argv[1]), sys.argv[2]
sys.argv = sys.argv[:1]  # kserve parses the command line when it is imported

import lightgbm  # noqa: E402
import uvicorn  # noqa: E402
from kserve import InferOutput, InferResponse, Model, ModelServer  # noqa: E402


class Loopback(uvicorn.Config):
    """KServe binds every address of the machine; a benchmark has no business outside loopback."""

    def __init__(self, *args, **options):
        super().__init__(*args, **{**options, "host": "127.0.0.1", "access_log": False})


uvicorn.Config = Loopback


class Credit(Model):
    def load(self) -> bool:
        self.booster = lightgbm.Booster(model_file=model_file)
        self.ready = True
        return True

    def predict(self, payload, headers=None, response_headers=None):
        scores = self.booster.predict(payload.inputs[0].as_numpy(), num_threads=1)
        output = InferOutput("score", list(scores.shape), "FP64", data=scores.tolist())
        return InferResponse(response_id=payload.id or "1", model_name=self.name, infer_outputs=[output])


model = Credit("credit")
model.load()
server = ModelServer(http_port=port, enable_grpc=False, workers=1, enable_latency_logging=False)
for name in ("kserve", "kserve.trace"):
    logging.getLogger(name).setLevel(logging.ERROR)
server.start([model])
