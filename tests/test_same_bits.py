"""Whole trainings end in the same bits: run to run, on any number of threads, whatever is in the cache.

What may differ is what another processor computes with: its vectors. There results agree nearly.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import glassnet as gn
from glassnet.data import Dataset, load
from glassnet.engine import compile as compiling
from glassnet.engine.machine.cpu import host

DIGITS = load("digits")
SOME = Dataset("some digits", DIGITS.train[:300], test=DIGITS.test[:100])
SETTINGS = {
    "epochs": 3,
    "batch_size": 24,
    "seed": 4,
    "optimizer": gn.SGD(lr=0.05, momentum=0.9, weight_decay=5e-4),
}


def trained(backend, **settings):
    """(network, run) of a training with dropout, batch normalisation, momentum and a partial batch."""
    layers = [
        *(gn.Conv2d(8, 3, padding="same", bias=False), gn.BatchNorm2d(), gn.ReLU(), gn.Dropout2d(0.1)),
        *(gn.Conv2d(12, 3), gn.ReLU(), gn.MaxPool2d(2), gn.Flatten()),
        *(gn.Linear(128), gn.ReLU(), gn.Dropout(0.5), gn.Linear(10)),
    ]
    net = gn.Sequential(layers, input_shape=(8, 8, 1), seed=7)
    return net, gn.fit(net, SOME, backend=backend, **SETTINGS | settings)


def fingerprint(backend, **settings):
    """sha256 of all tensors, of every epoch's figures and of the scores on test images."""
    net, run = trained(backend, **settings)
    digest = hashlib.sha256()
    for name, tensor in sorted(net.store.tensors().items()):
        digest.update(name.encode() + tensor.tobytes())
    figures = [(r.step, r.loss, r.accuracy, r.val_loss, r.val_accuracy) for r in run.history]
    digest.update(repr((figures, run.test.loss)).encode() + net.scores(SOME.test.images).tobytes())
    return digest.hexdigest()


def in_a_process(backend, **environment):
    """The fingerprint that a fresh process finds."""
    script = f"from test_same_bits import fingerprint; print(fingerprint({backend!r}))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def threads(monkeypatch):
    """A function that sets the number of threads, which even a small network then uses."""
    monkeypatch.setattr(compiling, "WORTH_A_THREAD", 0)
    return lambda count: monkeypatch.setenv("GLASSNET_NUM_THREADS", str(count))


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_run_to_run_and_no_other(backend):
    first = fingerprint(backend)
    assert fingerprint(backend) == first
    assert fingerprint(backend, seed=5) != first


@pytest.mark.parametrize(
    "settings", [{}, {"accumulate": 3}, {"optimizer": gn.Adam(), "clip_norm": 0.5}], ids=str
)
def test_one_to_eight_threads(settings, threads):
    found = set()
    for count in range(1, 9):
        threads(count)
        found.add(fingerprint("compiled", **settings))
    assert len(found) == 1


def test_kernels_that_are_fresh_and_kernels_from_the_cache(tmp_path):
    here = fingerprint("compiled")
    assert in_a_process("compiled", GLASSNET_CACHE=str(tmp_path)) == here
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.o")}
    assert in_a_process("compiled", GLASSNET_CACHE=str(tmp_path)) == here
    assert kept and {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.o")} == kept


def test_the_reference_whatever_the_threads_of_blas():
    here = fingerprint("reference")
    for count in ("1", "2", "8"):
        settings = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), count)
        assert in_a_process("reference", **settings) == here
    for limit in (1, 2):
        with threadpool_limits(limit):
            assert fingerprint("reference") == here


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_other_vectors_give_nearly_the_same_network(lanes, monkeypatch):
    """SSE, AVX2 and AVX-512, as far as this machine has them, against the reference."""
    asked = []

    def narrow(name):
        asked.append(lanes)
        return host().limited(lanes)

    for place in ("glassnet.train.compiled.processor", "glassnet.engine.machine.cpu.processor"):
        monkeypatch.setattr(place, narrow)
    net, run = trained("compiled")
    exact, exact_run = trained("reference")
    assert asked
    for mine, theirs in zip(run.history, exact_run.history, strict=True):
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-3)
        assert mine.val_loss == pytest.approx(theirs.val_loss, rel=1e-3)
    np.testing.assert_allclose(
        net.predict_proba(SOME.test.images), exact.predict_proba(SOME.test.images), atol=1e-3
    )
