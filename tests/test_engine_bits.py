"""The same bits on any number of threads, run to run and process to process; on narrower vectors nearly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import glassnet as gn
from glassnet.engine import compile as compiling
from glassnet.engine import steps
from glassnet.engine.machine.cpu import host
from networks import NETWORKS, Recipe, assert_alike, images, network, train

RECIPE = Recipe(steps=5, batch=24)


@pytest.fixture
def threads(monkeypatch):
    """A function that sets the number of threads, which even the smallest network then uses."""
    monkeypatch.setattr(compiling, "WORTH_A_THREAD", 1)
    return lambda count: monkeypatch.setenv("GLASSNET_NUM_THREADS", str(count))


def after_training(layers, recipe=RECIPE):
    """All bits of five steps, with a partial batch among them, and of predictions then."""
    net = network(layers())
    outcome = train(net, "compiled", recipe)
    net.backend = "compiled"
    x = images().inputs()
    return (*outcome.bits(), net.scores(x).tobytes(), net.scores(x[:5]).tobytes())


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_same_bits_on_any_number_of_threads(layers, threads):
    results = []
    for count in (1, 2, 3, 8, 2):
        threads(count)
        results.append(after_training(layers))
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("name", ["plain", "residual", "mobile", "branches", "upsampling"])
def test_same_bits_where_there_are_more_threads_than_samples(name, batch, threads):
    """Rows of images and weights are shared then."""
    results = []
    for count in (1, 2, 3, 8):
        threads(count)
        net = network(NETWORKS[name]())
        outcome = train(net, "compiled", Recipe(steps=3, batch=batch))
        net.backend = "compiled"
        results.append((*outcome.bits(), net.scores(images().inputs()[:batch]).tobytes()))
    assert all(result == results[0] for result in results)
    twin = network(NETWORKS[name]()).as_dtype(np.float64)
    assert_alike(outcome, train(twin, "reference", Recipe(steps=3, batch=batch)), 1e-4)


def test_all_threads_take_part(threads, monkeypatch):
    """Otherwise the test above would prove nothing."""
    asked = []
    run = steps.Executor.run

    def spy(self, *args, threads=1, **options):
        asked.append(threads)
        return run(self, *args, threads=threads, **options)

    monkeypatch.setattr(steps.Executor, "run", spy)
    threads(3)
    after_training(NETWORKS["plain"])
    assert asked.count(3) >= 7


def test_a_sample_has_its_scores_in_any_batch(threads):
    """In evaluation mode nothing flows between samples. Tiles of other sizes round otherwise."""
    threads(2)
    for layers in NETWORKS.values():
        net = network(layers())
        net.backend = "compiled"
        x = images().inputs()
        whole = net.scores(x)
        alone = np.concatenate([net.scores(x[i : i + 1]) for i in range(len(x))])
        np.testing.assert_allclose(alone, whole, rtol=1e-5, atol=1e-6)


SCRIPT = """
import sys, hashlib
sys.path.insert(0, sys.argv[1])
from networks import NETWORKS
from test_engine_bits import after_training
print(hashlib.sha256(repr(after_training(NETWORKS["branches"])).encode()).hexdigest())
"""


def test_same_bits_in_a_process_that_compiles_and_in_one_that_reads_the_cache(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
    environment = os.environ | {"GLASSNET_CACHE": str(tmp_path)}
    results = {
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(results) == 1 and len(results.pop()) == 65
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize("lanes", [4, 8])
@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_narrower_vectors_agree(layers, lanes, monkeypatch):
    """AVX2, or SSE, forced on whatever runs the tests."""
    net, twin = network(layers()), network(layers()).as_dtype(np.float64)
    asked = []

    def narrow(name):
        asked.append(lanes)
        return host().limited(lanes)

    for place in ("glassnet.train.compiled.processor", "glassnet.engine.machine.cpu.processor"):
        monkeypatch.setattr(place, narrow)
    outcome = train(net, "compiled", Recipe(steps=4))
    assert asked
    assert_alike(outcome, train(twin, "reference", Recipe(steps=4)), 1e-5)


@pytest.mark.parametrize("optimizer", [gn.SGD(lr=0.05, momentum=0.9), gn.Adam(), gn.RMSProp()], ids=str)
def test_optimizers_have_the_same_bits_on_any_number_of_threads(optimizer, threads):
    results = set()
    for count in (1, 3):
        threads(count)
        results.add(after_training(NETWORKS["vectors"], Recipe(steps=3, optimizer=optimizer)))
    assert len(results) == 1
