"""Training: the loop and what it tells, metrics, run folders, and configs that name all settings."""

from __future__ import annotations

from glassnet.train.callbacks import Callback, Training
from glassnet.train.config import TrainConfig
from glassnet.train.fitting import fit, fit_config, resume
from glassnet.train.interrupt import Interrupted
from glassnet.train.lr_finder import RateSearch, find_lr
from glassnet.train.metrics import ClassMetrics, Evaluation, evaluate
from glassnet.train.models import MODELS, build_model
from glassnet.train.records import EpochRecord, Run, StepRecord
from glassnet.train.run_folder import RunFolder, next_run
from glassnet.train.settling import settle

__all__ = [
    "MODELS",
    "Callback",
    "ClassMetrics",
    "EpochRecord",
    "Evaluation",
    "Interrupted",
    "RateSearch",
    "Run",
    "RunFolder",
    "StepRecord",
    "TrainConfig",
    "Training",
    "build_model",
    "evaluate",
    "find_lr",
    "fit",
    "fit_config",
    "next_run",
    "resume",
    "settle",
]
