"""System 1 on all 60,000 images in Keras, as its publication trains it: how far apart do runs end?

    pip install tensorflow-cpu && python benchmarks/keras_twin.py --seeds 8

The publication gives one run, 97.44 % on test. This is that run again for several seeds: network, first
weights, rate, batch and epochs are its own, written in Keras; data are those of conv-pool-softmax-60000.
A seed takes some four minutes.
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import fmean

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np

from glassnet.recipes import RECIPES

RECIPE = RECIPES["conv-pool-softmax-60000"]
Pair = tuple[np.ndarray, np.ndarray]
WHAT = ("loss", "val_loss", "val_accuracy")


def run(seed: int, train: Pair, test: Pair) -> list[tuple[float, ...]]:
    """Training loss, test loss and test accuracy after each epoch."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    net = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(8, 3, use_bias=False),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    rate = keras.optimizers.SGD(learning_rate=0.005)
    net.compile(rate, loss="categorical_crossentropy", metrics=["accuracy"])
    history = net.fit(*train, batch_size=1, epochs=3, validation_data=test, verbose=0).history
    return list(zip(*(history[name] for name in WHAT), strict=True))


def main() -> None:
    """A line a seed, and the mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    data = RECIPE.prepare(RECIPE.read(RECIPE.config))
    splits = [(s.inputs(), keras.utils.to_categorical(s.labels, 10)) for s in (data.train, data.test)]
    print(f"Keras {keras.__version__} on {keras.backend.backend()}", flush=True)
    accuracies = []
    for seed in range(parser.parse_args().seeds):
        begun = time.perf_counter()
        epochs = run(seed, *splits)
        accuracies.append(epochs[-1][-1])
        shown = "  ".join(f"{loss:.3f} {test:.3f} {100 * accuracy:.2f} %" for loss, test, accuracy in epochs)
        print(f"seed {seed}  {shown}  {time.perf_counter() - begun:.0f} s", flush=True)
    least, most = min(accuracies), max(accuracies)
    print(f"test accuracy: mean {100 * fmean(accuracies):.2f} %, {100 * least:.2f} to {100 * most:.2f} %")


if __name__ == "__main__":
    main()
