"""What a command is about: a data set's recipe, a config, a model file or a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from glassnet.data import Dataset, load
from glassnet.errors import ConfigError
from glassnet.io import load as load_model
from glassnet.io import model_file
from glassnet.network import Sequential
from glassnet.train import TrainConfig, build_model
from glassnet.train.example import example_step

if TYPE_CHECKING:
    from glassnet.engine.steps import TrainingStep


def network(target: str, data: str | None = None) -> tuple[Sequential, str | None]:
    """(network, name of its data where that is known) of a target."""
    config = settings(target, data)
    known = data or (None if config is None else config.data)
    if is_model(target):
        return load_model(model_file(Path(target))), known
    assert config is not None
    return build_model(config, load(config.data)), known


def settings(target: str, data: str | None = None) -> TrainConfig | None:
    """The config that a target is, or that in the run folder of a model; None for a model without one."""
    path = Path(target)
    if is_model(target):
        config = (path if path.is_dir() else path.parent) / "config.toml"
        return TrainConfig.from_toml(config) if config.exists() else None
    return (
        TrainConfig.from_toml(path, data=data)
        if path.suffix == ".toml"
        else TrainConfig.resolve({"data": target})
    )


def is_model(target: str) -> bool:
    """Whether a target is a model file or a run folder."""
    path = Path(target)
    return path.suffix != ".toml" and (path.exists() or path.suffix == ".gnet")


def data_of(model: Path) -> str | None:
    """The data set that a run folder, or the run folder around a model file, was trained on."""
    config = settings(str(model))
    return None if config is None else config.data


def recorded(target: str, batch_size: int | None, threads: int | None) -> TrainingStep:
    """The compiled training step of a target, on random images; what it does not say is as usual."""
    net, _ = network(target)
    config = settings(target) or TrainConfig(data="", loss=net.loss)
    batch_size = batch_size or -(-config.batch_size // config.accumulate)
    return example_step(net, config.loss, config.optimizer, batch_size, threads=threads)


def needed(data: str | None, target: str) -> Dataset:
    """The data set, which must be known by now."""
    if data is None:
        raise ConfigError(f"{target} does not say what data it is for. Add --data, such as --data digits.")
    return load(data)
