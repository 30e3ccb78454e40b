"""The parameter store: one aligned block a kind, layers as views of it, all or nothing when restoring."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import glassnet as gn
from glassnet.errors import FileFormatError, ShapeError
from glassnet.store import ALIGNMENT, aligned
from messages import message_of

NAMES = [
    *(f"conv2d_1.{name}" for name in ("weight", "bias")),
    *(f"residual_1.main.batchnorm2d_1.{name}" for name in ("gamma", "beta")),
    *(f"linear_1.{name}" for name in ("weight", "bias")),
]
RUNNING = [f"residual_1.main.batchnorm2d_1.running_{name}" for name in ("mean", "var")]


@pytest.fixture
def net():
    layers = [gn.Conv2d(3, 2), gn.Residual([gn.BatchNorm2d()]), gn.Flatten(), gn.Linear(5)]
    return gn.Sequential(layers, input_shape=(4, 4, 1))


def test_names_in_forward_order(net):
    assert list(net.store.parameters) == NAMES and list(net.store.running) == RUNNING
    assert list(net.store.tensors()) == NAMES + RUNNING


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 17])
def test_aligned(count, dtype):
    block = aligned(count, dtype)
    assert block.shape == (count,) and block.dtype == dtype and not block.any()
    assert block.ctypes.data % ALIGNMENT == 0


@pytest.mark.parametrize("copied", [False, True], ids=["built", "deep copy"])
def test_layers_read_and_write_the_aligned_store(net, copied):
    original, before = net, net.store.snapshot()
    net.store.add_optimizer_state("momentum")
    if copied:
        net = copy.deepcopy(net)
    for block in (net.store.values, net.store.grads, net.store.state, net.store.optimizer["momentum"]):
        assert block.ctypes.data % ALIGNMENT == 0
    for name, array in net.store.tensors().items():
        layer, _, attribute = name.rpartition(".")
        assert array.ctypes.data % ALIGNMENT == 0
        setattr(net[layer], attribute, before[name] + 1)  # copies in
        assert np.shares_memory(getattr(net[layer], attribute), array)
        assert np.array_equal(array, before[name] + 1)
    unchanged = all(map(np.array_equal, original.store.tensors().values(), before.values()))
    assert unchanged == copied


def test_gradients_have_the_layout_of_values(net):
    for name in NAMES:
        net.store.grad(name)[...] = net.store.value(name)
    assert np.array_equal(net.store.grads, net.store.values)


def test_assignment_of_another_shape(net):
    message = message_of(ShapeError, setattr, net["linear_1"], "bias", np.zeros((5, 1)))
    assert message == "linear_1.bias must have shape (5,), got (5, 1)."


def test_optimizer_state_is_added_once(net):
    net.store.add_optimizer_state("mean")
    net.store.optimizer["mean"][0] = 1
    net.store.add_optimizer_state("mean")
    assert net.store.optimizer["mean"][0] == 1
    assert net.store.optimizer["mean"].shape == net.store.values.shape


def test_frozen_parameters_do_not_learn(net):
    net["residual_1"].freeze()
    assert [name for name, _ in net.store.learning()] == [NAMES[0], NAMES[1], NAMES[4], NAMES[5]]
    net["residual_1"].freeze(False)
    assert [name for name, _ in net.store.learning()] == NAMES


def test_as_dtype_is_a_copy_of_its_own(net):
    twin = net.as_dtype(np.float64)
    assert {array.dtype for array in twin.store.tensors().values()} == {np.dtype(np.float64)}
    assert all(map(np.array_equal, twin.store.tensors().values(), net.store.tensors().values()))
    twin["conv2d_1"].weight[...] = 7
    assert not (net["conv2d_1"].weight == 7).any()


def test_restore_undoes_changes(net):
    before = net.store.snapshot()
    net.store.values += 1
    net.store.state += 1
    net.store.restore(before)
    assert all(map(np.array_equal, net.store.tensors().values(), before.values()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop("linear_1.bias") is t.pop("conv2d_1.bias"),
            "The file lacks conv2d_1.bias, linear_1.bias, which this network needs.",
        ),
        (
            lambda t: t.update({"linear_2.bias": np.zeros(5)}),
            "The file holds linear_2.bias, which this network does not have.",
        ),
        (
            lambda t: t.update({RUNNING[0]: np.zeros(4)}),
            f"The file has {RUNNING[0]} of shape (4,), needed (3,).",
        ),
    ],
    ids=["missing", "extra", "misshapen"],
)
def test_restore_is_all_or_nothing(net, change, message):
    tensors, before = {name: array + 1 for name, array in net.store.snapshot().items()}, net.store.snapshot()
    change(tensors)
    assert message_of(FileFormatError, net.store.restore, tensors, "The file") == message
    assert all(map(np.array_equal, net.store.tensors().values(), before.values()))
