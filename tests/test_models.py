"""Networks by name and their options, and which one suits which data."""

from __future__ import annotations

import numpy as np
import pytest

import glassnet as gn
from glassnet.errors import ConfigError
from glassnet.models import MODELS, named_model
from glassnet.models.tables import tables_of
from glassnet.recipes import RECIPES
from glassnet.settings.defaults import defaults_for, suited
from glassnet.train import TrainConfig, build_model
from messages import message_of


def data_of(samples, shape, classes=2):
    images = np.random.default_rng(0).integers(0, 256, (samples, *shape), np.uint8)
    return gn.data.from_arrays(images, np.arange(samples) % classes)


@pytest.mark.parametrize("width", [4, 6])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_plain_network_doubles_its_channels_at_each_pooling(width, depth):
    net = gn.Sequential(MODELS["plain"](5, width=width, depth=depth), input_shape=(16, 16, 3))
    convolutions = [layer for layer in net.walk() if isinstance(layer, gn.Conv2d)]
    shapes = [layer.output_shape for layer in convolutions]
    assert shapes[:2] == [(16, 16, width)] * 2 and len(shapes) == 2 * depth
    assert shapes[-1] == (16 >> depth - 1, 16 >> depth - 1, width << depth - 1)
    assert net.output_shape == (5,)


@pytest.mark.parametrize(("depth", "stages", "halvings"), [(1, 2, 0), (2, 3, 1), (1, 3, 2)])
def test_the_parts_of_a_residual_network(depth, stages, halvings):
    layers = MODELS["resnet"](5, width=4, depth=depth, stages=stages, halvings=halvings)
    net = gn.Sequential(layers, input_shape=(32, 32, 3))
    blocks = [layer for layer in net.walk() if isinstance(layer, gn.Residual)]
    sides = [32 >> halvings + stage for stage in range(stages) for _ in range(depth)]
    widths = [4 << stage for stage in range(stages) for _ in range(depth)]
    assert [b.output_shape for b in blocks] == [(s, s, w) for s, w in zip(sides, widths, strict=True)]
    assert [b.shortcut is not None for b in blocks] == [
        number > 0 and number % depth == 0 for number in range(stages * depth)
    ]


def test_options_reach_the_network_of_a_config():
    data = data_of(8, (16, 16, 3))
    config = TrainConfig(data="", model="resnet", model_options={"width": 4, "stages": 2, "halvings": 0})
    assert build_model(config, data)["residual_2"].output_shape == (8, 8, 8)
    assert build_model(config.override("model_options.width=6"), data)["residual_2"].output_shape[-1] == 12
    other = config.override("model=plain")
    assert other.model_options == {}  # nothing is taken over from another model


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("resnet", {"widht": 3}, "The model 'resnet' takes no option 'widht'. Did you mean 'width'?"),
        ("small", {"width": 3}, "The model 'small' takes no option 'width'. It takes none."),
        (
            "plain",
            {"classes": 3},
            "The model 'plain' takes no option 'classes'. Known: depth, dropout, width.",
        ),
        ("plain", {"width": "8"}, "model_options.width must be a whole number from 1 on, got '8'."),
        ("plain", {"width": 2.5}, "model_options.width must be a whole number from 1 on, got 2.5."),
        ("plain", {"depth": 0}, "model_options.depth must be a whole number from 1 on, got 0."),
        ("resnet", {"halvings": -1}, "model_options.halvings must be a whole number from 0 on, got -1."),
        ("plain", {"dropout": True}, "model_options.dropout must be a number, got True."),
        ("plain", {"dropout": 1.0}, "Dropout rate must be at least 0 and below 1, got 1.0."),
    ],
)
def test_wrong_options(model, options, message):
    config = TrainConfig(data="", model=model, model_options=options)
    assert message_of(ConfigError, build_model, config, data_of(8, (16, 16, 3))) == message


@pytest.mark.parametrize(
    ("samples", "shape", "model", "options", "augment"),
    [
        (40, (8, 8, 1), "small_norm", None, {}),
        (40, (28, 28, 1), "small", None, "digits"),
        (40, (12, 12, 3), "resnet", {"width": 16, "stages": 3, "halvings": 0}, {}),
        (40, (32, 32, 3), "resnet", {"width": 16, "stages": 3, "halvings": 0}, "objects"),
        (600, (64, 36, 3), "resnet", {"width": 32, "stages": 3, "halvings": 0}, "objects"),
        (600, (48, 400, 3), "resnet", {"width": 32, "stages": 4, "halvings": 2}, "photos"),
        (600, (24, 200, 1), "resnet", {"width": 32, "stages": 4, "halvings": 1}, "photos"),
        (600, (64, 64, 3), "resnet", {"width": 32, "stages": 4, "halvings": 1}, "objects"),
        (40, (128, 128, 3), "resnet", {"width": 16, "stages": 4, "halvings": 2}, "photos"),
        (40, (128, 128, 1), "resnet", {"width": 16, "stages": 4, "halvings": 2}, "photos"),
        (40, (64, 64, 1), "resnet", {"width": 16, "stages": 4, "halvings": 1}, "digits"),
    ],
)
def test_the_model_that_suits_images_by_size_and_number(samples, shape, model, options, augment):
    data = data_of(samples, shape)
    found = suited(data)
    assert (found["model"], found.get("model_options"), found.get("augment")) == (model, options, augment)
    config = TrainConfig.resolve({"data": "x"}, data)
    assert build_model(config, data).output_shape == (2,)


@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 16, 1), (8, 8, 1)])
@pytest.mark.parametrize(
    ("samples", "epochs", "batch"), [(12, 100, 4), (100, 100, 25), (4000, 60, 32), (4, 100, 2)]
)
def test_epochs_and_batches_by_the_amount_of_data(samples, epochs, batch, shape):
    found = suited(data_of(samples, shape))
    assert (found["epochs"], found["batch_size"]) == (epochs, batch)


@pytest.mark.parametrize("samples", [4, 5, 6, 7, 8, 30])
def test_what_is_left_after_the_hold_out_is_enough_for_a_batch(samples):
    data = data_of(samples, (16, 16, 1))
    config = TrainConfig.resolve({"data": "x"}, data)
    assert config.batch_size <= len(data.holdout(config.val_fraction, config.seed).train)


def test_a_set_known_by_name_keeps_its_defaults():
    digits = gn.data.load("digits")
    assert defaults_for("digits", digits) == defaults_for("digits")
    assert defaults_for("pictures", digits) != defaults_for("digits")


def test_the_recipe_of_photos_is_what_is_chosen_for_them():
    recipe = RECIPES["photos"]
    chosen = TrainConfig.resolve({"data": recipe.config.data}, data_of(600, (128, 128, 3)))
    read_and_built = ("data_options", "model", "model_options")
    assert chosen.model_copy(update={n: getattr(recipe.config, n) for n in read_and_built}) == recipe.config
    layers = named_model(chosen.model, 3, **chosen.model_options)
    built = gn.Sequential(layers, input_shape=(128, 128, 3), seed=5)
    assert tables_of(built) == tables_of(recipe.network(5))
    np.testing.assert_array_equal(built.store.values, recipe.network(5).store.values)
