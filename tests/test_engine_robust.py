"""The engine when something goes wrong: NaN, interrupts, forks, threads, and memory that is not there."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import glassnet as gn
from glassnet.data import Split
from glassnet.engine import compile as compiling
from glassnet.engine.machine.arena import PAGE, arena
from glassnet.engine.steps import thread_count
from glassnet.errors import NotFiniteError, OutOfMemoryError
from glassnet.preprocessing import Preprocessing
from glassnet.train.batch import Part
from glassnet.train.compiled import CompiledStepper
from glassnet.train.stepper import Change, Clip, make_stepper
from messages import message_of
from networks import NETWORKS, Recipe, images, network, train

LOSS, SGD = gn.SoftmaxCrossEntropy(), gn.SGD(lr=0.05)


def data(count=24):
    split = images(count)
    return gn.data.Dataset("noise", split)


# NaN ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "residual", "mobile", "branches", "upsampling", "vectors"])
def test_a_nan_weight_reaches_the_norm_and_no_other_weight(name):
    """Every operation on the way keeps it: ReLU, pooling, normalisation, the loss."""
    net = network(NETWORKS[name]())
    first = next(slot for _, slot in net.store.learning())
    first.tensor.value.flat[0] = np.nan
    before = net.store.snapshot()
    stepper = CompiledStepper(net, images(), LOSS, SGD, 0, 10)
    stepper.accumulate(Part(*next(Recipe().batches(images(), 5))[0]), step=0)
    assert not np.isfinite(stepper.guard().loss) and not np.isfinite(stepper.guard().gradient_norm)
    after = net.store.snapshot()
    assert all(np.array_equal(after[k], before[k], equal_nan=True) for k in before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_training_stops_and_names_the_place(value, backend):
    net = network(NETWORKS["plain"]())
    net["conv2d_2"].weight[1, 1, 0, 0] = value
    before = net.store.snapshot()
    message = message_of(NotFiniteError, gn.fit, net, data(), backend=backend, val_fraction=0, batch_size=10)
    assert "first appears in the forward pass of conv2d_2, whose weight held it before." in message
    after = net.store.snapshot()
    assert all(np.array_equal(after[k], before[k], equal_nan=True) for k in before)


@pytest.mark.parametrize("window", [2, 3])
def test_predictions_keep_nan(window):
    layers = [gn.ReLU(), gn.MaxPool2d(window), gn.Flatten(), gn.Linear(5)]
    net = network(layers)
    net.backend = "compiled"
    x = np.zeros((3, 8, 7, 3), np.float32)
    x[1, 3, 2, 1] = np.nan
    assert np.isnan(net.predictor()(x)).all(axis=1).tolist() == [False, True, False]


def test_denormal_weights_cost_nothing(monkeypatch):
    """Flushed in the workers; otherwise a product with them may take a hundred times as long."""
    monkeypatch.setenv("GLASSNET_NUM_THREADS", "1")
    net = network([gn.Conv2d(16, 3, padding="same"), gn.Conv2d(16, 3), gn.Flatten(), gn.Linear(5)])
    net.backend, x, usual = "compiled", images(200).inputs(), net.store.values.copy()

    def seconds(scale):
        net.store.values[:] = usual * np.float32(scale)
        net.scores(x)
        start = time.perf_counter()
        net.scores(x)
        return time.perf_counter() - start

    for _ in range(20):
        rounds = [(seconds(1e-39), seconds(1)) for _ in range(9)]
        if min(tiny for tiny, _ in rounds) < 1.5 * min(full for _, full in rounds):
            return
    pytest.fail("Denormal weights slow the network down by more than 1.5.")


# Threads, processes, interrupts ------------------------------------------------------------------------


@pytest.mark.parametrize(("named", "threads"), [("3", 3), ("\u00b2", None), ("0", None), ("", None)])
def test_threads_are_a_number_or_all_processors(monkeypatch, named, threads):
    """A superscript two is a digit to Python, but no number."""
    monkeypatch.delenv("GLASSNET_NUM_THREADS", raising=False)
    usual = thread_count()
    monkeypatch.setenv("GLASSNET_NUM_THREADS", named)
    assert thread_count() == (threads or usual)


def test_networks_train_at_once_in_several_threads(monkeypatch):
    monkeypatch.setattr(compiling, "WORTH_A_THREAD", 1)
    monkeypatch.setenv("GLASSNET_NUM_THREADS", "2")
    names = ["plain", "residual", "branches"]
    alone = {name: train(network(NETWORKS[name]()), "compiled").bits() for name in names}
    together = {}

    def work(name):
        together[name] = train(network(NETWORKS[name]()), "compiled").bits()

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_one_network_predicts_for_several_threads():
    net, x = network(NETWORKS["plain"]()), images().inputs()
    net.backend = "compiled"
    wanted, wrong = [net.scores(x[i : i + 3]) for i in range(20)], []

    def work():
        for i in 20 * list(range(20)):
            if not np.array_equal(net.scores(x[i : i + 3]), wanted[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work) for _ in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


FORK = """
import os, sys
sys.path.insert(0, sys.argv[1])
from glassnet.engine import compile as compiling
compiling.WORTH_A_THREAD = 1
from networks import NETWORKS, images, network, train
net, x = network(NETWORKS["plain"]()), images().inputs()
net.backend = "compiled"
before = net.scores(x).tobytes()
twin = network(NETWORKS["plain"]())
bits = train(twin, "compiled").bits()
child = os.fork()
assert net.scores(x).tobytes() == before
assert train(network(NETWORKS["plain"]()), "compiled").bits() == bits
if child:
    assert os.waitpid(child, 0)[1] == 0
print("done")
"""


def test_a_forked_process_predicts_and_trains():
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(Path(__file__).parent)]
    environment = os.environ | {"GLASSNET_NUM_THREADS": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "done\ndone\n")


class Snapshots(gn.train.Callback):
    """The weights after each step."""

    def __init__(self):
        self.taken = {}

    def on_step(self, training, record):
        self.taken[record.step] = training.net.store.snapshot()


@pytest.mark.parametrize("delay", [0.02, 0.05, 0.08])
def test_ctrl_c_leaves_the_state_of_a_whole_step(delay, monkeypatch):
    """Whatever the signal meets, weights and running state are those of a step of an undisturbed run."""
    monkeypatch.setattr(compiling, "WORTH_A_THREAD", 1)
    monkeypatch.setenv("GLASSNET_NUM_THREADS", "2")
    settings = {"val_fraction": 0, "batch_size": 2, "backend": "compiled", "epochs": 60}
    undisturbed = Snapshots()
    gn.fit(network(NETWORKS["residual"]()), data(), callbacks=[undisturbed], **settings)
    net = network(NETWORKS["residual"]())
    undisturbed.taken[0] = net.store.snapshot()
    previous = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        with pytest.raises(KeyboardInterrupt):
            for _ in range(100):
                net = network(NETWORKS["residual"]())
                gn.fit(net, data(), **settings)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    now = net.store.snapshot()
    assert any(all(now[k].tobytes() == then[k].tobytes() for k in now) for then in undisturbed.taken.values())


def test_ten_thousand_steps_take_no_memory():
    net, split = network(NETWORKS["branches"]()), images()
    stepper = CompiledStepper(net, split, LOSS, SGD, 0, 10)
    part = Part(*next(Recipe().batches(split, 5))[0])
    rates = {name: SGD.scalars(slot, 1e-6, 1) for name, slot in net.store.learning()}

    def run(count):
        for step in range(count):
            stepper.accumulate(part, step=step)
            stepper.guard()
            stepper.update(Change(rates, Clip(norm=1.0)))
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = run(300)
    assert run(10_000) - before < 1024  # kilobytes


def test_memory_that_cannot_be_had_is_named():
    """Batch normalisation keeps the whole batch: 2000 x 1000 x 4 activations of each sample."""
    layers = [gn.Conv2d(4, 1), gn.BatchNorm2d(), gn.GlobalAvgPool2d(), gn.Linear(2)]
    net = gn.Sequential(layers, input_shape=(2000, 1000, 1))
    grey, pixels = Preprocessing.identity("L"), np.zeros((1, 2000, 1000, 1), np.uint8)
    split = Split(pixels, np.zeros(1, np.int64), ("a", "b"), grey)
    message = message_of(OutOfMemoryError, make_stepper, "compiled", net, split, LOSS, SGD, 0, 10**7)
    before, needed, after = re.split(r"(\d+) bytes", message)
    assert before == "The activations of 10000000 samples need "
    assert after == ", more than there are. Use a smaller batch, or cut it in more parts with accumulate."
    assert int(needed) >= 10**7 * 2000 * 1000 * 4 * 4


def test_a_kernel_without_large_pages_gives_usual_ones(monkeypatch):
    class Mapping(mmap.mmap):
        def madvise(self, *arguments):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", Mapping)
    memory = arena(3 * PAGE)
    memory[:] = 1
    assert memory.size == 3 * PAGE and memory.ctypes.data % 64 == 0
