"""Steps on the compiled engine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from glassnet.data import Split
from glassnet.engine.machine.cpu import processor
from glassnet.engine.steps import TrainingStep
from glassnet.losses import Loss
from glassnet.network import Sequential
from glassnet.ops.reference import ReferenceOps
from glassnet.optim import Optimizer
from glassnet.train.batch import Block, Part
from glassnet.train.stepper import Change, Guard, Outcome, one_by_one

Array = np.ndarray


class CompiledStepper:
    """Steps of a recorded plan: raw images stay in memory, the plan gathers and normalises them."""

    backend = "compiled"

    def __init__(
        self,
        net: Sequential,
        split: Split,
        loss: Loss,
        optimizer: Optimizer,
        seed: int,
        capacity: int,
        *,
        augmented: bool = False,
    ) -> None:
        images = np.ascontiguousarray(split.images)
        scale, shift = split.preprocessing.scale_shift(images.dtype)
        self._net, self._loss = net, 0.0
        cpu = processor(net.processor)
        self.machine = f"{cpu.name} with {cpu.lanes} lanes and {cpu.l2 >> 10} KiB of cache"
        self._step = TrainingStep(
            net,
            loss,
            optimizer,
            images,
            scale,
            shift,
            capacity=capacity,
            seed=seed,
            augmented=augmented,
            cpu=cpu,
            host_ops=ReferenceOps,
        )
        net.predictor(images.dtype)  # what prediction needs is known to be there before the first step
        self.most = self._step.most

    @contextmanager
    def session(self) -> Iterator[None]:
        with np.errstate(all="ignore"):  # overflow is no warning here: `guard` stops the step
            yield

    def accumulate(self, part: Part, *, step: int) -> tuple[Array, Array]:
        n = self._step.accumulate(
            part.index,
            part.target,
            part.share,
            step=step,
            first_sample=part.first_sample,
            rows=part.rows,
            partner=part.partner,
        )
        losses = self._step.losses[:n]
        self._loss = (self._loss if part.first_sample else 0.0) + float(losses.sum(dtype=np.float64))
        return losses.copy(), self._step.scores[:n].copy()

    def take(self, block: Block, changes: Sequence[Change]) -> Outcome:
        if block.parts > 1 or not self._step.replays:
            return one_by_one(self, block, changes)
        results = self._step.replay(
            block.index,
            block.labels,
            block.target,
            block.share,
            [change.scalars for change in changes],
            step=block.step,
            clip=[(change.clip.value or math.inf, change.clip.norm or math.inf) for change in changes],
            gain=[change.gain for change in changes],
            rows=block.rows,
            partner=block.partner,
        )
        return Outcome(results[:, 0], results[:, 1], results[:, 2].astype(np.int64))

    def guard(self) -> Guard:
        return Guard(self._loss, self._step.norm)

    def update(self, change: Change) -> None:
        clip = change.clip
        if clip.value is not None:
            self._step.clip(limit=clip.value)
        if clip.norm is not None:
            self._step.clip(scale=clip.scale(self._step.norm))
        self._step.update(change.scalars, change.gain)

    def predict(self, images: Array) -> Array:
        return self._net.scores(images)
