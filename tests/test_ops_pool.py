"""Pooling: windows, ties, padding and NaN against nested loops, PyTorch and central differences."""

from __future__ import annotations

import numpy as np
import pytest

import naive
from compare import channels_first, channels_last, close, surrounded, torch_gradients
from glassnet.ops.reference import ReferenceOps
from glassnet.shapes import geometry
from gradients import gradient_error
from oracles import oracle

ops = ReferenceOps()

# name: (kernel, stride, padding) on a 6x7 image
WINDOWS = {
    "plain": (2, 2, 0),
    "2x3": ((2, 3), (2, 3), 0),
    "left over": (3, 3, 0),
    "overlapping": (3, (2, 1), 0),
    "gaps": ((1, 2), 3, 0),
    "padded": (3, 2, 1),
    "padded pair": ((2, 3), 2, (1, 0)),
    "four sides": (3, 2, (1, 0, 2, 1)),
    "same": (2, 2, "same"),
    "same, overlapping": (3, 2, "same"),
    "whole image": ((6, 7), 1, 0),
}


@pytest.fixture(params=WINDOWS.values(), ids=WINDOWS)
def window(request):
    kernel, stride, padding = request.param
    return geometry("pool", (6, 7), kernel, stride=stride, padding=padding)


def loose(window):
    """(kernel, stride, padding) as naive.py takes them."""
    return window.kernel, window.stride, window.padding


def images(generator, window, ties=False):
    """x (2, 6, 7, 3) and a random dy. Ties: few values, all negative, so that a padding of 0 would win."""
    x = generator.standard_normal((2, 6, 7, 3))
    return np.ceil(x - 4) if ties else x, generator.standard_normal((2, *window.output, 3))


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_max_pool2d_is_the_loops_and_pytorch(window, generator, ties):
    x, dy = images(generator, window, ties)

    def max_pool2d(x):
        outside = surrounded(channels_first(x), window.padding, -np.inf)
        return channels_last(oracle("torch").nn.functional.max_pool2d(outside, window.kernel, window.stride))

    y, index = ops.max_pool2d(x, window)
    dx = ops.max_pool2d_grad(dy, index, window)
    expected, (expected_dx,) = torch_gradients(max_pool2d, dy, x)
    for values, gradient in (
        (expected, expected_dx),
        (naive.max_pool2d(x, *loose(window)), naive.max_pool2d_grad(dy, x, *loose(window))),
    ):
        assert np.array_equal(y, values)
        close(dx, gradient)


def test_max_pool2d_gradient_is_a_slope(window, generator):
    x, dy = images(generator, window)
    dx = ops.max_pool2d_grad(dy, ops.max_pool2d(x, window)[1], window)
    assert gradient_error(lambda: ops.max_pool2d(x, window)[0], x, dy, dx, generator) < 1e-6


def test_a_tie_gives_its_gradient_to_the_first_maximum():
    x = np.array([[1.0, 5.0], [5.0, 5.0]]).reshape(1, 2, 2, 1)
    window = geometry("pool", (2, 2), 2, stride=2)
    y, index = ops.max_pool2d(x, window)
    dx = ops.max_pool2d_grad(np.full((1, 1, 1, 1), 3.0), index, window)
    assert (y.item(), index.item(), dx.ravel().tolist()) == (5.0, 1, [0.0, 3.0, 0.0, 0.0])


def test_max_pool2d_keeps_the_first_nan():
    x = np.array([[np.inf, np.nan], [3.0, np.nan]]).reshape(1, 2, 2, 1)
    y, index = ops.max_pool2d(x, geometry("pool", (2, 2), 2, stride=2))
    assert np.isnan(y).all() and index.item() == 1


@pytest.mark.parametrize(("kernel", "dtype"), [((16, 16), np.uint8), ((16, 17), np.uint16)])
def test_the_index_takes_as_few_bytes_as_it_needs(kernel, dtype):
    _, index = ops.max_pool2d(np.arange(272.0).reshape(1, 16, 17, 1), geometry("pool", (16, 17), kernel))
    assert index.dtype == dtype and index.ravel()[-1] == kernel[0] * kernel[1] - 1


@pytest.mark.parametrize("count_padding", [True, False])
def test_avg_pool2d_is_the_loops_and_pytorch(window, generator, count_padding):
    x, dy = images(generator, window)
    functional = oracle("torch").nn.functional

    def avg_pool2d(x):
        def mean(x):
            outside = surrounded(channels_first(x), window.padding)
            return channels_last(functional.avg_pool2d(outside, window.kernel, window.stride))

        return mean(x) if count_padding else mean(x) / mean(oracle("torch").ones_like(x))

    expected, (expected_dx,) = torch_gradients(avg_pool2d, dy, x)
    y, dx = ops.avg_pool2d(x, window, count_padding), ops.avg_pool2d_grad(dy, window, count_padding)
    close(y, expected)
    close(y, naive.avg_pool2d(x, *loose(window), count_padding=count_padding))
    close(dx, expected_dx)
    close(dx, naive.avg_pool2d_grad(dy, x.shape, *loose(window), count_padding=count_padding))
    assert gradient_error(lambda: ops.avg_pool2d(x, window, count_padding), x, dy, dx, generator) < 1e-6


def test_global_avg_pool2d(generator):
    x, dy = generator.standard_normal((2, 3, 4, 5)), generator.standard_normal((2, 5))
    y, (expected,) = torch_gradients(lambda x: x.mean((1, 2)), dy, x)
    dx = ops.global_avg_pool2d_grad(dy, (3, 4))
    close(ops.global_avg_pool2d(x), y)
    close(ops.global_avg_pool2d(x), naive.global_avg_pool(x))
    close(dx, expected)
    close(dx, naive.global_avg_pool_grad(dy, x.shape))
    assert gradient_error(lambda: ops.global_avg_pool2d(x), x, dy, dx, generator) < 1e-6


def test_float32_stays_float32(window, generator):
    x, dy = (array.astype(np.float32) for array in images(generator, window))
    y, index = ops.max_pool2d(x, window)
    results = [y, ops.max_pool2d_grad(dy, index, window), ops.global_avg_pool2d(x)]
    results.append(ops.global_avg_pool2d_grad(x[:, 0, 0], (6, 7)))
    for counted in (True, False):
        results += [ops.avg_pool2d(x, window, counted), ops.avg_pool2d_grad(dy, window, counted)]
    assert {array.dtype for array in results} == {np.dtype(np.float32)}
