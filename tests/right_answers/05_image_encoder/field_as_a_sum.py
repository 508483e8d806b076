"""The closed formula: a sum over layers with the product of earlier strides; gives a list of NumPy integers."""

import math

import numpy as np

QUESTION = "receptive_field"


def receptive_field(layers):
    if not layers:
        return [np.int64(1), np.int64(1)]
    kernels, strides, dilations = (list(part) for part in zip(*layers))
    if min(kernels + strides + dilations) < 1:
        raise ValueError("every number of a layer must be at least 1")
    jumps = [np.int64(math.prod(strides[:place])) for place in range(len(layers) + 1)]
    return [1 + sum((k - 1) * d * j for k, d, j in zip(kernels, dilations, jumps)), jumps[-1]]
