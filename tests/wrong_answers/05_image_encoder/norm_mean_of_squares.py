"""The variance as mean of squares less squared mean: one pass, and all digits gone far from zero."""

import numpy as np

QUESTION = "batch_norm"
REJECTED_BY = "test_far_from_zero"


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    shape = [1, -1] + [1] * (x.ndim - 2)
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    if training:
        n = x.size // x.shape[1]
        if n < 2:
            raise ValueError(f"{n} values in a channel are too few for a variance")
        mean = x.mean(axis=axes)
        var = (x * x).mean(axis=axes) - mean * mean
        new_mean = (1 - momentum) * running_mean + momentum * mean
        new_var = (1 - momentum) * running_var + momentum * var * (n / (n - 1))
    else:
        mean, var = running_mean, running_var
        new_mean, new_var = running_mean, running_var
    out = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + eps)
    return out * gamma.reshape(shape) + beta.reshape(shape), new_mean, new_var
