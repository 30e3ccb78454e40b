"""conv2d and linear: every setting against nested loops, PyTorch and central differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import naive
from compare import channels_first, channels_last, close, surrounded, torch_gradients
from glassnet.ops.reference import ReferenceOps
from glassnet.shapes import Geometry, geometry
from gradients import gradient_error
from oracles import oracle

ops = ReferenceOps()

# name: (kernel, settings); the image is 6x7 with 4 channels, the output has 8.
SETTINGS = {
    "1x1": (1, {}),
    "3x3": (3, {}),
    "even": (2, {}),
    "2x3": ((2, 3), {}),
    "5x1": ((5, 1), {}),
    "whole image": ((6, 7), {}),
    "stride 2": (3, {"stride": 2}),
    "stride 2x3": ((3, 2), {"stride": (2, 3)}),
    "stride over kernel": (1, {"stride": (2, 3)}),
    "padding int": (3, {"padding": 1}),
    "padding pair": (3, {"padding": (2, 1)}),
    "four sides": ((2, 3), {"padding": (1, 0, 2, 1)}),
    "padding over kernel": (1, {"padding": 2}),
    "valid": (3, {"padding": "valid"}),
    "same": (3, {"padding": "same"}),
    "same, even": (4, {"padding": "same"}),
    "same, 2x5": ((2, 5), {"padding": "same"}),
    "same, stride 2": (3, {"padding": "same", "stride": 2}),
    "same, stride 3x2": ((2, 4), {"padding": "same", "stride": (3, 2)}),
    "same, dilation": (3, {"padding": "same", "dilation": (1, 2)}),
    "dilation": (3, {"dilation": 2}),
    "dilation 2x3": ((3, 2), {"dilation": (2, 3)}),
    "2 groups": (3, {"groups": 2}),
    "depthwise": (3, {"groups": 4, "padding": "same"}),
    "everything": ((2, 3), {"stride": (2, 1), "padding": (1, 2, 0, 3), "dilation": (3, 2), "groups": 2}),
}


@dataclass
class Problem:
    """A convolution and a random dy for it, all float64."""

    geometry: Geometry
    x: np.ndarray
    w: np.ndarray
    b: np.ndarray
    dy: np.ndarray

    @property
    def window(self):
        """The settings as naive.py takes them."""
        return {name: getattr(self.geometry, name) for name in ("stride", "padding", "dilation", "groups")}


def problem_of(kernel, settings, draw, batch=2, size=(6, 7), channels=4, filters=8):
    shape = geometry("conv", size, kernel, **settings)
    w = draw((*shape.kernel, channels // shape.groups, filters))
    return Problem(
        shape, draw((batch, *size, channels)), w, draw(filters), draw((batch, *shape.output, filters))
    )


@pytest.fixture(params=SETTINGS.values(), ids=SETTINGS)
def problem(request, generator):
    return problem_of(*request.param, generator.standard_normal)


def gradients(p):
    """(dx, dw, db) of the reference backend."""
    return (
        ops.conv2d_input_grad(p.dy, p.w, p.geometry),
        ops.conv2d_weight_grad(p.dy, p.x, p.geometry),
        ops.bias_grad(p.dy),
    )


def loops(p):
    """(dx, dw, db) of naive.py."""
    return (
        naive.conv2d_input_grad(p.dy, p.w, p.x.shape, **p.window),
        naive.conv2d_weight_grad(p.dy, p.x, p.w.shape, **p.window),
        naive.bias_grad(p.dy),
    )


def test_conv2d_is_the_loops(problem):
    p = problem
    close(ops.conv2d(p.x, p.w, p.b, p.geometry), naive.conv2d(p.x, p.w, p.b, **p.window))
    close(ops.conv2d(p.x, p.w, None, p.geometry), naive.conv2d(p.x, p.w, **p.window))
    for ours, theirs in zip(gradients(p), loops(p), strict=True):
        close(ours, theirs)


def test_conv2d_is_pytorch(problem):
    p, shape = problem, problem.geometry

    def conv2d(x, w, b):
        return channels_last(
            oracle("torch").nn.functional.conv2d(
                surrounded(channels_first(x), shape.padding),
                w.permute(3, 2, 0, 1),
                b,
                stride=shape.stride,
                dilation=shape.dilation,
                groups=shape.groups,
            )
        )

    y, theirs = torch_gradients(conv2d, p.dy, p.x, p.w, p.b)
    close(ops.conv2d(p.x, p.w, p.b, shape), y)
    for ours, expected in zip(gradients(p), theirs, strict=True):
        close(ours, expected)


def test_conv2d_gradients_are_slopes(problem, generator):
    p = problem
    for array, gradient in zip((p.x, p.w, p.b), gradients(p), strict=True):
        error = gradient_error(
            lambda: ops.conv2d(p.x, p.w, p.b, p.geometry), array, p.dy, gradient, generator
        )
        assert error < 1e-6


def test_float32_stays_float32_and_agrees(problem):
    p = problem
    small = Problem(p.geometry, *(a.astype(np.float32) for a in (p.x, p.w, p.b, p.dy)))
    exact = (ops.conv2d(p.x, p.w, p.b, p.geometry), *gradients(p))
    for ours, expected in zip(
        (ops.conv2d(small.x, small.w, small.b, p.geometry), *gradients(small)), exact, strict=True
    ):
        assert ours.dtype == np.float32
        close(ours, expected, rtol=1e-4, atol=1e-4)


@given(st.data())
def test_any_geometry_is_the_loops_to_the_bit(data):
    """Small whole numbers: every order of summation gives the same sum."""

    def ints(low, high):
        return data.draw(st.integers(low, high))

    groups = ints(1, 3)
    settings = {
        "stride": (ints(1, 4), ints(1, 4)),
        "dilation": (ints(1, 3), ints(1, 3)),
        "padding": data.draw(st.one_of(st.just("same"), st.tuples(*[st.integers(0, 3)] * 4))),
        "groups": groups,
    }
    size, kernel = (ints(1, 6), ints(1, 6)), (ints(1, 4), ints(1, 4))
    unpadded = Geometry(size, kernel, dilation=settings["dilation"])
    pads = (0,) * 4 if settings["padding"] == "same" else settings["padding"]
    assume(settings["padding"] == "same" or unpadded.extent[0] <= size[0] + sum(pads[:2]))
    assume(settings["padding"] == "same" or unpadded.extent[1] <= size[1] + sum(pads[2:]))
    generator = np.random.default_rng(ints(0, 2**32))
    p = problem_of(
        kernel,
        settings,
        lambda shape: generator.integers(-4, 5, shape).astype(float),
        batch=ints(1, 2),
        size=size,
        channels=groups * ints(1, 2),
        filters=groups * ints(1, 2),
    )
    assert np.array_equal(ops.conv2d(p.x, p.w, p.b, p.geometry), naive.conv2d(p.x, p.w, p.b, **p.window))
    for ours, theirs in zip(gradients(p), loops(p), strict=True):
        assert np.array_equal(ours, theirs)


def test_input_gradient_multiplies_no_inserted_zeros(generator):
    """Pixels that no window reads get exactly 0, also where the weights are infinite: nothing was 0 * inf."""
    shape = geometry("conv", (5, 5), 1, stride=2)
    dx = ops.conv2d_input_grad(np.ones((1, 3, 3, 2)), np.full((1, 1, 1, 2), np.inf), shape)
    read = np.zeros((5, 5), bool)
    read[::2, ::2] = True
    assert np.isinf(dx[0, read]).all() and (dx[0, ~read] == 0).all()


def test_linear_and_its_gradients(generator):
    x, w, b = (generator.standard_normal(shape) for shape in ((3, 4), (4, 5), 5))
    dy = generator.standard_normal((3, 5))
    ours = ops.linear_input_grad(dy, w), ops.linear_weight_grad(dy, x), ops.bias_grad(dy)
    y, theirs = torch_gradients(lambda x, w, b: x @ w + b, dy, x, w, b)
    close(ops.linear(x, w, b), y)
    close(ops.linear(x, w, b), naive.linear(x, w, b))
    close(ops.linear(x, w, None), naive.linear(x, w, 0 * b))
    close(ops.add_bias(x @ w, b), y)
    for array, gradient, expected, looped in zip(
        (x, w, b), ours, theirs, naive.linear_grad(dy, x, w), strict=True
    ):
        close(gradient, expected)
        close(gradient, looped)
        assert gradient_error(lambda: ops.linear(x, w, b), array, dy, gradient, generator) < 1e-6
