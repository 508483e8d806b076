"""Leaves the positive out of the denominator.

It is then no probability, and the loss can fall below 0 (some papers do this on purpose).
"""

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
    logits = unit(a) @ unit(b).T / temperature
    own = np.eye(len(a), dtype=bool)
    others = np.where(own, -np.inf, logits) if len(a) > 1 else logits
    rows = np.diag(logits) - np.logaddexp.reduce(others, axis=1)
    columns = np.diag(logits) - np.logaddexp.reduce(others, axis=0)
    found = np.exp(log_softmax(logits, 1)) + np.exp(log_softmax(logits, 0))
    return float(-(rows + columns).mean() / 2), (found - 2 * own.astype(logits.dtype)) / (2 * len(a))
