"""Both programs of deep-ml 130 against nested loops, on 1000 images of 28x28 and 10 classes.

    python benchmarks/loops.py

The loops are those of tests/naive.py, over NumPy arrays. They are timed on a few images and multiplied: each
costs them the same. All times are of one thread; weights after those few images are compared first. Images in
float32 run on the compiled engine, where a call sets up a plan and then runs its epoch, which is also given
alone; in float64 the same program runs on the reference backend.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ["GLASSNET_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np

from glassnet.recipes import train_cnn, train_simple_cnn_with_backprop
from glassnet.recipes.deep_ml_130 import seeded
from naive_deep_ml import official_by_loops, write_up_by_loops

FEW, ALL, SIDE, CLASSES, RATE = 2, 1000, 28, 10, 0.01
MORE = 20  # epochs, beyond the first


def seconds(run: Callable[[], object], times: int = 3) -> float:
    """The least of this thread's."""
    taken = []
    for _ in range(times):
        start = time.thread_time()
        run()
        taken.append(time.thread_time() - start)
    return min(taken)


def official(x: np.ndarray, y: np.ndarray, epochs: int) -> tuple[np.ndarray, ...]:
    with seeded(0):
        return train_simple_cnn_with_backprop(x[:, 0], y, epochs, RATE)


def official_loops(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    return official_by_loops(np.random.RandomState(0), x[:, 0], y, 1, RATE, 3, 1)


def write_up(x: np.ndarray, y: np.ndarray, epochs: int) -> tuple[np.ndarray, ...]:
    with seeded(0):
        return train_cnn(x, y, epochs, RATE)[:4]


def write_up_loops(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    return write_up_by_loops(np.random.RandomState(0), x, y, 1, RATE)[:4]


def report(name: str, ours: Callable[..., tuple], loops: Callable[..., tuple]) -> None:
    """One program, in both precisions."""
    generator = np.random.default_rng(0)
    x, y = generator.random((ALL, 1, SIDE, SIDE)), np.eye(CLASSES)[generator.integers(0, CLASSES, ALL)]
    expected = loops(x[:FEW], y[:FEW])
    slow = seconds(partial(loops, x[:FEW], y[:FEW]), times=1) * ALL / FEW
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        for got, wanted in zip(ours(x[:FEW].astype(dtype), y[:FEW], 1), expected, strict=True):
            np.testing.assert_allclose(got, wanted, atol=tolerance)
        images = x.astype(dtype)
        call = seconds(partial(ours, images, y, 1))
        epoch = (seconds(partial(ours, images, y, 1 + MORE)) - call) / MORE
        print(
            f"{name:9} {dtype.__name__:8} {slow:8.1f} s {1e3 * call:9.2f} ms {slow / call:6.0f} "
            f"{1e3 * epoch:9.2f} ms {slow / epoch:6.0f}"
        )


def main() -> None:
    print("program   precision     loops      a call  ratio     an epoch  ratio")
    report("official", official, official_loops)
    report("write-up", write_up, write_up_loops)


if __name__ == "__main__":
    main()
