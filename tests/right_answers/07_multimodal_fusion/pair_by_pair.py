"""Loops over the pairs with Python's own exp and log, and gives back a list of two."""

import math

import numpy as np

QUESTION = "info_nce"


def info_nce(a: np.ndarray, b: np.ndarray, temperature: float) -> tuple[float, np.ndarray]:
    if a.shape != b.shape or len(a) == 0 or not temperature > 0:
        raise ValueError("needs pairs of equal shape and a positive temperature")
    u, v = ([[x / (math.hypot(*row) or 1.0) for x in row] for row in side.tolist()] for side in (a, b))
    logits = [[sum(p * q for p, q in zip(x, y, strict=True)) / temperature for y in v] for x in u]
    n, loss, gradient = len(a), 0.0, np.zeros((len(a), len(a)), a.dtype)
    for i in range(n):
        for line, cells in ((logits[i], gradient[i]), ([row[i] for row in logits], gradient[:, i])):
            top = max(line)
            total = sum(math.exp(x - top) for x in line)
            loss += math.log(total) + top - line[i]
            for j, x in enumerate(line):
                cells[j] += (math.exp(x - top) / total - (i == j)) / (2 * n)
    return [loss / (2 * n), gradient]
