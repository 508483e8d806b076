"""Folds everything into one factor and one shift a channel, as a compiler would for serving; returns a list."""

import numpy as np

QUESTION = "batch_norm"


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    wide = x.astype(np.float64)
    places = [slice(None)] + [None] * (x.ndim - 2)
    mean, var = running_mean.astype(np.float64), running_var.astype(np.float64)
    kept = [mean.copy(), var.copy()]
    if training:
        n = int(np.prod(x.shape)) // x.shape[1]
        if n in (0, 1):
            raise ValueError("one value has no variance")
        axes = tuple({*range(x.ndim)} - {1})
        mean = wide.sum(axis=axes) / n
        squares = np.square(wide - mean[tuple(places)]).sum(axis=axes)
        var = squares / n
        kept = [(1 - momentum) * kept[0] + momentum * mean, (1 - momentum) * kept[1] + momentum * squares / (n - 1)]
    factor = gamma / (var + eps) ** 0.5
    shift = beta - mean * factor
    out = wide * factor[tuple(places)] + shift[tuple(places)]
    return [array.astype(x.dtype) for array in (out, *kept)]
