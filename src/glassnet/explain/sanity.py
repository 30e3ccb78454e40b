"""Does an explanation depend on what the network learned? Its map with weights made random again.

Adebayo et al. 2018, "Sanity checks for saliency maps", section 3: a map that stays the same when the weights
are lost shows the image, not the network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from glassnet.errors import DataError
from glassnet.explain.passes import Array, Classes, class_numbers
from glassnet.network import Sequential
from glassnet.store import Store
from glassnet.summary import table

Method = Callable[[Sequential, Any, Array], Array]
"""(net, images, class numbers) -> maps (N, H, W)."""

LIMIT = 0.7
"""The rank correlation r from which on a map of random weights counts as the same: r^2 is then about 1/2.
The paper names no limit."""


@dataclass(frozen=True)
class SanityReport:
    """correlations: (layer, rank correlation with the trained network's map, as a mean over images), where
    the weights of that layer and of all after it are random. The last row has no trained weight left.
    Images whose map was the same everywhere are left out.
    """

    correlations: tuple[tuple[str, float], ...]

    @property
    def random(self) -> float:
        """The rank correlation with all weights random."""
        return self.correlations[-1][1]

    @property
    def ok(self) -> bool:
        """Whether the map depends on the weights: the last correlation is below LIMIT, of either sign."""
        return abs(self.random) < LIMIT

    def __str__(self) -> str:
        rows = [(name, f"{value:.3f}") for name, value in self.correlations]
        verdict = (
            "the map depends on what was learned"
            if self.ok
            else f"the map hardly depends on what was learned (limit {LIMIT})"
        )
        header = ("random from here on", "rank correlation")
        return "\n".join([*table(header, rows, left=1), f"With random weights {self.random:.3f}: {verdict}."])


def sanity_check(
    method: Method,
    net: Sequential,
    images: Any,
    classes: Classes = None,
    *,
    generator: np.random.Generator,
    cascading: bool = True,
) -> SanityReport:
    """Compare a method's maps with those of the network made random from its last layer to its first.

    cascading: one layer after another, a row each; else all at once, one row. The classes are those that
    the trained network is asked about. Weights are drawn as when the network was built.
    """
    numbers = class_numbers(net, images, classes)
    trained, drawn = net.store.snapshot(), fresh_tensors(net, generator)
    wanted = method(net, images, numbers)
    telling = np.ptp(wanted, axis=(1, 2)) > 0
    if not telling.any():
        raise DataError("Every map is the same everywhere, so there is no order to lose. Try other images.")
    twin, rows = copy.deepcopy(net), []
    layers = [layer for layer in net.walk() if layer.tensors]
    for i, layer in reversed(list(enumerate(layers))):
        lost = {f"{random.name}.{name}" for random in layers[i:] for name in random.tensors}
        if cascading or i == 0:
            twin.store.restore({name: drawn[name] if name in lost else trained[name] for name in trained})
            maps = zip(wanted[telling], method(twin, images, numbers)[telling], strict=True)
            rows.append((layer.name, float(np.mean([rank_correlation(a, b) for a, b in maps]))))
    return SanityReport(tuple(rows))


def fresh_tensors(net: Sequential, generator: np.random.Generator) -> dict[str, Array]:
    """Tensors by name as this network could have started: another draw of the same initialisation."""
    twin = copy.deepcopy(net)
    twin.build_named("", net.built().input_shape or (), generator)
    return Store(twin.walk(), net.store.values.dtype).snapshot()


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's: Pearson's correlation of the ranks, equal values sharing their mean rank; 0 if constant."""
    x, y = (ranks(array) - (array.size - 1) / 2 for array in (a, b))
    length = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / length) if length > 0 else 0.0


def ranks(array: Array) -> Array:
    """(size,): the rank of each value from 0, the mean rank of all that are equal."""
    _, place, counts = np.unique(array, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[place.ravel()]
