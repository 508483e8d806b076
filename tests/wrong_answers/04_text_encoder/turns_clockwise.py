"""Has the sign of the sine on the wrong side, so every point turns the other way."""

import numpy as np

QUESTION = "rotary"
REJECTED_BY = "test_turns_by_hand"


def rotary(x, positions, base=10_000.0):
    dim = x.shape[-1]
    if dim % 2:
        raise ValueError("dim must be even")
    speeds = base ** (-np.arange(0, dim, 2) / dim)
    angles = np.asarray(positions)[..., None] * speeds
    cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
    out = np.empty_like(x)
    out[..., ::2] = x[..., ::2] * cos + x[..., 1::2] * sin
    out[..., 1::2] = x[..., 1::2] * cos - x[..., ::2] * sin
    return out
