"""The service a team writes in an afternoon: FastAPI, a pydantic body, LightGBM's own predict.

python fastapi_server.py bare|explained PORT MODEL. `explained` asks LightGBM for exact SHAP values
(`pred_contrib`), the only exact explanation it offers, and answers with the four largest.
"""

import sys

import lightgbm
import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

kind, port, model = sys.argv[1], int(sys.argv[2]), sys.argv[3]
booster = lightgbm.Booster(model_file=model)
app = FastAPI()


class Row(BaseModel):
    x: list[float]


if kind == "explained":

    @app.post("/score")
    async def score(row: Row) -> dict:
        contributions = booster.predict(np.array([row.x]), num_threads=1, pred_contrib=True)[0]
        largest = np.argsort(-contributions[:-1])[:4]
        return {
            "score": float(1 / (1 + np.exp(-contributions.sum()))),
            "reasons": [[int(i), float(contributions[i])] for i in largest],
        }

else:

    @app.post("/score")
    async def score(row: Row) -> dict:
        return {"score": float(booster.predict(np.array([row.x]), num_threads=1)[0])}


uvicorn.run(
    app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", log_level="error", access_log=False
)
