"""Lowerings of convolution and linear layers: how each pass becomes a table of register tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from glassnet.engine.kernels import conv, depthwise
from glassnet.engine.lowering.base import Context, lowers, span, sum_leaves_into
from glassnet.engine.machine.tile import Columns, TileSpec, plan_rows, vector_shapes
from glassnet.plan.passes.layout import Image
from glassnet.plan.plan import Step
from glassnet.plan.symbols import Operation, Symbol
from glassnet.shapes import Geometry
from glassnet.store import aligned

NOTHING = np.zeros(1, np.float32)


def table(rows: list[list[int]]) -> np.ndarray:
    """Rows of whole numbers as a kernel reads them."""
    return np.array(rows, np.int64).reshape(len(rows), -1)


def columns_at(channels: int, context: Context, *, few: bool = False) -> list[tuple[int, Columns]]:
    """(first channel, columns) for each run of channels that one tile computes."""
    result, start = [], 0
    for columns in vector_shapes(channels, context.cpu, few=few):
        result.append((start, columns))
        start += columns.channels
    return result


def tile(context: Context, rows: int, columns: Columns, **settings: Any) -> int:
    """The address of a tile."""
    spec = TileSpec(rows, columns.vectors, columns.lanes, columns.last_lanes, **settings)
    return context.tile(spec)


def is_depthwise(geometry: Geometry, inputs: int, outputs: int) -> bool:
    """Whether every channel is a convolution of its own."""
    return geometry.groups > 1 and geometry.groups == inputs == outputs


def by_channel(
    geometry: Geometry, of: Image, to: Image, context: Context
) -> tuple[tuple[int, int, int, bool], np.ndarray, list[int]] | None:
    """What a depthwise kernel is compiled for, its taps and its walk through x and y; None where none fits.

    It also takes one channel to one, as if image rows were pixels of many channels that share their weights.
    Vectors of neighbours lie across cache lines wherever they like: narrow ones do so less often.
    """
    (kh, kw), (sh, sw), (dh, dw) = geometry.kernel, geometry.stride, geometry.dilation
    (height, width), c, cpu = geometry.output, of.channels, context.cpu
    single = c == to.channels == sw == 1
    if not single and not is_depthwise(geometry, c, to.channels):
        return None
    corner = -geometry.padding[0] * of.row - geometry.padding[2] * c
    taps = [[corner + u * dh * of.row + v * dw * c, (u * kw + v) * c] for u in range(kh) for v in range(kw)]
    down, across = (height, sh * of.row, to.row), (width, sw * c, c)
    lanes = cpu.lanes // 2 if single and cpu.split else cpu.lanes
    if single:
        down, across = (1, 0, 0), down
    walk = [step for pair in zip(down, across, strict=True) for step in pair]
    return (width if single else c, len(taps), lanes, single), table(taps), walk


@lowers("conv2d")
def conv2d(operation: Operation, context: Context) -> list[Step]:
    """Rows of a tile are output pixels; sums run over kernel rows, columns and channels."""
    x, w, b = operation.inputs
    assert x is not None and w is not None
    y, geometry = operation.outputs[0], operation.settings["geometry"]
    relu = operation.settings["activation"] == "relu"
    of, to = context.image(x), context.image(y)
    (kh, kw), (sh, sw), (dh, dw), groups = (
        geometry.kernel,
        geometry.stride,
        geometry.dilation,
        geometry.groups,
    )
    c, o = of.channels, to.channels
    top, _, left, _ = geometry.padding
    height, width = geometry.output
    macs = height * width * math.prod(w.shape)
    bias = context.flat(b) if b is not None else NOTHING
    if (fit := by_channel(geometry, of, to, context)) is not None:
        compiled_for, taps, walk = fit
        bias = bias if b is not None else np.zeros(c, np.float32)
        sizes = [*walk, relu, to.height, to.width, 0]
        arguments = (span(x), context.flat(w), bias, span(y), taps, ints(sizes))
        return [Step(depthwise.depthwise(*compiled_for), arguments, macs=macs)]
    settings = {"start": "bias" if b is not None else "zero", "relu": relu}
    own = c // groups
    tiles: list[list[int]] = []
    for g in range(groups):
        for first, columns in columns_at(o // groups, context):
            out, j = g * (o // groups) + first, 0
            for count in plan_rows(width, columns.max_rows(context.cpu)):
                address = tile(context, count, columns, **settings)
                tiles.append([address, (j * sw - left) * c + g * own, out, j * o + out, out])
                j += count
    if dw == 1 and groups == 1:  # a row of the window is one run of memory
        extents, s_steps = (1, kw * c), (0, 0)
    else:
        extents, s_steps = (kw, own), (dw * c, own * o)
    block = kw * own * o
    strides = (sw * c, dh * of.row, s_steps[0], 1, block, s_steps[1], o, o, 0, 0)
    rows = kernel_rows([(u, u * dh - top) for u in range(kh)], sh, height, of, block, to.row)
    return [rows_step(context, x, w, bias, y, rows, tiles, extents, strides, (to.height, to.width), macs)]


def kernel_rows(
    taps: Sequence[tuple[int, int]], step: int, count: int, of: Image, block: int, down: int
) -> list[list[int]]:
    """(offset in x, in w, kernel rows, offset in y) of each output row.

    Only the taps (kernel row, image row of output 0) that lie inside the image count; where none does, the
    first, which reads zeros of the halo.
    """
    rows = []
    for i in range(count):
        inside = [t for t, (_, at) in enumerate(taps) if 0 <= at + i * step < of.height] or [0]
        first = inside[0]
        rows.append([(taps[first][1] + i * step) * of.row, first * block, len(inside), i * down])
    return rows


def rows_step(
    context: Context,
    x: Symbol,
    w: Symbol | np.ndarray,
    bias: np.ndarray,
    y: Symbol,
    rows: list[list[int]],
    tiles: list[list[int]],
    sizes: tuple[int, ...],
    strides: tuple[int, ...],
    halo: tuple[int, int],
    macs: int,
) -> Step:
    weights = w if isinstance(w, np.ndarray) else context.flat(w)
    tables = (table(rows), table(tiles), ints(sizes), ints(strides), ints(halo))
    return Step(conv.tile_rows, (span(x), weights, bias, span(y), *tables), macs=macs, parts=4)


def ints(values: Any) -> np.ndarray:
    """A row of whole numbers."""
    return np.array([int(v) for v in values], np.int64)


@lowers("conv2d_weight_grad")
def conv2d_weight_grad(operation: Operation, context: Context) -> list[Step]:
    """Rows of a tile are weights (u, v, c); sums run over all pixels of a sample; one accumulator a leaf."""
    dy, x = operation.inputs
    assert dy is not None and x is not None
    geometry, total = operation.settings["geometry"], context.flat(operation.outputs[0])
    of, by = context.image(x), context.image(dy)
    (kh, kw), (sh, sw), (dh, dw), groups = (
        geometry.kernel,
        geometry.stride,
        geometry.dilation,
        geometry.groups,
    )
    c, o = of.channels, by.channels
    own = c // groups
    corner = -geometry.padding[0] * of.row - geometry.padding[2] * c
    height, width = geometry.output
    parts = context.leaf_sums(total.size)
    macs = height * width * total.size
    if (fit := by_channel(geometry, of, by, context)) is not None:
        compiled_for, taps, walk = fit
        kernel = depthwise.depthwise_weight_grad(*compiled_for)
        step = Step(kernel, (span(x), span(dy), parts, taps, ints(walk)), macs=macs)
        return [step, sum_leaves_into(parts, total, context, adding=context.slots.adding)]
    tiles = []
    outer = (0, 0)
    places = columns_at(o // groups, context)
    in_one = dw == 1 and groups == 1 and kh > 1
    narrow = [one for place in places for one in single(*place)]
    if in_one and places[0][1].max_rows(context.cpu) < kh * kw * c <= narrow[0][1].max_rows(context.cpu):
        places = narrow
    for g in range(groups):
        for first, columns in places:
            out, most = g * (o // groups) + first, columns.max_rows(context.cpu)
            if in_one and kh * kw * c <= most:  # all weights in one tile
                outer = (dh * of.row, kw * c * o)
                one = weight_tile(context, kh * kw * c, columns, inner=kw * c)
                tiles.append([*one, corner, out, out, height])
                continue
            runs = (
                [(u, 0, kw * c) for u in range(kh)]
                if dw == 1 and groups == 1
                else [(u, v, own) for u in range(kh) for v in range(kw)]
            )
            for u, v, length in runs:
                at, (above, inside) = 0, _rows_inside(u * dh - geometry.padding[0], sh, of.height, height)
                for rows in plan_rows(length, most):
                    enter = corner + (u * dh + above * sh) * of.row + v * dw * c + g * own + at
                    into = ((u * kw + v) * own + at) * o + out
                    addresses = weight_tile(context, rows, columns)
                    tiles.append([*addresses, enter, above * by.row + out, into, inside])
                    at += rows
    strides = ints((1, outer[0], sh * of.row, sw * c, by.row, o, o, outer[1]))
    arguments = (span(x), span(dy), parts, table(tiles), width, strides)
    return [
        Step(conv.tile_weight_grad, arguments, macs=macs, parts=3),
        sum_leaves_into(parts, total, context, adding=context.slots.adding),
    ]


def single(first: int, columns: Columns) -> list[tuple[int, Columns]]:
    """The same columns in tiles of one vector each, with room for twice the rows and more."""
    lanes = [columns.lanes] * (columns.vectors - 1) + [columns.last_lanes]
    return [(first + i * columns.lanes, Columns(1, columns.lanes, n)) for i, n in enumerate(lanes)]


def weight_tile(context: Context, rows: int, columns: Columns, *, inner: int = 0) -> tuple[int, int]:
    """The tiles that start a leaf's sum, and that add to it."""
    fresh, adding = (tile(context, rows, columns, start=start, inner=inner) for start in ("zero", "load"))
    return fresh, adding


def _rows_inside(first: int, step: int, rows: int, count: int) -> tuple[int, int]:
    """(first, number) of the output rows i for which image row first + i*step exists; if none, row 0."""
    inside = [i for i in range(count) if 0 <= first + i * step < rows] or [0]
    return inside[0], len(inside)


@lowers("bias_grad")
def bias_grad(operation: Operation, context: Context) -> list[Step]:
    """Sums over pixels and samples: image rows by leaf, the leaves, then the pixels of the one row left."""
    (dy,) = operation.inputs
    assert dy is not None
    of, total = context.image(dy), context.flat(operation.outputs[0])
    parts, row = context.leaf_sums(of.width), aligned(of.width, np.float32)
    adding = context.slots.adding
    first = Step(conv.sum_rows, (span(dy), parts, of.height))
    if of.width == of.channels:
        return [first, sum_leaves_into(parts, total, context, adding=adding)]
    last = Step(conv.fold_pixels, (row, total, adding), "batch", units=total.size)
    return [first, sum_leaves_into(parts, row, context), last]
