"""Lowerings of linear layers, and of the reshape before them."""

from __future__ import annotations

from typing import Any

import numpy as np

from glassnet.engine.kernels import conv, dots
from glassnet.engine.kernels.image import copy_image, copy_values
from glassnet.engine.lowering.base import Context, lowers, span
from glassnet.engine.lowering.conv import NOTHING, columns_at, table, tile, weight_tile
from glassnet.engine.machine.tile import Columns, plan_parts, plan_rows
from glassnet.plan.plan import Span, Step
from glassnet.plan.symbols import Operation, Symbol
from glassnet.store import aligned

LARGE = 1 << 20
"""Bytes of a linear layer's weights beyond which all samples go through it together, split by output."""

FEW, NARROW = 4, 128
"""Samples, and outputs, up to which an input gradient takes the weights as they are."""


def is_large(shape: tuple[int, ...]) -> bool:
    """Whether weights of this shape are too large to go through once for each few samples."""
    return 4 * shape[0] * shape[1] >= LARGE


@lowers("linear")
def linear(operation: Operation, context: Context) -> list[Step]:
    """Rows of a tile are samples."""
    x, w, b = operation.inputs
    assert w is not None
    bias = context.flat(b) if b is not None else NOTHING
    settings = {
        "start": "bias" if b is not None else "zero",
        "relu": operation.settings["activation"] == "relu",
    }
    return [_linear_step(context, x, context.array(w), bias, operation.outputs[0], settings)]


def _linear_step(
    context: Context, x: Symbol | None, w: np.ndarray, bias: np.ndarray, y: Symbol, settings: dict[str, Any]
) -> Step:
    inner, outputs = w.shape
    large = is_large(w.shape)
    places = columns_at(outputs, context, few=context.capacity <= FEW)
    kinds = list(dict.fromkeys(columns for _, columns in places))
    most = min(columns.max_rows(context.cpu) for columns in kinds)
    most = min(most, context.capacity if large else context.chunk)
    sizes = [most, *(n for n in (8, 4, 2, 1) if n < most)]
    tiles = [[rows, *_addresses(context, rows, kinds, inner, settings)] for rows in sizes]
    runs = [[kinds.index(columns), first] for first, columns in places]
    arguments = (
        span(x),
        w.reshape(-1),
        bias,
        span(y),
        table(tiles),
        table(runs),
        inner,
        context.slots.samples,
        large,
    )
    if large:
        return Step(
            conv.linear_rows, arguments, "batch", units=len(runs), macs=inner * outputs * context.capacity
        )
    return Step(conv.linear_rows, arguments, macs=inner * outputs)


def _addresses(
    context: Context, rows: int, kinds: list[Columns], inner: int, settings: dict[str, Any]
) -> list[int]:
    """The tile of so many rows for each kind of columns, for sums of `inner` terms."""
    return [
        tile(context, rows, columns, parts=plan_parts(rows * columns.vectors, inner), **settings)
        for columns in kinds
    ]


@lowers("linear_input_grad")
def linear_input_grad(operation: Operation, context: Context) -> list[Step]:
    """dx = dy w^T, with the weights transposed once a step where there are more than a few samples."""
    dy, w = operation.inputs[:2]
    assert w is not None
    weights, dx = context.array(w), operation.outputs[0]
    if context.capacity <= FEW and weights.shape[1] <= NARROW:
        return [_dots_step(context, dy, weights, dx)]
    turned = aligned(weights.size, np.float32).reshape(weights.shape[::-1])
    turn = Step(conv.transpose, (weights, turned), "prepare", units=-(-len(weights) // 16))
    return [turn, _linear_step(context, dy, turned, NOTHING, dx, {})]


def _dots_step(context: Context, dy: Symbol | None, w: np.ndarray, dx: Symbol) -> Step:
    """For samples too few to be worth transposed weights."""
    inputs, outputs = w.shape
    block, large = dots.block_rows(outputs, context.cpu.lanes), is_large(w.shape)
    kernel = dots.linear_dots(outputs, block, inputs % block)
    arguments = (span(dy), w.reshape(-1), span(dx), context.slots.samples, large)
    if large:
        units = -(-inputs // (dots.BLOCKS * block))
        return Step(kernel, arguments, "batch", units=units, macs=w.size * context.capacity)
    return Step(kernel, arguments, macs=w.size)


@lowers("linear_weight_grad")
def linear_weight_grad(operation: Operation, context: Context) -> list[Step]:
    """Over the whole batch, split by weights: needs no leaves."""
    dy, x = operation.inputs
    dw = context.array(operation.outputs[0])
    macs = dw.size * context.capacity
    if context.capacity <= FEW and dw.shape[1] <= NARROW:
        given = (span(x), span(dy), dw, context.slots.samples, context.slots.adding)
        units = -(-len(dw) // dots.ROWS)
        return [Step(dots.linear_outer(dw.shape[1]), given, "batch", units=units, macs=macs)]
    tiles = []
    for first, columns in columns_at(dw.shape[1], context):
        at, counts = 0, plan_rows(len(dw), columns.max_rows(context.cpu))
        kinds = {rows: weight_tile(context, rows, columns) for rows in counts}
        for rows in counts:
            tiles.append([*kinds[rows], at, first])
            at += rows
    arguments = (span(x), span(dy), dw, table(tiles), context.slots.samples, context.slots.adding)
    return [Step(conv.linear_weight_grad, arguments, "batch", units=len(tiles), macs=macs)]


@lowers("reshape")
def reshape(operation: Operation, context: Context) -> list[Step]:
    """Nothing where both sides lie alike; else a copy."""
    if context.layout.same_memory(operation):
        return []
    (x,), (y,) = operation.inputs, operation.outputs
    assert x is not None
    of, to = context.image(x), context.image(y)
    if of.height > 1 and to.height > 1 and of.width != to.width:
        return [Step(copy_values, (span(x), of.width, span(y), to.height, to.width))]
    height, width = (of.height, of.width) if of.height > 1 else (to.height, to.width)
    return [
        Step(
            copy_image,
            (
                Span(x, row=of.row if of.height > 1 else width),
                Span(y, row=to.row if to.height > 1 else width),
                height,
                width,
            ),
        )
    ]
