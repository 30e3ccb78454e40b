"""Training: the loop, and what is needed beside it: settings, models, evaluation, run folders."""

from __future__ import annotations

from glassnet.evaluation.metrics import ClassMetrics, Evaluation, evaluate
from glassnet.models import MODELS, build_model
from glassnet.runs.folder import RunFolder, next_run
from glassnet.runs.records import EpochRecord, Run, StepRecord
from glassnet.settings.config import TrainConfig
from glassnet.settings.settling import settle
from glassnet.train.callbacks import Callback, Training
from glassnet.train.fitting import fit, fit_config, resume
from glassnet.train.interrupt import Interrupted
from glassnet.train.lr_finder import RateSearch, find_lr

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
