"""Copies all windows into the rows of one matrix and multiplies once (im2col), in double precision until the end."""

import numpy as np

QUESTION = "conv2d"


def conv2d(images, kernels, bias=None, stride=1, padding=0):
    outputs, channels, rows, columns = kernels.shape
    if stride < 1 or padding < 0 or channels != images.shape[1]:
        raise ValueError("stride, padding or channels are wrong")
    padded = np.pad(images.astype(np.float64), [(0, 0)] * 2 + [(padding, padding)] * 2)
    if padded.shape[2] < rows or padded.shape[3] < columns:
        raise ValueError("the kernel is larger than the padded picture")
    ys = range(0, padded.shape[2] - rows + 1, stride)
    xs = range(0, padded.shape[3] - columns + 1, stride)
    table = [
        padded[:, :, y : y + rows, x : x + columns].reshape(len(images), channels * rows * columns)
        for y in ys
        for x in xs
    ]
    flat = np.stack(table, axis=1) @ kernels.reshape(outputs, channels * rows * columns).T
    if bias is not None:
        flat = flat + bias
    return flat.transpose(0, 2, 1).reshape(len(images), outputs, len(ys), len(xs)).astype(images.dtype)
