"""A 2 × 2 matrix for each plane and position, applied by einsum."""

import numpy as np

QUESTION = "rotary"


def rotary(x, positions, base=10_000.0):
    dim = x.shape[-1]
    if dim % 2 == 1:
        raise ValueError(f"dim {dim} is odd")
    angles = np.asarray(positions, float)[..., None] / base ** (np.arange(dim // 2) / (dim / 2))
    turn = np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]])
    planes = x.reshape(*x.shape[:-1], dim // 2, 2)
    return np.einsum("ij...,...j->...i", turn, planes).reshape(x.shape).astype(x.dtype)
