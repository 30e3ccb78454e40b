"""The table of a network: shapes, parameters, multiply-adds, bytes and receptive fields."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from glassnet.layers.base import Layer
from glassnet.layers.chain import Chain
from glassnet.layers.combine import Concat, Residual
from glassnet.layers.conv_transpose import ConvTranspose2d
from glassnet.shapes import Geometry, Shape, batched


@dataclass(frozen=True)
class Row:
    """One layer. macs: multiply-adds of one sample's forward pass; bytes: its output as float32, one sample.

    receptive_field: the (rows, columns) of the image that one output value can see, None where it sees all;
    the statistics of normalisation layers, which every value sees through, are left out. host: runs in NumPy.
    """

    name: str
    kind: str
    output_shape: Shape
    parameters: int
    macs: int
    bytes: int
    receptive_field: tuple[int, int] | None
    frozen: bool
    host: bool


@dataclass(frozen=True)
class Summary:
    """Rows in forward order; `str(summary)` is the table."""

    input_shape: Shape
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Learned numbers in the whole network."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-adds of one sample's forward pass through the whole network."""
        return sum(row.macs for row in self.rows)

    def __str__(self) -> str:
        lines: list[tuple[str, ...]] = [("input", "", batched(self.input_shape), "", "", "", "")]
        for row in self.rows:
            marks = [mark for mark, holds in (("frozen", row.frozen), ("host", row.host)) if holds]
            kind = f"{row.kind} ({', '.join(marks)})" if marks else row.kind
            sees = "all" if row.receptive_field is None else "x".join(map(str, row.receptive_field))
            counts = (f"{count:,}" for count in (row.parameters, row.macs, row.bytes))
            lines.append((row.name, kind, batched(row.output_shape), *counts, sees))
        totals = (f"{total:,}" for total in (self.parameters, self.macs, sum(r.bytes for r in self.rows)))
        lines.append(("total", "", "", *totals, ""))
        header = ("layer", "kind", "output", "parameters", "MACs", "bytes", "sees")
        rows = table(header, lines, left=3)
        return "\n".join((*rows[:-1], rows[1], rows[-1]))


def table(header: Sequence[str], lines: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Header, rule and lines in columns; the first `left` columns are flush left, the others right."""
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    text = [
        "  ".join(
            f"{cell:<{width}}" if i < left else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in (header, *lines)
    ]
    return [text[0].rstrip(), "-" * len(text[0]), *(line.rstrip() for line in text[1:])]


@dataclass(frozen=True)
class Field:
    """How far one value sees (size) and how far apart neighbours look (jump), in input pixels."""

    size: tuple[float, float] = (1, 1)
    jump: tuple[float, float] = (1, 1)

    def after(self, geometry: Geometry) -> Field:
        """size + (extent - 1) * jump, jump * stride (Araujo, Norris, Sim 2019)."""
        (height, width), (down, right) = self.size, self.jump
        (eh, ew), (sh, sw) = geometry.extent, geometry.stride
        return Field((height + (eh - 1) * down, width + (ew - 1) * right), (down * sh, right * sw))

    def after_transposed(self, geometry: Geometry) -> Field:
        """One output reads at most (extent - 1) // stride + 1 inputs a side, and neighbours share most."""
        (height, width), (down, right) = self.size, self.jump
        (eh, ew), (sh, sw) = geometry.extent, geometry.stride
        size = (height + (eh - 1) // sh * down, width + (ew - 1) // sw * right)
        return Field(size, (down / sh, right / sw))


def summarise(root: Chain, hosts: Collection[str] = ()) -> Summary:
    """The rows of every layer that holds no others; `hosts`: layers that run in NumPy, with all they hold."""
    rows: list[Row] = []
    image = len(root.input_shape or ()) == 3
    _walk(root, Field() if image else None, rows)
    marked = [replace(r, host=any(f"{r.name}.".startswith(f"{host}.") for host in hosts)) for r in rows]
    return Summary(root.input_shape or (), tuple(marked))


def _walk(layer: Layer, field: Field | None, rows: list[Row]) -> Field | None:
    """Add the rows of `layer` and return the field after it; None sees the whole image."""
    if isinstance(layer, Chain):
        for child in layer.children().values():
            field = _walk(child, field, rows)
        return field
    if isinstance(layer, Residual | Concat):
        ends = [_walk(child, field, rows) for child in layer.children().values()]
        return None if None in ends else max((end for end in ends if end), key=lambda end: end.size)
    if layer.input_shape and len(layer.input_shape) == 3 and len(layer.output_shape or ()) == 1:
        field = None  # Flatten and global pooling join all pixels
    elif field is not None and isinstance(geometry := getattr(layer, "geometry", None), Geometry):
        transposed = isinstance(layer, ConvTranspose2d)
        field = field.after_transposed(geometry) if transposed else field.after(geometry)
    shape = layer.output_shape or ()
    parameters = sum(t.value.size for t in layer.tensors.values() if t.kind == "parameter")
    rows.append(
        Row(
            layer.name,
            type(layer).__name__,
            shape,
            parameters,
            layer.macs(),
            4 * math.prod(shape),
            None if field is None else (math.ceil(field.size[0]), math.ceil(field.size[1])),
            frozen=not layer.trainable and parameters > 0,
            host=False,
        )
    )
    return field
