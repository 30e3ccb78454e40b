"""glassnet: convolutional networks you can see through.

What a network can do without is loaded when it is first used, so that `import glassnet` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from glassnet.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    EngineError,
    FileFormatError,
    GlassnetError,
    NotFiniteError,
    OutOfMemoryError,
    RunFolderError,
    ShapeError,
    did_you_mean,
)
from glassnet.layers import (
    GELU,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from glassnet.losses import BinaryCrossEntropy, MeanSquaredError, ProbabilityCrossEntropy, SoftmaxCrossEntropy
from glassnet.network import Sequential

if TYPE_CHECKING:
    from glassnet import data, explain, io, models, schedules, train
    from glassnet.explain.gradcheck import gradcheck
    from glassnet.io import load
    from glassnet.optim import SGD, Adam, AdamW, RMSProp
    from glassnet.train import evaluate, fit
    from glassnet.train.fitting import resume

__version__ = "0.1.0"

_FOLDERS = ("data", "explain", "io", "models", "schedules", "train")
_LATE = {
    "evaluate": "train",
    "fit": "train",
    "gradcheck": "explain",
    "load": "io",
    "resume": "train",
    **dict.fromkeys(("SGD", "Adam", "AdamW", "RMSProp"), "optim"),
}

__all__ = [
    "GELU",
    "SGD",
    "Adam",
    "AdamW",
    "AvgPool2d",
    "BatchNorm2d",
    "BinaryCrossEntropy",
    "CheckpointError",
    "Concat",
    "ConfigError",
    "Conv2d",
    "ConvTranspose2d",
    "DataError",
    "Dropout",
    "Dropout2d",
    "EngineError",
    "FileFormatError",
    "Flatten",
    "GlassnetError",
    "GlobalAvgPool2d",
    "GroupNorm",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "MeanSquaredError",
    "NotFiniteError",
    "OutOfMemoryError",
    "ProbabilityCrossEntropy",
    "RMSProp",
    "ReLU",
    "Residual",
    "RunFolderError",
    "Sequential",
    "ShapeError",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Tanh",
    "__version__",
    "data",
    "evaluate",
    "explain",
    "fit",
    "gradcheck",
    "io",
    "load",
    "models",
    "resume",
    "schedules",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:
        return import_module(f".{name}", __name__)
    if name in _LATE:
        return getattr(import_module(f".{_LATE[name]}", __name__), name)
    raise AttributeError(f"glassnet has no name {name!r}.{did_you_mean(name, __all__)}")
