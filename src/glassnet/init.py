"""Initial weights. Each rule takes a shape whose last axis is the outputs and a numpy Generator.

fan_in is the number of inputs that one output reads, fan_out the number of outputs that one input feeds:
for (kh, kw, C/groups, O), fan_in = kh*kw*C/groups and fan_out = kh*kw*O, as PyTorch counts them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from glassnet.errors import ConfigError, did_you_mean
from glassnet.shapes import Shape

Array = np.ndarray
Initializer = Callable[[Shape, "np.random.Generator"], Array]  # quoted: not yet loaded by NumPy


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out); `shape` is (..., in, out), the leading axes a kernel."""
    if len(shape) < 2:
        raise ConfigError(f"An initial weight needs at least the axes (in, out), got shape {shape}.")
    kernel = math.prod(shape[:-2])
    return kernel * shape[-2], kernel * shape[-1]


def he_normal(shape: Shape, generator: np.random.Generator) -> Array:
    """N(0, 2 / fan_in): keeps the variance through ReLU layers (He et al. 2015)."""
    return normal(math.sqrt(2 / fans(shape)[0]))(shape, generator)


def he_uniform(shape: Shape, generator: np.random.Generator) -> Array:
    """U(-a, a), a = sqrt(6 / fan_in) (He et al. 2015)."""
    return _uniform(math.sqrt(6 / fans(shape)[0]), shape, generator)


def glorot_normal(shape: Shape, generator: np.random.Generator) -> Array:
    """N(0, 2 / (fan_in + fan_out)) (Glorot, Bengio 2010)."""
    return normal(math.sqrt(2 / sum(fans(shape))))(shape, generator)


def glorot_uniform(shape: Shape, generator: np.random.Generator) -> Array:
    """U(-a, a), a = sqrt(6 / (fan_in + fan_out)) (Glorot, Bengio 2010)."""
    return _uniform(math.sqrt(6 / sum(fans(shape))), shape, generator)


def lecun_normal(shape: Shape, generator: np.random.Generator) -> Array:
    """N(0, 1 / fan_in) (LeCun et al. 1998, "Efficient BackProp")."""
    return normal(math.sqrt(1 / fans(shape)[0]))(shape, generator)


def orthogonal(shape: Shape, generator: np.random.Generator) -> Array:
    """Orthonormal columns (or rows, whichever are fewer) of the (fan_in, out) matrix (Saxe et al. 2014)."""
    rows, columns = fans(shape)[0], shape[-1]
    q, r = np.linalg.qr(generator.standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.where(np.diag(r) < 0, -1, 1)  # makes the factorisation, and so the draw, unique
    return (q if rows >= columns else q.T).reshape(shape)


def zeros(shape: Shape, generator: np.random.Generator) -> Array:
    """All zero; for biases, and for the last layer of a residual branch."""
    return np.zeros(shape)


def normal(scale: float) -> Initializer:
    """N(0, scale^2), for any shape."""
    return lambda shape, generator: scale * generator.standard_normal(shape)


def _uniform(bound: float, shape: Shape, generator: np.random.Generator) -> Array:
    return generator.uniform(-bound, bound, shape)


RULES: dict[str, Initializer] = {
    rule.__name__: rule
    for rule in (he_normal, he_uniform, glorot_normal, glorot_uniform, lecun_normal, orthogonal, zeros)
}


def initializer(rule: str | float) -> Initializer:
    """The rule of that name; a number is the scale of a normal distribution."""
    if isinstance(rule, str):
        if rule not in RULES:
            raise ConfigError(f"Unknown initialisation {rule!r}.{did_you_mean(rule, RULES)}")
        return RULES[rule]
    return normal(rule)
