"""A training step on random images, for what looks at plans, measures or compiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glassnet.backends import choose_backend
from glassnet.data.augment import Augment
from glassnet.losses import Loss
from glassnet.network import Sequential
from glassnet.ops.reference import ReferenceOps
from glassnet.optim import Optimizer

if TYPE_CHECKING:
    from glassnet.engine.steps import TrainingStep

NOTHING = Augment()
"""What happens to images unless more is said."""


def example_step(
    net: Sequential,
    loss: Loss,
    optimizer: Optimizer,
    batch_size: int,
    *,
    augment: Augment = NOTHING,
    threads: int | None = None,
) -> TrainingStep:
    """The compiled step of `net`, taken once on a full batch of random images, which `augment` changes."""
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
        augmented=not augment.off,
        threads=threads,
        host_ops=ReferenceOps,
    )
    labels = generator.integers(0, outputs, batch_size)
    target, share = loss.targets(np.eye(outputs)[labels], outputs)
    rows, partner = None, None
    if not augment.off:
        drawn = augment.draw(seed=0, step=0, samples=batch_size, size=images.shape[1:3])
        rows, partner = drawn.rows[0], drawn.partner[0]
    step.accumulate(np.arange(batch_size), target, share, step=0, rows=rows, partner=partner)
    step.update({name: optimizer.scalars(slot, optimizer.lr, 1) for name, slot in net.store.learning()})
    return step
