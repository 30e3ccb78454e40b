"""Layers: each a readable pair of forward and backward over `ops`, the same code on every backend."""

from .activation import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from .base import Layer
from .chain import Chain
from .combine import Concat, Residual
from .conv import Conv2d
from .conv_transpose import ConvTranspose2d
from .dropout import Dropout, Dropout2d
from .linear import Flatten, Linear
from .norm import BatchNorm2d, GroupNorm, LayerNorm
from .pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d

__all__ = [
    "GELU",
    "AvgPool2d",
    "BatchNorm2d",
    "Chain",
    "Concat",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Residual",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
]
