"""A layer as plain JSON values, {"type": "Conv2d", "settings": {...}}, and back. Nothing is ever guessed.

Only built-in layers, installed entry points of the group "glassnet.layers" and classes that the caller
passes are made: a file cannot import anything else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any, Final

import numpy as np

from glassnet import layers as built_in
from glassnet.errors import ConfigError, FileFormatError, did_you_mean
from glassnet.layers import Layer
from glassnet.layers.base import settings_of
from glassnet.network import Sequential

BUILT_IN: Final[dict[str, type[Layer]]] = {
    "Sequential": Sequential,
    **{name: getattr(built_in, name) for name in built_in.__all__ if name != "Layer"},
}
GROUP: Final = "glassnet.layers"


def describe(layer: Layer) -> dict[str, Any]:
    """The layer's type and all its settings, defaults included: a later default must not change old files."""
    kind = type(layer).__name__
    if BUILT_IN.get(kind, type(layer)) is not type(layer):
        raise ConfigError(
            f"{layer.name} is your own {kind}, but glassnet has a {kind} too. Rename the class."
        )
    settings = settings_of(type(layer)).bind_partial()
    settings.arguments.update(layer.settings)
    settings.apply_defaults()
    what = f"{layer.name} ({kind})" if layer.name else kind
    return {
        "type": kind,
        "settings": {key: plain(value, f"{what} {key}") for key, value in settings.arguments.items()},
    }


def plain(value: Any, what: str) -> Any:
    """A setting as a JSON value: None, bool, number, text, layer, or a list or dict of them."""
    if isinstance(value, Layer):
        return describe(value)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [plain(entry, what) for entry in value]
    texts = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    if texts and not isinstance(value.get("type"), str):  # that would be read back as a layer
        return {key: plain(entry, what) for key, entry in value.items()}
    raise ConfigError(
        f"{what} is {value!r}, which a model file cannot hold. Settings must be None, finite numbers, texts, "
        "layers, or lists and dicts of them."
    )


class Maker:
    """Makes layers from their descriptions, of built-in types, entry points and the classes given."""

    def __init__(self, source: str, classes: Iterable[type[Layer]]) -> None:
        self.source = source
        self.classes = dict(BUILT_IN)
        for own in classes:
            if not (isinstance(own, type) and issubclass(own, Layer)):
                raise ConfigError(f"layers must be layer classes such as MyLayer, got {own!r}.")
            if self.classes.setdefault(own.__name__, own) is not own:
                raise ConfigError(f"There is a layer named {own.__name__} already. Rename the class.")

    def make(self, value: Any) -> Any:
        """The inverse of `plain`: lists stay lists, a dict with a text as its "type" becomes a layer."""
        if isinstance(value, list):
            return [self.make(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        if not isinstance(value.get("type"), str):
            return {key: self.make(entry) for key, entry in value.items()}
        kind = self.find(value["type"])
        settings = self.make(value["settings"])
        arguments = settings_of(kind).bind_partial()
        if unknown := settings.keys() - arguments.signature.parameters.keys():
            raise ConfigError(f"{value['type']} has no setting {', '.join(sorted(unknown))}")
        arguments.arguments.update(settings)
        return kind(*arguments.args, **arguments.kwargs)

    def find(self, name: str) -> type[Layer]:
        """The class of that name."""
        if name in self.classes:
            return self.classes[name]
        installed = entry_points(group=GROUP)
        if name in installed.names:
            found = installed[name].load()
            if isinstance(found, type) and issubclass(found, Layer):
                return found
        raise FileFormatError(
            f"{self.source} has a layer of type {name!r}, which is neither built in nor installed."
            f"{did_you_mean(name, {*self.classes, *installed.names})} "
            f"A class of your own is passed: glassnet.load({self.source!r}, layers=[{name}])."
        )
