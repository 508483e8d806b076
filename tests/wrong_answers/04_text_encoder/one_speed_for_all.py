"""Turns all planes at the same speed, so far positions look like near ones."""

import numpy as np

QUESTION = "rotary"
REJECTED_BY = "test_turns_by_hand"


def rotary(x, positions, base=10_000.0):
    dim = x.shape[-1]
    if dim % 2:
        raise ValueError("dim must be even")
    speeds = np.ones(dim // 2)
    angles = np.asarray(positions)[..., None] * speeds
    cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
    out = np.empty_like(x)
    out[..., ::2] = x[..., ::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., ::2] * sin + x[..., 1::2] * cos
    return out
