"""What a command is about: a data set's recipe, a config, a model file or a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from glassnet.data import Dataset, load
from glassnet.errors import ConfigError
from glassnet.io import load as load_model
from glassnet.network import Sequential
from glassnet.runs.folder import RunFolder, model_file
from glassnet.settings.config import Table, merged, read_toml
from glassnet.settings.settling import load_data, settle
from glassnet.train import TrainConfig, build_model
from glassnet.train.example import example_step
from glassnet.train.fitting import held_out

if TYPE_CHECKING:
    from glassnet.engine.steps import TrainingStep


class Target(NamedTuple):
    """A network, the config that it is of, where that is known, and its data, where that was read already."""

    net: Sequential
    config: TrainConfig | None
    data: Dataset | None = None


def found(target: str, data: str | None = None) -> Target:
    """A model as it was trained; for a config, or the name or path of data, the network that would be.

    data: for configs that name none.
    """
    if is_model(target):
        return Target(load_model(model_file(Path(target))), config_of(target))
    config, dataset = settle({"data": data} | asked_for(target) if data is not None else asked_for(target))
    return Target(build_model(config, dataset), config, dataset)


def asked_for(target: str, options: Table | None = None) -> Table:
    """The settings that a config file, or the name or path of data, stands for; options: how data is read."""
    settings = read_toml(target) if Path(target).suffix == ".toml" else {"data": target}
    return merged(settings, {"data_options": options}) if options else settings


def is_model(target: str) -> bool:
    """Whether a target is a model file or a run folder."""
    path = Path(target)
    if path.is_dir():
        return (path / "config.toml").exists() or any(path.glob("*.gnet"))
    return path.suffix == ".gnet"


def config_of(model: str | Path) -> TrainConfig | None:
    """The config in a run folder, or in the one around a model file; None where there is none."""
    path = Path(model)
    config = (path if path.is_dir() else path.parent) / "config.toml"
    return TrainConfig.from_toml(config) if config.exists() else None


def recorded(target: Target, batch_size: int | None, threads: int | None) -> TrainingStep:
    """The compiled training step of a target, on random images; what it does not say is as usual."""
    net, config, _ = target
    config = config or TrainConfig(data="", loss=net.loss)
    batch_size = batch_size or -(-config.batch_size // config.accumulate)
    return example_step(
        net, config.loss, config.optimizer, batch_size, augment=config.augment, threads=threads
    )


def with_validation(data: str | None, run: Path, config: TrainConfig) -> Dataset:
    """The data that is named, else that of a run as it was, with the validation split of its config."""
    dataset, _ = held_out(needed(data, run), None, config)
    if data is None:
        RunFolder(run).check_data(dataset)
    return dataset


def needed(data: str | None, model: str | Path) -> Dataset:
    """The data that is named, else that which the model was trained on, read in the same way."""
    if data is not None:
        return load(data)
    config = config_of(model)
    if config is None:
        raise ConfigError(f"{model} does not say what data it is for. Add --data, such as --data digits.")
    return load_data(config)
