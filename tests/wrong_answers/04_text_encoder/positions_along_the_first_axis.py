"""Lays the positions along the first axis of x, which are texts and not tokens once there is a batch."""

import numpy as np

QUESTION = "rotary"
REJECTED_BY = "test_axes_in_front"


def rotary(x, positions, base=10_000.0):
    dim = x.shape[-1]
    if dim % 2:
        raise ValueError("dim must be even")
    speeds = base ** (-np.arange(0, dim, 2) / dim)
    angles = np.asarray(positions, float).reshape(-1, *[1] * max(x.ndim - 1, 0)) * speeds
    cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
    out = np.empty_like(x)
    out[..., ::2] = x[..., ::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., ::2] * sin + x[..., 1::2] * cos
    return out
