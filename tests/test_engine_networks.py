"""Whole networks on the engine: twenty steps as on the reference backend and in PyTorch, whatever the recipe.

The reference runs in float64. Both backends round differently in every step, and training multiplies the
differences: TOLERANCE is a hundred times what float32 loses in one pass, far below any wrong gradient.
"""

from __future__ import annotations

import numpy as np
import pytest

import glassnet as gn
from glassnet.train.stepper import Clip
from networks import NETWORKS, Recipe, assert_alike, images, network, train
from oracles import oracle

TOLERANCE = 1e-4
exact = np.float64


def both(layers, recipe=None, prepare=lambda net: None):
    """Outcomes of the engine, and of the reference in float64, from the same start."""
    ours, theirs = network(layers()), network(layers()).as_dtype(exact)
    prepare(ours)
    prepare(theirs)
    return train(ours, "compiled", recipe), train(theirs, "reference", recipe)


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_twenty_steps_are_those_of_the_reference(layers):
    assert_alike(*both(layers), TOLERANCE)


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_predictions_are_those_of_the_reference(layers):
    """After training, so that running statistics say something; batches of one, some, and too many."""
    net, split = network(layers()), images(300)
    train(net, "compiled", Recipe(steps=3))
    twin, x = net.as_dtype(exact), split.inputs()
    net.backend, twin.backend = "compiled", "reference"
    wanted = twin.scores(x)
    for got in (net.scores(x), np.concatenate([net.scores(x[:1]), net.scores(x[1:8]), net.scores(x[8:])])):
        assert np.abs(got - wanted).max() <= TOLERANCE * np.abs(wanted).max()


def test_normalised_by_running_statistics_a_prediction_stays_depth_first():
    """They depend on no sample, so that none waits for others."""
    layers = [gn.Conv2d(8, 3), gn.BatchNorm2d(), gn.ReLU(), gn.Conv2d(8, 3), gn.BatchNorm2d(), gn.Flatten()]
    net = gn.Sequential([*layers, gn.Linear(5)], input_shape=(8, 8, 3))
    net.backend = "compiled"
    plan = net.predictor().compiled
    assert [section.name for section in plan.sections] == ["prepare", "sample"]
    assert plan.memory.shared_bytes == 0


def test_predictions_may_be_images():
    net = gn.Sequential([gn.Conv2d(4, 3, padding="same"), gn.ReLU(), gn.Conv2d(2, 1)], input_shape=(8, 7, 3))
    x = images(20).inputs()
    net.backend, twin = "compiled", net.as_dtype(exact)
    twin.backend = "reference"
    got, wanted = net.scores(x), twin.scores(x)
    assert got.shape == wanted.shape == (20, 8, 7, 2)
    assert np.abs(got - wanted).max() <= TOLERANCE


OPTIMIZERS = [
    gn.SGD(lr=0.05),
    gn.SGD(lr=0.05, momentum=0.9, weight_decay=0.01),
    gn.SGD(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01, decay_all=True),
    gn.SGD(lr=0.05, weight_decay=0.1, decoupled=True),
    gn.RMSProp(lr=0.002, weight_decay=0.01),
    gn.Adam(lr=0.002, weight_decay=0.01),
    gn.AdamW(lr=0.002),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_optimizers(optimizer):
    """Adaptive ones divide by roots of squares, which doubles the relative error of small gradients."""
    assert_alike(*both(NETWORKS["plain"], Recipe(optimizer=optimizer)), 5 * TOLERANCE)


WEIGHTS = np.linspace(0.1, 3, 24)
RECIPES = {
    "clip value": Recipe(clip=Clip(value=0.02)),
    "clip norm": Recipe(clip=Clip(norm=0.5)),
    "two parts": Recipe(parts=2),
    "three parts, clipped and weighted": Recipe(parts=3, clip=Clip(norm=0.5), sample_weight=WEIGHTS),
    "sample weights": Recipe(sample_weight=WEIGHTS),
    "class weights": Recipe(loss=gn.SoftmaxCrossEntropy(class_weights=[0.5, 1, 2, 0, 3])),
    "label smoothing": Recipe(loss=gn.SoftmaxCrossEntropy(label_smoothing=0.2)),
    "squared error": Recipe(loss=gn.MeanSquaredError()),
    "binary": Recipe(loss=gn.BinaryCrossEntropy(), sample_weight=WEIGHTS),
    "one at a time": Recipe(batch=7, parts=7),
}


@pytest.mark.parametrize("name", ["branches", "residual"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_recipes(recipe, name):
    assert_alike(*both(NETWORKS[name], recipe), TOLERANCE)


def test_cross_entropy_on_probabilities():
    def layers():
        return [*NETWORKS["plain"](), gn.Softmax()]

    assert_alike(*both(layers, Recipe(loss=gn.ProbabilityCrossEntropy())), TOLERANCE)


def freeze_the_first(net):
    for layer in list(net.layers.values())[:4]:
        layer.freeze()


def freeze_in_the_middle(net):
    net["residual_1"].freeze()


def scale_rates(net):
    next(iter(net.layers.values())).scale_lr(0.1)
    list(net.layers.values())[-1].scale_lr(3)


@pytest.mark.parametrize(
    "prepare", [freeze_the_first, freeze_in_the_middle, scale_rates], ids=lambda p: p.__name__
)
@pytest.mark.parametrize(
    "optimizer", [gn.SGD(lr=0.05, momentum=0.9), gn.AdamW(lr=0.002)], ids=["sgd", "adamw"]
)
def test_frozen_layers_and_rates_of_their_own(prepare, optimizer):
    ours, theirs = both(NETWORKS["residual"], Recipe(optimizer=optimizer), prepare)
    assert_alike(ours, theirs, 5 * TOLERANCE)


def test_layers_frozen_after_training_count_in_no_norm():
    """Their gradients of before lie in the store still."""
    nets = network(NETWORKS["plain"]()), network(NETWORKS["plain"]()).as_dtype(exact)
    for net, backend in zip(nets, ("compiled", "reference"), strict=True):
        train(net, backend, Recipe(steps=2))
        freeze_the_first(net)
    outcomes = [
        train(net, b, Recipe(steps=3, clip=Clip(norm=0.5)))
        for net, b in zip(nets, ("compiled", "reference"), strict=True)
    ]
    assert_alike(*outcomes, TOLERANCE)


def test_state_changes_only_in_update():
    net = network(NETWORKS["residual"]())
    seen = [net.store.snapshot()]

    def watch(step):
        now = net.store.snapshot()
        assert all(np.array_equal(now[name], seen[-1][name]) for name in now)

    recipe = Recipe(steps=1, parts=2)
    for _ in range(3):
        train(net, "compiled", recipe, watch=watch)
        seen.append(net.store.snapshot())
    for name in net.store.tensors():
        assert not np.array_equal(seen[0][name], seen[-1][name]), f"{name} never changed."


def test_a_wrong_gradient_would_be_seen():
    """A rate 1 % too high in one layer, as a gradient that is 1 % too large."""
    ours, _ = both(NETWORKS["plain"], Recipe(), lambda net: net["conv2d_2"].scale_lr(1.01))
    _, theirs = both(NETWORKS["plain"], Recipe())
    with pytest.raises(AssertionError, match="is wrong by"):
        assert_alike(ours, theirs, TOLERANCE)


def to_torch(array):
    """(kh, kw, C, O) -> (O, C, kh, kw); (in, out) -> (out, in)."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def test_twenty_steps_are_those_of_pytorch():
    """The same network, rates and batches; weights go in before and are compared after."""
    torch = oracle("torch")
    nn, net, split, recipe = torch.nn, network(NETWORKS["plain"]()), images(), Recipe()
    names = ["conv2d_1", "conv2d_2", "linear_1", "linear_2"]
    modules = [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 10, 3), nn.Linear(60, 16), nn.Linear(16, 5)]
    with torch.no_grad():
        for name, module in zip(names, modules, strict=True):
            for kind in ("weight", "bias"):
                getattr(module, kind).copy_(torch.tensor(to_torch(getattr(net[name], kind))))

    def forward(x):
        x = nn.functional.max_pool2d(modules[1](modules[0](x).relu()).relu(), 2)
        return modules[3](modules[2](x.permute(0, 2, 3, 1).flatten(1)).relu())

    parameters = [parameter for module in modules for parameter in module.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    losses = []
    for step, ((index, *_),) in enumerate(recipe.batches(split, 5)):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 / (1 + 0.1 * step)
        optimizer.zero_grad()
        x = torch.tensor(split.inputs(index)).permute(0, 3, 1, 2)
        loss = nn.functional.cross_entropy(forward(x), torch.tensor(split.labels[index]))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    outcome = train(net, "compiled", recipe)
    sizes = [len(parts[0][0]) for parts in recipe.batches(split, 5)]
    ours = [part.sum() for part in np.split(outcome.losses, np.cumsum(sizes)[:-1])]
    assert ours == pytest.approx(losses, rel=TOLERANCE)
    for name, module in zip(names, modules, strict=True):
        for kind in ("weight", "bias"):
            theirs = getattr(module, kind).detach().numpy()
            error = np.abs(to_torch(outcome.tensors[f"{name}.{kind}"]) - theirs).max()
            assert error <= TOLERANCE * np.abs(theirs).max()
