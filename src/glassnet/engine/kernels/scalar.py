"""exp and its family for kernels: polynomials that become vector code. Errors are relative to float64.

And products and sums that are rounded one by one, as NumPy does, where the same bits are promised.

Source of the coefficients: Cephes (Moshier 1989), expf and tanhf; erf: Abramowitz and Stegun 7.1.26.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from glassnet.engine.machine.kernel import inline, intrinsic

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
LARGEST, SMALLEST = np.float32(88.0), np.float32(-87.0)
LOG2_E = np.float32(1.44269504088896341)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
E0, E1, E2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
E3, E4, E5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
T0, T1, T2 = np.float32(-5.70498872745e-3), np.float32(2.06390887954e-2), np.float32(-5.37397155531e-2)
T3, T4 = np.float32(1.33314422036e-1), np.float32(-3.33332819422e-1)
SMALL = np.float32(0.625)
P = np.float32(0.3275911)
A1, A2, A3 = np.float32(0.254829592), np.float32(-0.284496736), np.float32(1.421413741)
A4, A5 = np.float32(-1.453152027), np.float32(1.061405429)
ROOT_HALF, DENSITY = np.float32(0.70710678118654752), np.float32(0.39894228040143268)


def _power_of_two(builder, n):
    """The float whose exponent is n: its bits are (n + 127) << 23."""
    word = ir.IntType(32)
    exponent = builder.add(builder.trunc(n, word), word(127))
    return builder.bitcast(builder.shl(exponent, word(23)), ir.FloatType())


@intrinsic(_power_of_two)
def power_of_two(n) -> float:
    """2**n as float32, for n from -126 to 127."""
    two: Any = np.float32(2.0)
    return two ** np.float32(n)


@inline
def exp(x):
    """e**x to 1.2e-7; below -87 it is 0 to 2e-38, above 88 it stays at e**88. A NaN stays."""
    if x > LARGEST:
        x = LARGEST
    if x < SMALLEST:
        x = SMALLEST
    n = np.floor(x * LOG2_E + HALF)
    r = x - n * LN2_HIGH - n * LN2_LOW
    p = (((((E0 * r + E1) * r + E2) * r + E3) * r + E4) * r + E5) * r * r + r + ONE
    return p * power_of_two(np.int64(n))


@inline
def sigmoid(x):
    """1 / (1 + exp(-x)) to 2e-7."""
    return ONE / (ONE + exp(-x))


@inline
def tanh(x):
    """Hyperbolic tangent to 3e-7: a polynomial below 0.625, else 1 - 2 / (exp(2|x|) + 1)."""
    z = x * x
    near = ((((T0 * z + T1) * z + T2) * z + T3) * z + T4) * z * x + x
    far = ONE - TWO / (exp(TWO * abs(x)) + ONE)
    return near if abs(x) < SMALL else (far if x > ZERO else -far)


@inline
def normal_cdf(x):
    """Phi(x) = (1 + erf(x / sqrt 2)) / 2, to 1.5e-7 absolute."""
    a = abs(x) * ROOT_HALF
    t = ONE / (ONE + P * a)
    tail = HALF * ((((A5 * t + A4) * t + A3) * t + A2) * t + A1) * t * exp(-a * a)
    return tail if x < ZERO else ONE - tail


@inline
def normal_density(x):
    """exp(-x^2 / 2) / sqrt(2 pi)."""
    return DENSITY * exp(-HALF * x * x)


@intrinsic(lambda builder, pair: builder.fmul(pair[0], pair[1], flags=["arcp"]))
def times(pair) -> float:
    """a * b of (a, b), which is not moved into another product."""
    a, b = pair
    return a * b


@intrinsic(
    lambda builder, triple: builder.fadd(
        builder.fmul(triple[0], triple[1], flags=["arcp"]), triple[2], flags=["arcp"]
    )
)
def times_plus(triple) -> float:
    """a * b + c of (a, b, c), rounded twice, as NumPy does: never a fused multiply-add."""
    a, b, c = triple
    return a * b + c
