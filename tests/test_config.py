"""Configs: what a file, an assignment or a default sets, what is refused, and the networks described."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import numpy as np
import pytest

import glassnet as gn
from glassnet.data import load
from glassnet.data.augment import default_augment
from glassnet.errors import ConfigError
from glassnet.models import tables_of
from glassnet.settings.defaults import DEFAULTS
from glassnet.train import MODELS, TrainConfig, build_model, fit_config
from messages import message_of

DIGITS = load("digits")


def written(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_lies_over_the_defaults_of_its_data(tmp_path):
    config = TrainConfig.from_toml(
        written(tmp_path, 'data = "digits"\nepochs = 3\n[optimizer]\nlr = 0.2\n[schedule]\nname = "cosine"')
    )
    assert (config.data, config.epochs, config.model) == ("digits", 3, "small_norm")
    assert config.optimizer == gn.SGD(
        lr=0.2, momentum=0.9, weight_decay=5e-4
    )  # the same optimiser, another rate
    assert config.schedule == gn.schedules.Cosine()  # another schedule, nothing left of the default


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_come_back_from_its_toml(tmp_path, name):
    config = TrainConfig.resolve({"data": name})
    assert TrainConfig.from_toml(written(tmp_path, config.to_toml())) == config
    assert tomllib.loads(config.to_toml())["loss"] == {"name": "cross_entropy", "label_smoothing": 0.0}


def test_what_a_default_sets_can_be_turned_off(tmp_path, monkeypatch):
    monkeypatch.setitem(DEFAULTS, "digits", {"clip_norm": 1.0, "early_stopping": 5})
    config = TrainConfig.resolve({"data": "digits", "clip_norm": 0.0, "early_stopping": 0})
    assert TrainConfig.from_toml(written(tmp_path, config.to_toml())) == config


def test_data_without_defaults_and_aliases():
    assert TrainConfig.resolve({"data": "pictures"}).model == "small"
    assert TrainConfig.resolve({"data": "fashion"}).epochs == DEFAULTS["fashion-mnist"]["epochs"]


def test_data_can_stand_beside_the_file(tmp_path):
    path = written(tmp_path, "epochs = 2")
    assert TrainConfig.from_toml(path, data="mnist").data == "mnist"
    assert message_of(ConfigError, TrainConfig.from_toml, path) == (
        "The setting 'data' is missing. Give it a value."
    )


def test_assignments():
    config = TrainConfig.resolve({"data": "digits"})
    changed = config.override("epochs=3", "optimizer.lr=1e-2", "loss.class_weights=[1, 2.5]", "model=linear")
    assert (changed.epochs, changed.optimizer.lr, changed.model) == (3, 0.01, "linear")
    assert changed.optimizer.momentum == 0.9 and list(changed.loss.class_weights) == [1, 2.5]
    assert config.override("optimizer=adam").optimizer == gn.Adam()
    assert config.override("optimizer.name=adam", "optimizer.lr=0.1").optimizer == gn.Adam(lr=0.1)
    assert config.override() == config


@pytest.mark.parametrize(
    ("name", "settings", "key", "value"),
    [
        ("optimizer=adam", {"lr": 0.1}, "optimizer", gn.Adam(lr=0.1)),
        ("optimizer.name=adam", {"lr": 0.1}, "optimizer", gn.Adam(lr=0.1)),
        ("schedule=step", {"every": 3}, "schedule", gn.schedules.Step(3)),
        ("loss=binary_cross_entropy", {}, "loss", gn.BinaryCrossEntropy()),
        ("loss=cross_entropy", {"label_smoothing": 0.2}, "loss", gn.SoftmaxCrossEntropy(label_smoothing=0.2)),
        ("augment=photos", {"shift": 1}, "augment", replace(default_augment("photos"), shift=1)),
        ("model=plain", {"width": 8}, "model_options", {"width": 8}),
    ],
)
def test_a_section_is_set_by_its_name_before_or_after_settings_of_it(name, settings, key, value):
    """The settings stay, whichever order they are given in; and nothing stays of what was there before."""
    config = TrainConfig.resolve({"data": "digits", "augment": {"cutout": 2}})
    inside = [f"{key}.{setting}={number}" for setting, number in settings.items()]
    assert getattr(config.override(name, *inside), key) == value
    assert getattr(config.override(*inside, name), key) == value


def test_a_kind_of_image_that_is_not_known_is_refused_also_with_settings_of_it():
    config = TrainConfig(data="digits")
    assert message_of(ConfigError, config.override, "augment=photo", "augment.shift=1") == (
        "Unknown kind of image 'photo'. Did you mean 'photos'?"
    )


def test_a_name_in_a_file_says_no_more_than_the_table_with_that_name():
    tables = [{"data": "any", "optimizer": {"name": "adam"}}, {"data": "any", "optimizer": "adam"}]
    assert [TrainConfig.resolve(table).optimizer for table in tables] == [gn.Adam(lr=0.005)] * 2
    photos = TrainConfig.resolve({"data": "digits", "augment": "photos"})
    assert photos.augment == default_augment("photos")


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_settings_that_are_numpys_are_kept_as_numbers(tmp_path, kind):
    """A run that is resumed computes with those of the file."""
    third = float(kind(1 / 3))
    weights = np.array([1, 1 / 3], kind)
    config = TrainConfig(
        data="digits",
        optimizer=gn.SGD(lr=kind(1 / 3)),
        schedule=gn.schedules.OneCycle(rise=kind(1 / 3)),
        loss=gn.SoftmaxCrossEntropy(class_weights=weights, label_smoothing=kind(1 / 3)),
    )
    found = [config.optimizer.lr, config.schedule.rise, config.loss.label_smoothing]
    assert found == [third] * 3 and {type(number) for number in found} == {float}
    assert TrainConfig.from_toml(written(tmp_path, config.to_toml())) == config
    for some in (list(weights), tuple(weights)):
        again = TrainConfig(data="digits", loss=gn.SoftmaxCrossEntropy(class_weights=some))
        assert tomllib.loads(again.to_toml())["loss"]["class_weights"] == [1, third]


def test_objects_are_settings_too():
    config = TrainConfig(data="digits", optimizer=gn.AdamW(lr=0.1), schedule=gn.schedules.Step(3))
    assert config.to_dict()["optimizer"] == {
        "name": "adamw",
        "lr": 0.1,
        "weight_decay": 0.01,
        "decoupled": True,
        "decay_all": False,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
    }
    assert config.to_dict()["schedule"] == {"name": "step", "every": 3, "gamma": 0.1, "warmup": 0.0}


def test_a_config_is_frozen():
    config = TrainConfig(data="digits")
    with pytest.raises(ValueError, match="frozen"):
        config.epochs = 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "Unknown setting 'epoch'. Did you mean 'epochs'?"),
        ('epochs = "3"', "epochs must be a whole number, got '3'."),
        ("batch_size = true", "batch_size must be a whole number, got True."),
        ('clip_norm = "1"', "clip_norm must be a number, got '1'."),
        ("data = 3", "data must be a text, got 3."),
        ('layers = "Conv2d"', "layers must be a list, got 'Conv2d'."),
        ("layers = [3]", "layers.0 must be a table, got 3."),
        (
            "[optimizer]\nlearning_rate = 0.1",
            "Unknown setting 'optimizer.learning_rate' of 'sgd'. Known: decay_all, decoupled, lr, momentum, "
            "nesterov, weight_decay.",
        ),
        (
            "[optimizer]\nmomentun = 0.1",
            "Unknown setting 'optimizer.momentun' of 'sgd'. Did you mean 'momentum'?",
        ),
        ('[optimizer]\nlr = "fast"', "optimizer.lr must be a number, got 'fast'."),
        ("[optimizer]\nlr = -1.0", "SGD lr must be a finite number above 0, got -1.0."),
        ('[optimizer]\nname = "adan"', "Unknown optimizer 'adan'. Did you mean 'adam'?"),
        ('[schedule]\nname = "cosin"', "Unknown schedule 'cosin'. Did you mean 'cosine'?"),
        ("[loss]\nlabel_smoothing = 1.0", "label_smoothing must be at least 0 and below 1, got 1.0."),
        *(
            (
                f"[loss]\nclass_weights = {text}",
                f"loss.class_weights must be a list of numbers or 'balanced', got {got}.",
            )
            for text, got in (('"balance"', "'balance'"), ("3", "3"), ("{a = 1}", "{'a': 1}"))
        ),
        ('[loss]\nclass_weights = [1, "x"]', "loss.class_weights.1 must be a number, got 'x'."),
        ("[augment]\nrotation = 5", "augment.rotation must be a list of numbers, got 5."),
        ('[augment]\nrotation = "far"', "augment.rotation must be a list of numbers, got 'far'."),
        ('[augment]\nrotation = [0, "x"]', "augment.rotation.1 must be a number, got 'x'."),
        ("[augment]\ncrop = [1]", "crop must be two numbers from 0.05 to 1, the least first, got [1]."),
        ('[augment]\nfill = "white"', "augment.fill must be 'reflect' or 'black', got 'white'."),
        ("[optimizer]\nnesterov = 1", "optimizer.nesterov must be true or false, got 1."),
        ('[schedule]\nname = "step"\nevery = 0.5', "schedule.every must be a whole number, got 0.5."),
        (
            f"seed = {2**63}",
            "seed must be at most 9223372036854775807, got 9223372036854775808.",
        ),
        ("progressive = [0.5, 2]", "progressive.1 must be below 1, got 2."),
        ("loss = 3", "loss must be a name, a table or an object of class Loss, got 3."),
    ],
)
def test_wrong_settings(tmp_path, text, message):
    path = written(tmp_path, text)
    assert message_of(ConfigError, TrainConfig.from_toml, path, data="digits") == message


def test_files_that_cannot_be_read(tmp_path):
    missing = tmp_path / "none.toml"
    assert message_of(ConfigError, TrainConfig.from_toml, missing) == (
        f"The config {missing} cannot be read: No such file or directory."
    )
    path = written(tmp_path, "epochs 3")
    assert message_of(ConfigError, TrainConfig.from_toml, path) == (
        f"The config {path} is not TOML: Expected '=' after a key in a key/value pair (at line 1, column 8)."
    )


def test_wrong_assignments():
    config = TrainConfig.resolve({"data": "digits"})
    assert message_of(ConfigError, config.override, "epochs") == (
        "A setting is written key=value, such as optimizer.lr=0.1, got 'epochs'."
    )
    assert (
        message_of(ConfigError, config.override, "seeds=3") == "Unknown setting 'seeds'. Did you mean 'seed'?"
    )
    assert message_of(ConfigError, config.override, "epochs=many") == (
        "epochs must be a whole number, got 'many'."
    )


# Networks


@pytest.mark.parametrize("name", MODELS)
def test_models_fit_the_data(name):
    net = build_model(TrainConfig(data="digits", model=name), DIGITS)
    assert (net.input_shape, net.output_shape) == ((8, 8, 1), (10,))


def test_the_model_of_nn_learn_has_its_15770_parameters():
    net = gn.Sequential(MODELS["nn_learn_simple"](10), input_shape=(28, 28, 1))
    assert net.summary().parameters == 15_770


def test_seeds_of_the_first_weights():
    config = TrainConfig(data="digits", model="linear", seed=1)
    one, two = build_model(config, DIGITS), build_model(config.override("seed=2"), DIGITS)
    assert (one.seed, two.seed) == (1, 2)
    assert build_model(config.override("seed=2", "init_seed=1"), DIGITS).seed == 1
    assert (one["linear_1"].weight != two["linear_1"].weight).any()


LAYERS = """
data = "digits"
epochs = 1
backend = "reference"
[[layers]]
type = "Conv2d"
filters = 4
kernel_size = [3, 3]
padding = "same"
[[layers]]
type = "Residual"
main = [{type = "Conv2d", filters = 4, kernel_size = 3, padding = "same"}, {type = "ReLU"}]
[[layers]]
type = "Flatten"
[[layers]]
type = "Linear"
features = 10
"""


def test_layers_in_a_file(tmp_path):
    config = TrainConfig.from_toml(written(tmp_path, LAYERS))
    assert config.model == ""  # not the default
    net, run = fit_config(config)
    assert [type(layer).__name__ for layer in net.walk()] == [
        *("Sequential", "Conv2d", "Residual", "Chain", "Conv2d", "ReLU", "Flatten", "Linear"),
    ]
    assert run.test.accuracy > 0.3
    again = TrainConfig(data="digits", layers=tables_of(net))
    assert TrainConfig.from_toml(written(tmp_path, again.to_toml())).layers == again.layers
    twin = build_model(again, DIGITS)
    for name, array in build_model(config, DIGITS).store.tensors().items():
        np.testing.assert_array_equal(twin.store.tensors()[name], array)


def test_named_layers():
    tables = [{"name": "flat", "type": "Flatten"}, {"name": "out", "type": "Linear", "features": 10}]
    net = build_model(TrainConfig(data="digits", layers=tables), DIGITS)
    assert list(net.children()) == ["flat", "out"]
    assert [table["name"] for table in tables_of(net)] == ["flat", "out"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "smal"}, "Unknown model 'smal'. Did you mean 'small'?"),
        ({"layers": [{"type": "Conv3d"}]}, "Unknown layer type 'Conv3d'. Did you mean 'Conv2d'?"),
        (
            {"layers": [{"type": "Linear", "feature": 3}]},
            "Linear: missing a required argument: 'features'. It takes "
            "Linear(features, *, bias=True, init='he_normal'). Input features are inferred: PyTorch's "
            "Linear(128, 10) is Linear(10) here.",
        ),
        (
            {"layers": [{"type": "Flatten", "name": "flat"}, {"type": "Linear", "features": 3}]},
            "Either every layer has a name of its own, or none has one, got ['flat', None].",
        ),
        ({"layers": [{"filters": 3}]}, "A layer needs a type, such as type = 'Conv2d', got {'filters': 3}."),
    ],
)
def test_networks_that_cannot_be_built(settings, message):
    assert message_of(ConfigError, build_model, TrainConfig(data="digits", **settings), DIGITS) == message
