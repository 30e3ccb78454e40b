"""The networks of the benchmark table, each in glassnet and in PyTorch, with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import glassnet as gn


@dataclass(frozen=True)
class Case:
    """A network of the table: how to build it in both, and the batch sizes it is trained with."""

    name: str
    batches: tuple[int, ...]
    ours: Callable[[], gn.Sequential]
    theirs: Callable[[], nn.Module]


def conv(inputs: int, outputs: int, kernel: int = 3, *, padding: int = 0, **options: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=padding, **options)


def one() -> gn.Sequential:
    layers = [gn.Conv2d(8, 3, bias=False), gn.MaxPool2d(2), gn.Flatten(), gn.Linear(10)]
    return gn.Sequential(layers, input_shape=(28, 28, 1))


def torch_one() -> nn.Module:
    return nn.Sequential(conv(1, 8, bias=False), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1352, 10))


def simple() -> gn.Sequential:
    layers = [gn.Conv2d(8, 3, padding="same"), gn.ReLU(), gn.MaxPool2d(2), gn.Flatten(), gn.Linear(10)]
    return gn.Sequential(layers, input_shape=(28, 28, 1))


def torch_simple() -> nn.Module:
    return nn.Sequential(conv(1, 8, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1568, 10))


def complex_() -> gn.Sequential:
    layers: list[gn.Layer] = []
    for filters in (32, 64):
        for _ in range(2):
            layers += [gn.Conv2d(filters, 3, padding="same"), gn.ReLU()]
        layers.append(gn.MaxPool2d(2))
    layers += [gn.Flatten(), gn.Linear(128), gn.ReLU(), gn.Linear(10)]
    return gn.Sequential(layers, input_shape=(28, 28, 1))


def torch_complex() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, filters in ((1, 32), (32, 64)):
        layers += [conv(inputs, filters, padding=1), nn.ReLU(), conv(filters, filters, padding=1), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10))


def three() -> gn.Sequential:
    layers = [gn.Conv2d(10, 3), gn.ReLU(), gn.MaxPool2d(2), gn.Conv2d(16, 5), gn.ReLU(), gn.Flatten()]
    return gn.Sequential([*layers, gn.Linear(100), gn.ReLU(), gn.Linear(10)], input_shape=(28, 28, 1))


def torch_three() -> nn.Module:
    layers = [conv(1, 10), nn.ReLU(), nn.MaxPool2d(2), conv(10, 16, 5), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1296, 100), nn.ReLU(), nn.Linear(100, 10))


def four() -> gn.Sequential:
    layers: list[gn.Layer] = [gn.Conv2d(16, 3, stride=2), gn.ReLU(), gn.MaxPool2d(2)]
    for filters in (32, 64, 128):
        layers += [gn.Conv2d(filters, 3, stride=2), gn.ReLU()]
    return gn.Sequential([*layers, gn.Flatten(), gn.Linear(3)], input_shape=(224, 224, 3))


def torch_four() -> nn.Module:
    layers: list[nn.Module] = [conv(3, 16, stride=2), nn.ReLU(), nn.MaxPool2d(2)]
    for inputs, filters in ((16, 32), (32, 64), (64, 128)):
        layers += [conv(inputs, filters, stride=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4608, 3))


def resnet8() -> gn.Sequential:
    def block(filters: int, stride: int) -> list[gn.Layer]:
        main: list[gn.Layer] = [
            gn.Conv2d(filters, 3, stride=stride, padding=1, bias=False),
            gn.BatchNorm2d(),
            gn.ReLU(),
            gn.Conv2d(filters, 3, padding=1, bias=False),
            gn.BatchNorm2d(),
        ]
        shortcut = (
            [gn.Conv2d(filters, 1, stride=stride, bias=False), gn.BatchNorm2d()] if stride > 1 else None
        )
        return [gn.Residual(main, shortcut), gn.ReLU()]

    layers = [gn.Conv2d(16, 3, padding=1, bias=False), gn.BatchNorm2d(), gn.ReLU()]
    layers += [*block(16, 1), *block(32, 2), *block(64, 2), gn.GlobalAvgPool2d(), gn.Linear(10)]
    return gn.Sequential(layers, input_shape=(32, 32, 3))


class TorchBlock(nn.Module):
    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            conv(inputs, filters, padding=1, stride=stride, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            conv(filters, filters, padding=1, bias=False),
            nn.BatchNorm2d(filters),
        )
        shortcut = [conv(inputs, filters, 1, stride=stride, bias=False), nn.BatchNorm2d(filters)]
        self.shortcut = nn.Sequential(*shortcut) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.main(x) + self.shortcut(x))


def torch_resnet8() -> nn.Module:
    stem = [conv(3, 16, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    blocks = [TorchBlock(16, 16, 1), TorchBlock(16, 32, 2), TorchBlock(32, 64, 2)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


MOBILE_BLOCKS = ((16, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2))  # inputs, filters, stride


def mobile8() -> gn.Sequential:
    layers = [gn.Conv2d(16, 3, padding=1, bias=False), gn.BatchNorm2d(), gn.ReLU()]
    for inputs, filters, stride in MOBILE_BLOCKS:
        layers += [
            gn.Conv2d(inputs, 3, stride=stride, padding=1, groups=inputs, bias=False),
            gn.BatchNorm2d(),
            gn.ReLU(),
            gn.Conv2d(filters, 1, bias=False),
            gn.BatchNorm2d(),
            gn.ReLU(),
        ]
    return gn.Sequential([*layers, gn.GlobalAvgPool2d(), gn.Linear(10)], input_shape=(32, 32, 3))


def torch_mobile8() -> nn.Module:
    layers: list[nn.Module] = [conv(3, 16, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for inputs, filters, stride in MOBILE_BLOCKS:
        layers += [
            conv(inputs, inputs, padding=1, stride=stride, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            conv(inputs, filters, 1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


CASES = (
    Case("1", (1,), one, torch_one),
    Case("2 simple", (10,), simple, torch_simple),
    Case("2 complex", (10, 128), complex_, torch_complex),
    Case("3", (512,), three, torch_three),
    Case("4", (4, 64), four, torch_four),
    Case("resnet8", (64,), resnet8, torch_resnet8),
    Case("mobile8", (64,), mobile8, torch_mobile8),
)


def copy_weights(net: gn.Sequential, model: nn.Module) -> None:
    """Give the PyTorch model the network's parameters, layer by layer in order of definition."""
    arrays = iter(net.store.parameters)
    modules = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d)]
    with torch.no_grad():
        for module in modules:
            for tensor in (module.weight, module.bias):
                if tensor is not None:
                    value = torch.from_numpy(
                        channels_first(net, net.store.value(next(arrays)), tuple(tensor.shape))
                    )
                    tensor.copy_(value)


def channels_first(net: gn.Sequential, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter in PyTorch's order: (O, C, kh, kw); Linear's inputs as (C, H, W) if they were an image."""
    if value.ndim == 4:
        return np.ascontiguousarray(value.transpose(3, 2, 0, 1))
    if value.ndim == 1:
        return value.copy()
    flattened = [layer.input_shape for layer in net.walk() if isinstance(layer, gn.Flatten)]
    if flattened and np.prod(flattened[0]) == len(value):
        h, w, c = flattened[0]
        value = value.reshape(h, w, c, -1).transpose(2, 0, 1, 3).reshape(len(value), -1)
    assert value.T.shape == shape
    return np.ascontiguousarray(value.T)
