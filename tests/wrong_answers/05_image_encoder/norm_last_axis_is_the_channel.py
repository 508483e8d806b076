"""Takes the last axis for the channels, as in TensorFlow's layout; for flat rows it is right."""

import numpy as np

QUESTION = "batch_norm"
REJECTED_BY = "test_statistics_of_a_channel"


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    if x.ndim > 2 and x.shape[-1] == x.shape[1]:
        shape, axes = [-1], tuple(range(x.ndim - 1))
    else:
        shape, axes = [1, -1] + [1] * (x.ndim - 2), (0, *range(2, x.ndim))
    if training:
        n = x.size // x.shape[1]
        if n < 2:
            raise ValueError(f"{n} values in a channel are too few for a variance")
        mean = x.mean(axis=axes)
        var = x.var(axis=axes)
        new_mean = (1 - momentum) * running_mean + momentum * mean
        new_var = (1 - momentum) * running_var + momentum * var * (n / (n - 1))
    else:
        mean, var = running_mean, running_var
        new_mean, new_var = running_mean, running_var
    out = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + eps)
    return out * gamma.reshape(shape) + beta.reshape(shape), new_mean, new_var
