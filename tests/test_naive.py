"""naive.py itself, against PyTorch on tiny shapes: values and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import naive
from oracles import oracle


@pytest.fixture
def torch():
    return oracle("torch")


def close(actual, expected):
    np.testing.assert_allclose(actual, expected.detach().numpy(), rtol=1e-10, atol=1e-12)


def leaf(torch, array):
    """A tensor of `array` that collects a gradient."""
    return torch.tensor(array, requires_grad=True)


def channels_first(x):
    """NHWC -> NCHW."""
    return x.permute(0, 3, 1, 2)


def channels_last(x):
    """NCHW -> NHWC."""
    return x.permute(0, 2, 3, 1)


def padded(torch, x, padding, value=0.0):
    """NHWC with (top, bottom, left, right) rows and columns of `value` around it."""
    top, bottom, left, right = padding
    return torch.nn.functional.pad(x, (0, 0, left, right, top, bottom), value=value)


WINDOWS = {
    "valid": {},
    "stride": {"stride": (2, 3)},
    "four sides": {"padding": (1, 0, 2, 1)},
    "dilation": {"dilation": (2, 1), "padding": (1, 1, 1, 1)},
    "groups": {"groups": 2},
    "all": {"stride": (2, 1), "padding": (2, 1, 0, 3), "dilation": (1, 2), "groups": 2},
}


@pytest.mark.parametrize("kernel", [(3, 3), (2, 3)], ids=str)
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_conv2d(torch, generator, window, kernel):
    groups = window.get("groups", 1)
    x, w = generator.standard_normal((2, 5, 6, 4)), generator.standard_normal((*kernel, 4 // groups, 6))
    b = generator.standard_normal(6)
    tx, tw, tb = leaf(torch, x), leaf(torch, w), leaf(torch, b)
    ty = channels_last(
        torch.nn.functional.conv2d(
            channels_first(padded(torch, tx, window.get("padding", (0, 0, 0, 0)))),
            tw.permute(3, 2, 0, 1),
            tb,
            stride=window.get("stride", 1),
            dilation=window.get("dilation", 1),
            groups=groups,
        )
    )
    dy = generator.standard_normal(tuple(ty.shape))
    ty.backward(torch.tensor(dy))
    close(naive.conv2d(x, w, b, **window), ty)
    close(naive.conv2d_input_grad(dy, w, x.shape, **window), tx.grad)
    close(naive.conv2d_weight_grad(dy, x, w.shape, **window), tw.grad)
    close(naive.bias_grad(dy), tb.grad)


@pytest.mark.parametrize("extra", [(0, 0), (1, 0)], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_conv_transpose2d(torch, generator, groups, extra):
    """`extra` rows and columns of the output are reached by no more than a part of the windows."""
    y, w = generator.standard_normal((2, 3, 4, 6)), generator.standard_normal((3, 2, 4 // groups, 6))
    b = generator.standard_normal(4)
    window = {"stride": (2, 1), "padding": (1, 1, 0, 0), "groups": groups}
    ty, tw, tb = leaf(torch, y), leaf(torch, w), leaf(torch, b)
    tx = channels_last(
        torch.nn.functional.conv_transpose2d(
            channels_first(ty),
            tw.permute(3, 2, 0, 1),
            tb,
            stride=(2, 1),
            padding=(1, 0),
            output_padding=extra,
            groups=groups,
        )
    )
    dx = generator.standard_normal(tuple(tx.shape))
    tx.backward(torch.tensor(dx))
    close(naive.conv_transpose2d(y, w, b, dx.shape, **window), tx)
    close(naive.conv2d(dx, w, **window), ty.grad)
    close(naive.conv2d_weight_grad(y, dx, w.shape, **window), tw.grad)


def test_linear(torch, generator):
    x, w, b = (generator.standard_normal(shape) for shape in ((3, 4), (4, 5), 5))
    dy = generator.standard_normal((3, 5))
    tx, tw, tb = leaf(torch, x), leaf(torch, w), leaf(torch, b)
    ty = tx @ tw + tb
    ty.backward(torch.tensor(dy))
    close(naive.linear(x, w, b), ty)
    for ours, theirs in zip(naive.linear_grad(dy, x, w), (tx, tw, tb), strict=True):
        close(ours, theirs.grad)


POOLS = {
    "plain": ((2, 2), (2, 2), (0, 0, 0, 0)),
    "overlapping": ((3, 3), (2, 1), (0, 0, 0, 0)),
    "padded": ((3, 2), (2, 2), (1, 1, 1, 1)),
    "gaps": ((1, 2), (2, 3), (0, 0, 0, 0)),
}


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_max_pool2d(torch, generator, pool):
    kernel, stride, padding = pool
    x = generator.integers(-3, 0, (2, 5, 6, 3)).astype(float)  # negative, with many ties
    tx = leaf(torch, x)
    surrounded = channels_first(padded(torch, tx, padding, -np.inf))
    ty = channels_last(torch.nn.functional.max_pool2d(surrounded, kernel, stride))
    dy = generator.standard_normal(tuple(ty.shape))
    ty.backward(torch.tensor(dy))
    close(naive.max_pool2d(x, *pool), ty)
    close(naive.max_pool2d_grad(dy, x, *pool), tx.grad)


def test_max_pool2d_keeps_nan():
    x = np.array([[1.0, np.nan], [3.0, np.nan]]).reshape(1, 2, 2, 1)
    dy = np.ones((1, 1, 1, 1))
    assert np.isnan(naive.max_pool2d(x, (2, 2), (2, 2))).all()
    assert naive.max_pool2d_grad(dy, x, (2, 2), (2, 2)).ravel().tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize("pool", [p for p in POOLS.values() if p[0] != (1, 2)], ids=str)
def test_avg_pool2d(torch, generator, pool, count_padding):
    kernel, stride, padding = pool
    x = generator.standard_normal((2, 5, 6, 3))
    tx = leaf(torch, x)
    ty = channels_last(
        torch.nn.functional.avg_pool2d(
            channels_first(tx), kernel, stride, padding[::2], count_include_pad=count_padding
        )
    )
    dy = generator.standard_normal(tuple(ty.shape))
    ty.backward(torch.tensor(dy))
    close(naive.avg_pool2d(x, *pool, count_padding=count_padding), ty)
    close(naive.avg_pool2d_grad(dy, x.shape, *pool, count_padding=count_padding), tx.grad)


def test_global_avg_pool(torch, generator):
    x, dy = generator.standard_normal((2, 3, 4, 5)), generator.standard_normal((2, 5))
    tx = leaf(torch, x)
    ty = tx.mean((1, 2))
    ty.backward(torch.tensor(dy))
    close(naive.global_avg_pool(x), ty)
    close(naive.global_avg_pool_grad(dy, x.shape), tx.grad)


@pytest.mark.parametrize("name", naive.ACTIVATIONS)
def test_activation(torch, generator, name):
    x = np.concatenate([[0.0, -0.0, 30.0, -30.0], 3 * generator.standard_normal(16)]).reshape(4, 5)
    dy = generator.standard_normal(x.shape)
    tx = leaf(torch, x)
    ty = getattr(torch.nn.functional, name)(tx)
    ty.backward(torch.tensor(dy))
    close(naive.activation(name, x), ty)
    close(naive.activation_grad(name, dy, x), tx.grad)


@pytest.mark.parametrize("name", naive.ACTIVATIONS)
def test_activation_keeps_nan(name):
    assert np.isnan(naive.activation(name, np.array([np.nan]))).all()


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4, 3)], ids=str)
def test_batch_norm(torch, generator, shape):
    x, dy = generator.standard_normal((2, *shape))
    gamma, beta, mean = generator.standard_normal((3, 3))
    var = generator.uniform(0.5, 2, 3)
    tx, tgamma, tbeta = leaf(torch, x), leaf(torch, gamma), leaf(torch, beta)
    tmean, tvar = torch.tensor(mean), torch.tensor(var)
    ty = torch.nn.functional.batch_norm(
        tx.movedim(-1, 1), tmean, tvar, tgamma, tbeta, training=True, momentum=0.1
    ).movedim(1, -1)
    ty.backward(torch.tensor(dy))
    sets = naive.batch_sets(x.shape)
    close(naive.normalise(x, sets, gamma, beta), ty)
    for ours, theirs in zip(naive.normalise_grad(dy, x, sets, gamma), (tx, tgamma, tbeta), strict=True):
        close(ours, theirs.grad)
    for ours, theirs in zip(naive.running_update(mean, var, x), (tmean, tvar), strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm(torch, generator, groups):
    x, dy = generator.standard_normal((2, 2, 3, 2, 4))
    gamma, beta = generator.standard_normal((2, 4))
    tx, tgamma, tbeta = leaf(torch, x), leaf(torch, gamma), leaf(torch, beta)
    ty = channels_last(torch.nn.functional.group_norm(channels_first(tx), groups, tgamma, tbeta))
    ty.backward(torch.tensor(dy))
    sets = naive.group_sets(x.shape, groups)
    close(naive.normalise(x, sets, gamma, beta), ty)
    for ours, theirs in zip(naive.normalise_grad(dy, x, sets, gamma), (tx, tgamma, tbeta), strict=True):
        close(ours, theirs.grad)


@pytest.mark.parametrize("trailing", [1, 3])
def test_layer_norm(torch, generator, trailing):
    x, dy = generator.standard_normal((2, 2, 3, 2, 4))
    gamma, beta = generator.standard_normal((2, *x.shape[-trailing:]))
    tx, tgamma, tbeta = leaf(torch, x), leaf(torch, gamma), leaf(torch, beta)
    ty = torch.nn.functional.layer_norm(tx, gamma.shape, tgamma, tbeta)
    ty.backward(torch.tensor(dy))
    sets = naive.layer_sets(x.shape, trailing)
    close(naive.normalise(x, sets, gamma, beta), ty)
    for ours, theirs in zip(naive.normalise_grad(dy, x, sets, gamma), (tx, tgamma, tbeta), strict=True):
        close(ours, theirs.grad)


def test_softmax(torch, generator):
    x, dp = 5 * generator.standard_normal((2, 3, 4))
    x[0, 0] = 1000.0
    tx = leaf(torch, x)
    tp = tx.softmax(1)
    tp.backward(torch.tensor(dp))
    close(naive.softmax(x), tp)
    close(naive.softmax_grad(dp, tp.detach().numpy()), tx.grad)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_softmax_cross_entropy(torch, generator, soft, weighted, label_smoothing):
    x = generator.standard_normal((5, 3))
    target = generator.dirichlet(np.ones(3), 5) if soft else generator.integers(0, 3, 5)
    class_weights = generator.uniform(0.5, 2, 3) if weighted else None
    tx = leaf(torch, x)
    tloss = torch.nn.functional.cross_entropy(
        tx,
        torch.tensor(target),
        weight=None if class_weights is None else torch.tensor(class_weights),
        label_smoothing=label_smoothing,
    )
    tloss.backward()
    weighting = {"class_weights": class_weights, "label_smoothing": label_smoothing}
    loss, dx = naive.softmax_cross_entropy(x, target, **weighting)
    close(loss, tloss)
    close(dx, tx.grad)
    probabilities = leaf(torch, naive.softmax(x))
    loss, dp = naive.cross_entropy(probabilities.detach().numpy(), target, **weighting)
    close(loss, tloss)
    a, total = naive.target_weights(x.shape, target, **weighting)
    (-(torch.tensor(a) * probabilities.log()).sum() / total).backward()
    close(dp, probabilities.grad)


@pytest.mark.parametrize("soft", [False, True])
def test_whole_sample_weights_repeat_samples(generator, soft):
    """A sample of weight 2 counts as two samples, one of weight 0 as none; here 3 samples for 3."""
    x, class_weights = generator.standard_normal((3, 4)), generator.uniform(0.5, 2, 4)
    target = generator.dirichlet(np.ones(4), 3) if soft else np.array([2, 0, 3])
    options = {"class_weights": class_weights, "label_smoothing": 0.1}
    loss, dx = naive.softmax_cross_entropy(x, target, sample_weights=[2, 0, 1], **options)
    repeated, dx_repeated = naive.softmax_cross_entropy(x[[0, 0, 2]], target[[0, 0, 2]], **options)
    np.testing.assert_allclose(loss, repeated, rtol=1e-12)
    np.testing.assert_allclose(dx, [2 * dx_repeated[0], np.zeros(4), dx_repeated[2]], rtol=1e-12)


def test_binary_cross_entropy(torch, generator):
    x, target = generator.standard_normal((4, 3)), generator.uniform(0, 1, (4, 3))
    tx = leaf(torch, x)
    tloss = torch.nn.functional.binary_cross_entropy_with_logits(tx, torch.tensor(target))
    tloss.backward()
    loss, dx = naive.binary_cross_entropy(x, target)
    close(loss, tloss)
    close(dx, tx.grad)


def test_mean_squared_error(torch, generator):
    x, target = generator.standard_normal((2, 4, 3))
    tx = leaf(torch, x)
    tloss = torch.nn.functional.mse_loss(tx, torch.tensor(target))
    tloss.backward()
    loss, dx = naive.mean_squared_error(x, target)
    close(loss, tloss)
    close(dx, tx.grad)


# Known answers of the authors' library: Random123, tests/kat_vectors, "philox4x32 10".
@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox4x32(counter, key, words):
    counter, key, words = ([int(word, 16) for word in text.split()] for text in (counter, key, words))
    assert list(naive.philox4x32(counter, key)) == words
