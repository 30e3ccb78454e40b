"""Smaller inputs in the first part of a run: progressive resizing (Howard, fast.ai's DAWNBench entry, 2018).

The size is a function of the epoch, so that a resumed run goes on at the right one. All sizes share one store
of parameters: a step at one is a step of the same network.
"""

from __future__ import annotations

import copy

import numpy as np

from glassnet.errors import ConfigError
from glassnet.io.model import layer_facts, put_layer_facts
from glassnet.network import Sequential
from glassnet.settings.config import TrainConfig

Size = tuple[int, int]


def input_size(config: TrainConfig, epoch: int, whole: Size) -> Size:
    """(H, W) of the inputs in an epoch, counted from 0, where those of validation are `whole`.

    Counted from the last epoch, which is always at the whole size: later parts are the longer ones.
    """
    scales = (1.0, *reversed(config.progressive))
    scale = scales[(config.epochs - 1 - epoch) * len(scales) // config.epochs]
    return max(1, round(whole[0] * scale)), max(1, round(whole[1] * scale))


def smaller_sizes(config: TrainConfig, whole: Size) -> set[Size]:
    """The sizes that a run has beside the whole one."""
    return {input_size(config, epoch, whole) for epoch in range(config.epochs)} - {whole}


def at_size(net: Sequential, size: Size) -> Sequential:
    """The same network for inputs of another size, with the same store.

    Raises ConfigError where that would need other parameters, as of a Linear layer after Flatten.
    """
    twin, shape = copy.deepcopy(net.built()), (*size, (net.input_shape or ())[-1])
    twin.build_named("", shape, np.random.default_rng(net.seed))
    put_layer_facts(twin, layer_facts(net))
    for layer, own in zip(twin.walk(), net.walk(), strict=True):
        for name, tensor in layer.tensors.items():
            if tensor.value.shape != own.tensors[name].value.shape:
                raise ConfigError(
                    f"progressive needs a network for inputs of any size, but {layer.name}.{name} would be "
                    f"{tensor.value.shape} for inputs of {size[0]} x {size[1]}. End convolutions in "
                    "GlobalAvgPool2d(), not Flatten()."
                )
            tensor.value = own.tensors[name].value
    twin.store = net.store
    return twin
