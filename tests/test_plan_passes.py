"""Passes over recorded operations: what each does to a plan, and that it leaves every number as it is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import glassnet as gn
from glassnet.engine import compile as compiling
from glassnet.ops.activations import relu, relu_gradient
from glassnet.plan.passes import fuse
from glassnet.plan.passes.dead import drop_dead
from glassnet.plan.passes.schedule import FIRST, LAST, schedule
from glassnet.plan.plan import Step
from glassnet.plan.record import RecordingOps
from glassnet.plan.symbols import Operation, Symbol
from glassnet.shapes import Geometry
from glassnet.train.compiled import CompiledStepper
from networks import LOSS, NETWORKS, OPTIMIZER, Recipe, images, network, train

HALF = Geometry((4, 4), (2, 2), (2, 2))


def kinds(operations):
    return [operation.kind for operation in operations]


@pytest.fixture
def ops():
    return RecordingOps(3)


@pytest.fixture
def x(ops):
    return ops.batch("x", (4, 4, 2))


def weights(*shape):
    return np.zeros(shape, np.float32)


# Dead operations ---------------------------------------------------------------------------------------


def test_what_no_one_uses_is_dropped(ops, x):
    y = ops.conv2d(x, weights(1, 1, 2, 2), None, Geometry((4, 4), (1, 1)))
    ops.elementwise(relu, ops.elementwise(relu, y))
    pooled, _ = ops.max_pool2d(y, HALF)
    assert kinds(drop_dead(ops.operations, [pooled])) == ["conv2d", "max_pool2d"]


def test_effects_are_kept(ops, x):
    state = weights(2)
    mean, var = ops.batch_norm_statistics(x)
    new, _ = ops.batch_norm_running(state, weights(2), mean, var, x, 0.1)
    ops.set_state(state, new)
    ops.elementwise(relu, x)
    assert kinds(drop_dead(ops.operations, [])) == [
        "batch_norm_statistics",
        "batch_norm_running",
        "set_state",
    ]


def test_the_first_layer_has_no_input_gradient():
    net, ops = network(NETWORKS["plain"]()), RecordingOps(3)
    x = ops.batch("x", (8, 7, 3))
    target, share = weights(3, 5), weights(3)
    net.loss_and_gradients(ops, x, ops.bound(target), ops.bound(share))
    assert kinds(ops.operations).count("conv2d_input_grad") == 1


# Fusion ------------------------------------------------------------------------------------------------


def producer(ops, x, kind):
    if kind == "conv2d":
        return ops.conv2d(x, weights(1, 1, 2, 2), None, Geometry((4, 4), (1, 1)))
    if kind == "linear":
        return ops.linear(ops.reshape(x, (32,)), weights(32, 5), None)
    if kind == "batch_norm":
        return ops.batch_norm(x, *(weights(2) for _ in range(4)), 1e-5)
    return ops.add(x, x)


@pytest.mark.parametrize("kind", sorted(fuse.ENDS_IN_RELU))
def test_relu_goes_into_what_comes_before(ops, x, kind):
    y = ops.elementwise(relu, producer(ops, x, kind))
    last = fuse.relu_into_producer(ops.operations)[-1]
    assert (last.kind, last.settings["activation"], last.outputs) == (kind, "relu", [y])


def test_relu_stays_where_something_else_reads_between(ops, x):
    y = producer(ops, x, "conv2d")
    ops.elementwise(relu, y)
    ops.global_avg_pool2d(y)
    assert kinds(fuse.relu_into_producer(ops.operations)) == ["conv2d", "elementwise", "global_avg_pool2d"]


def unpooled(ops, x, pooled_from=None):
    """Pooling of relu(x), and its gradient back through both."""
    z = ops.elementwise(relu, x)
    pooled, index = ops.max_pool2d(z if pooled_from is None else pooled_from, HALF)
    dz = ops.max_pool2d_grad(ops.elementwise(relu, pooled), index, HALF)
    return z, pooled, dz, ops.elementwise(relu_gradient, dz, z)


def test_relu_is_masked_before_unpooling(ops, x):
    _, pooled, _, dx = unpooled(ops, x)
    *_, mask, unpool = fuse.relu_gradient_before_unpooling(ops.operations)
    assert mask.settings["function"] is relu_gradient and mask.inputs[1] is pooled
    assert unpool.kind == "max_pool2d_grad" and unpool.inputs[0] is mask.outputs[0] and unpool.outputs == [dx]


def test_but_not_where_the_pool_read_something_else(ops, x):
    unpooled(ops, x, pooled_from=x)
    assert kinds(fuse.relu_gradient_before_unpooling(ops.operations))[-2:] == [
        "max_pool2d_grad",
        "elementwise",
    ]


def test_nor_where_something_else_reads_the_gradient(ops, x):
    _, _, dz, _ = unpooled(ops, x)
    ops.global_avg_pool2d(dz)
    assert kinds(fuse.relu_gradient_before_unpooling(ops.operations))[-3:-1] == [
        "max_pool2d_grad",
        "elementwise",
    ]


def test_the_gradient_of_relu_works_in_place(ops, x):
    dy = ops.add(x, x)
    ops.elementwise(relu_gradient, dy, x)
    assert kinds(fuse.relu_gradient_in_place(ops.operations)) == ["add", "relu_mask"]


@pytest.mark.parametrize("reader", ["of the gradient", "of what the gradient is a reshape of"])
def test_but_not_where_something_else_reads_that_memory(ops, reader):
    vector = ops.batch("v", (32,))
    wide = ops.add(vector, vector)
    dy = ops.reshape(wide, (4, 4, 2))
    ops.elementwise(relu_gradient, dy, ops.batch("y", (4, 4, 2)))
    assert kinds(fuse.relu_gradient_in_place(list(ops.operations)))[-1] == "relu_mask"
    ops.operations[-1].kind = "elementwise"
    ops.bias_grad(dy if reader == "of the gradient" else wide)
    assert kinds(fuse.relu_gradient_in_place(ops.operations))[-2] == "elementwise"


def test_nor_in_the_memory_of_an_input(ops, x):
    ops.elementwise(relu_gradient, x, ops.batch("y", (4, 4, 2)))
    assert kinds(fuse.relu_gradient_in_place(ops.operations)) == ["elementwise"]


@pytest.mark.parametrize("kind", sorted(fuse.LOSSES))
def test_a_loss_and_its_gradient_are_one(ops, kind):
    scores, target, share = ops.batch("z", (5,)), ops.bound(weights(3, 5)), ops.bound(weights(3))
    loss = getattr(ops, kind)(scores, target, share)
    gradient = getattr(ops, f"{kind}_grad")(scores, target, share)
    (joined,) = fuse.loss_with_gradient(ops.operations)
    assert (joined.kind, joined.outputs) == (kind, [loss, gradient])


RULES = ["relu_into_producer", "relu_gradient_before_unpooling", "relu_gradient_in_place"]


@pytest.mark.parametrize("rule", [*RULES, "recompute"])
@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_each_pass_leaves_the_numbers_as_they_are(layers, rule, monkeypatch):
    """To the bit: ReLU rounds nothing, wherever it is done, and what is computed again is the same again."""
    recipe = Recipe(steps=3)
    usual = train(network(layers()), "compiled", recipe)
    monkeypatch.setattr(compiling if rule == "recompute" else fuse, rule, lambda operations: operations)
    without = train(network(layers()), "compiled", recipe)
    assert without.bits() == usual.bits()


@pytest.mark.parametrize("rule", [*RULES, "recompute"])
def test_each_pass_changes_some_network(rule, monkeypatch):
    """Otherwise the test above would prove nothing."""
    module, changed = compiling if rule == "recompute" else fuse, []
    original = getattr(module, rule)

    def spy(operations):
        before = [repr(operation) for operation in operations]
        after = original(operations)
        changed.append([repr(operation) for operation in after] != before)
        return after

    monkeypatch.setattr(module, rule, spy)
    for layers in NETWORKS.values():
        train(network(layers()), "compiled", Recipe(steps=1))
    assert any(changed)


def test_memory_that_is_not_used_again_gives_the_same_numbers(monkeypatch):
    plan = compiling.plan_memory
    for layers in NETWORKS.values():
        usual = train(network(layers()), "compiled", Recipe(steps=2))
        with monkeypatch.context() as patch:
            patch.setattr(compiling, "plan_memory", lambda *a, **k: plan(*a, **k | {"reuse": False}))
            assert train(network(layers()), "compiled", Recipe(steps=2)).bits() == usual.bits()


# Sections ----------------------------------------------------------------------------------------------

PLACEMENTS = ["sample", "sample", "batch", "load", "prepare", "guard", "judge", "clip", "update"]


@st.composite
def lowered(draw):
    """Operations with steps at will, each reading what earlier ones made."""
    made, result = [], []
    for number in range(draw(st.integers(1, 10))):
        reads = draw(st.lists(st.sampled_from(made), max_size=3)) if made else []
        output = Symbol((3, 2), f"s{number}")
        placements = draw(st.lists(st.sampled_from(PLACEMENTS), max_size=3))
        result.append((Operation("any", reads, [output]), [Step(None, [], placement=p) for p in placements]))
        made.append(output)
    return result


@given(lowered())
def test_every_step_comes_after_what_it_reads(operations):
    sections = schedule(operations)
    order = {step: (n, i) for n, section in enumerate(sections) for i, step in enumerate(section.steps)}
    assert len(order) == sum(len(steps) for _, steps in operations)
    done = {}
    for operation, steps in operations:
        flow = [step for step in steps if step.placement in ("sample", "batch")]
        last = max((done[symbol] for symbol in operation.reads()), default=(-1, -1))
        for step in flow:
            assert order[step] > last
            last = order[step]
        done[operation.outputs[0]] = last
        assert all(sections[order[step][0]].name == step.placement for step in steps)


@given(lowered())
def test_sections_stand_in_order(operations):
    names = [section.name for section in schedule(operations)]
    order = (*FIRST, None, *LAST)
    place = {name: order.index(name if name in order else None) for name in names}
    assert [place[name] for name in names] == sorted(place[name] for name in names)
    flow = [name for name in names if name not in order]
    assert all(a != b for a, b in pairwise(flow))
    assert all(names.count(name) <= 1 for name in (*FIRST, *LAST))


def test_a_plain_network_is_one_pass_over_the_samples():
    """Depth first: nothing in it needs more than its own samples, but the sums of gradients."""
    layers = [gn.Conv2d(8, 3), gn.ReLU(), gn.MaxPool2d(2), gn.Flatten(), gn.Linear(5)]
    stepper = CompiledStepper(network(layers), images(), LOSS, OPTIMIZER, 0, 10)
    names = [section.name for section in stepper._step.compiled.sections]
    assert names == ["load", "prepare", "sample", "batch", "guard", "judge", "clip", "update"]
