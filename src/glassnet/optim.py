"""Optimisers. Each writes only its own rule, element by element; a backend applies it to every parameter.

A rule is a pure function of numbers or arrays: rule(w, g, *state, s) -> (w, *state). The scalars `s` of a
step (learning rate, bias corrections) are computed here in float64 and handed in; whole numbers in a rule are
avoided, because compiled they would turn float32 into float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np

from glassnet.errors import ConfigError, did_you_mean
from glassnet.ops.base import Ops
from glassnet.store import Slot, Store

Value = Any  # an array or a scalar
Scalars = Any  # a row of numbers


def sgd(w: Value, g: Value, s: Scalars) -> tuple[Value, ...]:
    """w - lr * (g + l2 * w), after w *= shrink."""
    lr, l2, shrink = s[0], s[1], s[2]
    return (shrink * w - lr * (g + l2 * w),)


def momentum_sgd(w: Value, g: Value, v: Value, s: Scalars) -> tuple[Value, ...]:
    """v = momentum * v + g; w - lr * v."""
    lr, l2, shrink, momentum = s[0], s[1], s[2], s[3]
    v = momentum * v + (g + l2 * w)
    return shrink * w - lr * v, v


def nesterov_sgd(w: Value, g: Value, v: Value, s: Scalars) -> tuple[Value, ...]:
    """v = momentum * v + g; w - lr * (g + momentum * v)."""
    lr, l2, shrink, momentum = s[0], s[1], s[2], s[3]
    g = g + l2 * w
    v = momentum * v + g
    return shrink * w - lr * (g + momentum * v), v


def rmsprop(w: Value, g: Value, q: Value, s: Scalars) -> tuple[Value, ...]:
    """q moves towards g^2 by `gain`; w - lr * g / (sqrt(q) + eps)."""
    lr, l2, shrink, gain, eps = s[0], s[1], s[2], s[3], s[4]
    g = g + l2 * w
    q = q + gain * (g * g - q)
    return shrink * w - lr * g / (np.sqrt(q) + eps), q


def adam(w: Value, g: Value, m: Value, q: Value, s: Scalars) -> tuple[Value, ...]:
    """m, q move towards g, g^2 by their gains; w - lr * m / (sqrt(q) / root + eps), lr and root corrected."""
    lr, l2, shrink, gain, square_gain, eps, root = s[0], s[1], s[2], s[3], s[4], s[5], s[6]
    g = g + l2 * w
    m = m + gain * (g - m)
    q = q + square_gain * (g * g - q)
    return shrink * w - lr * m / (np.sqrt(q) / root + eps), m, q


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """lr: learning rate. weight_decay: L2, added to the gradient, or where `decoupled`, w *= 1 - lr * decay
    (Loshchilov, Hutter 2017); biases and normalisation scales decay only with `decay_all`.
    """

    lr: float
    weight_decay: float = 0.0
    decoupled: bool = False
    decay_all: bool = False

    state: ClassVar[tuple[str, ...]] = ()
    positive: ClassVar[tuple[str, ...]] = ("lr",)  # settings that must be finite, above 0
    not_negative: ClassVar[tuple[str, ...]] = ("weight_decay",)  # settings that must be finite, at least 0
    fractions: ClassVar[tuple[str, ...]] = ()  # settings that must be at least 0 and below 1

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        known = [field.name for field in fields(cls)]
        if args:
            raise ConfigError(f"{cls.__name__} takes its settings by name, such as lr=0.1, got {args[0]!r}.")
        for name in settings:
            if name not in known:
                raise ConfigError(f"{cls.__name__} has no setting {name!r}.{did_you_mean(name, known)}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name in self.positive:
            self._check(name, "a finite number above 0", lambda value: 0 < value < math.inf)
        for name in self.not_negative:
            self._check(name, "a finite number of at least 0", lambda value: 0 <= value < math.inf)
        for name in self.fractions:
            self._check(name, "at least 0 and below 1", lambda value: 0 <= value < 1)

    def _check(self, name: str, need: str, holds: Callable[[float], bool]) -> None:
        """Keep a number as Python's own, which files hold; refuse what is no number or not as it must be."""
        value = getattr(self, name)
        if not isinstance(value, Real) or not holds(float(value)):
            raise ConfigError(f"{type(self).__name__} {name} must be {need}, got {value!r}.")
        object.__setattr__(self, name, float(value))

    def rule(self) -> Callable[..., tuple[Any, ...]]:
        """The rule with these settings."""
        raise NotImplementedError(f"{type(self).__name__} needs a rule().")

    def kinds(self) -> tuple[str, ...]:
        """The kinds of state that the rule reads and returns, in order."""
        return self.state

    def own_scalars(self, step: int) -> tuple[float, ...]:
        """What the rule takes after (lr, l2, shrink); `step` counts from 1."""
        return ()

    def scalars(self, slot: Slot, lr: float, step: int) -> tuple[float, ...]:
        """All scalars of the rule for one parameter at one step."""
        rate = lr * slot.layer.lr_factor
        decay = self.weight_decay if slot.tensor.decays or self.decay_all else 0.0
        l2, shrink = (0.0, 1 - rate * decay) if self.decoupled else (decay, 1.0)
        return (self.corrected(rate, step), l2, shrink, *self.own_scalars(step))

    def corrected(self, lr: float, step: int) -> float:
        """The rate that the rule is given."""
        return lr

    def update(self, ops: Ops, store: Store, scalars: dict[str, Any]) -> None:
        """Record or run the rule on every parameter that learns; `scalars` are by parameter name."""
        for kind in self.kinds():
            store.add_optimizer_state(kind)
        for name, slot in store.learning():
            state = [slot.view(store.optimizer[kind]) for kind in self.kinds()]
            ops.update(self.rule(), store.value(name), store.grad(name), state, scalars[name])


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's variant as PyTorch writes them."""

    lr: float = 0.05
    momentum: float = 0.0
    nesterov: bool = False

    fractions = ("momentum",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ConfigError("SGD(nesterov=True) needs a momentum above 0, for example momentum=0.9.")

    def rule(self) -> Callable[..., tuple[Any, ...]]:
        return (nesterov_sgd if self.nesterov else momentum_sgd) if self.momentum else sgd

    def kinds(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def own_scalars(self, step: int) -> tuple[float, ...]:
        return (self.momentum,) if self.momentum else ()


@dataclass(frozen=True, kw_only=True)
class RMSProp(Optimizer):
    """Tieleman, Hinton 2012: the step of each weight divided by the root of its mean squared gradient."""

    lr: float = 0.001
    alpha: float = 0.99
    eps: float = 1e-8

    state = ("square",)
    positive = ("lr", "eps")
    fractions = ("alpha",)

    def rule(self) -> Callable[..., tuple[Any, ...]]:
        return rmsprop

    def own_scalars(self, step: int) -> tuple[float, ...]:
        return (1 - self.alpha, self.eps)


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Kingma, Ba 2014: moving means of the gradient and its square, corrected for their start at zero."""

    lr: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    state = ("mean", "square")
    positive = ("lr", "eps")
    fractions = ("beta1", "beta2")

    def rule(self) -> Callable[..., tuple[Any, ...]]:
        return adam

    def own_scalars(self, step: int) -> tuple[float, ...]:
        return (1 - self.beta1, 1 - self.beta2, self.eps, math.sqrt(1 - self.beta2**step))

    def corrected(self, lr: float, step: int) -> float:
        return lr / (1 - self.beta1**step)


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov, Hutter 2017)."""

    weight_decay: float = 0.01
    decoupled: bool = True


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSProp}


def optimizer_named(name: str, **settings: Any) -> Optimizer:
    """The optimiser of that name in a config."""
    if name not in OPTIMIZERS:
        raise ConfigError(f"Unknown optimizer {name!r}.{did_you_mean(name, OPTIMIZERS)}")
    return OPTIMIZERS[name](**settings)
