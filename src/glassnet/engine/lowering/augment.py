"""Lowering of the other way in: images gathered, augmented and normalised."""

from __future__ import annotations

from glassnet.engine.kernels.augment import augment_bytes, augment_floats
from glassnet.engine.lowering.base import Context, lowers, span
from glassnet.plan.plan import Step
from glassnet.plan.symbols import Operation


@lowers("augment")
def augment(operation: Operation, context: Context) -> list[Step]:
    """images (D, H, W, C), index, scale, shift, rows, partner -> (N, H', W', C): in the place of a gather."""
    images, index, scale, shift, rows, partner = (context.array(s) for s in operation.reads())
    y = operation.outputs[0]
    to, (height, width) = context.image(y), images.shape[1:3]
    make = augment_bytes if images.dtype == "uint8" else augment_floats
    feed = (images.reshape(len(images), -1), height, width, index, scale, shift, rows, partner)
    return [Step(make(to.channels), (*feed, span(y), to.height, to.width))]
