"""Lowerings of the two ends of a step: images in, loss, gradients delivered, parameters updated."""

from __future__ import annotations

from glassnet.engine.kernels import feed, loss, update
from glassnet.engine.kernels.image import copy_image
from glassnet.engine.lowering.base import NEVER, Context, lowers, rows, span
from glassnet.plan.plan import Step
from glassnet.plan.symbols import Operation

LOSSES = {
    "cross_entropy": loss.cross_entropy,
    "probability_cross_entropy": loss.probability_cross_entropy,
    "binary_cross_entropy": loss.binary_cross_entropy,
    "mean_squared_error": loss.mean_squared_error,
}


@lowers("gather")
def gather(operation: Operation, context: Context) -> list[Step]:
    """Images by index, normalised, as the first step of each few samples."""
    images, index, scale, shift = (context.array(s) for s in operation.reads())
    y = operation.outputs[0]
    make = feed.gather_bytes if images.dtype == "uint8" else feed.gather_floats
    arguments = (images.reshape(len(images), -1), index, scale, shift, span(y), *context.extent(y))
    return [Step(make(context.image(y).channels), arguments)]


@lowers("export")
def export(operation: Operation, context: Context) -> list[Step]:
    """A batched symbol copied to an array that the caller reads."""
    (x, out) = operation.inputs
    assert x is not None and out is not None
    of, array = context.image(x), context.array(out)
    target = (array.reshape(len(array), -1), 0, of.width)
    return [Step(copy_image, (span(x), *target, of.height, of.width))]


@lowers("softmax")
def softmax(operation: Operation, context: Context) -> list[Step]:
    (x,), (y,) = operation.inputs, operation.outputs
    of = context.image(y)
    return [Step(loss.softmax, (span(x), span(y), of.height, of.width // of.channels, of.channels))]


@lowers("softmax_grad")
def softmax_grad(operation: Operation, context: Context) -> list[Step]:
    (dy, y), (dx,) = operation.inputs, operation.outputs
    of = context.image(dx)
    return [
        Step(
            loss.softmax_grad, (span(dy), span(y), span(dx), of.height, of.width // of.channels, of.channels)
        )
    ]


@lowers(*LOSSES)
def losses(operation: Operation, context: Context) -> list[Step]:
    """Each sample's loss and the gradient of its scores, in one go."""
    scores, target, share = operation.inputs
    assert target is not None and share is not None
    each, gradient = operation.outputs
    arguments = (
        span(scores),
        context.array(target),
        context.array(share),
        context.array(each),
        rows(gradient),
    )
    return [Step(LOSSES[operation.kind], arguments)]


@lowers("add_bias")
def add_bias(operation: Operation, context: Context) -> list[Step]:
    (x, b), (y,) = operation.inputs, operation.outputs
    assert b is not None
    to = context.image(y)
    return [Step(feed.add_bias, (span(x), context.array(b), span(y), to.height, to.width))]


@lowers("deliver")
def deliver(operation: Operation, context: Context) -> list[Step]:
    """A gradient to its place in the store, or added to what is there; one in its place already is whole."""
    value, grad = (context.flat(s) for s in operation.reads())
    adding = context.slots.adding if operation.reads()[0].array is None else NEVER
    return [Step(update.deliver, (value, grad, adding), "batch", units=-(-value.size // update.RUN))]


@lowers("host")
def host(operation: Operation, context: Context) -> list[Step]:
    """A layer in NumPy: the one kernel that is not compiled, with views of buffers as arguments."""
    kernel = operation.settings["kernel"]
    kernel.call.random = context.slots.random
    symbols = (*operation.reads(), *operation.outputs)
    return [Step(kernel, [span(s) if s.batched else context.array(s) for s in symbols], "host")]


@lowers("squared_norm")
def squared_norm(operation: Operation, context: Context) -> list[Step]:
    grads, sums = (context.array(s) for s in operation.reads())
    return [Step(update.squared_norm, (grads, sums), "guard", units=len(sums))]


@lowers("clip")
def clip(operation: Operation, context: Context) -> list[Step]:
    grads, limits = (context.array(s) for s in operation.reads())
    return [Step(update.clip, (grads, limits), "clip", units=-(-grads.size // update.RUN))]


@lowers("load")
def load(operation: Operation, context: Context) -> list[Step]:
    table, now = (context.array(s) for s in operation.reads())
    return [Step(update.load, (table, context.slots.cursor, now), "load")]


@lowers("judge")
def judge(operation: Operation, context: Context) -> list[Step]:
    losses, sums, scores, labels, bounds, limits, results = (context.array(s) for s in operation.reads())
    slots = context.slots
    seen, decided = (losses, sums, scores, labels, slots.samples, bounds), (limits, results)
    return [Step(update.judge, (*seen, *decided, slots.cursor, slots.go), "judge")]


@lowers("commit")
def commit(operation: Operation, context: Context) -> list[Step]:
    state, pending = (context.array(s) for s in operation.reads())
    return [
        Step(update.commit, (state, pending, context.slots.go), "update", units=-(-state.size // update.RUN))
    ]


@lowers("update")
def update_parameters(operation: Operation, context: Context) -> list[Step]:
    arrays = [context.flat(s) for s in operation.reads()]
    kernel = update.update(operation.settings["rule"], len(arrays) - 2)
    arguments = (*arrays, operation.settings["scalars"], context.slots.go)
    return [Step(kernel, arguments, "update", units=-(-arrays[0].size // update.RUN))]
