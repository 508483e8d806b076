"""One cross-entropy with its gradient, called for the logits and for their transpose, in double precision."""

import numpy as np

QUESTION = "info_nce"


def cross_entropy(logits: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean over the rows of -log softmax on the diagonal, and its gradient."""
    odds = np.exp(logits - logits.max(1)[:, None])
    log_total = np.log(odds.sum(1)) + logits.max(1)
    gradient = odds / odds.sum(1)[:, None] - np.identity(len(logits))
    return float(np.mean(log_total - np.diagonal(logits))), gradient / len(logits)


def info_nce(a: np.ndarray, b: np.ndarray, temperature: float) -> tuple[float, np.ndarray]:
    if a.shape != b.shape or len(a) == 0 or not temperature > 0:
        raise ValueError("needs pairs of equal shape and a positive temperature")
    u, v = ((x.T / np.where(x.any(axis=1), np.linalg.norm(x, axis=1), 1)).T for x in (a.astype(float), b.astype(float)))
    logits = u @ v.T / temperature
    (one, slope), (other, turned) = cross_entropy(logits), cross_entropy(logits.T)
    return (one + other) / 2, ((slope + turned.T) / 2).astype(a.dtype)
