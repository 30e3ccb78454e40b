"""The gradient checker: every analytic gradient of a network held against central differences, in float64.

A layer is a pair of pure functions, so each is proved by itself, on the input that it has in the network and
under a random output gradient dy; the loss on the network's scores. The network as a whole then only has to
hand every gradient on rightly. No proof rests on the loss's own gradient, which training makes vanish.

A fresh network hides mistakes, and a trained one saturates: gamma is 1, biases are 0, flat image areas put
max-pooling exactly on a tie; later logits are so large that a softmax is flat. So the check happens close by:
in a copy, parameters and images are moved by a tenth of their size, and what a layer is given is scaled down
to a root mean square of 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from glassnet.data.dataset import Split
from glassnet.errors import ConfigError, ShapeError
from glassnet.layers import Chain, Layer
from glassnet.network import Sequential
from glassnet.ops.base import Grads, LayerLike
from glassnet.ops.reference import ReferenceOps
from glassnet.shapes import Shape
from glassnet.summary import table

Array = np.ndarray
Name = tuple[str, str]  # a layer's dotted name, NETWORK or LOSS; and its "x", "weight", ... or "scores"
Place = int | Array  # one entry of a tensor by its flat number, or a direction of the tensor's shape
Batch = tuple[Array, Array, Array]  # x (N, H, W, C), target (N, K), share (N,)
Move = tuple[float, Array]  # what a layer is given becomes scale * x + nudge

NETWORK, LOSS = "", "."  # the outermost layer's name, and what is no layer's name
LABELS = {NETWORK: "network", LOSS: "loss"}
SAMPLED = 200  # a larger tensor is checked at so many drawn entries and along one random direction
DIRECTIONS = 4  # of a layer made of layers, so many are enough: what is inside is checked entry by entry
POINTS = 4  # so often a kink is evaded by moving elsewhere
SKIPPED = 0.1  # the largest part of the slopes that kinks may hide


@dataclass(frozen=True)
class GradcheckRow:
    """One tensor. error: the largest |a - n| / max(|a|, |n|, 1e-3 max|n|) over `checked` slopes, at `where`.

    layer, tensor: "conv2d_1" and "weight", "bias", ..., or "x", what the layer is given; "network" and "x" or
    "conv2d_1.weight", ...: that gradient as it comes through the whole network; "loss" and "scores".
    kinks: slopes left out, because the value bends there (ReLU at 0, a tie in max-pooling) at every try.
    mode: "training", or "evaluation" where the tensor cannot matter in training.
    verdict: "ok", "wrong", "no effect" (the value does not depend on it in either mode) or "too many kinks".
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
    """Rows of the network, of each layer in forward order, and of the loss. `str(report)` is the table."""

    rows: tuple[GradcheckRow, ...]
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether every gradient is proved."""
        return all(row.ok for row in self.rows)

    @property
    def worst(self) -> GradcheckRow:
        """Where to look first: the last row that is not proved; the row of the largest error where all are.

        The mistake of a layer also spoils the rows of the layers around it, and these come before it.
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
        advice = "" if self.ok else f" Look at {self.worst.name} first."
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
    """Check the gradients of each layer, of the network through all its layers, and of its loss.

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
    checker = _Checker(twin, twin.labelled(images, y), eps, tolerance, seed)
    return GradcheckReport(tuple(checker.rows()), tolerance)


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


class _MovedOps(ReferenceOps):
    """The reference backend, where each layer is given scale * x + nudge: `moves`, by layer name.

    `draw` makes a move when it is first needed; `inputs` keeps what layers were given.
    """

    def __init__(self, seed: int, moves: dict[str, Move], draw: Callable[[str, Array], Move]) -> None:
        super().__init__(seed=seed)
        self.moves, self.draw = moves, draw
        self.inputs: dict[str, Array] = {}

    def call(self, layer: LayerLike, x: Array, train: bool) -> tuple[Array, Any]:
        if layer.name not in self.moves:
            self.moves[layer.name] = self.draw(layer.name, x)
        scale, nudge = self.moves[layer.name]
        self.inputs[layer.name] = x = scale * x + nudge
        return super().call(layer, x, train)

    def call_backward(
        self, layer: LayerLike, dy: Array, saved: Any, *, input_grad: bool = True
    ) -> tuple[Array, Grads]:
        dx, grads = super().call_backward(layer, dy, saved, input_grad=input_grad)
        return self.moves[layer.name][0] * dx, grads


class _Function:
    """sum(value() * dy), which reads `tensors`, and its analytic gradients with respect to them."""

    def __init__(
        self, name: str, value: Callable[[], Array], dy: Array, tensors: Grads, gradients: Grads
    ) -> None:
        self.value, self.dy, self.tensors, self.gradients = value, dy, tensors, gradients
        for key, tensor in tensors.items():
            gradient = gradients.get(key)
            if gradient is None or gradient.shape != tensor.shape:
                raise ShapeError(
                    f"{LABELS.get(name, name)}.backward must return a gradient of shape {tensor.shape} for "
                    f"{key!r}, got {'none' if gradient is None else gradient.shape}."
                )
        self.start = value().copy()  # it may be a view of x
        self.noise = 8 * self.rounding(np.finfo(np.float64).eps)

    def rounding(self, unit: float) -> float:
        """How far the sum moves as each number that it is made of moves by one unit in its last place."""
        generator = np.random.default_rng(0)
        kept = {name: tensor.copy() for name, tensor in self.tensors.items()}
        for tensor in self.tensors.values():
            tensor *= 1 + unit * generator.choice([-1, 1], tensor.shape)
        change = (self.value() - self.start) * self.dy
        for name, tensor in self.tensors.items():
            tensor[...] = kept[name]
        return float(unit * np.linalg.norm(self.start * self.dy) + abs(change.sum()) + np.linalg.norm(change))

    def slope(self, key: str, place: Place, step: float) -> _Slope:
        """Slopes of the sum as a tensor moves by `step` to either side of where it is."""
        tensor, gradient = self.tensors[key], self.gradients[key]
        kept = tensor.copy()
        sides = []
        for signed in (-step, step):
            if isinstance(place, int):
                tensor.flat[place] += signed
            else:
                tensor += signed * place
            # Element by element: what does not depend on the tensor cancels to the bit.
            sides.append(float(np.sum((self.value() - self.start) * self.dy)) / signed)
            tensor[...] = kept
        analytic = gradient.flat[place] if isinstance(place, int) else np.sum(gradient * place)
        return _Slope(float(analytic), below=sides[0], above=sides[1], noise=self.noise / step)


class _Point:
    """A network and a batch, moved a little at random, and the functions to be checked there."""

    def __init__(self, net: Sequential, batch: Batch, train: bool, seed: int, number: int) -> None:
        self.net, self.train = net.as_dtype(np.float64), train
        x, target, self.share = batch
        self.generator = np.random.default_rng((seed, number))
        for parameter in map(self.net.store.value, self.net.store.parameters):
            parameter += _noise(parameter, self.generator)
        self.target = (target + self.generator.random(target.shape)) / 2  # no label is sure
        moves: dict[str, Move] = {}

        def draw(name: str, x: Array) -> Move:
            """Images are nudged always; what is between layers only to evade a kink."""
            scale = 1 / max(1.0, _size(x))
            moved = name == NETWORK or number
            return scale, _noise(scale * x, self.generator) if moved else np.zeros_like(x)

        self.ops = lambda: _MovedOps(seed, moves, draw)  # a new one each pass: the same dropout masks
        ops = self.ops()
        scores, _ = ops.call(self.net, x, train)
        self.inputs = ops.inputs | {LOSS: scores / max(1.0, _size(scores))}
        self.layers = {layer.name: layer for layer in self.net.walk()}
        self.functions: dict[str, _Function] = {}

    def names(self) -> list[str]:
        """What there is to check: the network, its layers and its loss; not the chains inside it."""
        chains = {name for name, layer in self.layers.items() if isinstance(layer, Chain)} - {NETWORK}
        return [*(name for name in self.layers if name not in chains), LOSS]

    def is_compound(self, name: str) -> bool:
        """Whether it is a layer made of layers."""
        return name != LOSS and bool(self.layers[name].children())

    def function(self, name: str) -> _Function:
        """The function of that name; made when it is first needed."""
        if name not in self.functions:
            self.functions[name] = self._loss() if name == LOSS else self._layer(self.layers[name])
        return self.functions[name]

    def _loss(self) -> _Function:
        scores, loss = self.inputs[LOSS], self.net.loss

        def value() -> Array:
            return loss.forward(self.ops(), scores, self.target, self.share)

        dscores = loss.backward(self.ops(), scores, self.target, self.share)
        tensors, gradients = {"scores": scores}, {"scores": dscores}
        return _Function(LOSS, value, np.ones(len(scores)), tensors, gradients)

    def _layer(self, layer: Layer) -> _Function:
        x, ops = self.inputs[layer.name], self.ops()
        y, saved = layer.forward(ops, x, self.train)
        dy = self.generator.standard_normal(y.shape)
        dx, grads = ReferenceOps.call_backward(ops, layer, dy, saved)  # without this layer's own move
        own = {key: p.value for key, p in layer.tensors.items() if p.kind == "parameter"}
        inside = {key: self.net.store.value(key) for key in self.net.store.parameters}
        tensors = {"x": x} | (inside if layer is self.net else own)

        def value() -> Array:
            return layer.forward(self.ops(), x, self.train)[0]

        return _Function(layer.name, value, dy, tensors, grads | {"x": dx})


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

    def rows(self) -> list[GradcheckRow]:
        """A row for each tensor of the network, of its layers and of its loss."""
        point = self.point(0, True)
        # The last first: where a gradient has no right shape, the layer is named, not what is around it.
        functions = {name: point.function(name) for name in reversed(point.names())}
        return [self.row((name, key)) for name in point.names() for key in functions[name].tensors]

    def row(self, name: Name, *, train: bool = True) -> GradcheckRow:
        """The proof of one tensor's gradient, or what it lacks."""
        layer, key = name
        function = self.point(0, train).function(layer)
        shape = function.tensors[key].shape
        label = LABELS.get(layer, layer)
        places = self.places(shape, compound=self.point(0, train).is_compound(layer))
        slopes = [function.slope(key, place, self.eps) for place in places]
        largest = max(abs(slope.numeric) for slope in slopes)
        mode = "training" if train else "evaluation"
        # Below this, an error of 0.1 % drowns in rounding: to accept it would prove nothing.
        if max(largest, *(abs(slope.analytic) for slope in slopes)) <= 1000 * slopes[0].noise:
            if train:
                return self.row(name, train=False)
            return GradcheckRow(label, key, shape, 0, 0, np.nan, "", mode, "no effect")
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
        return GradcheckRow(label, key, shape, len(places) - kinks, kinks, error, where, mode, verdict)

    def places(self, shape: Shape, *, compound: bool) -> list[Place]:
        """All entries; beyond SAMPLED, as many drawn ones and a random direction of length 1.

        Of a layer made of layers, directions only.
        """
        size = math.prod(shape)
        count = DIRECTIONS if compound else int(size > SAMPLED)
        directions = [self.generator.standard_normal(shape) for _ in range(count)]
        entries = range(size) if size <= SAMPLED else self.generator.choice(size, SAMPLED, replace=False)
        return [*map(int, () if compound else entries), *(d / np.linalg.norm(d) for d in directions)]

    def error(self, name: Name, place: Place, slope: _Slope, floor: float, train: bool) -> float:
        """The relative error of one slope, where no kink hides it; infinite where one does at every try."""
        layer, key = name
        for number in range(POINTS):
            function = self.point(number, train).function(layer)
            wide = function.slope(key, place, self.eps) if number else slope
            error = wide.error(floor, self.tolerance)
            if error <= self.tolerance or not wide.bend > 0:
                return error
            narrow = function.slope(key, place, self.eps / 10)
            error = narrow.error(floor, self.tolerance)
            if error <= self.tolerance or not narrow.bend > 0.15 * wide.bend:  # a tenth where all is smooth
                return error
        return math.inf


def _size(tensor: Array) -> float:
    """The root mean square."""
    return float(np.sqrt(np.mean(np.square(tensor))))


def _noise(tensor: Array, generator: np.random.Generator) -> Array:
    """Noise of a tenth of the tensor's root mean square; of 0.01 where it is all zero."""
    return 0.1 * (_size(tensor) or 0.1) * generator.standard_normal(tensor.shape)


def _where(place: Place, shape: Shape) -> str:
    """`[0, 2, 1, 7]`, or what it is instead of an entry."""
    if isinstance(place, int):
        return str([int(i) for i in np.unravel_index(place, shape)])
    return "a direction"
