"""The seam between the training loop and a backend: what one step needs, and nothing about how it is done.

The loop decides (which samples, what targets, what rate); a stepper computes. Only `update` changes anything.
"""

from __future__ import annotations

import logging
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from glassnet.backends import choose_backend, one_blas_thread
from glassnet.data import Split
from glassnet.errors import MissingEngineError
from glassnet.losses import Loss
from glassnet.network import BATCH, Sequential
from glassnet.ops.base import Grads
from glassnet.ops.reference import ReferenceOps
from glassnet.optim import Optimizer
from glassnet.plan.symbols import RecordingError
from glassnet.store import moving_average
from glassnet.train.batch import Block, Part

Array = np.ndarray
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Guard:
    """What is known of a whole step before anything changes: its loss, and the norm of all gradients."""

    loss: float
    gradient_norm: float

    @property
    def finite(self) -> bool:
        """Whether the step may be taken. A NaN or infinity in any gradient makes the norm not finite."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


@dataclass(frozen=True)
class Clip:
    """How a gradient g of the batch's mean loss is bounded, in one of two ways, before the rule sees it.

    value: each element to [-value, value]. norm: g * min(1, norm / (|g| + 1e-6)), |g| the norm of all
    gradients together, as PyTorch's clip_grad_norm_ (Pascanu, Mikolov, Bengio 2013).
    """

    value: float | None = None
    norm: float | None = None

    def scale(self, gradient_norm: float) -> float:
        """The factor of every gradient under `norm`."""
        return 1.0 if self.norm is None else min(1.0, self.norm / (gradient_norm + 1e-6))


@dataclass(frozen=True)
class Change:
    """What a step does with its gradients: the rule's scalars by parameter name, the clip, and the gain of
    the moving averages of the weights.
    """

    scalars: Mapping[str, tuple[float, ...]]
    clip: Clip
    gain: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """Of each step that was tried: (k,) losses, gradient norms before clipping, correct predictions.

    The first that is not finite changed nothing, and none after it counts.
    """

    losses: Array
    norms: Array
    correct: Array

    @property
    def taken(self) -> int:
        """Steps that changed the weights."""
        finite = np.isfinite(self.losses) & np.isfinite(self.norms)
        return len(finite) if finite.all() else int(finite.argmin())


class Stepper(Protocol):
    """One backend's way to take the steps of one run over one training split.

    A step: `accumulate` for each of its micro-batches, `guard`, and, where that is finite, `update`.
    `take` does all of it for the steps of a block, at most `most` of them. machine: what the bits depend on.
    """

    backend: str
    machine: str
    most: int

    def take(self, block: Block, changes: Sequence[Change]) -> Outcome:
        """The steps of a block, one after another, until one is not finite."""

    def session(self) -> AbstractContextManager[None]:
        """What must hold around all steps and predictions of a run, such as a number of threads."""

    def accumulate(self, part: Part, *, step: int) -> tuple[Array, Array]:
        """(losses (n,), scores (n, K)) of one micro-batch; its gradients are added to those of the step.

        step counts from 0; a part whose first sample is the batch's first begins a new step.
        """

    def guard(self) -> Guard:
        """Loss and gradient norm of the step so far."""

    def update(self, change: Change) -> None:
        """Clip, apply the optimiser's rule, commit announced state, move the averages."""

    def predict(self, images: Array) -> Array:
        """Raw images -> scores (N, K), in evaluation mode."""


def one_by_one(stepper: Stepper, block: Block, changes: Sequence[Change]) -> Outcome:
    """`take` in the single calls of a step."""
    losses, norms, correct = np.zeros(len(block)), np.zeros(len(block)), np.zeros(len(block), np.int64)
    for number, change in enumerate(changes):
        step, parts = block.step + number, block.parts_of(number)
        scores = [stepper.accumulate(part, step=step)[1] for part in parts]
        correct[number] = (np.concatenate(scores).argmax(axis=-1) == block.labels[number]).sum()
        guard = stepper.guard()
        losses[number], norms[number] = guard.loss, guard.gradient_norm
        if not guard.finite:
            break
        stepper.update(change)
    return Outcome(losses, norms, correct)


class ReferenceStepper:
    """Steps on the reference backend, in the precision of the network."""

    backend = "reference"
    machine = f"NumPy {np.__version__} on {platform.machine()}"
    most = 1

    def __init__(self, net: Sequential, split: Split, loss: Loss, optimizer: Optimizer, seed: int) -> None:
        self.net, self.split, self.loss, self.optimizer, self.seed = net, split, loss, optimizer, seed
        self._ops = ReferenceOps()
        self._loss = 0.0

    @contextmanager
    def session(self) -> Iterator[None]:
        with one_blas_thread(), np.errstate(all="ignore"):  # overflow is no warning: `guard` stops the step
            yield

    def accumulate(self, part: Part, *, step: int) -> tuple[Array, Array]:
        dtype, first = self.net.store.values.dtype, part.first_sample == 0
        if first:
            self._ops, self._loss = ReferenceOps(seed=self.seed, step=step), 0.0
        self._ops.first_sample = part.first_sample
        inputs = (part.inputs(self.split), part.target, part.share)
        x, target, share = (array.astype(dtype, copy=False) for array in inputs)
        losses, scores, grads = self.net.loss_and_gradients(self._ops, x, target, share, self.loss)
        self._loss += float(losses.sum(dtype=np.float64))
        self._add(grads, fresh=first)
        return losses, scores

    def _add(self, grads: Grads, fresh: bool) -> None:
        """Put (or add) gradients in the store; those of frozen layers stay out, and so out of the norm."""
        for name, grad in self.net.store.checked(grads):
            total = self.net.store.grad(name)
            total[...] = grad if fresh else total + grad

    def take(self, block: Block, changes: Sequence[Change]) -> Outcome:
        return one_by_one(self, block, changes)

    def guard(self) -> Guard:
        squares = [
            np.square(self.net.store.grad(n), dtype=np.float64).sum() for n, _ in self.net.store.learning()
        ]
        return Guard(self._loss, math.sqrt(sum(squares)))

    def update(self, change: Change) -> None:
        grads, clip, store = self.net.store.grads, change.clip, self.net.store
        if clip.value is not None:
            np.clip(grads, -clip.value, clip.value, out=grads)
        if clip.norm is not None:
            grads *= clip.scale(self.guard().gradient_norm)
        self.optimizer.update(self._ops, store, dict(change.scalars))
        self._ops.commit()
        for average, block in store.averaged():
            self._ops.update(moving_average, average, block, [], (change.gain,))

    def predict(self, images: Array) -> Array:
        dtype = self.net.store.values.dtype
        chunks = (self.net.inputs(images[i : i + BATCH]) for i in range(0, len(images), BATCH))

        def run(x: Array) -> Array:
            return ReferenceOps().call(self.net, x.astype(dtype, copy=False), False)[0]

        return np.concatenate([self.net.over_views(run, x) for x in chunks])


def make_stepper(
    backend: str,
    net: Sequential,
    split: Split,
    loss: Loss,
    optimizer: Optimizer,
    seed: int,
    capacity: int,
    *,
    augmented: bool = False,
) -> Stepper:
    """The stepper of `choose_backend(backend)`, for (parts of) batches of at most `capacity` samples.

    augmented: whether the parts say what happens to each image.

    Where the engine cannot be loaded, or cannot record the network, "auto" takes the reference backend, and
    the log says why.
    """
    if choose_backend(backend) == "compiled":
        try:
            from glassnet.train.compiled import CompiledStepper

            if net.store.values.dtype != np.float32:
                raise RecordingError(
                    f"The compiled engine computes in float32, this network is {net.store.values.dtype}."
                )
            return CompiledStepper(net, split, loss, optimizer, seed, capacity, augmented=augmented)
        except (MissingEngineError, RecordingError) as error:
            if backend == "compiled":
                raise
            log.warning("Training on the reference backend: %s", error)
    return ReferenceStepper(net, split, loss, optimizer, seed)
