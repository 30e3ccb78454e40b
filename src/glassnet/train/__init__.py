"""Training: the loop and what it tells, metrics, run folders, and configs that name all settings."""

from __future__ import annotations

from .callbacks import Callback, Training
from .config import TrainConfig
from .fitting import fit, fit_config
from .interrupt import Interrupted
from .metrics import ClassMetrics, Evaluation, evaluate
from .models import MODELS, build_model
from .records import EpochRecord, Run, StepRecord
from .run_folder import next_run

__all__ = [
    "MODELS",
    "Callback",
    "ClassMetrics",
    "EpochRecord",
    "Evaluation",
    "Interrupted",
    "Run",
    "StepRecord",
    "TrainConfig",
    "Training",
    "build_model",
    "evaluate",
    "fit",
    "fit_config",
    "next_run",
]
