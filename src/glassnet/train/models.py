"""Networks by name, and networks as tables of a config file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from glassnet.data import Dataset
from glassnet.errors import ConfigError, did_you_mean
from glassnet.io.spec import BUILT_IN, plain
from glassnet.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, ReLU
from glassnet.network import Sequential
from glassnet.train.config import Table, TrainConfig


def small(classes: int) -> list[Layer]:
    """Two convolutions, each pooled, and a linear layer: for grey images of about 28 pixels."""
    return [
        *(Conv2d(16, 3, padding="same"), ReLU(), MaxPool2d(2)),
        *(Conv2d(32, 3, padding="same"), ReLU(), MaxPool2d(2)),
        *(Flatten(), Linear(classes)),
    ]


def small_norm(classes: int) -> list[Layer]:
    """Two normalised convolutions under one pooling, and dropout: for few and tiny images, such as digits."""
    return [
        *(Conv2d(16, 3, padding="same", bias=False), BatchNorm2d(), ReLU()),
        *(Conv2d(32, 3, padding="same", bias=False), BatchNorm2d(), ReLU()),
        *(MaxPool2d(2), Flatten(), Dropout(0.5), Linear(classes)),
    ]


def linear(classes: int) -> list[Layer]:
    """Multinomial logistic regression: what no hidden layer can do."""
    return [Flatten(), Linear(classes)]


def nn_learn_simple(classes: int) -> list[Layer]:
    """The smaller network of "Coding a CNN from scratch" (nn-learn): 15,770 parameters on MNIST."""
    return [Conv2d(8, 3, padding="same"), ReLU(), MaxPool2d(2), Flatten(), Linear(classes)]


MODELS: dict[str, Callable[[int], list[Layer]]] = {
    make.__name__: make for make in (small, small_norm, linear, nn_learn_simple)
}


def build_model(config: TrainConfig, data: Dataset) -> Sequential:
    """The config's network for images and classes of this data, with first weights from its seed."""
    layers: Any
    if config.layers:
        layers = layers_from(config.layers)
    elif config.model in MODELS:
        layers = MODELS[config.model](len(data.classes))
    else:
        raise ConfigError(f"Unknown model {config.model!r}.{did_you_mean(config.model, MODELS)}")
    seed = config.seed if config.init_seed is None else config.init_seed
    return Sequential(layers, input_shape=data.image_shape, seed=seed)


def layers_from(tables: list[Table]) -> list[Layer] | dict[str, Layer]:
    """Layers from tables {type = "Conv2d", filters = 8, ...}; with a `name` each, they keep those names."""
    for table in tables:
        if "type" not in table:
            raise ConfigError(f"A layer needs a type, such as type = 'Conv2d', got {table}.")
    named: list[Any] = [table.get("name") for table in tables]
    made = [layer_from({key: value for key, value in table.items() if key != "name"}) for table in tables]
    if not any(named):
        return made
    if None in named or len(set(named)) < len(named):
        raise ConfigError(f"Either every layer has a name of its own, or none has one, got {named}.")
    return dict(zip(named, made, strict=True))


def layer_from(value: Any) -> Any:
    """A table with a type as a layer, also inside lists; anything else as it is."""
    if isinstance(value, list):
        return [layer_from(entry) for entry in value]
    if not isinstance(value, Mapping):
        return value
    settings = {key: layer_from(entry) for key, entry in value.items() if key != "type"}
    if "type" not in value:
        return settings
    if value["type"] not in BUILT_IN:
        raise ConfigError(
            f"Unknown layer type {value['type']!r}.{did_you_mean(str(value['type']), BUILT_IN)}"
        )
    return BUILT_IN[value["type"]](**settings)


def tables_of(net: Sequential) -> list[Table]:
    """The inverse of `layers_from`."""
    layers = plain(net.settings["layers"], "Sequential layers")
    if isinstance(layers, list):
        return [flat(layer) for layer in layers]
    return [{"name": name} | flat(layer) for name, layer in layers.items()]


def flat(value: Any) -> Any:
    """{"type": ..., "settings": {...}} as one table, at any depth. TOML has no null: None is left out."""
    if isinstance(value, list):
        return [flat(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("type"), str):
        value = {"type": value["type"]} | value["settings"]
    return {key: flat(entry) for key, entry in value.items() if entry is not None}
