"""Recipes: golden first losses on both backends, the published update rules, and what is kept of a run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glassnet.data import Dataset, from_arrays, load
from glassnet.data.batches import BatchPlan
from glassnet.errors import ConfigError, DataError, RunFolderError
from glassnet.ops.reference import ReferenceOps
from glassnet.recipes import RECIPES, recipe_named
from glassnet.recipes.base import held_out
from glassnet.recipes.simple_nn import costs
from glassnet.train import Callback, Interrupted
from glassnet.train.fitting import run
from messages import message_of

PAGE = Path(__file__).parents[1] / "docs" / "systems.md"
GOLDEN = {  # mean loss of each of the first steps, seed 0, on the data that every CI has
    "conv-pool-softmax": [2.299962, 2.304401, 2.318776, 2.319028, 2.340724],
    "conv-pool-softmax-chapter": [2.299962, 2.304399, 2.318778, 2.319044, 2.340789],
    "conv-pool-softmax-60000": [2.720150, 1.911416, 2.545140, 2.367875, 2.302291],
    "conv-pool-softmax-average": [2.720150, 1.911416, 2.545140, 2.367875, 2.302291],
    "nn-learn-simple": [2.613317, 2.508128, 2.183180, 1.839621, 1.558737],
    "nn-learn-complex": [2.584781, 6.625484, 2.405749, 2.246191, 2.186042],
    "simple-nn": [2.864673, 2.742722],
    "photos-from-scratch": [3.636855, 1.764961],
    "photos-from-scratch-batch-norm": [6.8047, 3.7344],
    "photos-from-scratch-dropout": [2.4805, 3.1089],
    "photos-unaugmented": [3.496033, 2.060667],
    "photos-unaugmented-batch-norm": [1.1122, 3.0634],
    "photos-unaugmented-lost-statistics": [1.1122, 3.0634],
    "photos-unaugmented-published-dropout": [1.658820, 1.209826],
    "photos-unaugmented-dropout": [2.846540, 4.364039],
    "photos-high-rate": [3.075039, 3.816647],
    "photos": [1.673076, 0.992888],
    "mnist-fast": [2.601601, 2.539029],
    "mnist-best": [2.865783, 2.912466],
    "fashion": [2.929078, 2.711415],
}
LONG_SUMS = {
    *("photos-from-scratch-batch-norm", "photos-from-scratch-dropout"),
    *("photos-unaugmented-batch-norm", "photos-unaugmented-lost-statistics"),
}
"""Means over 49,284 float32 values a channel and more, which each backend adds up in an order of its own."""
DEEP = {"mnist-best", "fashion", "photos"}
"""A first step at the full rate makes the rounding of a gradient through six normalisations larger."""


class Steps(Callback):
    """The loss of each step."""

    def __init__(self):
        self.losses = []

    def on_steps(self, training, records):
        self.losses += [record.loss for record in records]


class InterruptAfter(Callback):
    """Ctrl-C once so many epochs are whole."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_epoch_end(self, training, record):
        if record.epoch == self.epochs:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def clothed():
    """The digits of the package as 28x28 images, in place of MNIST: every CI has them."""
    digits = load("digits")

    def clothe(split):
        images = np.pad(split.images.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2), (0, 0)))
        return replace(split, images=images, preprocessing=replace(split.preprocessing, size=(28, 28)))

    return Dataset("mnist", train=clothe(digits.train), test=clothe(digits.test))


@pytest.fixture(scope="module")
def noise():
    """Twelve pictures of noise in place of photos, four of each class."""
    images = np.random.default_rng(0).integers(0, 256, (12, 224, 224, 3), np.uint8)
    return from_arrays(images, np.arange(12) % 3, classes=("bird", "dog", "panda"))


def on(backend, recipe, **settings):
    """The recipe on that backend, with these settings over its own."""
    assignments = [f"{key}={value}" for key, value in (settings | {"backend": backend}).items()]
    return replace(recipe, config=recipe.config.override(*assignments))


# Golden losses


def noise_of(noise, recipe):
    """Pictures of noise of the size that the recipe's network takes, the same for validation."""
    height, width, _ = recipe.network(0).input_shape
    train = replace(noise.train, images=noise.train.images[:, :height, :width])
    preprocessing = replace(train.preprocessing, size=(height, width))
    train = replace(train, preprocessing=preprocessing)
    return replace(noise, train=train, val=train)


@pytest.mark.parametrize("backend", ["reference", "compiled"])
@pytest.mark.parametrize("name", GOLDEN)
def test_the_first_losses(name, backend, clothed, noise):
    steps, recipe = Steps(), on(backend, RECIPES[name])
    data = clothed
    if recipe.config.data == "animals_224":
        data = noise_of(noise, recipe)
        recipe = replace(
            recipe, config=recipe.config.override(f"batch_size={min(6, recipe.config.batch_size)}")
        )
    recipe.train(0, data=data, steps=len(GOLDEN[name]), callbacks=[steps])
    tolerance = 2e-3 if name in LONG_SUMS else 1e-4 if name in DEEP else 1e-5
    np.testing.assert_allclose(steps.losses, GOLDEN[name], rtol=tolerance)


def test_every_recipe_that_is_trained_has_golden_losses():
    assert {"deep-ml-130", *GOLDEN} == set(RECIPES)


# As published


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("conv-pool-softmax", 13_602),
        ("nn-learn-simple", 15_770),
        ("nn-learn-complex", 467_818),
        ("simple-nn", 134_826),
        ("photos-from-scratch", 111_267),
    ],
)
def test_networks_have_the_published_parameters(name, parameters):
    assert RECIPES[name].network(0).summary().parameters == parameters


def test_conv_pool_softmax_starts_as_published(clothed):
    recipe = RECIPES["conv-pool-softmax"]
    net, data = recipe.network(3), recipe.prepare(clothed)
    assert net["conv2d_1"].bias is None and (net["linear_1"].bias == 0).all()
    assert net["linear_1"].weight.std() * 1352 == pytest.approx(1, rel=0.03)
    assert 0.6 < net["conv2d_1"].weight.std() * 9 < 1.4
    assert (len(data.train), len(data.test)) == (1000, 359)
    np.testing.assert_allclose(data.train.inputs(), clothed.train.images[:1000] / 255 - 0.5, atol=1e-6)


def test_only_the_softmax_layer_learns_in_the_chapter(clothed):
    recipe = RECIPES["conv-pool-softmax-chapter"]
    net, data = recipe.network(0), recipe.prepare(clothed)
    before = net.store.snapshot()
    run(net, replace(data, train=data.train[:20]), recipe.config)
    after = net.store.snapshot()
    assert (before["conv2d_1.weight"] == after["conv2d_1.weight"]).all()
    assert (before["linear_1.weight"] != after["linear_1.weight"]).any()
    assert recipe.settings()["rates"] == {"conv2d_1": 0.0}


def test_a_line_every_hundred_steps_in_the_published_form(clothed):
    said = []
    result = RECIPES["conv-pool-softmax"].train(0, data=clothed, steps=250, say=said.append)
    assert said == list(result.log) and said[0] == "--- Epoch 1 ---"
    form = r"\[Step (\d+)\] Past 100 steps: Average Loss \d\.\d{3} \| Accuracy: \d{1,3}%"
    assert [re.fullmatch(form, line)[1] for line in said[1:]] == ["100", "200"]


def test_the_line_counts_the_steps_that_it_names(clothed):
    steps, said = Steps(), []
    recipe = on("reference", RECIPES["conv-pool-softmax"])
    recipe.train(0, data=clothed, steps=200, say=said.append, callbacks=[steps])
    assert f"Average Loss {np.mean(steps.losses[100:]):.3f} |" in said[2]


def test_nn_learn_has_three_splits_in_unit_scale(clothed):
    data = RECIPES["nn-learn-simple"].prepare(clothed)
    assert (len(data.train), len(data.val), len(data.test)) == (1198, 240, 359)
    assert (data.val.images == clothed.train.images[1198:]).all()
    assert (data.train.inputs().min(), data.train.inputs().max()) == (0, 1)


def simple_nn_step(net, data, config):
    """One update as it is published, in float64: all by hand but the gradients."""
    rate, decay, updated = 0.1, 0.01, {}
    index = BatchPlan(512, 512, seed=config.seed).order(0)
    target, share = net.loss.targets(data.train.labels[index], 10)
    x = data.train.inputs(index).astype(np.float64)
    _, _, grads = net.loss_and_gradients(ReferenceOps(), x, target, share * 512)  # summed, not mean
    for name, w in net.store.tensors().items():
        lr = rate / 10 if name.startswith("linear_2") else rate
        shrink = 1 - lr * decay / 512 if name.endswith("weight") else 1
        updated[name] = w * shrink - lr * np.clip(grads[name], -0.5, 0.5) / 512
    return updated, grads


@pytest.mark.parametrize("parts", [1, 512], ids=["vectorised", "serial"])
def test_a_simple_nn_update_is_the_published_one(clothed, parts):
    """All images at once and one at a time; clipped sums, a rate by layer, decay of weights alone."""
    recipe = RECIPES["simple-nn"]
    data = recipe.prepare(replace(clothed, train=clothed.train[:512]))
    net = recipe.network(0).as_dtype(np.float64)
    config = recipe.config.override("epochs=1", f"accumulate={parts}", 'backend="reference"')
    expected, grads = simple_nn_step(net, data, config)
    assert any((np.abs(g) > 0.5).any() for g in grads.values())
    assert any((np.abs(g) < 0.5).any() for g in grads.values())
    run(net, data, config)
    for name, array in net.store.tensors().items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-12, atol=1e-14)


def test_simple_nns_biases_are_drawn_too():
    net = RECIPES["simple-nn"].network(0)
    assert net["linear_1"].bias.std() == pytest.approx(np.sqrt(2 / 1296), rel=0.2)
    assert (net["conv2d_1"].bias != 0).all()


def test_the_cost_is_the_loss_on_train_and_the_squared_weights(clothed):
    recipe, nets = on("reference", RECIPES["simple-nn"]), []
    kept = replace(recipe, network=lambda seed: nets.append(recipe.network(seed)) or nets[-1])
    result = kept.train(0, data=clothed, steps=1)
    squares = sum((net_w**2).sum() for name, net_w in nets[-1].store.tensors().items() if "weight" in name)
    assert costs(result.log) == [pytest.approx(result.curve[0]["val_loss"] + squares / 512, abs=1e-6)]


# What is kept


def test_an_interrupted_recipe_goes_on_to_the_same_end(clothed, tmp_path):
    """Three steps an epoch; the last checkpoint is in the third epoch, with the lines of two."""
    recipe = on("auto", RECIPES["simple-nn"], epochs=4, checkpoint_steps=2)
    whole = recipe.train(0, data=clothed, folder=tmp_path / "whole")
    with pytest.raises(Interrupted, match=r"To go on: the same command again$"):
        recipe.train(0, data=clothed, folder=tmp_path / "cut", callbacks=[InterruptAfter(3)])
    resumed = recipe.train(0, data=clothed, folder=tmp_path / "cut")
    assert replace(resumed, seconds=whole.seconds) == whole
    assert len(resumed.log) == len(resumed.curve) == 4


def test_the_lines_of_a_hundred_steps_go_on_where_they_were_cut(clothed, tmp_path):
    recipe = on("auto", RECIPES["conv-pool-softmax"], checkpoint_steps=130)
    whole = recipe.train(0, data=clothed, folder=tmp_path / "whole")

    class Kill(Callback):
        def on_steps(self, training, records):
            if records[-1].step > 700:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        recipe.train(0, data=clothed, folder=tmp_path / "cut", callbacks=[Kill()])
    assert recipe.train(0, data=clothed, folder=tmp_path / "cut").log == whole.log


def test_a_recipe_killed_before_its_first_checkpoint_begins_anew(clothed, tmp_path):
    class Kill(Callback):
        def on_train_begin(self, training):
            raise RuntimeError("killed")

    recipe = on("auto", RECIPES["simple-nn"], epochs=2)
    with pytest.raises(RuntimeError):
        recipe.train(0, data=clothed, folder=tmp_path / "run", callbacks=[Kill()])
    assert (tmp_path / "run" / "config.toml").exists() and not (tmp_path / "run" / "checkpoints").exists()
    assert len(recipe.train(0, data=clothed, folder=tmp_path / "run").curve) == 2


@pytest.mark.parametrize("checkpoints", [False, True])
def test_a_finished_run_gives_the_result_that_was_not_kept(checkpoints, clothed, tmp_path):
    """As after a kill while the training images were evaluated, or before the checkpoints were removed."""
    recipe = on("auto", RECIPES["simple-nn"], epochs=2)
    first = recipe.train(0, data=clothed, folder=tmp_path / "run")
    if checkpoints:
        (tmp_path / "run" / "checkpoints").mkdir()
        (tmp_path / "run" / "checkpoints" / "00000001.json").touch()
    assert recipe.train(0, data=clothed, folder=tmp_path / "run") == first
    assert len(first.log) == len(first.curve) == 2


def test_a_run_of_other_settings_is_not_taken_for_the_recipes(clothed, tmp_path):
    on("auto", RECIPES["simple-nn"], epochs=1).train(0, data=clothed, folder=tmp_path)
    changed = on("auto", RECIPES["simple-nn"], epochs=2)
    assert message_of(RunFolderError, changed.train, 0, data=clothed, folder=tmp_path) == (
        f"The run {tmp_path} was begun with other settings than the recipe has now. Remove that folder, or "
        "choose another place."
    )


def test_held_out_images_take_the_place_of_test(clothed):
    data = held_out(clothed, 400)
    assert (len(data.train), len(data.test)) == (1038, 400)
    assert (data.test.images == clothed.train.images[-400:]).all()
    order = np.argsort(clothed.train.labels, kind="stable")
    data = held_out(replace(clothed, train=clothed.train[order]), 400)
    assert set(data.test.labels) == set(data.train.labels) == set(range(10))
    assert message_of(ConfigError, held_out, clothed, 1438) == (
        "hold_out must leave images to train on: it is 1438 of 1438."
    )
    with_test, without = (RECIPES["conv-pool-softmax"].train(0, data=clothed, hold_out=n) for n in (0, 400))
    assert (with_test.train_accuracy, with_test.test_accuracy) != (
        *(without.train_accuracy, without.test_accuracy),
    )


def test_an_unknown_recipe():
    assert message_of(ConfigError, recipe_named, "simple-n") == (
        "Unknown recipe 'simple-n'. Did you mean 'simple-nn'?"
    )


def test_without_its_data_a_recipe_says_what_it_wants(tmp_path, monkeypatch):
    monkeypatch.setenv("GLASSNET_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("glassnet.data.download._download_from_first", lambda *args: ["no mirror here"])
    message = message_of(DataError, RECIPES["simple-nn"].train, 0)
    for part in ("train-images-idx3-ubyte.gz", str(tmp_path / "mine" / "mnist"), "set GLASSNET_DATA to"):
        assert part in message


# Accuracy


def test_a_thousand_images_give_what_was_published(real_data):
    """1000 images, 3000 steps: five seeds reach 80 %, and the softmax layer alone about 70 % as it learns."""
    recipe = RECIPES["conv-pool-softmax"]
    accuracies = [recipe.train(seed).test_accuracy for seed in range(recipe.seeds)]
    assert np.mean(accuracies) >= recipe.required
    logs = [RECIPES["conv-pool-softmax-chapter"].train(seed).log for seed in range(5)]
    past = [int(re.search(r"Accuracy: (\d+)%", log[-1])[1]) for log in logs]
    assert 60 <= np.mean(past) <= 80
