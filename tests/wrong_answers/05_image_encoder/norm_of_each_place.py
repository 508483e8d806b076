"""Takes the mean over the items alone, so each place of a map has statistics of its own."""

import numpy as np

QUESTION = "batch_norm"
REJECTED_BY = "test_statistics_of_a_channel"


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    shape = [1, -1] + [1] * (x.ndim - 2)
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    if training:
        n = x.size // x.shape[1]
        if n < 2:
            raise ValueError(f"{n} values in a channel are too few for a variance")
        mean, var = x.mean(axis=0), x.var(axis=0)
        centred = (x - mean) / np.sqrt(var + eps)
        new = x.mean(axis=axes), x.var(axis=axes)
        new_mean = running_mean + momentum * (new[0] - running_mean)
        new_var = running_var + momentum * (new[1] * n / (n - 1) - running_var)
        return centred * gamma.reshape(shape) + beta.reshape(shape), new_mean, new_var
        new_mean = (1 - momentum) * running_mean + momentum * mean
        new_var = (1 - momentum) * running_var + momentum * var * (n / (n - 1))
    else:
        mean, var = running_mean, running_var
        new_mean, new_var = running_mean, running_var
    out = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + eps)
    return out * gamma.reshape(shape) + beta.reshape(shape), new_mean, new_var
