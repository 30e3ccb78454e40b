"""Faults in a run: an error in a layer, too little memory, clocks that jump, interrupted compiling."""

from __future__ import annotations

import ast
import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import glassnet as gn
from glassnet.data import Dataset, load
from glassnet.engine import compile as compiling
from glassnet.train import Callback

DIGITS = load("digits")
SOME = Dataset("some digits", DIGITS.train[:200])
PACKAGE = Path(gn.__file__).parent


def network(*inside):
    layers = [gn.Conv2d(8, 3), gn.ReLU(), *inside, gn.Flatten(), gn.Linear(10)]
    return gn.Sequential(layers, input_shape=(8, 8, 1))


def in_a_process(script, *arguments, **environment):
    """(exit status, lines printed, lines of errors) of a Python program."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


# An error in a layer -----------------------------------------------------------------------------------


class Fragile(gn.Layer):
    """Doubles its input in NumPy, which the engine calls from the middle of a step; breaks when told."""

    def __init__(self, breaks: str = "", step: int = 0) -> None:
        self.breaks, self.step = breaks, step

    def forward(self, ops, x, train):
        return 2 * self.checked(ops, np.asarray(x), "forward"), None

    def backward(self, ops, dy, saved, *, input_grad=True):
        return 2 * self.checked(ops, np.asarray(dy), "backward"), {}

    def checked(self, ops, x, which):
        if self.breaks == which and ops.step == self.step:
            raise OSError("The camera is unplugged.")
        return x


class Last(Callback):
    """The tensors after the last whole step."""

    def on_step(self, training, record):
        self.step, self.tensors = record.step, training.net.store.snapshot()


def same(net, tensors):
    return all(tensor.tobytes() == tensors[name].tobytes() for name, tensor in net.store.tensors().items())


@pytest.mark.parametrize("which", ["forward", "backward"])
@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_an_error_in_a_layer(which, backend, monkeypatch):
    """It is named, no half step is taken, the workers end, and the next run is as if nothing had happened."""
    monkeypatch.setattr(compiling, "WORTH_A_THREAD", 0)
    monkeypatch.setenv("GLASSNET_NUM_THREADS", "3")
    settings = {"epochs": 2, "backend": backend, "val_fraction": 0}
    before, last = threading.active_count(), Last()
    whole, broken, again = network(Fragile()), network(Fragile(which, 7)), network(Fragile())
    gn.fit(whole, SOME, **settings)
    try:
        gn.fit(broken, SOME, callbacks=[last], **settings)
    except OSError as error:
        assert str(error) == "The camera is unplugged."
        assert error.__notes__ == [f"It was raised in the {which} pass of fragile_1."]
    assert last.step == 7 and same(broken, last.tensors)
    gn.fit(again, SOME, **settings)
    assert same(again, whole.store.tensors())
    del whole, broken, again
    gc.collect()
    assert threading.active_count() == before


# Memory ------------------------------------------------------------------------------------------------

MEMORY = """
import resource, sys
import glassnet as gn
from glassnet.data import Dataset, load
from glassnet.errors import GlassnetError

backend, spare, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
digits = load("digits")
some = Dataset("some digits", digits.train[:300])

def fit(filters, batch_size, **settings):
    layers = [gn.Conv2d(filters, 3, padding="same"), gn.BatchNorm2d(), gn.ReLU(), gn.Flatten(), gn.Linear(10)]
    net = gn.Sequential(layers, input_shape=(8, 8, 1))
    gn.fit(net, some, epochs=1, batch_size=batch_size, backend=backend, val_fraction=0, **settings)
    return net.store.values.tobytes()

first = fit(8, 16)
with open("/proc/self/status") as status:
    size = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (size + spare, size + spare))
try:
    fit(900, 270, run_dir=folder)
except GlassnetError as error:
    print(error)
print(fit(8, 16) == first)
"""


def test_memory_that_a_limit_denies_is_named_and_nothing_is_lost(tmp_path):
    """The batch that normalisation keeps takes 270 x 8 x 8 x 900 activations several times."""
    status, lines, errors = in_a_process(MEMORY, "compiled", 50 << 20, tmp_path / "run")
    assert (status, errors) == (0, "")
    message, again = lines
    start, end = "The activations of 270 samples need ", " bytes, more than there are. Use a smaller "
    assert message.startswith(start) and end in message
    assert int(message.removeprefix(start).split()[0]) > 2 * 270 * 8 * 8 * 900 * 4
    assert again == "True"
    assert not (tmp_path / "run").exists()


# Clocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_a_clock_that_jumps_changes_nothing(backend, monkeypatch, tmp_path):
    """The time of day goes back an hour at every look."""
    usual = network(gn.Dropout(0.2))
    gn.fit(usual, SOME, epochs=2, backend=backend)
    now = [time.time()]

    def jumping():
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", jumping)
    net = network(gn.Dropout(0.2))
    run = gn.fit(net, SOME, epochs=2, backend=backend, run_dir=tmp_path / "run")
    assert same(net, usual.store.tensors())
    assert 0 < run.seconds < 600
    assert all(record.seconds > 0 and record.images_per_second > 0 for record in run.history)


def test_training_asks_no_clock_that_can_jump():
    """time.time and datetime.now are set by people and servers; perf_counter and monotonic by nobody."""
    asked = [
        f"{path.name}:{node.lineno}"
        for folder in ("train", "engine", "plan", "ops", "layers")
        for path in (PACKAGE / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and ast.unparse(node) in {"time.time", "datetime.now", "time.time_ns"}
    ]
    assert not asked


# Compiling ---------------------------------------------------------------------------------------------

COMPILING = """
import hashlib, logging, signal, sys
import glassnet as gn
from glassnet.data import Dataset, load

class Interrupt(logging.Handler):
    def emit(self, record):
        if "Compiling" in record.getMessage():
            seen.append(record.getMessage())
            if len(seen) == int(sys.argv[1]):
                signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))

seen = []
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
log = logging.getLogger("glassnet.engine.machine.cache")
log.setLevel(logging.INFO)
log.addHandler(Interrupt())
some = Dataset("some digits", load("digits").train[:200])

def fit():
    layers = [gn.Conv2d(8, 3), gn.ReLU(), gn.Flatten(), gn.Linear(10)]
    net = gn.Sequential(layers, input_shape=(8, 8, 1))
    gn.fit(net, some, epochs=1, backend="compiled")
    return net

try:
    fit()
except KeyboardInterrupt:
    print("interrupted", len(seen))
print(hashlib.sha256(fit().store.values.tobytes()).hexdigest())
"""


def test_ctrl_c_while_compiling(tmp_path):
    """The same process goes on compiling, as does the next one, with nothing broken left in the cache."""
    _, (bits,), _ = in_a_process(COMPILING, 0, 0)
    for number, delay in ((1, 1e-6), (4, 0.2)):
        folder = tmp_path / str(number)
        status, lines, errors = in_a_process(COMPILING, number, delay, GLASSNET_CACHE=str(folder))
        assert (status, errors) == (0, "")
        assert lines[0].startswith("interrupted ") and lines[1] == bits
        assert [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".o"] == []
        assert in_a_process(COMPILING, 0, 0, GLASSNET_CACHE=str(folder))[1] == [bits]
