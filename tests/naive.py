"""The oracle nobody optimises: every operation as nested loops in float64, exactly as its formula is written.

Images are (N, H, W, C), convolution weights (kh, kw, C/groups, O), linear weights (in, out). A window is
given by stride (rows, columns), padding (top, bottom, left, right), dilation (rows, columns) and groups.
`dx` is always the gradient of the loss with respect to `x`.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np


def every(shape):
    """All indices of an array of this shape, the last one fastest."""
    return product(*map(range, shape))


# Convolution


def conv_terms(x_shape, w_shape, y_shape, stride, padding, dilation, groups):
    """(index of y, index of x, index of w) of every product in
    y[n,i,j,o] = sum over u,v,c of x[n, i*s+u*d-top, j*s+v*d-left, C/groups*g + c] * w[u,v,c,o],
    where g = o // (O/groups) is the group of o, and rows and columns outside x count as zero.
    """
    _, height, width, _ = x_shape
    kernel_rows, kernel_columns, group_inputs, outputs = w_shape
    for n, i, j, o in every(y_shape):
        g = o // (outputs // groups)
        for u in range(kernel_rows):
            for v in range(kernel_columns):
                row = i * stride[0] + u * dilation[0] - padding[0]
                column = j * stride[1] + v * dilation[1] - padding[2]
                if 0 <= row < height and 0 <= column < width:
                    for c in range(group_inputs):
                        yield (n, i, j, o), (n, row, column, g * group_inputs + c), (u, v, c, o)


def output_size(size, kernel, stride, before, after, dilation=1):
    """Positions of a window on one padded axis."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def conv2d(x, w, b=None, *, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1):
    """(N, H, W, C) -> (N, H', W', O): the sum in conv_terms, plus b[o]."""
    top, bottom, left, right = padding
    rows = output_size(x.shape[1], w.shape[0], stride[0], top, bottom, dilation[0])
    columns = output_size(x.shape[2], w.shape[1], stride[1], left, right, dilation[1])
    y = np.zeros((x.shape[0], rows, columns, w.shape[3]))
    if b is not None:
        for n, i, j, o in every(y.shape):
            y[n, i, j, o] = b[o]
    for at_y, at_x, at_w in conv_terms(x.shape, w.shape, y.shape, stride, padding, dilation, groups):
        y[at_y] += x[at_x] * w[at_w]
    return y


def conv2d_input_grad(dy, w, x_shape, *, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1):
    """dx of conv2d: each product x*w that went into y[...] sends dy[...]*w back to its x."""
    dx = np.zeros(x_shape)
    for at_y, at_x, at_w in conv_terms(x_shape, w.shape, dy.shape, stride, padding, dilation, groups):
        dx[at_x] += dy[at_y] * w[at_w]
    return dx


def conv2d_weight_grad(dy, x, w_shape, *, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1):
    """dw of conv2d: each product x*w that went into y[...] sends x*dy[...] back to its w."""
    dw = np.zeros(w_shape)
    for at_y, at_x, at_w in conv_terms(x.shape, w_shape, dy.shape, stride, padding, dilation, groups):
        dw[at_w] += x[at_x] * dy[at_y]
    return dw


def bias_grad(dy):
    """db[o] = sum of dy[..., o] over all other axes."""
    db = np.zeros(dy.shape[-1])
    for at in every(dy.shape):
        db[at[-1]] += dy[at]
    return db


def conv_transpose2d(y, w, b, x_shape, **window):
    """(N, H', W', O) -> x_shape = (N, H, W, C), the adjoint of conv2d: y[n,i,j,o] * w[u,v,c,o] is added
    at x[n, i*s+u*d-top, j*s+v*d-left, C/groups*g + c], then b[c]. The map is linear, so its own gradients
    are dy = conv2d(dx, w) and dw = conv2d_weight_grad(y, dx).
    """
    x = conv2d_input_grad(y, w, x_shape, **window)
    for at in every(x_shape):
        x[at] += b[at[-1]]
    return x


# Linear


def linear(x, w, b):
    """(N, I) -> (N, O): y[n,o] = b[o] + sum over i of x[n,i] * w[i,o]."""
    y = np.zeros((len(x), w.shape[1]))
    for n, o in every(y.shape):
        y[n, o] = b[o] + sum(x[n, i] * w[i, o] for i in range(len(w)))
    return y


def linear_grad(dy, x, w):
    """(dx, dw, db) of linear."""
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for n, i, o in every((*x.shape, w.shape[1])):
        dx[n, i] += dy[n, o] * w[i, o]
        dw[i, o] += x[n, i] * dy[n, o]
    return dx, dw, bias_grad(dy)


# Pooling


def windows(x_shape, kernel, stride, padding):
    """(index of y, the indices of x in its window, row by row; None where the window covers padding)."""
    n_samples, height, width, channels = x_shape
    top, bottom, left, right = padding
    rows = output_size(height, kernel[0], stride[0], top, bottom)
    columns = output_size(width, kernel[1], stride[1], left, right)
    for n, i, j, c in every((n_samples, rows, columns, channels)):
        covered = []
        for u, v in every(kernel):
            row, column = i * stride[0] + u - top, j * stride[1] + v - left
            inside = 0 <= row < height and 0 <= column < width
            covered.append((n, row, column, c) if inside else None)
        yield (n, i, j, c), covered


def as_array(values):
    """A dictionary {index: value} that names every entry of an array, as that array."""
    y = np.zeros(tuple(1 + max(axis) for axis in zip(*values, strict=True)))
    for at, value in values.items():
        y[at] = value
    return y


def first_maximum(x, covered):
    """Index of the window's first maximum; a NaN counts as the greatest value, padding as -inf."""
    best = None
    for at in covered:
        if at is not None and (
            best is None or x[at] > x[best] or (math.isnan(x[at]) and not math.isnan(x[best]))
        ):
            best = at
    return best


def max_pool2d(x, kernel, stride, padding=(0, 0, 0, 0)):
    """(N, H, W, C) -> (N, H', W', C): the maximum of each window. Every window must touch x."""
    cover = windows(x.shape, kernel, stride, padding)
    return as_array({at: x[first_maximum(x, covered)] for at, covered in cover})


def max_pool2d_grad(dy, x, kernel, stride, padding=(0, 0, 0, 0)):
    """dx of max_pool2d: the first maximum of each window takes the window's whole gradient."""
    dx = np.zeros(x.shape)
    for at, covered in windows(x.shape, kernel, stride, padding):
        dx[first_maximum(x, covered)] += dy[at]
    return dx


def avg_pool2d(x, kernel, stride, padding=(0, 0, 0, 0), *, count_padding=True):
    """(N, H, W, C) -> (N, H', W', C): the mean of each window, padding counted as zeros or not at all."""
    means = {}
    for at, covered in windows(x.shape, kernel, stride, padding):
        inside = [a for a in covered if a is not None]
        means[at] = sum(x[a] for a in inside) / len(covered if count_padding else inside)
    return as_array(means)


def avg_pool2d_grad(dy, x_shape, kernel, stride, padding=(0, 0, 0, 0), *, count_padding=True):
    """dx of avg_pool2d: each entry of a window takes an equal share of the window's gradient."""
    dx = np.zeros(x_shape)
    for at, covered in windows(x_shape, kernel, stride, padding):
        inside = [a for a in covered if a is not None]
        for a in inside:
            dx[a] += dy[at] / len(covered if count_padding else inside)
    return dx


def global_avg_pool(x):
    """(N, H, W, C) -> (N, C): y[n,c] = mean over h,w of x[n,h,w,c]."""
    y = np.zeros((x.shape[0], x.shape[3]))
    for n, h, w, c in every(x.shape):
        y[n, c] += x[n, h, w, c] / (x.shape[1] * x.shape[2])
    return y


def global_avg_pool_grad(dy, x_shape):
    """dx[n,h,w,c] = dy[n,c] / (H*W)."""
    dx = np.zeros(x_shape)
    for n, h, w, c in every(x_shape):
        dx[n, h, w, c] = dy[n, c] / (x_shape[1] * x_shape[2])
    return dx


# Activations: name -> (function, derivative), both of the input


def sigmoid(x):
    """1 / (1 + e^-x), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def normal_cdf(x):
    """Φ(x) of the standard normal distribution."""
    return (1 + math.erf(x / math.sqrt(2))) / 2


def normal_pdf(x):
    """φ(x) = Φ'(x)."""
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


ACTIVATIONS = {
    "relu": (lambda x: 0.0 if x <= 0 else x, lambda x: 0.0 if x <= 0 else 1.0),
    "leaky_relu": (lambda x: 0.01 * x if x <= 0 else x, lambda x: 0.01 if x <= 0 else 1.0),
    "gelu": (lambda x: x * normal_cdf(x), lambda x: normal_cdf(x) + x * normal_pdf(x)),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x))),
    "tanh": (math.tanh, lambda x: 1 - math.tanh(x) ** 2),
}


def activation(name, x):
    """y = f(x), entry by entry."""
    return as_array({at: ACTIVATIONS[name][0](x[at]) for at in every(x.shape)})


def activation_grad(name, dy, x):
    """dx = dy * f'(x), entry by entry."""
    return as_array({at: dy[at] * ACTIVATIONS[name][1](x[at]) for at in every(x.shape)})


# Normalisation: x̂ = (x - mean) / sqrt(var + eps) over each set of entries, y = gamma * x̂ + beta


def batch_sets(x_shape):
    """Batch norm: the entries of one channel."""
    return [[(*at, c) for at in every(x_shape[:-1])] for c in range(x_shape[-1])]


def group_sets(x_shape, groups):
    """Group norm: the entries of C/groups neighbouring channels of one sample."""
    size = x_shape[-1] // groups
    middle = list(every(x_shape[1:-1]))
    return [
        [(n, *at, g * size + c) for at in middle for c in range(size)] for n, g in every((x_shape[0], groups))
    ]


def layer_sets(x_shape, trailing):
    """Layer norm: the entries of the last `trailing` axes."""
    return [[(*lead, *at) for at in every(x_shape[-trailing:])] for lead in every(x_shape[:-trailing])]


def moments(x, entries):
    """Mean and biased variance of these entries of x."""
    mean = sum(x[at] for at in entries) / len(entries)
    return mean, sum((x[at] - mean) ** 2 for at in entries) / len(entries)


def normalise(x, sets, gamma, beta, eps=1e-5):
    """y = gamma * x̂ + beta. gamma and beta have the shape of the last axes of x."""
    y = np.zeros(x.shape)
    for entries in sets:
        mean, var = moments(x, entries)
        for at in entries:
            own = at[x.ndim - gamma.ndim :]
            y[at] = gamma[own] * (x[at] - mean) / math.sqrt(var + eps) + beta[own]
    return y


def normalise_grad(dy, x, sets, gamma, eps=1e-5):
    """(dx, dgamma, dbeta) of normalise, by the chain rule through x̂, var and mean of each set.

    dvar = sum of dx̂ * (x - mean) * -1/2 (var + eps)^(-3/2)
    dmean = sum of dx̂ * -1/sqrt(var + eps)    (var itself does not depend on the mean to first order)
    dx = dx̂ / sqrt(var + eps) + dvar * 2 (x - mean) / m + dmean / m
    """
    dx, dgamma, dbeta = np.zeros(x.shape), np.zeros(gamma.shape), np.zeros(gamma.shape)
    for entries in sets:
        mean, var = moments(x, entries)
        m, dvar, dmean = len(entries), 0.0, 0.0
        for at in entries:
            own = at[x.ndim - gamma.ndim :]
            dgamma[own] += dy[at] * (x[at] - mean) / math.sqrt(var + eps)
            dbeta[own] += dy[at]
            dvar += dy[at] * gamma[own] * (x[at] - mean) * -0.5 * (var + eps) ** -1.5
            dmean += dy[at] * gamma[own] * -1 / math.sqrt(var + eps)
        for at in entries:
            dnormal = dy[at] * gamma[at[x.ndim - gamma.ndim :]]
            dx[at] = dnormal / math.sqrt(var + eps) + dvar * 2 * (x[at] - mean) / m + dmean / m
    return dx, dgamma, dbeta


def running_update(running_mean, running_var, x, momentum=0.1):
    """Batch norm after a batch: running += momentum * (batch - running), with the unbiased variance."""
    means, variances = np.zeros(len(running_mean)), np.zeros(len(running_var))
    for c, entries in enumerate(batch_sets(x.shape)):
        mean, var = moments(x, entries)
        unbiased = var * len(entries) / (len(entries) - 1)
        means[c] = running_mean[c] + momentum * (mean - running_mean[c])
        variances[c] = running_var[c] + momentum * (unbiased - running_var[c])
    return means, variances


# Softmax and losses


def softmax(x):
    """(N, K): p[n,k] = e^x[n,k] / sum over j of e^x[n,j]."""
    p = np.zeros(x.shape)
    for n, k in every(x.shape):
        p[n, k] = math.exp(x[n, k] - max(x[n])) / sum(math.exp(other - max(x[n])) for other in x[n])
    return p


def softmax_grad(dp, p):
    """dx[n,i] = sum over j of dp[n,j] * p[n,j] * ([i = j] - p[n,i]), the Jacobian written out."""
    dx = np.zeros(p.shape)
    for n, i, j in every((*p.shape, p.shape[1])):
        dx[n, i] += dp[n, j] * p[n, j] * ((i == j) - p[n, i])
    return dx


def target_weights(shape, target, label_smoothing=0.0, class_weights=None, sample_weights=None):
    """a[n,k] and D of the cross entropy -sum of a[n,k] * log p[n,k] / D.

    a[n,k] = s[n] * w[k] * ((1 - e) * t[n,k] + e/K) for sample weights s, class weights w, smoothing e and
    targets t, where a label is a one-hot row. As PyTorch divides, D = sum of s[n] * w[label] for labels, and
    for rows of probabilities D is the number of samples.
    """
    a, total = np.zeros(shape), 0.0
    for n in range(shape[0]):
        s = 1.0 if sample_weights is None else sample_weights[n]
        labelled = np.ndim(target) == 1
        total += (s if class_weights is None else s * class_weights[target[n]]) if labelled else 1.0
        for k in range(shape[1]):
            t = float(target[n] == k) if labelled else target[n, k]
            w = 1.0 if class_weights is None else class_weights[k]
            a[n, k] = s * w * ((1 - label_smoothing) * t + label_smoothing / shape[1])
    return a, total


def cross_entropy(p, target, **weighting):
    """(loss, dp) for probabilities p: -sum of a * log p / D, and dp = -a / (p * D)."""
    a, total = target_weights(p.shape, target, **weighting)
    loss, dp = 0.0, np.zeros(p.shape)
    for at in every(p.shape):
        loss -= a[at] * math.log(p[at]) / total
        dp[at] = -a[at] / (p[at] * total)
    return loss, dp


def softmax_cross_entropy(x, target, **weighting):
    """(loss, dx) of cross_entropy(softmax(x), target)."""
    p = softmax(x)
    loss, dp = cross_entropy(p, target, **weighting)
    return loss, softmax_grad(dp, p)


def binary_cross_entropy(x, target):
    """(loss, dx) for logits x: mean of -t log σ(x) - (1-t) log(1 - σ(x)), and dx = (σ(x) - t) / size."""
    loss, dx = 0.0, np.zeros(x.shape)
    for at in every(x.shape):
        p = sigmoid(x[at])
        loss -= (target[at] * math.log(p) + (1 - target[at]) * math.log(1 - p)) / x.size
        dx[at] = (p - target[at]) / x.size
    return loss, dx


def mean_squared_error(x, target):
    """(loss, dx): mean of (x - t)^2, and dx = 2 (x - t) / size."""
    loss, dx = 0.0, np.zeros(x.shape)
    for at in every(x.shape):
        loss += (x[at] - target[at]) ** 2 / x.size
        dx[at] = 2 * (x[at] - target[at]) / x.size
    return loss, dx


# Philox4x32-10, Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3


def philox4x32(counter, key):
    """Four random 32-bit words of a counter of four words and a key of two, after ten rounds."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3
