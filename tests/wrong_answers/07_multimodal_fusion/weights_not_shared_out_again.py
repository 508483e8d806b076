"""Zeroes the values of what is missing, but lets its keys take part in the softmax:

the weights of what is there add up to less than 1.
"""

import numpy as np

QUESTION = "fuse_modalities"
REJECTED_BY = "test_one_item_by_hand"


def softmax(scores: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Over the last axis; zeros where nothing is visible."""
    visible = np.broadcast_to(True if mask is None else mask, scores.shape)
    scores = np.where(visible, scores, -np.inf)
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=np.finfo(scores.dtype).min))
    total = odds.sum(axis=-1, keepdims=True)
    return np.divide(odds, total, out=np.zeros_like(odds), where=total > 0)


def fuse_modalities(query: np.ndarray, tokens: dict[str, np.ndarray], present: dict[str, np.ndarray]) -> np.ndarray:
    context = np.concatenate(list(tokens.values()), axis=1)
    mask = np.concatenate(
        [np.repeat(present[name][:, None], block.shape[1], axis=1) for name, block in tokens.items()], axis=1
    )
    empty = np.flatnonzero(~mask.any(axis=1)).tolist()
    if empty:
        raise ValueError(f"items {empty} have no modality present")
    context = np.where(mask[..., None], context, 0)
    weights = softmax(query @ np.swapaxes(context, 1, 2) / query.shape[-1] ** 0.5, None)
    return (weights * mask[:, None]) @ context
