"""Pairs number i with number i + dim / 2, as GPT-NeoX does, where the contract pairs neighbours. Checkpoints of
one cannot be read by the other.
"""

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
    left, right = x[..., : dim // 2], x[..., dim // 2 :]
    return np.concatenate([left * cos - right * sin, left * sin + right * cos], axis=-1)
