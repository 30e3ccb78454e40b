"""Load: a thousand plans recorded and dropped, and sixteen threads that predict with one model at once."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest

import glassnet as gn
from glassnet.engine import compile as compiling
from glassnet.train.example import example_step
from networks import NETWORKS, images, network

THREADS = 16


def footprint():
    """(resident KiB, open files, threads) of this process."""
    gc.collect()
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(resident.split()[1]), len(os.listdir("/proc/self/fd")), threading.active_count()


def test_a_thousand_plans_leave_nothing(monkeypatch):
    """Each is recorded, compiled, run on two threads and dropped."""
    monkeypatch.setattr(compiling, "WORTH_A_THREAD", 0)

    def plans(count):
        for seed in range(count):
            layers = [gn.Conv2d(2, 3), gn.ReLU(), gn.Flatten(), gn.Linear(3)]
            net = gn.Sequential(layers, input_shape=(6, 6, 1), seed=seed)
            step = example_step(net, net.loss, gn.SGD(), 4, threads=2)
            assert step.threads == 2
        return footprint()

    before, after = plans(100), plans(1000)
    assert after[0] - before[0] < 2048  # KiB, two for each plan
    assert after[1:] == before[1:]


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_sixteen_threads_predict_with_one_model(backend, monkeypatch):
    """Also the first prediction of all, which makes the plan that the others use."""
    monkeypatch.setattr(compiling, "WORTH_A_THREAD", 0)
    monkeypatch.setenv("GLASSNET_NUM_THREADS", "2")
    x, alone = images().inputs(), network(NETWORKS["residual"]())
    alone.backend = backend
    wanted = [alone.predict_proba(x[i : i + 5]) for i in range(THREADS)]
    net = network(NETWORKS["residual"]())
    net.backend = backend
    start, wrong = threading.Barrier(THREADS), []

    def work(first):
        start.wait()
        for i in 10 * [*range(first, THREADS), *range(first)]:
            if net.predict_proba(x[i : i + 5]).tobytes() != wanted[i].tobytes():
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    exact = network(NETWORKS["residual"]()).as_dtype(np.float64)
    for i, probabilities in enumerate(wanted):
        np.testing.assert_allclose(probabilities, exact.predict_proba(x[i : i + 5]), rtol=1e-4, atol=1e-6)
