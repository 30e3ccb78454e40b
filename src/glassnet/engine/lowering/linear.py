"""Lowerings of linear layers, and of the reshape before them."""

from __future__ import annotations

from typing import Any, NamedTuple

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
    """Rows of a tile are samples. Weights that many samples go through are packed once a step."""
    x, w, b = operation.inputs
    assert w is not None
    weights = context.array(w)
    bias = context.flat(b) if b is not None else NOTHING
    settings = {
        "start": "bias" if b is not None else "zero",
        "relu": operation.settings["activation"] == "relu",
    }
    inner, outputs = weights.shape
    places = columns_at(outputs, context, few=context.capacity <= FEW)
    if len(places) == 1 or context.capacity <= FEW or is_large(weights.shape):
        panels = [Panel(first, columns, first, outputs) for first, columns in places]
        return [_linear_step(context, x, weights.reshape(-1), bias, operation.outputs[0], panels, settings)]
    panels, packed = packing(places, inner)
    pack = Step(conv.pack, (weights, packed, table_of(panels)), "prepare", units=-(-inner // 16))
    return [pack, _linear_step(context, x, packed, bias, operation.outputs[0], panels, settings)]


class Panel(NamedTuple):
    """Some columns of the weights, from output `first` on: where they start, how far apart their rows lie."""

    first: int
    columns: Columns
    start: int
    apart: int


def packing(places: list[tuple[int, Columns]], inner: int) -> tuple[list[Panel], np.ndarray]:
    """A panel for each column, one after another in whole vectors, and the memory for them."""
    panels, start = [], 0
    for first, columns in places:
        apart = columns.vectors * columns.lanes
        panels.append(Panel(first, columns, start, apart))
        start += inner * apart
    return panels, aligned(start, np.float32)


def table_of(panels: list[Panel]) -> np.ndarray:
    """The table of the packing kernels."""
    return table([[p.first, p.columns.channels, p.start, p.apart] for p in panels])


def _linear_step(
    context: Context,
    x: Symbol | None,
    weights: np.ndarray,
    bias: np.ndarray,
    y: Symbol,
    panels: list[Panel],
    settings: dict[str, Any],
) -> Step:
    assert x is not None
    inner, outputs = x.shape[-1], y.shape[-1]
    large = is_large((inner, outputs))
    kinds = list(dict.fromkeys(panel.columns for panel in panels))
    tiles = [_tiles(context, columns, inner, large, settings) for columns in kinds]
    longest = max(map(len, tiles))
    tiles = [kind + [kind[-1]] * (longest - len(kind)) for kind in tiles]  # the last takes what there is
    runs = [[kinds.index(p.columns), p.first, p.start, p.apart] for p in panels]
    arguments = (
        span(x),
        weights,
        bias,
        span(y),
        np.array(tiles, np.int64),
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


def _tiles(
    context: Context, columns: Columns, inner: int, large: bool, settings: dict[str, Any]
) -> list[list[int]]:
    """(samples, address) of tiles of these columns, falling to one sample, for sums of `inner` terms."""
    most = columns.max_rows(context.cpu)
    equal = plan_rows(context.capacity if large else context.chunk, most)
    sizes = [equal[0], *(n for n in (8, 4, 2, 1) if n < equal[0])]
    return [
        [rows, tile(context, rows, columns, parts=plan_parts(rows * columns.vectors, inner), **settings)]
        for rows in sizes
    ]


@lowers("linear_input_grad")
def linear_input_grad(operation: Operation, context: Context) -> list[Step]:
    """dx = dy w^T, with the weights transposed once a step where there are more than a few samples."""
    dy, w = operation.inputs[:2]
    assert w is not None
    weights, dx = context.array(w), operation.outputs[0]
    if context.capacity <= FEW and weights.shape[1] <= NARROW:
        return [_dots_step(context, dy, weights, dx)]
    inputs, outputs = weights.shape
    places = columns_at(inputs, context, few=context.capacity <= FEW)
    panels, turned = packing(places, outputs)
    turn = Step(conv.pack_transposed, (weights, turned, table_of(panels)), "prepare", units=len(panels))
    return [turn, _linear_step(context, dy, turned, NOTHING, dx, panels, {})]


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
    tiles.sort(key=lambda entry: entry[2:])  # those of the same inputs find them in the cache
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
