"""Lowerings of convolution's input gradient: as convolutions of dy, or as runs of dx that each dy adds to."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from glassnet.engine.kernels import conv, depthwise
from glassnet.engine.kernels.image import clear_image
from glassnet.engine.lowering.base import Context, lowers, span
from glassnet.engine.lowering.conv import (
    NOTHING,
    columns_at,
    ints,
    is_depthwise,
    kernel_rows,
    rows_step,
    table,
    tile,
)
from glassnet.engine.machine.cpu import Cpu
from glassnet.engine.machine.tile import Columns, plan_parts, plan_rows, vector_time
from glassnet.plan.passes.layout import Phase, phases
from glassnet.plan.plan import Step
from glassnet.plan.symbols import Operation, Symbol
from glassnet.shapes import Geometry
from glassnet.store import aligned

LOADING = 1.25
"""How much longer a multiply-add takes where sums are loaded and stored for each few pixels."""


@lowers("conv2d_input_grad")
def conv2d_input_grad(operation: Operation, context: Context) -> list[Step]:
    """Stride s: s*s dense convolutions of dy, each writing every s-th pixel of dx; the weights turned."""
    dy, w = operation.inputs[:2]
    assert dy is not None and w is not None
    dx, geometry = operation.outputs[0], operation.settings["geometry"]
    of, to = context.image(dy), context.image(dx)
    groups, c, o = geometry.groups, to.channels, of.channels
    if by_runs(geometry, c, context.cpu):
        return _runs(dy, w, dx, geometry, context)
    steps: list[Step] = []
    pairs = [(p, q) for p in phases(geometry, 0) for q in phases(geometry, 1)]
    full = [(p, q) for p, q in pairs if p.taps and q.taps]
    halo = (to.height, to.width)
    if len(full) < len(pairs) or not full:
        steps.append(Step(clear_image, (span(dx),)))
        halo = (0, 0)
    by_channel = is_depthwise(geometry, c, o)
    pixel_macs = math.prod(geometry.output) * math.prod(w.shape[2:])
    if full and not by_channel:
        turned, starts = _turn(w, full, groups, context)
        steps.insert(0, turned)
    for number, (p, q) in enumerate(full):
        macs = pixel_macs * len(p.taps) * len(q.taps)
        into = p.first * to.row + q.first * c
        down_step, across_step = geometry.stride[0] * to.row, geometry.stride[1] * c
        if by_channel:
            taps = [
                [i * of.row + j * o, (u * geometry.kernel[1] + v) * c] for u, i in p.taps for v, j in q.taps
            ]
            sizes = [p.count, q.count, of.row, o, down_step, across_step, False, *halo, into]
            zero = np.zeros(c, np.float32)
            arguments = (span(dy), context.flat(w), zero, span(dx), table(taps), ints(sizes))
            kernel = depthwise.depthwise(c, len(taps), context.cpu.lanes)
            steps.append(Step(kernel, arguments, macs=macs))
        else:
            tiles = _phase_tiles(context, q, groups, c, o, into, across_step, starts[number])
            block = len(q.taps) * (o // groups) * c
            rows = kernel_rows(p.taps, 1, p.count, of, block, down_step)
            extents, s_steps = _phase_steps(q, groups, c, o)
            down = p.taps[1][1] - p.taps[0][1] if len(p.taps) > 1 else 0
            strides = (o, down * of.row, s_steps[0], 1, block, s_steps[1], c, across_step, 0, 0)
            weights = turned.arguments[-1]
            steps.append(
                rows_step(context, dy, weights, NOTHING, dx, rows, tiles, extents, strides, halo, macs)
            )
        halo = (0, 0)
    return steps


def _turn(
    w: Symbol, full: list[tuple[Phase, Phase]], groups: int, context: Context
) -> tuple[Step, list[int]]:
    """The step that turns the weights of every phase, and where each phase's begin."""
    block = math.prod(w.shape[2:])
    taps: list[list[int]] = []
    starts = []
    for p, q in full:
        starts.append(len(taps) * block)
        taps += [
            [u, v, (len(taps) + i) * block]
            for i, (u, v) in enumerate((u, v) for u, _ in p.taps for v, _ in q.taps)
        ]
    turned = aligned(len(taps) * block, np.float32)
    arguments = (context.array(w), table(taps), groups, groups * w.shape[2], turned)
    return Step(conv.rotate_weights, arguments, "prepare", units=len(taps)), starts


def _phase_tiles(
    context: Context,
    q: Phase,
    groups: int,
    c: int,
    o: int,
    into: int,
    across_step: int,
    start: int,
) -> list[list[int]]:
    tiles = []
    for g in range(groups):
        for first, columns in columns_at(c // groups, context):
            channel, j = g * (c // groups) + first, 0
            for rows in plan_rows(q.count, columns.max_rows(context.cpu)):
                enter = (q.taps[0][1] + j) * o + g * (o // groups)
                tiles.append(
                    [
                        tile(context, rows, columns),
                        enter,
                        start + channel,
                        into + j * across_step + channel,
                        0,
                    ]
                )
                j += rows
    return tiles


def _phase_steps(q: Phase, groups: int, c: int, o: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(S, K) and the steps of s in dy and in the turned weights: over a row's taps and dy's channels."""
    own = o // groups
    step = q.taps[1][1] - q.taps[0][1] if len(q.taps) > 1 else 1
    if groups == 1 and step == 1:  # neighbours in dy and in the weights: one run of memory
        return (1, len(q.taps) * o), (0, 0)
    return (len(q.taps), own), (step * o, own * c)


def by_runs(geometry: Geometry, channels: int, cpu: Cpu) -> bool:
    """Whether it is quicker to add each pixel of dy to all that it concerns in a row of dx, which is one run.

    A run of kw*C numbers fills vectors better than C do, and no zeros beside dy are multiplied.
    """
    if geometry.groups > 1 or geometry.dilation[1] > 1 or any(geometry.padding[2:]):
        return False
    pixels = sum(q.count * len(q.taps) for q in phases(geometry, 1))
    alone = pixels * vector_time(channels, cpu)
    return LOADING * geometry.output[1] * vector_time(geometry.kernel[1] * channels, cpu) < alone


def _runs(dy: Symbol, w: Symbol, dx: Symbol, geometry: Geometry, context: Context) -> list[Step]:
    """dx[i, s*j + v, c] += dy[.., j, o] w[u, v, c, o] for all v and c, of several j whose runs do not meet.

    Where these are few, two rows of dx go together.
    """
    of, to = context.image(dy), context.image(dx)
    (_, kw), (sh, sw), width = geometry.kernel, geometry.stride, geometry.output[1]
    c, o = to.channels, of.channels
    places = columns_at(kw * c, context)
    apart = sum(columns.vectors * columns.lanes for _, columns in places)
    vertical = [p for p in phases(geometry, 0) if p.taps]
    clear = Step(clear_image, (span(dx),))
    if not vertical:
        return [clear]
    taps = [u for p in vertical for u, _ in p.taps]
    block = o * apart
    turned = aligned(len(taps) * block, np.float32)
    starts = [[u, v, i * block + v * c] for (i, u), v in product(enumerate(taps), range(kw))]
    arguments = (context.array(w), table(starts), 1, apart, turned)
    steps = [Step(conv.rotate_weights, arguments, "prepare", units=len(starts)), clear]
    spacing = -(-kw // sw)
    pairs = all(2 * -(-width // spacing) <= columns.max_rows(context.cpu) for _, columns in places)
    begin = 0
    for p in vertical:
        down = p.taps[1][1] - p.taps[0][1] if len(p.taps) > 1 else 0
        strides = (spacing * o, down * of.row, 0, 1, block, 0, apart, spacing * sw * c, of.row, sh * to.row)
        rows = kernel_rows(p.taps, 1, p.count, of, block, sh * to.row)
        rows = [[x, begin + k, r, p.first * to.row + y] for x, k, r, y in rows]
        share = math.prod(geometry.output) * math.prod(w.shape[1:]) * len(p.taps)
        whole = len(rows) // 2 * 2 if pairs else 0
        both = [_both(rows[i], rows[i + 1], block, down * of.row) for i in range(0, whole, 2)]
        inside = [sum(row[2] for row in some) for some in (rows[:whole], rows[whole:])]
        for height, some, part in ((2, both, inside[0]), (1, rows[whole:], inside[1])):
            if some:
                tiles = _run_tiles(context, places, width, spacing, height, o, sw * c)
                macs = share * part // sum(inside)
                steps.append(
                    rows_step(context, dy, turned, NOTHING, dx, some, tiles, (1, o), strides, (0, 0), macs)
                )
        begin += len(p.taps) * block
    return steps


def _both(upper: list[int], lower: list[int], block: int, down: int) -> list[int]:
    """Two rows of `kernel_rows` as one: the taps of either; where one has no pixel there are zeros."""
    first, end = min(upper[1], lower[1]), max(row[1] + row[2] * block for row in (upper, lower))
    earlier = (upper[1] - first) // block
    return [upper[0] - earlier * down, first, (end - first) // block, upper[3]]


def _run_tiles(
    context: Context, places: list[tuple[int, Columns]], width: int, spacing: int, height: int, o: int, c: int
) -> list[list[int]]:
    """Tiles of every `spacing`-th pixel in `height` rows; runs of neighbours begin `c` apart."""
    tiles = []
    for first, columns in places:
        most = columns.max_rows(context.cpu) // height
        for j in range(min(spacing, width)):
            at = j
            for count in plan_rows(len(range(j, width, spacing)), most):
                rows = height * count
                parts = plan_parts(rows * columns.vectors, o)
                address = tile(context, rows, columns, start="load", inner=count, parts=parts)
                tiles.append([address, at * o, first, at * c + first, 0])
                at += count * spacing
    return tiles
