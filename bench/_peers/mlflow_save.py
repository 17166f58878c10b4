"""Save the benchmark's model the MLflow way: python mlflow_save.py MODEL FOLDER."""

import sys

import lightgbm
import mlflow.lightgbm

mlflow.lightgbm.save_model(lightgbm.Booster(model_file=sys.argv[1]), sys.argv[2])
