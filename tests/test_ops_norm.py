"""Batch, group and layer normalisation against nested loops, PyTorch and central differences."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import naive
from compare import close, torch_gradients
from glassnet.errors import ShapeError
from glassnet.ops.reference import ReferenceOps
from gradients import gradient_error
from messages import message_of
from oracles import oracle

EPS = 1e-5
ops = ReferenceOps()


def batch(x, gamma, beta):
    """Batch norm in training: y and a function that gives (dx, dgamma, dbeta)."""
    mean, var = ops.batch_norm_statistics(x)

    def backward(dy):
        dgamma, dbeta = ops.batch_norm_parameter_grads(dy, x, mean, var, EPS)
        dx = ops.batch_norm_input_grad(dy, x, gamma, mean, var, dgamma, dbeta, EPS)
        return dx, dgamma, dbeta

    return ops.batch_norm(x, gamma, beta, mean, var, EPS), backward


def group(groups):
    def forward(x, gamma, beta):
        y, mean, rstd = ops.group_norm(x, gamma, beta, groups, EPS)

        def backward(dy):
            dx = ops.group_norm_input_grad(dy, x, gamma, mean, rstd, groups)
            return dx, *ops.group_norm_parameter_grads(dy, x, mean, rstd, groups)

        return y, backward

    return forward


def layer(x, gamma, beta):
    y, mean, rstd = ops.layer_norm(x, gamma, beta, EPS)

    def backward(dy):
        dx = ops.layer_norm_input_grad(dy, x, gamma, mean, rstd)
        return dx, *ops.layer_norm_parameter_grads(dy, x, mean, rstd, gamma.shape)

    return y, backward


def torch_batch(x, gamma, beta):
    norm = oracle("torch").nn.functional.batch_norm
    return norm(x.movedim(-1, 1), None, None, gamma, beta, training=True).movedim(1, -1)


def torch_group(groups):
    def group_norm(x, gamma, beta):
        norm = oracle("torch").nn.functional.group_norm
        return norm(x.movedim(-1, 1), groups, gamma, beta).movedim(1, -1)

    return group_norm


def torch_layer(x, gamma, beta):
    return oracle("torch").nn.functional.layer_norm(x, gamma.shape, gamma, beta)


IMAGE, FLAT = (3, 4, 5, 6), (5, 6)

# name: (ours, PyTorch's, shape of x, trailing axes of gamma, the sets that naive.py normalises)
CASES = {
    "batch, images": (batch, torch_batch, IMAGE, 1, naive.batch_sets(IMAGE)),
    "batch, features": (batch, torch_batch, FLAT, 1, naive.batch_sets(FLAT)),
    **{
        f"{groups} groups": (group(groups), torch_group(groups), IMAGE, 1, naive.group_sets(IMAGE, groups))
        for groups in (1, 2, 3, 6)
    },
    "groups, features": (group(2), torch_group(2), FLAT, 1, naive.group_sets(FLAT, 2)),
    "layer, pixel": (layer, torch_layer, IMAGE, 1, naive.layer_sets(IMAGE, 1)),
    "layer, row": (layer, torch_layer, IMAGE, 2, naive.layer_sets(IMAGE, 2)),
    "layer, image": (layer, torch_layer, IMAGE, 3, naive.layer_sets(IMAGE, 3)),
    "layer, features": (layer, torch_layer, FLAT, 1, naive.layer_sets(FLAT, 1)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_normalisation(case, generator):
    forward, torch_forward, shape, trailing, sets = case
    x, dy = 2 + generator.standard_normal((2, *shape))
    gamma, beta = generator.standard_normal((2, *shape[-trailing:]))
    y, backward = forward(x, gamma, beta)
    ours = backward(dy)
    expected, theirs = torch_gradients(torch_forward, dy, x, gamma, beta)
    close(y, expected)
    close(y, naive.normalise(x, sets, gamma, beta))
    for array, gradient, expected, looped in zip(
        (x, gamma, beta), ours, theirs, naive.normalise_grad(dy, x, sets, gamma), strict=True
    ):
        close(gradient, expected)
        close(gradient, looped)
        assert gradient_error(lambda: forward(x, gamma, beta)[0], array, dy, gradient, generator) < 1e-6


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_float32_stays_float32(case, generator):
    forward, _, shape, trailing, _ = case
    x, dy = generator.standard_normal((2, *shape), np.float32)
    gamma, beta = generator.standard_normal((2, *shape[-trailing:]), np.float32)
    y, backward = forward(x, gamma, beta)
    assert {array.dtype for array in (y, *backward(dy))} == {np.dtype(np.float32)}


@pytest.mark.parametrize("shape", [IMAGE, FLAT], ids=str)
def test_batch_norm_with_constant_statistics(shape, generator):
    """In evaluation the statistics are numbers: nothing flows back through them."""
    x, dy = generator.standard_normal((2, *shape))
    gamma, beta, mean = generator.standard_normal((3, 6))
    var = generator.uniform(0.5, 2, 6)

    def evaluation(x, gamma, beta):
        torch = oracle("torch")
        y = torch.nn.functional.batch_norm(
            x.movedim(-1, 1), torch.tensor(mean), torch.tensor(var), gamma, beta, training=False
        )
        return y.movedim(1, -1)

    y, theirs = torch_gradients(evaluation, dy, x, gamma, beta)
    ours = (
        ops.batch_norm_input_grad(dy, x, gamma, mean, var, None, None, EPS),
        *ops.batch_norm_parameter_grads(dy, x, mean, var, EPS),
    )
    close(ops.batch_norm(x, gamma, beta, mean, var, EPS), y)
    for array, gradient, expected in zip((x, gamma, beta), ours, theirs, strict=True):
        close(gradient, expected)
        f = partial(ops.batch_norm, x, gamma, beta, mean, var, EPS)
        assert gradient_error(f, array, dy, gradient, generator) < 1e-6


@pytest.mark.parametrize("shape", [IMAGE, FLAT], ids=str)
def test_running_statistics(shape, generator):
    """Announced by the batch, real after the commit; the variance to remember is the unbiased one."""
    torch = oracle("torch")
    x = generator.standard_normal(shape)
    mean, var = generator.standard_normal(6), generator.uniform(0.5, 2, 6)
    new = ops.batch_norm_running(mean, var, *ops.batch_norm_statistics(x), x, 0.1)
    theirs = torch.tensor(mean), torch.tensor(var)
    torch.nn.functional.batch_norm(torch.tensor(x).movedim(-1, 1), *theirs, training=True, momentum=0.1)
    for ours, expected, looped in zip(new, theirs, naive.running_update(mean, var, x), strict=True):
        close(ours, expected.numpy())
        close(ours, looped)


def test_parts_of_a_batch_build_on_one_another(generator):
    """A batch in two parts moves the running statistics twice, and not before the commit."""
    first, second = generator.standard_normal((2, 4, 3))
    mean, var = np.zeros(3), np.ones(3)
    once = naive.running_update(mean, var, first)
    twice = naive.running_update(*once, second)
    context = ReferenceOps()
    for part in (first, second):
        new = context.batch_norm_running(mean, var, *context.batch_norm_statistics(part), part, 0.1)
        context.set_state(mean, new[0])
        context.set_state(var, new[1])
    assert not mean.any() and (var == 1).all()
    context.commit()
    close(mean, twice[0])
    close(var, twice[1])


def test_one_value_a_channel_has_no_variance():
    x = np.ones((1, 1, 1, 3))
    statistics = ops.batch_norm_statistics(x)
    message = message_of(ShapeError, ops.batch_norm_running, np.zeros(3), np.ones(3), *statistics, x, 0.1)
    assert message == (
        "Batch normalisation needs at least 2 values a channel in training, got 1 from (1, 1, 1, 3). "
        "Use a larger batch, or GroupNorm."
    )


def test_statistics_of_many_values_are_as_exact_as_float32_can_be():
    """As those of a batch of photos: 90,000 values a channel, far from zero."""
    x = np.random.default_rng(0).normal(100, 1, (1, 300, 300, 2)).astype(np.float32)
    exact = x.astype(np.float64).reshape(-1, 2)
    mean, var = ops.batch_norm_statistics(x)
    assert mean.dtype == var.dtype == np.float32
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(var, exact.var(axis=0), rtol=1e-6)
