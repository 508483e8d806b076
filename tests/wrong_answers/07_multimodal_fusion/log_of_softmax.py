"""Takes the logarithm of the softmax.

A stable softmax still rounds small probabilities to 0, and log 0 is minus infinity.
"""

import numpy as np

QUESTION = "info_nce"
REJECTED_BY = "test_small_temperatures_are_safe"


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1; zeros stay."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def softmax(logits: np.ndarray, axis: int) -> np.ndarray:
    """Shifted by the maximum, so nothing overflows."""
    odds = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return odds / odds.sum(axis=axis, keepdims=True)


def info_nce(a: np.ndarray, b: np.ndarray, temperature: float) -> tuple[float, np.ndarray]:
    if a.shape != b.shape or len(a) == 0 or not temperature > 0:
        raise ValueError("needs pairs of equal shape and a positive temperature")
    logits = unit(a) @ unit(b).T / temperature
    rows, columns = softmax(logits, 1), softmax(logits, 0)
    loss = -(np.log(rows) + np.log(columns)).trace() / (2 * len(a))
    return float(loss), (rows + columns - 2 * np.eye(len(a), dtype=logits.dtype)) / (2 * len(a))
