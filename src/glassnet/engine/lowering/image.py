"""Lowerings of all on images but convolution: pooling, element-wise functions, joins, normalisation."""

from __future__ import annotations

import math

import numpy as np

from glassnet.engine.kernels import batch_norm as batch_kernels
from glassnet.engine.kernels import group_norm as group_kernels
from glassnet.engine.kernels import image, layer_norm, pool
from glassnet.engine.kernels.activation import elementwise as elementwise_kernel
from glassnet.engine.kernels.conv import mask_by_output
from glassnet.engine.kernels.dropout import dropout as dropout_kernel
from glassnet.engine.lowering.base import Context, lowers, rows, span, sum_leaves_into
from glassnet.engine.lowering.conv import NOTHING
from glassnet.ops.philox import keep_threshold
from glassnet.plan.plan import Rows, Span, Step
from glassnet.plan.symbols import Operation, Symbol
from glassnet.shapes import Geometry
from glassnet.store import aligned


def windows(geometry: Geometry) -> np.ndarray:
    """(H', W', 5): each window's rows from, to and columns from, to in the image, and its first position."""
    (sh, sw), (kh, kw), (h, w), (top, _, left, _) = (
        geometry.stride,
        geometry.kernel,
        geometry.input,
        geometry.padding,
    )
    table = np.zeros((*geometry.output, 5), np.int64)
    i, j = np.indices(geometry.output)
    u, v = i * sh - top, j * sw - left
    table[..., 0], table[..., 1] = np.maximum(u, 0), np.minimum(u + kh, h)
    table[..., 2], table[..., 3] = np.maximum(v, 0), np.minimum(v + kw, w)
    table[..., 4] = (table[..., 0] - u) * kw + table[..., 2] - v
    return table


def halves(geometry: Geometry) -> bool:
    """Whether windows are the common 2x2, side by side, unpadded."""
    return geometry.kernel == geometry.stride == (2, 2) and not any(geometry.padding)


@lowers("max_pool2d")
def max_pool2d(operation: Operation, context: Context) -> list[Step]:
    (x,), (y, index) = operation.inputs, operation.outputs
    geometry, channels = operation.settings["geometry"], y.shape[-1]
    if halves(geometry):
        return [
            Step(
                pool.max_pool_2x2(channels, context.cpu.lanes),
                (span(x), span(y), rows(index), *geometry.output),
            )
        ]
    arguments = (span(x), span(y), rows(index), windows(geometry), geometry.kernel[1])
    return [Step(pool.max_pool(channels, context.cpu.lanes), arguments)]


@lowers("max_pool2d_grad")
def max_pool2d_grad(operation: Operation, context: Context) -> list[Step]:
    (dy, index), (dx,) = operation.inputs, operation.outputs
    geometry, channels = operation.settings["geometry"], dx.shape[-1]
    if halves(geometry):
        sizes = (*geometry.output, *geometry.input)
        return [
            Step(
                pool.max_pool_2x2_grad(channels, context.cpu.lanes), (span(dy), rows(index), span(dx), *sizes)
            )
        ]
    arguments = (span(dy), rows(index), span(dx), windows(geometry), geometry.kernel[1])
    return [Step(pool.max_pool_grad(channels, context.cpu.lanes), arguments)]


@lowers("avg_pool2d", "avg_pool2d_grad")
def avg_pool2d(operation: Operation, context: Context) -> list[Step]:
    (x,), (y,) = operation.inputs, operation.outputs
    geometry, table = operation.settings["geometry"], windows(operation.settings["geometry"])
    inside = (table[..., 1] - table[..., 0]) * (table[..., 3] - table[..., 2])
    whole = np.full_like(inside, math.prod(geometry.kernel))
    counts = (whole if operation.settings["count_padding"] else inside).astype(np.float32)
    kernel = pool.avg_pool if operation.kind == "avg_pool2d" else pool.avg_pool_grad
    return [Step(kernel, (span(x), span(y), table, counts, y.shape[-1]))]


@lowers("global_avg_pool2d")
def global_avg_pool2d(operation: Operation, context: Context) -> list[Step]:
    (x,), (y,) = operation.inputs, operation.outputs
    assert x is not None
    return [Step(pool.global_avg_pool, (span(x), span(y), *x.shape[1:]))]


@lowers("global_avg_pool2d_grad")
def global_avg_pool2d_grad(operation: Operation, context: Context) -> list[Step]:
    (dy,), (dx,) = operation.inputs, operation.outputs
    return [Step(pool.global_avg_pool_grad, (span(dy), span(dx), *dx.shape[1:]))]


# Element by element, joins ----------------------------------------------------------------------------


@lowers("elementwise")
def elementwise(operation: Operation, context: Context) -> list[Step]:
    settings = operation.settings
    kernel = elementwise_kernel(settings["function"], len(operation.inputs), settings["scalars"])
    operands = (*map(span, operation.inputs), span(operation.outputs[0]))
    return [Step(kernel, (*operands, *context.extent(*operation.inputs, *operation.outputs)))]


@lowers("relu_mask")
def relu_mask(operation: Operation, context: Context) -> list[Step]:
    dx, y = operation.outputs[0], operation.inputs[1]
    return [Step(mask_by_output, (span(dx), span(y), *context.extent(dx, y)))]


@lowers("add")
def add(operation: Operation, context: Context) -> list[Step]:
    y = context.image(operation.outputs[0])
    relu = operation.settings.get("activation") == "relu"
    operands = (*map(span, operation.inputs), span(operation.outputs[0]))
    return [Step(image.add_images, (*operands, y.height, y.width, relu))]


@lowers("concat")
def concat(operation: Operation, context: Context) -> list[Step]:
    y, at = operation.outputs[0], 0
    steps = []
    for number, x in enumerate(operation.inputs):
        assert x is not None
        steps.append(_channels(context, x, 0, y, at, x.shape[-1], clear=number == 0))
        at += x.shape[-1]
    return steps


@lowers("split")
def split(operation: Operation, context: Context) -> list[Step]:
    (x,), at = operation.inputs, 0
    assert x is not None
    steps = []
    for y in operation.outputs:
        steps.append(_channels(context, x, at, y, 0, y.shape[-1], clear=True))
        at += y.shape[-1]
    return steps


def _channels(
    context: Context, x: Symbol, start: int, y: Symbol, at: int, count: int, *, clear: bool
) -> Step:
    """`count` channels of x from `start` to those of y from `at`."""
    of, to = context.image(x), context.image(y)
    if len(x.shape) == 2:
        shape = (1, 1)
    else:
        shape = (of.height, of.width // of.channels)
    arguments = (Span(x, start), of.channels, Span(y, at), to.channels, *shape, count, clear)
    return Step(image.copy_channels, arguments)


@lowers("dropout")
def dropout(operation: Operation, context: Context) -> list[Step]:
    (x,), (y,), settings = operation.inputs, operation.outputs, operation.settings
    channels, scale = context.image(y).channels, 1 / (1 - settings["rate"])
    drawn = (context.slots.random, settings["key"], keep_threshold(settings["rate"]), scale)
    (height, width), blocks = context.extent(x, y), context.cpu.lanes
    sizes = (height, width, 1, width)
    if settings["channels"]:  # whose words all pixels share
        blocks = next(n for n in (1, 2, 4, 8, 16) if n == blocks or 4 * n >= channels)
        sizes = (height, channels, width // channels, 0)
    return [Step(dropout_kernel(blocks), (span(x), span(y), *drawn, *sizes))]


# Normalisation ----------------------------------------------------------------------------------------


def _pixels(context: Context, symbol: Symbol | None) -> tuple[int, int]:
    """(height, width in pixels) of an image; (1, 1) of a vector."""
    assert symbol is not None
    of = context.image(symbol)
    return of.height, of.width // of.channels


@lowers("batch_norm_statistics")
def batch_norm_statistics(operation: Operation, context: Context) -> list[Step]:
    (x,), (mean, var) = operation.inputs, operation.outputs
    channels = mean.shape[0]
    parts = context.leaf_sums(5 * channels).reshape(-1, 5, channels)
    merge = (parts, context.array(mean), context.array(var), context.slots.samples, context.chunk)
    return [
        Step(batch_kernels.batch_statistics(context.cpu.lanes), (span(x), *_pixels(context, x), parts)),
        Step(batch_kernels.merge_statistics, merge, "batch", units=channels),
    ]


@lowers("batch_norm_running")
def batch_norm_running(operation: Operation, context: Context) -> list[Step]:
    running_mean, running_var, mean, var = (context.array(s) for s in operation.reads())
    pending = context.pending(running_mean), context.pending(running_var)
    context.arrays.update(zip(operation.outputs, pending, strict=True))
    settings = operation.settings
    arguments = (mean, var, *pending, settings["momentum"], settings["values"], context.slots.samples)
    return [Step(batch_kernels.running_statistics, arguments, "batch", units=len(mean))]


@lowers("set_state")
def set_state(operation: Operation, context: Context) -> list[Step]:
    """batch_norm_running left the value in the pending state; one step at the end commits all of it."""
    return []


@lowers("batch_norm")
def batch_norm(operation: Operation, context: Context) -> list[Step]:
    gamma, beta, mean, var = (context.array(s) for s in operation.inputs[1:] if s is not None)
    factors = context.factors[operation] = aligned(2 * gamma.size, np.float32).reshape(2, -1)
    scale = (mean, var, gamma, beta, operation.settings["eps"], factors)
    running = operation.inputs[3] is not None and operation.inputs[3].array is not None  # of no sample here
    return [
        Step(batch_kernels.batch_norm_scale, scale, "prepare" if running else "batch", units=gamma.size),
        _scaled(operation, operation, context),
    ]


@lowers("batch_norm_again")
def batch_norm_again(operation: Operation, context: Context) -> list[Step]:
    return [_scaled(operation, operation.settings["of"], context)]


def _scaled(operation: Operation, source: Operation, context: Context) -> Step:
    """x * scale + shift, with the factors of `source`."""
    x, y = operation.inputs[0], operation.outputs[0]
    relu = source.settings.get("activation") == "relu"
    arguments = (span(x), span(y), context.factors[source], *_pixels(context, x), relu)
    return Step(batch_kernels.scale_channels(context.cpu.lanes), arguments)


@lowers("batch_norm_parameter_grads")
def batch_norm_parameter_grads(operation: Operation, context: Context) -> list[Step]:
    dy, x, mean, var = operation.inputs
    assert mean is not None and var is not None
    dgamma, dbeta = (context.array(s) for s in operation.outputs)
    parts, sums = context.leaf_sums(2 * dgamma.size), aligned(2 * dgamma.size, np.float32)
    finish = (sums, context.array(var), operation.settings["eps"], dgamma, dbeta)
    return [
        Step(
            batch_kernels.batch_norm_parameter_sums(context.cpu.lanes),
            (span(dy), span(x), context.array(mean), parts, *_pixels(context, x)),
        ),
        sum_leaves_into(parts, sums, context),
        Step(batch_kernels.batch_norm_parameter_grads, finish, "batch", units=dgamma.size),
    ]


@lowers("batch_norm_input_grad")
def batch_norm_input_grad(operation: Operation, context: Context) -> list[Step]:
    dy, x, gamma, mean, var, dgamma, dbeta = operation.inputs
    assert gamma is not None and mean is not None and var is not None
    height, width = _pixels(context, x)
    factors = aligned(3 * gamma.shape[0], np.float32).reshape(3, -1)
    sums = (
        (context.array(dgamma), context.array(dbeta))
        if dgamma is not None and dbeta is not None
        else (NOTHING, NOTHING)
    )
    scale = (
        *map(context.array, (mean, var, gamma)),
        *sums,
        operation.settings["eps"],
        dgamma is not None,
        height * width,
        context.slots.samples,
        factors,
    )
    return [
        Step(batch_kernels.batch_norm_grad_scale, scale, "batch", units=gamma.shape[0]),
        Step(
            batch_kernels.batch_norm_input_grad(context.cpu.lanes),
            (span(dy), span(x), span(operation.outputs[0]), factors, height, width),
        ),
    ]


def _statistics(mean: Symbol | None, rows: int, length: int) -> Rows:
    """Mean and rstd of each sample's sets, and more, which live together under the symbol of the mean."""
    assert mean is not None
    return Rows(mean, (rows, length))


@lowers("group_norm")
def group_norm(operation: Operation, context: Context) -> list[Step]:
    (x, gamma, beta), (y, mean, _) = operation.inputs, operation.outputs
    assert gamma is not None and beta is not None
    groups, eps, channels = operation.settings["groups"], operation.settings["eps"], gamma.shape[0]
    mean.shape = (mean.shape[0], group_kernels.ROWS, channels)
    statistics = _statistics(mean, group_kernels.ROWS, channels)
    arguments = (span(x), context.array(gamma), context.array(beta), span(y), statistics, groups, eps)
    return [Step(group_kernels.group_norm(context.cpu.lanes), (*arguments, *_pixels(context, x)))]


@lowers("group_norm_parameter_grads")
def group_norm_parameter_grads(operation: Operation, context: Context) -> list[Step]:
    dy, x, mean, _ = operation.inputs
    channels = operation.outputs[0].shape[0]
    statistics = _statistics(mean, group_kernels.ROWS, channels)
    parts = context.leaf_sums(2 * channels)
    kernel = group_kernels.group_norm_parameter_sums(context.cpu.lanes)
    step = Step(kernel, (span(dy), span(x), statistics, parts, *_pixels(context, x)))
    return [step, _halves(parts, operation, context)]


def _halves(parts: np.ndarray, operation: Operation, context: Context) -> Step:
    """Add leaves that hold dgamma and then dbeta; the two symbols are halves of the sum."""
    sums = aligned(parts.shape[1], np.float32)
    for symbol, half in zip(operation.outputs, np.split(sums, 2), strict=True):
        context.arrays[symbol] = half.reshape(symbol.shape)
    return sum_leaves_into(parts, sums, context)


@lowers("group_norm_input_grad")
def group_norm_input_grad(operation: Operation, context: Context) -> list[Step]:
    dy, x, gamma, mean, _ = operation.inputs
    assert gamma is not None
    statistics = _statistics(mean, group_kernels.ROWS, gamma.shape[0])
    arguments = (span(dy), span(x), context.array(gamma), statistics, span(operation.outputs[0]))
    sizes = (operation.settings["groups"], *_pixels(context, x))
    return [Step(group_kernels.group_norm_input_grad(context.cpu.lanes), (*arguments, *sizes))]


@lowers("layer_norm")
def layer_norm_forward(operation: Operation, context: Context) -> list[Step]:
    (x, gamma, beta), (y, mean, _) = operation.inputs, operation.outputs
    assert x is not None and gamma is not None and beta is not None
    sets = math.prod(x.shape[1:]) // math.prod(gamma.shape)
    mean.shape = (mean.shape[0], 2, sets)
    to, eps = context.image(y), operation.settings["eps"]
    arguments = (span(x), context.flat(gamma), context.flat(beta), span(y), _statistics(mean, 2, sets), eps)
    return [Step(layer_norm.layer_norm, (*arguments, to.height, to.width))]


@lowers("layer_norm_parameter_grads")
def layer_norm_parameter_grads(operation: Operation, context: Context) -> list[Step]:
    dy, x, mean, _ = operation.inputs
    assert x is not None
    size = math.prod(operation.outputs[0].shape)
    statistics = _statistics(mean, 2, math.prod(x.shape[1:]) // size)
    parts = context.leaf_sums(2 * size)
    width = context.image(x).width
    step = Step(layer_norm.layer_norm_parameter_sums, (span(dy), span(x), statistics, parts, width))
    return [step, _halves(parts, operation, context)]


@lowers("layer_norm_input_grad")
def layer_norm_input_grad(operation: Operation, context: Context) -> list[Step]:
    dy, x, gamma, mean, _ = operation.inputs
    assert x is not None and gamma is not None
    of = context.image(operation.outputs[0])
    statistics = _statistics(mean, 2, math.prod(x.shape[1:]) // math.prod(gamma.shape))
    arguments = (span(dy), span(x), context.flat(gamma), statistics, span(operation.outputs[0]))
    return [Step(layer_norm.layer_norm_input_grad, (*arguments, of.height, of.width))]
