"""What a command is about: a data set's recipe, a config, a model file or a run folder."""

from __future__ import annotations

from pathlib import Path

from glassnet.data import Dataset, load
from glassnet.errors import ConfigError
from glassnet.io import load as load_model
from glassnet.io import model_file
from glassnet.network import Sequential
from glassnet.train import TrainConfig, build_model


def network(target: str, data: str | None = None) -> tuple[Sequential, str | None]:
    """(network, name of its data where that is known) of a target."""
    path = Path(target)
    if path.suffix == ".toml":
        config = TrainConfig.from_toml(path, data=data)
    elif path.exists() or path.suffix == ".gnet":
        return load_model(model_file(path)), data or data_of(path)
    else:
        config = TrainConfig.resolve({"data": target})
    return build_model(config, load(config.data)), data or config.data


def data_of(model: Path) -> str | None:
    """The data set that a run folder, or the run folder around a model file, was trained on."""
    config = (model if model.is_dir() else model.parent) / "config.toml"
    return TrainConfig.from_toml(config).data if config.exists() else None


def needed(data: str | None, target: str) -> Dataset:
    """The data set, which must be known by now."""
    if data is None:
        raise ConfigError(f"{target} does not say what data it is for. Add --data, such as --data digits.")
    return load(data)
