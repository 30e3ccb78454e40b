"""Model files: the same bits back, and all of the meaning inside."""

from __future__ import annotations

import dataclasses
import errno

import numpy as np
import pytest
from safetensors.numpy import load_file

import glassnet as gn
from glassnet.errors import ConfigError, FileFormatError
from glassnet.io import restore, write_atomically
from glassnet.io.tensors import digest, read
from glassnet.losses import Loss
from messages import message_of
from model_files import Shift, assert_same, experienced, network


@pytest.fixture
def net(generator):
    return experienced(generator)


@pytest.fixture
def path(net, tmp_path):
    path = tmp_path / "net.gnet"
    net.save(path)
    return path


# The same network back


def test_a_loaded_network_is_the_same(net, path, generator):
    images = generator.integers(0, 256, (6, 5, 4, 1), np.uint8)
    loaded = gn.load(path)
    assert_same(net, loaded)
    assert loaded.scores(images).tobytes() == net.scores(images).tobytes()
    assert loaded.predict(images).tolist() == net.predict(images).tolist()
    assert (loaded.classes, loaded.preprocessing, loaded.loss) == (net.classes, net.preprocessing, net.loss)
    assert [(layer.name, layer.trainable, layer.lr_factor) for layer in loaded.walk()] == [
        (layer.name, layer.trainable, layer.lr_factor) for layer in net.walk()
    ]
    assert str(loaded.summary()) == str(net.summary())
    assert loaded.seed == net.seed == 4


def test_training_goes_on_with_the_same_masks(net, path, generator):
    """A pass in training mode has the same bits, although another seed would draw other dropout keys."""
    net["around.main.dropout_1"].key = 12345
    net.save(path)
    images = generator.integers(0, 256, (4, 5, 4, 1), np.uint8)
    ours, theirs = (n.trace(images, ["cat", "7", "7", "cat"], seed=3) for n in (net, gn.load(path)))
    assert ours["around.main.dropout_1"].output.tobytes() == theirs["around.main.dropout_1"].output.tobytes()
    assert ours["stem"].grads["weight"].tobytes() == theirs["stem"].grads["weight"].tobytes()


def test_saving_again_gives_the_same_bytes(path, tmp_path):
    gn.load(path).save(tmp_path / "again.gnet")
    assert (tmp_path / "again.gnet").read_bytes() == path.read_bytes()


def test_defaults_are_written_down(path):
    """A later version may change one: this file must then still mean the same."""
    assert read(path)[1]["layers"]["stem"]["settings"] == {
        "filters": 3,
        "kernel_size": 3,
        "stride": 1,
        "padding": [1, 0, 1, 0],
        "dilation": 1,
        "groups": 1,
        "bias": False,
        "init": "he_normal",
    }


def test_the_checksum_covers_names_and_shapes():
    one, two = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
    digests = {
        digest({"a": one, "b": two}, {}),
        digest({"a": two, "b": one}, {}),
        digest({"c": one, "d": two}, {}),
        digest({"a": one.reshape(3, 2), "b": two}, {}),
        digest({"a": one, "b": two}, {"format": 1}),
    }
    assert len(digests) == 5


def test_any_safetensors_reader_reads_the_tensors(net, path):
    assert {name: array.tobytes() for name, array in load_file(path).items()} == {
        name: array.tobytes() for name, array in net.store.tensors().items()
    }


def test_a_network_without_classes_and_preprocessing_stays_one(tmp_path):
    gn.Sequential([gn.Flatten(), gn.Linear(2)], input_shape=(2, 2, 1)).save(tmp_path / "bare.gnet")
    loaded = gn.load(tmp_path / "bare.gnet")
    assert (loaded.classes, loaded.preprocessing) == (None, None)


def test_settings_from_numpy_are_kept_as_numbers(tmp_path):
    net = network(layers=[gn.Flatten(), gn.Linear(np.int64(3)), Shift(np.float32(0.1))])
    net.loss = gn.SoftmaxCrossEntropy(class_weights=np.array([1, 2, 0.1]))
    net.save(tmp_path / "net.gnet")
    loaded = gn.load(tmp_path / "net.gnet", layers=[Shift])
    assert loaded["shift_1"].by == np.float32(0.1)
    assert loaded.loss.class_weights == (1, 2, 0.1)


def test_restore_copies_into_a_network_of_the_same_layers(net, path):
    other = network(seed=9)
    restore(other, path)
    assert_same(other, net)


def test_restore_refuses_another_network(path):
    head = {"flatten": gn.Flatten(), "head": gn.Linear(3)}
    message = message_of(FileFormatError, restore, network(layers=head), path)
    assert message == (
        f"{path} holds around.main.conv2d_1.bias, around.main.conv2d_1.weight, batchnorm.beta, "
        "batchnorm.gamma, batchnorm.running_mean, batchnorm.running_var, beside.branch_2.conv2d_1.bias, "
        "beside.branch_2.conv2d_1.weight, stem.weight, which this network does not have."
    )


# Layers of one's own


def test_a_layer_of_ones_own_is_passed_to_load(tmp_path):
    path = tmp_path / "own.gnet"
    network(layers=[gn.Flatten(), Shift(2.0, note=[1, {"a": None}]), gn.Linear(3)]).save(path)
    assert gn.load(path, layers=[Shift])["shift_1"].by == 2.0
    known = sorted({"Sequential", *gn.layers.__all__} - {"Layer"})
    assert message_of(FileFormatError, gn.load, path) == (
        f"{path} has a layer of type 'Shift', which is neither built in nor installed. "
        f"Known: {', '.join(known)}. A class of your own is passed: "
        f"glassnet.load({str(path)!r}, layers=[Shift])."
    )


def test_a_near_miss_is_pointed_out(tmp_path):
    class ReLU6(Shift):
        pass

    network(layers=[ReLU6(), gn.Flatten(), gn.Linear(3)]).save(tmp_path / "own.gnet")
    assert "Did you mean 'ReLU'?" in message_of(FileFormatError, gn.load, tmp_path / "own.gnet")


def test_an_installed_entry_point_is_found(tmp_path, monkeypatch):
    package = tmp_path / "shift-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: shift\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[glassnet.layers]\nShift = model_files:Shift\n")
    network(layers=[Shift(3.0), gn.Flatten(), gn.Linear(3)]).save(tmp_path / "own.gnet")
    monkeypatch.syspath_prepend(tmp_path)
    assert gn.load(tmp_path / "own.gnet")["shift_1"].by == 3.0


@pytest.mark.parametrize("value", [len, {1: 2}, float("nan"), np.ones(2), {"type": "Conv2d"}], ids=repr)
def test_a_setting_that_is_not_plain_is_refused_with_its_place(tmp_path, value):
    net = network(layers=[Shift(note=value), gn.Flatten(), gn.Linear(3)])
    assert message_of(ConfigError, net.save, tmp_path / "own.gnet") == (
        f"shift_1 (Shift) note is {value!r}, which a model file cannot hold. "
        "Settings must be None, finite numbers, texts, layers, or lists and dicts of them."
    )
    assert list(tmp_path.iterdir()) == []


def test_names_of_built_in_layers_are_taken(tmp_path):
    own = type("ReLU", (Shift,), {})
    net = network(layers=[own(), gn.Flatten(), gn.Linear(3)])
    assert message_of(ConfigError, net.save, tmp_path / "own.gnet") == (
        "relu_1 is your own ReLU, but glassnet has a ReLU too. Rename the class."
    )
    network().save(tmp_path / "net.gnet")
    message = "There is a layer named ReLU already. Rename the class."
    assert message_of(ConfigError, gn.load, tmp_path / "net.gnet", layers=[own]) == message
    assert message_of(ConfigError, gn.load, tmp_path / "net.gnet", layers=["ReLU"]) == (
        "layers must be layer classes such as MyLayer, got 'ReLU'."
    )
    assert message_of(ConfigError, gn.load, tmp_path / "net.gnet", layers=own) == (
        f"layers must be a list of classes such as [MyLayer], got {own!r}."
    )


# What is no file


def test_a_folder_is_no_model_file(net, path, tmp_path, monkeypatch):
    net.save(tmp_path / "best.gnet")
    for call in (gn.load, lambda folder: restore(net, folder)):
        assert message_of(FileFormatError, call, tmp_path) == (
            f"{tmp_path} is a folder. Load a file in it: {tmp_path / 'best.gnet'}, {path}."
        )
    (tmp_path / "empty").mkdir()
    assert message_of(FileFormatError, gn.load, tmp_path / "empty") == (
        f"{tmp_path / 'empty'} is a folder. It holds no model file."
    )
    monkeypatch.chdir(tmp_path)
    for folder in ("", ".", "empty"):
        assert message_of(ConfigError, net.save, folder) == (
            f"A model is saved to a file, but {folder!r} is a folder. Name a file in it."
        )


# What cannot be saved


def test_what_a_file_cannot_hold_is_refused(tmp_path, net):
    class Deep(gn.Sequential):
        pass

    @dataclasses.dataclass(frozen=True)
    class Hinge(Loss):
        pass

    deep = Deep([gn.Flatten(), gn.Linear(3)], input_shape=(5, 4, 1))
    assert message_of(ConfigError, deep.save, tmp_path / "net.gnet") == (
        "A model file holds a Sequential, got a Deep. Write Sequential([...]) of its layers."
    )
    assert message_of(ConfigError, net.as_dtype(np.float64).save, tmp_path / "net.gnet") == (
        "A model file holds float32, this network is float64. Save the network that it was copied from."
    )
    net.loss = Hinge()
    assert message_of(ConfigError, net.save, tmp_path / "net.gnet") == (
        "A model file holds the loss cross_entropy, probability_cross_entropy, binary_cross_entropy, "
        "mean_squared_error, got Hinge."
    )


# Writing


def test_a_failed_write_leaves_the_old_file(path, net, monkeypatch):
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    net["head"].bias = np.ones(3)
    assert message_of(OSError, net.save, path) == f"[Errno 28] No space left on device: '{path}'"
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["net.gnet"]


def test_a_missing_folder_is_named(tmp_path):
    path = tmp_path / "nowhere" / "a.bin"
    message = message_of(FileNotFoundError, write_atomically, path, b"")
    assert message == f"[Errno 2] No such file or directory: '{path}'"
