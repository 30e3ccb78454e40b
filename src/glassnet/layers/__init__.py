"""Layers: each a readable pair of forward and backward over `ops`, the same code on every backend."""

from glassnet.layers.activation import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from glassnet.layers.base import Layer
from glassnet.layers.chain import Chain
from glassnet.layers.combine import Concat, Residual
from glassnet.layers.conv import Conv2d
from glassnet.layers.conv_transpose import ConvTranspose2d
from glassnet.layers.dropout import Dropout, Dropout2d
from glassnet.layers.linear import Flatten, Linear
from glassnet.layers.norm import BatchNorm2d, GroupNorm, LayerNorm
from glassnet.layers.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d

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
