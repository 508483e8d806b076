"""Lets float64 angles turn float32 vectors into float64, which doubles the memory of all that follows."""

import numpy as np

QUESTION = "rotary"
REJECTED_BY = "test_far_positions_in_float32"


def rotary(x, positions, base=10_000.0):
    dim = x.shape[-1]
    if dim % 2:
        raise ValueError("dim must be even")
    speeds = base ** (-np.arange(0, dim, 2) / dim)
    angles = np.asarray(positions)[..., None] * speeds
    cos, sin = np.cos(angles), np.sin(angles)
    out = np.empty(x.shape)
    out[..., ::2] = x[..., ::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., ::2] * sin + x[..., 1::2] * cos
    return out
