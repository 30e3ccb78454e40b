"""A network's forward pass in PyTorch, on the same weights, in evaluation mode: for its autograd."""

from __future__ import annotations

import glassnet as gn
from compare import channels_first, channels_last, surrounded
from glassnet.layers.chain import Chain
from oracles import oracle


class TorchTwin:
    """outputs: {layer name: tensor} of the last call, in glassnet's layout, each keeping its gradient."""

    def __init__(self, net):
        self.net, self.torch, self.outputs = net, oracle("torch"), {}
        self.function = self.torch.nn.functional

    def __call__(self, x):
        """Scores before a last Softmax, of inputs (N, H, W, C) as a tensor that may need gradients."""
        self.outputs = {}
        return self.chain(self.net, x)

    def chain(self, chain, x):
        for layer in chain.layers.values():
            if not isinstance(layer, gn.Softmax):
                x = self.layer(layer, x)
        return x

    def layer(self, layer, x):
        y = self.compute(layer, x)
        if y.requires_grad:
            y.retain_grad()
        self.outputs[layer.name] = y
        return y

    def compute(self, layer, x):
        if isinstance(layer, gn.Residual):
            return self.layer(layer.main, x) + (
                x if layer.shortcut is None else self.layer(layer.shortcut, x)
            )
        if isinstance(layer, Chain):
            return self.chain(layer, x)
        if isinstance(layer, gn.Conv2d):
            w, b = (None if a is None else self.torch.tensor(a) for a in (layer.weight, layer.bias))
            padded = surrounded(channels_first(x), layer.geometry.padding)
            return channels_last(
                self.function.conv2d(padded, w.permute(3, 2, 0, 1), b, stride=layer.geometry.stride)
            )
        if isinstance(layer, gn.MaxPool2d):
            kernel, stride = layer.geometry.kernel, layer.geometry.stride
            return channels_last(self.function.max_pool2d(channels_first(x), kernel, stride))
        if isinstance(layer, gn.BatchNorm2d):
            mean, var, gamma, beta = (
                self.torch.tensor(a) for a in (layer.running_mean, layer.running_var, layer.gamma, layer.beta)
            )
            y = self.function.batch_norm(x.movedim(-1, 1), mean, var, gamma, beta, eps=layer.eps)
            return y.movedim(1, -1)
        if isinstance(layer, gn.Linear):
            return x @ self.torch.tensor(layer.weight) + self.torch.tensor(layer.bias)
        plain = {
            "Dropout": lambda: x,
            "Flatten": lambda: x.flatten(1),
            "GlobalAvgPool2d": lambda: x.mean((1, 2)),
            "ReLU": lambda: self.function.relu(x),
            "Tanh": lambda: self.torch.tanh(x),
        }
        return plain[type(layer).__name__]()
