"""What must be known of the data before settings are complete."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from glassnet.data import Dataset, load
from glassnet.data.catalog import absolute, place_of
from glassnet.errors import DataError
from glassnet.losses import CrossEntropy
from glassnet.settings.config import Table, TrainConfig

if TYPE_CHECKING:
    from glassnet.data.decoding import Progress  # brings Pillow


def settle(
    settings: Table, *assignments: str, progress: Progress | None = None
) -> tuple[TrainConfig, Dataset]:
    """The data that settings name, and the config of what suits it with the settings over that.

    assignments: such as "epochs=3", over all. progress: called with the photos decoded, and all.
    """
    first = TrainConfig.resolve(settings).override(*assignments)
    data = load_data(first, progress)
    config = TrainConfig.resolve(settings, data).override(*assignments)
    return config.model_copy(update=settled(config, data)), data


def load_data(config: TrainConfig, progress: Progress | None = None) -> Dataset:
    """The data of a config, read as its data_options say."""
    if config.data == "arrays" and not place_of(config.data).exists():
        raise DataError(
            "There is no data set, file or folder 'arrays'. A run on arrays calls its data so, and does not "
            "keep it. Give it again: in Python glassnet.resume(folder, data=(images, labels)), to commands "
            "that take it as --data FILE."
        )
    return load(config.data, **{"progress": progress, **config.data_options})


def settled(config: TrainConfig, data: Dataset) -> Table:
    """The settings by which the same data is found from anywhere, and read alike when more photos are there.

    Paths are absolute; of photos the size and the channels are those that were chosen.
    """
    options, files = dict(config.data_options), config.data_options.get("split_files")
    if isinstance(files, dict):
        options["split_files"] = {split: absolute(str(path)) for split, path in files.items()}
    if data.report is not None:
        options |= {"size": list(data.report.size), "channels": data.report.channels}
    return {"data": absolute(config.data), "data_options": options}


def balanced(config: TrainConfig, data: Dataset) -> TrainConfig:
    """The config with numbers for class_weights = "balanced": N / (K * n), n training images of a class.

    A class without any has the weight 1.
    """
    if not isinstance(config.loss, CrossEntropy) or not isinstance(config.loss.class_weights, str):
        return config
    counts: Any = data.train.counts()
    weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
    weights[counts == 0] = 1
    loss = dataclasses.replace(config.loss, class_weights=tuple(weights.tolist()))
    return config.model_copy(update={"loss": loss})
