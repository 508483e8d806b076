"""Loops over the places of the kernel and adds shifted pictures; few and large steps."""

import numpy as np

QUESTION = "conv2d"


def conv2d(images, kernels, bias=None, stride=1, padding=0):
    outputs, channels, rows, columns = kernels.shape
    items, found, height, width = images.shape
    if channels != found:
        raise ValueError("the channels of images and kernels differ")
    if stride <= 0:
        raise ValueError("the stride must be positive")
    if padding < 0:
        raise ValueError("the padding must not be negative")
    high, wide = height + 2 * padding, width + 2 * padding
    if rows > high or columns > wide:
        raise ValueError("the kernel does not fit")
    padded = np.zeros((items, channels, high, wide), images.dtype)
    padded[:, :, padding : padding + height, padding : padding + width] = images
    y, x = (high - rows) // stride + 1, (wide - columns) // stride + 1
    total = np.zeros((items, outputs, y, x), images.dtype)
    if bias is not None:
        total += bias.reshape(1, -1, 1, 1)
    for a in range(rows):
        for b in range(columns):
            part = padded[:, :, a : a + stride * (y - 1) + 1 : stride, b : b + stride * (x - 1) + 1 : stride]
            total += np.einsum("ncyx,oc->noyx", part, kernels[:, :, a, b])
    return total
