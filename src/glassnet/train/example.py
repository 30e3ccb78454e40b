"""A training step on random images, for what looks at plans, measures or compiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glassnet.backends import choose_backend
from glassnet.losses import Loss
from glassnet.network import Sequential
from glassnet.ops.reference import ReferenceOps
from glassnet.optim import Optimizer

if TYPE_CHECKING:
    from glassnet.engine.steps import TrainingStep


def example_step(
    net: Sequential, loss: Loss, optimizer: Optimizer, batch_size: int, *, threads: int | None = None
) -> TrainingStep:
    """The compiled step of `net`, taken once on a full batch of random images."""
    choose_backend("compiled")  # which says what is missing, where something is
    from glassnet.engine.steps import TrainingStep

    shape, outputs = net.built().input_shape or (), net.outputs
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (batch_size, *shape), np.uint8)
    scale = np.full(shape[-1], 1 / 255, np.float32)
    step = TrainingStep(
        net,
        loss,
        optimizer,
        images,
        scale,
        np.zeros_like(scale),
        capacity=batch_size,
        threads=threads,
        host_ops=ReferenceOps,
    )
    labels = generator.integers(0, outputs, batch_size)
    target, share = loss.targets(np.eye(outputs)[labels], outputs)
    step.accumulate(np.arange(batch_size), target, share, step=0)
    step.update({name: optimizer.scalars(slot, optimizer.lr, 1) for name, slot in net.store.learning()})
    return step
