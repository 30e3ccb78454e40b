"""Small networks: for digits, for comparison, and as published."""

from __future__ import annotations

from glassnet.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, ReLU


def small(classes: int) -> list[Layer]:
    """Two convolutions, each pooled, and a linear layer: for grey images of about 28 pixels."""
    return [
        *(Conv2d(16, 3, padding="same"), ReLU(), MaxPool2d(2)),
        *(Conv2d(32, 3, padding="same"), ReLU(), MaxPool2d(2)),
        *(Flatten(), Linear(classes)),
    ]


def small_norm(classes: int) -> list[Layer]:
    """Two normalised convolutions under one pooling, and dropout: for few and tiny images, such as digits."""
    return [
        *(Conv2d(16, 3, padding="same", bias=False), BatchNorm2d(), ReLU()),
        *(Conv2d(32, 3, padding="same", bias=False), BatchNorm2d(), ReLU()),
        *(MaxPool2d(2), Flatten(), Dropout(0.5), Linear(classes)),
    ]


def linear(classes: int) -> list[Layer]:
    """Multinomial logistic regression: what no hidden layer can do."""
    return [Flatten(), Linear(classes)]


def nn_learn_simple(classes: int) -> list[Layer]:
    """The smaller network of "Coding a CNN from scratch" (nn-learn): 15,770 parameters on MNIST."""
    return [Conv2d(8, 3, padding="same"), ReLU(), MaxPool2d(2), Flatten(), Linear(classes)]
