"""Keras with its torch backend, for compare.py: checkpoints by BackupAndRestore, which also resumes."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import torch
from contest import BATCH, DROPOUT, EPOCHS, EVERY, LR, MOMENTUM, SEED, Steps, Trap, digest, digits
from keras import layers


def network() -> keras.Model:
    keras.utils.set_random_seed(SEED)
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *(layers.Conv2D(16, 3, padding="same", activation="relu"), layers.MaxPooling2D()),
            *(layers.Dropout(DROPOUT), layers.Flatten(), layers.Dense(64, activation="relu")),
            *(layers.Dropout(DROPOUT), layers.Dense(10)),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.SGD(LR, MOMENTUM), loss)
    return net


def backup(folder: Path) -> keras.callbacks.Callback:
    return keras.callbacks.BackupAndRestore(folder, save_freq=EVERY, double_checkpoint=True)


class Hears(keras.callbacks.Callback):
    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        self.steps(int(self.model.optimizer.iterations))


class Keras:
    suffix = ".keras"

    def version(self):
        return f"Keras {keras.__version__} on PyTorch {torch.__version__}"

    def train(self, folder: Path, steps: Steps) -> str:
        images, labels, _ = digits()
        net = network()
        callbacks = [Hears(steps), backup(folder)]
        net.fit(images, labels, BATCH, EPOCHS, callbacks=callbacks, verbose=0)
        return digest(net.get_weights())

    def newest(self, folder):
        return [folder / "latest.weights.h5", folder / "training_metadata.json"]

    def restore(self, folder):
        net, callback = network(), backup(folder)
        callback.set_model(net)
        callback.on_train_begin()
        return digest([*net.get_weights(), *(variable.numpy() for variable in net.optimizer.variables)])

    def save(self, path):
        network().save(path)

    def load(self, path):
        net = keras.saving.load_model(path)
        return digest([*net.get_weights(), net.predict(digits()[2], verbose=0)])

    def hostile(self, folder: Path, trap: Trap) -> dict[str, Path]:
        marker = str(trap.marker)

        def lambda_layer() -> keras.Model:
            return keras.Sequential(
                [keras.Input((8, 8, 1)), layers.Lambda(lambda x, m=marker: (__import__("os").mkdir(m), x)[1])]
            )

        module = torch.nn.Identity()
        module.extra = trap
        files = {}
        for name, make in (
            ("lambda.keras", lambda_layer),
            ("lambda.h5", lambda_layer),
            ("module.keras", lambda: keras.Sequential([layers.TorchModuleWrapper(module)])),
        ):
            net = make()
            if trap.marker.exists():
                trap.marker.rmdir()  # the layer was called to make the model
            net.save(folder / name)
            files[name] = folder / name
        return files
