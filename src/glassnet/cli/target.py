"""What a command is about: a data set's recipe, a config, a model file or a run folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from glassnet.cli.output import Output
from glassnet.cli.photos import decoding
from glassnet.data import Dataset, load
from glassnet.data.catalog import absolute
from glassnet.errors import ConfigError
from glassnet.io import load as load_model
from glassnet.network import Sequential
from glassnet.preprocessing import Preprocessing
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

    data: instead of that which a config names.
    """
    if is_model(target):
        return Target(load_model(model_file(Path(target))), config_of(target))
    asked = asked_for(data, target) if is_config(target) else asked_for(target)
    config, dataset = settle(asked)
    return Target(build_model(config, dataset), config, dataset)


def asked_for(data: str | None, config: str | Path | None = None, options: Table | None = None) -> Table:
    """The settings of a config file, if any, with this data and these options of reading it over them.

    Split files of the config are lists of its own data, and do not go over to other data.
    """
    settings = {} if config is None else read_toml(config)
    if data is not None:
        other = absolute(data) != absolute(str(settings.get("data", data)))
        if other and isinstance(known := settings.get("data_options"), dict):
            settings["data_options"] = {key: value for key, value in known.items() if key != "split_files"}
        settings["data"] = data
    return merged(settings, {"data_options": options}) if options else settings


def is_config(target: str) -> bool:
    """Whether a target is a config file."""
    return Path(target).suffix == ".toml"


def is_model(target: str) -> bool:
    """Whether a target is a model file or a run folder."""
    path = Path(target)
    if path.is_dir():
        return (path / "config.toml").exists() or any(path.glob("*.gnet"))
    return path.suffix == ".gnet"


def config_of(model: str | Path) -> TrainConfig | None:
    """The config in a run folder, or in the one around a model file; None where there is none."""
    config = folder_of(model) / "config.toml"
    return TrainConfig.from_toml(config) if config.exists() else None


def recorded(target: Target, batch_size: int | None, threads: int | None) -> TrainingStep:
    """The compiled training step of a target, on random images; what it does not say is as usual."""
    net, config, _ = target
    config = config or TrainConfig(data="", loss=net.loss)
    batch_size = batch_size or -(-config.batch_size // config.accumulate)
    return example_step(
        net, config.loss, config.optimizer, batch_size, augment=config.augment, threads=threads
    )


def say_unfinished(model: str | Path, output: Output) -> None:
    """Say where a model is of a run that did not come to its end."""
    folder = RunFolder(folder_of(model))
    if config_of(model) is not None and not folder.finished:
        output.say(f"Warning: {folder.remark()}")


def needed(data: str | None, model: str | Path, like: Preprocessing | None, output: Output) -> Dataset:
    """The data that is named, photos read as `like` says; else that of the model's run, as it was then."""
    config = own_data(data, model)
    with decoding(output) as progress:
        if config is not None:
            return load_data(config, progress)
        if data is not None:
            return load(data, like=like, progress=progress)
    raise ConfigError(f"{model} does not say what data it is for. Add --data, such as --data digits.")


def with_unseen(dataset: Dataset, data: str | None, model: str | Path) -> Dataset:
    """Needed data with images that the model was not trained on: the validation split that its run had.

    Of other data that has neither a test nor a validation split, all images are test images.
    """
    config = own_data(data, model)
    if config is not None:
        dataset, _ = held_out(dataset, None, config)
        RunFolder(folder_of(model)).check_data(dataset)
    elif dataset.test is None and dataset.val is None:
        dataset = replace(dataset, test=dataset.train)
    return dataset


def own_data(data: str | None, model: str | Path) -> TrainConfig | None:
    """The config of the model's run, where the data of that is meant: none is named, or the same."""
    config = config_of(model)
    return config if config is not None and (data is None or absolute(data) == config.data) else None


def folder_of(model: str | Path) -> Path:
    """The run folder that is meant, or that a model file is in."""
    path = Path(model)
    return path if path.is_dir() else path.parent
