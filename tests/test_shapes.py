"""Output sizes and padding against their formulas, and whole error messages."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import glassnet as gn
import naive
from glassnet.errors import ShapeError
from glassnet.shapes import Geometry, geometry
from messages import message_of

sizes = st.integers(1, 40)
small = st.integers(1, 7)


@given(size=sizes, kernel=small, stride=small, dilation=st.integers(1, 3))
def test_same_gives_the_ceiling_of_input_over_stride(size, kernel, stride, dilation):
    window = geometry(
        "conv", (size, 40), (kernel, 3), stride=(stride, 1), padding="same", dilation=(dilation, 1)
    )
    top, bottom, left, right = window.padding
    assert window.output == (math.ceil(size / stride), 40)
    assert (left, right) == (1, 1)
    assert 0 <= bottom - top <= 1  # the odd row is on the bottom
    needed = (window.output[0] - 1) * stride + window.extent[0] - size
    assert top + bottom == max(needed, 0)  # no more than is needed


@given(sizes, small, small, st.integers(1, 3), st.integers(0, 4), st.integers(0, 4))
def test_output_counts_the_windows_that_fit(size, kernel, stride, dilation, before, after):
    window = Geometry((size, size), (kernel, 1), (stride, 1), (dilation, 1), (before, after, 0, 0))
    fits = [i for i in range(size + 8) if i * stride + window.extent[0] <= size + before + after]
    if fits:
        assert window.output == (len(fits), size)
        assert window.output[0] == naive.output_size(size, kernel, stride, before, after, dilation)


@pytest.mark.parametrize(
    ("padding", "sides"),
    [
        (2, (2, 2, 2, 2)),
        ((1, 2), (1, 1, 2, 2)),
        ([0, 1, 2, 3], (0, 1, 2, 3)),
        ("valid", (0, 0, 0, 0)),
        ("same", (0, 1, 1, 1)),
    ],
)
def test_padding_is_given_in_five_ways(padding, sides):
    assert geometry("conv", (8, 8), (2, 3), padding=padding).padding == sides


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_size": 0}, "conv kernel_size must be an int or a pair of ints of at least 1, got 0."),
        (
            {"kernel_size": (3, 3, 3)},
            "conv kernel_size must be an int or a pair of ints of at least 1, got (3, 3, 3).",
        ),
        ({"stride": 0}, "conv stride must be an int or a pair of ints of at least 1, got 0."),
        ({"dilation": 1.5}, "conv dilation must be an int or a pair of ints of at least 1, got 1.5."),
        (
            {"padding": -1},
            'conv padding must be "same", "valid", an int, a pair or (top, bottom, left, right), '
            "none negative, got -1.",
        ),
        (
            {"padding": 1.5},
            'conv padding must be "same", "valid", an int, a pair or (top, bottom, left, right), '
            "none negative, got 1.5.",
        ),
        (
            {"padding": "full"},
            'conv padding must be "same", "valid", an int, a pair or (top, bottom, left, right), '
            "none negative, got 'full'.",
        ),
        (
            {"kernel_size": 3, "dilation": 4, "padding": (0, 1)},
            "conv has a window of 9x9, which does not fit its padded input of 8x10. Use a smaller kernel, "
            "more padding or fewer strided layers.",
        ),
    ],
    ids=str,
)
def test_error(settings, message):
    assert message_of(ShapeError, geometry, "conv", (8, 8), **{"kernel_size": 3, **settings}) == message


@pytest.mark.parametrize("shape", [8, (8, 2.5, 1), (0, 8, 1), "8"])
def test_an_input_shape_is_whole_numbers(shape):
    assert message_of(ShapeError, gn.Sequential, [gn.Flatten()], input_shape=shape) == (
        f"input_shape must be a shape such as (H, W, C), whole numbers from 1 on, got {shape!r}."
    )
