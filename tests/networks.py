"""Networks that between them hold every layer, and a way to train each on either backend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import glassnet as gn
from glassnet.data import Split
from glassnet.losses import CrossEntropy, one_hot
from glassnet.preprocessing import Preprocessing
from glassnet.train.batch import Part
from glassnet.train.stepper import Change, Clip, make_stepper

CLASSES = tuple("abcde")
LOSS, OPTIMIZER, NO_CLIP = gn.SoftmaxCrossEntropy(), gn.SGD(lr=0.05, momentum=0.9), Clip()


def plain():
    return [
        gn.Conv2d(8, 3, padding="same"), gn.ReLU(), gn.Conv2d(10, 3), gn.ReLU(), gn.MaxPool2d(2),
        gn.Flatten(), gn.Linear(16), gn.ReLU(), gn.Linear(5),
    ]  # fmt: skip


def residual():
    """Batch norm inside and around shortcuts, strides, and a ReLU that two branches read."""

    def block(filters, stride):
        main = [gn.Conv2d(filters, 3, stride=stride, padding="same", bias=False), gn.BatchNorm2d(), gn.ReLU(),
                gn.Conv2d(filters, 3, padding="same", bias=False), gn.BatchNorm2d()]  # fmt: skip
        shortcut = [gn.Conv2d(filters, 1, stride=stride, bias=False), gn.BatchNorm2d()]
        return [gn.Residual(main, shortcut if stride > 1 else None), gn.ReLU()]

    stem = [gn.Conv2d(8, 3, padding="same", bias=False), gn.BatchNorm2d(), gn.ReLU()]
    return [*stem, *block(8, 1), *block(12, 2), gn.GlobalAvgPool2d(), gn.Linear(5)]


def mobile():
    return [
        gn.Conv2d(8, 3, stride=2, padding="same"), gn.BatchNorm2d(), gn.SiLU(),
        gn.Conv2d(8, 3, padding="same", groups=8), gn.BatchNorm2d(), gn.ReLU(),
        gn.Conv2d(16, 1), gn.GELU(), gn.Conv2d(32, 3, padding=1, groups=16), gn.LeakyReLU(0.1),
        gn.AvgPool2d(3, stride=2, padding=1, count_padding=False), gn.Flatten(), gn.Linear(5),
    ]  # fmt: skip


def branches():
    """Concatenation, group and layer norm, dropout of values and of channels, overlapping windows."""
    left = [gn.Conv2d(6, 1), gn.GroupNorm(3), gn.Tanh(), gn.Dropout2d(0.3)]
    right = [
        gn.MaxPool2d(3, stride=1, padding=1),
        gn.Conv2d(4, (1, 3), padding="same", dilation=2),
        gn.LayerNorm(),
    ]
    return [
        gn.Concat([left, right, [gn.AvgPool2d(3, stride=1, padding=1)]]), gn.Dropout(0.2),
        gn.MaxPool2d(3, stride=2), gn.LayerNorm(axes=3), gn.Sigmoid(), gn.Flatten(), gn.Dropout(0.5),
        gn.Linear(12), gn.LayerNorm(), gn.Linear(5),
    ]  # fmt: skip


def upsampling():
    return [
        gn.Conv2d(6, 3, stride=2), gn.ReLU(), gn.ConvTranspose2d(4, 3, stride=2, output_padding=1), gn.ReLU(),
        gn.ConvTranspose2d(4, 2, groups=2, bias=False), gn.Conv2d(3, 3, padding="same"), gn.ReLU(),
        gn.MaxPool2d(2), gn.Flatten(), gn.Linear(5),
    ]  # fmt: skip


def vectors():
    """Large and small linear layers, and batch norm of vectors."""
    return [
        gn.Flatten(),
        gn.Linear(700),
        gn.BatchNorm2d(),
        gn.ReLU(),
        gn.Linear(300),
        gn.ReLU(),
        gn.Linear(5),
    ]


def flattened_branches():
    """A gradient that passes Flatten to a ReLU, while the branch beside still reads it."""
    main = [gn.Conv2d(4, 3, padding="same"), gn.ReLU(), gn.Flatten()]
    beside = [gn.Flatten(), gn.Linear(8 * 7 * 4)]
    return [gn.Residual(main, beside), gn.Linear(5)]


NETWORKS = {
    "plain": plain,
    "residual": residual,
    "mobile": mobile,
    "branches": branches,
    "upsampling": upsampling,
    "vectors": vectors,
    "flattened branches": flattened_branches,
}


def network(layers, seed=3):
    return gn.Sequential(layers, input_shape=(8, 7, 3), seed=seed)


def images(count=24, size=(8, 7, 3), seed=1):
    """Labelled noise, in bytes."""
    generator = np.random.default_rng(seed)
    feed = Preprocessing(None, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), "RGB")
    pixels = generator.integers(0, 256, (count, *size), np.uint8)
    return Split(pixels, generator.integers(0, len(CLASSES), count), CLASSES, feed)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: a step takes the next `batch` images, every fourth only seven."""

    steps: int = 20
    batch: int = 10
    parts: int = 1
    loss: gn.Loss = LOSS
    optimizer: gn.Optimizer = OPTIMIZER
    clip: Clip = NO_CLIP
    sample_weight: np.ndarray | None = None
    seed: int = 5

    def batches(self, split, outputs):
        """The parts of each step: (index, target, share, first sample)."""
        for step in range(self.steps):
            size = min(self.batch, 7 if step % 4 == 3 else self.batch)
            index = (step * self.batch + np.arange(size)) % len(split)
            weight = None if self.sample_weight is None else self.sample_weight[index]
            labels = split.labels[index]
            if not isinstance(self.loss, CrossEntropy):
                labels = one_hot(labels, outputs)
            target, share = self.loss.targets(labels, outputs, weight)
            cuts = np.array_split(np.arange(size), self.parts)
            yield [(index[cut], target[cut], share[cut], int(cut[0])) for cut in cuts]


@dataclass(frozen=True)
class Outcome:
    """What training leaves: each step's losses, scores and gradient norm, and all tensors after the last."""

    losses: np.ndarray
    scores: np.ndarray
    norms: np.ndarray
    tensors: dict[str, np.ndarray]

    def bits(self):
        """All of it as bytes."""
        return tuple(a.tobytes() for a in (self.losses, self.scores, self.norms, *self.tensors.values()))


def train(net, backend, recipe=None, split=None, watch=None):
    """Train `net` in place; `watch(step)` is called before each update."""
    recipe, split = recipe or Recipe(), split or images()
    stepper = make_stepper(backend, net, split, recipe.loss, recipe.optimizer, recipe.seed, recipe.batch)
    assert stepper.backend == backend
    losses, scores, norms = [], [], []
    with stepper.session():
        for step, parts in enumerate(recipe.batches(split, net.outputs)):
            for part in parts:
                loss, score = stepper.accumulate(Part(*part), step=step)
                losses.append(loss)
                scores.append(score)
            norms.append(stepper.guard().gradient_norm)
            if watch is not None:
                watch(step)
            rate = recipe.optimizer.lr / (1 + 0.1 * step)
            rates = {name: recipe.optimizer.scalars(s, rate, step + 1) for name, s in net.store.learning()}
            stepper.update(Change(rates, recipe.clip))
    return Outcome(np.concatenate(losses), np.concatenate(scores), np.array(norms), net.store.snapshot())


def assert_alike(got, wanted, tolerance):
    """Two outcomes differ by at most `tolerance` of the largest number of each tensor."""
    pairs = {name: (getattr(got, name), getattr(wanted, name)) for name in ("losses", "scores", "norms")}
    pairs |= {name: (got.tensors[name], wanted.tensors[name]) for name in wanted.tensors}
    for name, (ours, theirs) in pairs.items():
        error, size = np.abs(ours - theirs).max(), max(np.abs(theirs).max(), 1e-3)
        assert error <= tolerance * size, f"{name} is wrong by {error / size:.2g} of its size."
