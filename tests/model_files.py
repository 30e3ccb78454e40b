"""Networks that have one of everything that a model file holds."""

from __future__ import annotations

import numpy as np

import glassnet as gn
from glassnet.preprocessing import Preprocessing


class Shift(gn.Layer):
    """x + by, with `by` a constant of any kind of number."""

    def __init__(self, by=1.0, *, note=None):
        self.by = by

    def forward(self, ops, x, train):
        return x + np.float32(self.by), None

    def backward(self, ops, dy, saved, *, input_grad=True):
        return (dy if input_grad else None), {}


def network(seed=0, layers=None):
    """A network with every kind of content: state, dropout, nesting, names, frozen and slowed layers."""
    net = gn.Sequential(
        layers
        or {
            "stem": gn.Conv2d(3, 3, padding=(1, 0, 1, 0), bias=False),
            "batchnorm": gn.BatchNorm2d(),
            "around": gn.Residual([gn.Conv2d(3, 1), gn.Dropout(0.25)]),
            "beside": gn.Concat([gn.ReLU(), [gn.Conv2d(2, 1, init=0.5), gn.LeakyReLU(0.2)]]),
            "flatten": gn.Flatten(),
            "head": gn.Linear(3),
        },
        input_shape=(5, 4, 1),
        seed=seed,
    )
    net.classes = ("cat", "dög", "7")
    net.preprocessing = Preprocessing((5, 4), (0.25,), (0.1,), "L")
    net.loss = gn.SoftmaxCrossEntropy(label_smoothing=0.1, class_weights=(1.0, 2.0, 0.5))
    return net


def experienced(generator):
    """That network after batch normalisation has seen something, with frozen and slowed layers."""
    net = network(seed=4)
    for slot in net.store.running.values():
        slot.view(net.store.state)[...] = generator.random(slot.shape)
    net["stem"].freeze()
    net["around"].scale_lr(0.1)
    return net


def assert_same(one, other):
    assert one.store.tensors().keys() == other.store.tensors().keys()
    for name, array in one.store.tensors().items():
        assert array.tobytes() == other.store.tensors()[name].tobytes(), name
