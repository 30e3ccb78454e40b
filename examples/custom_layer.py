"""A layer of your own: a learned factor for each channel, its gradients proved by central differences."""

import numpy as np

import glassnet as gn


class ChannelScale(gn.Layer):
    """y[n,h,w,c] = x[n,h,w,c] * scale[c]; (N, H, W, C) in and out."""

    def __init__(self, start=1.0):
        self.start = start

    def build(self, input_shape, generator):
        self.add_parameter("scale", np.full(input_shape[-1], self.start))
        return input_shape

    def forward(self, ops, x, train):
        return x * self.scale, x  # backward needs the input

    def backward(self, ops, dy, x, *, input_grad=True):
        grads = {"scale": ops.bias_grad(dy * x)}  # dscale[c] = sum over n,h,w of dy * x
        return (dy * self.scale if input_grad else None), grads


if __name__ == "__main__":
    data = gn.data.load("digits")
    layers = [gn.Conv2d(8, 3), ChannelScale(0.5), gn.ReLU(), gn.Flatten(), gn.Linear(10)]
    net = gn.Sequential(layers, input_shape=data.image_shape, seed=0)
    print(gn.gradcheck(net, data.train[:4]))
    run = gn.fit(net, data, epochs=3, optimizer=gn.Adam(lr=0.005))
    print(f"Test accuracy {run.test.accuracy:.1%}, scales {net['channelscale_1'].scale.round(2)}")
