"""Normalisers by np.logaddexp.reduce, the diagonal taken off by index, and the loss as a NumPy scalar."""

import numpy as np

QUESTION = "info_nce"


def info_nce(a: np.ndarray, b: np.ndarray, temperature: float) -> tuple[float, np.ndarray]:
    if a.shape != b.shape or len(a) == 0 or not temperature > 0:
        raise ValueError("needs pairs of equal shape and a positive temperature")
    a, b = (x / np.maximum(np.sqrt(np.square(x).sum(1, keepdims=True)), np.finfo(x.dtype).tiny) for x in (a, b))
    logits = np.einsum("id,jd->ij", a, b) / temperature
    by_row, by_column = np.logaddexp.reduce(logits, axis=1), np.logaddexp.reduce(logits, axis=0)
    gradient = (np.exp(logits - by_row[:, None]) + np.exp(logits - by_column)) / 2
    gradient[np.diag_indices(len(a))] -= 1
    return np.mean((by_row + by_column) / 2 - np.diag(logits)), gradient / len(a)
