"""glassnet, for compare.py."""

from __future__ import annotations

import pickle
from pathlib import Path

from contest import BATCH, DROPOUT, EPOCHS, EVERY, LR, MOMENTUM, SEED, Steps, Trap, digest, digits

import glassnet as gn
from glassnet.io.tensors import pack, read
from glassnet.runs.checkpoint import Checkpoints
from glassnet.train import Callback, resume


def network() -> gn.Sequential:
    layers = [
        *(gn.Conv2d(16, 3, padding="same"), gn.ReLU(), gn.MaxPool2d(2), gn.Dropout(DROPOUT)),
        *(gn.Flatten(), gn.Linear(64), gn.ReLU(), gn.Dropout(DROPOUT), gn.Linear(10)),
    ]
    return gn.Sequential(layers, input_shape=(8, 8, 1), seed=SEED)


class Hears(Callback):
    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def on_step(self, training, record):
        self.steps(record.step)


class Glassnet:
    suffix = ".gnet"

    def version(self):
        return f"glassnet {gn.__version__}"

    def train(self, folder: Path, steps: Steps) -> str:
        callbacks = [Hears(steps)]
        if (folder / "checkpoints").exists():
            net, _ = resume(folder, callbacks=callbacks)
        else:
            net = network()
            gn.fit(
                net,
                gn.data.load("digits"),
                epochs=EPOCHS,
                batch_size=BATCH,
                optimizer=gn.SGD(lr=LR, momentum=MOMENTUM),
                seed=SEED,
                val_fraction=0.0,
                run_dir=folder,
                checkpoint_steps=EVERY,
                callbacks=callbacks,
            )
        return digest(net.store.tensors().values())

    def newest(self, folder):
        manifest = max((folder / "checkpoints").glob("*.json"))
        return [manifest.with_suffix(".safetensors"), manifest]

    def restore(self, folder):
        return digest(Checkpoints(folder / "checkpoints").latest()[0].values())

    def save(self, path):
        network().save(path)

    def load(self, path):
        net = gn.load(path)
        return digest([*net.store.tensors().values(), net.scores(digits()[2])])

    def hostile(self, folder: Path, trap: Trap) -> dict[str, Path]:
        pickled, named = folder / "pickled.gnet", folder / "named.gnet"
        pickled.write_bytes(pickle.dumps(trap))
        network().save(named)
        tensors, document = read(named)
        document["layers"][0] = {"type": "os.mkdir", "settings": {"path": str(trap.marker)}}
        named.write_bytes(pack(tensors, document))  # under a right checksum
        return {"a pickle": pickled, "a layer that names os.mkdir": named}
