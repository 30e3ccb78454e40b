"""Optimisers against torch.optim over twenty steps, every setting; and whole error messages."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest

import glassnet as gn
from compare import close
from glassnet.errors import ConfigError
from glassnet.ops.reference import ReferenceOps
from glassnet.optim import SGD, Adam, AdamW, RMSProp, optimizer_named
from messages import message_of
from oracles import oracle

STEPS = 20

# name: (ours, PyTorch's class, its settings)
CASES = {
    "sgd": (SGD(lr=0.1), "SGD", {"lr": 0.1}),
    "sgd l2": (SGD(lr=0.1, weight_decay=0.2), "SGD", {"lr": 0.1, "weight_decay": 0.2}),
    "momentum": (SGD(lr=0.1, momentum=0.9), "SGD", {"lr": 0.1, "momentum": 0.9}),
    "momentum l2": (
        SGD(lr=0.1, momentum=0.9, weight_decay=0.2),
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2},
    ),
    "nesterov l2": (
        SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.2),
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.2},
    ),
    "rmsprop": (RMSProp(lr=0.01), "RMSprop", {"lr": 0.01}),
    "rmsprop l2": (
        RMSProp(lr=0.01, alpha=0.9, eps=1e-3, weight_decay=0.2),
        "RMSprop",
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.2},
    ),
    "adam": (Adam(lr=0.01), "Adam", {"lr": 0.01}),
    "adam l2": (
        Adam(lr=0.01, beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=0.2),
        "Adam",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.2},
    ),
    "adamw": (AdamW(lr=0.01, weight_decay=0.2), "AdamW", {"lr": 0.01, "weight_decay": 0.2}),
    "adam decoupled": (
        Adam(lr=0.01, weight_decay=0.2, decoupled=True),
        "AdamW",
        {"lr": 0.01, "weight_decay": 0.2},
    ),
    "adamw default": (AdamW(), "AdamW", {}),
}


def network(dtype=np.float64):
    """A convolution at a third of the rate, a normalisation, a frozen layer and a linear one."""
    layers = [gn.Conv2d(3, 2), gn.BatchNorm2d(), gn.Conv2d(2, 1), gn.Flatten(), gn.Linear(4)]
    net = gn.Sequential(layers, input_shape=(3, 3, 2)).as_dtype(dtype)
    net["conv2d_1"].scale_lr(1 / 3)
    net["conv2d_2"].freeze()
    return net


def step(net, optimizer, number, lr):
    """One update with the gradients that the store holds."""
    scalars = {name: optimizer.scalars(slot, lr, number) for name, slot in net.store.learning()}
    optimizer.update(ReferenceOps(), net.store, scalars)


@pytest.mark.parametrize("decay_all", [False, True], ids=["weights decay", "all decay"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_twenty_steps_are_pytorch(case, decay_all, generator):
    ours, name, settings = case
    ours = type(ours)(**{**vars(ours), "decay_all": decay_all})
    torch, net = oracle("torch"), network()
    start = net.store.snapshot()
    tensors = {key: torch.tensor(net.store.value(key)) for key, _ in net.store.learning()}
    assert len(tensors) == 6
    rates = [ours.lr * (1 / 3 if key.startswith("conv2d_1") else 1) for key in tensors]
    undecayed = {} if decay_all else {"weight_decay": 0.0}
    groups = [
        {"params": [tensor], **({} if key.endswith("weight") else undecayed)}
        for key, tensor in tensors.items()
    ]
    theirs = getattr(torch.optim, name)(groups, **settings)
    for number in range(1, STEPS + 1):
        scale = 1 + np.cos(number)  # what a schedule does
        for group, rate in zip(theirs.param_groups, rates, strict=True):
            group["lr"] = scale * rate
        for key, tensor in tensors.items():
            gradient = generator.standard_normal(tensor.shape)
            net.store.grad(key)[...] = gradient
            tensor.grad = torch.tensor(gradient)
        step(net, ours, number, scale * ours.lr)
        theirs.step()
        for key, tensor in tensors.items():
            close(net.store.value(key), tensor.numpy(), rtol=1e-10)
    for key in ("conv2d_2.weight", "conv2d_2.bias"):
        assert np.array_equal(net.store.value(key), start[key])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_float32_follows_float64(case, generator):
    """Scalars are computed in float64 and do not lift the parameters to it."""
    small, large = network(np.float32), network(np.float64)
    for number in range(1, STEPS + 1):
        for key, slot in large.store.learning():
            gradient = generator.standard_normal(slot.shape)
            small.store.grad(key)[...] = large.store.grad(key)[...] = gradient
        for net in (small, large):
            step(net, case[0], number, case[0].lr)
    for key, _ in large.store.learning():
        close(small.store.value(key), large.store.value(key), rtol=1e-3, atol=1e-5)


def test_decoupled_decay_of_sgd():
    """w * (1 - lr * decay) - lr * g, with the layer's own rate in both places."""
    net, optimizer = network(), SGD(lr=0.3, weight_decay=0.5, decoupled=True)
    w = net["conv2d_1"].weight.copy()
    net.store.grads[...] = 2.0
    step(net, optimizer, 1, 0.3)
    close(net["conv2d_1"].weight, w * (1 - 0.1 * 0.5) - 0.1 * 2.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SGD(lr=0), "SGD lr must be a finite number above 0, got 0."),
        (lambda: Adam(lr=np.nan), "Adam lr must be a finite number above 0, got nan."),
        (lambda: AdamW(weight_decay=-1), "AdamW weight_decay must be a finite number of at least 0, got -1."),
        (
            lambda: SGD(weight_decay=np.nan),
            "SGD weight_decay must be a finite number of at least 0, got nan.",
        ),
        (lambda: Adam(eps=-1), "Adam eps must be a finite number above 0, got -1."),
        (lambda: Adam(eps=0), "Adam eps must be a finite number above 0, got 0."),
        (lambda: AdamW(eps=0.0), "AdamW eps must be a finite number above 0, got 0.0."),
        (lambda: RMSProp(eps=0), "RMSProp eps must be a finite number above 0, got 0."),
        (lambda: RMSProp(eps=np.inf), "RMSProp eps must be a finite number above 0, got inf."),
        (
            lambda: SGD(nesterov=True),
            "SGD(nesterov=True) needs a momentum above 0, for example momentum=0.9.",
        ),
        (lambda: SGD(momentum=1.5), "SGD momentum must be at least 0 and below 1, got 1.5."),
        (lambda: Adam(beta2=1.0), "Adam beta2 must be at least 0 and below 1, got 1.0."),
        (lambda: Adam(beta1=-0.1), "Adam beta1 must be at least 0 and below 1, got -0.1."),
        (lambda: RMSProp(alpha=1), "RMSProp alpha must be at least 0 and below 1, got 1."),
        (lambda: SGD(lr="0.1"), "SGD lr must be a finite number above 0, got '0.1'."),
        (lambda: SGD(weight_decay=None), "SGD weight_decay must be a finite number of at least 0, got None."),
        (lambda: Adam(beta1="high"), "Adam beta1 must be at least 0 and below 1, got 'high'."),
        (lambda: SGD(0.1), "SGD takes its settings by name, such as lr=0.1, got 0.1."),
        (
            lambda: SGD(learning_rate=0.1),
            "SGD has no setting 'learning_rate'. Known: decay_all, decoupled, lr, momentum, nesterov, "
            "weight_decay.",
        ),
        (lambda: SGD(momentun=0.9), "SGD has no setting 'momentun'. Did you mean 'momentum'?"),
        (lambda: optimizer_named("adm"), "Unknown optimizer 'adm'. Did you mean 'adam'?"),
    ],
)
def test_error(call, message):
    assert message_of(ConfigError, call) == message


def test_optimizer_by_name():
    assert optimizer_named("adamw", lr=0.1) == AdamW(lr=0.1)


@pytest.mark.parametrize("kind", [SGD, RMSProp, Adam, AdamW])
def test_an_optimizer_can_be_copied(kind):
    optimizer = kind(lr=np.float32(0.25))
    assert copy.deepcopy(optimizer) == dataclasses.replace(kind(), lr=0.25) == optimizer


@pytest.mark.parametrize("kind", [np.float32, np.float64, int])
def test_numbers_are_kept_as_pythons_own(kind):
    """Of which files can be written, and steps computed in float64."""
    for optimizer in (SGD(lr=kind(1), momentum=kind(0)), Adam(lr=kind(1), beta1=kind(0), eps=kind(1))):
        settings = {name: value for name, value in vars(optimizer).items() if not isinstance(value, bool)}
        assert {type(value) for value in settings.values()} == {float}
