"""What varies between steps: a row for each of several steps to come, and the row of the one that runs."""

from __future__ import annotations

import numpy as np

from glassnet.store import ALIGNMENT, aligned

MOST_ROWS = 256
MOST_BYTES = 8 << 20
"""Rows are as many as fit in this, at most MOST_ROWS and at least one."""

Fields = dict[str, tuple[type, tuple[int, ...]]]


class Inputs:
    """`table[name]` (rows, *shape) is filled for steps to come; `now[name]` (*shape) is what kernels read.

    Each field starts on a cache line. A kernel copies rows, as `table_words` (rows, words) and `now_words`.
    """

    def __init__(self, fields: Fields) -> None:
        offsets, end = [], 0
        for kind, shape in fields.values():
            offsets.append(end)
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
            end += -(-size // ALIGNMENT) * ALIGNMENT
        row = np.dtype(
            {"names": [*fields], "formats": [*fields.values()], "offsets": offsets, "itemsize": max(end, 8)}
        )
        self.rows = max(1, min(MOST_ROWS, MOST_BYTES // row.itemsize))
        self.table_words = aligned(self.rows * row.itemsize // 8, np.int64).reshape(self.rows, -1)
        self.now_words = aligned(row.itemsize // 8, np.int64)
        table = self.table_words.reshape(-1).view(row)
        self.table = {name: table[name] for name in fields}
        self.now = {name: self.now_words.view(row)[name][0] for name in fields}
