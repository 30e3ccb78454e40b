"""Lowerings of linear layers, and of the reshape before them."""

from __future__ import annotations

from typing import Any

import numpy as np

from glassnet.engine.kernels import conv
from glassnet.engine.kernels.image import copy_image, copy_values
from glassnet.engine.lowering.base import Context, lowers, span
from glassnet.engine.lowering.conv import NOTHING, columns_at, table, tile
from glassnet.engine.machine.tile import plan_rows
from glassnet.plan.plan import Span, Step
from glassnet.plan.symbols import Operation, Symbol
from glassnet.store import aligned

LARGE = 1 << 20
"""Bytes of a linear layer's weights beyond which all samples go through it together, split by output."""


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
    places = columns_at(outputs, context)
    kinds = list(dict.fromkeys(columns for _, columns in places))
    most = min(columns.max_rows(context.cpu) for columns in kinds)
    most = min(most, context.capacity if large else context.chunk)
    sizes = [most, *(n for n in (8, 4, 2, 1) if n < most)]
    tiles = [[rows, *(tile(context, rows, columns, **settings) for columns in kinds)] for rows in sizes]
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


@lowers("linear_input_grad")
def linear_input_grad(operation: Operation, context: Context) -> list[Step]:
    """dx = dy w^T, with the weights transposed once a step."""
    dy, w = operation.inputs[:2]
    assert w is not None
    weights = context.array(w)
    turned = aligned(weights.size, np.float32).reshape(weights.shape[::-1])
    turn = Step(conv.transpose, (weights, turned), "prepare", units=-(-len(weights) // 16))
    return [turn, _linear_step(context, dy, turned, NOTHING, operation.outputs[0], {})]


@lowers("linear_weight_grad")
def linear_weight_grad(operation: Operation, context: Context) -> list[Step]:
    """Over the whole batch, split by weights: needs no leaves."""
    dy, x = operation.inputs
    dw = context.array(operation.outputs[0])
    tiles = []
    for first, columns in columns_at(dw.shape[1], context):
        at = 0
        for rows in plan_rows(len(dw), columns.max_rows(context.cpu)):
            fresh, adding = (tile(context, rows, columns, start=start) for start in ("zero", "load"))
            tiles.append([fresh, adding, at, first])
            at += rows
    arguments = (span(x), span(dy), dw, table(tiles), context.slots.samples, context.slots.adding)
    macs = dw.size * context.capacity
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
