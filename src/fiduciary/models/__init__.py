"""Models and their exact reasons: arrays in, margins and contributions out; no storage, no network.

A model is a directory with `model.json` (its family) and that family's files: our own JSON, LightGBM's and
XGBoost's native formats, or ONNX. Pickle is never read. Each family's contributions add up to its margin
to 1e-9, and a row's bits do not depend on the batch it is in (tests/models/test_scorers.py). Rows enter
through a feature contract, which refuses what the model was not approved for
(tests/models/test_row_properties.py).
"""

from fiduciary.models._additive import Additive, import_ebm
from fiduciary.models._binning import BinningOptions, EvidenceRow
from fiduciary.models._contract import Contract, Feature, Relation
from fiduciary.models._frame import DraftContract, events_of, infer_contract, read_table, split_rows
from fiduciary.models._lightgbm import import_lightgbm
from fiduciary.models._lightgbm_training import train_lightgbm
from fiduciary.models._linear import import_linear
from fiduciary.models._metrics import Ranking, auc, auc_error, ks, ks_at, ranking
from fiduciary.models._reasons import Reason, ReasonPlan, vague
from fiduciary.models._row import CompiledContract, expected
from fiduciary.models._scorecard import Points, PointsRow, Scorecard
from fiduciary.models._scorecard_training import (
    Quality,
    ScorecardOptions,
    TrainingReport,
    quality,
    train_scorecard,
)
from fiduciary.models._scorer import (
    FAMILIES,
    Baseline,
    Link,
    Scorer,
    baseline_of,
    load_scorer,
    probability,
    refuse_pickle,
)
from fiduciary.models._shap import ImportReport
from fiduciary.models._xgboost import import_xgboost

__all__ = [
    "FAMILIES",
    "Additive",
    "Baseline",
    "BinningOptions",
    "CompiledContract",
    "Contract",
    "DraftContract",
    "EvidenceRow",
    "Feature",
    "ImportReport",
    "Link",
    "Points",
    "PointsRow",
    "Quality",
    "Ranking",
    "Reason",
    "ReasonPlan",
    "Relation",
    "Scorecard",
    "ScorecardOptions",
    "Scorer",
    "TrainingReport",
    "auc",
    "auc_error",
    "baseline_of",
    "events_of",
    "expected",
    "import_ebm",
    "import_lightgbm",
    "import_linear",
    "import_xgboost",
    "infer_contract",
    "ks",
    "ks_at",
    "load_scorer",
    "probability",
    "quality",
    "ranking",
    "read_table",
    "refuse_pickle",
    "split_rows",
    "train_lightgbm",
    "train_scorecard",
    "vague",
]
