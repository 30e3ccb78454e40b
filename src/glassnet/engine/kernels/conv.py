"""Convolution and linear layers as tables of register tiles.

All three passes are the same loop (see `tile`): a table lists, for one row of the output, each tile with
where it enters its operands; a kernel walks the rows. The tables come from `lowering.conv`.
"""

from __future__ import annotations

from glassnet.engine.kernels.image import ZERO, clear_halo
from glassnet.engine.machine.kernel import f32, i64, kernel
from glassnet.engine.machine.tile import call_tile

SAMPLES, TILES = 64, 48
"""A linear layer's weight gradient sums so many samples in so many tiles, then others: they stay cached."""


@kernel
def tile_rows(
    x: f32[2],
    x_at: i64,
    x_row: i64,
    w: f32[1],
    bias: f32[1],
    y: f32[2],
    y_at: i64,
    y_row: i64,
    rows: i64[2],
    tiles: i64[2],
    sizes: i64[1],
    strides: i64[1],
    halo: i64[1],
    lo: i64,
    hi: i64,
) -> None:
    """Each output row of each sample from a table of tiles (address, offset in x, w, y and bias).

    rows: for each output row its offset in x and in w, R, the kernel rows that lie inside x there, and its
    offset in y. sizes: S and K. strides: the steps of x (pixel, r, s, k), of w (r, s, k), the pixel of y, and
    the outer steps of x and y, for tiles over more than one row.
    halo: (height, width) of y where its halo is to be cleared, (0, 0) where another step does.
    """
    for n in range(lo, hi):
        x_start = (n % x.shape[0]) * x.shape[1] + x_at
        y_start = (n % y.shape[0]) * y.shape[1] + y_at
        if halo[0] > 0:
            clear_halo(y, n % y.shape[0], y_at, y_row, halo[0], halo[1])
        for i in range(rows.shape[0]):
            for t in range(tiles.shape[0]):
                call_tile(
                    tiles[t, 0],
                    (rows[i, 2], sizes[0], sizes[1]),
                    x,
                    x_start + rows[i, 0] + tiles[t, 1],
                    (strides[0], strides[8]),
                    (strides[1], strides[2], strides[3]),
                    w,
                    rows[i, 1] + tiles[t, 2],
                    (strides[4], strides[5], strides[6]),
                    y,
                    y_start + rows[i, 3] + tiles[t, 3],
                    (strides[7], strides[9]),
                    bias,
                    tiles[t, 4],
                )


@kernel
def mask_by_output(
    x: f32[2],
    x_at: i64,
    x_row: i64,
    y: f32[2],
    y_at: i64,
    y_row: i64,
    height: i64,
    width: i64,
    lo: i64,
    hi: i64,
) -> None:
    """x = 0 where y is not above 0, in place: the gradient of ReLU."""
    for n in range(lo, hi):
        r, q = n % x.shape[0], n % y.shape[0]
        for h in range(height):
            for i in range(width):
                at = x_at + h * x_row + i
                x[r, at] = x[r, at] if y[q, y_at + h * y_row + i] > ZERO else ZERO


@kernel
def tile_weight_grad(
    x: f32[2],
    x_at: i64,
    x_row: i64,
    dy: f32[2],
    dy_at: i64,
    dy_row: i64,
    dw: f32[2],
    tiles: i64[2],
    width: i64,
    strides: i64[1],
    lo: i64,
    hi: i64,
    leaf: i64,
    first: i64,
) -> None:
    """dw[leaf] += x^T dy of each sample, from a table of tiles.

    tiles: address to start at zero, to start at dw, offset in x, in dy, in dw, and S, the rows of dy that
    read rows of x that exist. Sums run over `width` pixels. strides: x (row, outer, s, k), dy (s, k),
    dw (row, outer).
    """
    for n in range(lo, hi):
        x_start = (n % x.shape[0]) * x.shape[1] + x_at
        dy_start = (n % dy.shape[0]) * dy.shape[1] + dy_at
        fresh = first != 0 and n == lo
        for t in range(tiles.shape[0]):
            tile = tiles[t, 0] if fresh else tiles[t, 1]
            call_tile(
                tile,
                (1, tiles[t, 5], width),
                x,
                x_start + tiles[t, 2],
                (strides[0], strides[1]),
                (0, strides[2], strides[3]),
                dy,
                dy_start + tiles[t, 3],
                (0, strides[4], strides[5]),
                dw,
                leaf * dw.shape[1] + tiles[t, 4],
                (strides[6], strides[7]),
                dw,
                0,
            )


@kernel
def sum_rows(
    dy: f32[2],
    dy_at: i64,
    dy_row: i64,
    parts: f32[2],
    height: i64,
    lo: i64,
    hi: i64,
    leaf: i64,
    first: i64,
) -> None:
    """parts[leaf] += each image row of dy: long sums of neighbours, to be folded into channels at the end."""
    width = parts.shape[1]
    if first:
        for i in range(width):
            parts[leaf, i] = ZERO
    for n in range(lo, hi):
        r = n % dy.shape[0]
        for h in range(height):
            for i in range(width):
                parts[leaf, i] += dy[r, dy_at + h * dy_row + i]


@kernel
def fold_pixels(row: f32[1], total: f32[1], adding: i64[1], lo: i64, hi: i64) -> None:
    """total[c] = the sum of row[w*C + c] over w, or += where `adding`; units are channels."""
    channels = total.shape[0]
    for c in range(lo, hi):
        value = ZERO
        for w in range(row.shape[0] // channels):
            value += row[w * channels + c]
        total[c] = total[c] + value if adding[0] else value


@kernel
def rotate_weights(w: f32[4], taps: i64[2], groups: i64, apart: i64, wt: f32[1], lo: i64, hi: i64) -> None:
    """wt[tap, o, c] = w[u, v, c, o] for each tap (u, v, offset in wt), rows o being `apart`.

    With groups, o counts within its group and c over all input channels: wt[tap, o, g*C/groups + c].
    """
    inputs, outputs = w.shape[2], w.shape[3]
    own = outputs // groups
    for t in range(lo, hi):
        u, v, start = taps[t, 0], taps[t, 1], taps[t, 2]
        for g in range(groups):
            for o in range(own):
                for c in range(inputs):
                    wt[start + o * apart + g * inputs + c] = w[u, v, c, g * own + o]


@kernel
def linear_rows(
    x: f32[2],
    x_at: i64,
    x_row: i64,
    w: f32[1],
    bias: f32[1],
    y: f32[2],
    y_at: i64,
    y_row: i64,
    tiles: i64[3],
    columns: i64[2],
    inner: i64,
    samples: i64[1],
    by_column: i64,
    lo: i64,
    hi: i64,
) -> None:
    """y = x w + b: samples are the rows of a tile. Work units are samples, or columns (`by_column`) of all.

    tiles: for each kind of column (rows, address), rows falling to 1. columns: (kind, first output, where its
    weights start in w, and how far apart those of two inputs lie).
    """
    from_column, to_column, from_row, to_row = 0, columns.shape[0], lo, hi
    if by_column:
        from_column, to_column, from_row, to_row = lo, hi, 0, samples[0]
    for t in range(from_column, to_column):
        n = from_row
        kind, o = columns[t, 0], columns[t, 1]
        for size in range(tiles.shape[1]):
            rows = tiles[kind, size, 0]
            while to_row - n >= rows:
                call_tile(
                    tiles[kind, size, 1],
                    (1, 1, inner),
                    x,
                    (n % x.shape[0]) * x.shape[1] + x_at,
                    (x.shape[1], 0),
                    (0, 0, 1),
                    w,
                    columns[t, 2],
                    (0, 0, columns[t, 3]),
                    y,
                    (n % y.shape[0]) * y.shape[1] + y_at + o,
                    (y.shape[1], 0),
                    bias,
                    o,
                )
                n += rows


@kernel
def linear_weight_grad(
    x: f32[2],
    x_at: i64,
    x_row: i64,
    dy: f32[2],
    dy_at: i64,
    dy_row: i64,
    dw: f32[2],
    tiles: i64[2],
    samples: i64[1],
    adding: i64[1],
    lo: i64,
    hi: i64,
) -> None:
    """dw[i, o] = sum over all n of x[n, i] * dy[n, o], or += where `adding`; a unit is a tile of the table.

    tiles: (starting at zero, at dw; first input, first output). No leaves: each unit sums over n in order,
    a few samples of all tiles after another, so that they stay in the cache.
    """
    for start in range(lo, hi, TILES):
        for n in range(0, samples[0], SAMPLES):
            fresh = n == 0 and adding[0] == 0
            for t in range(start, min(start + TILES, hi)):
                call_tile(
                    tiles[t, 0] if fresh else tiles[t, 1],
                    (1, 1, min(SAMPLES, samples[0] - n)),
                    x,
                    n * x.shape[1] + x_at + tiles[t, 2],
                    (1, 0),
                    (0, 0, x.shape[1]),
                    dy,
                    n * dy.shape[1] + dy_at + tiles[t, 3],
                    (0, 0, dy.shape[1]),
                    dw,
                    tiles[t, 2] * dw.shape[1] + tiles[t, 3],
                    (dw.shape[1], 0),
                    dw,
                    0,
                )


@kernel
def pack(w: f32[2], panels: f32[1], table: i64[2], lo: i64, hi: i64) -> None:
    """Some columns of w after others, row by row, so that a tile reads them as one run of memory.

    table, a row a panel: (first column, columns, where it starts, how far apart its rows lie). Units are 16
    rows of w.
    """
    for t in range(table.shape[0]):
        first, width, start, apart = table[t, 0], table[t, 1], table[t, 2], table[t, 3]
        for i in range(16 * lo, min(16 * hi, w.shape[0])):
            for o in range(width):
                panels[start + i * apart + o] = w[i, first + o]


@kernel
def pack_transposed(w: f32[2], panels: f32[1], table: i64[2], lo: i64, hi: i64) -> None:
    """The same of the transposed w; units are panels."""
    for t in range(lo, hi):
        first, width, start, apart = table[t, 0], table[t, 1], table[t, 2], table[t, 3]
        for o in range(w.shape[1]):
            for i in range(width):
                panels[start + o * apart + i] = w[first + i, o]


@kernel
def sum_leaves(
    parts: f32[2], total: f32[1], samples: i64[1], chunk: i64, adding: i64[1], lo: i64, hi: i64
) -> None:
    """total = the leaves added along a fixed binary tree, or += where `adding`; units are 256 numbers.

    The tree depends on the number of leaves alone, so the sum has the same bits on any number of threads.
    """
    leaves = min(parts.shape[0], (samples[0] + chunk - 1) // chunk)
    end = min(256 * hi, total.shape[0])
    step = 1
    while step < leaves:
        leaf = 0
        while leaf < leaves - step:
            for i in range(256 * lo, end):
                parts[leaf, i] += parts[leaf + step, i]
            leaf += 2 * step
        step *= 2
    if adding[0]:
        for i in range(256 * lo, end):
            total[i] += parts[0, i]
    else:
        for i in range(256 * lo, end):
            total[i] = parts[0, i]
