"""The table of a network: shapes, parameters, multiply-adds, bytes and receptive fields."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .layers.base import Layer
from .layers.combine import Chain, Concat, Residual
from .shapes import Geometry, Shape, batched


@dataclass(frozen=True)
class Row:
    """One layer. macs: multiply-adds of one sample's forward pass; bytes: its output as float32, one sample.

    receptive_field: the (rows, columns) of the image that one output value can see, None where it sees all.
    """

    name: str
    kind: str
    output_shape: Shape
    parameters: int
    macs: int
    bytes: int
    receptive_field: tuple[int, int] | None
    frozen: bool


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
        table = [("layer", "kind", "output", "parameters", "MACs", "bytes", "sees")]
        table += [("input", "", batched(self.input_shape), "", "", "", "1x1")]
        for row in self.rows:
            sees = "all" if row.receptive_field is None else "x".join(map(str, row.receptive_field))
            table.append(
                (
                    row.name,
                    row.kind + (" (frozen)" if row.frozen else ""),
                    batched(row.output_shape),
                    f"{row.parameters:,}",
                    f"{row.macs:,}",
                    f"{row.bytes:,}",
                    sees,
                )
            )
        table.append(
            (
                "total",
                "",
                "",
                f"{self.parameters:,}",
                f"{self.macs:,}",
                f"{sum(r.bytes for r in self.rows):,}",
                "",
            )
        )
        widths = [max(len(line[i]) for line in table) for i in range(7)]
        lines = [
            "  ".join(
                cell.ljust(w) if i < 3 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in table
        ]
        rule = "-" * len(lines[0])
        return "\n".join(line.rstrip() for line in (lines[0], rule, *lines[1:-1], rule, lines[-1]))


@dataclass(frozen=True)
class Field:
    """How far one value sees (size) and how far apart neighbours look (jump), in input pixels."""

    size: tuple[int, int] = (1, 1)
    jump: tuple[int, int] = (1, 1)

    def after(self, geometry: Geometry) -> Field:
        """size + (extent - 1) * jump, jump * stride (Araujo, Norris, Sim 2019)."""
        return Field(
            tuple(s + (e - 1) * j for s, e, j in zip(self.size, geometry.extent, self.jump, strict=True)),  # type: ignore[arg-type]
            tuple(j * s for j, s in zip(self.jump, geometry.stride, strict=True)),  # type: ignore[arg-type]
        )


def summarise(root: Chain) -> Summary:
    """The rows of every layer that holds no others."""
    rows: list[Row] = []
    _walk(root, Field(), rows)
    return Summary(root.input_shape or (), tuple(rows))


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
        field = field.after(geometry)
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
            None if field is None else field.size,
            frozen=not layer.trainable and parameters > 0,
        )
    )
    return field
