"""Computes angles in the type of x: near position 100,000 float32 has two decimals left."""

import numpy as np

QUESTION = "rotary"
REJECTED_BY = "test_far_positions_in_float32"


def rotary(x, positions, base=10_000.0):
    dim = x.shape[-1]
    if dim % 2:
        raise ValueError("dim must be even")
    speeds = base ** (-np.arange(0, dim, 2) / dim)
    angles = np.asarray(positions)[..., None].astype(x.dtype) * speeds.astype(x.dtype)
    cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
    out = np.empty_like(x)
    out[..., ::2] = x[..., ::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., ::2] * sin + x[..., 1::2] * cos
    return out
