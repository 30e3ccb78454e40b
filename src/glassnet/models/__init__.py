"""Networks by name, each a function of the number of classes with its options, and networks as tables."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from glassnet.data import Dataset
from glassnet.errors import ConfigError, did_you_mean
from glassnet.layers import Layer
from glassnet.models.basic import linear, nn_learn_simple, small, small_norm
from glassnet.models.plain import plain
from glassnet.models.resnet import resnet
from glassnet.models.tables import layers_from, tables_of
from glassnet.network import Sequential
from glassnet.settings.config import TrainConfig

__all__ = ["MODELS", "build_model", "layers_from", "tables_of"]

MODELS: dict[str, Callable[..., list[Layer]]] = {
    make.__name__: make for make in (small, small_norm, linear, plain, resnet, nn_learn_simple)
}


def build_model(config: TrainConfig, data: Dataset) -> Sequential:
    """The config's network for images and classes of this data, with first weights from its seed."""
    layers: Any
    if config.layers:
        layers = layers_from(config.layers)
    else:
        layers = named_model(config.model, len(data.classes), **config.model_options)
    seed = config.seed if config.init_seed is None else config.init_seed
    return Sequential(layers, input_shape=data.image_shape, seed=seed)


def named_model(name: str, classes: int, /, **options: Any) -> list[Layer]:
    """The layers of a model, once it takes each of the options."""
    if name not in MODELS:
        raise ConfigError(f"Unknown model {name!r}.{did_you_mean(name, MODELS)}")
    known = inspect.signature(MODELS[name]).parameters
    for option, value in options.items():
        if option not in known or option == "classes":
            takes = [other for other in known if other != "classes"]
            hint = did_you_mean(option, takes) if takes else " It takes none."
            raise ConfigError(f"The model {name!r} takes no option {option!r}.{hint}")
        check_option(option, value, known[option].default)
    return MODELS[name](classes, **options)


def check_option(name: str, value: Any, default: int | float) -> None:
    """A number; where the default is a whole one, so must this be, and 0 only for `halvings`."""
    least = 0 if name == "halvings" else 1
    if isinstance(default, int) and (type(value) is not int or value < least):
        raise ConfigError(f"model_options.{name} must be a whole number from {least} on, got {value!r}.")
    if type(value) not in (int, float):
        raise ConfigError(f"model_options.{name} must be a number, got {value!r}.")
