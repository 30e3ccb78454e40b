"""The gradient checker: every analytic gradient of a network held against central differences, in float64.

A fresh network hides mistakes: gamma is 1, biases are 0, and flat image areas put max-pooling exactly on a
tie. So the check happens close by: in a copy, parameters and images are first moved by a tenth of their size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from glassnet.data.dataset import Split
from glassnet.errors import ConfigError, DataError, ShapeError
from glassnet.layers import Chain
from glassnet.network import Sequential
from glassnet.ops.base import LayerLike
from glassnet.shapes import Shape
from glassnet.summary import table
from glassnet.trace import TracingOps

Array = np.ndarray
Name = tuple[str, str]  # a layer's dotted name, and its "weight", "bias", ... or "x"
Place = int | Array  # one entry of a tensor by its flat number, or a direction of the tensor's shape
Batch = tuple[Array, Array, Array]  # x (N, H, W, C), target (N, K), share (N,)

SAMPLED = 200  # a larger tensor is checked at so many drawn entries and along one random direction
POINTS = 4  # so often a kink is evaded by moving elsewhere
SKIPPED = 0.1  # the largest part of the slopes that kinks may hide


@dataclass(frozen=True)
class GradcheckRow:
    """One tensor. error: the largest |a - n| / max(|a|, |n|, 1e-3 max|n|) over `checked` slopes, at `where`.

    layer, tensor: "conv2d_1" and "weight", "bias", ..., or "x", what the layer is given.
    kinks: slopes left out, because the loss bends there (ReLU at 0, a tie in max-pooling) at every try.
    mode: "training", or "evaluation" where the tensor cannot matter in training.
    verdict: "ok", "wrong", "no effect" (the loss does not depend on it in either mode) or "too many kinks".
    """

    layer: str
    tensor: str
    shape: Shape
    checked: int
    kinks: int
    error: float
    where: str
    mode: str
    verdict: str

    @property
    def name(self) -> str:
        """`conv2d_1.weight`."""
        return f"{self.layer}.{self.tensor}"

    @property
    def ok(self) -> bool:
        """Whether the gradient is proved."""
        return self.verdict == "ok"


@dataclass(frozen=True)
class GradcheckReport:
    """Rows in forward order: of each layer its input, then its parameters. `str(report)` is the table."""

    rows: tuple[GradcheckRow, ...]
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether every gradient is proved."""
        return all(row.ok for row in self.rows)

    @property
    def worst(self) -> GradcheckRow:
        """Where to look first: the last row that is not proved, because errors flow backwards.

        Where all are proved, the row of the largest error.
        """
        unproved = [row for row in self.rows if not row.ok]
        return unproved[-1] if unproved else max(self.rows, key=lambda row: row.error)

    def __str__(self) -> str:
        header = ("gradient of", "shape", "checked", "kinks", "error", "at", "mode", "verdict")
        lines = [
            (r.name, str(r.shape), str(r.checked), str(r.kinks), f"{r.error:.1e}", r.where, r.mode, r.verdict)
            for r in self.rows
        ]
        count = sum(row.ok for row in self.rows)
        proved = f"{count} of {len(self.rows)} gradients proved to {self.tolerance:.0e}."
        advice = "" if self.ok else f" Errors flow backwards: look at {self.worst.name} first."
        return "\n".join((*table(header, lines, left=2), proved + advice))


def gradcheck(
    net: Sequential,
    data: Split | Any,
    y: Sequence[Any] | Array | None = None,
    *,
    eps: float = 1e-5,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> GradcheckReport:
    """Check the gradient of the network's loss with respect to each layer's input and each parameter.

    data: a Split, or images with labels `y`; four images are enough. The network itself does not change.
    In training mode; what cannot matter there (a bias before batch normalisation), in evaluation mode.
    """
    twin = net.as_dtype(np.float64)
    if isinstance(data, Split):
        twin.preprocessing, twin.classes = data.preprocessing, data.classes
        images, y = data.images, data.labels
    else:
        images = data
    if y is None:
        raise ConfigError("A gradient check needs labels: gradcheck(net, images, labels), or a Split.")
    x = twin.inputs(images).astype(np.float64)
    if not len(x):
        raise DataError("A gradient check needs at least one image, got none.")
    target, share = twin.loss.targets(twin.labels(y), twin.outputs)
    checker = _Checker(twin, (x, target, share), eps, tolerance, seed)
    return GradcheckReport(tuple(map(checker.row, checker.tensors())), tolerance)


class _Slope(NamedTuple):
    """Along one direction: the analytic slope, those to either side, and what rounding does to the latter."""

    analytic: float
    below: float
    above: float
    noise: float

    @property
    def numeric(self) -> float:
        """The central difference."""
        return (self.below + self.above) / 2

    def error(self, floor: float, tolerance: float) -> float:
        """Relative; what rounding alone can explain is below the tolerance."""
        size = max(abs(self.analytic), abs(self.numeric), floor, self.noise / tolerance)
        return abs(self.analytic - self.numeric) / size

    @property
    def bend(self) -> float:
        """How far the two sides disagree, beyond rounding: in proportion to the step, except at a kink."""
        return max(abs(self.above - self.below) - 4 * self.noise, 0.0)


class _NudgedOps(TracingOps):
    """The reference backend with something added to the input of each layer: `nudges`, by layer name."""

    def __init__(self, seed: int, nudges: dict[str, Array], draw: Callable[[str, Array], Array]) -> None:
        super().__init__(seed=seed)
        self.nudges, self.draw = nudges, draw

    def call(self, layer: LayerLike, x: Array, train: bool) -> tuple[Array, Any]:
        if layer.name not in self.nudges:
            self.nudges[layer.name] = self.draw(layer.name, x)
        return super().call(layer, x + self.nudges[layer.name], train)


class _Point:
    """A network and a batch, moved a little at random, and the analytic gradients there.

    tensors and gradients are by (layer, tensor); that called "x" is what is added to the layer's input.
    """

    def __init__(self, net: Sequential, batch: Batch, train: bool, seed: int, number: int) -> None:
        self.net, self.train = net.as_dtype(np.float64), train
        self.x, self.target, self.share = batch
        generator = np.random.default_rng((seed, number))
        for parameter in map(self.net.store.value, self.net.store.parameters):
            parameter += _noise(parameter, generator)

        def draw(name: str, x: Array) -> Array:
            """Images move always; what is between layers moves only to evade a kink."""
            return _noise(x, generator) if number or not name else np.zeros_like(x)

        self.nudges: dict[str, Array] = {}
        self.ops = lambda: _NudgedOps(seed, self.nudges, draw)  # a new one each pass: the same dropout masks
        ops = self.ops()
        scores, saved = ops.call(self.net, self.x, train)
        self.losses = net.loss.forward(ops, scores, self.target, self.share)
        dscores = net.loss.backward(ops, scores, self.target, self.share)
        trace = ops.finish(self.losses, scores, ops.call_backward(self.net, dscores, saved)[1])
        self.tensors: dict[Name, Array] = {}
        self.gradients: dict[Name, Array | None] = {}
        for layer in self.net.walk():
            if isinstance(layer, Chain):
                continue  # its input is that of its first layer
            seen = trace[layer.name]
            self.tensors[layer.name, "x"] = self.nudges[layer.name]
            self.gradients[layer.name, "x"] = seen.input_grad
            for tensor in (t for t, p in layer.tensors.items() if p.kind == "parameter"):
                self.tensors[layer.name, tensor] = getattr(layer, tensor)
                self.gradients[layer.name, tensor] = seen.grads.get(tensor)
        rounded = np.abs(self.losses).sum() + np.abs(scores * dscores).sum()
        self.noise = 8 * np.finfo(np.float64).eps * float(rounded)

    def slope(self, name: Name, place: Place, step: float) -> _Slope:
        """Slopes of the loss as a tensor moves by `step` to either side of where it is."""
        tensor, gradient = self.tensors[name], self.gradients[name]
        if gradient is None or gradient.shape != tensor.shape:
            raise ShapeError(
                f"{name[0]}.backward must return a gradient of shape {tensor.shape} for {name[1]!r}, "
                f"got {'none' if gradient is None else gradient.shape}."
            )
        start = tensor.copy()
        moved = []
        for signed in (-step, step):
            if isinstance(place, int):
                tensor.flat[place] += signed
            else:
                tensor += signed * place
            ops = self.ops()
            scores, _ = ops.call(self.net, self.x, self.train)
            moved.append(self.net.loss.forward(ops, scores, self.target, self.share))
            tensor[...] = start
        # Sample by sample: what a sample does not feel cancels to the bit.
        below, above = np.sum(self.losses - moved[0]) / step, np.sum(moved[1] - self.losses) / step
        analytic = gradient.flat[place] if isinstance(place, int) else np.sum(gradient * place)
        return _Slope(float(analytic), float(below), float(above), self.noise / step)


class _Checker:
    """Checks tensors one by one, at points that they share."""

    def __init__(self, net: Sequential, batch: Batch, eps: float, tolerance: float, seed: int) -> None:
        self.net, self.batch, self.eps, self.tolerance, self.seed = net, batch, eps, tolerance, seed
        self.points: dict[tuple[int, bool], _Point] = {}
        self.generator = np.random.default_rng(seed)

    def point(self, number: int, train: bool) -> _Point:
        """The point of that number; made when it is first needed."""
        if (number, train) not in self.points:
            self.points[number, train] = _Point(self.net, self.batch, train, self.seed, number)
        return self.points[number, train]

    def tensors(self) -> list[Name]:
        """What there is to check, in forward order."""
        return list(self.point(0, True).tensors)

    def row(self, name: Name, *, train: bool = True) -> GradcheckRow:
        """The proof of one tensor's gradient, or what it lacks."""
        point = self.point(0, train)
        shape = point.tensors[name].shape
        places = self.places(shape)
        slopes = [point.slope(name, place, self.eps) for place in places]
        largest = max(abs(slope.numeric) for slope in slopes)
        mode = "training" if train else "evaluation"
        # Below this, an error of 0.1 % drowns in rounding: to accept it would prove nothing.
        if max(largest, *(abs(slope.analytic) for slope in slopes)) < 1000 * slopes[0].noise:
            if train:
                return self.row(name, train=False)
            return GradcheckRow(*name, shape, 0, 0, np.nan, "", mode, "no effect")
        errors = np.array(
            [
                self.error(name, place, slope, 1e-3 * largest, train)
                for place, slope in zip(places, slopes, strict=True)
            ]
        )
        kinks = int(np.isinf(errors).sum())
        errors[np.isinf(errors)] = 0
        worst = int(errors.argmax())  # a NaN counts as the largest
        error, where = float(errors[worst]), _where(places[worst], shape)
        verdict = "too many kinks" if kinks > SKIPPED * len(places) else "ok"
        verdict = verdict if error <= self.tolerance else "wrong"
        return GradcheckRow(*name, shape, len(places) - kinks, kinks, error, where, mode, verdict)

    def places(self, shape: Shape) -> list[Place]:
        """All entries; beyond SAMPLED, as many drawn ones and a random direction of length 1."""
        size = math.prod(shape)
        if size <= SAMPLED:
            return list(range(size))
        direction = self.generator.standard_normal(shape)
        drawn = self.generator.choice(size, SAMPLED, replace=False)
        return [*map(int, drawn), direction / np.linalg.norm(direction)]

    def error(self, name: Name, place: Place, slope: _Slope, floor: float, train: bool) -> float:
        """The relative error of one slope, where no kink hides it; infinite where one does at every try."""
        for number in range(POINTS):
            point = self.point(number, train)
            wide = point.slope(name, place, self.eps) if number else slope
            error = wide.error(floor, self.tolerance)
            if error <= self.tolerance or not wide.bend > 0:
                return error
            narrow = point.slope(name, place, self.eps / 10)
            error = narrow.error(floor, self.tolerance)
            if error <= self.tolerance or not narrow.bend > 0.15 * wide.bend:  # a tenth where all is smooth
                return error
        return math.inf


def _noise(tensor: Array, generator: np.random.Generator) -> Array:
    """Noise of a tenth of the tensor's root mean square; of 0.01 where it is all zero."""
    size = float(np.sqrt(np.mean(np.square(tensor)))) or 0.1
    return 0.1 * size * generator.standard_normal(tensor.shape)


def _where(place: Place, shape: Shape) -> str:
    """`[0, 2, 1, 7]`, or what it is instead of an entry."""
    if isinstance(place, int):
        return str([int(i) for i in np.unravel_index(place, shape)])
    return "a direction"
