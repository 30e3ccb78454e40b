"""PyTorch Lightning, for compare.py: ModelCheckpoint, and Trainer.fit(ckpt_path="last") to resume."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import lightning
import torch
from contest import BATCH, DROPOUT, EPOCHS, EVERY, LR, MOMENTUM, SEED, Steps, Trap, digest, digits
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Network(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(DROPOUT)),
            *(nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(64, 10)),
        )

    def training_step(self, batch, index):
        self.log("global_step", float(self.global_step))
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=LR, momentum=MOMENTUM)


class Hears(Callback):
    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer, *arguments):
        self.steps(trainer.global_step)


class RandomState(Callback):
    """What is missing in a checkpoint: the state of torch's generator, which dropout draws from."""

    kept = None

    def state_dict(self):
        return {"state": torch.get_rng_state()}

    def load_state_dict(self, state):
        self.kept = state["state"]

    def on_train_batch_start(self, *arguments):
        if self.kept is not None:
            torch.set_rng_state(self.kept)
            self.kept = None


class Lightning:
    """stateful: with torchdata's StatefulDataLoader. random_state: with RandomState above."""

    suffix = ".ckpt"

    def __init__(self, *, stateful: bool = False, random_state: bool = False) -> None:
        self.stateful, self.random_state = stateful, random_state

    def version(self):
        return f"Lightning {lightning.__version__} on PyTorch {torch.__version__}"

    def train(self, folder: Path, steps: Steps) -> str:
        lightning.seed_everything(SEED, workers=True, verbose=False)
        images, labels, _ = digits()
        data = TensorDataset(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels))
        loader = DataLoader
        if self.stateful:
            from torchdata.stateful_dataloader import StatefulDataLoader as loader
        net, keep = Network(), {"monitor": "global_step", "mode": "max", "save_top_k": 2, "save_last": True}
        callbacks = [Hears(steps), ModelCheckpoint(folder, every_n_train_steps=EVERY, **keep)]
        trainer = self.trainer(folder, callbacks + [RandomState()] * self.random_state)
        trainer.fit(net, loader(data, BATCH, shuffle=True), ckpt_path="last")
        return digest(tensor.numpy() for tensor in net.state_dict().values())

    def trainer(self, folder: Path, callbacks: list[Callback]) -> lightning.Trainer:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        return lightning.Trainer(
            max_epochs=EPOCHS,
            deterministic=True,
            accelerator="cpu",
            callbacks=callbacks,
            default_root_dir=folder,
            **quiet,
        )

    def newest(self, folder):
        return [folder / "last.ckpt"]

    def restore(self, folder):
        """As Trainer.fit does: a network, and what the optimiser keeps of each tensor."""
        content, net = torch.load(folder / "last.ckpt"), Network()
        net.load_state_dict(content["state_dict"])
        (optimizer,) = content["optimizer_states"]
        momenta = [state["momentum_buffer"] for state in optimizer["state"].values()]
        return digest(tensor.numpy() for tensor in [*net.state_dict().values(), *momenta])

    def save(self, path):
        trainer = self.trainer(path.parent, [])
        trainer.strategy.connect(Network())
        trainer.save_checkpoint(path, weights_only=True)

    def load(self, path):
        net = Network.load_from_checkpoint(path).eval()
        with torch.inference_mode():
            scores = net.layers(torch.from_numpy(digits()[2].transpose(0, 3, 1, 2).copy())).numpy()
        return digest([*(tensor.numpy() for tensor in net.state_dict().values()), scores])

    def hostile(self, folder: Path, trap: Trap) -> dict[str, Path]:
        whole = folder / "whole.ckpt"
        self.save(whole)
        content = torch.load(whole)
        pickled, named = folder / "pickled.ckpt", folder / "named.ckpt"
        torch.save(content | {"extra": trap}, pickled)
        maker = {"_instantiator": "os.mkdir", "path": str(trap.marker)}
        torch.save(content | {"hyper_parameters": maker}, named)
        return {"a pickle": pickled, "a maker that names os.mkdir": named}
