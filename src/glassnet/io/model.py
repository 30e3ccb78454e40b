"""Model files: layers, weights, running state, classes, preprocessing and loss, all or nothing."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from glassnet import __version__
from glassnet.errors import ConfigError, FileFormatError
from glassnet.io.files import write_atomically
from glassnet.io.spec import Maker, plain
from glassnet.io.tensors import Document, check_format, pack, read
from glassnet.layers import Dropout, Layer
from glassnet.losses import LOSSES, Loss, loss_named
from glassnet.network import Sequential
from glassnet.preprocessing import Preprocessing
from glassnet.store import Store

FORMAT: Final = 1
FIELDS: Final = (
    *("format", "glassnet", "layers", "input_shape", "seed", "classes", "preprocessing", "loss"),
    *("learning", "dropout_keys"),
)

SLACK: Final = 1 << 20
"""Values that a network may take beyond those in its file, before the tensors that do not fit are named."""

Path = str | os.PathLike[str]


def save_model(net: Sequential, path: Path) -> None:
    """Write the network to one file, atomically. Raises ConfigError for what a file cannot hold."""
    if os.path.isdir(os.path.abspath(path)):  # "" is the folder that one is in, as "." is
        raise ConfigError(f"A model is saved to a file, but {str(path)!r} is a folder. Name a file in it.")
    if type(net.built()) is not Sequential:
        raise ConfigError(
            f"A model file holds a Sequential, got a {type(net).__name__}. "
            "Write Sequential([...]) of its layers."
        )
    if net.store.values.dtype != np.float32:
        raise ConfigError(
            f"A model file holds float32, this network is {net.store.values.dtype}. "
            "Save the network that it was copied from."
        )
    write_atomically(path, pack(net.store.tensors(), document(net)))


def load_model(path: Path, *, layers: Iterable[type[Layer]] = ()) -> Sequential:
    """The network in a model file, with the same bits as when it was saved.

    layers: classes of your own that the model uses; nothing that a file names is imported.
    Raises FileFormatError for a file that is truncated, altered, incomplete or of another kind.
    """
    if not isinstance(layers, Iterable):
        raise ConfigError(f"layers must be a list of classes such as [MyLayer], got {layers!r}.")
    tensors, stored = read(path)
    check_format(path, stored, FORMAT, [field for field in FIELDS if field not in stored])
    held = sum(array.size for array in tensors.values())
    maker = Maker(str(path), layers)
    try:
        net = built(stored, maker, held + SLACK)
        describe_use(net, stored)
    except FileFormatError:
        raise
    except Exception as error:  # a layer may raise anything on settings that it never expected
        raise FileFormatError(
            f"{path} describes no network that can be built: {type(error).__name__}: {error}"
        ) from error
    net.store.restore(tensors, str(path))
    return net


class BoundedGenerator(np.random.Generator):
    """The draws of that seed, none of them larger than `limit` values."""

    def __init__(self, seed: int, limit: int) -> None:
        super().__init__(np.random.PCG64(seed))
        self.limit = limit

    def standard_normal(self, size: Any = None, *rest: Any, **settings: Any) -> Any:
        self._check(size)
        return super().standard_normal(size, *rest, **settings)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        self._check(size)
        return super().uniform(low, high, size)

    def _check(self, size: Any) -> None:
        wanted = math.prod(size if isinstance(size, tuple) else (size or 1,))
        if wanted > self.limit:
            raise ValueError(f"a tensor of {wanted} values is more than the file holds")


def built(stored: Document, maker: Maker, limit: int) -> Sequential:
    """The network of a description, with its first weights; ValueError where it takes over `limit` values.

    No such memory is taken before: tensors that are not drawn begin as zeros or as one repeated value.
    """
    net = Sequential(maker.make(stored["layers"]), seed=stored["seed"])
    net.build_named("", tuple(stored["input_shape"]), BoundedGenerator(net.seed, limit))
    needed = sum(tensor.value.size for layer in net.walk() for tensor in layer.tensors.values())
    if needed > limit:
        raise ValueError(f"tensors of {needed} values are more than the file holds")
    net.store = Store(net.walk())
    return net


def restore(net: Sequential, path: Path) -> None:
    """Copy weights and running state from a model file into a network of the same layers.

    Raises FileFormatError, naming the tensors, where the file is for another network.
    """
    net.built().store.restore(read(path)[0], str(path))


def document(net: Sequential) -> Document:
    """All that a network means beside its tensors, as plain JSON values."""
    return {
        "format": FORMAT,
        "glassnet": __version__,
        "layers": plain(net.settings["layers"], "Sequential layers"),
        "input_shape": list(net.input_shape or ()),
        "seed": net.seed,
        "classes": None if net.classes is None else list(net.classes),
        "preprocessing": None if net.preprocessing is None else net.preprocessing.to_dict(),
        "loss": describe_loss(net.loss),
        **layer_facts(net),
    }


def layer_facts(net: Sequential) -> Document:
    """What layers carry beside settings and tensors: how they learn, and the keys of their randomness."""
    layers = [layer for layer in net.walk() if layer is not net]
    return {
        "learning": {
            layer.name: [layer.trainable, layer.lr_factor]
            for layer in layers
            if (layer.trainable, layer.lr_factor) != (True, 1.0)
        },
        "dropout_keys": {layer.name: layer.key for layer in layers if isinstance(layer, Dropout)},
    }


def put_layer_facts(net: Sequential, facts: Document) -> None:
    """The inverse of `layer_facts`."""
    for layer in net.walk():
        if layer is not net:
            layer.trainable, layer.lr_factor = True, 1.0
    for name, (trainable, factor) in facts["learning"].items():
        net[name].trainable, net[name].lr_factor = trainable, factor
    for name, key in facts["dropout_keys"].items():
        net[name].key = key


def describe_use(net: Sequential, stored: Document) -> None:
    """Give a network what its document says beside its layers."""
    net.classes = None if stored["classes"] is None else tuple(map(str, stored["classes"]))
    settings = stored["preprocessing"]
    net.preprocessing = None if settings is None else Preprocessing.from_dict(settings)
    loss = stored["loss"]
    weights = {
        key: tuple(value) if isinstance(value, list) else value for key, value in loss["settings"].items()
    }
    net.loss = loss_named(loss["name"], **weights)
    put_layer_facts(net, stored)


def describe_loss(loss: Loss) -> dict[str, Any]:
    """A loss by its name in a config."""
    name = next((name for name, kind in LOSSES.items() if kind is type(loss)), None)
    if name is None:
        raise ConfigError(f"A model file holds the loss {', '.join(LOSSES)}, got {type(loss).__name__}.")
    settings = {key: np.asarray(value).tolist() for key, value in dataclasses.asdict(loss).items()}
    return {"name": name, "settings": {key: plain(value, f"{name} {key}") for key, value in settings.items()}}
