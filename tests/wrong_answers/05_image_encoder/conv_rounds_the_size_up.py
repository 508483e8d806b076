"""Rounds the number of windows up, so that the last one hangs over the edge and is filled with zeros."""

import numpy as np

QUESTION = "conv2d"
REJECTED_BY = "test_stride_moves_the_kernel"


def conv2d(images, kernels, bias=None, stride=1, padding=0):
    if images.shape[1] != kernels.shape[1]:
        raise ValueError(f"{images.shape[1]} channels in the images, {kernels.shape[1]} in the kernels")
    if stride < 1 or padding < 0:
        raise ValueError(f"stride {stride} or padding {padding} is too small")
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows, columns = kernels.shape[2:]
    height = -(-(padded.shape[2] - rows) // stride) + 1
    width = -(-(padded.shape[3] - columns) // stride) + 1
    if height < 1 or width < 1:
        raise ValueError(f"the kernel of {rows} x {columns} is larger than the padded image")
    out = np.zeros((len(images), len(kernels), height, width), images.dtype)
    for y in range(height):
        for x in range(width):
            wide = np.pad(padded, ((0, 0), (0, 0), (0, stride), (0, stride)))
            window = wide[:, :, y * stride : y * stride + rows, x * stride : x * stride + columns]
            out[:, :, y, x] = np.einsum("ncab,ocab->no", window, kernels)
    if bias is not None:
        out = out + bias[:, None, None]
    return out
