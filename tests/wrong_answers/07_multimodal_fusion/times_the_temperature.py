"""Multiplies by the temperature. Low temperatures then soften the softmax in place of sharpening it."""

import numpy as np

QUESTION = "info_nce"
REJECTED_BY = "test_loss_of_two_pairs_by_hand"


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1; zeros stay."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def log_softmax(logits: np.ndarray, axis: int) -> np.ndarray:
    """In a stable form."""
    shifted = logits - logits.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def info_nce(a: np.ndarray, b: np.ndarray, temperature: float) -> tuple[float, np.ndarray]:
    if a.shape != b.shape or len(a) == 0 or not temperature > 0:
        raise ValueError("needs pairs of equal shape and a positive temperature")
    logits = unit(a) @ unit(b).T * temperature
    rows, columns = log_softmax(logits, 1), log_softmax(logits, 0)
    own = np.eye(len(a), dtype=logits.dtype)
    loss = -(rows + columns).trace() / (2 * len(a))
    return float(loss), (np.exp(rows) + np.exp(columns) - 2 * own) / (2 * len(a))
