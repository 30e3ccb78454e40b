"""Networks as tables of a config file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassnet.errors import ConfigError, did_you_mean
from glassnet.io.spec import BUILT_IN, plain
from glassnet.layers import Layer
from glassnet.network import Sequential
from glassnet.settings.config import Table


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
