"""The kernels uncompiled: plain Python, and the tile's NumPy twin, on small networks of every layer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import glassnet as gn
from glassnet.engine.machine.kernel import interpreted
from networks import Recipe, assert_alike, images, train

HERE = Path(__file__)


def test_everything_here_passes_uncompiled():
    """The tests of this module once more, in a process where Numba compiles nothing."""
    if interpreted():
        return
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE)]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout and "skipped" not in done.stdout


def small(name):
    """A network of that kind on tiny images, so that plain Python has little to do."""
    layers = {
        "convolutions": [
            gn.Conv2d(4, 3, padding="same", bias=False), gn.BatchNorm2d(), gn.ReLU(), gn.MaxPool2d(2),
            gn.Conv2d(4, 1, groups=4), gn.LeakyReLU(), gn.GlobalAvgPool2d(), gn.Linear(5),
        ],
        "branches": [
            gn.Concat([[gn.Conv2d(2, 1), gn.GELU()], [gn.AvgPool2d(3, stride=1, padding=1), gn.Tanh()]]),
            gn.GroupNorm(5), gn.SiLU(), gn.Dropout2d(0.3), gn.MaxPool2d(3, stride=1), gn.Flatten(),
            gn.LayerNorm(), gn.Sigmoid(), gn.Dropout(0.2), gn.Linear(5),
        ],
        "upsampling": [
            gn.Conv2d(3, 3), gn.ReLU(), gn.ConvTranspose2d(2, 2, stride=2),
            gn.Residual([gn.Conv2d(2, 3, padding=1)]), gn.ReLU(), gn.Flatten(), gn.Linear(5),
        ],
        "one at a time": [
            gn.Conv2d(1, 1), gn.ReLU(), gn.Conv2d(1, 2), gn.Flatten(), gn.Linear(6), gn.Linear(5),
        ],
    }[name]  # fmt: skip
    return gn.Sequential(layers, input_shape=(4, 4, 3), seed=3)


LOSSES = {
    "convolutions": gn.SoftmaxCrossEntropy(label_smoothing=0.1),
    "branches": gn.BinaryCrossEntropy(),
    "upsampling": gn.MeanSquaredError(),
    "one at a time": gn.SoftmaxCrossEntropy(),
}


@pytest.mark.parametrize(
    "optimizer", [gn.SGD(lr=0.05), gn.SGD(momentum=0.9), gn.Adam(), gn.RMSProp()], ids=str
)
@pytest.mark.parametrize("name", LOSSES)
def test_networks(name, optimizer):
    split = images(12, (4, 4, 3))
    recipe = Recipe(steps=3, batch=4, parts=2, loss=LOSSES[name], optimizer=optimizer)
    ours, theirs = small(name), small(name).as_dtype(np.float64)
    outcome = train(ours, "compiled", recipe, split)
    assert_alike(outcome, train(theirs, "reference", recipe, split), 1e-4)
    ours.backend, theirs.backend = "compiled", "reference"
    x = split.inputs()
    np.testing.assert_allclose(ours.scores(x), theirs.scores(x), rtol=1e-3, atol=1e-5)
