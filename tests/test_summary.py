"""The summary: a whole table, and sizes, multiply-adds and receptive fields counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

import glassnet as gn
from glassnet.ops.reference import ReferenceOps


def test_the_table():
    layers = [gn.Conv2d(8, 3, padding="same"), gn.ReLU(), gn.MaxPool2d(2), gn.Flatten(), gn.Linear(10)]
    net = gn.Sequential(layers, input_shape=(28, 28, 1))
    net["conv2d_1"].freeze()
    assert str(net.summary()).splitlines() == [
        "layer        kind             output          parameters    MACs   bytes  sees",
        "------------------------------------------------------------------------------",
        "input                         (N, 28, 28, 1)",
        "conv2d_1     Conv2d (frozen)  (N, 28, 28, 8)          80  56,448  25,088   3x3",
        "relu_1       ReLU             (N, 28, 28, 8)           0       0  25,088   3x3",
        "maxpool2d_1  MaxPool2d        (N, 14, 14, 8)           0       0   6,272   4x4",
        "flatten_1    Flatten          (N, 1568)                0       0   6,272   all",
        "linear_1     Linear           (N, 10)             15,690  15,680      40   all",
        "------------------------------------------------------------------------------",
        "total                                             15,770  72,128  62,760",
    ]


def test_by_hand():
    """Strides, dilation, groups, a shortcut, branches and upsampling."""
    net = gn.Sequential(
        [
            gn.Conv2d(4, 3, stride=2),  # 8x8, 4*3*3*3 weights; sees 3, jump 2
            gn.Residual(
                [gn.Conv2d(4, 3, padding="same", groups=2), gn.BatchNorm2d()],  # 3 + 2*2 = 7
                gn.Conv2d(4, 1),
            ),
            gn.Concat([gn.Conv2d(2, (1, 3), dilation=2, padding="same"), gn.ReLU()]),  # 7 + 4*2 = 15 wide
            gn.ConvTranspose2d(3, 3, stride=2),  # two inputs a side: 7 + 2, 15 + 2; jump 1
            gn.Conv2d(1, 2),  # 9 + 1, 17 + 1
            gn.GlobalAvgPool2d(),
        ],
        input_shape=(17, 17, 3),
    )
    rows = {row.name: row for row in net.summary().rows}
    expected = {
        "conv2d_1": ((8, 8, 4), 112, 64 * 108, (3, 3)),
        "residual_1.main.conv2d_1": ((8, 8, 4), 76, 64 * 72, (7, 7)),
        "residual_1.main.batchnorm2d_1": ((8, 8, 4), 8, 0, (7, 7)),
        "residual_1.shortcut": ((8, 8, 4), 20, 64 * 16, (3, 3)),
        "concat_1.branch_1": ((8, 8, 2), 26, 64 * 24, (7, 15)),
        "concat_1.branch_2": ((8, 8, 4), 0, 0, (7, 7)),
        "convtranspose2d_1": ((17, 17, 3), 165, 64 * 162, (9, 17)),
        "conv2d_2": ((16, 16, 1), 13, 256 * 12, (10, 18)),
        "globalavgpool2d_1": ((1,), 0, 0, None),
    }
    assert list(rows) == list(expected)
    for name, (shape, parameters, macs, sees) in expected.items():
        row = rows[name]
        assert (row.output_shape, row.parameters, row.macs, row.receptive_field) == (
            shape,
            parameters,
            macs,
            sees,
        )
        assert row.bytes == 4 * np.prod(shape)
    summary = net.summary()
    assert summary.parameters == sum(net.store.value(name).size for name in net.store.parameters)
    assert summary.macs == sum(row.macs for row in summary.rows)


@pytest.mark.parametrize(
    "layers",
    [
        [gn.Conv2d(1, 3), gn.Conv2d(1, 3, stride=2), gn.MaxPool2d(2), gn.Conv2d(1, 2, dilation=2)],
        [gn.Conv2d(1, 5, stride=3), gn.Residual([gn.Conv2d(1, 3, padding=1)]), gn.Conv2d(1, (1, 2))],
        [gn.Conv2d(1, 2, stride=2), gn.ConvTranspose2d(1, 4, stride=2), gn.Conv2d(1, 3)],
    ],
    ids=["strides", "residual", "upsampling"],
)
def test_what_is_seen_is_what_has_a_gradient(layers, generator):
    """Pixels with a non-zero gradient of one output in the middle span the receptive field."""
    net = gn.Sequential(layers, input_shape=(40, 40, 1))
    for name in net.store.parameters:
        net.store.value(name)[...] = 1  # nothing cancels
    row = net.summary().rows[-1]
    rise = 40 * np.arange(40.0)[:, None] + np.arange(40.0)
    y, saved = ReferenceOps().call(net, rise[None, :, :, None], False)  # rising: max-pooling takes the last
    spans = []
    for shift in range(3):  # upsampled neighbours see differently many
        dy = np.zeros(y.shape)
        dy[0, y.shape[1] // 2 + shift, y.shape[2] // 2 + shift] = 1
        seen = ReferenceOps().call_backward(net, dy, saved)[0][0, :, :, 0] != 0
        spans.append([np.ptp(np.flatnonzero(seen.any(axis=axis))) + 1 for axis in (1, 0)])
    pooled = 1 if any(isinstance(layer, gn.MaxPool2d) for layer in layers) else 0
    jump = 2 * pooled  # of each window, max-pooling passes the gradient to one of two
    assert tuple(np.max(spans, axis=0) + jump) == row.receptive_field
